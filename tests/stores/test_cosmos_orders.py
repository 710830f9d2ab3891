"""What is in which order on Cosmos DB, which has none of commits over several runs: the same in every process, whatever
the pages and the clocks do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CheckpointEvent, CosmosEventStore, EventCheckpointStorage, StreamId
from eventckpt.chain import sealed
from eventckpt.stores import EventStore, head_of
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import container, listings
from projections import LatestProjection

from ..cosmos_emulator import CosmosEmulator
from ..engines import where

pytestmark = pytest.mark.slow  # every order of two operations

WORKFLOW = "workflow"
ONE_SECOND = 1_800_000_000.0


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator(clock=lambda: ONE_SECOND) as running:  # the service's clock tells nothing apart
        yield running


@pytest.fixture
async def store(emulator: CosmosEmulator) -> AsyncGenerator[CosmosEventStore, None]:
    async with CosmosEventStore(**where(emulator)) as opened:
        yield opened


@pytest.fixture
async def items(emulator: CosmosEmulator) -> AsyncGenerator[ContainerProxy, None]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield client.get_database_client("db").get_container_client("events")


def event_of(run: str, seq: int = 1, previous: CheckpointEvent | None = None, **fields: Any) -> CheckpointEvent:
    made = make_event(StreamId(WORKFLOW, run), seq, previous=previous, checkpoint_id=fields.pop("checkpoint_id", None))
    return sealed(msgspec.structs.replace(made, **fields))


def moment(number: int) -> str:
    return f"2026-01-01T00:00:{number:02d}+00:00"


def asked(emulator: CosmosEmulator) -> Counter[str]:
    return Counter(record.kind for record in emulator.requests)


async def found(store: EventStore) -> str | None:
    located = await store.find("wanted")
    assert located == await store.find_in(WORKFLOW, "wanted")
    return located.event.run_id if located else None


# find


async def test_of_several_runs_the_one_that_was_recorded_last_is_found_and_then_the_greater_run_id(
    store: CosmosEventStore, emulator: CosmosEmulator
) -> None:
    for run, number in (("c", 5), ("a", 7), ("d", 3), ("b", 7)):
        await store.append(event_of(run, checkpoint_id="wanted", recorded_at=moment(number)))
    assert await found(store) == "b"
    emulator.catch_up()
    async with CosmosEventStore(**where(emulator)) as other:
        assert await found(other) == "b"


async def test_times_are_compared_as_moments_and_not_as_text(store: CosmosEventStore) -> None:
    await store.append(event_of("later", checkpoint_id="wanted", recorded_at="2026-01-01T10:00:00+00:00"))
    await store.append(event_of("earlier", checkpoint_id="wanted", recorded_at="2026-01-01T11:00:00+02:00"))
    assert await found(store) == "later"


DAMAGED = [5, None, ..., "zzzz", "9999", "", ["2099-01-01"], {"at": 1}, "9" * 100_000, True]


@pytest.mark.parametrize("value", DAMAGED, ids=lambda value: f"{value!r}"[:20])
async def test_an_event_with_a_damaged_time_counts_as_the_oldest_and_breaks_nothing(
    store: CosmosEventStore, items: ContainerProxy, emulator: CosmosEmulator, value: Any
) -> None:
    for run in ("a", "z"):
        await store.append(event_of(run, checkpoint_id="wanted", recorded_at=moment(1)))
    emulator.catch_up()
    item = {**await items.read_item("000000000001", f"{WORKFLOW}|z"), "recorded_at": value}
    if value is ...:
        del item["recorded_at"]
    await items.replace_item("000000000001", item)
    emulator.catch_up()
    assert await found(store) == "a"
    await items.delete_item("000000000001", f"{WORKFLOW}|a")
    emulator.catch_up()
    assert await found(store) == "z", "it is live, and nothing else is"
    listed = [header.run_id async for header in store.workflow_headers(WORKFLOW, desc=True)]
    assert listed == ["z"]
    assert [stream.run_id async for stream in store.streams()] == ["z"]


async def test_finding_an_id_that_many_runs_have_is_two_queries_and_one_read_and_little_of_each_run_is_asked_for(
    store: CosmosEventStore, emulator: CosmosEmulator
) -> None:
    count = 300
    for number in range(count):
        await store.append(event_of(f"run {number:03d}", checkpoint_id="wanted", actor="x" * 2_000))
    for search in (store.find("wanted"), store.find_in(WORKFLOW, "wanted")):
        emulator.reset()
        located = await search
        assert located is not None
        assert located.event.run_id == "run 299"
        assert asked(emulator) == {"query": 2, "read_item": 1}  # the id's events, the newest whole, the head
        assert max(record.response_bytes for record in emulator.requests) < 200 * count


async def test_finding_what_is_not_there_is_one_query(store: CosmosEventStore, emulator: CosmosEmulator) -> None:
    await store.append(event_of("a"))
    for search in (store.find("nothing"), store.find_in(WORKFLOW, "nothing")):
        emulator.reset()
        assert await search is None
        assert asked(emulator) == {"query": 1}


async def test_a_changed_item_that_claims_another_workflow_is_found_in_its_own(
    store: CosmosEventStore, items: ContainerProxy, emulator: CosmosEmulator
) -> None:
    saved = event_of("a", checkpoint_id="wanted")
    deleted = sealed(
        msgspec.structs.replace(event_of("a", 2, saved, checkpoint_id="wanted"), type="tombstone", payload=None)
    )
    for event in (saved, deleted):
        await store.append(event)
    emulator.catch_up()
    item = await items.read_item("000000000002", f"{WORKFLOW}|a")
    await items.replace_item("000000000002", {**item, "workflow_name": "other"})
    emulator.catch_up()
    located = await store.find_in(WORKFLOW, "wanted")
    assert located is not None
    assert (located.event.seq, located.event.type) == (2, "tombstone"), "what was deleted does not come back"
    assert await store.find_in("other", "wanted") is None


# get_latest and listings


async def test_of_runs_with_one_timestamp_the_log_and_the_projection_give_the_same(
    store: CosmosEventStore, emulator: CosmosEmulator
) -> None:
    """In whatever order they were saved: by when they were recorded, and then by run id."""
    for number, order in enumerate(itertools.permutations(["a", "b", "c"])):
        workflow = f"flow {number}"
        storage = EventCheckpointStorage(store)
        for run in order:
            checkpoint = WorkflowCheckpoint(workflow, "g", checkpoint_id=f"{workflow} {run}", timestamp="2026-01-01")
            await storage.for_run(run).save(checkpoint)
        emulator.catch_up()
        headers = [header async for header in store.workflow_headers(workflow)]
        await LatestProjection(store).apply(headers)
        emulator.catch_up()
        async with CosmosEventStore(**where(emulator)) as other:
            for each in (store, other):
                assert [header async for header in each.workflow_headers(workflow, desc=True)] == headers[::-1]
                for latest in ("log", "projection"):
                    newest = await EventCheckpointStorage(each, latest=latest).get_latest(workflow_name=workflow)
                    assert newest is not None
                    assert newest.checkpoint_id == f"{workflow} {order[-1]}", "the one that was recorded last"


async def with_equal_times(store: EventStore) -> None:
    """Six runs of five events that share three timestamps and few moments at which they were recorded."""
    runs = ["m", "k", "z", "a", "q", "b"]
    heads: dict[str, CheckpointEvent] = {}
    for seq, time in enumerate((2, 1, 2, 3, 3), 1):
        for run in runs:
            recorded = moment(1 if run < "c" else (ord(run) * seq) % 3)
            heads[run] = event_of(run, seq, heads.get(run), timestamp=moment(time), recorded_at=recorded)
            await store.append(heads[run])


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
@pytest.mark.parametrize("split", [False, True])
async def test_equal_times_are_in_one_order_whatever_the_pages(
    store: CosmosEventStore, emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch, page: int, split: bool
) -> None:
    monkeypatch.setattr(container, "PAGE", page)
    monkeypatch.setattr(listings, "PAGE", page)
    monkeypatch.setattr(listings, "_NEWEST", min(page, 10))
    await with_equal_times(store)
    if split:
        emulator.split("db", "events")
    oldest = [header async for header in store.workflow_headers(WORKFLOW)]
    newest = [header async for header in store.workflow_headers(WORKFLOW, desc=True)]
    assert len(oldest) == 30
    assert newest == oldest[::-1]
    infos = store.runs()
    await LatestProjection(store).apply(oldest)
    info = await infos.newest(WORKFLOW)
    assert info is not None
    assert (info.run_id, info.checkpoint_seq) == (newest[0].run_id, newest[0].seq)


@pytest.mark.usefixtures("hurried_sdk")
async def test_equal_times_are_in_one_order_though_queries_break_off_and_begin_again(
    store: CosmosEventStore, emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_equal_times(store)
    emulator.split("db", "events")
    expected = [header async for header in store.workflow_headers(WORKFLOW, desc=True)]
    for module in (container, listings):
        monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(listings, "_NEWEST", 2)
    for status, seed in ((503, 1), (408, 2), (449, 3)):
        emulator.faults.respond(status, seed=seed, rate=0.1, kind="query")
    for _ in range(5):
        assert [header async for header in store.workflow_headers(WORKFLOW, desc=True)] == expected
        assert [header async for header in store.workflow_headers(WORKFLOW)] == expected[::-1]


async def test_the_projection_asks_twice_more_only_where_the_newest_runs_are_of_one_time(
    store: CosmosEventStore, emulator: CosmosEmulator
) -> None:
    infos, counts = store.runs("p"), []
    for run, number in (("a", 1), ("b", 2), ("c", 2)):
        event = event_of(run, timestamp=moment(number))
        await store.append(event)
        await LatestProjection(store, infos).apply([event])
        await infos.newest(WORKFLOW)
        emulator.reset()
        info = await infos.newest(WORKFLOW)
        assert info is not None
        assert info.run_id == run
        counts.append(sum(record.kind == "query" for record in emulator.requests))
    assert counts == [counts[0], counts[0], counts[0] + 2], "for those runs, and for when the log has them recorded"


async def test_where_no_two_are_of_one_time_the_latest_costs_no_more_than_before(
    store: CosmosEventStore, emulator: CosmosEmulator
) -> None:
    storage = EventCheckpointStorage(store)
    for count in (1, 2, 9, 10, 11):
        workflow = f"flow of {count}"
        for number in range(count):
            checkpoint = WorkflowCheckpoint(workflow, "g", timestamp=moment(number))
            await storage.for_run(f"run {number}").save(checkpoint)
        await storage.get_latest(workflow_name=workflow)
        emulator.reset()
        assert await storage.get_latest(workflow_name=workflow) == checkpoint
        more = count > 10  # the SDK looks behind a full page
        assert asked(emulator) == {"query": 3 + more, "query_plan": 1, "read_item": 1}, count


# What the audit lists


async def test_runs_of_one_second_are_listed_and_followed_by_when_they_were_recorded_and_then_by_name(
    store: CosmosEventStore,
) -> None:
    for run, number in (("c", 5), ("a", 7), ("d", 3), ("b", 7)):
        await store.append(event_of(run, recorded_at=moment(number)))
    listed = ["b", "a", "c", "d"]
    assert [stream.run_id async for stream in store.streams()] == listed
    assert [stream.run_id async for stream in store.streams(workflow_name=WORKFLOW)] == listed
    async with aclosing(store.follow(last=4)) as following:
        assert [(await anext(following)).run_id for _ in listed] == listed[::-1]


async def test_in_a_run_followers_get_events_by_seq_whatever_the_clocks_said(store: CosmosEventStore) -> None:
    head: CheckpointEvent | None = None
    for seq, number in enumerate((9, 2, 5), 1):
        head = event_of("a", seq, head, recorded_at=moment(number))
        await store.append(head)
    async with aclosing(store.follow(last=3)) as following:
        assert [(await anext(following)).seq for _ in range(3)] == [1, 2, 3]


async def test_a_run_whose_events_move_to_later_seconds_while_runs_are_listed_is_listed_all_the_same() -> None:
    seconds = itertools.count(int(ONE_SECOND))
    async with (
        CosmosEmulator(clock=lambda: float(next(seconds))) as emulator,
        CosmosEventStore(**where(emulator)) as store,
    ):
        runs = [StreamId(WORKFLOW, f"run {number}") for number in range(220)]  # more than the SDK reads ahead
        for run in runs:
            await store.append(make_event(run, 1, data=b""))
        listed: list[StreamId] = []
        async with aclosing(store.streams()) as streams:
            async for stream in streams:
                if not listed:
                    for run in runs:
                        first = await head_of(store, run)
                        assert first is not None
                        await store.append(make_event(run, 2, previous=first, data=b""))
                        await store.remove(run, [1])
                listed.append(stream)
        assert len(listed) == 220
        assert set(listed) == set(runs)
