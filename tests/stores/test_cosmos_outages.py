"""A service that fails now and then, or stays away: nothing is lost, doubled or waited for without end."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.errors import StoreUnavailableError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import container

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from .chains import STREAM, append_chain, headers
from .cosmos_operations import hurry
from .cosmos_stores import (
    MEGABYTES_5,
    WORKFLOW,
    Settings,
    checkpoint,
    headers_of,
    payloads,
    saves,
    verified,
    workflow_headers,
)

pytestmark = pytest.mark.slow  # every outage, waited out


def every_fault(emulator: CosmosEmulator, share: float, **match: Any) -> None:
    """A share of all requests fail, in each way that one can."""
    faults = emulator.faults
    match = {**match, "rate": share / 8}
    faults.respond(429, retry_after_ms=5, seed=1, **match)
    faults.respond(429, seed=2, **match)
    faults.respond(503, seed=3, **match)
    faults.respond(408, seed=4, **match)
    faults.respond(449, seed=5, **match)
    faults.respond(408, applied=True, seed=6, **match)
    faults.drop(seed=7, **match)
    faults.drop(applied=True, seed=8, **match)


async def test_with_a_fifth_of_all_requests_failing_no_save_is_lost_or_doubled(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(CosmosCheckpointStorage(**settings)) for _ in range(4)]
        every_fault(emulator, 0.2)
        saved = await asyncio.gather(*(saves(storages[n % 4].for_run(f"r{n}"), 100) for n in range(20)))
    failed = sum(rule.hits for rule in emulator.faults)
    assert failed > 0.15 * len(emulator.requests)
    emulator.faults.clear()
    async with CosmosEventStore(**settings) as store:
        for number, lineage in enumerate(saved):
            events = await verified(store, StreamId(WORKFLOW, f"r{number}"))
            assert [event.checkpoint_id for event in events] == [each.checkpoint_id for each in lineage]
        assert len(await workflow_headers(store, WORKFLOW)) == 2000, "no save ended in a fork"


async def test_with_a_fifth_of_all_requests_failing_every_read_is_right(
    emulator: CosmosEmulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings._NEWEST", 7)
    async with CosmosEventStore(**settings) as store:
        await append_chain(store, 1, stream=StreamId("another", "run"))
        emulator.split(DATABASE, settings["container_name"])
        chains = [await append_chain(store, 12, stream=StreamId("workflow", f"run {n}")) for n in range(6)]
        everything = headers_of([event for chain in chains for event in chain])
        large = make_event(StreamId("large", "run"), 1, data=MEGABYTES_5)
        await store.append(large)
        every_fault(emulator, 0.2)

        async def read_everything() -> None:
            assert await workflow_headers(store) == everything
            assert await workflow_headers(store, desc=True) == everything[::-1]
            assert sorted([each async for each in store.run_ids("workflow")]) == [f"run {n}" for n in range(6)]
            for chain in chains:
                assert await headers(store, chain[0].stream) == headers_of(chain)
                assert await headers(store, chain[0].stream, desc=True) == headers_of(chain)[::-1]
                assert [event async for event in store.newest(chain[0].stream)] == chain[::-1]
                assert await store.read(chain[0].stream, 1, 5, 12) == [chain[0], chain[4], chain[11]]
                located = await store.find(chain[6].checkpoint_id)
                assert located == (chain[6], chain[-1].header())
            assert payloads(await store.read(large.stream, 1)) == payloads([large])

        await asyncio.gather(*(read_everything() for _ in range(5)))


async def test_races_between_two_writers_under_faults_have_one_winner_and_one_fork_each(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(CosmosCheckpointStorage(**settings)) for _ in range(2)]
        every_fault(emulator, 0.2, kind="create_item")

        async def race(number: int) -> tuple[str, list[WorkflowCheckpoint]]:
            run_id = f"race {number}"
            [root] = await saves(writers[0].for_run(run_id), 1)
            emulator.catch_up()
            await writers[1].for_run(run_id, workflow_name=WORKFLOW).load(root.checkpoint_id)
            rivals = [checkpoint(root, state={"writer": each}) for each in range(2)]
            await asyncio.gather(
                *(writer.for_run(run_id).save(each) for writer, each in zip(writers, rivals, strict=True))
            )
            return run_id, rivals

        races = await asyncio.gather(*map(race, range(100)))
    emulator.faults.clear()
    async with CosmosEventStore(**settings) as store:
        for run_id, rivals in races:
            [_, winner] = await verified(store, StreamId(WORKFLOW, run_id))
            [loser] = [each for each in rivals if each.checkpoint_id != winner.checkpoint_id]
            [fork] = await verified(store, StreamId(WORKFLOW, f"{run_id}~{loser.checkpoint_id[:8]}"))
            assert fork.checkpoint_id == loser.checkpoint_id
            assert fork.forked_from is not None
        assert len(await workflow_headers(store, WORKFLOW)) == 300


@pytest.mark.parametrize("status", [None, 408, 503])
async def test_an_append_whose_answer_was_lost_is_no_conflict(
    emulator: CosmosEmulator, store: CosmosEventStore, status: int | None
) -> None:
    events = await append_chain(store, 1)
    match: dict[str, Any] = {"kind": "create_item", "times": 1, "applied": True}
    rule = emulator.faults.drop(**match) if status is None else emulator.faults.respond(status, **match)
    events.append(make_event(STREAM, 2, previous=events[0]))
    await store.append(events[1])
    assert rule.hits == 1
    assert await verified(store, STREAM) == events


async def test_an_append_whose_answer_was_lost_waits_for_a_replica_that_lags_behind(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    emulator.faults.drop(kind="create_item", times=1, applied=True)
    emulator.faults.respond(404, kind="read_item", times=1)
    emulator.faults.respond(404, substatus=1002, kind="read_item", times=3)
    second = make_event(STREAM, 2)
    await store.append(second)
    assert await store.read(STREAM, 2) == [second]


async def test_a_replica_that_lags_behind_is_not_taken_for_an_empty_run(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 1)
    emulator.faults.respond(404, substatus=1002, kind="read_item", times=4)
    assert await store.read(STREAM, 1) == events


@pytest.mark.parametrize("status", [408, 429, 449, 503])
async def test_a_service_that_stays_away_is_reported_in_bounded_time(
    emulator: CosmosEmulator, store: CosmosEventStore, status: int
) -> None:
    hurry(store, 1.5)
    events = await append_chain(store, 1)
    with emulator.faults.respond(status), pytest.raises(StoreUnavailableError, match=rf"{status}.*again is safe"):
        await store.append(make_event(STREAM, 2, previous=events[0]))
    await store.append(make_event(STREAM, 2, previous=events[0]))


async def test_the_service_decides_how_long_a_throttled_request_waits(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 1)
    emulator.faults.respond(449, headers={"x-ms-retry-after-ms": "300"}, kind="create_item", times=1)
    began = time.monotonic()
    await store.append(make_event(STREAM, 2, previous=events[0]))
    assert time.monotonic() - began >= 0.3
    emulator.faults.respond(449, headers={"x-ms-retry-after-ms": "60000"}, kind="create_item")
    with pytest.raises(StoreUnavailableError):  # at once: what would come after the wait is past all patience
        await store.append(make_event(STREAM, 3, previous=events[0]))
