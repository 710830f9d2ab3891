"""Reading a range page by page, a bounded number of pages ahead of the handler."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Final

from eventckpt.clock import Clock
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import (
    ChangeFeed,
    FeedPage,
    FeedRange,
    FeedRangeGoneError,
    ForeignPositionError,
    Start,
)

from .options import ProcessorOptions
from .range_stats import RangeStats
from .retry import Retry, raise_if_lasting
from .tasks import Troubles, called

__all__ = ["Pages"]

logger: Final = logger_of("eventckpt.projections")

_IDLE: Final = 12
"""Empty polls in a row, after which a range is polled half as often: an empty poll costs as much as a full one."""
_PATIENCE: Final = 30.0
"""Seconds for which a position has to stay beyond the end where that may be a replica's that lags. One is behind by far
less; and nothing is read meanwhile."""


class Pages:
    """The pages of a range from a position on. `fill` reads them, `next` gives them, those that belong together as one.

    While the range lies behind, `next` waits for `batch_pages` of them, but never for one that is not under way.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        feed_range: FeedRange,
        *,
        options: ProcessorOptions,
        clock: Clock,
        stats: RangeStats,
        troubles: Troubles,
    ) -> None:
        self._feed = feed
        self._range = feed_range
        self._options = options
        self._clock = clock
        self._stats = stats
        self._troubles = troubles
        self._what = f"reading the range {feed_range.token}"
        self._retry = Retry.of(options)
        self._waiting: deque[FeedPage] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._handling = False
        self._more = False  # whether the next page is there to be read, without a pause before
        self._failure: Exception | None = None
        self._ended = False

    async def next(self) -> FeedPage | None:
        """The next pages as one, which may be empty; None after `end`.

        Raises:
            FeedRangeGoneError: the range was split after the pages given so far.
            ForeignPositionError: the position is none of this feed's.
            StoreReplacedError: the store is another one by now.
        """
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        if self._ended:
            return None
        if self._failure and not self._waiting:
            raise self._failure
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._options.batch_pages))]
        self._handling = True
        self._room.set()
        return _joined(batch)

    def done(self) -> None:
        """What `next` gave is handled: there is room for other pages."""
        self._handling = False
        self._room.set()

    def end(self) -> None:
        """Give no further page."""
        self._ended = True
        self._arrived.set()

    @property
    def _ready(self) -> bool:
        """Whether `next` has something to tell."""
        if self._ended or self._failure or len(self._waiting) >= self._options.batch_pages:
            return True
        return bool(self._waiting) and not self._more

    async def fill(self, position: str | None, witness: str | None, start: Start) -> None:
        """Read until that is of no use any more, which `next` tells, or this is cancelled."""
        try:
            await called(self._fill(position, witness, start))
        except Exception as error:  # noqa: BLE001 - whoever waits for pages is told, whatever it is
            self._failure = error
            self._arrived.set()
        finally:
            self._troubles.over(self._what)

    async def _fill(self, position: str | None, witness: str | None, start: Start) -> None:
        empty = 0
        while True:
            await self._until_room()
            page = await self._read(position, witness, start)
            position, witness = page.continuation, page.witness
            self._waiting.append(page)
            self._more = page.behind > 0
            self._arrived.set()
            empty = 0 if page.events else empty + 1
            if not page.behind:
                options = self._options
                await self._clock.sleep(options.idle_interval if empty > _IDLE else options.poll_interval)

    async def _until_room(self) -> None:
        """While the handler works, `read_ahead` pages may wait; else those of a batch."""
        while len(self._waiting) >= (self._options.read_ahead if self._handling else self._options.batch_pages):
            self._room.clear()
            await self._room.wait()

    async def _read(self, position: str | None, witness: str | None, start: Start) -> FeedPage:
        beyond_since: float | None = None
        failures = 0
        known: dict[str, str] = {} if witness is None else {"witness": witness}
        while True:
            began = self._clock.monotonic()
            try:
                page = await called(
                    self._feed.read(self._range, position, start=start, limit=self._options.page_size, **known)
                )
            except FeedRangeGoneError:
                raise
            except ForeignPositionError as error:
                beyond_since = began if beyond_since is None else beyond_since
                if error.is_certain or began - beyond_since >= _PATIENCE:
                    raise
                await self._nothing_comes(self._options.poll_interval)
            except Exception as error:  # noqa: BLE001 - whatever it is, such as an answer that was cut: it is read again
                raise_if_lasting(error)
                failures += 1
                self._stats.read_failures += 1
                self._troubles.note(self._what, error, since=began)
                logger.warning("The range %s could not be read: %s", self._range.token, error)
                await self._nothing_comes(max(self._options.poll_interval, self._retry.pause(failures)))
            else:
                self._stats.read(page, self._clock.monotonic() - began, self._clock.monotonic())
                self._troubles.over(self._what)
                return page

    async def _nothing_comes(self, seconds: float) -> None:
        """Wait before the next read; nobody waits for its page meanwhile."""
        self._more = False
        self._arrived.set()
        await self._clock.sleep(seconds)


def _joined(pages: Sequence[FeedPage]) -> FeedPage:
    events = list(chain.from_iterable(page.events for page in pages))
    return pages[-1]._replace(events=events, charge=sum(page.charge for page in pages))
