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

from typing import Final

from opentelemetry import metrics

__all__ = ["loads", "save_duration", "saves", "schema_drift", "stored"]

_meter = metrics.get_meter("eventckpt")

saves: Final = _meter.create_counter("eventckpt.saves", unit="{save}", description="Saves by outcome")
save_duration: Final = _meter.create_histogram("eventckpt.save.duration", unit="s", description="Time of one save")
stored: Final = _meter.create_counter("eventckpt.stored", unit="By", description="Payload bytes appended")
loads: Final = _meter.create_counter("eventckpt.loads", unit="{load}", description="Checkpoints read back by outcome")
schema_drift: Final = _meter.create_counter(
    "eventckpt.schema_drift", unit="{drift}", description="Drift gone on with, by type and kind"
)
