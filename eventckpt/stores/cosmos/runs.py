"""The "latest" projection in Azure Cosmos DB: one item per run, in a container beside the events.

The item's id is the name of the projection and its partition key that of the run's events, so that one run is one
point read, and several projections can stand side by side while one of them is rebuilt.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, cast

import msgspec
from azure.core import MatchConditions
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from ...events import RunInfo, StreamId
from .. import RunStore
from .beside import SideContainer
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
_AT_ONCE: Final = 16
_MEMORY: Final = 10_000  # runs whose etag is remembered, so that writing on needs no read
_LATEST: Final = "latest"
_POINTER: Final = "active"
_POINTER_AGE: Final = 5.0
"""Seconds for which a reader goes on with the projection it knows to be in use; the old one stays readable."""


class CosmosRunStore(RunStore):
    """See `RunStore`; made by `CosmosEventStore.runs`."""

    def __init__(
        self,
        events: Callable[[], Awaitable[ContainerProxy]],
        name: str | None,
    ) -> None:
        self._container = SideContainer(
            events, "-projections", partition_key="/stream", indexing_policy=PROJECTION_INDEXING
        )
        self._name = name
        self._known: tuple[str, float] | None = None
        self._etags: OrderedDict[tuple[str, StreamId], tuple[int, str]] = OrderedDict()
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """See `RunStore.get`."""
        name = await self._in_use()
        found = await asyncio.gather(*(self._read(name, stream) for stream in streams))
        return {info.stream: info for info in found if info is not None}

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""
        name = await self._in_use()
        return sum(await asyncio.gather(*(self._put(name, info) for info in infos)))

    async def newest(self, workflow_name: str) -> RunInfo | None:
        """See `RunStore.newest`; runs are told apart by the timestamps of their checkpoints."""
        rows = self._container.query(
            f"SELECT TOP 1 {_FIELDS} FROM c WHERE c.workflow_name = @workflow AND c.id = @id AND c.timestamp > ''"
            " ORDER BY c.workflow_name DESC, c.timestamp DESC",
            {"@workflow": workflow_name, "@id": await self._in_use()},
        )
        found = [msgspec.convert(row, RunInfo) async for row in rows]
        return found[0] if found else None

    async def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.all`."""
        values: dict[str, object] = {"@id": await self._in_use()}
        only = ""
        if workflow_name is not None:
            only, values["@workflow"] = " AND c.workflow_name = @workflow", workflow_name
        async for row in self._container.query(f"SELECT {_FIELDS} FROM c WHERE c.id = @id{only}", values):
            yield msgspec.convert(row, RunInfo)

    async def clear(self) -> None:
        """See `RunStore.clear`."""
        name = await self._in_use()
        self._etags.clear()
        async for row in self._container.query("SELECT c.stream FROM c WHERE c.id = @id", {"@id": name}):
            key = str(row["stream"])
            try:
                await self._container.ask(lambda container, key=key: container.delete_item(name, key))
            except CosmosHttpResponseError as error:
                if error.status_code != 404:
                    raise

    async def active(self) -> str:
        """See `RunStore.active`."""
        try:
            pointer = await self._container.ask(lambda container: container.read_item(_POINTER, _LATEST))
        except CosmosHttpResponseError as error:
            if error.status_code != 404:
                raise
            return _LATEST
        return str(pointer["projection"])

    async def activate(self, name: str) -> None:
        """See `RunStore.activate`. Readers notice within seconds."""
        body = {"id": _POINTER, "stream": _LATEST, "projection": name}
        await self._container.ask(lambda container: container.upsert_item(body))
        self._known = None

    async def _in_use(self) -> str:
        if self._name is not None:
            return self._name
        if self._known is None or time.monotonic() - self._known[1] > _POINTER_AGE:
            self._known = (await self.active(), time.monotonic())
        return self._known[0]

    async def _read(self, name: str, stream: StreamId) -> RunInfo | None:
        async with self._limit:
            try:
                item = await self._container.ask(lambda container: container.read_item(name, partition_key_of(stream)))
            except CosmosHttpResponseError as error:
                if error.status_code != 404:
                    raise
                return None
        info = msgspec.convert(item, RunInfo)
        self._remember(name, info, str(item["_etag"]))
        return info

    async def _put(self, name: str, info: RunInfo) -> bool:
        """Create or replace under the condition that nobody else has written since; then look, and try again."""
        body = {
            **cast("dict[str, Any]", msgspec.to_builtins(info)),
            "id": name,
            "stream": partition_key_of(info.stream),
        }
        while True:
            known = self._etags.get((name, info.stream))
            if known is not None and known[0] >= info.seq:
                self._etags.pop((name, info.stream))
                stored = await self._read(name, info.stream)  # what is remembered may have been cleared since
                if stored is not None and stored.seq >= info.seq:
                    return False
                continue
            try:
                async with self._limit:
                    etag = await self._container.ask(lambda container, known=known: _write(container, body, known))
            except CosmosHttpResponseError as error:
                if error.status_code not in (404, 409, 412):
                    raise
                self._etags.pop((name, info.stream), None)
                stored = await self._read(name, info.stream)
                if stored is not None and stored.seq >= info.seq:
                    return False
            else:
                self._remember(name, info, etag)
                return True

    def _remember(self, name: str, info: RunInfo, etag: str) -> None:
        self._etags[name, info.stream] = (info.seq, etag)
        self._etags.move_to_end((name, info.stream))
        if len(self._etags) > _MEMORY:
            self._etags.popitem(last=False)


async def _write(container: ContainerProxy, body: dict[str, Any], known: tuple[int, str] | None) -> str:
    """The etag of what was written."""
    if known is None:
        answer = await container.create_item(body, no_response=True)
    else:
        answer = await container.replace_item(
            str(body["id"]), body, etag=known[1], match_condition=MatchConditions.IfNotModified, no_response=True
        )
    return str(answer.get_response_headers()["etag"])
