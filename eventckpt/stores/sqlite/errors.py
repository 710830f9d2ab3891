"""What SQLite reports, in the words of `eventckpt.errors`: which store it is about, and what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...errors import (
    CheckpointStoreError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StreamConflict,
)
from .tables import RUNS

__all__ = ["passing", "primary_code", "store_errors"]

_DAMAGE: Final = (sqlite3.SQLITE_IOERR_DATA, sqlite3.SQLITE_IOERR_CORRUPTFS)
"""Of the errors of a disk those that say that what lies there is no longer what was written."""
_BESIDE: Final = frozenset(RUNS) - {RUNS.events}
"""The tables beside the events, which the first files of 0.1.0 have not all: whoever only looks finds nothing there."""
_PASSING: Final = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)
_OPENED_AT_ONCE: Final = 4  # the file, its -wal, its -shm, and one that SQLite uses for a moment


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
    return _passing_error(path, error) or _lasting_error(path, error, read_only=read_only)


def _passing_error(path: Path, error: Exception) -> CheckpointStoreError | None:
    """What passes by itself; None: it is for a person."""
    if isinstance(error, OSError):
        return passing(path, error)
    code = primary_code(error)
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreLockedError(
                f"Another process kept the store {path} locked for too long. Trying again is safe; "
                "if it persists, look for a process that holds a transaction open."
            )
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_IOERR if getattr(error, "sqlite_errorcode", None) not in _DAMAGE:
            return StoreUnavailableError(
                f"The disk refused what the store {path} asked of it ({_named(error)}). Trying again is safe. If it "
                "stays so, look for a quota, a limit of how large a file may be (`ulimit -f`), a share that is gone or "
                "a disk that fails."
            )
        case sqlite3.SQLITE_SCHEMA:
            return StoreUnavailableError(
                f"The schema of the store {path} was changed each time that a statement began. Trying again is safe; "
                "look for a process that goes on changing it."
            )
        case sqlite3.SQLITE_CANTOPEN if _is_out_of_files():
            return StoreUnavailableError(
                f"The store {path} cannot be opened ({error}), as this process has as many files open as it may. "
                "Trying again is safe; `ulimit -n` says how many that are."
            )
        case sqlite3.SQLITE_NOMEM | None if code or isinstance(error, MemoryError):
            return StoreUnavailableError(
                f"For the store {path} the memory did not suffice. Trying again is safe. If it stays so, what its "
                "schema makes of a statement may be too long for SQLite: `eventckpt doctor` names what was changed "
                "in it."
            )
        case _:
            return None


def _lasting_error(path: Path, error: Exception, *, read_only: bool) -> CheckpointStoreError:
    match primary_code(error):
        case sqlite3.SQLITE_ERROR if read_only and str(error).startswith("no such table"):
            missing = str(error).rpartition(": ")[2].rpartition("_")[2]
            kind = StoreNotFoundError if missing in _BESIDE else StoreFormatError
            return kind(
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
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_IOERR:
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
        case _:
            return CheckpointStoreError(f"The store {path} failed ({type(error).__name__}): {error}")


def passing(path: Path, error: OSError) -> CheckpointStoreError | None:
    """What the system refused about the store's files where that passes by itself; None where it may be for good, such
    as without permission."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    if error.errno in _PASSING:
        return StoreUnavailableError(
            f"The store {path} cannot be reached for now ({error}). Trying again is safe. If it stays so, look for a "
            "share that is gone or a disk that fails; `ulimit -n` says how many files a process may open."
        )
    return None


def _full(path: Path) -> StoreFullError:
    return StoreFullError(f"No room is left for the store {path}. Free some space; then save again.")


def _is_out_of_files() -> bool:
    """Whether this process can open no further files, which SQLite does not tell from a file that may not be opened.
    What is tried is none of the store's files: closing one of those would let go of the locks on it."""
    opened: list[int] = []
    try:
        for _ in range(_OPENED_AT_ONCE):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - those before one that fails are closed
    except OSError as error:
        return error.errno in _PASSING
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def _named(error: Exception) -> str:
    """SQLite's words, and its name for what happened, which says more."""
    return f"{error}, {getattr(error, 'sqlite_errorname', 'without a name')}"


def primary_code(error: Exception) -> int | None:
    """SQLite's code without the details; None where the error is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return code and code & 0xFF
