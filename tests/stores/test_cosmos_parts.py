"""Large payloads in Cosmos DB lie in parts, of which none is lost, and none is left lying."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest
from azure.cosmos.aio import ContainerProxy

from eventckpt import CheckpointDecodeError, CheckpointStoreError, CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.chain import digest_of
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import partition_key_of

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM, append_chain, headers
from .cosmos_stores import (
    MEGABYTES_5,
    PARTS_OF_5_MB,
    Gate,
    Settings,
    checkpoint,
    count_parts,
    payloads,
    saves,
    tamper,
    verified,
    workflow_headers,
)


async def test_a_large_payload_lies_in_parts_beside_its_event(
    emulator: CosmosEmulator, store: CosmosEventStore, items: ContainerProxy
) -> None:
    [event] = await append_chain(store, 1, data=MEGABYTES_5)
    found = [item async for item in items.query_items("SELECT * FROM c", partition_key=partition_key_of(STREAM))]
    parts = [item for item in found if item["type"] == "part"]
    [item] = [item for item in found if item["type"] == "checkpoint"]
    assert len(parts) == PARTS_OF_5_MB
    assert (item["data"], set(item["payload"]["parts"])) == ("", {part["id"] for part in parts})
    for part in parts:
        assert part["id"] == f"part-{hashlib.sha256(base64.b64decode(part['data'])).hexdigest()}"
    kinds = [record.kind for record in emulator.requests if record.kind in {"upsert_item", "create_item"}]
    assert kinds == ["upsert_item"] * PARTS_OF_5_MB + ["create_item"], "the event is the commit point"
    [read] = await store.read(STREAM, 1)
    assert read.payload is not None
    assert read.payload.data == MEGABYTES_5
    assert digest_of(read) == event.digest == read.digest


async def test_listings_pass_over_parts_and_never_transfer_data(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 2, data=MEGABYTES_5)
    emulator.reset()
    for listed in (
        await headers(store),
        await headers(store, desc=True),
        await workflow_headers(store),
        await workflow_headers(store, desc=True),
    ):
        assert [(header.seq, header.digest) for header in sorted(listed, key=lambda header: header.seq)] == [
            (event.seq, event.digest) for event in events
        ]
    with pytest.raises(StreamConflict):
        await store.append(make_event(STREAM, 1, data=b"other"))
    assert max(record.response_bytes for record in emulator.requests) < 10_000  # two headers with the names of 14 parts


async def test_a_crash_between_parts_and_event_leaves_nothing_to_see(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore, items: ContainerProxy
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5)
    with emulator.faults.respond(400, kind="create_item"), pytest.raises(CheckpointStoreError):
        await store.append(event)
    assert await count_parts(items) == PARTS_OF_5_MB
    async with CosmosEventStore(**settings) as other:
        assert await headers(other) == []
        assert await workflow_headers(other) == await workflow_headers(other, desc=True) == []
        assert await other.find(event.checkpoint_id) is None
        small = make_event(STREAM, 1)
        await other.append(small)
        assert await verified(other, STREAM) == [small]


async def test_orphaned_parts_are_found_and_removed_and_no_others(
    emulator: CosmosEmulator, store: CosmosEventStore, items: ContainerProxy
) -> None:
    kept = await append_chain(store, 1, data=MEGABYTES_5)
    another = await append_chain(store, 1, data=MEGABYTES_5, stream=StreamId("workflow", "another"))
    with emulator.faults.respond(400, kind="create_item"):
        for number in range(2):  # in a run with events, and in one without
            lost = make_event(
                StreamId("workflow", ["run", "lost"][number]), 2, data=MEGABYTES_5[1_000_000 * number + 1 :]
            )
            with pytest.raises(CheckpointStoreError):
                await store.append(lost)
    total = await count_parts(items)
    assert await store.remove_orphaned_parts() == 0, "they are young"
    removed = await store.remove_orphaned_parts(older_than=0)
    assert removed == total - 2 * PARTS_OF_5_MB
    assert await store.remove_orphaned_parts(older_than=0) == 0
    assert await count_parts(items) == 2 * PARTS_OF_5_MB
    assert payloads(await store.read(STREAM, 1)) == payloads(kept)
    assert payloads(await store.read(StreamId("workflow", "another"), 1)) == payloads(another)


async def test_a_save_that_needs_an_old_part_keeps_it_from_being_collected(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5[:1_000_000])
    with emulator.faults.respond(400, kind="create_item"), pytest.raises(CheckpointStoreError):
        await store.append(event)
    gate = Gate(emulator, kind="delete_item")
    collecting = asyncio.create_task(store.remove_orphaned_parts(older_than=0))
    await gate.arrived.wait()  # it has seen that no event needs the parts; one of three is about to go
    async with CosmosEventStore(**settings) as other:
        with emulator.faults.delay(until=gate.open, kind="delete_item"):
            await other.append(event)
    gate.open.set()
    await collecting
    assert payloads(await store.read(STREAM, 1)) == payloads([event])


async def test_parts_of_a_run_with_a_damaged_event_are_kept(
    store: CosmosEventStore, items: ContainerProxy, caplog: pytest.LogCaptureFixture
) -> None:
    await append_chain(store, 1, data=MEGABYTES_5)
    await tamper(items, "000000000001", payload={"encoding": "zstd", "parts": "none"})
    assert await store.remove_orphaned_parts(older_than=0) == 0
    assert "the header of seq 1 is damaged" in caplog.text


async def test_a_missing_part_fails_its_own_checkpoint_only(settings: Settings, items: ContainerProxy) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        [small] = await saves(run, 1)
        large = checkpoint(small, state={"noise": MEGABYTES_5[:2_000_000]})
        await run.save(large)
        [other] = await saves(storage.for_run("other"), 1)
    [name, *_] = (await items.read_item("000000000002", "orders|r"))["payload"]["parts"]
    await items.delete_item(name, "orders|r")
    async with CosmosCheckpointStorage(**settings) as storage:
        with pytest.raises(CheckpointDecodeError, match="digest"):
            await storage.load(large.checkpoint_id)
        assert await storage.load(small.checkpoint_id) == small
        assert await storage.load(other.checkpoint_id) == other
