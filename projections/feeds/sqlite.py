"""The feed of a SQLite file: one range, read by the order of commits."""

from __future__ import annotations

import sqlite3

from eventckpt import CheckpointEvent, SqliteEventStore

from . import EVERYTHING, ChangeFeed, FeedPage, FeedRange, Start

__all__ = ["SqliteChangeFeed"]


class SqliteChangeFeed(ChangeFeed):
    """See `ChangeFeed`. The store is used, not closed."""

    def __init__(self, store: SqliteEventStore) -> None:
        self._store = store

    async def identity(self) -> str:
        """See `ChangeFeed.identity`; leases lie in the same file, so there is nothing to tell apart."""
        return "sqlite"

    async def ranges(self) -> list[FeedRange]:
        """See `ChangeFeed.ranges`."""
        return [EVERYTHING]

    async def read(self, feed_range: FeedRange, continuation: str | None, *, start: Start, limit: int) -> FeedPage:
        """See `ChangeFeed.read`."""
        position = await self._position(continuation, start)
        if continuation is None and start == "now":
            return FeedPage([], _continuation(position))  # the place to begin from, before anything of what follows it
        rows = await self._store.committed(after=position, limit=limit)
        events: list[CheckpointEvent] = [event for _, event in rows]
        end = rows[-1][0] if rows else position
        behind = max(0, await self._last() - end) if len(rows) == limit else 0
        return FeedPage(events, _continuation(end), behind=behind)

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        """See `ChangeFeed.lag`."""
        return max(0, await self._last() - await self._position(continuation, start))

    async def _position(self, continuation: str | None, start: Start) -> int:
        if continuation is None:
            return 0 if start == "beginning" else await self._last()
        return int(continuation.strip('"'))

    async def _last(self) -> int:
        def fetch(connection: sqlite3.Connection) -> int:
            return connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0]

        return await self._store.reading(fetch)


def _continuation(position: int) -> str:
    return f'"{position}"'
