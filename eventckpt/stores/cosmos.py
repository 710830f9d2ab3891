"""The distributed engine: one item per event in an Azure Cosmos DB for NoSQL container.

The stream is the partition key and the seq is the item's id, so the service itself refuses a second event at one
seq: an append is one `create_item`, whatever else happens at the same time. Everything that reads a run stays in
one logical partition. The item, the indexing policy and the queries stand side by side below, because each is the
reason for the others (https://learn.microsoft.com/azure/cosmos-db/nosql/ for the service's rules).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypedDict, TypeVar, cast
from urllib.parse import quote

import msgspec
from agent_framework import SecretString, load_settings
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError, CosmosResourceNotFoundError

from ..errors import (
    CheckpointStoreError,
    StoreFormatError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StreamConflict,
)
from ..events import CheckpointEvent, Payload, StreamId
from . import EventStore, Located

__all__ = ["INDEXING_POLICY", "PARTITION_KEY", "CosmosCredential", "CosmosEventStore", "partition_key_of"]

logger = logging.getLogger("eventckpt")

_T = TypeVar("_T")

CosmosCredential = str | SecretString | TokenCredential | AsyncTokenCredential
"""An account key, or an identity."""

PARTITION_KEY: Final = "/stream"

INDEXING_POLICY: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Each indexed term costs 0.2 RU a write: only what a query below filters or sorts by is indexed.
    "includedPaths": [
        {"path": f"/{name}/?"} for name in ("stream", "seq", "checkpoint_id", "workflow_name", "timestamp", "type")
    ],
    "excludedPaths": [{"path": "/*"}],
    "compositeIndexes": [
        [{"path": "/workflow_name", "order": "ascending"}, {"path": "/timestamp", "order": "ascending"}]
    ],
}

_HEADER: Final = ", ".join(f"c.{field.encode_name}" for field in msgspec.structs.fields(CheckpointEvent))
"""Every field of an event but `data`, which lies beside the header in the item: listings never transfer it."""

_PART: Final = "part"
_MAX_INLINE: Final = 512 * 1024
"""Bytes of an item above which its data goes into parts. The service takes 2 MB, but above 512 KB a write costs more
for each KB: 185 RU for 512 KB, 625 RU for 1 MB (https://learn.microsoft.com/azure/cosmos-db/key-value-store-cost)."""
_PART_BYTES: Final = 384_000  # of data; 512,000 in base64
_MAX_KEY: Final = 2_000  # bytes of a partition key; the service takes 2,048
_AT_ONCE: Final = 8  # requests that one operation sends in parallel
_TRIES: Final = 8
_TRANSIENT: Final = frozenset({408, 410, 429, 449, 503})


class _Settings(TypedDict, total=False):
    endpoint: str | None
    database_name: str | None
    container_name: str | None
    key: SecretString | None


class CosmosEventStore(EventStore):
    """Events in an Azure Cosmos DB container. The arguments are those of `agent_framework_azure_cosmos`.

    Args:
        endpoint: the account's URI; else `AZURE_COSMOS_ENDPOINT`.
        database_name: else `AZURE_COSMOS_DATABASE_NAME`.
        container_name: the container of events; else `AZURE_COSMOS_CONTAINER_NAME`. Database and container are
            created on first use where the identity may.
        credential: an account key, a `SecretString`, or a sync or async token credential; else `AZURE_COSMOS_KEY`.
        cosmos_client: an async client to use; not closed with the store.
        container_client: an async container to use; not closed with the store, and never created by it.
        env_file_path, env_file_encoding: a `.env` file to read settings from before the environment.

    Raises:
        SettingNotFoundError: a setting is given in none of these ways (agent_framework's exception).

    An append does not notice a gap: the caller's seq is compared with the events that exist, not with a counter.
    Reads have session consistency: a store reads what it wrote itself; what other processes wrote may be a moment
    late, and an append then meets the conflict.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        database_name: str | None = None,
        container_name: str | None = None,
        credential: CosmosCredential | None = None,
        cosmos_client: CosmosClient | None = None,
        container_client: ContainerProxy | None = None,
        env_file_path: str | None = None,
        env_file_encoding: str | None = None,
    ) -> None:
        self._client = cosmos_client
        self._owned: CosmosClient | None = None
        self._container = container_client
        self._checked: ContainerProxy | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._database_name, self._container_name = database_name or "", container_name or ""
        if container_client is not None:
            self._container_name = self._container_name or container_client.id
            return
        required = ["database_name", "container_name"]
        if cosmos_client is None:
            required += ["endpoint"] if credential is not None else ["endpoint", "key"]
        settings = load_settings(
            _Settings,
            env_prefix="AZURE_COSMOS_",
            required_fields=cast(Any, required),
            endpoint=endpoint,
            database_name=database_name,
            container_name=container_name,
            key=credential if isinstance(credential, (str, SecretString)) else None,
            env_file_path=env_file_path,
            env_file_encoding=env_file_encoding,
        )
        self._database_name = settings.get("database_name") or ""
        self._container_name = settings.get("container_name") or ""
        if cosmos_client is None:
            key = settings.get("key")
            secret = key.get_secret_value() if key is not None else None
            identity = None if credential is None or isinstance(credential, (str, SecretString)) else credential
            self._owned = self._client = CosmosClient(
                settings.get("endpoint") or "",
                credential=_as_async(identity) if identity is not None else (secret or ""),
                user_agent_suffix="eventckpt",
            )

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`."""
        body, parts = _item(event)
        # Parts first: the event is the commit point, and a part that nobody refers to is harmless.
        await _gathered(self._create(part) for part in parts)
        if await self._create(body):
            return
        [existing] = await self.read(event.stream, event.seq) or [None]
        if existing is None or existing.digest != event.digest:
            raise StreamConflict(event.stream, event.seq, await self._head(event.stream))

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`. Up to two are point reads, side by side; more are one query."""
        if len(seqs) <= 2:
            items = [item for item in await _gathered(self._point_read(stream, seq) for seq in set(seqs)) if item]
        else:
            names = [f"@id{index}" for index in range(len(seqs))]
            items = await self._query(
                f"SELECT * FROM c WHERE c.id IN ({', '.join(names)})",
                dict(zip(names, map(_id, seqs), strict=True)),
                stream,
            )
        return sorted(await _gathered(map(self._whole, items)), key=lambda event: event.seq)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Located | None:
        """See `EventStore.find`."""
        if stream is not None:
            newest, head = await asyncio.gather(
                self._query(
                    "SELECT TOP 1 * FROM c WHERE c.checkpoint_id = @id ORDER BY c.seq DESC",
                    {"@id": checkpoint_id},
                    stream,
                ),
                self._head(stream),
            )
            if not newest:
                return None
            event = await self._whole(newest[0])
            return Located(event, head if head and head.seq >= event.seq else event.header())
        found = await self._query(f"SELECT {_HEADER}, c._ts FROM c WHERE c.checkpoint_id = @id", {"@id": checkpoint_id})
        if not found:
            return None
        at = max(found, key=lambda item: (item.get("_ts", 0), item.get("recorded_at", ""), item.get("seq", 0)))
        newest_stream = StreamId(str(at["workflow_name"]), str(at["run_id"]))
        events, head = await asyncio.gather(self.read(newest_stream, int(at["seq"])), self._head(newest_stream))
        if not events:
            return None
        return Located(events[0], head if head and head.seq >= events[0].seq else events[0].header())

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.headers`."""
        below = "" if lte is None else " AND c.seq <= @lte"
        pages = self._pages(
            f"SELECT {_HEADER} FROM c WHERE c.seq > @gt{below} ORDER BY c.seq {'DESC' if desc else 'ASC'}",
            {"@gt": gt} if lte is None else {"@gt": gt, "@lte": lte},
            stream,
        )
        async for item in pages:
            yield _header(item)

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`. Runs are told apart by their timestamps, and each is in order of seq:
        newest first, run by run; oldest first, merged."""
        query = f"SELECT {_HEADER} FROM c WHERE c.workflow_name = @name ORDER BY c.timestamp"
        values = {"@name": workflow_name}
        if desc:
            seen: set[StreamId] = set()
            async for item in self._pages(f"{query} DESC", values):
                stream = _header(item).stream
                if stream not in seen:
                    seen.add(stream)
                    async for header in self.headers(stream, desc=True):
                        yield header
            return
        runs: dict[StreamId, list[CheckpointEvent]] = {}
        async for item in self._pages(f"{query} ASC", values):
            header = _header(item)
            runs.setdefault(header.stream, []).append(header)
        for _, header in sorted(_by_time(runs.values()), key=lambda pair: pair[0]):
            yield header

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        """See `EventStore.remove_orphaned_parts`."""
        parts = await self._query(
            "SELECT c.id, c.stream FROM c WHERE c.type = @part AND c._ts < (GetCurrentTimestamp() / 1000 - @age)",
            {"@part": _PART, "@age": older_than},
        )
        names: dict[str, set[str]] = {}
        for part in parts:
            names.setdefault(str(part["stream"]), set()).add(str(part["id"]))
        removed = 0
        for stream, candidates in names.items():
            events = await self._query(f"SELECT {_HEADER} FROM c WHERE c.seq > 0", {}, stream)
            used = {name for payload in map(_payload, events) if payload for name in payload.parts}
            for name in candidates - used:
                removed += await self._delete(name, stream)
        return removed

    async def close(self) -> None:
        """See `EventStore.close`. A client or container that was passed in stays open."""
        self._closed = True
        owned, self._owned = self._owned, None
        if owned is not None:
            await owned.close()

    # One request each

    async def _create(self, body: dict[str, Any]) -> bool:
        """Whether `body` was created; False where its id is taken. Ids are deterministic, so retries are safe."""
        container = await self._ready()
        try:
            await self._asked(lambda: container.create_item(body, no_response=True, retry_write=3))
        except CosmosHttpResponseError as error:
            if error.status_code != 409:
                raise
            return False
        return True

    async def _delete(self, name: str, stream: str) -> bool:
        container = await self._ready()
        try:
            await self._asked(lambda: container.delete_item(name, stream))
        except CosmosResourceNotFoundError:
            return False
        return True

    async def _point_read(self, stream: StreamId, seq: int) -> dict[str, Any] | None:
        container = await self._ready()
        try:
            return await self._asked(lambda: container.read_item(_id(seq), partition_key_of(stream)))
        except CosmosResourceNotFoundError:
            return None

    async def _head(self, stream: StreamId) -> CheckpointEvent | None:
        found = await self._query(f"SELECT TOP 1 {_HEADER} FROM c WHERE c.seq > 0 ORDER BY c.seq DESC", {}, stream)
        return _header(found[0]) if found else None

    async def _whole(self, item: dict[str, Any]) -> CheckpointEvent:
        """The event in an item that was read whole, its data fetched from parts where it lies in some."""
        event = _header(item)
        if event.payload is None:
            return event
        if event.payload.parts:
            container = await self._ready()
            key = str(item["stream"])
            limit = asyncio.Semaphore(_AT_ONCE)

            async def part(name: str) -> bytes:
                async with limit:
                    try:
                        return _data(await self._asked(lambda: container.read_item(name, key)))
                    except CosmosResourceNotFoundError:
                        return b""  # noticed by the digest

            data = b"".join(await asyncio.gather(*map(part, event.payload.parts)))
        else:
            data = _data(item)
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data))

    async def _query(
        self, query: str, values: Mapping[str, object], stream: StreamId | str | None = None
    ) -> list[dict[str, Any]]:
        return [item async for item in self._pages(query, values, stream)]

    async def _pages(
        self, query: str, values: Mapping[str, object], stream: StreamId | str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The items of a query, a page at a time; of one logical partition where a stream is given."""
        container = await self._ready()
        scope: dict[str, Any] = {}
        if stream is not None:
            scope["partition_key"] = stream if isinstance(stream, str) else partition_key_of(stream)
        pages = container.query_items(
            query, parameters=[{"name": name, "value": value} for name, value in values.items()], **scope
        ).by_page()
        while True:
            try:
                page = await self._asked(lambda: _next_page(pages))
            except StopAsyncIteration:
                return
            for item in page:
                yield item

    async def _asked(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Send a request, again after faults that pass. All requests here may be repeated: reads, and creates and
        deletes of deterministic ids."""
        for attempt in range(_TRIES):
            try:
                return await request()
            except (CosmosHttpResponseError, ServiceRequestError, ServiceResponseError) as error:
                status = error.status_code if isinstance(error, CosmosHttpResponseError) else None
                passing = status is None or status in _TRANSIENT
                if not passing or attempt == _TRIES - 1:
                    raise self._translated(error) from error
                logger.debug("Cosmos DB answered %s; trying again (%d)", status or type(error).__name__, attempt + 1)
                await asyncio.sleep(random.uniform(0.5, 1) * min(5.0, 0.05 * 2**attempt))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    def _translated(self, error: AzureError) -> Exception:
        """What to tell the user; 404 and 409 are answers, not errors, and pass as they are."""
        where = f"container {self._container_name!r} of database {self._database_name!r}"
        status = getattr(error, "status_code", None)
        match status:
            case 404 | 409:
                return error
            case 401 | 403:
                return StoreReadOnlyError(
                    f"Cosmos DB refused the identity on {where} ({status}). It needs the role 'Cosmos DB Built-in Data "
                    "Contributor': az cosmosdb sql role assignment create --role-definition-id "
                    "00000000-0000-0000-0000-000000000002 --principal-id … --scope / "
                )
            case 413:
                return CheckpointStoreError(f"An event is too large for {where}: its header alone exceeds 2 MB.")
            case _:
                what = f"answered {status}" if status else f"could not be reached ({type(error).__name__})"
                return StoreUnavailableError(
                    f"Cosmos DB {what} on {where}, {_TRIES} times in a row. Trying again is safe. "
                    "429: raise the throughput; otherwise see the service's health."
                )

    # Opening

    async def _ready(self) -> ContainerProxy:
        if self._closed:
            raise CheckpointStoreError(f"The store on container {self._container_name!r} was closed; make a new one.")
        if self._checked is None:
            async with self._opening:
                if self._checked is None:
                    self._checked = await self._opened()
        return self._checked

    async def _opened(self) -> ContainerProxy:
        container = self._container or await self._made()
        try:
            properties = await self._asked(lambda: container.read())
        except CosmosResourceNotFoundError as error:
            raise self._missing() from error
        paths = cast("dict[str, Any]", properties.get("partitionKey", {})).get("paths")
        if paths != [PARTITION_KEY]:
            raise StoreFormatError(
                f"Container {self._container_name!r} is partitioned by {paths}, events need {PARTITION_KEY!r}. "
                "Give the store a container of its own; the one of agent_framework_azure_cosmos cannot be shared."
            )
        return container

    async def _made(self) -> ContainerProxy:
        """The container, created with its database where the identity may; else as it is."""
        client = self._client
        if client is None:
            raise self._missing()
        container = client.get_database_client(self._database_name).get_container_client(self._container_name)
        try:
            database = await self._if_missing(lambda: client.create_database_if_not_exists(self._database_name))
            return await self._if_missing(
                lambda: database.create_container_if_not_exists(
                    self._container_name, PartitionKey(PARTITION_KEY), indexing_policy=INDEXING_POLICY
                )
            )
        except StoreReadOnlyError:
            return container  # identities without that right are usual; whether it exists is seen next
        except CosmosResourceNotFoundError as error:
            raise self._missing() from error

    async def _if_missing(self, make: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await self._asked(make)
        except CosmosResourceExistsError:  # made by another process between the SDK's look and its own attempt
            return await self._asked(make)

    def _missing(self) -> StoreFormatError:
        return StoreFormatError(
            f"Container {self._container_name!r} of database {self._database_name!r} does not exist, and this identity "
            "cannot create it. Create it: az cosmosdb sql container create --resource-group … --account-name … "
            f"--database-name {self._database_name} --name {self._container_name} --partition-key-path {PARTITION_KEY}"
        )


def partition_key_of(stream: StreamId) -> str:
    """The partition key of a stream: readable, and a hash of itself where it would be too long for the service."""
    key = f"{quote(stream.workflow_name, safe='')}|{quote(stream.run_id, safe='')}"
    if len(key) <= _MAX_KEY:
        return key
    return f"{key[: _MAX_KEY - 65]}~{hashlib.sha256(key.encode()).hexdigest()}"


def _id(seq: int) -> str:
    return f"{seq:012d}"


def _item(event: CheckpointEvent) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The item of an event, and its parts if it is too large for one."""
    header = event.header()
    data = event.payload.data if event.payload else b""
    key = partition_key_of(event.stream)
    text = base64.b64encode(data).decode()
    parts: list[dict[str, Any]] = []
    if header.payload is not None and len(msgspec.json.encode(header)) + len(text) > _MAX_INLINE:
        chunks = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        parts = [
            {
                "id": f"{_PART}-{hashlib.sha256(chunk).hexdigest()}",
                "stream": key,
                "type": _PART,
                "data": base64.b64encode(chunk).decode(),
            }
            for chunk in chunks
        ]
        header = msgspec.structs.replace(
            header, payload=msgspec.structs.replace(header.payload, parts=tuple(str(part["id"]) for part in parts))
        )
        text = ""
    body = cast("dict[str, Any]", msgspec.to_builtins(header))
    return {**body, "id": _id(event.seq), "stream": key, "data": text}, parts


def _header(item: Mapping[str, Any]) -> CheckpointEvent:
    try:
        return msgspec.convert(item, CheckpointEvent)
    except msgspec.ValidationError:
        return CheckpointEvent.unreadable(
            kind=item.get("type"),
            workflow_name=item.get("workflow_name"),
            run_id=item.get("run_id"),
            seq=item.get("seq"),
            checkpoint_id=item.get("checkpoint_id"),
            digest=item.get("digest"),
        )


def _payload(item: Mapping[str, Any]) -> Payload | None:
    return _header(item).payload


def _data(item: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(item.get("data") or "", validate=True)
    except ValueError:
        return b""  # noticed by the digest


def _by_time(runs: Iterable[list[CheckpointEvent]]) -> Iterable[tuple[tuple[str, str, int], CheckpointEvent]]:
    """Each header with a key that sorts runs by time, without ever putting a later seq before an earlier one."""
    for run in runs:
        latest = ""
        for header in sorted(run, key=lambda header: header.seq):
            latest = max(latest, header.timestamp)
            yield (latest, header.run_id, header.seq), header


async def _next_page(pages: Any) -> list[dict[str, Any]]:
    return [item async for item in await anext(pages)]


async def _gathered(requests: Iterable[Awaitable[_T]]) -> list[_T]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(request: Awaitable[_T]) -> _T:
        async with limit:
            return await request

    return list(await asyncio.gather(*map(one, requests)))


def _as_async(credential: TokenCredential | AsyncTokenCredential) -> AsyncTokenCredential:
    """The SDK's async client awaits its credential; a sync one is asked in a thread."""
    if inspect.iscoroutinefunction(credential.get_token):
        return cast(AsyncTokenCredential, credential)
    return _Threaded(cast(TokenCredential, credential))


class _Threaded(AsyncTokenCredential):
    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return await asyncio.to_thread(self._credential.get_token, *scopes, **options)

    async def close(self) -> None: ...

    async def __aenter__(self) -> _Threaded:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...
