"""Whether the file under an open store is still the one that it opened, and holds what it held.

SQLite goes on with a file that was moved, removed or replaced, since it has it open: what it then commits is nowhere
that anybody looks. So every transaction looks at the names again, and where another connection, or something that is no
SQLite, has written to the file, at what stands in it: the store's id, the highest position that was given, and the
event that was the last one seen. A write looks once more after its commit, before anybody is told of it.

A file that is only looked at may be read as one that does not change. Its `Stamp` tells whether it did.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISLNK
from typing import Any, Final, Literal, NamedTuple

from ...errors import CheckpointStoreError, StoreNotFoundError, StoreReadOnlyError, StoreReplacedError
from .errors import passing, primary_code
from .schema import (
    APPLICATION_ID,
    has_events,
    has_sessions,
    make_sessions,
    pragma,
    store_id,
    transaction,
    version_of,
    without_events,
)
from .tables import LOGS, RUNS, SESSIONS, Log, Tables

__all__ = ["Checkpointed", "Moved", "Stamp", "StoreConnection", "StoreFile"]

_BESIDE: Final = ("-wal", "-shm")
_WHILE_WRITING: Final = ("-wal", "-journal")  # one of them is there before the file is written to
_TRIES: Final = 8  # of opening a file that is replaced each time

_NOT_A_STORE: Final = (
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,  # pages of two files
    sqlite3.SQLITE_ERROR,  # no such table
)
_ADVICE: Final = "This store object takes no more work. Make a new one"
_COMMITTED: Final = " What was just committed was not acknowledged; it may be in the file that was moved away."


class _Seen(NamedTuple):
    """What stood in the file: the id of the store, and the last event of a log."""

    store_id: str | None
    position: int
    digest: Any
    """Text, unless the row is damaged."""


class Stamp(NamedTuple):
    """A file that nobody writes to. Another stamp, or none, afterwards: somebody may have written to it meanwhile."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    """Both in nanoseconds, as far as the system counts them; whoever sets the one cannot set the other."""


class Checkpointed(NamedTuple):
    """How far a log was put into its file, in pages."""

    logged: int
    """In the log; none where it was emptied."""
    in_file: int
    """Of these; the others stay out of it while somebody reads what they would write over."""


class Moved(Exception):  # noqa: N818 - a way out of a transaction, which is made again
    """What a file that does not change was found to hold is not of one moment: it did change."""


class StoreFile:
    """The file of one store object, whose connections share what is known of it. For the threads of both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[Tables, _Seen] = {}
        """Of each log the last that a connection saw; whatever is seen by a transaction that begins later is no older.
        Another dictionary each time."""
        self._lock = threading.Lock()
        self._place = str(path)  # of a Path, a look takes thrice as long, and there are several for each transaction
        self._file: tuple[int, int] | None = None
        self._beside: dict[str, tuple[int, int]] = {}
        self._replaced: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether a connection has the file open."""
        return self._file is not None

    def refuse_if_replaced(self) -> None:
        """Raise what was found before, if it was found that the file is another one."""
        if self._replaced is not None:
            raise StoreReplacedError(self._replaced)

    def replaced(self, what: str, advice: str) -> StoreReplacedError:
        """The error that says what became of the file; it is that of every later call, too."""
        with self._lock:
            if self._replaced is None:
                self._replaced = f"The store {self.path} {what} while this process had it open. {_ADVICE}{advice}"
            return StoreReplacedError(self._replaced)

    def open(
        self,
        connect: Callable[[Stamp | None], sqlite3.Connection],
        prepare: Callable[[sqlite3.Connection, int], None],
        make: Callable[[], None] | None,
    ) -> StoreConnection:
        """A connection to the file of this name, of which it is sure which file that is.

        Args:
            connect: opens the file; given a stamp, as one that does not change.
            prepare: sets the connection up; it is given the version of the file's schema, and may write.
            make: makes the file where there is none; None where it is only looked at.

        Raises:
            StoreNotFoundError: there is none, and none is made.
        """
        for _ in range(_TRIES):
            self.refuse_if_replaced()
            before = _there(self.path)
            if self._file is not None:
                self.look(beside=make is not None)
            if before is None:
                self._make(make)
                continue
            stamp = None if make else self.stamp()
            connection = connect(stamp)
            try:
                if self._set_up(connection, before, prepare, stamp):
                    return StoreConnection(self, connection, stamp)
            except BaseException as error:
                connection.close()
                if not isinstance(error, Exception) or stamp is None or stamp == self.stamp():
                    raise
            else:
                connection.close()  # the file was replaced meanwhile
        raise CheckpointStoreError(f"The store {self.path} was replaced each time that it was opened; try again.")

    def _make(self, make: Callable[[], None] | None) -> None:
        if make is None:
            raise StoreNotFoundError(f"There is no store at {self.path}, and looking makes none. Check the path.")
        make()

    def _set_up(
        self,
        connection: sqlite3.Connection,
        before: tuple[int, int],
        prepare: Callable[[sqlite3.Connection, int], None],
        stamp: Stamp | None,
    ) -> bool:
        """Set a connection up; False where the file is not the one that was there before."""
        if self._file is not None:  # before anything is written to what may be another file's content
            with StoreConnection(self, connection, stamp).transaction("DEFERRED"):
                pass
        with transaction(connection, "DEFERRED"):  # waits for who is about to replace the file
            version = version_of(connection, self.path)
        if _there(self.path) != before:
            return False
        prepare(connection, version)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the files beside it are there now
        if _there(self.path) != before:
            return False
        with self._lock:
            if self._file is None:
                self._file = before
        self.look(beside=stamp is None)
        return True

    def stamp(self) -> Stamp | None:
        """The stamp of the file; None while somebody may be writing to it."""
        place = os.path.realpath(self._place)
        try:
            state = os.stat(place)  # noqa: PTH116 - see `_place`
        except OSError:
            return None  # whoever opens it, or looks, is told
        if any(_there(place + suffix) for suffix in _WHILE_WRITING):
            return None
        return Stamp(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)

    def look(self, *, committed: bool = False, beside: bool = True) -> os.stat_result:
        """What the file's name leads to; with `beside`, those of the files that belong to it are looked at, too.

        Raises:
            StoreReplacedError: to nothing, or to another file, or so does the name of one that belongs to it.
        """
        after = _COMMITTED if committed else ""
        place = self._place
        try:
            state = os.lstat(place)
            if S_ISLNK(state.st_mode):  # where it leads to is where SQLite looks for the other files
                place = os.path.realpath(place)
                state = os.stat(place)  # noqa: PTH116 - see `_place`
        except (FileNotFoundError, NotADirectoryError):
            raise self.replaced(
                "is gone: its file was removed or moved away, or its folder was,",
                " once the file is back in its place, together with its -wal, or to begin anew: what was acknowledged "
                f"is in the file that was moved away, and its -wal.{after}",
            ) from None
        except OSError as error:
            raise passing(self.path, error) or StoreReadOnlyError(
                f"The store {self.path} cannot be looked at: {error}"
            ) from error
        if self._file != (state.st_dev, state.st_ino):
            raise self.replaced(
                "is another file by now: the one that was open was replaced",
                ", which opens the file that is there now. What was acknowledged before is in the file that was "
                f"replaced, and in the -wal beside it.{after}",
            )
        for suffix in _BESIDE if beside else ():
            there = _there(place + suffix)
            if there != self._beside.get(suffix):
                self._look_beside(suffix, there, after)
        return state

    def _look_beside(self, suffix: str, there: tuple[int, int] | None, after: str) -> None:
        """A file beside it is another one than was known, or is there for the first time."""
        if suffix not in self._beside and there is not None:
            self._beside[suffix] = there
            return
        raise self.replaced(
            f"is no longer whole: its {suffix} file was removed, moved or replaced, or the file was moved away from it",
            f" when no process has the old one open; closing this one puts what is in its -wal into the file.{after}",
        )

    def remember(self, tables: Tables, seen: _Seen) -> None:
        """Keep what a connection saw of a log, unless another one has seen more."""
        with self._lock:
            known = self.seen.get(tables)
            if known is None or seen.position >= known.position:
                self.seen = {**self.seen, tables: seen}


class StoreConnection:
    """A connection whose transactions notice that the file is another one."""

    def __init__(self, file: StoreFile, connection: sqlite3.Connection, stamp: Stamp | None = None) -> None:
        self._file = file
        self._connection = connection
        self._stamp = stamp
        """Of a file that is read as one that does not change."""
        self._written: tuple[int, int] | None = None
        """The file's size and when it was written to, as of the last look inside."""
        self._changed: int | None = None
        """SQLite's count of what other connections have committed, as of then."""
        self._schema: int | None = None
        self._floor = 0
        """Bytes below which the file does not come while the schema's number stays the same, as of then."""
        self._has_sessions = False
        """Whether the file was seen to have them; who finds none looks again."""
        self._nothing: sqlite3.Connection | None = None
        """What is asked in the place of a log that the file does not have."""

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"], tables: Tables = RUNS) -> Generator[Log, None, None]:
        """One transaction on a log of the file that was opened. Where there is none, one that is to be written to is
        made, and of one that is read there is nothing.

        Raises:
            StoreReplacedError: it is another file. Nothing was written, or, where the message says so, something may
                be in the file that was moved away.
        """
        connection, known, now = self._connection, self._file.seen, None
        try:
            with transaction(connection, kind):
                self._look_inside(self._look(), known)
                yield self._log(tables, writes=kind == "IMMEDIATE")
                if kind == "IMMEDIATE":
                    now = self._last(tables, known.get(tables))
        except sqlite3.Error as error:
            self._look()  # that the file is gone explains whatever SQLite reports
            if primary_code(error) == sqlite3.SQLITE_NOTADB:  # it was one when it was opened
                raise self._overwritten(f"it is no store ({error})") from error
            raise
        if now is not None:
            state = self._file.look(committed=True)
            self._file.remember(tables, now)
            if self._written != _written(state):
                with transaction(connection, "DEFERRED"):
                    self._look_inside(state, self._file.seen)

    def _log(self, tables: Tables, *, writes: bool) -> Log:
        if self._has(tables):
            return Log(self._connection, tables)
        if writes:
            make_sessions(self._connection)
            return Log(self._connection, tables)
        self._nothing = self._nothing or without_events()
        return Log(self._nothing, RUNS)

    def _has(self, tables: Tables) -> bool:
        """Whether the log is in the file; that of runs always is."""
        if tables is SESSIONS and not self._has_sessions:
            self._has_sessions = has_sessions(self._connection)
        return tables is RUNS or self._has_sessions

    def is_of_one_moment(self) -> bool:
        """Whether all that was read so far stood in the file at once; if not, it is to be opened anew."""
        return self._stamp is None or self._stamp == self._file.stamp()

    def _look(self) -> os.stat_result:
        return self._file.look(beside=self._stamp is None)

    def checkpoint(self) -> Checkpointed:
        """See `Connections.checkpoint`."""
        self._look()
        connection = self._connection
        found = _checkpointed(connection, "PASSIVE")  # all the work, while others write: what follows takes no time
        patience = pragma(connection, "busy_timeout")
        connection.execute("PRAGMA busy_timeout = 0").close()
        try:
            return _checkpointed(connection, "TRUNCATE") or found or Checkpointed(0, 0)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}").close()

    def close(self) -> None:
        """Let go of the file. Of one that was moved away, what is in its log is put into it first: its -wal may have
        been left behind. SQLite itself does so only where the file is in its place."""
        if _is_gone(self._file.path):
            with suppress(sqlite3.Error):  # then it stays in the -wal, as after a crash
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        if self._nothing is not None:
            self._nothing.close()

    def _look_inside(self, state: os.stat_result, known: dict[Tables, _Seen]) -> None:
        """Compare what stands in the file with what was seen, where anybody else may have written to it."""
        connection, written = self._connection, _written(state)
        if written != self._written:
            connection.execute("PRAGMA shrink_memory")  # SQLite would answer from pages that it remembers
        try:
            changed = connection.execute("PRAGMA data_version").fetchone()[0]
            if (written, changed) == (self._written, self._changed):
                return
            if known:
                self._refuse_what_is_no_store(written[0])
            for tables in LOGS:
                if tables in known or tables is RUNS or has_events(connection, tables):
                    self._compare(tables, known.get(tables))
            self._schema, self._floor = pragma(connection, "schema_version"), self._lowest()
        except sqlite3.DatabaseError as error:
            if not known and primary_code(error) == sqlite3.SQLITE_CORRUPT:
                return  # nothing is known to compare with; who reads what is damaged is told
            if primary_code(error) in _NOT_A_STORE:
                raise self._overwritten(f"it is no store, or no longer whole ({error})") from error
            raise
        self._written, self._changed = written, changed

    def _refuse_what_is_no_store(self, size: int) -> None:
        connection = self._connection
        if pragma(connection, "application_id") != APPLICATION_ID:
            raise self._overwritten("it is a database of another application")
        if self._is_cut(size):
            raise self._overwritten("it is shorter than what was in it")

    def _compare(self, tables: Tables, known: _Seen | None) -> None:
        """Compare what stands in a log with what is known of it, and remember it."""
        now = self._last(tables, None)
        if known is not None:
            self._refuse_another(Log(self._connection, tables), known, now)
        self._file.remember(tables, now)

    def _refuse_another(self, log: Log, known: _Seen, now: _Seen) -> None:
        if known.store_id not in (None, now.store_id):
            raise self._overwritten("it is another store, or one that was restored")
        given = log.execute(
            f"SELECT max(seq) FROM sqlite_sequence WHERE name = '{log.events}' AND typeof(seq) = 'integer'"
        ).fetchone()[0]
        if max(given or 0, now.position) < known.position:
            raise self._overwritten(
                f"its {log.events} end before position {known.position}, which was the last, as those of an older copy "
                "do"
            )
        row = log.execute(f"SELECT digest FROM {log.events} WHERE position = ?", (known.position,)).fetchone()
        if row not in (None, (known.digest,)):  # an event may have been removed, and is never changed
            raise self._overwritten(f"another event is at position {known.position} of its {log.events} than was there")

    def _last(self, tables: Tables, known: _Seen | None) -> _Seen:
        """What stands in a log. The id does not change in a transaction of ours; it is asked for if not known."""
        row = self._connection.execute(
            f"SELECT position, digest FROM {tables.events} ORDER BY position DESC LIMIT 1"
        ).fetchone()
        position, digest = row or (0, None)
        return _Seen((known and known.store_id) or store_id(self._connection), position, digest)

    def _is_cut(self, size: int) -> bool:
        """Whether pages are missing in the file that were written to it. It grows when its log is put into it. What
        gives pages back counts the schema up."""
        return size < self._floor and pragma(self._connection, "schema_version") == self._schema

    def _lowest(self) -> int:
        """The size of the file; none where it is still to be cut to what was left of it by those who gave pages back.
        To be called in a transaction that has begun to read: what they commit later counts the schema up."""
        pages = pragma(self._connection, "page_count") * pragma(self._connection, "page_size")
        size = self._look().st_size
        return size if size <= pages else 0

    def _overwritten(self, what: str) -> Exception:
        if not self.is_of_one_moment():
            return Moved()
        return self._file.replaced(
            f"was overwritten: {what}; something wrote another file's content into its file",
            ", which takes what is there now as it is. What was written over is lost, unless there is a copy. A file "
            "under processes that have it open is replaced by `eventckpt restore` only, and not while they do: where "
            "that was not done, stop them, and restore the copy again.",
        )


def _checkpointed(connection: sqlite3.Connection, how: Literal["PASSIVE", "TRUNCATE"]) -> Checkpointed | None:
    """What a checkpoint did; None: it was in somebody's way, and did nothing or not all."""
    with closing(connection.execute(f"PRAGMA wal_checkpoint({how})")) as rows:
        busy, *pages = rows.fetchone()
    return None if busy else Checkpointed(*pages)


def _written(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def _there(path: str | Path) -> tuple[int, int] | None:
    """Which file a name leads to, as device and inode: while somebody has it open, no other has the same two. None
    where it leads to none."""
    try:
        state = os.stat(path)  # noqa: PTH116 - see `_place`
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise passing(Path(path), error) or StoreReadOnlyError(
            f"The store {path} cannot be looked at: {error}"
        ) from error
    return state.st_dev, state.st_ino


def _is_gone(path: Path) -> bool:
    try:
        return _there(path) is None
    except CheckpointStoreError:
        return False  # nobody knows
