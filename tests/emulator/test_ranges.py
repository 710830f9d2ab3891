"""The emulator's physical partitions: split, merged, and read meanwhile."""

from __future__ import annotations

import aiohttp
import pytest
from azure.cosmos.aio import ContainerProxy

from tests.cosmos_emulator import CosmosEmulator

from .sdk import fill, query


async def test_ranges_are_read_until_not_modified(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    ranges = [each async for each in many.read_feed_ranges()]
    assert len(ranges) == 4
    reads = [record.status for record in emulator.requests if record.kind == "read_ranges"]
    assert reads == [200, 304]
    emulator.split("shop", "many", "1")
    assert len([each async for each in many.read_feed_ranges(force_refresh=True)]) == 5


async def test_queries_survive_a_split(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await fill(one)
    assert len(await query(one, "SELECT * FROM c ORDER BY c.n")) == 20
    assert {record.kind for record in emulator.requests} >= {"query", "query_plan", "read_ranges"}
    children = emulator.split("shop", "one", "0")
    assert children == emulator.ranges("shop", "one") == ["1", "2"]
    partitions = emulator.container("shop", "one").partitions
    assert all(any(partition.items()) for partition in partitions)
    assert await query(one, "SELECT VALUE c.n FROM c ORDER BY c.n") == list(range(20))
    assert (await one.read_item("i003", "p3"))["n"] == 3
    gone = [record for record in emulator.requests if record.status == 410]
    assert {record.substatus for record in gone} == {1002}


async def test_only_neighbours_merge(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await fill(many)
    with pytest.raises(Exception, match="not neighbours"):
        emulator.merge("shop", "many", "0", "2")
    assert emulator.merge("shop", "many", "0", "1") == "4"
    assert sorted(await query(many, "SELECT VALUE c.n FROM c")) == list(range(20))


async def test_the_admin_route_splits_and_merges(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    place = "database=shop&container=many"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{emulator.endpoint}_emulator/split?{place}&range=0") as response:
            assert (await response.json())["ranges"] == ["4", "5", "1", "2", "3"]
        async with session.post(f"{emulator.endpoint}_emulator/merge?{place}&ranges=4,5") as response:
            assert (await response.json())["ranges"] == ["6", "1", "2", "3"]
        async with session.get(f"{emulator.endpoint}_emulator/charges") as response:
            assert (await response.json())["total"] == emulator.charges.total
