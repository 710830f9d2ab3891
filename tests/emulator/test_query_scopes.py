"""Which partitions a query of the test server may look at: those that a key or a filter names, or all if it says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from ..cosmos_emulator import CosmosEmulator, Switches
from .cosmos_wire import Answer, send

CITIES = [("Oslo", "0150"), ("Oslo", "0250"), ("Bergen", "5003")]
CROSSING = {"x-ms-documentdb-query-enablecrosspartition": "true"}


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    """With a container of hierarchical keys in two physical partitions."""
    async with (
        CosmosEmulator(partitions=2, switches=Switches()) as emulator,
        CosmosClient(emulator.endpoint, emulator.key) as client,
    ):
        database = await client.create_database("shop")
        key = PartitionKey(["/city", "/zip"], kind="MultiHash")
        container = await database.create_container("places", key)
        for city, code in CITIES:
            await container.create_item({"id": code, "city": city, "zip": code})
        yield emulator


async def ask(emulator: CosmosEmulator, where: str, feed: str = "docs", **headers: str) -> Answer:
    asked = {"x-ms-documentdb-isquery": "true", "Content-Type": "application/query+json", **headers}
    return await send(emulator, "POST", f"dbs/shop/colls/places/{feed}", {"query": f"SELECT * FROM c {where}"}, asked)


async def test_a_filter_on_the_whole_hierarchical_key_needs_no_leave_to_cross(emulator: CosmosEmulator) -> None:
    answer = await ask(emulator, "WHERE c.city = 'Oslo' AND c.zip = '0250'")
    assert answer.status == 200
    assert [item["id"] for item in answer.json["Documents"]] == ["0250"]


@pytest.mark.parametrize(
    "where", ["", "WHERE c.city = 'Oslo'", "WHERE c.zip = '0250'", "WHERE c.city = 'Oslo' OR c.zip = '0250'"]
)
async def test_what_names_no_whole_key_is_refused_without_it(emulator: CosmosEmulator, where: str) -> None:
    answer = await ask(emulator, where)
    assert answer.status == 400
    assert "Cross partition query is required but disabled" in answer.json["message"]
    assert (await ask(emulator, where, **CROSSING)).status == 200


async def test_a_query_of_conflicts_is_refused_without_it(emulator: CosmosEmulator) -> None:
    assert (await ask(emulator, "", "conflicts")).status == 400
    assert (await ask(emulator, "", "conflicts", **CROSSING)).status == 200
    assert (await ask(emulator, "", "conflicts", **{"x-ms-documentdb-partitionkey": '["Oslo","0150"]'})).status == 200
