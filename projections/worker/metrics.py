"""What a worker shows of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..processor import ChangeFeedProcessor
from ..projector import Projector
from ..range_watch import RangeView
from .health import Health
from .retention import RetentionPasses

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
    "outages": "Of them, those in which the store did not serve",
    "parked": "Events put aside",
    "stopped": "Times that the policy stopped the range",
    "positions_refused": "Times that the range began anew, because its position was none of the feed's",
    "lease_writes": "Writes of the lease: renewals, checkpoints, failures",
}


class _Worker(Collector):
    def __init__(self, projector: Projector, health: Health, retention: RetentionPasses | None) -> None:
        self._projector = projector
        self._health = health
        self._retention = retention

    def collect(self) -> Iterable[Metric]:
        yield from self._state()
        if self._retention is not None:
            yield from _retained(self._retention)
        processor, projection = self._projector.processor, self._projector.projection
        if processor is None or projection is None:
            return
        yield from self._counters(processor)
        yield from self._ranges(processor)
        yield CounterMetricFamily(f"{_PREFIX}_documents", "Documents written", value=projection.applied)
        yield CounterMetricFamily(f"{_PREFIX}_gaps", "Gaps that were found and repaired", value=projection.gaps)

    def _state(self) -> Iterable[Metric]:
        """What is known also while nothing is projected."""
        projector = self._projector
        ready = float(self._health.ready()[0])
        yield GaugeMetricFamily(f"{_PREFIX}_ready", "Whether /healthz says so: 1 or 0", value=ready)
        yield GaugeMetricFamily(
            f"{_PREFIX}_trouble_seconds",
            "For how long the oldest thing has not worked that does not work",
            value=max((each.seconds for each in projector.troubles), default=0.0),
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_restarts", "Times that a loop went on after an error", value=projector.restarts
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_doubts", "Times that the projection in use was not believed", value=projector.doubts
        )

    @staticmethod
    def _counters(processor: ChangeFeedProcessor) -> Iterable[Metric]:
        """What this worker counted of each range that it ever held."""
        for name, what in _COUNTERS.items():
            family = CounterMetricFamily(f"{_PREFIX}_{name}", what, labels=["range"])
            for token, stats in processor.stats.items():
                family.add_metric([token], float(getattr(stats, name)))
            yield family

    def _ranges(self, processor: ChangeFeedProcessor) -> Iterable[Metric]:
        """Every range of the processor, whoever reads it."""
        views = processor.ranges
        yield _gauge("lag", "Commits not handled yet", {each: each.lag for each in views})
        yield _gauge("poll_age_seconds", "Time since anybody read it", {each: each.poll_age for each in views})
        late = {each: each.poll_age > self._health.terms.poll_age for each in views}
        yield _gauge("late", "Whether that is more than --max-poll-age: 1 or 0", late)
        stopped = {each: each.state == "stopped" for each in views}
        yield _gauge("range_stopped", "Whether the policy stopped it: 1 or 0", stopped)
        owned = sum(each.is_ours for each in views)
        yield GaugeMetricFamily(f"{_PREFIX}_owned_ranges", "Ranges that this worker reads", value=owned)


def _gauge(name: str, what: str, values: Mapping[RangeView, float | None]) -> Metric:
    """By range; None is not shown, as nobody knows it yet."""
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", what, labels=["range"])
    for each, value in values.items():
        if value is not None:
            family.add_metric([each.range.token], float(value))
    return family


def _retained(retention: RetentionPasses) -> Iterable[Metric]:
    """How retention stands, and what this worker did of it; by the rules of the policy."""
    prefix, view, done = f"{_PREFIX}_retention", retention.view, retention.done
    yield CounterMetricFamily(f"{prefix}_passes", "Passes that went well", value=retention.passes)
    yield CounterMetricFamily(f"{prefix}_failures", "Passes, and looks for one, that did not", value=retention.failures)
    yield GaugeMetricFamily(f"{prefix}_working", "Whether this worker is at it: 1 or 0", value=float(view.is_working))
    yield GaugeMetricFamily(f"{prefix}_seconds", "How long its last pass took that went well", value=retention.seconds)
    if view.late is not None:
        yield GaugeMetricFamily(f"{prefix}_late_seconds", "For how long a pass is due, by anybody", value=view.late)
    if view.succeeded_at is not None:
        at = view.succeeded_at.timestamp()
        yield GaugeMetricFamily(f"{prefix}_success_timestamp_seconds", "When one went well, by anybody", value=at)
    runs = CounterMetricFamily(f"{prefix}_runs", "Runs and sessions that it changed", labels=["rule", "did"])
    refused = CounterMetricFamily(f"{prefix}_refused", "Those that it left alone", labels=["rule", "reason"])
    for name, rule in done.rules.items():
        runs.add_metric([name, "pruned"], rule.pruned)
        runs.add_metric([name, "removed"], rule.removed)
        for reason, count in rule.refused.items():
            refused.add_metric([name, reason], count)
    yield from (runs, refused)
    yield CounterMetricFamily(f"{prefix}_events", "Events that went", value=done.total.events)
    yield CounterMetricFamily(f"{prefix}_bytes", "Bytes of their payloads", value=done.total.bytes)
    yield CounterMetricFamily(f"{prefix}_given_back_bytes", "Bytes that the disk has again", value=done.given_back)
    yield CounterMetricFamily(f"{prefix}_archives", "Archives that were written", value=done.archives)


def registry(projector: Projector, health: Health, retention: RetentionPasses | None = None) -> CollectorRegistry:
    """The metrics of a worker, read from its counters whenever they are asked for."""
    made = CollectorRegistry()
    made.register(_Worker(projector, health, retention))
    return made
