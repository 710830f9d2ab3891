"""What SQLite reports, in the words of `eventckpt.errors`: which store it is about, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ...errors import (
    CheckpointStoreError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StreamConflict,
)

__all__ = ["primary_code", "store_errors"]


@contextmanager
def store_errors(path: Path, *, read_only: bool = False) -> Generator[None, None, None]:
    """What SQLite reports in the block, as a named error; `read_only` where the file is only looked at."""
    try:
        yield
    except (CheckpointStoreError, StreamConflict):
        raise
    except Exception as error:
        raise _store_error(path, error, read_only=read_only) from error


def _store_error(path: Path, error: Exception, *, read_only: bool) -> CheckpointStoreError:
    code = primary_code(error)
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreLockedError(
                f"Another process kept the store {path} locked for too long. Trying again is safe; "
                "if it persists, look for a process that holds a transaction open."
            )
        case sqlite3.SQLITE_FULL:
            return StoreFullError(f"No room is left for the store {path}. Free some space; then save again.")
        case sqlite3.SQLITE_ERROR if read_only and str(error).startswith("no such table"):
            return StoreFormatError(
                f"The store {path} lacks what this version keeps beside the events ({error}): an older eventckpt wrote "
                "it, or somebody changed it. It is only looked at, and was left as it is. Opened once to be written, "
                "it is brought up to date."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM if read_only:
            return StoreReadOnlyError(
                f"The store {path} cannot be read as it lies there ({error}). Check its permissions. What an "
                "interrupted process left in a -wal or a -journal beside it can be read only where the folder can be "
                "written: copy the file there, together with what is beside it."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreReadOnlyError(
                f"The store {path} cannot be opened for writing ({error}). Check the path and its permissions; "
                "SQLite also writes -wal and -shm files beside it."
            )
        case sqlite3.SQLITE_NOTADB:
            return StoreFormatError(
                f"{path} is not a SQLite database; it was left as it is. Give the store its own file."
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreCorruptError(
                f"The store {path} is damaged ({error}). Copy the file and its -wal away before anything else; "
                "`sqlite3 FILE .recover` rescues what is readable."
            )
        case sqlite3.SQLITE_ERROR if str(error).startswith("too many levels of trigger"):
            return StoreFormatError(
                f"In the store {path} a trigger calls triggers, which none of a store does; nothing was written. "
                "Somebody changed its schema: `eventckpt doctor` names what."
            )
        case sqlite3.SQLITE_INTERRUPT:  # by `guarded`: nobody else does
            return StoreFormatError(
                f"The store {path} was asked something that takes more steps than anything does in a file of its size, "
                "and it was stopped; nothing was written. Somebody has put a view, a trigger or a column that runs on "
                "and on into its schema, or taken an index away: `eventckpt doctor` names what was changed."
            )
        case None if isinstance(error, MemoryError):
            return CheckpointStoreError(
                f"For the store {path} the memory did not suffice, or what its schema makes of a statement is too long "
                "for SQLite: `eventckpt doctor` names what was changed in it."
            )
        case _:
            return CheckpointStoreError(f"The store {path} failed ({type(error).__name__}): {error}")


def primary_code(error: Exception) -> int | None:
    """SQLite's code without the details; None where the error is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return code and code & 0xFF
