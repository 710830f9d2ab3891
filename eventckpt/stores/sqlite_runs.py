"""The "latest" projection in the SQLite file, in a table beside the events."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ..events import RunInfo, StreamId
from . import RunStore, gives_way

__all__ = ["SqliteRunStore"]

_T = TypeVar("_T")

_PAGE: Final = 256
_KIND: Final = "latest"
_IN_USE: Final = f"coalesce(?, (SELECT active FROM projections WHERE kind = '{_KIND}'), '{_KIND}')"
"""The projection that was asked for by name, or the one in use."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RunInfo)


class _File(Protocol):
    """The connections of a `SqliteEventStore`."""

    async def reading(self, fetch: Callable[[sqlite3.Connection], _T]) -> _T: ...

    async def writing(self, change: Callable[[sqlite3.Connection], _T]) -> _T: ...


class SqliteRunStore(RunStore):
    """See `RunStore`; made by `SqliteEventStore.runs`."""

    def __init__(self, store: _File, name: str | None) -> None:
        self._store = store
        self._name = name

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """See `RunStore.get`."""

        def fetch(connection: sqlite3.Connection) -> dict[StreamId, RunInfo]:
            found: dict[StreamId, RunInfo] = {}
            for stream in streams:
                row = connection.execute(_GET, (self._name, stream.workflow_name, stream.run_id)).fetchone()
                if row is not None:
                    found[stream] = _decoder.decode(row[0])
            return found

        return await self._store.reading(fetch)

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""

        def change(connection: sqlite3.Connection) -> int:
            return sum(map(partial(self._put, connection), infos))

        return await self._store.writing(change)

    def _put(self, connection: sqlite3.Connection, info: RunInfo) -> int:
        """Write a document unless the stored one stays; how many were written."""
        row = _row(self._name, info)
        written = connection.execute(f"{_PUT} WHERE excluded.seq > runs.seq", row).rowcount
        if written or info.status == "idle":
            return written
        same = connection.execute(
            f"{_GET} AND seq = ?", (self._name, info.workflow_name, info.run_id, info.seq)
        ).fetchone()
        if same is None or not gives_way(_decoder.decode(same[0]), info):
            return 0
        return connection.execute(_PUT, row).rowcount

    async def newest(self, workflow_name: str) -> RunInfo | None:
        """See `RunStore.newest`; the order is that of commits."""

        def fetch(connection: sqlite3.Connection) -> RunInfo | None:
            row = connection.execute(
                f"SELECT info FROM runs WHERE projection = {_IN_USE} AND workflow_name = ? AND position IS NOT NULL"
                " ORDER BY position DESC LIMIT 1",
                (self._name, workflow_name),
            ).fetchone()
            return _decoder.decode(row[0]) if row else None

        return await self._store.reading(fetch)

    async def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.all`."""
        after = ("", "") if workflow_name is None else (workflow_name, "")
        only = "" if workflow_name is None else "AND workflow_name = ?"
        while True:
            key = (self._name, *after, *(() if workflow_name is None else (workflow_name,)))

            def fetch(connection: sqlite3.Connection, key: tuple[Any, ...] = key) -> list[tuple[str, str, bytes]]:
                return connection.execute(
                    f"SELECT workflow_name, run_id, info FROM runs WHERE projection = {_IN_USE}"
                    f" AND (workflow_name, run_id) > (?, ?) {only} ORDER BY workflow_name, run_id LIMIT {_PAGE}",
                    key,
                ).fetchall()

            rows = await self._store.reading(fetch)
            for _, _, info in rows:
                yield _decoder.decode(info)
            if len(rows) < _PAGE:
                return
            after = rows[-1][:2]

    async def idle(self) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.idle`."""

        def is_noted(connection: sqlite3.Connection) -> bool:
            return connection.execute(f"SELECT 1 FROM projections WHERE kind = {_NOTE}", (self._name,)).fetchone()

        if await self._store.reading(is_noted):
            return
        async with aclosing(super().idle()) as infos:
            async for info in infos:
                yield info

    async def note_none_idle(self) -> None:
        """See `RunStore.note_none_idle`."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(f"INSERT OR IGNORE INTO projections (kind, active) VALUES ({_NOTE}, '')", (self._name,))

        await self._store.writing(change)

    async def clear(self) -> None:
        """See `RunStore.clear`."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM runs WHERE projection = {_IN_USE}", (self._name,))
            connection.execute(f"DELETE FROM projections WHERE kind = {_NOTE}", (self._name,))

        await self._store.writing(change)

    async def active(self, *, certain: bool = False) -> str:
        """See `RunStore.active`."""

        def fetch(connection: sqlite3.Connection) -> str:
            return connection.execute(f"SELECT {_IN_USE}", (None,)).fetchone()[0]

        return await self._store.reading(fetch)

    async def activate(self, name: str) -> None:
        """See `RunStore.activate`."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO projections (kind, active) VALUES (?, ?)"
                " ON CONFLICT (kind) DO UPDATE SET active = excluded.active",
                (_KIND, name),
            )

        await self._store.writing(change)


_PUT: Final = f"""
    INSERT INTO runs (projection, workflow_name, run_id, seq, position, info)
    VALUES ({_IN_USE}, ?, ?, ?,
        (SELECT position FROM events WHERE workflow_name = ? AND run_id = ? AND seq = ?), ?)
    ON CONFLICT (projection, workflow_name, run_id) DO UPDATE
    SET seq = excluded.seq, position = excluded.position, info = excluded.info"""
_GET: Final = f"SELECT info FROM runs WHERE projection = {_IN_USE} AND workflow_name = ? AND run_id = ?"
_NOTE: Final = f"'none idle in ' || {_IN_USE}"
"""The kind of the row that notes of a projection that no document of it says `idle`."""


def _row(name: str | None, info: RunInfo) -> tuple[Any, ...]:
    key = (info.workflow_name, info.run_id)
    return (name, *key, info.seq, *key, info.checkpoint_seq, _encoder.encode(info))
