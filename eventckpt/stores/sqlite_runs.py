"""The "latest" projection in the SQLite file, in a table beside the events."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ..events import RunInfo, StreamId
from . import RunStore

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
                row = connection.execute(
                    f"SELECT info FROM runs WHERE projection = {_IN_USE} AND workflow_name = ? AND run_id = ?",
                    (self._name, stream.workflow_name, stream.run_id),
                ).fetchone()
                if row is not None:
                    found[stream] = _decoder.decode(row[0])
            return found

        return await self._store.reading(fetch)

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""

        def change(connection: sqlite3.Connection) -> int:
            return sum(connection.execute(_PUT, _row(self._name, info)).rowcount for info in infos)

        return await self._store.writing(change)

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

    async def clear(self) -> None:
        """See `RunStore.clear`."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM runs WHERE projection = {_IN_USE}", (self._name,))

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
    SET seq = excluded.seq, position = excluded.position, info = excluded.info WHERE excluded.seq > runs.seq
"""


def _row(name: str | None, info: RunInfo) -> tuple[Any, ...]:
    key = (info.workflow_name, info.run_id)
    return (name, *key, info.seq, *key, info.checkpoint_seq, _encoder.encode(info))
