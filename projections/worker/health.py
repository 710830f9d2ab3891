"""Whether a worker lives, and whether it is ready: two questions with two answers.

A worker whose store is down is not ready, and lives: it goes on by itself when the store is back, and to start it anew
would only lose time. One whose loops hang goes on by itself never, and has to be started anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eventckpt.clock import Clock

from ..options import ProcessorOptions
from ..processor import ChangeFeedProcessor
from ..projector import Projector
from ..range_watch import RangeView
from .retention import RetentionPasses, RetentionView

__all__ = ["Health", "Terms", "check_terms"]


class Terms(NamedTuple):
    """How long what may happen. In seconds."""

    poll_age: float = 60.0
    """For how long a range may go unread, or the store not serve, before the worker is not ready."""
    stall: float = 300.0
    """For how long a loop may do nothing, not even fail, before it counts as hanging. The longest batch takes less."""


def check_terms(max_poll_age: float, options: ProcessorOptions) -> None:
    """Whether a worker that does all that it should is ready.

    Args:
        max_poll_age: in seconds, as given.
        options: of the worker.

    Raises:
        ValueError: it would not be, as soon as nothing is to be done.
    """
    if max_poll_age <= options.longest_unread:
        raise ValueError(
            f"max_poll_age is {max_poll_age:g} s, and with nothing to do a range goes unread for up to "
            f"{options.longest_unread:g} s, twice poll_interval, or renew_interval and acquire_interval: make "
            "--max-poll-age longer, or those shorter."
        )


class Health:
    """What `/livez` and `/healthz` say of a worker.

    Args:
        projector: what the worker runs.
        terms: how long what may happen.
        clock: where the time comes from.
        retention: what it does beside; it is told of, and is no reason for a worker not to be ready.
    """

    def __init__(
        self, projector: Projector, terms: Terms, clock: Clock, retention: RetentionPasses | None = None
    ) -> None:
        self.terms = terms
        self._projector = projector
        self._clock = clock
        self._retention = retention
        self._began = False
        self._idle_since: float | None = None
        self._seen: dict[str, tuple[tuple[int, ...], float]] = {}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it does its work, and why not."""
        ready, said = self._ready()
        return ready, said if self._retention is None else {**said, "retention": _told(self._retention.view)}

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        processor = self._projector.processor
        if processor is None:
            return self._between()
        self._began, self._idle_since = True, None
        me = processor.options.worker
        # Also a range that it had to let go of at its fence, and of which nothing is known since.
        ours = [each for each in processor.ranges if each.is_ours or each.owner == me]
        late = [each for each in ours if each.poll_age > self.terms.poll_age]
        troubles = [each for each in self._projector.troubles if late or each.seconds > self.terms.poll_age]
        reasons = [f"{each.what}: {each.why}" for each in troubles]
        status = "unavailable" if reasons else "stuck" if late else "ok"
        reasons += [self._why_late(processor, each) for each in late]
        if processor.failure is not None:
            status, reasons = "failed", [str(processor.failure)]
        ranges = [{"range": each.range.token, "poll_age": round(each.poll_age, 3), "lag": each.lag} for each in ours]
        return status == "ok", {"status": status, "worker": me, "reasons": reasons, "ranges": ranges}

    @staticmethod
    def _why_late(processor: ChangeFeedProcessor, view: RangeView) -> str:
        token, seconds = view.range.token, f"{view.poll_age:.0f} s"
        if not view.is_ours:
            return f"the range {token} was lost, as its lease could not be renewed, and not read for {seconds}"
        if processor.stats[token].waiting:  # the feed may answer: nobody asks it
            return f"the range {token} was not read for {seconds}, as its handler is not done with what was read"
        return f"the range {token} was not read for {seconds}"

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether its loops run, and which do not. What they try may fail: that is no matter of life."""
        processor, reasons = self._projector.processor, list[str]()
        if processor is not None:
            hanging = self._hanging(processor)
            reasons += [f"the range {token}: nothing was tried for {seconds:.0f} s" for token, seconds in hanging]
            if not processor.is_running:
                reasons.append("the looks at the leases have ended")
        return not reasons, {"status": "hanging" if reasons else "ok", "reasons": reasons}

    def _between(self) -> tuple[bool, dict[str, Any]]:
        """Without a processor: before the first one, or while it moves over to another projection."""
        now = self._clock.monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        well = self._began and now - self._idle_since <= self.terms.poll_age
        reasons = [f"{each.what}: {each.why}" for each in self._projector.troubles]
        if not well and not reasons:
            reasons = ["the store has not answered yet"]
        return well, {"status": "starting", "reasons": reasons, "ranges": []}

    def _hanging(self, processor: ChangeFeedProcessor) -> list[tuple[str, float]]:
        """The ranges of this worker of which no read and no batch has come to an end for too long."""
        now, seen = self._clock.monotonic(), dict[str, tuple[tuple[int, ...], float]]()
        for each in processor.owned:
            stats = processor.stats[each.token]
            done = (stats.polls, stats.read_failures, stats.batches)
            known = self._seen.get(each.token)
            seen[each.token] = known if known is not None and known[0] == done else (done, now)
        self._seen = seen
        silent = ((token, now - since) for token, (_, since) in seen.items())
        return [(token, seconds) for token, seconds in silent if seconds > self.terms.stall]


def _told(view: RetentionView) -> dict[str, Any]:
    return {
        "working": view.is_working,
        "late": None if view.late is None else round(view.late, 3),
        "succeeded_at": view.succeeded_at.isoformat() if view.succeeded_at else None,
        "failing": view.failing,
    }
