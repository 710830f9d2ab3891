"""The feed of a SQLite file: one range, read by the order of commits."""

from __future__ import annotations

from typing import NamedTuple

from ...events import CheckpointEvent
from ..change_feed import EVERYTHING, ChangeFeed, FeedPage, FeedRange, ForeignPositionError, Start, number_of
from .connection import Connections
from .queries import committed
from .tables import Log

__all__ = ["SqliteChangeFeed"]


class SqliteChangeFeed(ChangeFeed):
    """See `ChangeFeed`. Made by `SqliteEventStore.change_feed`. A witness is the digest of the event at a position."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def identity(self) -> str:
        """See `ChangeFeed.identity`; leases lie in the same file, so there is nothing to tell apart."""
        return "sqlite"

    async def ranges(self) -> list[FeedRange]:
        """See `ChangeFeed.ranges`."""
        return [EVERYTHING]

    async def read(
        self,
        feed_range: FeedRange,
        continuation: str | None,
        *,
        start: Start,
        limit: int,
        witness: str | None = None,
    ) -> FeedPage:
        """See `ChangeFeed.read`."""
        if continuation is None and start == "now":
            now = await self._seen_at(None)
            return FeedPage([], _continuation(now.last), witness=now.digest)  # the place to begin from, before all else
        position = 0 if continuation is None else number_of(feed_range, continuation)
        rows = await self._connections.reading(lambda log: committed(log, after=position, limit=limit))
        # Looked at afterwards: had the file become another one in between, this would be of the other one, too.
        seen = await self._seen_at(position)
        _check(feed_range, position, witness, seen)
        events: list[CheckpointEvent] = [event for _, event in rows]
        end, digest = (rows[-1][0], events[-1].digest) if rows else (position, seen.digest or witness)
        behind = max(0, seen.last - end) if len(rows) == limit else 0
        return FeedPage(events, _continuation(end), behind=behind, witness=digest)

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        """See `ChangeFeed.lag`."""
        if continuation is None and start == "now":
            return 0
        position = 0 if continuation is None else number_of(feed_range, continuation)
        seen = await self._seen_at(position)
        _check(feed_range, position, None, seen)
        return max(0, seen.last - position)

    async def _seen_at(self, position: int | None) -> _Seen:
        """What the file says of a position; None: of the last one."""

        def fetch(log: Log) -> _Seen:
            last, highest, digest = log.execute(
                f"""
                SELECT last, max(last, coalesce((SELECT max(seq) FROM sqlite_sequence
                        WHERE name = '{log.events}' AND typeof(seq) = 'integer'), 0)),
                    (SELECT digest FROM {log.events} WHERE position = coalesce(?, last))
                FROM (SELECT coalesce(max(position), 0) AS last FROM {log.events})""",
                (position,),
            ).fetchone()
            return _Seen(last, highest, None if digest is None else str(digest))  # as a damaged event is given

        return await self._connections.reading(fetch)


class _Seen(NamedTuple):
    """What a file says of a position."""

    last: int
    """The last position that an event has."""
    highest: int
    """The highest one that an event ever had: removing events is no restore."""
    digest: str | None
    """Of the event at the position; None where it was removed."""


def _check(feed_range: FeedRange, position: int, witness: str | None, seen: _Seen) -> None:
    """Refuses a position that this file never gave. Of one whose event was removed, only the number tells."""
    if position > seen.highest:
        why = f"lies beyond the end: {seen.highest} is the highest that the file ever had"
        raise ForeignPositionError(feed_range, _continuation(position), why)
    if witness is not None and seen.digest not in (witness, None):
        raise ForeignPositionError(feed_range, _continuation(position), "is that of another event than it was")


def _continuation(position: int) -> str:
    return f'"{position}"'
