"""The change-feed processor: every range of a feed is read by exactly one of any number of workers.

The leases are all that the workers share. Each of them looks at all leases from time to time, takes what is nobody's,
asks for what it has too little of, and gives away what others asked for. What a worker does with the ranges it holds is
in `range_consumer`, how it keeps them in `lease_renewer`.

Whatever goes wrong in the background, a worker goes on, with pauses, and tells what does not work; or nothing later can
do better, and it ends with that error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

import msgspec

from eventckpt import settings
from eventckpt.clock import SYSTEM_CLOCK, Clock
from eventckpt.closing import close_after
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed, FeedRange, Start

from .admin import Admin
from .balance import Observer, share_of
from .batch import Handler
from .leases import Lease, LeaseLostError, LeaseStore
from .options import RELEASING, ProcessorOptions
from .range_consumer import Shared
from .range_stats import RangeStats
from .range_watch import RangeStatus, RangeView, RangeWatch
from .ranges import Ranges
from .retry import Retry
from .tasks import Loop, Trouble, Troubles, called, cancelled, first

__all__ = ["ChangeFeedProcessor", "RangeStatus", "RangeView"]

logger: Final = logger_of("eventckpt.projections")

_UNKNOWN: Final = "whoever had the lease that was lost"
"""The owner of a lease that was made again, until it expires."""


class ChangeFeedProcessor(Admin):
    """Gives every event of `feed` to `handler`, at least once, and in order within each run.

    Start as many as you like, in as many processes, with the same leases: they share the ranges. Use it as an async
    context manager, or `start` and `stop`.

    For who watches it: `ranges` tells how far every range of the processor lies behind, `troubles` what does not work
    at the moment, `is_running` whether its loops run, `stats` and `restarts` what was counted.

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
        options = options or ProcessorOptions()
        super().__init__(feed, leases, handler, options, clock=clock)
        self.stats: dict[str, RangeStats] = {}
        """What this worker counted, by range; also of ranges that it has no longer."""
        self.failure: Exception | None = None
        """What ended this processor, because no later attempt does better. It holds no range any more."""
        self._failed = asyncio.Event()
        self._troubles = Troubles(clock)
        self._retry = Retry.of(options)
        shared = Shared(feed, leases, handler, options, clock, beginning, self._retry, self._troubles)
        self._ranges = Ranges(shared, self.stats, fail=self._fail, ended=self._range_ended, look=self._look_soon)
        self._watch = RangeWatch(feed, lambda: self._ranges.consumers, clock)
        # Who asked for a lease has two looks to take it before anybody else may.
        self._observer = Observer(options.expiry, reservation=2 * options.acquire_interval)
        self._look, self._ask = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._has_begun = False
        """Whether there were leases for all ranges once: those that are missing afterwards were lost."""
        self._balancing_loop = self._loop("looking at the leases", longest=options.acquire_interval)
        self._asking_loop = self._loop("asking how far ranges lie behind", longest=options.max_backoff)
        self._balancing: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

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
            await self._give_back()
            raise
        self._balancing = asyncio.ensure_future(self._supervised(self._balance))
        self._asking = asyncio.ensure_future(self._supervised(self._ask_of_ranges))

    async def stop(self) -> None:
        """Let the handlers finish their batches, for `stop_timeout` at most, and release all leases, for 5 seconds at
        most: where the store does not answer, they will expire.

        Raises:
            StoreReplacedError, StoreReadOnlyError: that has ended the processor before.
        """
        self._stopping = True
        await cancelled(*(task for task in (self._balancing, self._asking) if task is not None))
        self._ranges.leave()
        try:
            await first(self._ranges.until_left(), self._clock.sleep(self.options.stop_timeout))
        finally:
            await self._give_back()
        if self.failure is not None:
            raise self.failure

    async def until_failed(self) -> None:
        """Wait until this processor can never go on.

        Raises:
            StoreReplacedError: the file under the store is gone, or is another one.
            StoreReadOnlyError: this identity has no rights any more, or what it reads or writes is not there.
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
    def is_running(self) -> bool:
        """Whether it was started, and its loops run: nothing has ended it, and it was not stopped."""
        return self._balancing is not None and not self._balancing.done() and self.failure is None

    @property
    def restarts(self) -> int:
        """How often a loop of this worker went on after an error: the looks at the leases, the questions how far
        ranges lie behind, and the work on each range."""
        own = self._balancing_loop.restarts + self._asking_loop.restarts
        return own + sum(each.restarts for each in self.stats.values())

    @property
    def troubles(self) -> list[Trouble]:
        """What does not work at this moment, and for how long: the oldest first. Outages are among them, also those
        that a handler meets; a handler that refuses its events is none. Empty: all is well."""
        return self._troubles.all()

    @property
    def owned(self) -> list[FeedRange]:
        """The ranges that this worker reads now."""
        return sorted(self._ranges.consumers)

    @property
    def ranges(self) -> list[RangeView]:
        """Every range of the processor as this worker sees it, whoever reads it, in order; asks nobody anything.

        Of ranges that others read, or nobody, the leases are looked at every `acquire_interval`, and the feed is asked
        how far they lie behind every `lag_interval`, at most 16 of them at a time.
        """
        now = self._clock.monotonic()
        ours: list[RangeView] = []
        for each, consumer in self._ranges.consumers.items():
            lease, lag = consumer.holding.lease, self.stats[each.token].lag
            ours.append(RangeView(each, lease.state, lease.owner, True, lag, now - consumer.read_at))
        return sorted([*ours, *self._watch.others()], key=lambda view: view.range)

    @property
    def positions(self) -> dict[FeedRange, str]:
        """By range that this worker reads, and that was read from its beginning: up to where all of it was handled."""
        held = {consumer.range: consumer.holding for consumer in self._ranges.consumers.values()}
        return {
            each: holding.position
            for each, holding in held.items()
            if holding.position is not None and holding.lease.start == "beginning"
        }

    def poll_age(self, feed_range: FeedRange) -> float | None:
        """Seconds since the feed last answered for this range; None before the first answer."""
        polled = self.stats[feed_range.token].polled_at
        return None if polled is None else self._clock.monotonic() - polled

    async def caught_up(self) -> None:
        """Wait until the positions of all leases are at the end of the feed, or their ranges have been stopped.

        Raises:
            StoreReplacedError, StoreReadOnlyError: the processor has ended.
        """
        pause = 0.05
        while any((each.lag != 0 or each.refused) and each.lease.state != "stopped" for each in await self.status()):
            if self.failure is not None:
                raise self.failure
            await self._clock.sleep(pause)
            pause = min(2 * pause, 1.0)  # looking costs a read of each range

    async def unpark(self) -> int:
        """See `Admin.unpark`; what goes on is taken at once."""
        taken = await super().unpark()
        self._look_soon()
        return taken

    # Supervision

    def _loop(self, what: str, *, longest: float) -> Loop:
        retry = Retry(backoff=min(self.options.backoff, longest), max_backoff=min(self.options.max_backoff, longest))
        return Loop(what, retry, self._clock, troubles=self._troubles, asks=True)

    async def _supervised(self, loop: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a loop of ours until the end. That it ends by itself is the end of the processor."""
        try:
            await called(loop())
        except Exception as error:  # noqa: BLE001 - told to whoever runs this processor
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End for good: whoever runs this processor is told, and nothing is tried again."""
        if self.failure is None:
            logger.error("The processor ends: %s", error)
            self.failure = error
            self._stopping = True
            self._failed.set()
            for task in (self._balancing, self._asking):
                if task is not None:
                    task.cancel()
            self._ranges.leave()

    def _range_ended(self, lease: Lease, read_at: float) -> None:
        self._watch.left(lease, read_at)
        self._ask.set()

    def _raise_if_at_work(self) -> None:
        if self._ranges.consumers:
            raise RuntimeError("Stop the workers first: this very processor is at work.")

    # Balancing

    def _look_soon(self) -> None:
        self._look.set()

    async def _ask_of_ranges(self) -> None:
        sleep = partial(self._until, self._ask)
        await self._asking_loop.run(self._watch.ask, every=self.options.lag_interval, sleep=sleep)

    async def _balance(self) -> None:
        sleep, pause = partial(self._until, self._look), self.options.acquire_interval
        await sleep(pause)
        await self._balancing_loop.run(self._cycle, every=pause, sleep=sleep)

    async def _until(self, wanted: asyncio.Event, seconds: float) -> None:
        """Let time pass, unless a turn is wanted before."""
        await first(self._clock.sleep(seconds), wanted.wait())
        wanted.clear()

    async def _cycle(self) -> None:
        """Look at all leases once, and do what follows from them."""
        asked = self._clock.monotonic()
        leases = await self._leases.all()
        expired = self._observer.expired(leases, asked=asked, answered=self._clock.monotonic())
        if EVERYTHING.without(lease.range for lease in leases):
            leases = await self._make_missing(leases)
        self._has_begun = True
        self._watch.look(leases)
        me = self.options.worker
        for lease in leases:
            consumer = self._ranges.consumers.get(lease.range)
            if consumer is not None and lease.owner == me and lease.state == "requested":
                consumer.leave()
            elif consumer is None and lease.owner == me and lease.state != "stopped":
                await self._ranges.take(lease, leases)  # ours by a write whose answer was lost
        share = share_of(me, leases, expired, requests=self.options.requests_per_cycle)
        for lease in share.take:
            await self._ranges.take(lease, leases)
        for lease in share.request:
            await self._request(lease)

    async def _make_missing(self, leases: Sequence[Lease]) -> list[Lease]:
        """Make a lease for whatever none covers. The first ones begin where the options say; later, a lease that is
        missing was lost, such as with its container. Its range is read from the beginning, once whoever had it must
        have noticed: it is somebody's, and expires."""
        initialised = await self._leases.initialised() or self._has_begun
        owner = _UNKNOWN if initialised else None
        start: Start = "beginning" if initialised else self.options.start
        ranges = await self._feed.ranges()
        for gap in EVERYTHING.without(lease.range for lease in leases):
            for piece in gap.cut(ranges):
                if initialised:
                    logger.warning("The range %s has no lease; it is read from the beginning", piece.token)
                made = Lease(range=piece, owner=owner, start=start, timestamp=self._clock.timestamp())
                await self._leases.create(made)
        await self._leases.mark_initialised()
        return await self._leases.all()

    async def _request(self, lease: Lease) -> None:
        me = self.options.worker
        with suppress(LeaseLostError):  # it was renewed meanwhile; there is a next time
            await self._leases.replace(msgspec.structs.replace(lease, wanted_by=None if lease.owner == me else me))

    async def _give_back(self) -> None:
        """Stop what is still being handled, and release every lease, as far as there is time for that."""

        async def all_of_it() -> None:
            await self._ranges.end()
            if self.failure is None:
                await self._release_strays()

        if await first(all_of_it(), self._clock.sleep(RELEASING)) == 1:
            logger.warning("Not every lease could be released within %g s: the others will expire", RELEASING)

    async def _release_strays(self) -> None:
        """Give back what we took in the very moment of stopping; else it would have to expire."""
        try:
            for lease in await self._leases.all():
                if lease.owner == self.options.worker:
                    await self._leases.replace(msgspec.structs.replace(lease, owner=None))
        except (CheckpointStoreError, LeaseLostError) as error:
            logger.warning("Some leases were not released, they will expire: %s", error)
