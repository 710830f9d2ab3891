"""Copies of a SQLite store, and how one takes the store's place: the steps of `eventckpt backup` and `restore`.

A copy is made beside the place that it is for, under a name of its own, and is one closed file before it gets the other
name. Everything here waits for the disk: it is for threads.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import (
    CheckpointStoreError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
)
from .errors import primary_code, store_errors
from .guarded import BESIDE, connect, refuse_what_is_no_file
from .schema import APPLICATION_ID, differences, give_new_id, has_sessions, migrate, pragma, transaction, version_of
from .tables import RUNS, SESSIONS, Tables

__all__ = [
    "StoreContent",
    "alone_with",
    "belongings",
    "copy_beside",
    "copy_store",
    "finish",
    "give_name",
    "look_over",
    "replace_store",
]

_STEP: Final = 2048  # pages that are copied between two looks at whether to go on
_WAIT: Final = 5.0  # seconds for a lock of another process
_MAGIC: Final = b"SQLite format 3\0"  # what a database begins with
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR)


class StoreContent(NamedTuple):
    """How much is in a store."""

    events: int
    runs: int
    position: int
    """The highest that was given to an event of a run."""
    session_events: int
    sessions: int
    """Each branch of one by itself."""


def belongings(file: Path) -> list[Path]:
    """The files beside a database that SQLite takes for a part of it, as far as there are any."""
    return [beside for suffix in BESIDE if (beside := _beside(file, suffix)).exists()]


@contextmanager
def copy_beside(file: Path) -> Generator[Path, None, None]:
    """An empty file in the folder of `file`, of a name of its own; whatever has that name at the end is removed.

    Raises:
        StoreReadOnlyError: it cannot be made.
        StoreFullError: there is no room for what was to be written to it.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name[:50]}.", suffix=".copying", dir=file.parent)
    except OSError as error:
        raise StoreReadOnlyError(f"No file can be made in {file.parent}: {error}") from error
    os.close(descriptor)
    copy = Path(name)
    try:
        yield copy
    except StoreFullError as error:  # of whichever file the work is said to be on: nothing else is written to
        raise StoreFullError(
            f"No room is left in {file.parent} for a copy. Nothing was changed. Free some space there, or give another "
            "place; then try again."
        ) from error
    finally:
        for suffix in ("", *BESIDE):
            _beside(copy, suffix).unlink(missing_ok=True)


def copy_store(source: Path, copy: Path, step: Callable[[int, int], None], *, is_live: bool) -> None:
    """Copy all that is committed at the beginning, also what is in the -wal only, whoever writes meanwhile.

    Args:
        source: the file of a store.
        copy: an empty file.
        step: called between two steps with the pages that are left, and all; what it raises ends the copying.
        is_live: the source is opened as a store is, where it can be written. Otherwise nothing beside it is made, or
            changed.

    Raises:
        CheckpointStoreError: the source cannot be read, is not a store, or there is no room for the copy.
    """
    source = source.resolve()  # beside where a link leads to SQLite has the other files
    is_written = is_live and os.access(source, os.W_OK) and os.access(source.parent, os.W_OK)
    how = "mode=rw" if is_written else "mode=ro" if belongings(source) else "mode=ro&immutable=1"
    with store_errors(source), closing(_connect(source, how)) as opened, closing(_connect(copy)) as target:
        opened.execute("BEGIN")  # with its own view of the file kept, others' commits do not make it begin again
        if version_of(opened, source) == 0:
            raise StoreFormatError(f"{source} is empty: there is no store in it.")
        try:
            opened.backup(target, pages=_STEP, progress=lambda _, left, pages: step(left, pages))
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_IOERR:
                raise
            raise CheckpointStoreError(
                f"{source} cannot be copied into {copy.parent} ({error}). Check both disks, and how large a file may "
                "be there (`ulimit -f`)."
            ) from error


def look_over(copy: Path, named: Path) -> StoreContent:
    """Bring a copy up to the current schema, as opening it would, and check its pages and its schema.

    Args:
        named: what the errors call it.

    Raises:
        StoreCorruptError, StoreFormatError: what is wrong.
    """
    with store_errors(named), closing(_connect(copy)) as connection:
        damage = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
        if damage != ["ok"]:
            raise StoreCorruptError(
                f"{named} is damaged: {'; '.join(damage)}. `sqlite3 FILE .recover` rescues what is readable."
            )
        migrate(connection, named)
        if different := differences(connection):
            raise StoreFormatError(
                f"{named} has not the schema of a store: {'; '.join(different)}. Move its runs into a new store "
                "(export, import)."
            )
        (position,) = connection.execute(
            f"SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = '{RUNS.events}' AND typeof(seq) = 'integer'"
        ).fetchone()
        sessions = _counted(connection, SESSIONS) if has_sessions(connection) else (0, 0)
        return StoreContent(*_counted(connection, RUNS), position, *sessions)


def _counted(connection: sqlite3.Connection, tables: Tables) -> tuple[int, int]:
    """How many events a log has, and of how many streams."""
    return connection.execute(
        f"SELECT (SELECT count(*) FROM {tables.events}),"
        f" (SELECT count(*) FROM (SELECT DISTINCT workflow_name, run_id FROM {tables.events}))"
    ).fetchone()


def finish(copy: Path, *, like: Path, in_its_place: bool, as_another: bool) -> None:
    """Make a copy one closed file that is on the disk.

    Args:
        like: the file whose owner it gets.
        in_its_place: it is to replace that file, whose permissions it gets as well, and whose owner must be able to go
            on with it. Otherwise it is for its owner alone, who is the caller where only root could give it the other.
        as_another: give it an id of its own, so that who has the original open, or remembers it, takes it for another.

    Raises:
        StoreReadOnlyError: it cannot be given the owner.
    """
    with store_errors(copy):
        with closing(_connect(copy)) as connection:
            if as_another:
                with transaction(connection, "IMMEDIATE"):
                    give_new_id(connection)
            if pragma(connection, "journal_mode = DELETE") != "delete":
                raise CheckpointStoreError(f"The copy {copy} cannot be made one file.")
        _give(copy, like, in_its_place=in_its_place)
        _flush(copy)


def _give(copy: Path, like: Path, *, in_its_place: bool) -> None:
    """Give a copy the owner of a file, and the permissions where it replaces that one: those last, so that nobody else
    can read it meanwhile."""
    state, own, mode = like.stat(), copy.stat(), 0o777
    if own.st_uid != state.st_uid:
        try:
            os.chown(copy, state.st_uid, state.st_gid)
        except PermissionError as error:
            if in_its_place:
                raise StoreReadOnlyError(
                    f"The store {like} belongs to the user {state.st_uid}, who could not go on with a file of another "
                    "user. Nothing was changed. Restore as that user, or as root."
                ) from error
    if copy.stat().st_gid != state.st_gid:
        try:
            os.chown(copy, -1, state.st_gid)
        except PermissionError:
            mode = 0o700  # what the group may, and others, was not meant for the caller's group
    copy.chmod(state.st_mode & mode if in_its_place else 0o600)


def give_name(copy: Path, file: Path, *, replace: bool) -> None:
    """Give a finished copy its name, in one step.

    Raises:
        FileExistsError: there is such a file, and it is not to be replaced.
    """
    if replace:
        copy.replace(file)
    else:
        _link(copy, file)
        copy.unlink(missing_ok=True)
    _flush(file.parent)


def replace_store(copy: Path, path: Path, tell: Callable[[str], None]) -> list[Path]:
    """Put a finished copy in the place of a store, which is set aside; what was set aside, in the order of that.

    At every moment there is one store under the name, the old one or the new one. Where the old one is damaged so that
    its log cannot be put into it, that log is set aside first.

    Args:
        path: the store's file, which may be missing, or damaged.
        tell: called before anything is done, with what to do if it is not finished.

    Raises:
        StoreLockedError: somebody has the store open; says who, where that can be known. Nothing was done.
        StoreFormatError: the file is another application's. Nothing was done.
        CheckpointStoreError: a step failed; everything has the name that it had.
    """
    aside = path.with_name(f"{path.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    with store_errors(path), alone_with(path):
        moves = [(part, _beside(aside, part.name.removeprefix(path.name))) for part in belongings(path)]
        if path.exists():
            tell(
                f"The store that is there is kept as {aside}"
                + (f", with {', '.join(there.name for _, there in moves)}" if moves else "")
                + ". If this is interrupted: restore again, or give those back the names that they had."
            )
        with _given_back_on_failure(moves):
            for part, there in moves:
                part.rename(there)
            if path.exists():
                _set_aside(path, aside)
                moves.append((path, aside))
            give_name(copy, path, replace=True)
    return [there for _, there in moves]


@contextmanager
def _given_back_on_failure(moves: list[tuple[Path, Path]]) -> Generator[None, None, None]:
    """Where a step fails, what was set aside gets its name again."""
    try:
        yield
    except BaseException:
        for part, there in moves:
            if there.exists() and not part.exists():
                there.rename(part)
            elif _state(there) and _state(part) and there.samefile(part):
                there.unlink()
        raise


def _set_aside(path: Path, aside: Path) -> None:
    try:
        os.link(path, aside)
    except OSError as error:
        raise CheckpointStoreError(
            f"The store {path} cannot be kept as {aside.name} ({error}). Move it away, with no process at work, and "
            "restore then."
        ) from error
    _flush(path.parent)


def _link(copy: Path, file: Path) -> None:
    try:
        os.link(copy, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; there, the look and the step are two
        if file.exists():
            raise FileExistsError(file) from None
        copy.rename(file)


@contextmanager
def alone_with(path: Path) -> Generator[sqlite3.Connection | None, None, None]:
    """Nobody has the store open, or can open it, until this is over; and its log was put into its file. Gives the
    connection whose transaction sees to that; None where the file is no database.

    Raises:
        StoreLockedError: somebody has it open; says who, where that can be known.
        StoreFormatError: it is another application's.
    """
    if users := _users(path):
        raise _in_use(path, users)
    if not _is_database(path):  # SQLite would lock nothing, and remove the log that is to be kept
        yield None
        return
    with closing(_connect(path)) as connection:
        try:
            _refuse_others(connection, path)
            connection.execute("PRAGMA journal_mode = DELETE")  # refused while any other connection is open
            connection.execute("BEGIN EXCLUSIVE")
            if pragma(connection, "journal_mode") != "delete":  # somebody came in between
                raise _in_use(path, [])
        except sqlite3.DatabaseError as error:
            code = primary_code(error)
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _in_use(path, []) from error
            if code not in _DAMAGED:
                raise
        yield connection


def _is_database(path: Path) -> bool:
    """Whether SQLite would open the file. Only for a file that this process has not open: it would lose its locks."""
    refuse_what_is_no_file(path)
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except FileNotFoundError:
        return False


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    stamp = pragma(connection, "application_id")
    if stamp != APPLICATION_ID and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise StoreFormatError(f"{path} is a SQLite database of another application; it was left as it is.")


def _in_use(path: Path, users: list[str]) -> StoreLockedError:
    who = f" by {', '.join(users)}" if users else ""
    return StoreLockedError(
        f"The store {path} is open{who}. Stop every process that uses it, also those that wait for work; then do this"
        " again."
    )


def _users(path: Path) -> list[str]:
    """The processes that have the store's files open, as far as the system tells: only Linux does, and of the processes
    of others only to root."""
    wanted = {(state.st_dev, state.st_ino) for file in (path, *belongings(path)) if (state := _state(file))}
    if not wanted:
        return []
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        if wanted & set(_open_in(process)):
            command = _read(process / "comm")
            found.append(f"process {process.name}" + (f" ({command!r})" if command else ""))
    return found


def _open_in(process: Path) -> Generator[tuple[int, int], None, None]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # another user's, or over by now
        return
    for descriptor in descriptors:
        if state := _state(descriptor):
            yield state.st_dev, state.st_ino


def _state(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _connect(file: Path, how: str = "mode=rw") -> sqlite3.Connection:
    return connect(file, f"{file.as_uri()}?{how}", timeout=_WAIT, is_uri=True)


def _flush(path: Path) -> None:
    """What was written to a file, or which names a folder has, survives the loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
