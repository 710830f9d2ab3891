"""What the other ports need of the event store in the same file: its connections, in their threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

from ...events import CheckpointEvent

__all__ = ["FileAccess"]

_T = TypeVar("_T")


class FileAccess(Protocol):
    """The connections of a `SqliteEventStore`, which closes them."""

    async def reading(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T: ...

    async def writing(self, change: Callable[[sqlite3.Connection], _T]) -> _T: ...

    async def committed(self, *, after: int, limit: int) -> list[tuple[int, CheckpointEvent]]: ...
