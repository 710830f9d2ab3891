"""What the operations on Cosmos DB cost: requests, and request units by the service's price list."""

from __future__ import annotations

import hashlib

import pytest

from eventckpt import CosmosEventStore, EventCheckpointStorage, StreamId
from eventckpt.errors import StreamConflict
from eventckpt.storage.removing import each_of, remove_runs
from eventckpt.stores.conformance import make_event

from ..cosmos_emulator import CosmosEmulator
from ..projections.driven_clock import DrivenClock
from ..storage.claimants import DrivenStorage
from .chains import STREAM, append_chain
from .cosmos_stores import WORKFLOW, Settings, asked, checkpoint, costs, saves


async def test_a_save_is_one_request_and_a_load_at_most_three(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    run = EventCheckpointStorage(store).for_run("r")
    history = [{"role": "user", "text": hashlib.sha256(b"%d" % number).hexdigest()} for number in range(1000)]
    first = checkpoint(state={"history": history})
    await run.save(first)
    second = checkpoint(first, state={"history": [*history, {"role": "user", "text": "and one more"}]})
    requests, charge = await costs(emulator, run.save(second))
    assert requests == {"create_item": 1}
    assert charge <= 8  # 6.47: an item of under 2 KB
    await saves(EventCheckpointStorage(store).for_run("other"), 3)
    [event] = await store.read(StreamId(WORKFLOW, "other"), 3)
    bases = len(event.payload.bases) if event.payload else 0

    async with CosmosEventStore(**settings) as other:
        await other.read(STREAM, 1)  # opens
        bound = EventCheckpointStorage(other).for_run("r", workflow_name=WORKFLOW)
        requests, charge = await costs(emulator, bound.load(second.checkpoint_id))
        assert requests == {"query": 2, "read_item": 1}  # the newest event of the id, the head, and the delta's base
        assert charge <= 10  # 9.14
        requests, charge = await costs(emulator, bound.load(second.checkpoint_id))
        assert requests == {"query": 2}
        assert charge <= 6.5  # 5.78
        requests, charge = await costs(emulator, bound.get_latest(workflow_name=WORKFLOW))
        assert requests == {"query": 1}
        assert charge <= 3.3  # 2.89: the last event, whole
        requests, charge = await costs(emulator, bound.list_checkpoint_ids(workflow_name=WORKFLOW))
        assert requests == {"query": 1}
        assert charge <= 7.5  # 6.61: a listing pays for the items whose headers it selects
        unbound = EventCheckpointStorage(other)
        requests, charge = await costs(emulator, unbound.load(first.checkpoint_id))
        assert requests == {"query": 2, "read_item": 1}  # the id's event, that event whole, the head
        assert charge <= 14  # 12.77: the first snapshot is 50 KB
        requests, charge = await costs(emulator, unbound.list_checkpoint_ids(workflow_name=WORKFLOW))
        assert requests == {"query": 1}
        assert charge <= 7.5  # 6.87
        requests, charge = await costs(emulator, unbound.get_latest(workflow_name=WORKFLOW))
        # The SDK asks for a plan of how to sort over partitions, and the first time for the partitions themselves.
        assert requests == {"query": 3, "query_plan": 1, "read_ranges": 2, "read_item": 1 + bases}
        assert charge <= 13  # 11.67
        requests, charge = await costs(emulator, unbound.get_latest(workflow_name=WORKFLOW))
        assert requests == {"query": 3, "query_plan": 1, "read_item": 1}


async def test_a_listing_is_one_request_for_each_page(
    emulator: CosmosEmulator, store: CosmosEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 10)
    run = EventCheckpointStorage(store).for_run("r")
    saved = await saves(run, 35)
    emulator.reset()
    assert await run.list_checkpoint_ids(workflow_name=WORKFLOW) == [each.checkpoint_id for each in saved]
    assert asked(emulator) == {"query": 4}


async def test_a_conflict_costs_a_look_at_what_is_there(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    await append_chain(store, 3)
    emulator.reset()
    with pytest.raises(StreamConflict):
        await store.append(make_event(STREAM, 2, data=b"other"))
    assert asked(emulator) == {"create_item": 1, "read_item": 1, "query": 1}
    assert emulator.charges.total <= 5.5  # 4.91
    emulator.reset()
    await store.append((await store.read(STREAM, 2))[0])
    assert asked(emulator) == {"create_item": 1, "read_item": 2}


async def test_the_newest_of_a_workflow_is_found_without_reading_the_rest(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    storage = EventCheckpointStorage(store)
    for number in range(30):
        last = await saves(storage.for_run(f"run {number}"), 10)
    emulator.reset()
    assert await storage.get_latest(workflow_name=WORKFLOW) == last[-1]
    assert sum(asked(emulator).values()) <= 8  # of 30 runs with 10 checkpoints each
    assert emulator.charges.total <= 13  # 11.18
    assert max(record.response_bytes for record in emulator.requests) < 10_000  # 6,100: ten headers


async def test_a_claim_is_an_event_and_a_small_document_and_a_run_that_was_never_claimed_pays_nothing(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    clock = DrivenClock()
    storage = DrivenStorage(store, clock)
    run = storage.for_run("r", workflow_name=WORKFLOW)
    [*_, last] = await saves(run, 2)
    requests, unclaimed = await costs(emulator, run.save(last := checkpoint(last)))
    assert requests == {"create_item": 1}
    async with run.claim():
        pass  # opens the container of documents

    claim = run.claim(ttl=60)
    requests, charge = await costs(emulator, claim.__aenter__())
    assert requests == {"create_item": 2, "query": 3}  # where the run ends, and what it carries on
    assert charge <= 22  # 19.45
    emulator.reset()
    await clock.until(lambda: asked(emulator) != {})
    assert asked(emulator) == {"replace_item": 1}
    assert emulator.charges.total <= 11  # 9.9
    requests, charge = await costs(emulator, run.save(last := checkpoint(last)))
    assert requests == {"create_item": 1}
    assert charge == pytest.approx(unclaimed, abs=0.1)
    requests, charge = await costs(emulator, claim.__aexit__(None, None, None))
    assert requests == {"delete_item": 1}
    assert charge <= 5.5  # 4.95

    await run.get_latest(workflow_name=WORKFLOW)
    for looks in (1, 0):  # behind a claim one look, and none behind that save
        requests, charge = await costs(emulator, run.save(last := checkpoint(last)))
        assert requests == {"create_item": 1, **({"read_item": 1} if looks else {})}
        assert charge == pytest.approx(unclaimed + looks, abs=0.4)


async def test_runs_that_were_removed_cost_who_asks_for_the_newest_nothing(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    storage = EventCheckpointStorage(store)
    found: list[dict[str, int]] = []
    for runs in (range(1), range(1, 12), range(12, 40)):
        for number in runs:
            run = storage.for_run(f"r{number:02}", workflow_name=WORKFLOW)
            await run.save(checkpoint())
            await run.annotate(outcome="done")
        live = storage.for_run("live", workflow_name=WORKFLOW)
        await live.save(last := checkpoint())
        emulator.catch_up()
        removed = remove_runs(store, each_of(StreamId(WORKFLOW, f"r{n:02}") for n in runs), actor=None)
        assert [each.state async for each in removed] == ["removed"] * len(runs)
        emulator.catch_up()
        asks = EventCheckpointStorage(store)
        assert await asks.get_latest(workflow_name=WORKFLOW) == last
        requests, _ = await costs(emulator, asks.get_latest(workflow_name=WORKFLOW))
        requests |= (await costs(emulator, asks.list_checkpoint_ids(workflow_name=WORKFLOW)))[0]
        found.append(requests)
    assert found[0] == found[1] == found[2]


async def test_removing_runs_is_a_record_for_each_and_one_event_for_all_beside_the_markers(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    storage = EventCheckpointStorage(store)
    for run_id in ("a", "b", "c"):
        await saves(storage.for_run(run_id), 4)
    streams = [StreamId(WORKFLOW, run_id) for run_id in ("a", "b", "c")]

    async def remove() -> None:
        removals = [each async for each in remove_runs(store, each_of(streams), actor=None, force=True)]
        assert {each.state for each in removals} == {"removed"}

    async def again() -> None:
        removals = [each async for each in remove_runs(store, each_of(streams), actor=None)]
        assert {each.state for each in removals} == {"removed before"}

    requests, charge = await costs(emulator, remove())
    assert requests["create_item"] == 3 + 1  # the records, and the event that tells of them
    assert requests["replace_item"] == 3 * 4  # the markers
    assert requests["query"] <= 11  # the runs, at once; where each ends, and what goes; the last such event; parts
    assert charge <= 215  # 196.95
    requests, charge = await costs(emulator, again())
    assert requests == {"query": 3}
    assert charge <= 10
