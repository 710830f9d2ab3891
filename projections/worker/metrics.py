"""What a worker shows of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..latest import LatestProjection
from ..processor import ChangeFeedProcessor
from ..projector import Projector
from .health import Health

__all__ = ["registry"]

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
    def __init__(self, projector: Projector, health: Health) -> None:
        self._projector = projector
        self._health = health

    def collect(self) -> Iterable[Metric]:
        yield from self._store()
        processor, projection = self._projector.processor, self._projector.projection
        if processor is None or projection is None:
            return
        yield from self._ranges(processor)
        yield from self._held(processor)
        yield from self._documents(projection)

    def _store(self) -> Iterable[Metric]:
        """What is known also while nothing is projected."""
        ready = float(self._health.ready()[0])
        yield GaugeMetricFamily(f"{_PREFIX}_ready", "Whether /healthz says so: 1 or 0", value=ready)
        outages = CounterMetricFamily(f"{_PREFIX}_outages", "Times that the store stopped answering", labels=["part"])
        silent = GaugeMetricFamily(f"{_PREFIX}_unanswered_seconds", "Time since it stopped answering", labels=["part"])
        for watch in self._health.watches:
            outages.add_metric([watch.part], float(watch.outages))
            silent.add_metric([watch.part], watch.unanswered_for)
        yield from (outages, silent)
        yield CounterMetricFamily(
            f"{_PREFIX}_doubts", "Times that the projection in use was not believed", value=self._projector.doubts
        )

    @staticmethod
    def _ranges(processor: ChangeFeedProcessor) -> Iterable[Metric]:
        """What this worker counted of each range that it ever held."""
        for name, what in _COUNTERS.items():
            family = CounterMetricFamily(f"{_PREFIX}_{name}", what, labels=["range"])
            for token, stats in processor.stats.items():
                family.add_metric([token], float(getattr(stats, name)))
            yield family

    @staticmethod
    def _held(processor: ChangeFeedProcessor) -> Iterable[Metric]:
        held = {each: processor.stats[each.token] for each in processor.owned}
        lag = GaugeMetricFamily(f"{_PREFIX}_lag", "Commits not handled yet, at the last read", labels=["range"])
        age = GaugeMetricFamily(f"{_PREFIX}_poll_age_seconds", "Time since the feed last answered", labels=["range"])
        for each, stats in held.items():
            lag.add_metric([each.token], stats.lag)
            age.add_metric([each.token], processor.poll_age(each) or 0.0)
        yield from (lag, age)
        yield GaugeMetricFamily(f"{_PREFIX}_owned_ranges", "Ranges that this worker reads", value=len(held))

    @staticmethod
    def _documents(projection: LatestProjection) -> Iterable[Metric]:
        yield CounterMetricFamily(f"{_PREFIX}_documents", "Documents written", value=projection.applied)
        yield CounterMetricFamily(f"{_PREFIX}_gaps", "Gaps that were found and repaired", value=projection.gaps)


def registry(projector: Projector, health: Health) -> CollectorRegistry:
    """The metrics of a worker, read from its counters whenever they are asked for."""
    made = CollectorRegistry()
    made.register(_Worker(projector, health))
    return made
