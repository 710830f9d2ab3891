"""The embedded engine: one SQLite file, any number of tasks, threads and processes.

A writer thread and a reader thread each own a connection, so the event loop never waits for the disk. Appends
that wait while the writer is busy are committed together, in one transaction with one flush: that is where the
throughput of parallel runs comes from. A whole transaction runs within one job of the writer thread, so no
cancellation can fall into its middle.

The threads are those of `concurrent.futures`: idle ones do not keep the process alive, and work already handed
over is finished before the interpreter exits. (aiosqlite's thread does neither for a connection left open.)
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from ...errors import CheckpointStoreError, StoreLockedError, StoreReadOnlyError, StoreReplacedError, StreamConflict
from ...events import MAX_SEQ, SCHEMA, CheckpointEvent, EventSchema, StreamId
from ...removals import Removals
from ...settings import choice, flag, no_connection_string, number
from ...text import described, is_unicode
from .. import AuditStore, Check, FoundEvent, RunStore, can_exist, gaps_behind, head_stays
from ..change_feed import ChangeFeed
from ..documents import DocumentStore
from .change_feed import SqliteChangeFeed
from .documents import SqliteDocumentStore
from .errors import store_errors
from .file import Moved, StoreConnection, StoreFile
from .opening import Opening
from .runs import SqliteRunStore
from .schema import APPLICATION_ID, MIGRATIONS, differences, pragma

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SqliteEventStore"]

_T = TypeVar("_T")

_PAGE = 256  # rows that one query fetches
_WALKS: Final = 4  # along the streams at most, beside removals
_PAGE_BYTES = 8 * 1024 * 1024  # of whole events, after which a page is full
_LAST_CHARACTERS = "\U0010ffff" * 255  # after every continuation of a prefix
_MIN_SEQ: Final = -MAX_SEQ - 1
_LONGEST_TIMEOUT: Final = 1_000_000  # SQLite counts milliseconds in 32 bits
_TRIES: Final = 8  # of reading a file that others begin to write to meanwhile
_GROUP = 512  # appends in one transaction: bounds how long other processes wait for the write lock
_COLUMNS = "position, workflow_name, run_id, seq, type, checkpoint_id, digest, header"

_NEWEST: Final = (
    # Of each run the event with the greatest seq (SQLite takes the other columns from the row that has the maximum): a
    # copy that was put back lies behind later ones. Without the hint, SQLite walks through the workflow.
    "SELECT position, seq FROM (SELECT position, type, max(seq) AS seq FROM events INDEXED BY events_by_checkpoint"
    " WHERE checkpoint_id = ? {only} GROUP BY workflow_name, run_id) ORDER BY type = 'tombstone', position DESC LIMIT 1"
)
"""Where the newest event of a checkpoint id is, in the run that counts: one where it is live, and written last."""

_NOT_A_HEADER: Final = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    TypeError,
)  # of a damaged row, not even the type is sure

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CheckpointEvent)
_schema_decoder = msgspec.msgpack.Decoder(EventSchema)


class SqliteEventStore(AuditStore):
    """Events in one SQLite file (WAL mode).

    Args:
        path: the file; it and its folder are created on first use.
        synchronous: "FULL" (default): an acknowledged append survives power loss. "NORMAL": it survives the end
            of the process, power loss may take the last ones. "OFF": as NORMAL, and power loss may damage the file.
        busy_timeout: seconds to wait for another process's write before `StoreLockedError`.
        read_only: only look: no file and no folder is made, brought up to date or written to, and all that writes is a
            `StoreReadOnlyError`. Where there is no store, reading is a `StoreNotFoundError`.

    A store that is in use is not carried over a `fork`: the child makes its own.

    Raises:
        TypeError, ValueError: an argument is not of the form above; a `path` that is empty or `:memory:` names no file
            to share between connections.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        busy_timeout: float = 30.0,
        read_only: bool = False,
    ) -> None:
        choice("synchronous", synchronous, "FULL", "NORMAL", "OFF")
        flag("read_only", read_only)
        number("busy_timeout", busy_timeout, most=_LONGEST_TIMEOUT, zero=True)
        self.path: Path = _absolute(path)  # both connections open the same file, whatever the process does in between
        self.read_only: bool = read_only
        self._file = StoreFile(self.path)
        opening = Opening(self._file, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)
        self._writer = _Worker(opening.to_write, "eventckpt-sqlite-writer")
        self._reader = _Worker(opening.to_read, "eventckpt-sqlite-reader")
        self._lock = threading.Lock()
        """Held to hand a job over or to close, so that no job comes after the last one."""
        self._waiting: deque[_Waiting] = deque()
        self._appending = False
        """Whether a job of the writer is there to take what waits."""
        self._is_owed = False
        """Whether a caller was cancelled whose append may be under way: the next read is to see what became of it."""
        self._settled: Future[None] | None = None
        """Done once such appends are."""
        self._closed = False
        self._process: int | None = None
        """The process whose threads the workers are, once there are any."""

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`. Waiting appends of other tasks and threads are committed with this one."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._refuse_if_unusable(writes=True)
            if not self._appending:
                self._submit(self._writer, self._append_waiting)
                self._appending = True
            self._waiting.append(_Waiting(event, loop, done))
        try:
            await done
        except asyncio.CancelledError:
            with self._lock:
                self._is_owed = True
            raise

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`."""

        def fetch(connection: sqlite3.Connection) -> list[CheckpointEvent]:
            only, key = _where(stream)
            wanted = sorted({seq for seq in seqs if _MIN_SEQ <= seq <= MAX_SEQ}) if can_exist(stream) else []
            rows: list[tuple[Any, ...]] = []
            for start in range(0, len(wanted), _PAGE):  # SQLite bounds the number of parameters
                some = wanted[start : start + _PAGE]
                marks = ", ".join("?" * len(some))
                rows += connection.execute(
                    f"SELECT {_COLUMNS}, data FROM events WHERE seq IN ({marks}) {only} ORDER BY seq", (*some, *key)
                )
            return [_event(row) for row in rows]

        return await self._read(fetch)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        """See `EventStore.find`."""
        if stream is None:
            return await self._found(checkpoint_id, "", ())
        return await self._found(checkpoint_id, *_where(stream)) if can_exist(stream) else None

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """See `EventStore.find_in`."""
        if not is_unicode(workflow_name):
            return None
        return await self._found(checkpoint_id, "AND workflow_name = ?", (workflow_name,))

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.headers`."""
        if not can_exist(stream):
            return
        only, key = _where(stream)
        async with aclosing(self._pages(only, key, "seq", gt, lte, desc)) as rows:
            async for row in rows:
                yield _event(row)

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`; the order is that of commits."""
        if not is_unicode(workflow_name):
            return
        async with aclosing(self._pages("AND workflow_name = ?", (workflow_name,), "position", 0, None, desc)) as rows:
            async for row in rows:
                yield _event(row)

    async def streams(self, *, workflow_name: str | None = None, prefix: str = "") -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.streams`."""
        if not can_exist(StreamId(workflow_name or "", prefix)):
            return
        if prefix:
            for row in await self._read(lambda connection: _streams_named(connection, workflow_name, prefix)):
                yield StreamId(*row)
            return
        seen: set[StreamId] = set()
        since = _MIN_SEQ
        for _ in range(_WALKS):
            top: int | None = None
            before, pages = MAX_SEQ, 0
            while True:
                top, rows = await self._read(
                    partial(_streams_between, workflow_name=workflow_name, since=since, before=before, top=top)
                )
                pages += 1
                for position, *names in rows:
                    if (stream := StreamId(*names)) not in seen:
                        seen.add(stream)
                        yield stream
                    before = max(position - 1, _MIN_SEQ)
                if len(rows) < _PAGE:
                    break
            if pages == 1:
                return  # all of it was of one moment
            # Of a run that was written to meanwhile, all that lay before may have been removed before the walk came to
            # it: so what was written since is walked along, too.
            since = top

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """See `AuditStore.checkpoint_ids`."""
        if not is_unicode(prefix):
            return []
        rows = await self._read(
            lambda connection: connection.execute(
                "SELECT DISTINCT checkpoint_id FROM events INDEXED BY events_by_checkpoint"
                " WHERE checkpoint_id >= ? AND checkpoint_id <= ? ORDER BY checkpoint_id LIMIT ?",
                (prefix, prefix + _LAST_CHARACTERS, limit),
            ).fetchall()
        )
        return [row[0] for row in rows]

    async def runs_with(self, workflow_name: str, checkpoint_ids: Sequence[str]) -> list[tuple[str, str]]:
        """See `AuditStore.runs_with`."""
        wanted = [name for name in {*checkpoint_ids} if is_unicode(name)] if is_unicode(workflow_name) else []
        marks = ", ".join("?" * len(wanted))
        rows = await self._read(
            lambda connection: connection.execute(
                "SELECT checkpoint_id, run_id FROM events INDEXED BY events_by_checkpoint"
                f" WHERE checkpoint_id IN ({marks}) AND workflow_name = ?",
                (*wanted, workflow_name),
            ).fetchall()
        )
        return sorted({(str(name), str(run_id)) for name, run_id in rows})

    async def events(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.events`."""
        low, high = _bounds(gt, lte)
        while can_exist(stream):
            page, done = await self._read(lambda connection, low=low: _whole_events(connection, stream, low, high))
            for seq, event in page:
                yield event
                low = seq
            if done:
                return

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        """See `AuditStore.put`."""
        return await self.writing(lambda connection: _put_all(connection, stream, events))

    async def put_over(self, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
        """See `AuditStore.put_over`. The head that each append is compared with keeps the gaps closed."""
        only, key = _where(stream)

        def change(connection: sqlite3.Connection) -> int:
            for low, high in gaps_behind(after, events):
                found = connection.execute(
                    f"SELECT seq FROM events WHERE seq > ? AND seq <= ? {only} ORDER BY seq LIMIT 1", (low, high, *key)
                ).fetchone()
                if found is not None:
                    raise StreamConflict(stream, found[0], _head(connection, stream))
            return _put_all(connection, stream, events)

        return await self.writing(change)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """See `AuditStore.remove`."""
        only, key = _where(stream)

        def delete(connection: sqlite3.Connection) -> int:
            head = _head(connection, stream)
            if head is not None and head.seq in seqs:
                raise head_stays(stream, head.seq)
            return connection.executemany(
                f"DELETE FROM events WHERE seq = ? {only}", [(seq, *key) for seq in seqs if _MIN_SEQ <= seq <= MAX_SEQ]
            ).rowcount

        return max(0, await self.writing(delete)) if seqs else 0

    async def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.follow`; the order is that of commits."""
        after = await self._read(lambda connection: _position_before_last(connection, last))
        while True:
            async with aclosing(self._pages("", (), "position", after, None, False)) as rows:
                async for row in rows:
                    after = row[0]
                    yield _event(row)
            await asyncio.sleep(poll)

    async def checks(self) -> list[Check]:
        """See `AuditStore.checks`."""
        # First: it gives a file of 0.1.0 what belongs to its schema.
        writing = [] if self.read_only else [await self._check_writing()]
        found: list[Check] = []

        def look(connection: sqlite3.Connection) -> None:
            found.clear()
            found.extend(_checks_of(connection, self.path, read_only=self.read_only))

        try:
            await self._read(look)
        except CheckpointStoreError as error:
            found.append(Check("reading", False, str(error), "See docs/audit.md, doctor."))
        return [*found, *writing]

    async def _check_writing(self) -> Check:
        try:
            # A transaction can begin also in a file that may only be read; a statement that writes cannot.
            await self.writing(lambda connection: connection.execute("DELETE FROM events WHERE 0"))
        except CheckpointStoreError as error:
            return Check("writing", False, str(error), "See docs/audit.md, doctor.")
        return Check("writing", True, "the file and its folder can be written")

    async def committed(self, *, after: int, limit: int) -> list[tuple[int, CheckpointEvent]]:
        """The headers of all streams' events in the order of their commits, each with its position, from `after` on."""

        def fetch(connection: sqlite3.Connection) -> list[tuple[int, CheckpointEvent]]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
            )
            return [(row[0], _event(row)) for row in rows]

        return await self._read(fetch)

    def run_store(self, name: str | None = None) -> RunStore:
        """See `EventStore.run_store`."""
        return SqliteRunStore(self, name)

    def change_feed(self) -> ChangeFeed:
        """See `EventStore.change_feed`."""
        return SqliteChangeFeed(self)

    def document_store(self) -> DocumentStore:
        """See `EventStore.document_store`: a table of the same file."""
        return SqliteDocumentStore(self)

    def runs(self, name: str | None = None) -> RunStore:
        """See `EventStore.runs`."""
        return self.run_store(name)

    async def reading(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `fetch` finds, in the reader's thread: for what is kept beside the events in the same file."""
        return await self._read(fetch)

    async def writing(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `change` gives, in one transaction of the writer's thread; see `reading`."""

        def job() -> _T:
            with store_errors(self.path), self._writer.connection().transaction("IMMEDIATE") as connection:
                return change(connection)

        with self._lock:
            self._refuse_if_unusable(writes=True)
            done = self._submit(self._writer, job)
        return await asyncio.wrap_future(done)

    async def close(self) -> None:
        """See `EventStore.close`. A closed store refuses further work."""
        with self._lock:
            self._closed = True
            if self._was_forked():
                return
            # One after the other: of two connections that close at once, neither is the last, which clears up the log.
            ended = self._writer.end(after=self._reader.end())
        await asyncio.wrap_future(ended)

    async def _found(self, checkpoint_id: str, only: str, key: tuple[str, ...]) -> FoundEvent | None:
        """The newest event of an id in the run that counts, among those that a condition holds for."""
        if not is_unicode(checkpoint_id):
            return None

        def fetch(connection: sqlite3.Connection) -> FoundEvent | None:
            newest = connection.execute(_NEWEST.format(only=only), (checkpoint_id, *key)).fetchone()
            if newest is None:
                return None
            row = connection.execute(f"SELECT {_COLUMNS}, data FROM events WHERE position = ?", newest[:1])
            event = _event(row.fetchone())
            return FoundEvent(event, _head(connection, event.stream) or event.header())

        return await self._read(fetch)

    async def _pages(
        self, only: str, key: tuple[Any, ...], column: Literal["seq", "position"], gt: int, lte: int | None, desc: bool
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        """Rows without data in the order of `column`, fetched a page at a time: no read stays open in between."""
        low, high = _bounds(gt, lte)
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
            low, high = (low, max(last - 1, _MIN_SEQ)) if desc else (last, high)

    async def _read(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        def job() -> _T:
            with store_errors(self.path, read_only=self.read_only):
                return self._reader.read(fetch)

        with self._lock:
            self._refuse_if_unusable()
            if self._is_owed:
                self._settled, self._is_owed = self._submit(self._writer, _nothing), False
            settled = self._settled
        if settled is not None and not settled.done():
            await asyncio.shield(asyncio.wrap_future(settled))
        with self._lock:
            self._refuse_if_unusable()
            done = self._submit(self._reader, job)
        return await asyncio.wrap_future(done)

    def _submit(self, worker: _Worker, job: Callable[[], _T]) -> Future[_T]:
        self._process = os.getpid()
        try:
            return worker.submit(job)
        except RuntimeError as error:
            raise CheckpointStoreError(f"The store {self.path} has no thread to work in: {error}.") from error

    def _refuse_if_unusable(self, *, writes: bool = False) -> None:
        if writes and self.read_only:
            raise StoreReadOnlyError(
                f"The store {self.path} was opened to be read only, and nothing was written. To write, make a store "
                "without read_only."
            )
        if self._closed:
            raise CheckpointStoreError(f"The store {self.path} was closed; make a new one to go on.")
        if self._was_forked():
            raise CheckpointStoreError(
                f"The store {self.path} was in use when this process was forked off; make a new one in this process."
            )
        self._file.refuse_if_replaced()

    def _was_forked(self) -> bool:
        return self._process not in (None, os.getpid())

    # In the writer thread

    def _append_waiting(self) -> None:
        while group := self._take_waiting():
            _settle(group, self._append([waiting.event for waiting in group]))
            with suppress(RuntimeError):  # the store is closing, and no job comes after this one
                self._writer.submit(self._append_waiting)  # behind the writer's other jobs, which get their turn
                return

    def _append(self, events: list[CheckpointEvent]) -> Sequence[Exception | None]:
        """What became of each event. What fails one of them does not fail the others."""
        try:
            with store_errors(self.path):
                return _append_all(self._writer.connection(), events)
        except CheckpointStoreError as error:
            # Each by itself would wait for the lock again, or find the same file.
            if len(events) == 1 or isinstance(error, StoreLockedError | StoreReplacedError):
                return [error] * len(events)
        return [outcome for event in events for outcome in self._append([event])]

    def _take_waiting(self) -> list[_Waiting]:
        """The next group of appends whose callers still wait; where there are none, the writer's job is over."""
        group: list[_Waiting] = []
        with self._lock:
            while self._waiting and len(group) < _GROUP:
                waiting = self._waiting.popleft()
                if not waiting.done.cancelled():
                    group.append(waiting)
            self._appending = bool(group)
        return group


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        given = os.fspath(path)
    except TypeError:
        given = None
    if not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"path is text or a pathlib.Path, not {described(path)}.")
    no_connection_string("path", given, instead="Give the path of a file; Cosmos DB is an engine of its own.")
    if given.strip() in ("", ":memory:") or "\0" in given:
        raise ValueError(
            f"SqliteEventStore needs a file's path, which {described(given)} is not; for a throw-away store use a "
            "temporary folder."
        )
    return Path(given).absolute()


def _nothing() -> None:
    """A job that is done once those before it are."""


class _Waiting(NamedTuple):
    """An append that has not been committed, and who waits for it."""

    event: CheckpointEvent
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def _settle(group: list[_Waiting], outcomes: Sequence[Exception | None]) -> None:
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

    def __init__(self, connect: Callable[[], StoreConnection], name: str) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: StoreConnection | None = None
        self._ended: Future[None] | None = None

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        return self._thread.submit(job)

    def connection(self) -> StoreConnection:
        """The connection, for jobs only."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def read(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `fetch` finds in one transaction, so that all of it is as of one moment; for jobs only."""
        for _ in range(_TRIES):
            opened = self.connection()
            try:
                if opened.is_of_one_moment():
                    with opened.transaction("DEFERRED") as connection:
                        found = fetch(connection)
                    if opened.is_of_one_moment():
                        return found
            except Moved:
                pass
            except Exception:
                if opened.is_of_one_moment():
                    raise
            opened.close()
            self._connection = None
        raise StoreLockedError(
            "Each time that the store was read, another process opened it to write, and closed it again. Trying again "
            "is safe."
        )

    def end(self, *, after: Future[None] | None = None) -> Future[None]:
        """Close the connection after the jobs already handed over, and after `after`; the same future each time."""
        if self._ended is None:
            self._ended = Future()
            self._ended.set_running_or_notify_cancel()  # who waits for it can be cancelled, it cannot
            try:
                self._thread.submit(self._disconnect, self._ended, after)
            except RuntimeError:  # the interpreter is exiting, it has already waited for the thread to finish
                self._disconnect(self._ended, after)
            self._thread.shutdown(wait=False)
        return self._ended

    def _disconnect(self, ended: Future[None], after: Future[None] | None) -> None:
        try:
            if after is not None:
                after.result()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            ended.set_result(None)


def _append_all(opened: StoreConnection, events: Iterable[CheckpointEvent]) -> list[StreamConflict | None]:
    """Append each event that fits its stream's head, in one transaction; what became of each."""
    with opened.transaction("IMMEDIATE") as connection:
        return [_append_one(connection, event) for event in events]


def _append_one(connection: sqlite3.Connection, event: CheckpointEvent) -> StreamConflict | None:
    row = connection.execute(
        "SELECT seq, digest FROM events WHERE workflow_name = ? AND run_id = ? ORDER BY seq DESC LIMIT 1",
        (event.workflow_name, event.run_id),
    ).fetchone()
    head_seq, head_digest = row or (0, event.previous_digest)  # a fork's first event continues another stream
    if event.seq == head_seq + 1 <= MAX_SEQ and event.previous_digest == head_digest:
        _insert(connection, event)
        return None
    if event.seq <= head_seq:
        only, key = _where(event.stream)
        same = connection.execute(f"SELECT digest FROM events WHERE seq = ? {only}", (event.seq, *key)).fetchone()
        if same == (event.digest,) or (same is None and _removals(connection, event.stream).tells(event)):
            return None
    return StreamConflict(event.stream, event.seq, _head(connection, event.stream))


def _insert(connection: sqlite3.Connection, event: CheckpointEvent) -> None:
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
            event.payload.data if event.payload else b"",
        ),
    )


def _head(connection: sqlite3.Connection, stream: StreamId) -> CheckpointEvent | None:
    only, key = _where(stream)
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE seq > 0 {only} ORDER BY seq DESC LIMIT 1", key
    ).fetchone()
    return _event(row) if row else None


def _last_position(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()[0]


def _position_before_last(connection: sqlite3.Connection, last: int) -> int:
    row = connection.execute(
        "SELECT position FROM events ORDER BY position DESC LIMIT 1 OFFSET ?", (min(last, MAX_SEQ),)
    ).fetchone()
    return row[0] if row else 0


def _streams_between(
    connection: sqlite3.Connection, *, workflow_name: str | None, since: int, before: int, top: int | None
) -> tuple[int, list[tuple[int, str, str]]]:
    """A page of the streams whose head, among the events up to position `top`, lies behind `since` and at `before` or
    earlier; and `top`, which is the last position where None is given."""
    only, key = ("", ()) if workflow_name is None else ("AND workflow_name = ?", (workflow_name,))
    top = _last_position(connection) if top is None else top
    rows = connection.execute(
        f"SELECT position, workflow_name, run_id FROM events AS head WHERE position > ? AND position <= ? {only}"
        " AND NOT EXISTS (SELECT 1 FROM events AS later WHERE later.workflow_name = head.workflow_name"
        " AND later.run_id = head.run_id AND later.seq > head.seq AND later.position <= ?)"
        f" ORDER BY position DESC LIMIT {_PAGE}",
        (since, min(before, top), *key, top),
    )
    return top, rows.fetchall()


def _streams_named(connection: sqlite3.Connection, workflow_name: str | None, prefix: str) -> list[tuple[str, str]]:
    # The names of workflows are few: each is found from the one before, and the index does the rest.
    rows = connection.execute(
        "WITH RECURSIVE workflows (name) AS (SELECT min(workflow_name) FROM events UNION ALL"
        " SELECT (SELECT min(workflow_name) FROM events WHERE workflow_name > name) FROM workflows"
        " WHERE name IS NOT NULL)"
        " SELECT workflow_name, run_id, max(position) AS latest FROM events"
        " WHERE workflow_name IN (SELECT name FROM workflows WHERE name IS NOT NULL AND name = ifnull(?, name))"
        " AND run_id >= ? AND run_id <= ? GROUP BY workflow_name, run_id ORDER BY latest DESC",
        (workflow_name, prefix, prefix + _LAST_CHARACTERS),
    )
    return [(row[0], row[1]) for row in rows]


def _whole_events(
    connection: sqlite3.Connection, stream: StreamId, low: int, high: int
) -> tuple[list[tuple[int, CheckpointEvent]], bool]:
    """A page of whole events, each with the seq that its row has, and whether it is the last page."""
    only, key = _where(stream)
    size = 0
    page: list[tuple[int, CheckpointEvent]] = []
    with closing(
        connection.execute(
            f"SELECT {_COLUMNS}, data FROM events WHERE seq > ? AND seq <= ? {only} ORDER BY seq", (low, high, *key)
        )
    ) as rows:
        for row in rows:
            page.append((row[3], _event(row)))
            size += len(row[-1]) if isinstance(row[-1], bytes) else 0  # in a damaged row, anything
            if len(page) == _PAGE or size > _PAGE_BYTES:
                return page, False
    return page, True


def _put_all(connection: sqlite3.Connection, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
    added = 0
    removals: Removals | None = None
    stored = _digests(connection, stream, [event.seq for event in events])
    for event in events:
        if (digest := stored.get(event.seq)) is not None:
            if digest != event.digest:
                raise StreamConflict(stream, event.seq, _head(connection, stream))
            continue
        if removals is None:
            removals = _removals(connection, stream, after=min(event.seq for event in events))
        if not (removals and removals.covers(event.seq)):
            _insert(connection, event)
            stored[event.seq] = event.digest
            added += 1
        elif removals.tells(event) is False:
            raise StreamConflict(stream, event.seq, _head(connection, stream))
    return added


def _digests(connection: sqlite3.Connection, stream: StreamId, seqs: Sequence[int]) -> dict[int, object]:
    """By seq, the digest of each of these events that is there."""
    only, key = _where(stream)
    found: dict[int, object] = {}
    for start in range(0, len(seqs), _PAGE):  # SQLite bounds the number of parameters
        some = seqs[start : start + _PAGE]
        marks = ", ".join("?" * len(some))
        found.update(
            connection.execute(
                f"SELECT seq, digest FROM events WHERE seq IN ({marks}) {only}", (*some, *key)
            ).fetchall()
        )
    return found


def _removals(connection: sqlite3.Connection, stream: StreamId, *, after: int = 0) -> Removals:
    """What the newest record of a run, of those behind `after`, says was removed."""
    only, key = _where(stream)
    with closing(
        connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE checkpoint_id = '' AND seq > ? {only} ORDER BY seq DESC",
            (after, *key),
        )
    ) as rows:
        return Removals(itertools.islice((event for row in rows if (event := _event(row)).pruned), 1))


def _checks_of(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> Iterable[Check]:
    yield Check(
        "file",
        pragma(connection, "application_id") == APPLICATION_ID,
        f"{path}, {path.stat().st_size:,} bytes",
    )
    different = differences(connection, as_it_was_made=read_only)
    yield Check(
        "schema",
        not different,
        "; ".join(different) or f"version {pragma(connection, 'user_version')}, as it is made",
        "Somebody changed the file; events may have been changed with it. Run verify --all; to put it right, move the "
        "runs into a new store (export, import).",
    )
    if not read_only:
        mode = str(pragma(connection, "journal_mode"))
        yield Check("journal", mode == "wal", mode, "Put the file on a local disk: write-ahead logging needs one.")
    damage = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    yield Check(
        "pages",
        damage == ["ok"],
        "; ".join(damage),
        "Copy the file and its -wal away; `sqlite3 FILE .recover` rescues what is readable.",
    )


def _bounds(gt: int, lte: int | None) -> tuple[int, int]:
    """The bounds of a listing as SQLite counts, in 64 bits."""
    low, high = (min(max(bound, _MIN_SEQ), MAX_SEQ) for bound in (gt, MAX_SEQ if lte is None else lte))
    return low, high


def _where(stream: StreamId) -> tuple[str, tuple[str, str]]:
    return "AND workflow_name = ? AND run_id = ?", (stream.workflow_name, stream.run_id)


def _event(row: tuple[Any, ...]) -> CheckpointEvent:
    """The event in a row, with its data if the row has that column."""
    _, workflow_name, run_id, seq, kind, checkpoint_id, digest, header, *data = row
    event = _header(header)
    key = (workflow_name, run_id, seq, kind, checkpoint_id, digest)
    stray = bool(data and data[0]) and event is not None and event.payload is None
    if event is None or stray or key != (
        event.workflow_name, event.run_id, event.seq, event.type, event.checkpoint_id, event.digest
    ):  # fmt: skip
        return CheckpointEvent.unreadable(
            kind=kind,
            workflow_name=workflow_name,
            run_id=run_id,
            seq=seq,
            checkpoint_id=checkpoint_id,
            digest=digest,
            schema=_schema(header),
        )
    if event.payload and data and isinstance(data[0], bytes):
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data[0]))
    return event


def _header(stored: Any) -> CheckpointEvent | None:
    try:
        return _decoder.decode(stored)
    except _NOT_A_HEADER:
        return None


def _schema(stored: Any) -> int:
    """The schema that a header says it has, whatever else is in it."""
    try:
        return _schema_decoder.decode(stored).schema
    except _NOT_A_HEADER:
        return SCHEMA
