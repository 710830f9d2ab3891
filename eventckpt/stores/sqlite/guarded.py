"""How every connection to a store's file is made: whatever somebody wrote into its schema does no harm, and ends.

A view, a trigger, a generated column or an index can make any statement of ours run on and on, in a thread that nobody
can stop. So each statement may take a number of steps of SQLite's machine that honest work never comes near to: more
where the file is large, since what a store is asked costs so many steps for each row at most. Steps are counted, not
seconds, which say nothing on a busy machine; one that works on a long value takes longer than others.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, TypeVar

from ...errors import StoreReadOnlyError
from .errors import passing
from .schema import text

__all__ = ["BESIDE", "connect", "refuse_what_is_no_file"]

_T = TypeVar("_T")

BESIDE: Final = ("-wal", "-shm", "-journal")
"""What the files end in that SQLite takes for a part of a database."""
_STEPS: Final = 10_000_000
"""That a statement may take in a file of any size: less than a second."""
_STEPS_FOR_A_BYTE: Final = 4
"""That are added for each byte of the file. The check of the pages takes 0.03 to 0.2, all else less."""
_BETWEEN: Final = 10_000
"""Steps between two looks at whether a statement is to go on."""
_LONGEST_PROGRAM: Final = 100_000
"""Steps that a statement may be translated into, which takes long where views are made of views. The longest of ours
has three for each parameter, of which SQLite takes 32,766."""
_TRIGGERS: Final = 1
"""How deep triggers may call triggers. Ours call none; steps are looked at in loops only, and forty triggers that each
call the next one twice have no loop."""
_execute: Final = sqlite3.Connection.execute
_BLOCK: Final = 512  # bytes in what `st_blocks` counts


def connect(file: Path, database: str, *, timeout: float, is_uri: bool) -> sqlite3.Connection:
    """A connection on which nothing runs without end; it may be handed from thread to thread.

    Args:
        file: that of the store.
        database: how SQLite is told of it.
        timeout: seconds to wait for a lock of another process.
        is_uri: whether that is a URI.

    Raises:
        StoreReadOnlyError: see `refuse_what_is_no_file`.
    """
    refuse_what_is_no_file(file)
    connection = sqlite3.connect(
        database,
        uri=is_uri,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=_GuardedConnection,
    )
    connection.guard(file)
    return connection


def refuse_what_is_no_file(path: Path) -> None:
    """Raise where the file, or one of those beside it that SQLite takes for a part of it, is there and is none. Whoever
    opened a pipe would wait until somebody writes to it, and a device may have no end.

    Raises:
        StoreReadOnlyError: one is a folder, a pipe, a socket or a device, or it cannot be told.
        StoreUnavailableError: it cannot be told for now.
    """
    try:
        if not _is_file_or_missing(path):
            raise StoreReadOnlyError(
                f"The path {path} cannot be opened: it is that of a folder or a device, which was left as it is. Give "
                "the store the path of a file."
            )
        place = path.resolve()  # where a link leads to, SQLite looks for the other files
        beside = [place.with_name(place.name + suffix) for suffix in BESIDE]
        if wrong := [each for each in beside if not _is_file_or_missing(each)]:
            raise StoreReadOnlyError(
                f"The store {path} cannot be opened: {wrong[0]}, which would be a part of it, is a folder or a device, "
                "and was left as it is. Nothing of a store makes such a thing: move it away."
            )
    except (OSError, RuntimeError) as error:  # of links that lead in a circle
        passes = passing(path, error) if isinstance(error, OSError) else None
        raise passes or StoreReadOnlyError(f"The store {path} cannot be looked at: {error}") from error


def _is_file_or_missing(path: Path) -> bool:
    try:
        return S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True


class _GuardedConnection(sqlite3.Connection):
    """A connection whose statements end: one that takes too many steps fails as interrupted."""

    _steps: _Steps

    def guard(self, file: Path) -> None:
        self._steps = _Steps(file)
        self.text_factory = text
        self.execute("PRAGMA trusted_schema = OFF")  # no function that could do harm is called by the schema
        if sys.version_info >= (3, 12):  # and no statement can damage the file; older ones have no call for it
            self.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        self.setlimit(sqlite3.SQLITE_LIMIT_VDBE_OP, _LONGEST_PROGRAM)
        self.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, _TRIGGERS)
        self.set_progress_handler(self._steps.are_too_many, _BETWEEN)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self._steps.taken = 0
        return _execute(self, sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        return super().executemany(sql, self._steps.begin_with_each(parameters))


class _Steps:
    """How many a statement has taken. It has no reference to the connection, which so needs no collector to go."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.taken = 0
        """Set to none where a statement begins: it costs each of them something."""

    def begin_with_each(self, parameters: Iterable[_T]) -> Iterator[_T]:
        """The same parameters; with each the statement begins anew."""
        for each in parameters:
            self.taken = 0
            yield each

    def are_too_many(self) -> bool:
        """Whether the statement is to end; called each time that it has taken some more."""
        self.taken += _BETWEEN
        return self.taken > _STEPS and self.taken > _STEPS + _STEPS_FOR_A_BYTE * _bytes_of(self._file)


def _bytes_of(file: Path) -> int:
    """How much a file has on the disk, and its log: not what its header, or its length, claims."""
    return sum(_allocated(part) for part in (file, file.with_name(f"{file.name}-wal")))


def _allocated(file: Path) -> int:
    try:
        state = os.stat(file)  # noqa: PTH116 - called by SQLite, between two steps
    except OSError:
        return 0
    blocks: int = getattr(state, "st_blocks", 0)  # some systems do not say
    return blocks * _BLOCK or state.st_size
