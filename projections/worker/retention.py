"""Retention beside a projection: of all workers that are given a policy one carries it out, every so often.

A lock beside the leases says whose turn it is, and when the last pass ended: so a restart begins none that is not due,
and a worker that died is followed. Whatever goes wrong is told and tried again after a pause, and never reaches what is
projected. Two passes at once, where a worker stood still for long and woke up, remove nothing wrongly, as each removal
is an append that conflicts; the lock saves the work.

When the next pass is due is counted by the monotonic clock. How long ago one ended that another process ran is told by
the wall clock alone, and is worth at most one interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import ClassVar, Final, NamedTuple

import msgspec

from eventckpt import settings
from eventckpt.audit import Retention, RetentionPlan, RetentionPolicy, RetentionReport
from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError, RetentionPolicyError
from eventckpt.log import logger_of
from eventckpt.moments import moment_of
from eventckpt.stores import AuditStore
from eventckpt.stores.documents import DocumentStore

from ..lock import Lock, LockLostError, LockState
from ..options import RELEASING, ProcessorOptions
from ..retry import Retry, named
from ..tasks import Loop, Troubles, cancelled, first, to_its_end

__all__ = ["RetentionPasses", "RetentionView"]

logger: Final = logger_of("eventckpt.projections")

_RETRY: Final = Retry(backoff=60.0, max_backoff=3600.0)
"""After what fails: it is an outage, or waits for a person."""
_MOST: Final = 10**6  # failures in a row that a document may say


class RetentionView(NamedTuple):
    """How retention stands, as far as this worker has seen."""

    is_working: bool
    """Whether this worker is at it now."""
    late: float | None
    """For how many seconds a pass is due that did not end well; 0: none is due; None: the store has not told yet."""
    succeeded_at: datetime | None
    """When a pass ended well, by any worker."""
    failing: str | None
    """What the last attempt of this worker failed with."""


class _State(LockState, frozen=True, kw_only=True):
    succeeded_at: str = ""
    """When the last pass ended that ended well, by the wall clock."""
    failed_at: str = ""
    """When the last one failed since; empty: none did."""
    failures: int = 0
    """How many failed in a row."""


class _Turn(Lock[_State]):
    """The right to carry out the policy."""

    KEPT: ClassVar[str] = "Retention"
    WHAT: ClassVar[str] = "Retention"

    def _lost(self) -> LockLostError:
        return LockLostError(
            "Retention stopped here: its lock could not be kept, and another worker may go on with it."
        )


class RetentionFailedError(CheckpointStoreError):
    """A pass did not go well, or nobody could see whether one is due. What was removed is recorded."""


class RetentionPasses:
    """The passes of a policy over a store, by one of all workers that have it.

    Args:
        store: the engine, of the runs; sessions are found beside.
        documents: where the leases are.
        policy: what goes.
        every: seconds from the end of one pass that went well to the next.
        options: of the worker: its name, after how long it counts as dead, and how often it looks whether a pass is
            due.
        clock: where the time comes from.
    """

    def __init__(
        self,
        store: AuditStore,
        documents: DocumentStore,
        policy: RetentionPolicy,
        *,
        every: float,
        options: ProcessorOptions,
        clock: Clock,
    ) -> None:
        settings.number("every", every)
        self.passes: int = 0
        """How many went well."""
        self.seconds: float = 0.0
        """How long the last one took that went well."""
        self._retention = Retention(store, policy, actor=options.worker, clock=clock)
        self._every = every
        self._look_interval = options.acquire_interval
        self._clock = clock
        self._turn = _Turn(
            documents,
            "eventckpt-retention.lock",
            options.worker,
            state=_State(),
            term=options.expiry,
            margin=options.fence_margin,
            clock=clock,
        )
        self._done = RetentionReport()
        self._under_way: RetentionReport | None = None
        self._is_working = False
        self._known: tuple[str, str, int] | None = None
        self._due_at = self._try_at = 0.0
        self._troubles = Troubles(clock)
        self._loop = Loop("retention", _RETRY, clock, troubles=self._troubles)
        self._failing: str | None = None

    @property
    def failures(self) -> int:
        """How often a pass did not go well, or a look whether one is due."""
        return self._loop.restarts

    @property
    def done(self) -> RetentionReport:
        """What the passes of this worker did so far, also those that were cut off, and the one under way."""
        whole = RetentionReport()
        for each in (self._done, self._under_way):
            if each is not None:
                whole.include(each)
        return whole

    @property
    def view(self) -> RetentionView:
        """How it stands at this moment."""
        late = None if self._known is None else max(0.0, self._clock.monotonic() - self._due_at)
        succeeded_at = moment_of(self._turn.state.succeeded_at)
        failing = self._failing or next((each.why for each in self._troubles.all()), None)
        return RetentionView(self._is_working, late, succeeded_at, failing)

    async def beside(self, working: Awaitable[None], stop: asyncio.Event) -> None:
        """Carry out the policy whenever it is due and this worker's turn, while something else works and until `stop`
        is set."""
        task = asyncio.ensure_future(first(stop.wait(), self._loop.run(self._step, every=self._look_interval)))
        try:
            await working
        finally:
            await cancelled(task)

    async def _step(self) -> None:
        """What would end a loop is no reason to end this one: the projection ends by itself where nothing helps."""
        try:
            await self._look()
        except (CheckpointStoreError, RetentionPolicyError) as error:
            raise RetentionFailedError(named(error)) from error

    async def _look(self) -> None:
        """See whether a pass is due that nobody is at, and carry it out."""
        await self._turn.look()
        self._reckon()
        if self._clock.monotonic() < self._try_at or not self._turn.is_free or not await self._turn.take():
            return
        self._is_working = True
        try:
            await self._carry_out()
        finally:
            self._is_working = False

    def _reckon(self) -> None:
        """When a pass is due, by the document, where that says something else than before."""
        state = self._turn.state
        told = (state.succeeded_at, state.failed_at, state.failures)
        if told == self._known:
            return
        now = self._clock.monotonic()
        if self._known is None or self._known[0] != state.succeeded_at:
            self._due_at = now + self._left(state.succeeded_at, self._every)
        self._try_at = self._due_at
        if state.failures > 0:
            pause = _RETRY.pause(min(state.failures, _MOST))
            self._try_at = max(self._due_at, now + self._left(state.failed_at, pause))
        else:
            self._failing = None
        self._known = told

    def _left(self, since: str, seconds: float) -> float:
        """What is left of so many seconds since somebody's word of a time, less than nothing where they are over; never
        more than all, also where that time is to come."""
        then, now = moment_of(since), moment_of(self._clock.timestamp())
        passed = seconds if then is None or now is None else (now - then).total_seconds()
        return min(seconds - passed, seconds)

    async def _carry_out(self) -> None:
        """One pass, as long as the lock is ours; what it came to is told as the lock is given back."""
        state = outcome = self._turn.state
        logger.info("Retention begins")
        try:
            await first(self._pass(), self._turn.renew())
        except LockLostError:
            raise
        except Exception as error:
            failures = min(max(state.failures, 0), _MOST) + 1
            outcome = msgspec.structs.replace(state, failed_at=self._clock.timestamp(), failures=failures)
            self._failing = named(error)
            raise
        else:
            outcome = msgspec.structs.replace(state, succeeded_at=self._clock.timestamp(), failed_at="", failures=0)
            self.passes, self._failing = self.passes + 1, None
        finally:
            if self._under_way is not None:
                self._done.include(self._under_way)
                self._under_way = None
            await to_its_end(first(self._turn.give_back(outcome), self._clock.sleep(RELEASING)))
            self._reckon()

    async def _pass(self) -> None:
        named_already = 0

        def so_far(report: RetentionReport) -> None:
            nonlocal named_already
            self._under_way = report
            for name in report.archive_names[named_already:]:
                logger.info("Retention: archive %s", name)
            named_already = len(report.archive_names)

        def told(_: RetentionPlan) -> None:
            self._turn.check()

        report = await self._retention.carry_out(told=told, so_far=so_far, still=self._turn.check)
        self.seconds = report.seconds
        tell = logger.warning if report.fell_short else logger.info
        tell("Retention: %s", _in_words(report))
        if report.total.refused.get("archive"):
            raise RetentionFailedError("not all that was to go could be archived, and what could not be stays")


def _in_words(report: RetentionReport) -> str:
    total = report.total
    left = "".join(f", {count} left alone ({reason})" for reason, count in sorted(total.refused.items()))
    return (
        f"{total.removed} runs removed, {total.pruned} shortened, {total.kept} kept{left}; {total.events} events and "
        f"{total.bytes} bytes went, {report.given_back} bytes were given back to the disk, in {report.seconds:.1f} s"
    )
