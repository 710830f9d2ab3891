"""The ready-made session store in one SQLite file."""

from __future__ import annotations

import os
from typing import Literal

from ..stores.sqlite import SqliteEventStore
from .session_store import EventSessionStore

__all__ = ["SqliteSessionStore"]


class SqliteSessionStore(EventSessionStore):
    """Sessions in one SQLite file, which may have checkpoints too. Constructing it does no I/O; no `async with` is
    needed.

    Args:
        path: the file; it and its folder are created on first use. Any number of processes may share it.
        actor: who writes, for the events.
        synchronous: how far an acknowledged write is safe; see `SqliteEventStore`.
        busy_timeout: seconds to wait for another process's write; see `SqliteEventStore`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        actor: str | None = None,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 30.0,
    ) -> None:
        self._engine = SqliteEventStore(path, synchronous=synchronous, busy_timeout=busy_timeout)
        super().__init__(self._engine, actor=actor)

    @property
    def store(self) -> SqliteEventStore:
        """See `EventSessionStore.store`."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the file. May be called more than once."""
        await self._engine.close()
