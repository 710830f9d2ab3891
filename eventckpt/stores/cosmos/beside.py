"""Containers beside the one of events, in the same database and over the same client: projections, and leases.

What may go wrong on the way to them is dealt with here once. Every request may be sent again: it reads, or it writes
under a condition that a repetition no longer meets.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast

from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from ...errors import CheckpointStoreError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["SideContainer", "asked", "status_of"]

_T = TypeVar("_T")

PATIENCE: Final = 20.0
"""Seconds for which a request is sent again, on top of the SDK's own attempts."""
_PASSING: Final = frozenset({408, 410, 429, 449, 500, 502, 503, 504})
_ANSWERS: Final = frozenset({404, 409, 412})


class SideContainer:
    """The container `<name of the events' container><suffix>`, made on first use where the identity may.

    Args:
        events: gives the container of events, opened.
        suffix: what its name ends with.
        partition_key, indexing_policy: what it is made with.
    """

    def __init__(
        self,
        events: Callable[[], Awaitable[ContainerProxy]],
        suffix: str,
        *,
        partition_key: str,
        indexing_policy: dict[str, Any],
    ) -> None:
        self._events = events
        self._suffix = suffix
        self._partition_key = partition_key
        self._indexing_policy = indexing_policy
        self._opened: ContainerProxy | None = None
        self._opening = asyncio.Lock()

    async def proxy(self) -> ContainerProxy:
        """The SDK's container."""
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open(await self._events())
        return self._opened

    async def ask(self, request: Callable[[ContainerProxy], Awaitable[_T]]) -> _T:
        """Send a request, again after faults that pass. 404, 409 and 412 are answers and raised as they are."""
        container = await self.proxy()
        return await self._asked(lambda: request(container))

    async def query(self, text: str, values: Mapping[str, object]) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of a query, a page at a time."""
        container = await self.proxy()
        parameters = [{"name": name, "value": value} for name, value in values.items()]
        pages = cast(Any, container.query_items(text, parameters=parameters)).by_page()
        while True:
            try:
                page = await self._asked(lambda: _next_page(pages))
            except StopAsyncIteration:
                return
            for row in page:
                yield row

    async def _asked(self, request: Callable[[], Awaitable[_T]]) -> _T:
        return await asked(request, f"the container of {self._suffix[1:]}")

    async def _open(self, events: ContainerProxy) -> ContainerProxy:
        link = str(cast(Any, events).database_link)
        database = DatabaseProxy(events.client_connection, link.partition("/")[2])
        name = f"{events.id}{self._suffix}"
        container = database.get_container_client(name)
        if not await self._exists(container):
            try:
                await self._asked(
                    lambda: database.create_container(
                        name, PartitionKey(self._partition_key), indexing_policy=self._indexing_policy
                    )
                )
            except CosmosHttpResponseError as error:
                if error.status_code != 409:  # 409: another process was faster
                    raise
            except StoreReadOnlyError as error:
                raise StoreReadOnlyError(
                    f"Container {name!r} does not exist, and this identity cannot create it. Create it: "
                    f"az cosmosdb sql container create --resource-group … --account-name … --database-name "
                    f"{database.id} --name {name} --partition-key-path {self._partition_key} "
                    f"--idx '{json.dumps(self._indexing_policy)}'"
                ) from error
        return container

    async def _exists(self, container: ContainerProxy) -> bool:
        try:
            await self._asked(container.read)
        except CosmosHttpResponseError as error:
            if error.status_code != 404:
                raise
            return False
        return True


async def asked(request: Callable[[], Awaitable[_T]], what: str) -> _T:
    """What `request` gives; sent again after faults that pass, for a while. 404, 409 and 412 are raised as they are."""
    started, pause = time.monotonic(), 0.02
    while True:
        try:
            return await request()
        except (CosmosHttpResponseError, ServiceRequestError, ServiceResponseError) as error:
            status = status_of(error)
            if status in _ANSWERS:
                raise
            passes = status is None or status in _PASSING
            if not passes or time.monotonic() + pause > started + PATIENCE:
                raise _translated(error, what) from error
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
        pause = min(2 * pause, 2.0)


def _translated(error: AzureError, what: str) -> CheckpointStoreError:
    status = status_of(error)
    if status in (401, 403):
        return StoreReadOnlyError(
            f"Cosmos DB refused the identity on {what} ({status}). It needs the role 'Cosmos DB Built-in Data "
            "Contributor', which may also delete items."
        )
    if status is not None and status not in _PASSING:
        return CheckpointStoreError(f"Cosmos DB refused a request on {what} ({status}): {error}")
    said = f"answered {status}" if status else f"could not be reached ({type(error).__name__})"
    return StoreUnavailableError(f"Cosmos DB {said} on {what}. Trying again is safe.")


def status_of(error: AzureError) -> int | None:
    """The status that the service answered with; None where it did not answer."""
    return error.status_code if isinstance(error, CosmosHttpResponseError) else None


async def _next_page(pages: Any) -> list[dict[str, Any]]:
    return [row async for row in await anext(pages)]
