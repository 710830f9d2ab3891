"""Whether the projection in use is to be believed, and what is done where it is not: it is built anew beside itself.

Doubts are kept beside the leases, so that whichever worker goes on acts on them: a position was refused; the projection
lacks documents of what was read long ago; it has documents of a log that is not there. One worker rebuilds, the
others go on meanwhile. So what the log says comes into use in one step, and nobody has to take documents away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from eventckpt import StreamId
from eventckpt.clock import Clock
from eventckpt.log import logger_of
from eventckpt.stores import RunStore
from eventckpt.stores.change_feed import FeedRange, FeedRangeGoneError, ForeignPositionError, number_of
from eventckpt.text import safe

from .engines import Engine
from .leases import LeaseStore
from .processor import ChangeFeedProcessor
from .rebuild_check import is_of
from .rebuild_lock import RebuildRunningError
from .retry import Retry
from .tasks import Loop

__all__ = ["Doubts"]

logger: Final = logger_of("eventckpt.projections")

_LOOK: Final = 10.0
"""Seconds between two looks at whether somebody has doubts: a read of one document."""
_LOOKS_AGAIN: Final = Retry(backoff=_LOOK, max_backoff=300.0)
"""Where looks or rebuilds fail."""
_EMPTY_LOOKS: Final = 6
"""Looks after which it is asked again whether the projection was emptied, which reads an event and a document of each
range."""
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
        self._is_first = False
        """Whether nothing was read yet when this worker began, and the documents were not looked at since."""
        self._is_noticed = False
        self._looks = 0
        self._lacking: StreamId | None = None
        """What had no document at the last look."""
        self._firsts: dict[FeedRange, tuple[StreamId, str]] = {}
        """By range, what `_first` has found: a run never goes, whatever of it is removed."""

    async def begin(self) -> None:
        """To be called before anything is read: note whether anything was before."""
        self._is_first = not await self._leases.initialised()

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

        async def look() -> str | None:
            why = await self._why(processor)
            if why is None:
                return None
            if not self._is_noticed:
                logger.error("The projection %r is not believed, and is built anew: %s", self._name, why)
                noticed()
            self._is_noticed = True
            try:
                return await rebuild(self._name)
            except RebuildRunningError as running:
                logger.info("%s", running)
                return None

        loop = Loop(f"the look whether {safe(self._name)!r} is right", _LOOKS_AGAIN, self._clock)
        return await loop.run(look, every=_LOOK)

    async def _why(self, processor: ChangeFeedProcessor) -> str | None:
        """Why the projection is not to be believed; None: nothing speaks against it."""
        if self._is_first:
            await self._look_at_documents()
            self._is_first = False
        why = await self._leases.doubted()
        if why is not None:
            return why
        if self._lacking is not None or self._looks % _EMPTY_LOOKS == 0:
            lacking, before = await self._lacked(processor), self._lacking
            self._lacking = lacking
            if lacking is not None and lacking == before:
                await self._doubt(
                    f"it has no document of run {safe(lacking.run_id)!r} of workflow {safe(lacking.workflow_name)!r}, "
                    "though that was read: documents were removed"
                )
                return await self._leases.doubted()
        self._looks += 1
        return None

    async def _look_at_documents(self) -> None:
        """Keep a doubt where documents without positions are of another log.

        They were made elsewhere, or of a log that is gone: a container that was made anew has leases of its own. Some
        are compared with the log, which costs a query and as many reads.
        """
        found = False
        async with aclosing(self._runs.all(emptied=True)) as infos:
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

    async def _lacked(self, processor: ChangeFeedProcessor) -> StreamId | None:
        """A run that was read long ago and has no document; None where there is no sign of that.

        Of each range that this worker reads, the run of the first event is looked for: whatever was handled since, its
        document is there, or was removed. That there is no document at all would tell only for a moment, for whatever
        is saved now gets one.
        """
        for feed_range, position in processor.positions.items():
            first = await self._first(feed_range)
            if first is None:
                continue
            stream, behind = first
            try:
                was_read = number_of(feed_range, behind) <= number_of(feed_range, position)
            except ForeignPositionError:
                continue  # which whoever reads the range meets, too
            if not was_read:
                continue
            if not await self._runs.get(stream) and all(
                each.event.stream != stream for each in await self._leases.parked()
            ):
                return stream
        return None

    async def _has_events(self) -> bool:
        """Whether the feed has an event near its beginning."""
        for feed_range in await self._engine.feed.ranges():
            if await self._first(feed_range) is not None:
                return True
        return False

    async def _first(self, feed_range: FeedRange) -> tuple[StreamId, str] | None:
        """The run of the first event of a range, and a position behind that, unless much that is no event of a run lies
        before it: parts, what was removed, and what tells of that. An event is read whole, so it is asked for once."""
        if feed_range in self._firsts:
            return self._firsts[feed_range]
        position: str | None = None
        limit = 1
        for _ in range(_PAGES):
            try:
                page = await self._engine.feed.read(feed_range, position, start="beginning", limit=limit)
            except FeedRangeGoneError:
                return None  # there is a next look
            first = next((event.stream for event in page.events if event.stream.is_run), None)
            if first is not None:
                return self._firsts.setdefault(feed_range, (first, page.continuation))
            if not page.behind:
                return None
            position, limit = page.continuation, 100
        return None

    async def _doubt(self, why: str) -> None:
        if await self._leases.doubt(why, self._clock.timestamp()):
            logger.error("The projection %r is doubted: %s", self._name, why)
