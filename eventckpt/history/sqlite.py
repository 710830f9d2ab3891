"""The ready-made history provider in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar, Literal

from ..stores.sqlite import SqliteEventStore
from .provider import Dedupe, EventHistoryProvider, OnConflict, OnUnreadable

__all__ = ["SqliteHistoryProvider"]


class SqliteHistoryProvider(EventHistoryProvider):
    """Chat history in one SQLite file, which may be that of a `SqliteCheckpointStorage`. Constructing it does no I/O,
    and no `async with` is needed.

    Args:
        path: the file; it and its folder are created on first use. Any number of processes may share it.
        synchronous, busy_timeout: see `SqliteEventStore`.

    The other arguments are those of `EventHistoryProvider`.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "sqlite_history"

    def __init__(
        self,
        path: str | os.PathLike[str],
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        load_messages: bool = True,
        store_outputs: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        skip_excluded: bool = False,
        max_messages: int | None = None,
        actor: str | None = None,
        on_conflict: OnConflict = "branch",
        dedupe: Dedupe = "ids",
        on_unreadable: OnUnreadable = "raise",
        allowed_checkpoint_types: Iterable[str] | None = None,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 30.0,
    ) -> None:
        self._engine = SqliteEventStore(path, synchronous=synchronous, busy_timeout=busy_timeout)
        super().__init__(
            self._engine,
            source_id,
            load_messages=load_messages,
            store_outputs=store_outputs,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            skip_excluded=skip_excluded,
            max_messages=max_messages,
            actor=actor,
            on_conflict=on_conflict,
            dedupe=dedupe,
            on_unreadable=on_unreadable,
            allowed_checkpoint_types=allowed_checkpoint_types,
        )

    @property
    def store(self) -> SqliteEventStore:
        """The engine; its `sessions()` has the history."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the file. May be called more than once."""
        await self._engine.close()
