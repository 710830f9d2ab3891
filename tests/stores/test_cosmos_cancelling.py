"""Operations on Cosmos DB that are cancelled, left early or overtaken by `close`, and how much they send at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventckpt import CheckpointStoreError, CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import requests

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from .chains import STREAM, append_chain
from .cosmos_stores import (
    MEGABYTES_5,
    PARTS_OF_5_MB,
    WORKFLOW,
    Gate,
    Settings,
    checkpoint,
    payloads,
    verified,
    workflow_headers,
)


@pytest.mark.parametrize(
    "match",
    [
        {"kind": "account"},
        {"kind": "read_container"},
        {"kind": "create_database"},
        {"kind": "create_container", "applied": True},
        {"kind": "upsert_item"},
        {"kind": "upsert_item", "applied": True},
        {"kind": "create_item"},
        {"kind": "create_item", "applied": True},
    ],
    ids=str,
)
async def test_a_save_that_is_cancelled_leaves_a_store_that_works(
    emulator: CosmosEmulator, settings: Settings, match: dict[str, Any]
) -> None:
    gate = Gate(emulator, **match)
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        first = checkpoint(state={"noise": MEGABYTES_5[:1_000_000]})
        saving = asyncio.create_task(run.save(first))
        await gate.arrived.wait()
        if match.get("applied"):
            await applied(emulator, settings, match["kind"])
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        gate.open.set()
        second = checkpoint(first, state={"step": 2})
        for each in (first, second):
            await run.save(each)
        events = await verified(storage.store, StreamId(WORKFLOW, "r"))
        assert [event.checkpoint_id for event in events] == [first.checkpoint_id, second.checkpoint_id]
        assert await run.list_checkpoints(workflow_name=WORKFLOW) == [first, second]
    async with CosmosEventStore(**settings) as store:
        assert len(await workflow_headers(store, WORKFLOW)) == 2


async def applied(emulator: CosmosEmulator, settings: Settings, kind: str) -> None:
    """Until the held request has done its work."""
    while kind != "create_container":
        stored = emulator.container(DATABASE, settings["container_name"]).partitions[0].items()
        if {"upsert_item": "part", "create_item": "checkpoint"}[kind] in {item.body["type"] for item in stored}:
            return
        await asyncio.sleep(0)


async def test_a_cancelled_read_leaves_nothing_behind(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    [event] = await append_chain(store, 1, data=MEGABYTES_5)
    gate = Gate(emulator, kind="read_item")
    reading = asyncio.create_task(store.read(STREAM, 1))
    await gate.arrived.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open.set()
    assert payloads(await store.read(STREAM, 1)) == payloads([event])


async def test_a_listing_that_is_left_early_does_not_hold_up_close(settings: Settings) -> None:
    store = CosmosEventStore(**settings)
    events = await append_chain(store, 3)
    listing, descending = store.headers(STREAM), store.workflow_headers("workflow", desc=True)
    assert await anext(listing) == events[0].header()
    assert await anext(descending) == events[2].header()
    await store.close()
    await listing.aclose()
    await descending.aclose()


async def test_close_waits_for_a_large_append_to_end(emulator: CosmosEmulator, settings: Settings) -> None:
    store = CosmosEventStore(**settings)
    await append_chain(store, 1, stream=StreamId("workflow", "other"))
    gate = Gate(emulator, kind="upsert_item")
    event = make_event(STREAM, 1, data=MEGABYTES_5)
    appending = asyncio.create_task(store.append(event))
    await gate.arrived.wait()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(CheckpointStoreError, match="closed"):
        await store.read(STREAM, 1)
    gate.open.set()
    await asyncio.gather(appending, closing)
    async with CosmosEventStore(**settings) as other:
        assert payloads(await other.read(STREAM, 1)) == payloads([event])


async def test_one_operation_sends_few_requests_at_a_time(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    await append_chain(store, 1)
    arrived = 0
    full, release = asyncio.Event(), asyncio.Event()

    def arrives(_: object) -> bool:
        nonlocal arrived
        arrived += 1
        if arrived == requests.AT_ONCE:
            full.set()
        return True

    emulator.faults.delay(kind="upsert_item", where=arrives, until=release)
    appending = asyncio.create_task(store.append(make_event(STREAM, 2, data=MEGABYTES_5)))
    await full.wait()
    await store.read(STREAM, 1)  # any other request that was sent has arrived by now
    assert arrived == requests.AT_ONCE < PARTS_OF_5_MB
    release.set()
    await appending
    assert arrived == PARTS_OF_5_MB
