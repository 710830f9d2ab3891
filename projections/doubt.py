"""Whether the projection in use is to be believed, and what is done where it is not: it is built anew beside itself.

Doubts are kept beside the leases, so that whichever worker goes on acts on them: a position was refused; the projection
has no document though its leases have positions; it has documents of a log that is not there. One worker rebuilds, the
others go on meanwhile. So what the log says comes into use in one step, and nobody has to take documents away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from eventckpt.log import logger_of
from eventckpt.stores import RunStore
from eventckpt.text import safe

from .clock import Clock
from .engines import Engine
from .feeds import FeedRangeGoneError
from .lasting import raise_if_lasting
from .leases import LeaseStore
from .leases.lock import RebuildRunningError
from .processor import ChangeFeedProcessor
from .rebuilt import is_of

__all__ = ["Doubts"]

logger = logger_of("eventckpt.projections")

_LOOK: Final = 10.0
"""Seconds between two looks at whether somebody has doubts: a read of one document."""
_LONGEST_LOOK: Final = 300.0
"""Where looks or rebuilds fail: twice as long each time, up to this."""
_EMPTY_LOOKS: Final = 6
"""Looks after which it is asked again whether there is any document, which is a query."""
_SAMPLE: Final = 10
"""Documents without positions that are compared with the log."""
_PAGES: Final = 20
"""Pages of a range in which an event is looked for."""


class Doubts:
    """Of one projection.

    Args:
        engine: where it is.
        name: what it is called.
        runs, leases: its documents, and the leases of the processor that fills it.
        clock: where the time comes from.
    """

    def __init__(self, engine: Engine, name: str, runs: RunStore, leases: LeaseStore, clock: Clock) -> None:
        self._engine = engine
        self._name = name
        self._runs = runs
        self._leases = leases
        self._clock = clock

    async def look_before(self) -> None:
        """Look before anything is read for the first time, and keep a doubt where there is one.

        Documents without positions were made elsewhere, or of a log that is gone: a container that was made anew has
        leases of its own. Some are compared with the log, which costs a query and as many reads.
        """
        if await self._leases.initialised():
            return
        found = False
        async with aclosing(self._runs.all()) as infos:
            number = 0
            async for info in infos:
                found = True
                if not await is_of(self._engine.store, info):
                    await self._doubt(
                        f"it has documents of another log, such as seq {info.seq} of run {safe(info.run_id)!r}"
                    )
                    return
                number += 1
                if number == _SAMPLE:
                    break
        if not found and self._name != "latest" and await self._has_events():
            logger.error(
                "The projection %r is in use and has no document, nor was it ever read for: it is filled now",
                self._name,
            )

    async def settled(
        self,
        processor: ChangeFeedProcessor,
        rebuild: Callable[[str], Awaitable[str]],
        noticed: Callable[[], None],
    ) -> str:
        """Wait for a doubt, and until it is settled by a rebuild; the name of the projection that is in use then.

        Args:
            processor: the one that fills the projection.
            rebuild: builds the projection of this name anew beside itself; if another one is in use, its name.
            noticed: called once there is a doubt.

        Raises:
            StoreReplacedError: the store is another one by now.
        """
        pause, looks, was_empty, was_noticed = _LOOK, 0, False, False
        while True:
            try:
                why = await self._leases.doubted()
                if why is not None:
                    if not was_noticed:
                        logger.error("The projection %r is not believed, and is built anew: %s", self._name, why)
                        noticed()
                    was_noticed = True
                    return await rebuild(self._name)
                if was_empty or looks % _EMPTY_LOOKS == 0:
                    is_empty = await self._is_emptied(processor)
                    if is_empty and was_empty:
                        await self._doubt("it has no document, though its leases have positions and the log has runs")
                        continue
                    was_empty = is_empty
                looks += 1
            except RebuildRunningError as running:
                logger.info("%s", running)
            except Exception as error:  # noqa: BLE001 - the processing goes on meanwhile, and this is tried again
                raise_if_lasting(error)
                logger.warning("Whether %r is right is looked at again in %g s: %s", self._name, pause, safe(error))
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_LOOK)
                continue
            pause = _LOOK
            await self._clock.sleep(_LOOK)

    async def _is_emptied(self, processor: ChangeFeedProcessor) -> bool:
        """Whether there is no document although everything was read, and something was there to be read."""
        if not await self._runs.is_empty():
            return False
        ranges = await processor.status()
        if not ranges or any(each.lag or each.refused or each.lease.stopped for each in ranges):
            return False
        return all(each.lease.continuation for each in ranges) and await self._has_events()

    async def _has_events(self) -> bool:
        """Whether the feed has an event near its beginning; what lies before it may be parts or what was removed."""
        feed = self._engine.feed
        for feed_range in await feed.ranges():
            position: str | None = None
            for _ in range(_PAGES):
                try:
                    page = await feed.read(feed_range, position, start="beginning", limit=100)
                except FeedRangeGoneError:
                    break  # there is a next look
                if page.events:
                    return True
                if not page.behind:
                    break
                position = page.continuation
        return False

    async def _doubt(self, why: str) -> None:
        if await self._leases.doubt(why, self._clock.timestamp()):
            logger.error("The projection %r is doubted: %s", self._name, why)
