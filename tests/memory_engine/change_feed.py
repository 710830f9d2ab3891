"""The feed of a memory: one range, in the order of commits."""

from __future__ import annotations

from eventckpt.stores.change_feed import (
    EVERYTHING,
    ChangeFeed,
    FeedPage,
    FeedRange,
    ForeignPositionError,
    Start,
    number_of,
)

from .data import Door


class MemoryChangeFeed(ChangeFeed):
    """A position is that of the event before."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def identity(self) -> str:
        return "memory"

    async def ranges(self) -> list[FeedRange]:
        return [EVERYTHING]

    async def read(
        self, feed_range: FeedRange, continuation: str | None, *, start: Start, limit: int, witness: str | None = None
    ) -> FeedPage:
        after = self._position(feed_range, continuation, start)
        there = self._door.data.log.get(after)
        if witness is not None and there is not None and there.digest != witness:
            raise ForeignPositionError(feed_range, str(after), "is that of another event than it was")
        if continuation is None and start == "now":
            return FeedPage([], f'"{after}"', witness=there and there.digest)
        left = [(position, event) for position, event in self._door.data.log.items() if position > after]
        given = left[:limit]
        end = given[-1][0] if given else after
        digest = given[-1][1].digest if given else (there and there.digest) or witness
        return FeedPage(
            [event.header() for _, event in given], f'"{end}"', behind=len(left) - len(given), witness=digest
        )

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        after = self._position(feed_range, continuation, start)
        return sum(position > after for position in self._door.data.log)

    def _position(self, feed_range: FeedRange, continuation: str | None, start: Start) -> int:
        data = self._door.data
        if continuation is None:
            return data.last_position if start == "now" else 0
        after = number_of(feed_range, continuation)
        if after > data.last_position:
            raise ForeignPositionError(feed_range, continuation, f"lies beyond the end, {data.last_position}")
        return after
