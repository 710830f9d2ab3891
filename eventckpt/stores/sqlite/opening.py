"""How a store's file is opened: to be read and written, or only to be looked at.

What is made is its owner's alone, and looking makes nothing: SQLite's own way to read a closed file in WAL mode
(`mode=ro`) leaves a -wal and a -shm beside it, and fails where it may not make them. So a file beside which there is
neither -wal nor -journal is read as one that does not change (`immutable=1`), and each transaction looks whether that
was so all the while; where somebody has begun to write to it, it is opened anew, beside the -wal that is there then.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Final, Literal

from ...errors import CheckpointStoreError, StoreNotFoundError, StoreReadOnlyError
from .errors import passing, primary_code
from .file import Stamp, StoreConnection, StoreFile
from .guarded import connect, refuse_what_is_no_file
from .schema import is_behind, lacks_additions, migrate, pragma

__all__ = ["Opening"]

_CANNOT_WRITE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


class Opening:
    """The one way to the file of a store object."""

    def __init__(
        self,
        file: StoreFile,
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"],
        busy_timeout: float,
        read_only: bool,
    ) -> None:
        self._file = file
        self._path = file.path
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._read_only = read_only

    def to_write(self) -> StoreConnection:
        """A connection for transactions of any kind; the file is made, or brought up to date."""
        return self._open(writes=True)

    def to_read(self) -> StoreConnection:
        """A connection for transactions that read. Unless the store is only to be looked at, the file is made, or
        brought up to date, as by `to_write`."""
        if self._read_only:
            refuse_what_is_no_file(self._path)
            return self._file.open(self._connect_to_look, self._check, make=None)
        return self._open(writes=False)

    def _open(self, *, writes: bool) -> StoreConnection:
        if not self._file.is_known:  # the folder of a file that was open is never made anew
            refuse_what_is_no_file(self._path)
            self._make_folder()

        def prepare(connection: sqlite3.Connection, version: int) -> None:
            self._prepare(connection, version, writes=writes)

        return self._file.open(self._connect_to_work, prepare, make=self._make_file)

    def _make_folder(self) -> None:
        try:
            parents = [self._path.parent, *self._path.parent.parents]
            for folder in reversed([each for each in parents if not each.exists()]):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._path.parent.mkdir(exist_ok=True)  # says what is in the way, where something is
        except OSError as error:
            raise passing(self._path, error) or StoreReadOnlyError(
                f"The folder of the store {self._path} cannot be made: {error}"
            ) from error

    def _make_file(self) -> None:
        """An empty file that only its owner may read, as its -wal and -shm then are; SQLite would ask the umask."""
        place = os.path.realpath(self._path)
        try:
            _make_private(place)
        except FileExistsError:
            return
        except OSError as error:
            raise passing(self._path, error) or StoreReadOnlyError(
                f"The store {self._path} cannot be made: {error}"
            ) from error

    def _connect_to_work(self, _: Stamp | None) -> sqlite3.Connection:
        return connect(self._path, str(self._path), timeout=self._busy_timeout, is_uri=False)

    def _connect_to_look(self, stamp: Stamp | None) -> sqlite3.Connection:
        how = "mode=ro" if stamp is None else "mode=ro&immutable=1"
        return connect(self._path, f"{self._path.as_uri()}?{how}", timeout=self._busy_timeout, is_uri=True)

    def _check(self, connection: sqlite3.Connection, version: int) -> None:
        if version == 0:
            raise StoreNotFoundError(
                f"There is no store in {self._path}: the file is empty, and looking makes none. Check the path."
            )

    def _prepare(self, connection: sqlite3.Connection, version: int, *, writes: bool) -> None:
        """Set a connection up, and bring the file up to date where `version` is behind."""
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if version == 0 or pragma(connection, "journal_mode") != "wal":
            try:
                self._enter_wal(connection, is_new=version == 0)
            except sqlite3.OperationalError as error:
                if writes or is_behind(version) or primary_code(error) not in _CANNOT_WRITE:
                    raise  # else it is a closed file that can only be read, such as a backup: for that it is good
        # Who only reads gives a file of 0.1.0 no id: looking changes nothing.
        if is_behind(version) or (writes and lacks_additions(connection)):
            migrate(connection, self._path)

    def _enter_wal(self, connection: sqlite3.Connection, *, is_new: bool) -> None:
        # SQLite does not wait for its busy timeout here when two processes create the file at once.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                if is_new:  # has to be said before anything is in it; see `space`
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL").close()
                mode = pragma(connection, "journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise CheckpointStoreError(
                f"The store {self._path} lies on a file system that cannot do write-ahead logging; "
                "put it on a local disk, or use the Cosmos DB engine to share it between machines."
            )


def _make_private(place: str) -> None:
    """Make an empty file. Without a descriptor where the system can: closing one lets go of the locks that another
    store of this process has on the file by then."""
    try:
        os.mknod(place, 0o600)
    except (AttributeError, PermissionError):  # no such call, or for root only
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
