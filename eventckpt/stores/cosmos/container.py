"""The container behind a store: opened on first use, asked until it answers, closed when nobody needs it any more.

Every request that the engine sends goes through here, so that what may go wrong on the way is dealt with once. All
of them may be sent again: they read, or they write under ids that the content decides.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, cast

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError

from ...errors import CheckpointStoreError, StoreFormatError, StoreReadOnlyError, StoreUnavailableError
from ...log import logger_of
from .items import INDEXING_POLICY, PARTITION_KEY, Item

__all__ = ["Cursor", "EventContainer", "together"]

logger = logger_of("eventckpt")

_T = TypeVar("_T")

PATIENCE = 30.0
"""Seconds for which a request is sent again, on top of the SDK's own attempts. Then the caller hears of it: a workflow
should learn that its checkpoints are not being saved before it has gone on for minutes."""
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0

AT_ONCE: Final = 8
"""Requests that one operation sends in parallel."""
PAGE: Final = 1000
"""Rows of a page. The service ends one earlier at 4 MB."""

# Throttled, timed out, moved, contended; and what a gateway on the way may answer.
_PASSING: Final = frozenset({408, 410, 429, 449, 500, 502, 503, 504})
_SESSION_NOT_AVAILABLE: Final = 1002  # of a 404: a replica that has not caught up yet
_OWNER_NOT_FOUND: Final = 1003  # of a 404: not the item is missing but its container
_COMPOSITE: Final = [part["path"] for part in INDEXING_POLICY["compositeIndexes"][0]]


class EventContainer:
    """One container, given or found by name.

    Args:
        client: where to find and create it; not needed where it is given.
        given: the container, made and kept by somebody else.
        owns_client: whether `close` closes the client.
    """

    def __init__(
        self,
        client: CosmosClient | None,
        given: ContainerProxy | None,
        *,
        database_name: str,
        container_name: str,
        owns_client: bool,
    ) -> None:
        self._client = client
        self._given = given
        self._database_name = database_name
        self._container_name = container_name
        self._owns_client = owns_client
        self._proxy: ContainerProxy | None = None
        self._has_composite = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._closed = False
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @asynccontextmanager
    async def in_use(self) -> AsyncGenerator[None, None]:
        """The time of one operation, which may send several requests: the container is open, and `close` waits.

        Raises:
            CheckpointStoreError: the store was closed, belongs to another event loop, or cannot be opened.
        """
        if self._closed:
            raise CheckpointStoreError(f"The store on container {self._container_name!r} was closed; make a new one.")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise CheckpointStoreError(
                f"The store on container {self._container_name!r} was opened in another event loop, and its "
                "connections belong to that one. Make a store for each asyncio.run, and close it there."
            )
        self._loop = loop
        self._users += 1
        self._unused.clear()
        try:
            if self._proxy is None:
                await self._open()
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Wait for what is under way, then close the client if it is ours."""
        self._closed = True
        if self._loop not in (None, asyncio.get_running_loop()):
            return  # the connections went with their loop
        await self._unused.wait()
        async with self._lock:
            if self._owns_client and self._client is not None:
                await self._client.close()
                self._client = None

    # Requests

    async def create(self, body: Item) -> Item | None:
        """Create an item. Where its id is taken, perhaps by an earlier attempt of ours, the item that has it."""

        async def attempt() -> Item | None:
            try:
                await self._opened.create_item(body, no_response=True, retry_write=3)
            except CosmosResourceExistsError:
                return await self._opened.read_item(body["id"], body["stream"])  # a 404 here is a replica lagging
            return None

        return await self._ask(attempt)

    async def put(self, body: Item) -> None:
        """Create an item or write it once more, which makes it young again."""
        await self._ask(lambda: self._opened.upsert_item(body, no_response=True, retry_write=3))

    async def read(self, name: str, key: str) -> Item | None:
        """The item with this id in a logical partition; None if there is none."""
        return await self._ask(lambda: self._opened.read_item(name, key), missing=True)

    async def remove(self, item: Item) -> bool:
        """Delete an item unless it was written again since it was read."""

        async def attempt() -> bool:
            try:
                await self._opened.delete_item(
                    item["id"], item["stream"], etag=item["_etag"], match_condition=MatchConditions.IfNotModified
                )
            except CosmosHttpResponseError as error:
                if error.status_code != 412:
                    raise
                return False
            return True

        return await self._ask(attempt, missing=True) or False

    async def service_time(self) -> float:
        """The present by the service's clock, which is the one that `_ts` is from."""
        properties = await self._ask(self._opened.read)
        date = properties.get_response_headers()["Date"] if properties else ""
        return parsedate_to_datetime(date).timestamp()

    def query(self, text: str, values: Mapping[str, object], key: str | None = None) -> Cursor:
        """The rows of a query in pages; of one logical partition, or, if it sorts nothing, of all."""
        return Cursor(self._ask, lambda: self._pages(text, values, key, PAGE))

    def query_sorted(self, text: str, values: Mapping[str, object], *, page: int) -> Cursor:
        """The rows of a query that sorts over all partitions. A row may come more than once.

        The SDK merges the rows of the partitions, and what it holds for that is lost when one of its requests fails:
        such a query begins again.
        """
        return Cursor(self._ask, lambda: self._pages(text, values, None, page), resumes=False)

    @property
    def newest_first(self) -> str:
        """How to sort the events of a workflow. With the filter's own property in front, the service uses the
        composite index; a container made by hand may lack it."""
        return "c.workflow_name DESC, c.timestamp DESC" if self._has_composite else "c.timestamp DESC"

    @property
    def proxy(self) -> ContainerProxy:
        """The SDK's container; while it is in use."""
        return self._opened

    @property
    def _opened(self) -> ContainerProxy:
        if self._proxy is None:
            raise AssertionError("a request outside of in_use")
        return self._proxy

    def _pages(self, text: str, values: Mapping[str, object], key: str | None, page: int) -> Any:
        parameters = [{"name": name, "value": value} for name, value in values.items()]
        scope: dict[str, Any] = {} if key is None else {"partition_key": key}
        return self._opened.query_items(text, parameters=parameters, max_item_count=page, **scope).by_page()

    async def _ask(self, request: Callable[[], Awaitable[_T]], *, missing: bool = False) -> _T | None:
        """Send a request, again after faults that pass. `missing`: what is not there is an answer, None."""
        started, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                return await request()
            except AzureError as error:
                if missing and _is_missing(error):
                    return None
                wait = max(pause * random.uniform(0.5, 1), _wished_pause(error))  # noqa: S311 - jitter
                if not _passes(error) or time.monotonic() + wait > started + PATIENCE:
                    raise self._translated(error) from error
                logger.debug("Cosmos DB answered %s; asking again in %.2f s", _said(error), wait)
            await asyncio.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _translated(self, error: AzureError) -> CheckpointStoreError:
        """What to tell the user."""
        where = f"container {self._container_name!r} of database {self._database_name!r}"
        match _status(error):
            case 401 | 403:
                return StoreReadOnlyError(
                    f"Cosmos DB refused the identity on {where}: {_said(error)}. A key must be the account's own; any "
                    "other identity needs the role 'Cosmos DB Built-in Data Contributor': az cosmosdb sql role "
                    "assignment create --resource-group … --account-name … --scope / --principal-id … "
                    "--role-definition-id 00000000-0000-0000-0000-000000000002"
                )
            case 404:
                return self._missing()
            case 413:
                return CheckpointStoreError(f"An event is too large for {where}: its header alone exceeds 2 MB.")
            case _ if isinstance(error, ClientAuthenticationError):
                return StoreReadOnlyError(f"The credential gives no token for {where}: {_said(error)}")
            case _ if _passes(error):
                return StoreUnavailableError(
                    f"Cosmos DB on {where} could not be reached or did not serve for {PATIENCE:.0f} s: {_said(error)}. "
                    "Trying again is safe. For 429, raise the throughput; otherwise see the service's health."
                )
            case _:
                return CheckpointStoreError(f"Cosmos DB refused a request on {where}: {_said(error)}")

    # Opening

    async def _open(self) -> None:
        async with self._lock:
            if self._proxy is not None:
                return
            container = self._given or self._named()
            properties = await self._ask(container.read, missing=True)
            if properties is None and self._given is None:
                await self._make()
                properties = await self._ask(container.read, missing=True)
            if properties is None:
                raise self._missing()
            paths = cast("dict[str, Any]", properties.get("partitionKey", {})).get("paths")
            if paths != [PARTITION_KEY]:
                raise StoreFormatError(
                    f"Container {self._container_name!r} is partitioned by {paths}, events need {PARTITION_KEY!r}. "
                    "Give the store a container of its own; the one of agent_framework_azure_cosmos cannot be shared."
                )
            policy = cast("dict[str, Any]", properties.get("indexingPolicy", {}))
            composites = cast("list[list[dict[str, Any]]]", policy.get("compositeIndexes", []))
            self._has_composite = _COMPOSITE in [[part.get("path") for part in index] for index in composites]
            self._proxy = container

    def _named(self) -> ContainerProxy:
        if self._client is None:
            raise AssertionError("neither a client nor a container")
        return self._client.get_database_client(self._database_name).get_container_client(self._container_name)

    async def _make(self) -> None:
        """Create the container, and its database where that is missing too."""
        client = self._client
        if client is None:
            return
        try:
            await self._ask(lambda: _unless_there(client.create_database(self._database_name)))
            database = client.get_database_client(self._database_name)
            await self._ask(
                lambda: _unless_there(
                    database.create_container(
                        self._container_name, PartitionKey(PARTITION_KEY), indexing_policy=INDEXING_POLICY
                    )
                )
            )
        except StoreReadOnlyError as error:
            raise self._missing() from error

    def _missing(self) -> StoreFormatError:
        account = "--resource-group … --account-name …"
        return StoreFormatError(
            f"Container {self._container_name!r} of database {self._database_name!r} does not exist, and this store "
            f"could not create it. Create it: az cosmosdb sql database create {account} --name {self._database_name}; "
            f"az cosmosdb sql container create {account} --database-name {self._database_name} "
            f"--name {self._container_name} --partition-key-path {PARTITION_KEY} --idx '{json.dumps(INDEXING_POLICY)}'"
        )


class Cursor:
    """The pages of one query."""

    def __init__(
        self,
        ask: Callable[[Callable[[], Awaitable[list[Item] | None]]], Awaitable[list[Item] | None]],
        begin: Callable[[], Any],
        *,
        resumes: bool = True,
    ) -> None:
        self._ask = ask
        self._begin = begin
        self._resumes = resumes
        self._pages: Any = None

    async def page(self) -> list[Item] | None:
        """The next page; None after the last."""
        return await self._ask(self._next)

    async def rows(self) -> list[Item]:
        """All rows that are left."""
        rows: list[Item] = []
        while (page := await self.page()) is not None:
            rows += page
        return rows

    async def _next(self) -> list[Item] | None:
        if self._pages is None:
            self._pages = self._begin()
        try:
            return [row async for row in await anext(self._pages)]
        except StopAsyncIteration:
            return None
        except AzureError:
            if not self._resumes:
                self._pages = None
            raise


async def together(*requests: Callable[[], Awaitable[_T]]) -> list[_T]:
    """What the requests give, a few under way at a time. If one fails, none goes on behind the caller's back."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(request: Callable[[], Awaitable[_T]]) -> _T:
        async with limit:
            return await request()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(request)) for request in requests]
    except ExceptionGroup as failures:
        raise failures.exceptions[0]  # noqa: B904 - it has its own cause
    return [task.result() for task in tasks]


async def _unless_there(creation: Awaitable[object]) -> None:
    """Of two processes that create something at once, one finds it done."""
    try:
        await creation
    except CosmosResourceExistsError:
        pass


def _status(error: AzureError) -> int | None:
    return error.status_code if isinstance(error, CosmosHttpResponseError) else None


def _passes(error: AzureError) -> bool:
    """Whether the same request may succeed a little later."""
    status = _status(error)
    if status is None:
        return not isinstance(error, ClientAuthenticationError)  # the connection's
    return status in _PASSING or (status == 404 and _sub_status(error) != _OWNER_NOT_FOUND)


def _is_missing(error: AzureError) -> bool:
    return _status(error) == 404 and _sub_status(error) != _SESSION_NOT_AVAILABLE


def _sub_status(error: AzureError) -> int:
    return int(getattr(error, "sub_status", None) or 0)


def _wished_pause(error: AzureError) -> float:
    """Seconds that the service asks to wait for."""
    headers = cast("Mapping[str, str]", getattr(error, "headers", None) or {})
    wish = headers.get("x-ms-retry-after-ms", "0")
    return int(wish) / 1000 if wish.isdecimal() else 0.0


def _said(error: AzureError) -> str:
    """The service's words on one line."""
    status = _status(error)
    words = " ".join(str(error.message).split())[:300]
    return f"{status}, {words}" if status else f"{type(error).__name__}, {words}"
