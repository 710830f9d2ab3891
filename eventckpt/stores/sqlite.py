"""The embedded engine: one SQLite file, any number of tasks, threads and processes.

A writer thread and a reader thread each own a connection, so the event loop never waits for the disk. Appends
that wait while the writer is busy are committed together, in one transaction with one flush: that is where the
throughput of parallel runs comes from. A whole transaction is one job of the writer thread, so no cancellation
can fall into its middle.

The threads are those of `concurrent.futures`: idle ones do not keep the process alive, and work already handed
over is finished before the interpreter exits. (aiosqlite's thread does neither for a connection left open.)
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from ..errors import (
    CheckpointStoreError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StreamConflict,
)
from ..events import CheckpointEvent, StreamId
from . import EventStore, Located

__all__ = ["MIGRATIONS", "SqliteEventStore"]

_T = TypeVar("_T")

APPLICATION_ID: Final = 0x65636B70  # "eckp": tells our files from others (PRAGMA application_id)

MIGRATIONS: Final[tuple[str, ...]] = (
    # 1: `position` is the order of commits over all streams; the columns before `header` are its index. `data`
    # comes last, so that a listing never reads the pages it overflows to.
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        workflow_name TEXT NOT NULL,
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        type TEXT NOT NULL,
        checkpoint_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        header BLOB NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (workflow_name, run_id, seq)
    );
    CREATE INDEX events_by_checkpoint ON events (checkpoint_id, position);
    CREATE INDEX events_by_workflow ON events (workflow_name, position);
    CREATE TRIGGER events_are_immutable BEFORE UPDATE ON events
    BEGIN
        SELECT RAISE(ABORT, 'an event is never updated');
    END;
    """,
)
"""The steps from an empty file to the current schema; `PRAGMA user_version` counts those already taken."""

_PAGE = 256  # rows that one job of the reader fetches
_GROUP = 512  # appends in one transaction: bounds how long other processes wait for the write lock
_COLUMNS = "position, workflow_name, run_id, seq, type, checkpoint_id, digest, header"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CheckpointEvent)


class SqliteEventStore(EventStore):
    """Events in one SQLite file (WAL mode).

    Args:
        path: the file; it and its folder are created on first use.
        synchronous: "FULL" (default): an acknowledged append survives power loss. "NORMAL": it survives the end
            of the process, power loss may take the last ones. "OFF": as NORMAL, and power loss may damage the file.
        busy_timeout: seconds to wait for another process's write before `StoreLockedError`.

    Raises:
        ValueError: `path` is empty or `:memory:`, which has no file to share between connections.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 30.0,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise ValueError("SqliteEventStore needs a file's path; for a throw-away store use a temporary folder.")
        if synchronous not in ("FULL", "NORMAL", "OFF"):
            raise ValueError(f"synchronous is 'FULL', 'NORMAL' or 'OFF', not {synchronous!r}.")
        self.path = Path(path)
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._writer = _Worker(self._open, "eventckpt-sqlite-writer")
        self._reader = _Worker(self._open, "eventckpt-sqlite-reader")
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._appending = False
        """Whether a job of the writer is there to take what waits."""
        self._closed = False

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`. Waiting appends of other tasks and threads are committed with this one."""
        self._refuse_if_closed()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append(_Waiting(event, loop, done))
            must_start, self._appending = not self._appending, True
        if must_start:
            try:
                self._submit(self._writer, self._append_waiting).add_done_callback(self._fail_waiting)
            except RuntimeError as error:  # the interpreter is shutting down
                self._settle_all(error)
        await done

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`."""

        def fetch(connection: sqlite3.Connection) -> list[CheckpointEvent]:
            marks = ", ".join("?" * len(seqs))
            rows = connection.execute(
                f"SELECT {_COLUMNS}, data FROM events"
                f" WHERE workflow_name = ? AND run_id = ? AND seq IN ({marks}) ORDER BY seq",
                (stream.workflow_name, stream.run_id, *seqs),
            )
            return [_event(row) for row in rows]

        return await self._read(fetch)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Located | None:
        """See `EventStore.find`."""
        only, key = _where(stream) if stream else ("", ())

        def fetch(connection: sqlite3.Connection) -> Located | None:
            row = connection.execute(
                f"SELECT {_COLUMNS}, data FROM events WHERE checkpoint_id = ? {only} ORDER BY position DESC LIMIT 1",
                (checkpoint_id, *key),
            ).fetchone()
            if row is None:
                return None
            event = _event(row)
            head = _head(connection, event.stream)
            return Located(event, head or event.header())

        return await self._read(fetch)

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.headers`."""
        only, key = _where(stream)
        async with aclosing(self._pages(only, key, "seq", gt, lte, desc)) as rows:
            async for row in rows:
                yield _event(row)

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`; the order is that of commits."""
        async with aclosing(self._pages("AND workflow_name = ?", (workflow_name,), "position", 0, None, desc)) as rows:
            async for row in rows:
                yield _event(row)

    async def close(self) -> None:
        """See `EventStore.close`. A closed store refuses further work."""
        self._closed = True
        await asyncio.gather(self._writer.close(), self._reader.close())

    async def _pages(
        self, only: str, key: tuple[Any, ...], column: Literal["seq", "position"], gt: int, lte: int | None, desc: bool
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        """Rows without data in the order of `column`, fetched a page at a time: no read stays open in between."""
        low, high = gt, (1 << 63) - 1 if lte is None else lte
        order = "DESC" if desc else "ASC"
        while True:
            bounds = (low, high)

            def fetch(connection: sqlite3.Connection, bounds: tuple[int, int] = bounds) -> list[tuple[Any, ...]]:
                return connection.execute(
                    f"SELECT {_COLUMNS} FROM events WHERE {column} > ? AND {column} <= ? {only}"
                    f" ORDER BY {column} {order} LIMIT {_PAGE}",
                    (*bounds, *key),
                ).fetchall()

            rows = await self._read(fetch)
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            last = rows[-1][_COLUMNS.split(", ").index(column)]
            low, high = (low, last - 1) if desc else (last, high)

    async def _read(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        return await asyncio.wrap_future(self._submit(self._reader, fetch))

    def _submit(self, worker: _Worker, job: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        self._refuse_if_closed()
        return worker.submit(lambda connection: self._translated(job, connection))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise CheckpointStoreError(f"The store {self.path} was closed; make a new one to go on.")

    def _translated(self, job: Callable[[sqlite3.Connection], _T], connection: sqlite3.Connection) -> _T:
        try:
            return job(connection)
        except sqlite3.Error as error:
            raise _store_error(self.path, error) from error

    # In the writer thread

    def _append_waiting(self, connection: sqlite3.Connection) -> None:
        while group := self._take_waiting(_GROUP):
            events = [waiting.event for waiting in group]
            try:
                outcomes: list[Exception | None] = [*_append_all(connection, events)]
            except Exception:
                # What fails one of them must not fail the others.
                outcomes = [self._append_alone(connection, event) for event in events]
            _settle(group, outcomes)

    def _append_alone(self, connection: sqlite3.Connection, event: CheckpointEvent) -> Exception | None:
        try:
            return _append_all(connection, [event])[0]
        except sqlite3.Error as error:
            return _store_error(self.path, error)
        except Exception as error:
            return error

    def _take_waiting(self, most: int) -> list[_Waiting]:
        """Up to `most` appends whose callers still wait; where there are none, the writer's job is over."""
        group: list[_Waiting] = []
        with self._lock:
            while self._waiting and len(group) < most:
                waiting = self._waiting.popleft()
                if not waiting.done.cancelled():
                    group.append(waiting)
            self._appending = bool(group)
        return group

    def _fail_waiting(self, job: Future[None]) -> None:
        """When the file cannot even be opened, the appends that wait for it learn why."""
        error = None if job.cancelled() else job.exception()
        if isinstance(error, Exception):
            self._settle_all(error)

    def _settle_all(self, error: Exception) -> None:
        while group := self._take_waiting(_GROUP):
            _settle(group, [error] * len(group))

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnlyError(f"The folder of the store {self.path} cannot be made: {error}") from error
        try:
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _store_error(self.path, error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = _text
        version = _version(connection, self.path)
        if version == 0 or _pragma(connection, "journal_mode") != "wal":
            self._enter_wal(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if version < len(MIGRATIONS):
            _migrate(connection, self.path)

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for its busy timeout here when two processes create the file at once.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                mode = _pragma(connection, "journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise CheckpointStoreError(
                f"The store {self.path} lies on a file system that cannot do write-ahead logging; "
                "put it on a local disk, or use the Cosmos DB engine to share it between machines."
            )


class _Waiting(NamedTuple):
    """An append that has not been committed, and who waits for it."""

    event: CheckpointEvent
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def _settle(group: list[_Waiting], outcomes: list[Exception | None]) -> None:
    """Tell each caller, waking each event loop once for the whole group."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], Exception | None]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.done, outcome))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed has nobody left to tell
            loop.call_soon_threadsafe(_tell, settled)


def _tell(settled: list[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for done, outcome in settled:
        if done.done():  # cancelled meanwhile
            continue
        if outcome is None:
            done.set_result(None)
        else:
            done.set_exception(outcome)


class _Worker:
    """One thread with one connection, opened by the first job that needs it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._closing = threading.Lock()
        self._closed = False

    def submit(self, job: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        def run() -> _T:
            if self._connection is None:
                self._connection = self._connect()
            return job(self._connection)

        return self._threads.submit(run)

    async def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        try:
            await asyncio.wrap_future(self._threads.submit(self._disconnect))
        finally:
            self._threads.shutdown(wait=False)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _append_all(connection: sqlite3.Connection, events: Iterable[CheckpointEvent]) -> list[StreamConflict | None]:
    """Append each event that fits its stream's head, in one transaction; what became of each."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_append_one(connection, event) for event in events]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _append_one(connection: sqlite3.Connection, event: CheckpointEvent) -> StreamConflict | None:
    data = event.payload.data if event.payload else b""
    row = connection.execute(
        "SELECT seq, digest FROM events WHERE workflow_name = ? AND run_id = ? ORDER BY seq DESC LIMIT 1",
        (event.workflow_name, event.run_id),
    ).fetchone()
    head_seq, head_digest = row or (0, event.previous_digest)  # a fork's first event continues another stream
    if event.seq == head_seq + 1 and event.previous_digest == head_digest:
        connection.execute(
            "INSERT INTO events (workflow_name, run_id, seq, type, checkpoint_id, digest, header, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.workflow_name,
                event.run_id,
                event.seq,
                event.type,
                event.checkpoint_id,
                event.digest,
                _encoder.encode(event.header()),
                data,
            ),
        )
        return None
    if event.seq <= head_seq:
        only, key = _where(event.stream)
        same = connection.execute(f"SELECT digest FROM events WHERE seq = ? {only}", (event.seq, *key)).fetchone()
        if same == (event.digest,):
            return None
    return StreamConflict(event.stream, event.seq, _head(connection, event.stream))


def _head(connection: sqlite3.Connection, stream: StreamId) -> CheckpointEvent | None:
    only, key = _where(stream)
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE seq > 0 {only} ORDER BY seq DESC LIMIT 1", key
    ).fetchone()
    return _event(row) if row else None


def _where(stream: StreamId) -> tuple[str, tuple[str, str]]:
    return "AND workflow_name = ? AND run_id = ?", (stream.workflow_name, stream.run_id)


def _event(row: tuple[Any, ...]) -> CheckpointEvent:
    """The event in a row, with its data if the row has that column."""
    _, workflow_name, run_id, seq, kind, checkpoint_id, digest, header, *data = row
    try:
        event = _decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        event = None
    key = (workflow_name, run_id, seq, kind, checkpoint_id, digest)
    if event is None or key != (
        event.workflow_name, event.run_id, event.seq, event.type, event.checkpoint_id, event.digest
    ):  # fmt: skip
        return CheckpointEvent(
            type="tombstone" if kind == "tombstone" else "checkpoint",
            workflow_name=str(workflow_name),
            run_id=str(run_id),
            seq=seq,
            checkpoint_id=str(checkpoint_id),
            digest=str(digest),
            timestamp="",
            recorded_at="",
        )
    if data and event.payload:
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data[0]))
    return event


def _text(stored: bytes) -> str:
    """Text columns are UTF-8, unless the file is damaged: then the row must still be readable."""
    return stored.decode("utf-8", "replace")


def _pragma(connection: sqlite3.Connection, text: str) -> Any:
    with closing(connection.execute(f"PRAGMA {text}")) as cursor:
        return cursor.fetchone()[0]


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """How many migrations the file has seen; refuses files that are not ours, before anything is written."""
    application_id, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id == version == tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise StoreFormatError(
            f"{path} is a SQLite database of another application; it was left as it is. Give the store its own file."
        )
    if version > len(MIGRATIONS):
        raise StoreFormatError(
            f"{path} was written by a newer eventckpt (its schema is version {version}, this one knows up to "
            f"{len(MIGRATIONS)}); it was left as it is. Upgrade eventckpt to open it."
        )
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Take the missing steps in one transaction; of several processes one does, the others find it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterable[str]:
    """The statements of a script; `executescript` would commit the transaction that they belong to."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _store_error(path: Path, error: sqlite3.Error) -> CheckpointStoreError:
    code = getattr(error, "sqlite_errorcode", None)
    match code and code & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreLockedError(
                f"Another process kept the store {path} locked for too long. Trying again is safe; "
                "if it persists, look for a process that holds a transaction open."
            )
        case sqlite3.SQLITE_FULL:
            return StoreFullError(f"No room is left for the store {path}. Free some space; then save again.")
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
        case _:
            return CheckpointStoreError(f"SQLite failed on the store {path}: {error}")
