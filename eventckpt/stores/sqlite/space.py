"""How a SQLite file gives the room of what was removed back to the disk.

A new file is made with a pointer to whatever leads to each page (`auto_vacuum = INCREMENTAL`), so that a page at its
end can take the place of a free one. That is done in steps, each a short transaction among the writer's others. A file
of a version before has no such pointers: it is written anew, once, while nobody has it open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import StoreFullError, StoreNotFoundError
from .. import Space
from .backup import alone_with
from .connection import Connections
from .errors import store_errors
from .schema import pragma, version_of
from .tables import Log

__all__ = ["Room", "free_share", "give_back", "rewrite", "room_of"]

_PAGES: Final = 64
"""Free pages that a step gives back. It writes about three times as many, which is what a save of half a megabyte
writes, and bounds how long others wait to write."""
_LOOKED_AT: Final = 6_400_000
"""Entries of the list of free pages that a step goes through at most: for each page that it gives back, SQLite goes
through that list."""
_STEPS: Final = 16
"""Between two looks at how far the log could be put into the file."""
_LOG: Final = 16_384
"""Pages that the log may hold on top of what it held: where somebody reads all the time, it only grows."""
_INCREMENTAL: Final = 2  # of `PRAGMA auto_vacuum`
_POINTERS: Final = 500  # pages for which there is at least one of pointers; those of 4 KB hold 819

_OLD: Final = (
    "This file was made by an earlier version and does not get shorter by itself: `eventckpt compact --rewrite` writes "
    "it anew, once, while no process has it open."
)
_READ: Final = (
    "Another process has been reading for as long, such as a backup or an export, and needs what was there: "
    "`eventckpt compact` gives the rest back once that is over."
)


class Room(NamedTuple):
    """What of a file's pages is free."""

    pages: int
    free: int
    page_size: int
    gets_shorter: bool
    """Whether it has the pointers for that."""

    @property
    def free_bytes(self) -> int:
        return self.free * self.page_size


def room_of(connection: sqlite3.Connection) -> Room:
    """The room of a connection's file."""
    pages, free, size, mode = (
        pragma(connection, name) for name in ("page_count", "freelist_count", "page_size", "auto_vacuum")
    )
    return Room(pages, free, size, mode == _INCREMENTAL)


async def give_back(connections: Connections) -> Space:
    """See `AuditStore.give_back`."""
    before, room = await connections.writing(partial(_measured, path=connections.path))
    advice = _OLD if room.free and not room.gets_shorter else ""
    if room.free and room.gets_shorter and not await _shorten(connections, room.free):
        advice = _READ
    left = await connections.checkpoint()
    if left.in_file < left.logged and not advice:
        advice = _READ
    after, room = await connections.writing(partial(_measured, path=connections.path))
    return Space(before, after, room.free_bytes, advice)


async def free_share(connections: Connections) -> float:
    """See `AuditStore.free_share`. None of a file that does not get shorter by itself."""
    room = await connections.reading(lambda log: room_of(log.connection))
    return room.free / room.pages if room.gets_shorter and room.pages else 0.0


async def _shorten(connections: Connections, free: int) -> bool:
    """Give so many free pages back; False: not all, or the log would have taken what the file gives."""
    longest, steps = (await connections.checkpoint()).logged + _LOG, 0
    while free > 0 and (given := await connections.writing(_step)):
        free, steps = free - given, steps + 1
        if steps % _STEPS == 0 and (await connections.checkpoint()).logged > longest:
            return False
    return True


def _measured(log: Log, path: Path) -> tuple[int, Room]:
    """The size of a file with its log, and what is free in it."""
    return _size(path), room_of(log.connection)


def _step(log: Log) -> int:
    """Give some free pages back, in a transaction of the caller's; how many."""
    free = pragma(log.connection, "freelist_count")
    pages = min(free, _PAGES, max(1, _LOOKED_AT // max(1, free)))
    for _ in range(pages):  # of several at once, not every version of Python would do more than the first
        log.execute("PRAGMA incremental_vacuum(1)").close()
    if pages:
        _count_the_schema_up(log)
    return pages


def _count_the_schema_up(log: Log) -> None:
    """Tell who has the file open that it may get shorter, as VACUUM does: see `StoreConnection`. To set the number
    itself is refused where SQLite is in its defensive mode."""
    log.execute("CREATE VIEW eventckpt_gave_back AS SELECT 0")
    log.execute("DROP VIEW eventckpt_gave_back")


def rewrite(path: Path) -> Space:
    """Write a store's file anew, without what is free in it and so that it gets shorter by itself from then on. Waits
    for the disk: it is for threads.

    SQLite puts the new content into the log first, and from there into the file: whenever it is killed, the file holds
    what it held.

    Raises:
        StoreLockedError: somebody has the store open; says who, where that can be known. Nothing was done.
        StoreFullError: the disk has not the room. Nothing was done.
        CheckpointStoreError: there is no store, it is another application's, or a step failed.
    """
    path = path.resolve()  # beside where a link leads to SQLite has the other files
    if not path.is_file():
        raise StoreNotFoundError(f"There is no store at {path}. Check the path.")
    before = _size(path)
    with store_errors(path), alone_with(path) as connection:
        if connection is None or version_of(connection, path) == 0:
            raise StoreNotFoundError(f"There is no store in {path}. Check the path.")
        _refuse_without_room(path, room_of(connection))
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # the lock is kept from the transaction to its end
        connection.execute("COMMIT")
        with _temporary_files_in(path.parent):
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        left = room_of(connection)
    return Space(before, _size(path), left.free_bytes)


def _refuse_without_room(path: Path, room: Room) -> None:
    used = room.pages - room.free
    needed = 2 * (used + used // _POINTERS + 1) * room.page_size  # a copy, and the log
    there = shutil.disk_usage(path.parent).free
    if there < needed:
        raise StoreFullError(
            f"To write the store {path} anew takes {needed:,} bytes beside it, and {there:,} are free in "
            f"{path.parent}. Nothing was changed. Free some space there; then try again."
        )


@contextmanager
def _temporary_files_in(folder: Path) -> Generator[None, None, None]:
    """SQLite's temporary files are made in a folder, whose room was looked at."""
    name = "SQLITE_TMPDIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _size(path: Path) -> int:
    """Bytes of a store's file and its log."""
    place = path.resolve()
    return sum(part.stat().st_size for part in (place, place.with_name(f"{place.name}-wal")) if part.exists())
