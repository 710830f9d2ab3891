"""What others put into the containers is hostile: what is no event, or no document of ours, is in nobody's way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.errors import StoreFullError
from eventckpt.events import MAX_SEQ
from eventckpt.stores.conformance import make_event
from projections import LatestProjection, compare, open_engine

from ..cosmos_emulator import CosmosEmulator

STREAM = StreamId("w", "r1")


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


def where(emulator: CosmosEmulator) -> dict[str, Any]:
    return {
        "endpoint": emulator.endpoint,
        "credential": emulator.key,
        "database_name": "db",
        "container_name": "events",
    }


@pytest.fixture
async def storage(emulator: CosmosEmulator) -> AsyncGenerator[CosmosCheckpointStorage, None]:
    async with CosmosCheckpointStorage(**where(emulator)) as opened:
        yield opened


@pytest.fixture
async def client(emulator: CosmosEmulator) -> AsyncGenerator[CosmosClient, None]:
    async with CosmosClient(emulator.endpoint, emulator.key) as opened:
        yield opened


def container(client: CosmosClient, suffix: str = "") -> ContainerProxy:
    return client.get_database_client("db").get_container_client(f"events{suffix}")


def checkpoint(previous: str | None = None, name: str | None = None, **state: Any) -> WorkflowCheckpoint:
    named = {} if name is None else {"checkpoint_id": name}
    return WorkflowCheckpoint("w", "g", previous_checkpoint_id=previous, state=state, **named)


NO_EVENTS: dict[str, dict[str, Any]] = {
    "no key": {"id": "000000000009"},
    "no key, and no id of ours": {"id": "1"},
    "no key, the id of a part": {"id": f"part-{'a' * 64}"},
    "a key that is null": {"id": "000000000009", "stream": None},
    "a key that is a number": {"id": "000000000009", "stream": 5},
    "a key that is true": {"id": "000000000009", "stream": True},
    "25 digits": {"id": "1" * 25, "stream": "w|r1"},
    "900 digits": {"id": "9" * 900, "stream": "w|r1"},
    "Arabic digits": {"id": "١٢٣", "stream": "w|r1"},
    "few digits": {"id": "99", "stream": "w|r1"},
    "no digits": {"id": "000000000009x", "stream": "w|r1"},
    "seq 0": {"id": "000000000000", "stream": "w|r1"},
    "beyond the last seq": {"id": str(MAX_SEQ + 1), "stream": "w|r1"},
}


@pytest.fixture(params=NO_EVENTS.values(), ids=NO_EVENTS)
def no_event(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An item that claims to be the newest checkpoint `b` of everything."""
    return {"checkpoint_id": "b", "workflow_name": "w", "run_id": "r1", "timestamp": "2099", **request.param}


async def test_what_is_no_event_is_left_out_everywhere(
    storage: CosmosCheckpointStorage, client: CosmosClient, emulator: CosmosEmulator, no_event: dict[str, Any]
) -> None:
    run = storage.for_run("r1")
    await run.save(checkpoint(name="a"))
    await run.save(checkpoint("a", name="b"))
    await container(client).create_item(no_event)
    async with CosmosCheckpointStorage(**where(emulator)) as fresh:
        assert (await fresh.load("b")).checkpoint_id == "b"
        assert await fresh.list_checkpoint_ids(workflow_name="w") == ["a", "b"]
        assert [each.checkpoint_id for each in await fresh.list_checkpoints(workflow_name="w")] == ["a", "b"]
        newest = await fresh.get_latest(workflow_name="w")
        assert newest is not None
        assert newest.checkpoint_id == "b"
        assert await fresh.for_run("r1").save(checkpoint("b", name="c")) == "c"
        assert await fresh.delete("c")
        store = fresh.store
        assert isinstance(store, CosmosEventStore)
        assert [header.seq async for header in store.headers(STREAM)] == [1, 2, 3, 4]
        assert [header.seq async for header in store.headers(STREAM, desc=True)] == [4, 3, 2, 1]
        assert [header.seq async for header in store.workflow_headers("w")] == [1, 2, 3, 4]
        assert [header.seq async for header in store.workflow_headers("w", desc=True)] == [4, 3, 2, 1]
        assert [event.seq async for event in store.events(STREAM)] == [1, 2, 3, 4]
        assert [event.seq for event in await store.read(STREAM, 0, 1, 2, 3, MAX_SEQ, MAX_SEQ + 1)] == [1, 2, 3]
        assert [each async for each in store.streams()] == [STREAM]
        assert await store.checkpoint_ids("", limit=9) == ["a", "b", "c"]
        assert await store.remove_orphaned_parts(older_than=-5) == 0
        async with aclosing(store.follow(last=9)) as following:
            assert [(await anext(following)).seq for _ in range(4)] == [1, 2, 3, 4]
        assert [run.run_id async for run in CheckpointAudit(store).runs()] == ["r1"]


async def test_the_projection_takes_no_item_for_an_event_that_is_none(
    storage: CosmosCheckpointStorage, client: CosmosClient, no_event: dict[str, Any]
) -> None:
    await storage.for_run("r1").save(checkpoint(name="a"))
    await container(client).create_item(no_event)
    engine, runs = open_engine(storage.store), storage.store.runs()
    [piece] = await engine.feed.ranges()
    page = await engine.feed.read(piece, None, start="beginning", limit=100)
    await LatestProjection(storage.store).apply(page.events)
    assert [(info.run_id, info.seq) async for info in runs.all()] == [("r1", 1)]
    assert [each async for each in compare(storage.store, engine.feed, runs)] == []


async def test_the_head_of_a_run_is_found_behind_many_items_that_are_none(
    storage: CosmosCheckpointStorage, client: CosmosClient, emulator: CosmosEmulator
) -> None:
    await storage.for_run("r1").save(checkpoint(name="a"))
    for number in range(15):
        await container(client).create_item({"id": f"9{number:02d}", "stream": "w|r1", "checkpoint_id": "a"})
    emulator.reset()
    async with CosmosCheckpointStorage(**where(emulator)) as fresh:
        assert await fresh.for_run("r1").save(checkpoint("a", name="b")) == "b"
        assert [header.seq async for header in fresh.store.headers(STREAM, desc=True)] == [2, 1]


async def test_no_event_is_written_where_it_would_not_be_found(storage: CosmosCheckpointStorage) -> None:
    with pytest.raises(StoreFullError, match="beyond"):
        await storage.store.append(make_event(STREAM, MAX_SEQ + 1))
    assert [header async for header in storage.store.headers(STREAM)] == []
