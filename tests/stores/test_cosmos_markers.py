"""What stays of a removed event in a container: its form and size, what it costs, that it is no event to anybody, and
that it comes about whoever else is at work."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CheckpointAudit, CosmosEventStore, EventCheckpointStorage, StreamId
from eventckpt.errors import CheckpointConflictError, CheckpointStoreError, StoreCorruptError, StreamConflict
from eventckpt.removals import Removals
from eventckpt.stores import FoundEvent
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import partition_key_of
from eventckpt.testing.events import noise

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from ..pruning import foreseen
from .chains import STREAM, append_chain, headers
from .cosmos_stores import Gate, asked, costs, headers_of, workflow_headers

pytestmark = pytest.mark.slow  # runs with thousands of markers

KEY: Final = partition_key_of(STREAM)
OF_THE_SERVICE: Final = {"_rid", "_self", "_etag", "_attachments", "_ts"}


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


@pytest.fixture
async def store(emulator: CosmosEmulator) -> AsyncGenerator[CosmosEventStore, None]:
    async with CosmosEventStore(**where(emulator)) as opened:
        yield opened


@pytest.fixture
async def items(emulator: CosmosEmulator) -> AsyncGenerator[ContainerProxy, None]:
    """The SDK itself, for a look behind the store and for changes that it would not make, each a moment later."""

    def a_moment_later(_: Any) -> None:
        emulator.catch_up()

    hooks = {"raw_request_hook": a_moment_later, "raw_response_hook": a_moment_later}
    async with CosmosClient(emulator.endpoint, emulator.key, **hooks) as client:
        yield client.get_database_client("db").get_container_client("events")


async def markers_in(items: ContainerProxy, key: str = KEY) -> list[dict[str, Any]]:
    query = "SELECT * FROM c WHERE c.type = 'removed' ORDER BY c.id"
    return [item async for item in items.query_items(query, partition_key=key)]


async def recorded(store: CosmosEventStore, keep: int = 1) -> tuple[int, ...]:
    """Record what a prune would remove; the seqs, all of them still there."""
    record, seqs = await foreseen(store, STREAM, keep=keep)
    await store.append(record)
    return seqs


# Form and cost


async def test_a_marker_is_seq_and_digest_under_the_id_of_the_event(
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    events = await append_chain(store, 3)
    await store.remove(STREAM, [2])
    [item] = await markers_in(items)
    assert {name: item[name] for name in item.keys() - OF_THE_SERVICE} == {
        "id": "000000000002",
        "stream": KEY,
        "type": "removed",
        "seq": 2,
        "digest": events[1].digest,
    }


async def test_a_marker_has_at_most_300_bytes_beside_its_partition_key(
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    await append_chain(store, 3, data=b"x" * 100_000)
    await store.remove(STREAM, [1, 2])
    for item in await markers_in(items):
        own = {name: value for name, value in item.items() if name not in OF_THE_SERVICE}
        assert len(json.dumps({**own, "stream": ""}, separators=(",", ":"))) <= 300  # 134


@pytest.mark.parametrize("size", [0, 2_000, 20_000])
async def test_a_prune_costs_at_most_1_9_times_what_deleting_would(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    items: ContainerProxy,
    size: int,
) -> None:
    charged: list[dict[str, float]] = []
    for name in ("marked", "deleted"):
        stream, rng = StreamId("workflow", name), random.Random(1)
        await append_chain(store, 101, stream=stream, data=rng.randbytes(max(0, size * 3 // 4 - 900)))
        audit = CheckpointAudit(store)
        [plan] = [plan async for plan in audit.plan_prune([stream], keep=1, force=True)]
        assert len(plan.seqs) >= 99
        emulator.reset()
        if name == "marked":
            assert await audit.prune(plan) == len(plan.seqs)
        else:
            for seq in plan.seqs:
                await items.delete_item(f"{seq:012d}", partition_key_of(stream))
        charged.append(dict(emulator.charges.by_kind))
    marked, deleted = charged
    before = sum(marked.values()) - marked["replace_item"] + deleted["delete_item"]
    assert sum(marked.values()) <= 1.9 * before, sum(marked.values()) / before  # 1.8, 1.71, 1.39


async def test_a_save_after_a_prune_is_one_request_and_costs_what_it_did(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
) -> None:
    charged: list[float] = []
    for name, gone in (("whole", []), ("holey", range(1, 20))):
        stream = StreamId("workflow", name)
        events = await append_chain(store, 20, stream=stream)
        await store.remove(stream, gone)
        requests, charge = await costs(emulator, store.append(make_event(stream, 21, previous=events[-1])))
        assert requests == {"create_item": 1}
        charged.append(charge)
    assert charged[0] == charged[1]


async def test_the_head_behind_hundreds_of_markers_is_one_query_and_none_of_them_is_sent(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
) -> None:
    events = await append_chain(store, 400, data=b"")
    await store.remove(STREAM, range(1, 400))
    emulator.reset()
    async for head in store.headers(STREAM, desc=True):
        assert head == events[-1].header()
        break
    assert asked(emulator) == {"query": 1}
    emulator.reset()
    assert await headers(store) == headers_of(events[-1:])
    assert await headers(store, desc=True) == headers_of(events[-1:])
    assert sum(asked(emulator).values()) <= 4
    assert max(record.response_bytes for record in emulator.requests) < 5_000


# A marker is no event, and nothing else is a marker


@pytest.mark.parametrize("kind", [..., None, 5, "", "zzz", "Removed", ["removed"], {"removed": 1}, True], ids=str)
async def test_an_event_whose_type_is_damaged_is_given_as_damaged_and_not_taken_for_a_marker(
    store: CosmosEventStore,
    items: ContainerProxy,
    kind: Any,
) -> None:
    events = await append_chain(store, 3)
    item = {**await items.read_item("000000000002", KEY), "type": kind}
    if kind is ...:
        del item["type"]
    await items.replace_item("000000000002", item)
    assert [header.seq for header in await headers(store)] == [1, 2, 3]
    assert [header.seq for header in await headers(store, desc=True)] == [3, 2, 1]
    assert [event.seq async for event in store.events(STREAM)] == [1, 2, 3]
    assert [header.seq for header in await workflow_headers(store)] == [1, 2, 3]
    assert [header.seq for header in await workflow_headers(store, desc=True)] == [3, 2, 1]
    for seqs in ((2,), (1, 2, 3)):
        [damaged] = [event for event in await store.read(STREAM, *seqs) if event.seq == 2]
        assert (damaged.payload, damaged.digest) == (None, events[1].digest)
    located = await store.find(events[1].checkpoint_id)
    assert located is not None
    assert located.event.payload is None
    assert await store.checkpoint_ids(events[1].checkpoint_id, limit=2) == [events[1].checkpoint_id]
    assert await store.remove(STREAM, [2]) == 1
    assert [header.seq for header in await headers(store)] == [1, 3]


async def test_of_a_damaged_event_the_marker_keeps_no_more_than_a_digest(
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    events = await append_chain(store, 4)
    for seq, digest in ((1, "x" * 100_000), (2, 5), (3, events[2].digest + "0")):
        item = await items.read_item(f"{seq:012d}", KEY)
        await items.replace_item(item["id"], {**item, "digest": digest})
    assert await store.remove(STREAM, [1, 2, 3]) == 3
    assert [marker["digest"] for marker in await markers_in(items)] == ["", "", ""]
    assert await store.put(STREAM, events[:3]) == 0, "nothing is known of what was there"
    with pytest.raises(StreamConflict):
        await store.append(events[0])


# Whoever else is at work


async def test_a_removal_that_was_cut_off_is_finished_by_the_next(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    await append_chain(store, 30)
    seqs = await recorded(store)
    gate = Gate(emulator, kind="replace_item")
    removing = asyncio.create_task(store.remove(STREAM, seqs))
    await gate.arrived.wait()
    removing.cancel()
    gate.open.set()
    await asyncio.gather(removing, return_exceptions=True)
    before = len(await markers_in(items))
    assert before < len(seqs)
    removed = await store.remove(STREAM, seqs)
    assert [marker["seq"] for marker in await markers_in(items)] == list(seqs)
    assert removed <= len(seqs)
    assert await store.remove(STREAM, seqs) == 0


async def test_what_an_older_version_deletes_at_the_same_time_is_marked_all_the_same(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    await append_chain(store, 3)
    gate = Gate(emulator, kind="replace_item")
    removing = asyncio.create_task(store.remove(STREAM, [2]))
    await gate.arrived.wait()
    await items.delete_item("000000000002", KEY)
    gate.open.set()
    assert await removing == 0, "it was there no more"
    assert [marker["seq"] for marker in await markers_in(items)] == [2]


async def test_an_import_that_is_cut_off_in_a_gap_leaves_a_run_that_forks_and_can_be_imported_again(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = [make_event(STREAM, seq) for seq in (1, 4, 5)]
    emulator.faults.respond(403, kind="create_item", nth=3)  # 1, the marker at 2, and then 4
    with pytest.raises(CheckpointStoreError):
        await store.put_over(STREAM, events, after=0)
    emulator.faults.clear()
    storage = EventCheckpointStorage(store)
    saved = WorkflowCheckpoint(STREAM.workflow_name, "g", state={"own": True})
    run = storage.for_run(STREAM.run_id, workflow_name=STREAM.workflow_name)
    assert await run.save(saved) == saved.checkpoint_id
    assert await storage.load(saved.checkpoint_id) == saved
    with pytest.raises(StoreCorruptError, match="import it again"):
        await run.delete(events[0].checkpoint_id)
    audit = CheckpointAudit(store)
    plans = [plan async for plan in audit.plan_prune([STREAM], keep=0)]
    with pytest.raises(CheckpointConflictError, match="import it again"):
        await audit.prune(plans[0]._replace(seqs=(1,)))
    assert await store.put_over(STREAM, events, after=1) == 2
    await store.append(make_event(STREAM, 6, previous=events[-1]))


async def test_an_event_that_changes_while_it_is_removed_stays_for_the_next_removal(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    await append_chain(store, 3)
    gate = Gate(emulator, kind="replace_item")
    removing = asyncio.create_task(store.remove(STREAM, [2]))
    await gate.arrived.wait()
    await items.upsert_item({**await items.read_item("000000000002", KEY), "actor": "somebody"})
    gate.open.set()
    assert await removing == 0
    [event] = await store.read(STREAM, 2)
    assert event.actor == "somebody"
    assert await store.remove(STREAM, [2]) == 1


async def test_what_is_removed_between_the_two_looks_of_a_search_is_searched_again(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
) -> None:
    elsewhere = make_event(StreamId("workflow", "elsewhere"), 1, checkpoint_id="wanted")
    first = make_event(STREAM, 1, checkpoint_id="wanted")
    for event in (elsewhere, first, make_event(STREAM, 2, previous=first)):
        await store.append(event)
    gate = Gate(emulator, kind="read_item")
    finding = asyncio.create_task(store.find("wanted"))
    await gate.arrived.wait()
    await store.remove(STREAM, [1])
    gate.open.set()
    assert await finding == FoundEvent(elsewhere, elsewhere.header())


# What 0.1.0 left


async def test_the_next_prune_closes_the_holes_of_0_1_0_though_there_is_nothing_else_to_remove(
    store: CosmosEventStore,
    items: ContainerProxy,
) -> None:
    events = await append_chain(store, 6)
    seqs = await recorded(store)
    for seq in seqs:  # as 0.1.0 did
        await items.delete_item(f"{seq:012d}", KEY)
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune(keep=1, force=True)]
    assert (plan.seqs, plan.unmarked) == ((), seqs)
    left = await headers(store)
    assert await audit.prune(plan) == 0
    assert await headers(store) == left, "no new record: these removals are on record"
    for seq in seqs:
        with pytest.raises(StreamConflict) as conflict:
            await store.append(make_event(STREAM, seq, previous=events[seq - 2] if seq > 1 else None))
        assert conflict.value.head == left[-1]
    [plan] = [plan async for plan in audit.plan_prune(keep=1, force=True)]
    assert (plan.seqs, plan.unmarked) == ((), ())


async def test_holes_are_looked_for_in_what_is_recorded_alone(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
) -> None:
    await append_chain(store, 50, data=b"x" * 20_000)
    record, seqs = await foreseen(store, STREAM, keep=20)
    await store.append(record)
    await store.remove(STREAM, seqs)
    requests, charge = await costs(emulator, store.unmarked(STREAM, Removals([record])))
    assert requests == {"query": 2}  # the head, and the ids of the markers
    assert charge <= 8  # the twenty events that stay would be 40 RU
    assert await store.unmarked(STREAM, Removals()) == []


async def test_a_storage_that_knows_less_than_was_removed_forks_and_its_checkpoint_is_found(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
) -> None:
    """Deleted, pruned, and saved by who had seen nothing of it. The last one rests on no other."""
    writer, other = EventCheckpointStorage(store), EventCheckpointStorage(store)
    first = WorkflowCheckpoint("wf", "g", checkpoint_id="a", state={"n": 1})
    second = WorkflowCheckpoint("wf", "g", checkpoint_id="b", previous_checkpoint_id="a", state={"n": 2})
    third = WorkflowCheckpoint("wf", "g", checkpoint_id="c", previous_checkpoint_id="b", state={"n": noise(3_000)})
    late = WorkflowCheckpoint("wf", "g", checkpoint_id="d", previous_checkpoint_id="c", state={"n": 4})
    run = writer.for_run("r")
    for each in (first, second, third):
        await run.save(each)
    assert await other.for_run("r", workflow_name="wf").delete("b")
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune(keep=1)]
    assert 4 in plan.seqs, "the case needs the event right behind what the writer knows to go"
    await audit.prune(plan)
    await run.save(late)
    assert await EventCheckpointStorage(store).for_run("r").get_latest(workflow_name="wf") == late
    assert [verdict.problems async for verdict in audit.verify_all(decode=True)] == [()]
