"""The first use of a store on Cosmos DB: its container is found, made, or named missing or foreign."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, StreamId
from eventckpt.errors import StoreFormatError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import INDEXING_POLICY, PARTITION_KEY

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from .chains import STREAM, append_chain, headers
from .cosmos_operations import hurry
from .cosmos_stores import Settings, asked, container_of, create_container


async def test_database_and_container_are_created_once_as_the_engine_needs_them(
    emulator: CosmosEmulator, settings: Settings, client: CosmosClient
) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(CosmosEventStore(**settings)) for _ in range(5)]
        events = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(5)]
        await asyncio.gather(*(store.append(event) for store, event in zip(stores, events, strict=True)))
        emulator.catch_up()
        for event in events:
            assert await stores[0].read(event.stream, 1) == [event]
    created = [record.kind for record in emulator.requests if record.status == 201]
    assert Counter(created) == {"create_database": 1, "create_container": 1, "create_item": 5}
    properties = await container_of(client, settings).read()
    assert properties["partitionKey"]["paths"] == [PARTITION_KEY]
    stored = properties["indexingPolicy"]
    assert {name: stored[name] for name in INDEXING_POLICY} == INDEXING_POLICY


async def test_a_container_that_is_there_is_opened_with_one_request(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    emulator.reset()
    async with CosmosEventStore(**settings) as other:
        await asyncio.gather(*(other.read(STREAM, 1) for _ in range(5)))
    assert asked(emulator) == {"read_container": 1, "read_item": 5}


async def test_a_container_with_another_partition_key_is_refused(client: CosmosClient, settings: Settings) -> None:
    await create_container(client, settings, "/workflow_name")
    async with CosmosEventStore(**settings) as store:
        with pytest.raises(StoreFormatError, match=r"partitioned by \['/workflow_name'\], events need '/stream'"):
            await store.append(make_event(STREAM, 1))
    assert [item async for item in container_of(client, settings).read_all_items()] == []


@pytest.mark.parametrize("kind", ["create_database", "create_container"])
async def test_who_may_not_create_the_container_is_told_how_it_is_done(
    emulator: CosmosEmulator, settings: Settings, kind: str
) -> None:
    emulator.faults.respond(403, kind=kind)
    async with CosmosEventStore(**settings) as store:
        with pytest.raises(StoreFormatError) as error:
            await store.append(make_event(STREAM, 1))
        message = str(error.value)
        for part in (
            "az cosmosdb sql database create",
            "az cosmosdb sql container create",
            f"--name {settings['container_name']}",
            f"--database-name {DATABASE}",
            "--partition-key-path /stream",
        ):
            assert part in message
        assert json.loads(message.partition("--idx '")[2].rstrip("'")) == INDEXING_POLICY
        emulator.faults.clear()
        await append_chain(store, 1)  # done by somebody, or allowed now: the same store goes on


async def test_a_container_that_was_deleted_under_the_store_is_named_missing(
    store: CosmosEventStore, client: CosmosClient, settings: Settings
) -> None:
    await append_chain(store, 1)
    hurry(store, 0.5)
    await client.get_database_client(settings["database_name"]).delete_container(settings["container_name"])
    for use in (store.append(make_event(STREAM, 1)), headers(store)):
        with pytest.raises(StoreFormatError, match="does not exist"):
            await use
