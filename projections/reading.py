"""Reading a range page by page, a bounded number of pages ahead of the handler."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from eventckpt.errors import CheckpointStoreError

from .clock import Clock
from .feeds import ChangeFeed, FeedPage, FeedRange, FeedRangeGoneError, Start
from .options import ProcessorOptions
from .stats import RangeStats

__all__ = ["Pages"]

logger = logging.getLogger("eventckpt.projections")

_END: Final = None
_IDLE: Final = 12
"""Empty polls in a row, after which a range is polled half as often: an empty poll costs as much as a full one."""


class Pages:
    """The pages of a range from a position on. `fill` reads them, `next` gives them."""

    def __init__(
        self,
        feed: ChangeFeed,
        feed_range: FeedRange,
        *,
        options: ProcessorOptions,
        clock: Clock,
        stats: RangeStats,
    ) -> None:
        self._feed = feed
        self._range = feed_range
        self._options = options
        self._clock = clock
        self._stats = stats
        self._queue: asyncio.Queue[FeedPage | FeedRangeGoneError | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(1 + options.read_ahead)
        self._ended = False

    async def next(self) -> FeedPage | None:
        """The next page, which may be empty; None after `end`.

        Raises:
            FeedRangeGoneError: the range was split after the pages given so far.
        """
        if self._ended:
            return None
        page = await self._queue.get()
        if isinstance(page, FeedRangeGoneError):
            raise page
        return None if self._ended else page

    def done(self) -> None:
        """The page that `next` gave is handled: there is room for another one."""
        self._room.release()

    def end(self) -> None:
        """Give no further page."""
        self._ended = True
        self._queue.put_nowait(_END)

    async def fill(self, position: str | None, start: Start) -> None:
        """Read until the range is gone or this is cancelled."""
        empty = 0
        while True:
            await self._room.acquire()
            try:
                page = await self._read(position, start)
            except FeedRangeGoneError as gone:
                self._queue.put_nowait(gone)
                return
            position = page.continuation
            self._queue.put_nowait(page)
            empty = 0 if page.events else empty + 1
            if not page.behind:
                idle = empty > _IDLE
                await self._clock.sleep(self._options.poll_interval * (2 if idle else 1))

    async def _read(self, position: str | None, start: Start) -> FeedPage:
        while True:
            began = self._clock.monotonic()
            try:
                page = await self._feed.read(self._range, position, start=start, limit=self._options.page_size)
            except CheckpointStoreError as error:
                self._stats.read_failures += 1
                logger.warning("The range %s could not be read: %s", self._range.token, error)
                await self._clock.sleep(self._options.poll_interval)
            else:
                self._stats.read(page, self._clock.monotonic() - began, self._clock.monotonic())
                return page
