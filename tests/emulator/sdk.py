"""What the tests of the emulator ask of it through the real SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy

from tests.cosmos_emulator import CosmosEmulator

LARGE_BODIES = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, beyond 1 MB
NO_INDEX = {"indexingMode": "none", "automatic": False}


async def fill(container: ContainerProxy, count: int = 20, keys: int = 7) -> list[dict[str, Any]]:
    items = [{"id": f"i{n:03}", "pk": f"p{n % keys}", "n": n, "even": n % 2 == 0} for n in range(count)]
    for item in items:
        await container.create_item(item, no_response=True)
    return items


async def query(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    values = options.pop("values", {})
    parameters = [{"name": f"@{name}", "value": value} for name, value in values.items()]
    return [row async for row in container.query_items(text, parameters=parameters, **options)]


async def feed(container: ContainerProxy, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """What the change feed has now, and the continuation to go on from."""
    pages = container.query_items_change_feed(**options).by_page()
    items = [item async for page in pages async for item in page]
    return items, container.client_connection.last_response_headers["etag"]


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def last(emulator: CosmosEmulator, kind: str) -> Any:
    return [record for record in emulator.requests if record.kind == kind][-1]


async def checks_of_the_account() -> None:
    """Until the SDK has looked at the account's addresses, which it does in the background of the first requests.

    Only then is nothing under way whose token could end by a clock that a test moves.
    """
    names = {"_refresh_database_account_and_health", "_endpoints_health_check"}
    tasks = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") in names]
    await asyncio.gather(*tasks)
