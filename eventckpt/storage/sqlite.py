"""The ready-made storage in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from ..codec import OnDrift, Upcaster
from ..stores.sqlite import SqliteEventStore
from .checkpoint_storage import DEFAULT_CACHE_BYTES, EventCheckpointStorage, Latest, OnConflict, OnSaveError

__all__ = ["SqliteCheckpointStorage"]


class SqliteCheckpointStorage(EventCheckpointStorage):
    """Checkpoints in one SQLite file. Constructing it does no I/O; no `async with` is needed.

    Args:
        path: the file; it and its folder are created on first use. Any number of processes may share it.
        synchronous: how far an acknowledged save is safe; see `SqliteEventStore`.
        busy_timeout: seconds to wait for another process's write; see `SqliteEventStore`.

    The other arguments are those of `EventCheckpointStorage`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        allowed_checkpoint_types: list[str] | None = None,
        on_conflict: OnConflict = "fork",
        on_save_error: OnSaveError | None = None,
        actor: str | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        latest: Latest = "log",
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 30.0,
    ) -> None:
        self._engine = SqliteEventStore(path, synchronous=synchronous, busy_timeout=busy_timeout)
        super().__init__(
            self._engine,
            allowed_checkpoint_types=allowed_checkpoint_types,
            on_conflict=on_conflict,
            on_save_error=on_save_error,
            actor=actor,
            cache_bytes=cache_bytes,
            latest=latest,
            on_drift=on_drift,
            upcasters=upcasters,
        )

    @property
    def store(self) -> SqliteEventStore:
        """See `EventCheckpointStorage.store`."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the file. May be called more than once."""
        try:
            await super().close()
        finally:
            await self._engine.close()
