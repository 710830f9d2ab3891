"""The storage's metrics, by the OpenTelemetry API: they cost nothing until the application installs an SDK.

| name | kind | unit | what |
|---|---|---|---|
| `eventckpt.saves` | counter | {save} | saves, by `outcome`: saved, repeated, forked, failed |
| `eventckpt.save.duration` | histogram | s | time of one save, encoding included, by `outcome` |
| `eventckpt.stored` | counter | By | payload bytes appended |
| `eventckpt.loads` | counter | {load} | checkpoints read back, by `outcome`: loaded, failed |
| `eventckpt.schema_drift` | counter | {drift} | drift that a load went on with, by `type`, the class, and `kind` |

A kind of drift is `added`, `removed`, `class` or `member` (`eventckpt.codec.drift.Drift`); a load counts each once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter

    saves: Counter
    save_duration: Histogram
    stored: Counter
    loads: Counter
    schema_drift: Counter

__all__ = ["loads", "save_duration", "saves", "schema_drift", "stored"]

_MADE_BY: Final[dict[str, Callable[[Meter], Any]]] = {
    "saves": lambda meter: meter.create_counter("eventckpt.saves", unit="{save}", description="Saves by outcome"),
    "save_duration": lambda meter: meter.create_histogram(
        "eventckpt.save.duration", unit="s", description="Time of one save"
    ),
    "stored": lambda meter: meter.create_counter("eventckpt.stored", unit="By", description="Payload bytes appended"),
    "loads": lambda meter: meter.create_counter(
        "eventckpt.loads", unit="{load}", description="Checkpoints read back by outcome"
    ),
    "schema_drift": lambda meter: meter.create_counter(
        "eventckpt.schema_drift", unit="{drift}", description="Drift gone on with, by type and kind"
    ),
}


def __getattr__(name: str) -> Any:
    """An instrument, made when it is first used: to import the API takes a good part of what this package takes."""
    if name not in _MADE_BY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opentelemetry import metrics

    instrument = globals()[name] = _MADE_BY[name](metrics.get_meter("eventckpt"))
    return instrument
