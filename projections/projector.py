"""The projector: processors that keep the projection in use up to date, and rebuild it beside itself.

A projection and the processor that fills it have the same name, so that each has positions of its own. Which one is in
use is told by a pointer beside the projections; workers look at it, and move over when it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from eventckpt.log import logger_of
from eventckpt.text import safe

from .clock import SYSTEM_CLOCK, Clock
from .engines import Engine
from .latest import LatestProjection
from .leases import LeaseStore
from .options import ProcessorOptions
from .processor import ChangeFeedProcessor
from .rebuilt import Wanted
from .telling import telling
from .waiting import first

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Projector"]

logger = logger_of("eventckpt.projections")

_LOOK: Final = 10.0  # seconds between two looks at which projection is in use
_LONGEST_LOOK: Final = 60.0  # where looks fail: twice as long each time, up to this

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
        self._engine = engine
        self._options = options
        self._clock = clock
        self._in_use = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the projection in use up to date until `stop` is set; then release what is held."""
        store = self._engine.store
        self._in_use = await store.runs().active()
        while not stop.is_set():
            name = self._in_use
            async with self.processing(name), telling(store, store.runs(name), self._clock):
                logger.info("Projecting into %r as %s", name, self._options.worker)
                await first(stop.wait(), self._until_another_than(name))

    async def rebuild(self, progress: Callable[[int, int], None]) -> str:
        """Build the projection anew beside the one in use, and then put it in use; its name.

        The one that was in use before stays, for readers that have not noticed yet, until the next rebuild. It is also
        what tells whether everything was read: the feed may be answered by a replica that lags, which says that it
        ends where it does not.

        Args:
            progress: called with the events handled and the commits that are left, as far as is known.

        Raises:
            StoreUnavailableError: the log did not show all that the projection in use knows; that one stays in use.
        """
        runs = self._engine.store.runs()
        active = await runs.active(certain=True)  # what it is not is cleared
        wanted = Wanted(self._engine.store, active, self._clock)
        await wanted.look()
        number = _number(active)
        for outdated in (_name(number - 1), _name(number + 1)):  # the last one, and one that was given up half way
            if outdated != active:
                await self._engine.store.runs(outdated).clear()
                await self.leases(outdated).clear()
        name = _name(number + 1)
        async with self.processing(name) as processor:
            catching_up = asyncio.ensure_future(processor.caught_up())
            try:
                while not catching_up.done():
                    await asyncio.wait([catching_up], timeout=0.2)
                    stats = processor.stats.values()
                    progress(sum(each.events for each in stats), sum(each.lag for each in stats))
                catching_up.result()
            finally:
                catching_up.cancel()
            await wanted.reached_by(name)
        await runs.activate(name)
        return name

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
        self.projection = LatestProjection(self._engine.store, self._engine.store.runs(name))
        return ChangeFeedProcessor(
            self._engine.feed, self.leases(name), self.projection.apply, self._options, clock=self._clock
        )

    def leases(self, name: str) -> LeaseStore:
        """The leases of the processor that fills the projection called `name`."""
        return self._engine.leases(f"eventckpt-{name}")

    async def _until_another_than(self, name: str) -> None:
        """A look that fails is none: the processing goes on, and has errors and back-off of its own."""
        runs, pause = self._engine.store.runs(), _LOOK
        while True:
            try:
                self._in_use = await runs.active()
            except Exception as error:  # noqa: BLE001 - the worker goes on with the projection it knows
                logger.warning("Which projection is in use is looked at again in %g s: %s", pause, safe(error))
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_LOOK)
                continue
            if self._in_use != name:
                return
            pause = _LOOK
            await self._clock.sleep(pause)


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() and len(last) <= _DIGITS else 1


def _name(number: int) -> str:
    return "latest" if number <= 1 else f"latest-{number}"
