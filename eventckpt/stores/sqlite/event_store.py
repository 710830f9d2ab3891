"""The port to the events of one SQLite file: what is asked of it, in jobs for the threads that own the connections."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ...errors import CheckpointStoreError
from ...event_keys import EventKeys
from ...events import MAX_SEQ, REMOVALS, CheckpointEvent, StreamId
from ...settings import choice, flag, no_connection_string, number
from ...text import described, is_unicode, may_hold_a_key
from .. import AuditStore, Check, FoundEvent, RunStore, Space, Stretch, can_exist
from ..change_feed import ChangeFeed
from ..documents import DocumentStore
from ..names import check_projection
from . import queries
from .appends import Appends
from .change_feed import SqliteChangeFeed
from .changes import put_all, put_over
from .checks import checks_of
from .connection import Connections, Threads
from .documents import SqliteDocumentStore
from .queries import (
    COLUMNS,
    MIN_SEQ,
    OF_RUNS,
    OF_WORKFLOW,
    WHOLE,
    bounds_of,
    committed,
    event_of,
    events_at,
    ids_beginning_with,
    keys_behind,
    last_of,
    newest_of,
    newest_up_to,
    page_of,
    position_before_last,
    removal_streams,
    run_ids_behind,
    runs_with,
    streams_between,
    streams_named,
    stretches_of,
    where,
)
from .runs import SqliteRunStore
from .space import free_share, give_back
from .tables import RUNS, SESSIONS

__all__ = ["SqliteEventStore"]

_T = TypeVar("_T")

_A_FILE: Final = "Give the path of a file; Cosmos DB is an engine of its own."
_GROWS: Final = 16  # times as many rows in each page of a walk backwards as in the one before
_TURNS: Final = 16  # events in the first page of `newest`: what most who ask for turns want
_WALKS: Final = 4  # along the streams at most, beside removals
_LONGEST_TIMEOUT: Final = 1_000_000  # SQLite counts milliseconds in 32 bits


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
        self._connections = Connections(
            Threads(self.path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only), RUNS
        )
        self._appends = Appends(self._connections)
        self._sessions = _Sessions(self)

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`. Waiting appends of other tasks and threads are committed with this one."""
        await self._appends.append(event)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`."""
        return await self._connections.reading(lambda log: events_at(log, stream, seqs))

    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        """See `EventStore.read_each`."""
        runs = [(stream, [seq for _, seq in some]) for stream, some in groupby(places, key=itemgetter(0))]
        return await self._connections.reading(
            lambda log: [event for stream, seqs in runs for event in events_at(log, stream, seqs)]
        )

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        """See `EventStore.last`."""
        if not can_exist(StreamId(workflow_name, run_id or "")):
            return None
        return await self._connections.reading(lambda log: last_of(log, workflow_name, run_id))

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        """See `EventStore.find`."""
        if not is_unicode(checkpoint_id) or not (stream is None or can_exist(stream)):
            return None
        only, key = (OF_RUNS, ()) if stream is None else where(stream)
        return await self._connections.reading(lambda log: newest_of(log, checkpoint_id, only, key))

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """See `EventStore.find_in`."""
        if not is_unicode(workflow_name) or not is_unicode(checkpoint_id):
            return None
        only, key = OF_WORKFLOW, (workflow_name,)
        return await self._connections.reading(lambda log: newest_of(log, checkpoint_id, only, key))

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.headers`."""
        if not can_exist(stream):
            return
        only, key = where(stream)
        async with aclosing(self._pages(only, key, "seq", gt, lte, desc)) as rows:
            async for row in rows:
                yield event_of(row)

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`; the order is that of commits."""
        if not is_unicode(workflow_name):
            return
        pages = self._pages(OF_WORKFLOW, (workflow_name,), "position", 0, None, desc, emptied=emptied)
        async with aclosing(pages) as rows:
            async for row in rows:
                yield event_of(row)

    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        """See `EventStore.keys`."""
        stream = StreamId(workflow_name, run_id or "")
        if not can_exist(stream):
            return
        fetch = partial(keys_behind, only=OF_WORKFLOW, key=(workflow_name,), column="position")
        if run_id is not None:
            only, key = where(stream)
            fetch = partial(keys_behind, only=only, key=key, column="seq")
        low: int | None = 0
        while low is not None:
            page, low = await self._connections.reading(partial(fetch, low=low))
            if page is not None:
                yield page

    def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        """See `EventStore.headers_of_runs`."""
        return self._stretches(streams, COLUMNS)

    async def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.streams`."""
        if not can_exist(StreamId(workflow_name or "", prefix)):
            return
        if prefix:
            named = partial(streams_named, workflow_name=workflow_name, prefix=prefix, emptied=emptied)
            for row in await self._connections.reading(named):
                yield StreamId(*row)
            return
        seen: set[StreamId] = set()
        fetch = partial(streams_between, workflow_name=workflow_name, emptied=emptied)
        since = MIN_SEQ
        for _ in range(_WALKS):
            top: int | None = None
            before, pages = MAX_SEQ, 0
            while True:
                top, rows = await self._connections.reading(partial(fetch, since=since, before=before, top=top))
                pages += 1
                for position, *names in rows:
                    if (stream := StreamId(*names)) not in seen:
                        seen.add(stream)
                        yield stream
                    before = max(position - 1, MIN_SEQ)
                if len(rows) < queries.PAGE:
                    break
            if pages == 1:
                return  # all of it was of one moment
            # Of a run that was written to meanwhile, all that lay before may have been removed before the walk came to
            # it: so what was written since is walked along, too.
            since = top

    async def removal_streams(self) -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.removal_streams`."""
        for stream in await self._connections.reading(removal_streams):
            yield stream

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """See `AuditStore.checkpoint_ids`."""
        if not is_unicode(prefix):
            return []
        return await self._connections.reading(lambda log: ids_beginning_with(log, prefix, limit))

    async def runs_with(self, workflow_name: str, checkpoint_ids: Sequence[str]) -> list[tuple[str, str]]:
        """See `AuditStore.runs_with`."""
        wanted = [name for name in {*checkpoint_ids} if is_unicode(name)] if is_unicode(workflow_name) else []
        return sorted(await self._connections.reading(lambda log: runs_with(log, workflow_name, wanted)))

    async def events(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.events`."""
        async with aclosing(self._stretches([stream], WHOLE, gt, lte)) as stretches:
            async for stretch in stretches:
                for event in stretch.events:
                    yield event

    def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        """See `AuditStore.events_of_runs`."""
        return self._stretches(streams, WHOLE)

    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.newest`."""
        high, limit = None, _TURNS
        while can_exist(stream):
            fetch = partial(newest_up_to, stream=stream, high=high, lte=lte, limit=limit)
            events, high = await self._connections.reading(fetch)
            for event in events:
                yield event
            if high is None:
                return
            limit = min(_GROWS * limit, queries.PAGE)

    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        """See `AuditStore.run_ids`."""
        after: object = REMOVALS
        while is_unicode(workflow_name):
            names, after = await self._connections.reading(
                partial(run_ids_behind, workflow_name=workflow_name, after=after)
            )
            for name in names:
                yield name
            if after is None:
                return

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        """See `AuditStore.put`."""
        return await self._connections.writing(lambda log: put_all(log, stream, events))

    async def put_over(self, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
        """See `AuditStore.put_over`. The head that each append is compared with keeps the gaps closed."""
        return await self._connections.writing(lambda log: put_over(log, stream, events, after=after))

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """See `AuditStore.remove`."""
        return await self._appends.remove(stream, seqs) if seqs else 0

    async def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.follow`; the order is that of commits."""
        after = await self._connections.reading(lambda log: position_before_last(log, last))
        while True:
            async with aclosing(self._pages("", (), "position", after, None, False)) as rows:
                async for row in rows:
                    after = row[0]
                    yield event_of(row)
            await asyncio.sleep(poll)

    async def checks(self, *, write: bool = True) -> list[Check]:
        """See `AuditStore.checks`."""
        return await checks_of(self._connections, write=write)

    async def give_back(self) -> Space:
        """See `AuditStore.give_back`. A file that a version before 0.3 made is left as it is: see `rewrite`."""
        return await give_back(self._connections)

    async def free_share(self) -> float:
        """See `AuditStore.free_share`."""
        return await free_share(self._connections)

    async def committed(self, *, after: int, limit: int) -> list[tuple[int, CheckpointEvent]]:
        """The headers of all streams' events in the order of their commits, each with its position, from `after` on."""
        return await self._connections.reading(lambda log: committed(log, after=after, limit=limit))

    def sessions(self) -> SqliteEventStore:
        """See `EventStore.sessions`: tables of the same file, made with the first write to them. Closing it by itself
        closes nothing of this store, and this store has the closed one from then on."""
        return self._sessions

    def run_store(self, name: str | None = None) -> RunStore:
        """See `EventStore.run_store`."""
        if name is not None:
            check_projection(name)
        return SqliteRunStore(self._connections, name)

    def change_feed(self) -> ChangeFeed:
        """See `EventStore.change_feed`."""
        return SqliteChangeFeed(self._connections)

    def document_store(self) -> DocumentStore:
        """See `EventStore.document_store`: a table of the same file."""
        return SqliteDocumentStore(self._connections)

    async def reading(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `fetch` finds, in the reader's thread: for what is kept beside the events in the same file."""
        return await self._connections.reading(lambda log: fetch(log.connection))

    async def writing(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `change` gives, in one transaction of the writer's thread; see `reading`."""
        return await self._connections.writing(lambda log: change(log.connection))

    async def close(self) -> None:
        """See `EventStore.close`. A closed store refuses further work."""
        self._appends.hand_over()
        self._sessions.hand_over()
        await self._connections.close()

    async def _stretches(
        self, streams: Sequence[StreamId], columns: str, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[Stretch, None]:
        """The events of runs in stretches, fetched a page at a time: no read stays open in between."""
        low, high = bounds_of(gt, lte)
        left = list(streams)
        while left:
            found, low = await self._connections.reading(
                partial(stretches_of, streams=left, low=low, high=high, columns=columns)
            )
            for stretch in found:
                yield stretch
            left = left[sum(stretch.ends for stretch in found) :]

    async def _pages(
        self,
        only: str,
        key: tuple[str, ...],
        column: Literal["seq", "position"],
        gt: int,
        lte: int | None,
        desc: bool,
        *,
        emptied: bool = True,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        """Rows without data in the order of `column`, fetched a page at a time: no read stays open in between."""
        low, high = bounds_of(gt, lte)
        limit = 1 if desc else queries.PAGE  # who reads backwards mostly wants the first one only
        fetch = partial(page_of, only=only, key=key, column=column, desc=desc, emptied=emptied)
        while True:
            rows = await self._connections.reading(partial(fetch, low=low, high=high, limit=limit))
            for row in rows:
                yield row
            if len(rows) < limit:
                return
            limit = min(_GROWS * limit, queries.PAGE)
            last = rows[-1][COLUMNS.split(", ").index(column)]
            low, high = (low, max(ceil(last) - 1, MIN_SEQ)) if desc else (last, high)  # in a damaged row, a fraction


class _Sessions(SqliteEventStore):
    """The log of sessions of a store."""

    def __init__(self, store: SqliteEventStore) -> None:
        self.path = store.path
        self.read_only = store.read_only
        self._runs = store._connections
        self._connections = self._runs.of(SESSIONS)
        self._appends = Appends(self._connections)

    async def checks(self, *, write: bool = True) -> list[Check]:
        """See `AuditStore.checks`: those of the file, which has both logs."""
        return await checks_of(self._runs, write=write)

    async def give_back(self) -> Space:
        """See `AuditStore.give_back`: that of the file, which has both logs."""
        return await give_back(self._runs)

    async def free_share(self) -> float:
        """See `AuditStore.free_share`: that of the file."""
        return await free_share(self._runs)

    def sessions(self) -> SqliteEventStore:
        """See `EventStore.sessions`: those of sessions have none of their own."""
        raise CheckpointStoreError(f"{self.path}: the sessions of a store keep no sessions of their own.")

    def hand_over(self) -> None:
        """Let the writer have all appends that wait."""
        self._appends.hand_over()

    async def close(self) -> None:
        """Finish what is under way here. The store whose sessions these are stays open."""
        self.hand_over()
        await self._connections.close_log()


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        given = os.fspath(path)
    except TypeError:
        given = None
    if not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"path is text or a pathlib.Path, not {described(path)}.")
    no_connection_string("path", given, instead=_A_FILE)
    if may_hold_a_key(given) and not os.path.lexists(given):  # a file that is there is a file, whatever it is called
        raise ValueError(f"path may be a key, or a URL with one, and is not shown. {_A_FILE}")
    if given.strip() in ("", ":memory:") or "\0" in given:
        raise ValueError(
            f"SqliteEventStore needs a file's path, which {described(given)} is not; for a throw-away store use a "
            "temporary folder."
        )
    return Path(given).absolute()
