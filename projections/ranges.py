"""The ranges that one worker reads: how it takes, splits and releases them. Which ones it reads, the balancing says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import FeedRange, FeedRangeGoneError

from .lease_renewer import Holding
from .leases import Lease, LeaseLostError
from .range_consumer import Consumer, Ended, Shared
from .range_stats import RangeStats
from .retry import is_lasting, raise_if_lasting
from .tasks import called, cancelled

__all__ = ["Ranges"]

logger: Final = logger_of("eventckpt.projections")


class Ranges:
    """What one worker reads.

    Args:
        shared: what all its consumers share.
        stats: what it counts, by range.
        fail: ends the processor, with an error that lasts.
        ended: called with the lease of each range that it reads no more, as it wrote it last.
        look: asks for a look at the leases soon.
    """

    def __init__(
        self,
        shared: Shared,
        stats: dict[str, RangeStats],
        *,
        fail: Callable[[Exception], None],
        ended: Callable[[Lease], None],
        look: Callable[[], None],
    ) -> None:
        self.consumers: dict[FeedRange, Consumer] = {}
        """By range, those that read now."""
        self._shared = shared
        self._stats = stats
        self._fail = fail
        self._ended = ended
        self._look = look
        self._tasks: dict[FeedRange, asyncio.Task[None]] = {}
        self._leaving = False

    async def take(self, lease: Lease, leases: Sequence[Lease]) -> None:
        """Write our name into a lease that is nobody's, or ours by a write whose answer was lost, and begin to read
        its range."""
        if lease.range in self.consumers:
            return
        clock, me = self._shared.clock, self._shared.options.worker
        sent = clock.monotonic()
        try:
            taken = await self._shared.leases.replace(
                msgspec.structs.replace(lease, owner=me, wanted_by=None, timestamp=clock.timestamp())
            )
        except LeaseLostError:
            return  # another worker was faster
        token = lease.range.token
        if lease.owner is None:
            logger.info("The range %s is taken by %s; it was nobody's", token, me)
        elif lease.owner == me:
            logger.info("The range %s is taken by %s again", token, me)
        else:
            logger.info("The range %s is taken over by %s from %s, which did not renew it", token, me, lease.owner)
        holding = self._holding(taken, sent)
        if any(lease.range != other.range and lease.range.contains(other.range) for other in leases):
            await self._split(holding)  # somebody died between making the pieces and deleting the whole
        else:
            self._begin(holding)

    def leave(self) -> None:
        """Finish the batches that are being handled, release the leases, and take no more."""
        self._leaving = True
        for consumer in self.consumers.values():
            consumer.leave()

    async def until_left(self) -> None:
        """Wait until nothing is read any more, which `leave` leads to."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def end(self) -> None:
        """Stop what is being handled, and release the leases."""
        self._leaving = True
        await cancelled(*self._tasks.values())

    def _holding(self, lease: Lease, sent: float) -> Holding:
        shared = self._shared
        return Holding(
            lease,
            sent,
            leases=shared.leases,
            options=shared.options,
            clock=shared.clock,
            stats=self._stats.setdefault(lease.range.token, RangeStats()),
            troubles=shared.troubles,
        )

    def _begin(self, holding: Holding) -> None:
        if self._leaving:
            return
        consumer = Consumer(holding, self._shared, self._stats[holding.lease.range.token])
        self.consumers[consumer.range] = consumer
        self._tasks[consumer.range] = asyncio.ensure_future(self._consume(consumer))

    async def _consume(self, consumer: Consumer) -> None:
        """What nobody expected ends one reading of the range, not the worker: its lease is still ours, and the next
        look at the leases begins again."""
        token = consumer.range.token
        try:
            await called(self._read(consumer))
        except Exception as error:
            if is_lasting(error):
                self._fail(error)
            else:
                self._stats[token].restarts += 1
                logger.exception("The range %s is read no more until the next look at the leases", token)
        finally:
            self.consumers.pop(consumer.range, None)
            self._tasks.pop(consumer.range, None)
            self._ended(consumer.holding.lease)

    async def _read(self, consumer: Consumer) -> None:
        try:
            ended = await consumer.run()
        except FeedRangeGoneError as gone:
            await self._split(consumer.holding, gone.ranges)
            return
        if ended is Ended.LOST:
            self._look()
        if ended is Ended.STOPPED:
            self._stats[consumer.range.token].stopped += 1
        if ended is Ended.RELEASED:
            wanted_by = consumer.holding.lease.wanted_by
            to = f"for {wanted_by}" if wanted_by else "for anybody"
            logger.info("The range %s is released by %s, %s", consumer.range.token, self._shared.options.worker, to)

    async def _split(self, holding: Holding, ranges: Sequence[FeedRange] = ()) -> None:
        """Replace a lease that we hold by leases of its pieces. Doing this once more after a crash is harmless: pieces
        that exist are left as they are, and the whole goes last. Where it fails, the next look at the leases finds the
        whole, which is still ours, and comes here again."""
        whole, shared = holding.lease, self._shared
        try:
            others = [each.range for each in await shared.leases.all() if each.range != whole.range]
            existing = [each for each in others if whole.range.contains(each)]
            current = ranges or await shared.feed.ranges()
            pieces = [piece for gap in whole.range.without(existing) for piece in gap.cut(current)]
            if pieces == [whole.range]:
                logger.warning("The range %s is said to be split, but into no pieces", whole.range.token)
                return
            logger.info("The range %s was split", whole.range.token)
            for piece in pieces:
                await self._begin_piece(holding, piece)
            await holding.delete()
        except (CheckpointStoreError, LeaseLostError) as error:
            raise_if_lasting(error)
            self._stats[whole.range.token].restarts += 1
            logger.warning("The split of %s is left for another attempt: %s", whole.range.token, error)

    async def _begin_piece(self, holding: Holding, piece: FeedRange) -> None:
        holding.check()
        clock = self._shared.clock
        sent = clock.monotonic()
        made = await self._shared.leases.create(
            msgspec.structs.replace(
                holding.lease,
                range=piece,
                owner=None if self._leaving else self._shared.options.worker,
                continuation=holding.position,
                witness=holding.witness,
                wanted_by=None,
                timestamp=clock.timestamp(),
            )
        )
        if made is not None:
            self._begin(self._holding(made, sent))
