"""The change-feed processor: every range of a feed is read by exactly one of any number of workers.

The leases are all that the workers share. Each of them looks at all leases from time to time, takes what is nobody's,
asks for what it has too little of, and gives away what others asked for. What a worker does with the ranges it holds is
in `consumer`, how it keeps them in `holding`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Self

import msgspec

from eventckpt import settings
from eventckpt.closing import close_after
from eventckpt.errors import CheckpointStoreError, StoreReplacedError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import (
    EVERYTHING,
    ChangeFeed,
    FeedRange,
    FeedRangeGoneError,
    ForeignPositionError,
    Start,
)
from eventckpt.text import safe

from .balance import Observer, share_of
from .batch import Batch, Handler
from .clock import SYSTEM_CLOCK, Clock
from .lasting import raise_if_lasting
from .lease_renewer import Holding
from .leases import Lease, LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .range_consumer import Consumer, Ended, Parts
from .range_stats import RangeStats
from .tasks import cancelled, first

__all__ = ["ChangeFeedProcessor", "RangeStatus"]

logger: Final = logger_of("eventckpt.projections")


class RangeStatus(NamedTuple):
    """One range as its lease shows it to everybody."""

    lease: Lease
    lag: int
    """Commits that come after the lease's position; after the beginning, where that is none of the feed's."""
    refused: str | None = None
    """Why the position is none of the feed's, so that whoever reads the range begins anew."""


class ChangeFeedProcessor:
    """Gives every event of `feed` to `handler`, at least once, and in order within each run.

    Start as many as you like, in as many processes, with the same leases: they share the ranges. Use it as an async
    context manager, or `start` and `stop`.

    Args:
        feed: what to read.
        leases: who reads what; the processor's name is theirs.
        handler: called with one `Batch` of a range at a time, with those of different ranges side by side.
        options: see `ProcessorOptions`.
        beginning: called with a range before this worker reads it from somewhere else than where it was last. What a
            handler remembers of runs is outdated then: others had the range meanwhile, or the log is another one.
        clock: where the time comes from; for tests.

    Raises:
        TypeError: an argument is of another kind.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        leases: LeaseStore,
        handler: Handler,
        options: ProcessorOptions | None = None,
        *,
        beginning: Callable[[FeedRange], None] = lambda _: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        settings.instance("feed", feed, ChangeFeed, what="a ChangeFeed")
        settings.instance("leases", leases, LeaseStore, what="a LeaseStore")
        settings.function("handler", handler)
        settings.function("beginning", beginning)
        if options is not None:
            settings.instance("options", options, ProcessorOptions, what="a ProcessorOptions")
        self.options: ProcessorOptions = options or ProcessorOptions()
        self.stats: dict[str, RangeStats] = {}
        """What this worker counted, by range; also of ranges that it has no longer."""
        self.failure: Exception | None = None
        """What ended this processor, because no later attempt does better. It holds no range any more."""
        self._failed = asyncio.Event()
        self._parts = Parts(feed, leases, handler, self.options, clock, beginning)
        self._feed = feed
        self._leases = leases
        self._clock = clock
        # Who asked for a lease has two looks to take it before anybody else may.
        self._observer = Observer(self.options.expiry, reservation=2 * self.options.acquire_interval)
        self._consumers: dict[FeedRange, Consumer] = {}
        self._tasks: dict[FeedRange, asyncio.Task[None]] = {}
        self._balancing: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._stopping = False

    # Life

    async def start(self) -> None:
        """Make the leases that are missing, take a first share, and go on in the background.

        Raises:
            CheckpointStoreError: leases cannot be read, made or deleted by this identity.
            RuntimeError: it was started before.
        """
        if self._balancing is not None:
            raise RuntimeError("A processor is started once; make a new one.")
        await self._leases.check_rights()
        try:
            await self._cycle()
        except BaseException:
            await self._end_all()
            raise
        self._balancing = asyncio.ensure_future(self._balance())

    async def stop(self) -> None:
        """Let the handlers finish their batches, for `stop_timeout` at most, and release all leases.

        Raises:
            StoreReplacedError: that has ended the processor before.
        """
        self._stopping = True
        if self._balancing is not None:
            await cancelled(self._balancing)
        for consumer in self._consumers.values():
            consumer.leave()
        try:
            if self._tasks:
                ended = asyncio.gather(*self._tasks.values(), return_exceptions=True)
                await first(_until(ended), self._clock.sleep(self.options.stop_timeout))
        finally:
            await self._end_all()
        if self.failure is not None:
            raise self.failure
        await self._release_strays()

    async def until_failed(self) -> None:
        """Wait until this processor can never go on.

        Raises:
            StoreReplacedError: the file under the store is gone, or is another one.
        """
        await self._failed.wait()
        if self.failure is not None:
            raise self.failure

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.stop)

    # Looking at it

    @property
    def owned(self) -> list[FeedRange]:
        """The ranges that this worker reads now."""
        return sorted(self._consumers)

    @property
    def positions(self) -> dict[FeedRange, str]:
        """By range that this worker reads, and that was read from its beginning: up to where all of it was handled."""
        held = {consumer.range: consumer.holding for consumer in self._consumers.values()}
        return {
            each: holding.position
            for each, holding in held.items()
            if holding.position is not None and holding.lease.start == "beginning"
        }

    def poll_age(self, feed_range: FeedRange) -> float | None:
        """Seconds since the feed last answered for this range; None before the first answer."""
        polled = self.stats[feed_range.token].polled_at
        return None if polled is None else self._clock.monotonic() - polled

    async def status(self) -> list[RangeStatus]:
        """Every range, whoever reads it. Asks the feed how far each lies behind, which costs one small read each."""
        return [await self._status_of(lease) for lease in await self._leases.all()]

    async def doubted(self) -> str | None:
        """Why what was made of the events is not to be believed: a position was refused, so that another log was read
        than is there now, or all of it is gone. None: nothing speaks against it."""
        return await self._leases.doubted()

    async def caught_up(self) -> None:
        """Wait until the positions of all leases are at the end of the feed, or their ranges have been stopped.

        Raises:
            StoreReplacedError: the processor has ended.
        """
        pause = 0.05
        while any((each.lag or each.refused) and not each.lease.stopped for each in await self.status()):
            if self.failure is not None:
                raise self.failure
            await self._clock.sleep(pause)
            pause = min(2 * pause, 1.0)  # looking costs a read of each range

    async def _status_of(self, lease: Lease) -> RangeStatus:
        try:
            return RangeStatus(lease, await self._lag(lease.range, lease.continuation, lease.start))
        except ForeignPositionError as error:
            lag = await self._lag(lease.range, None, "beginning") if error.is_certain else 0
            return RangeStatus(lease, lag, refused=str(error))

    async def _lag(self, feed_range: FeedRange, continuation: str | None, start: Start) -> int:
        try:
            return await self._feed.lag(feed_range, continuation, start=start)
        except FeedRangeGoneError as gone:
            parts = feed_range.cut(gone.ranges)
            return sum([await self._feed.lag(each, continuation, start=start) for each in parts])

    # Interventions

    async def reset(self, start: Start = "beginning") -> None:
        """Forget all positions, and begin anew from `start`. Stop all workers before. A document among the leases that
        is none is removed.

        Raises:
            RuntimeError: a lease has an owner; a worker is at it, or crashed within the last term.
        """
        await self._leases.check_rights()
        leases = await self._leases.all()
        if owners := sorted({lease.owner for lease in leases if lease.owner}):
            raise RuntimeError(f"Stop the workers first: {', '.join(map(safe, owners))}.")
        for lease in leases:
            try:
                await self._leases.replace(Lease(range=lease.range, start=start, etag=lease.etag))
            except LeaseLostError as error:
                raise RuntimeError(f"Stop the workers first: {safe(error)}.") from error
        if await self._leases.remove_unreadable():
            for gap in EVERYTHING.without(lease.range for lease in leases):
                for piece in gap.cut(await self._feed.ranges()):
                    await self._leases.create(Lease(range=piece, start=start))

    async def parked(self) -> list[Parked]:
        """The events that were put aside."""
        return await self._leases.parked()

    async def unpark(self) -> int:
        """Give every parked event to the handler once more, and let stopped ranges go on; how many it took.

        An event is forgotten when the handler took it.
        """
        await self._leases.check_rights()
        taken = 0
        for parked in await self._leases.parked():
            low, _, high = parked.range.partition("-")
            try:
                await self._parts.handler(Batch(FeedRange(low, high), [parked.event], lambda: False))
            except Exception as error:  # noqa: BLE001 - it stays parked, with its last error
                raise_if_lasting(error)
                said = f"{safe(type(error).__name__)}: {safe(error)}"[:1000]
                await self._leases.park(
                    msgspec.structs.replace(parked, error=said, attempts=parked.attempts + 1)
                )  # fmt: skip
            else:
                await self._leases.unpark(parked)
                taken += 1
        for lease in await self._leases.all():
            if lease.stopped:
                with suppress(LeaseLostError):  # only somebody else who lets it go on writes a lease that was stopped
                    await self._leases.replace(msgspec.structs.replace(lease, stopped=False, attempts=0, error=None))
        self._look.set()
        return taken

    # Balancing

    async def _balance(self) -> None:
        while True:
            await first(self._clock.sleep(self.options.acquire_interval), self._look.wait())
            self._look.clear()
            try:
                await self._cycle()
            except StoreReplacedError as error:
                self._fail(error)
                return
            except CheckpointStoreError as error:
                logger.warning("The leases could not be looked at: %s", error)
            except Exception:
                logger.exception("The leases could not be looked at")

    def _fail(self, error: StoreReplacedError) -> None:
        """End for good: whoever runs this processor is told, and nothing is tried again."""
        if self.failure is None:
            logger.error("The processor ends: %s", error)
            self.failure = error
            self._stopping = True
            self._failed.set()
            for consumer in self._consumers.values():
                consumer.leave()

    async def _cycle(self) -> None:
        """Look at all leases once, and do what follows from them."""
        asked = self._clock.monotonic()
        leases = await self._leases.all()
        expired = self._observer.expired(leases, asked=asked, answered=self._clock.monotonic())
        if EVERYTHING.without(lease.range for lease in leases):
            leases = await self._make_missing(leases)
        me = self.options.worker
        for lease in leases:
            consumer = self._consumers.get(lease.range)
            if consumer is not None and lease.owner == me and lease.wanted_by:
                consumer.leave()
            elif consumer is None and lease.owner == me and not lease.stopped:
                await self._take(lease, leases)  # ours by a write whose answer was lost
        share = share_of(me, leases, expired, requests=self.options.requests_per_cycle)
        for lease in share.take:
            await self._take(lease, leases)
        for lease in share.request:
            await self._request(lease)

    async def _make_missing(self, leases: Sequence[Lease]) -> list[Lease]:
        """Make a lease for whatever none covers. The first ones begin where the options say; later, a lease that is
        missing was lost, and its range is read from the beginning."""
        initialised = await self._leases.initialised()
        start: Start = "beginning" if initialised else self.options.start
        ranges = await self._feed.ranges()
        for gap in EVERYTHING.without(lease.range for lease in leases):
            for piece in gap.cut(ranges):
                if initialised:
                    logger.warning("The range %s has no lease; it is read from the beginning", piece.token)
                await self._leases.create(Lease(range=piece, start=start, timestamp=self._clock.timestamp()))
        if not initialised:
            await self._leases.mark_initialised()
        return await self._leases.all()

    async def _take(self, lease: Lease, leases: Sequence[Lease]) -> None:
        """Write our name into a lease that is nobody's, and begin to read its range."""
        if lease.range in self._consumers:
            return
        sent = self._clock.monotonic()
        try:
            taken = await self._leases.replace(
                msgspec.structs.replace(
                    lease, owner=self.options.worker, wanted_by=None, timestamp=self._clock.timestamp()
                )
            )
        except LeaseLostError:
            return  # another worker was faster
        holding = self._holding(taken, sent)
        if any(lease.range != other.range and lease.range.contains(other.range) for other in leases):
            await self._split(holding)  # somebody died between making the parts and deleting the whole
        else:
            self._begin(holding)

    async def _request(self, lease: Lease) -> None:
        try:
            me = self.options.worker
            await self._leases.replace(msgspec.structs.replace(lease, wanted_by=None if lease.owner == me else me))
        except LeaseLostError:
            pass  # it was renewed meanwhile; there is a next time

    # Ranges

    def _holding(self, lease: Lease, sent: float) -> Holding:
        stats = self.stats.setdefault(lease.range.token, RangeStats())
        return Holding(
            lease, sent, leases=self._leases, options=self.options, clock=self._clock, stats=stats
        )  # fmt: skip

    def _begin(self, holding: Holding) -> None:
        if self._stopping:
            return
        stats = self.stats[holding.lease.range.token]
        consumer = Consumer(holding, self._parts, stats)
        self._consumers[consumer.range] = consumer
        self._tasks[consumer.range] = asyncio.ensure_future(self._consume(consumer))

    async def _consume(self, consumer: Consumer) -> None:
        try:
            ended = await consumer.run()
            if ended is Ended.LOST:
                self._look.set()
            if ended is Ended.STOPPED:
                self.stats[consumer.range.token].stopped += 1
        except FeedRangeGoneError as gone:
            logger.info("The range %s was split", consumer.range.token)
            await self._split(consumer.holding, gone.ranges)
        except StoreReplacedError as error:
            self._fail(error)
        except Exception:
            logger.exception("The range %s is left until its lease expires", consumer.range.token)
        finally:
            self._consumers.pop(consumer.range, None)
            self._tasks.pop(consumer.range, None)

    async def _split(self, holding: Holding, ranges: Sequence[FeedRange] = ()) -> None:
        """Replace a lease that we hold by leases of its parts. Doing this once more after a crash is harmless: parts
        that exist are left as they are, and the whole goes last."""
        whole = holding.lease
        try:
            others = [each.range for each in await self._leases.all() if each.range != whole.range]
            existing = [each for each in others if whole.range.contains(each)]
            current = ranges or await self._feed.ranges()
            parts = [piece for gap in whole.range.without(existing) for piece in gap.cut(current)]
            for part in parts:
                holding.check()
                sent = self._clock.monotonic()
                made = await self._leases.create(
                    msgspec.structs.replace(
                        whole,
                        range=part,
                        owner=None if self._stopping else self.options.worker,
                        continuation=holding.position,
                        witness=holding.witness,
                        wanted_by=None,
                        timestamp=self._clock.timestamp(),
                    )
                )
                if made is not None:
                    self._begin(self._holding(made, sent))
            await holding.delete()
        except StoreReplacedError as error:
            self._fail(error)
        except (CheckpointStoreError, LeaseLostError) as error:
            logger.warning("The split of %s is left for another attempt: %s", whole.range.token, error)

    async def _end_all(self) -> None:
        await cancelled(*self._tasks.values())

    async def _release_strays(self) -> None:
        """Give back what we took in the very moment of stopping; else it would have to expire."""
        try:
            for lease in await self._leases.all():
                if lease.owner == self.options.worker:
                    await self._leases.replace(msgspec.structs.replace(lease, owner=None))
        except (CheckpointStoreError, LeaseLostError) as error:
            logger.warning("Some leases were not released, they will expire: %s", error)


async def _until(future: asyncio.Future[list[BaseException | None]]) -> None:
    await asyncio.shield(future)
