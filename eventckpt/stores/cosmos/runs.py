"""The "latest" projection in Azure Cosmos DB: one item per run, in a container beside the events.

The item's id is the name of the projection and its partition key that of the run's events, so that one run is one
point read, and several projections can stand side by side while one of them is rebuilt.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, Final, cast

import msgspec

from ...events import RunInfo, StreamId
from .. import RunStore
from . import log
from .container import Container, Layout, together
from .items import partition_key_of

__all__ = ["PROJECTION_INDEXING", "CosmosRunStore"]

PROJECTION_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Only what `newest` filters and sorts by: each indexed term costs 0.2 RU a write.
    "includedPaths": [{"path": "/workflow_name/?"}, {"path": "/timestamp/?"}],
    "excludedPaths": [{"path": "/*"}],
    "compositeIndexes": [
        [{"path": "/workflow_name", "order": "ascending"}, {"path": "/timestamp", "order": "ascending"}]
    ],
}

_FIELDS: Final = ", ".join(f"c.{field.encode_name}" for field in msgspec.structs.fields(RunInfo))
_LAYOUT: Final = Layout("projections", "/stream", PROJECTION_INDEXING)
_MEMORY: Final = 10_000  # runs whose etag is remembered, so that writing on needs no read
_NEWEST: Final = 10  # rows of a page where one is wanted
_LATEST: Final = "latest"
_POINTER: Final = "active"
_POINTER_AGE: Final = 5.0
"""Seconds for which a reader goes on with the projection it knows to be in use; the old one stays readable."""


class CosmosRunStore(RunStore):
    """See `RunStore`; made by `CosmosEventStore.runs`."""

    def __init__(self, events: Container, name: str | None) -> None:
        self._container = events.beside("-projections", _LAYOUT)
        self._name = name
        self._known: tuple[str, float] | None = None
        self._etags: OrderedDict[tuple[str, StreamId], tuple[int, str]] = OrderedDict()

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """See `RunStore.get`."""
        async with self._container.in_use():
            name = await self._in_use()
            found = await together(*(partial(self._read, name, stream) for stream in streams))
        return {info.stream: info for info in found if info is not None}

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""
        async with self._container.in_use():
            name = await self._in_use()
            return sum(await together(*(partial(self._put, name, info) for info in infos)))

    async def newest(self, workflow_name: str) -> RunInfo | None:
        """See `RunStore.newest`; runs are told apart by the timestamps of their checkpoints."""
        async with self._container.in_use():
            order = self._container.newest_first("workflow_name", "timestamp")
            rows = await self._container.query_sorted(
                f"SELECT TOP 1 {_FIELDS} FROM c WHERE c.workflow_name = @workflow AND c.id = @id AND c.timestamp > ''"
                f" ORDER BY {order}",
                {"@workflow": workflow_name, "@id": await self._in_use()},
                page=_NEWEST,
            ).rows()
        found = [msgspec.convert(row, RunInfo) for row in rows]
        return found[0] if found else None

    async def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.all`."""
        async with self._container.in_use():
            values: dict[str, object] = {"@id": await self._in_use()}
        only = ""
        if workflow_name is not None:
            only, values["@workflow"] = " AND c.workflow_name = @workflow", workflow_name
        cursor = self._container.query(f"SELECT {_FIELDS} FROM c WHERE c.id = @id{only}", values)
        async with aclosing(log.rows_of(self._container, cursor)) as rows:
            async for row in rows:
                yield msgspec.convert(row, RunInfo)

    async def clear(self) -> None:
        """See `RunStore.clear`."""
        async with self._container.in_use():
            name = await self._in_use()
            self._etags.clear()
            cursor = self._container.query("SELECT c.stream FROM c WHERE c.id = @id", {"@id": name})
            while (page := await cursor.page()) is not None:
                await together(*(partial(self._container.remove, name, str(row["stream"])) for row in page))

    async def active(self) -> str:
        """See `RunStore.active`."""
        async with self._container.in_use():
            pointer = await self._container.read(_POINTER, _LATEST)
        return _LATEST if pointer is None else str(pointer["projection"])

    async def activate(self, name: str) -> None:
        """See `RunStore.activate`. Readers notice within seconds."""
        async with self._container.in_use():
            await self._container.put({"id": _POINTER, "stream": _LATEST, "projection": name})
        self._known = None

    async def _in_use(self) -> str:
        if self._name is not None:
            return self._name
        if self._known is None or time.monotonic() - self._known[1] > _POINTER_AGE:
            self._known = (await self.active(), time.monotonic())
        return self._known[0]

    async def _read(self, name: str, stream: StreamId) -> RunInfo | None:
        item = await self._container.read(name, partition_key_of(stream))
        if item is None:
            return None
        info = msgspec.convert(item, RunInfo)
        self._remember(name, info, str(item["_etag"]))
        return info

    async def _put(self, name: str, info: RunInfo) -> bool:
        """Create or replace under the condition that nobody else has written since; then look, and try again."""
        key = partition_key_of(info.stream)
        body = {**cast("dict[str, Any]", msgspec.to_builtins(info)), "id": name, "stream": key}
        while True:
            known = self._etags.pop((name, info.stream), None)
            if known is None:
                etag = await self._container.create_only(body)
            elif known[0] < info.seq:
                etag = await self._container.replace(body, known[1])
            else:
                etag = None  # what is remembered may have been cleared since
            if etag is not None:
                self._remember(name, info, etag)
                return True
            stored = await self._read(name, info.stream)
            if stored is not None and stored.seq >= info.seq:
                return False

    def _remember(self, name: str, info: RunInfo, etag: str) -> None:
        self._etags[name, info.stream] = (info.seq, etag)
        self._etags.move_to_end((name, info.stream))
        if len(self._etags) > _MEMORY:
            self._etags.popitem(last=False)
