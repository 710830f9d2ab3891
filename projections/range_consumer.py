"""From one lease to its handler: pages in order, attempts, back-off, and what follows the last attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from eventckpt import CheckpointEvent
from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import ChangeFeed, FeedPage, FeedRange, FeedRangeGoneError, ForeignPositionError

from .batch import Batch, Handler
from .lease_renewer import Holding
from .leases import LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .page_reader import Pages
from .range_stats import RangeStats
from .retry import Retry, Verdict, named, raise_if_lasting, verdict_on
from .tasks import Loop, Troubles, called, cancelled, first

__all__ = ["Consumer", "Ended", "Shared"]

logger: Final = logger_of("eventckpt.projections")


class Shared(NamedTuple):
    """What all consumers of a processor share."""

    feed: ChangeFeed
    leases: LeaseStore
    handler: Handler
    options: ProcessorOptions
    clock: Clock
    beginning: Callable[[FeedRange], None]
    """Called before a range is read from somewhere else than where this worker was last."""
    retry: Retry
    """What follows a failure."""
    troubles: Troubles
    """What does not work at the moment."""


class Ended(Enum):
    """How the work on a range came to its end."""

    RELEASED = "released"
    STOPPED = "stopped"
    LOST = "lost"


class _StoppedByPolicy(Exception):  # noqa: N818 - not an error, the policy's own way out
    pass


class Consumer:
    """Reads and handles one range for as long as this worker holds its lease."""

    def __init__(self, holding: Holding, shared: Shared, stats: RangeStats) -> None:
        self.holding: Holding = holding
        self.began: float = shared.clock.monotonic()
        """When this worker took the range, by the local clock."""
        self._shared = shared
        self._stats = stats
        self._leaving = asyncio.Event()
        self._pages = self._unread()
        self._tried_at = self.began
        """When the handler was given its last batch."""
        self._outages = 0
        """Since the handler was last done with something."""
        self._handling = f"the handler of the range {self.range.token}"
        self._loop = Loop(
            f"the work on the range {self.range.token}",
            shared.retry,
            shared.clock,
            troubles=shared.troubles,
            failed=self._restarted,
            ends=lambda error: isinstance(error, (LeaseLostError, FeedRangeGoneError, _StoppedByPolicy)),
        )

    @property
    def range(self) -> FeedRange:
        """What it reads."""
        return self.holding.lease.range

    @property
    def read_at(self) -> float:
        """When the feed last answered for the range; when this worker took it, before the first answer."""
        return max(self._stats.polled_at or self.began, self.began)

    def leave(self) -> None:
        """Finish the batch that is being handled, release the lease, and end."""
        self._leaving.set()
        self._pages.end()

    async def run(self) -> Ended:
        """Work until `leave`, or until the lease is lost. The handler has stopped when this ends, however it ends.

        Raises:
            FeedRangeGoneError: the range was split; the lease is still held, its position is that of the last batch.
            StoreReplacedError: the store is another one by now.
        """
        try:
            await first(self._loop.run(self._work, sleep=self._pause), self.holding.renew())
            await self._release()
        except LeaseLostError as lost:
            logger.info("The range %s is lost by %s: %s", self.range.token, self._shared.options.worker, lost)
            return Ended.LOST
        except _StoppedByPolicy:
            await self._release(stopped=True)
            return Ended.STOPPED
        except asyncio.CancelledError:
            await self._release()
            raise
        finally:
            self._loop.well()
            self._shared.troubles.over(self._handling)
        return Ended.RELEASED

    def _restarted(self, _: BaseException) -> None:
        self._stats.restarts += 1

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for who leaves."""
        await first(self._shared.clock.sleep(seconds), self._leaving.wait())

    async def _work(self) -> bool:
        """Handle the range until this worker leaves; where its position turns out to be none, from the beginning."""
        while not self._leaving.is_set():
            self._pages = self._unread()
            self._shared.beginning(self.range)
            holding = self.holding
            reading = asyncio.ensure_future(
                self._pages.fill(holding.position, holding.witness, holding.lease.start)
            )  # fmt: skip
            try:
                await self._consume()
            except ForeignPositionError as error:
                await self._begin_anew(error)
            finally:
                await cancelled(reading)
                self._stats.waiting = 0
        return True

    async def _begin_anew(self, error: ForeignPositionError) -> None:
        """Read the range from its beginning. What was handled comes again, and what the position would have left out
        comes as well. The doubt is kept first: without it, nothing tells what was handled of a log that is gone."""
        logger.error(
            "The range %s begins anew: %s. Was the store restored, or was its lease changed?", self.range.token, error
        )
        self._stats.positions_refused += 1
        await self._shared.leases.doubt(f"reading began anew: {error}", self._shared.clock.timestamp())
        await self.holding.begin_anew()

    def _unread(self) -> Pages:
        shared = self._shared
        return Pages(
            shared.feed,
            self.range,
            options=shared.options,
            clock=shared.clock,
            stats=self._stats,
            troubles=shared.troubles,
        )

    async def _consume(self) -> None:
        save_after = 0.0
        while (page := await self._pages.next()) is not None:
            if page.events and not await self._handled(page):
                return
            self.holding.position, self.holding.witness = page.continuation, page.witness
            self.holding.attempts, self.holding.error = 0, None
            self._stats.handled(len(page.events), page.continuation)
            self._pages.done()
            self._loop.well()
            # The first answer is saved at once, whatever it holds: a crash must not lose the place to begin from.
            # Afterwards under load from time to time; at the end of the range at once, if events were handled.
            if page.events or not save_after:
                await self.holding.save(if_older_than=save_after if page.behind else 0.0)
                save_after = self._shared.options.checkpoint_interval

    async def _handled(self, page: FeedPage) -> bool:
        """Whether the page is done with; False: this worker leaves first."""
        retry, holding = self._shared.retry, self.holding
        while not self._leaving.is_set():
            if not retry.gives_up(holding.attempts):
                error = await self._attempt(page.events)
                if error is None:
                    return True
                if _is_waited_out(error):
                    await self._wait(error)
                    continue
                await holding.note_failure(named(error))
                if not retry.gives_up(holding.attempts):
                    await self._pause(retry.pause(holding.attempts))
            elif retry.stops:
                logger.error(
                    "The range %s stops after %d attempts: %s", self.range.token, holding.attempts, holding.error
                )
                raise _StoppedByPolicy
            else:
                return await self._one_by_one(page)
        return False

    async def _one_by_one(self, page: FeedPage) -> bool:
        """Handle what can be handled of a batch that failed too often, and park the rest; False: this worker leaves
        while it waits."""
        for event in page.events:
            while (error := await self._attempt([event])) is not None:
                if not _is_waited_out(error):
                    await self._park(event, error)
                    break
                await self._wait(error)
                if self._leaving.is_set():
                    return False
        return True

    async def _wait(self, error: Exception) -> None:
        """Wait out what says nothing about the events: it counts against nobody, and shows in the lease."""
        retry = self._shared.retry
        await self.holding.note_refusal(named(error))
        if verdict_on(error) is Verdict.OUTAGE:
            self._outages += 1
            self._stats.outages += 1
            self._shared.troubles.note(self._handling, error, since=self._tried_at)
            await self._pause(retry.pause(self._outages))
        else:
            await self._pause(retry.max_backoff)

    async def _attempt(self, events: Sequence[CheckpointEvent]) -> Exception | None:
        """What the handler raised; None: it handled all of `events`."""
        self.holding.check()
        began = self._tried_at = self._shared.clock.monotonic()
        try:
            await called(self._shared.handler(Batch(self.range, events, lambda: self.holding.fenced)))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is counted, and told
            raise_if_lasting(error)
            self.holding.check()  # it may have stopped for that
            self._stats.handler_failures += 1
            logger.warning("The handler failed on the range %s: %s", self.range.token, named(error))
            return error
        finally:
            self._stats.handler_seconds += self._shared.clock.monotonic() - began
            self._stats.batches += 1
        self._outages = 0
        self._shared.troubles.over(self._handling)
        return None

    async def _park(self, event: CheckpointEvent, error: Exception) -> None:
        parked = Parked(
            range=self.range.token,
            continuation=self.holding.position,
            event=event,
            error=named(error),
            attempts=self.holding.attempts + 1,
            parked_at=self._shared.clock.timestamp(),
        )
        logger.error(
            "Parked seq %d of run %r of workflow %r: %s", event.seq, event.run_id, event.workflow_name, parked.error
        )
        await self._shared.leases.park(parked)
        self._stats.parked += 1

    async def _release(self, *, stopped: bool = False) -> None:
        try:
            await self.holding.release(stopped=stopped)
        except (LeaseLostError, CheckpointStoreError) as error:
            logger.warning("The lease %s was not released, it will expire: %s", self.range.token, error)


def _is_waited_out(error: Exception) -> bool:
    """Whether it says nothing about the events. That a lease is lost a handler does not know better than its holder."""
    return verdict_on(error) in (Verdict.OUTAGE, Verdict.UPGRADE)
