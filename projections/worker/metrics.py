"""What a worker shows of itself: Prometheus metrics, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..projector import Projector

__all__ = ["health", "registry"]

_PREFIX: Final = "eventckpt_projector"
_COUNTERS: Final = {
    "events": "Events handled or parked",
    "batches": "Calls of the handler",
    "polls": "Reads that the feed answered",
    "read_failures": "Reads that failed",
    "read_seconds": "Time spent reading",
    "charge": "Request units of the reads",
    "handler_seconds": "Time spent in the handler",
    "handler_failures": "Batches that failed",
    "parked": "Events put aside",
    "stopped": "Times that the policy stopped the range",
    "positions_refused": "Times that the range began anew, because its position was none of the feed's",
    "lease_writes": "Writes of the lease: renewals, checkpoints, failures",
}


class _Worker(Collector):
    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    def collect(self) -> Iterable[Metric]:
        processor, projection = self._projector.processor, self._projector.projection
        if processor is None or projection is None:
            return
        for name, what in _COUNTERS.items():
            family = CounterMetricFamily(f"{_PREFIX}_{name}", what, labels=["range"])
            for token, stats in processor.stats.items():
                family.add_metric([token], float(getattr(stats, name)))
            yield family
        held = {each: processor.stats[each.token] for each in processor.owned}
        lag = GaugeMetricFamily(f"{_PREFIX}_lag", "Commits not handled yet, at the last read", labels=["range"])
        age = GaugeMetricFamily(f"{_PREFIX}_poll_age_seconds", "Time since the feed last answered", labels=["range"])
        for each, stats in held.items():
            lag.add_metric([each.token], stats.lag)
            age.add_metric([each.token], processor.poll_age(each) or 0.0)
        yield from (lag, age)
        yield GaugeMetricFamily(f"{_PREFIX}_owned_ranges", "Ranges that this worker reads", value=len(held))
        yield CounterMetricFamily(f"{_PREFIX}_documents", "Documents written", value=projection.applied)
        yield CounterMetricFamily(f"{_PREFIX}_gaps", "Gaps that were found and repaired", value=projection.gaps)
        yield CounterMetricFamily(
            f"{_PREFIX}_doubts", "Times that the projection in use was not believed", value=self._projector.doubts
        )


def registry(projector: Projector) -> CollectorRegistry:
    """The metrics of a worker, read from its counters whenever they are asked for."""
    made = CollectorRegistry()
    made.register(_Worker(projector))
    return made


def health(projector: Projector, max_poll_age: float) -> tuple[bool, dict[str, Any]]:
    """Whether every range that this worker holds was read lately, and what `/healthz` says of it."""
    processor = projector.processor
    if processor is None:
        return False, {"status": "starting", "ranges": []}
    if processor.failure is not None:
        return False, {"status": "failed", "worker": processor.options.worker, "ranges": []}
    ages = {each.token: processor.poll_age(each) or 0.0 for each in processor.owned}
    well = all(age <= max_poll_age for age in ages.values())
    ranges = [
        {"range": token, "poll_age": round(age, 3), "lag": processor.stats[token].lag} for token, age in ages.items()
    ]
    return well, {"status": "ok" if well else "stuck", "worker": processor.options.worker, "ranges": ranges}
