"""From one lease to its handler: pages in order, attempts, back-off, and what follows the last attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from eventckpt import CheckpointEvent
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import ChangeFeed, FeedPage, FeedRange, ForeignPositionError
from eventckpt.text import safe

from .batch import Batch, Handler, UpgradeNeededError
from .clock import Clock
from .lasting import raise_if_lasting
from .lease_renewer import Holding
from .leases import LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .page_reader import Pages
from .range_stats import RangeStats
from .tasks import cancelled, first

__all__ = ["Consumer", "Ended", "Parts"]

logger: Final = logger_of("eventckpt.projections")


class Parts(NamedTuple):
    """What all consumers of a processor share."""

    feed: ChangeFeed
    leases: LeaseStore
    handler: Handler
    options: ProcessorOptions
    clock: Clock
    beginning: Callable[[FeedRange], None]
    """Called before a range is read from somewhere else than where this worker was last."""


class Ended(Enum):
    """How the work on a range came to its end."""

    RELEASED = "released"
    STOPPED = "stopped"
    LOST = "lost"


class _StoppedByPolicy(Exception):  # noqa: N818 - not an error, the policy's own way out
    pass


class Consumer:
    """Reads and handles one range for as long as this worker holds its lease."""

    def __init__(self, holding: Holding, parts: Parts, stats: RangeStats) -> None:
        self.holding = holding
        self._parts = parts
        self._stats = stats
        self._leaving = asyncio.Event()
        self._pages = self._unread()

    @property
    def range(self) -> FeedRange:
        """What it reads."""
        return self.holding.lease.range

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
            await first(self._work(), self.holding.keep())
            await self._release()
        except LeaseLostError as lost:
            logger.warning("Stopped reading: %s", lost)
            return Ended.LOST
        except _StoppedByPolicy:
            await self._release(stopped=True)
            return Ended.STOPPED
        except asyncio.CancelledError:
            await self._release()
            raise
        return Ended.RELEASED

    async def _work(self) -> None:
        """Handle the range; where its position turns out to be none, from the beginning."""
        while not self._leaving.is_set():
            self._parts.beginning(self.range)
            holding = self.holding
            reading = asyncio.ensure_future(
                self._pages.fill(holding.position, holding.witness, holding.lease.start)
            )  # fmt: skip
            try:
                await self._consume()
            except ForeignPositionError as error:
                await self._begin_anew(error)
            else:
                return
            finally:
                await cancelled(reading)
                self._stats.waiting = 0

    async def _begin_anew(self, error: ForeignPositionError) -> None:
        """Read the range from its beginning. What was handled comes again, and what the position would have left out
        comes as well. The doubt is kept first: without it, nothing tells what was handled of a log that is gone."""
        logger.error(
            "The range %s begins anew: %s. Was the store restored, or was its lease changed?", self.range.token, error
        )
        self._stats.positions_refused += 1
        await self._parts.leases.doubt(f"reading began anew: {error}", self._parts.clock.timestamp())
        await self.holding.begin_anew()
        self._pages = self._unread()

    def _unread(self) -> Pages:
        parts = self._parts
        return Pages(parts.feed, self.range, options=parts.options, clock=parts.clock, stats=self._stats)

    async def _consume(self) -> None:
        save_after = 0.0
        while (page := await self._pages.next()) is not None:
            if page.events and not await self._handled(page):
                return
            self.holding.position, self.holding.witness = page.continuation, page.witness
            self.holding.attempts, self.holding.error = 0, None
            self._stats.handled(len(page.events), page.continuation)
            self._pages.done()
            # The first answer is saved at once, whatever it holds: a crash must not lose the place to begin from.
            # Afterwards under load from time to time; at the end of the range at once, if events were handled.
            if page.events or not save_after:
                await self.holding.save(if_older_than=save_after if page.behind else 0.0)
                save_after = self._parts.options.checkpoint_interval

    async def _handled(self, page: FeedPage) -> bool:
        """Whether the page is done with; False: this worker leaves first."""
        options, holding = self._parts.options, self.holding
        while not self._leaving.is_set():
            if holding.attempts < options.max_attempts:
                error = await self._attempt(page.events)
                if error is None:
                    return True
                if isinstance(error, UpgradeNeededError):
                    await holding.note_refusal(_described(error))
                    await first(self._parts.clock.sleep(options.max_backoff), self._leaving.wait())
                    continue
                await holding.note_failure(_described(error))
                if holding.attempts < options.max_attempts:
                    pause = min(options.max_backoff, options.backoff * 2 ** (holding.attempts - 1))
                    await first(self._parts.clock.sleep(pause), self._leaving.wait())
            elif options.on_error == "stop":
                logger.error(
                    "The range %s stops after %d attempts: %s", self.range.token, holding.attempts, holding.error
                )
                raise _StoppedByPolicy
            else:
                await self._one_by_one(page)
                return True
        return False

    async def _one_by_one(self, page: FeedPage) -> None:
        """Handle what can be handled of a batch that failed too often, and park the rest."""
        for event in page.events:
            error = await self._attempt([event])
            if error is not None:
                await self._park(event, error)

    async def _attempt(self, events: Sequence[CheckpointEvent]) -> Exception | None:
        """What the handler raised; None: it handled all of `events`."""
        self.holding.check()
        began = self._parts.clock.monotonic()
        try:
            await self._parts.handler(Batch(self.range, events, lambda: self.holding.fenced))
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is counted, and told
            raise_if_lasting(error)
            self._stats.handler_failures += 1
            logger.warning("The handler failed on the range %s: %s", self.range.token, _described(error))
            return error
        finally:
            self._stats.handler_seconds += self._parts.clock.monotonic() - began
            self._stats.batches += 1
        return None

    async def _park(self, event: CheckpointEvent, error: Exception) -> None:
        parked = Parked(
            range=self.range.token,
            continuation=self.holding.position,
            event=event,
            error=_described(error),
            attempts=self.holding.attempts + 1,
            parked_at=self._parts.clock.timestamp(),
        )
        logger.error(
            "Parked seq %d of run %r of workflow %r: %s", event.seq, event.run_id, event.workflow_name, parked.error
        )
        await self._parts.leases.park(parked)
        self._stats.parked += 1

    async def _release(self, *, stopped: bool = False) -> None:
        try:
            await self.holding.release(stopped=stopped)
        except (LeaseLostError, CheckpointStoreError) as error:
            logger.warning("The lease %s was not released, it will expire: %s", self.range.token, error)


def _described(error: Exception) -> str:
    return f"{safe(type(error).__name__)}: {safe(error)}"[:1000]
