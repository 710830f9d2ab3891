"""The test server's pages of a query that the gateway answers for all partitions: one token over splits and merges.

A client that merges by itself keeps a token for each range. Where it does not, the server's token must say of each part
of the hash space how far it has been read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from ..cosmos_emulator import CosmosEmulator, Switches

IDS = [str(number) for number in range(10, 50)]


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator(partitions=2, switches=Switches()) as emulator:
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


# ---- TOP, OFFSET and LIMIT over the pages of one logical partition, where data change after the first of them


async def ranked(container: ContainerProxy, query: str, between: Callable[[], Awaitable[None]]) -> list[int]:
    """The numbers of all pages of two, with a change after the first one."""
    pager: Any = container.query_items(query, partition_key="p", max_item_count=2).by_page()
    found: list[int] = [number async for number in await anext(pager)]
    await between()
    return found + [number async for page in pager async for number in page]


@pytest.fixture
async def ranks(container: ContainerProxy) -> ContainerProxy:
    """Ten to eighty, in steps of ten."""
    for number in range(10, 90, 10):
        await container.create_item({"id": f"n{number}", "stream": "p", "n": number})
    return container


@pytest.mark.parametrize(
    ("query", "removed", "added", "expected"),
    [
        ("SELECT TOP 4 VALUE c.n FROM c", [10, 20], [], [10, 20, 30, 40]),
        ("SELECT TOP 4 VALUE c.n FROM c ORDER BY c.n", [], [1, 2, 3], [10, 20, 30, 40]),
        ("SELECT TOP 4 VALUE c.n FROM c ORDER BY c.n", [10, 20, 30], [], [10, 20, 40, 50]),
        ("SELECT VALUE c.n FROM c ORDER BY c.n OFFSET 1 LIMIT 4", [], [1, 2], [20, 30, 40, 50]),
        ("SELECT VALUE c.n FROM c ORDER BY c.n OFFSET 2 LIMIT 4", [10, 20], [], [30, 40, 50, 60]),
        ("SELECT DISTINCT TOP 3 VALUE c.n FROM c ORDER BY c.n", [], [1, 25], [10, 20, 25]),
        ("SELECT TOP 2 VALUE c.n FROM c", [10], [15], [10, 20]),
        ("SELECT VALUE c.n FROM c OFFSET 6 LIMIT 2", [10], [15], [70, 80]),
    ],
)
async def test_what_top_offset_and_limit_leave_holds_over_all_pages(
    ranks: ContainerProxy, query: str, removed: list[int], added: list[int], expected: list[int]
) -> None:
    async def change() -> None:
        for number in removed:
            await ranks.delete_item(f"n{number}", "p")
        for number in added:
            await ranks.create_item({"id": f"n{number}", "stream": "p", "n": number})

    assert await ranked(ranks, query, change) == expected


@pytest.mark.parametrize("counts", [[], [0], [0, 4], [1, 1], [0, -1], [0, True], [0, "1"], [0, 1, 2]])
async def test_a_token_that_counts_what_the_query_does_not_give_is_refused(
    ranks: ContainerProxy, counts: list[object]
) -> None:
    query = "SELECT TOP 4 VALUE c.n FROM c"
    pager: Any = ranks.query_items(query, partition_key="p", max_item_count=2).by_page()
    await anext(pager)
    scope, begun, *told = json.loads(base64.b64decode(pager.continuation_token))
    assert told == [0, 2]
    token = base64.b64encode(json.dumps([scope, begun, *counts]).encode()).decode()
    with pytest.raises(CosmosHttpResponseError) as error:
        await anext(ranks.query_items(query, partition_key="p", max_item_count=2).by_page(token))
    assert error.value.status_code == 400
