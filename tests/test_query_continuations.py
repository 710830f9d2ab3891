"""The test server's pages of a query that the gateway answers for all partitions: one token over splits and merges.

A client that merges by itself keeps a token for each range. Where it does not, the server's token must say of each part
of the hash space how far it has been read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from .cosmos_emulator import CosmosEmulator

IDS = [str(number) for number in range(10, 50)]


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator(partitions=2) as emulator:
        yield emulator


@pytest.fixture
async def container(emulator: CosmosEmulator) -> AsyncGenerator[ContainerProxy, None]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("shop")
        container = await database.create_container("events", PartitionKey("/stream"))
        for identifier in IDS:
            await container.create_item({"id": identifier, "stream": identifier})
        yield container


async def pages(container: ContainerProxy, between: Callable[[int], None]) -> list[str]:
    """The ids of all pages, each asked for by the token of the one before; `between` is told how many there were."""
    found: list[str] = []
    token, count = None, 0
    while token or not count:
        pager = container.query_items("SELECT * FROM c", max_item_count=5).by_page(token)
        page = await anext(pager, None)
        if page is None:  # what was left had nothing in it
            break
        found += [item["id"] async for item in page]
        token, count = pager.continuation_token, count + 1
        between(count)
    return found


@pytest.mark.parametrize("page", [1, 2, 4])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_split_between_two_pages_loses_and_repeats_nothing(
    emulator: CosmosEmulator, container: ContainerProxy, page: int, which: int
) -> None:
    def split(count: int) -> None:
        if count == page:
            emulator.split("shop", "events", emulator.ranges("shop", "events")[which])

    assert sorted(await pages(container, split)) == IDS


async def test_a_split_after_every_page_loses_and_repeats_nothing(
    emulator: CosmosEmulator, container: ContainerProxy
) -> None:
    def split(count: int) -> None:
        ranges = emulator.ranges("shop", "events")
        emulator.split("shop", "events", ranges[count % len(ranges)])

    assert sorted(await pages(container, split)) == IDS


@pytest.mark.parametrize("page", [1, 3, 5])
async def test_a_merge_between_two_pages_loses_and_repeats_nothing(
    emulator: CosmosEmulator, container: ContainerProxy, page: int
) -> None:
    def merge(count: int) -> None:
        if count == page:
            emulator.merge("shop", "events", *emulator.ranges("shop", "events"))

    assert sorted(await pages(container, merge)) == IDS


@pytest.mark.parametrize("token", ["W10=", "bm90IGpzb24=", "?", "WzFd"])
async def test_a_token_that_is_none_is_refused(container: ContainerProxy, token: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match="continuation") as refused:
        await anext(container.query_items("SELECT * FROM c", partition_key="10").by_page(token))
    assert refused.value.status_code == 400
