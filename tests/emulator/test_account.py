"""The emulator as an account: databases, containers, throughput, who is let in, and the process that serves it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from azure.cosmos import CosmosClient as SyncCosmosClient
from azure.cosmos import PartitionKey, ThroughputProperties
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from tests.cosmos_emulator import CosmosEmulator

from .sdk import fill


async def test_databases_and_containers_are_created_once_and_found_until_deleted(client: CosmosClient) -> None:
    database = await client.create_database("shop")
    with pytest.raises(CosmosResourceExistsError):
        await client.create_database("shop")
    await database.create_container("events", PartitionKey("/pk"), default_ttl=60)
    with pytest.raises(CosmosResourceExistsError):
        await database.create_container("events", PartitionKey("/pk"))
    assert [each["id"] async for each in client.list_databases()] == ["shop"]
    assert [each["id"] async for each in database.list_containers()] == ["events"]
    found = database.query_containers(
        "SELECT * FROM c WHERE c.id = @id", parameters=[{"name": "@id", "value": "events"}]
    )
    assert [each["defaultTtl"] async for each in found] == [60]
    await database.delete_container("events")
    with pytest.raises(CosmosResourceNotFoundError):
        await database.get_container_client("events").read()
    await client.delete_database("shop")
    with pytest.raises(CosmosResourceNotFoundError):
        await database.read()


async def test_indexing_policy_is_kept_and_completed(client: CosmosClient) -> None:
    database = await client.create_database("shop")
    policy = {
        "includedPaths": [{"path": "/seq/?"}],
        "excludedPaths": [{"path": "/*"}],
        "compositeIndexes": [[{"path": "/a"}, {"path": "/b", "order": "descending"}]],
    }
    container = await database.create_container("events", PartitionKey("/pk"), indexing_policy=policy)
    stored = (await container.read())["indexingPolicy"]
    assert stored["indexingMode"] == "consistent"
    assert stored["includedPaths"] == policy["includedPaths"]
    assert stored["compositeIndexes"][0][0] == {"path": "/a", "order": "ascending"}


async def test_throughput_decides_the_partitions_and_more_throughput_splits_them(
    client: CosmosClient, emulator: CosmosEmulator
) -> None:
    database = await client.create_database("shop")
    container = await database.create_container("big", PartitionKey("/pk"), offer_throughput=11_000)
    assert len(emulator.ranges("shop", "big")) == 2
    assert (await container.get_throughput()).offer_throughput == 11_000
    await container.replace_throughput(40_000)
    assert len(emulator.ranges("shop", "big")) == 4
    automatic = await database.create_container(
        "auto", PartitionKey("/pk"), offer_throughput=ThroughputProperties(auto_scale_max_throughput=4000)
    )
    assert (await automatic.get_throughput()).auto_scale_max_throughput == 4000


async def test_a_wrong_key_is_refused(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    wrong = "d3Jvbmc" + emulator.key[7:]
    client = CosmosClient(emulator.endpoint, wrong)
    with pytest.raises(CosmosHttpResponseError) as refused:
        await client.__aenter__()
    await client.close()  # a client that could not be entered still has a session
    assert refused.value.status_code == 401
    async with aiohttp.ClientSession() as session, session.get(emulator.endpoint + "dbs/shop") as response:
        assert response.status == 401


async def test_the_sync_client_is_served_too(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await fill(many)

    def work() -> list[int]:
        with SyncCosmosClient(emulator.endpoint, emulator.key) as client:
            container = client.get_database_client("shop").get_container_client("many")
            container.upsert_item({"id": "sync", "pk": "p", "n": 100})
            return list(
                container.query_items("SELECT VALUE c.n FROM c ORDER BY c.n DESC", enable_cross_partition_query=True)
            )

    assert (await asyncio.to_thread(work))[:3] == [100, 19, 18]


def test_the_process_prints_its_endpoint_and_stops_on_a_signal() -> None:
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cosmos_emulator", "--port", "0"], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint.startswith("http://127.0.0.1:")
        process.terminate()
        assert process.wait(10) == 0
