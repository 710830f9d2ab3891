"""The projector: processors that keep the projection in use up to date, and rebuild it beside itself.

A projection and the processor that fills it have the same name, so that each has positions of its own. Which one is in
use is told by a pointer beside the projections; workers look at it, and move over when it changes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from eventckpt.clock import SYSTEM_CLOCK, Clock
from eventckpt.errors import StoreMissingError
from eventckpt.log import logger_of

from .doubt import Doubts
from .engines import Engine
from .latest import LatestProjection
from .leases import LeaseStore
from .options import ProcessorOptions
from .processor import ChangeFeedProcessor
from .rebuild_check import Wanted
from .rebuild_lock import RebuildLock, RebuildLostError
from .retry import Retry, is_outage
from .status_backfill import status_backfill
from .tasks import Loop, Trouble, Troubles, cancelled, first

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from eventckpt.stores import Claim

__all__ = ["Projector"]

logger: Final = logger_of("eventckpt.projections")

_LOOK: Final = 10.0  # seconds between two looks at which projection is in use
_LOOKS_AGAIN: Final = Retry(backoff=_LOOK, max_backoff=60.0)  # where looks fail

_DIGITS: Final = 9  # of a projection's number; what is longer was not counted by a rebuild


class Projector:
    """Runs the processor of the "latest" projection over one engine.

    Args:
        engine: see `open_engine`.
        options: of the processor. A rebuild and each projection that comes into use get a worker's name of their own.
        clock: where the time comes from; for tests.
    """

    def __init__(self, engine: Engine, options: ProcessorOptions, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.processor: ChangeFeedProcessor | None = None
        """The one that runs."""
        self.projection: LatestProjection | None = None
        self.doubts: int = 0
        """How often this worker was the first to notice that the projection in use is not to be believed."""
        self._engine = engine
        self._options = options
        self._clock = clock
        self._in_use = ""
        self._troubles = Troubles(clock)
        self._is_begun = False
        self._restarts = 0
        self._loop = Loop(
            "the projector",
            Retry.of(options),
            clock,
            troubles=self._troubles,
            failed=self._restarted,
            ends=lambda error: not self._is_begun and (isinstance(error, StoreMissingError) or not is_outage(error)),
        )

    @property
    def restarts(self) -> int:
        """How often a loop of this worker went on after an error: its own, and those of the processor that runs."""
        return self._restarts + (self.processor.restarts if self.processor is not None else 0)

    @property
    def troubles(self) -> list[Trouble]:
        """What does not work at this moment, and for how long: the oldest first. A worker whose store cannot be reached
        at its start has one, too."""
        own = self._troubles.all() + (self.processor.troubles if self.processor is not None else [])
        return sorted(own, key=lambda each: -each.seconds)

    def loop(self, what: str, retry: Retry) -> Loop:
        """A loop of this worker that asks the store: what it meets is among `troubles` and `restarts`."""
        return Loop(what, retry, self._clock, troubles=self._troubles, failed=self._restarted, asks=True)

    def _restarted(self, _: BaseException) -> None:
        self._restarts += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the projection in use up to date until `stop` is set; then release what is held.

        A store that cannot be reached, at the start or later, is waited for. Once it has worked, so is whatever else
        goes wrong, unless no later attempt does better.

        Raises:
            StoreReplacedError: the file under the store is gone, or is another one.
            StoreReadOnlyError: this identity has no rights, or what it reads or writes is not there.
            CheckpointStoreError: at the start, the store could not be used for another reason than an outage, or a
                container is missing that this identity may not make.
        """
        await self._loop.run(
            lambda: self._run(stop), sleep=lambda seconds: first(self._clock.sleep(seconds), stop.wait())
        )

    async def _run(self, stop: asyncio.Event) -> bool | None:
        """Until `stop` is set, which is told; or until another projection is in use."""
        if stop.is_set():
            return True
        async with AsyncExitStack() as working:
            begun: list[tuple[Doubts, ChangeFeedProcessor]] = []

            async def begin() -> None:
                begun.append(await self._begin(working))

            await first(stop.wait(), begin())  # a store that does not answer keeps nobody who is to stop
            for doubts, processor in begun:
                self._is_begun = True
                self._loop.well()
                await first(
                    stop.wait(),
                    self._until_another_than(self._in_use),
                    processor.until_failed(),
                    self._settled(doubts, processor),
                )
        return True if stop.is_set() else None

    async def _begin(self, working: AsyncExitStack) -> tuple[Doubts, ChangeFeedProcessor]:
        """Begin to project into what is in use, until `working` ends."""
        store = self._engine.store
        name = self._in_use = self._in_use or await store.run_store().active()
        doubts = Doubts(self._engine, name, store.run_store(name), self.leases(name), self._clock)
        await doubts.begin()
        processor = await working.enter_async_context(self.processing(name))
        await working.enter_async_context(status_backfill(store, store.run_store(name), self._clock))
        logger.info("Projecting into %r as %s", name, self._options.worker)
        return doubts, processor

    async def rebuild(self, progress: Callable[[int, int], None], *, instead_of: str | None = None) -> str:
        """Build the projection anew beside the one in use, and then put it in use; its name.

        The one that was in use before stays, for readers that have not noticed yet, until the next rebuild. It is also
        what tells whether everything was read: the feed may be answered by a replica that lags, which says that it
        ends where it does not.

        One rebuild at a time does, whoever asks: see `leases.lock`.

        Args:
            progress: called with the events handled and the commits that are left, as far as is known.
            instead_of: only if this one is still in use; else nothing is done, and the name is that of the other one.

        Raises:
            RebuildRunningError: another process rebuilds.
            RebuildLostError: this one stood still for so long that another one may have begun; nothing was put in use.
            StoreUnavailableError: the log did not show all that the projection in use knows; that one stays in use.
        """
        options = self._options
        lock = RebuildLock(
            self._engine.documents,
            f"eventckpt-rebuild{await self._engine.feed.identity()}.lock",
            options.worker,
            term=options.expiry,
            margin=options.fence_margin,
            clock=self._clock,
        )
        await lock.acquire()
        in_use: list[str] = []

        async def work() -> None:
            claim = await self._engine.store.run_store().claim()
            if instead_of in (None, claim.name):
                in_use.append(await self._rebuild(lock, claim, progress))
            else:
                in_use.append(claim.name)

        try:
            await first(work(), lock.renew())
        finally:
            await lock.release(done=bool(in_use))
        return in_use[0]

    async def _rebuild(self, lock: RebuildLock, claim: Claim, progress: Callable[[int, int], None]) -> str:
        """As long as the lock is ours: nobody can put in use any more what another rebuild began before the claim, so
        that all of it can be cleared."""
        store = self._engine.store
        name = await self._cleared_for(lock, claim.name)
        wanted = Wanted(store, claim.name, self._clock, doubted=await self.leases(claim.name).doubted())
        await wanted.look()
        async with self.processing(name) as processor:
            catching_up = asyncio.ensure_future(processor.caught_up())
            try:
                while not catching_up.done():
                    await asyncio.wait([catching_up], timeout=0.2)
                    stats = processor.stats.values()
                    progress(sum(each.events for each in stats), sum(each.lag for each in stats))
                catching_up.result()
            finally:
                await cancelled(catching_up)
            await wanted.reached_by(name)
        lock.check()
        if not await store.run_store().activate(name, claim=claim):
            raise RebuildLostError(
                f"Another projection than {claim.name!r} was put in use, or another rebuild has begun: {name!r} was "
                "not put in use. Rebuild again, if no other process does."
            )
        return name

    async def _cleared_for(self, lock: RebuildLock, active: str) -> str:
        """The name of a projection that is begun, with nothing in it; and nothing is left of those given up before."""
        number = max(lock.number, _number(active)) + 1
        name = _name(number)
        # Without a lock's memory, as left by 0.1.0: the one before, and one that was given up half way.
        outdated = {*lock.begun, _name(_number(active) - 1), _name(_number(active) + 1), name} - {active}
        await lock.begins(number, (active, *sorted(outdated)))
        for each in sorted(outdated):
            lock.check()
            await self._engine.store.run_store(each).clear()
            lock.check()
            await self.leases(each).clear()
        await lock.begins(number, (active, name))
        return name

    async def _settled(self, doubts: Doubts, processor: ChangeFeedProcessor) -> None:
        """Wait until there is a doubt, and until the projection in use is another one."""
        self._in_use = await doubts.settled(processor, self._rebuild_beside, self._notice)

    async def _rebuild_beside(self, doubted: str) -> str:
        """A rebuild by a worker, which goes on with its own ranges; of several that have the doubt, one does it."""
        name = f"{self._options.worker}-rebuild-{uuid.uuid4().hex[:8]}"
        options = replace(self._options, worker=name, start="beginning")
        return await Projector(self._engine, options, clock=self._clock).rebuild(_unseen, instead_of=doubted)

    def _notice(self) -> None:
        self.doubts += 1

    @asynccontextmanager
    async def processing(self, name: str) -> AsyncGenerator[ChangeFeedProcessor, None]:
        """A processor that fills the projection called `name`, running."""
        async with self.processor_of(name) as processor:
            self.processor = processor
            try:
                yield processor
            finally:
                self.processor = None

    def processor_of(self, name: str) -> ChangeFeedProcessor:
        """A processor that fills the projection called `name`, not started."""
        projection = self.projection = LatestProjection(self._engine.store, self._engine.store.run_store(name))
        return ChangeFeedProcessor(
            self._engine.feed,
            self.leases(name),
            projection.apply,
            self._options,
            beginning=lambda _: projection.forget(),
            clock=self._clock,
        )

    def leases(self, name: str) -> LeaseStore:
        """The leases of the processor that fills the projection called `name`."""
        return self._engine.leases(f"eventckpt-{name}")

    async def _until_another_than(self, name: str) -> None:
        """A look that fails is none: the processing goes on, and has errors and pauses of its own."""
        runs = self._engine.store.run_store()

        async def another() -> str | None:
            found = await runs.active()
            return found if found != name else None

        loop = self.loop("looking at which projection is in use", _LOOKS_AGAIN)
        self._in_use = await loop.run(another, every=_LOOK)


def _unseen(handled: int, left: int) -> None:
    """Nobody looks at the progress of a worker's own rebuild."""


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() and len(last) <= _DIGITS else 1


def _name(number: int) -> str:
    return "latest" if number <= 1 else f"latest-{number}"
