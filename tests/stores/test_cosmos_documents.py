"""What others put into the containers is hostile: what is no event, or no document of ours, is in nobody's way."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CosmosCheckpointStorage, CosmosEventStore, RunInfo, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.errors import StoreFullError, StoreUnavailableError
from eventckpt.events import MAX_SEQ
from eventckpt.stores.conformance import make_event
from projections import Difference, LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector

from ..cosmos_emulator import CosmosEmulator
from ..engines import where

pytestmark = pytest.mark.slow  # every way in which a document may be changed

STREAM = StreamId("w", "r1")


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


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


# Documents of the projection

ESCAPE = "\x1b[31m\r\nforged"

DAMAGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another run": lambda body: {**body, "run_id": "r2"},
    "another workflow": lambda body: {**body, "workflow_name": "other"},
    "a run that is no text": lambda body: {**body, "run_id": 5},
    "a seq that is text": lambda body: {**body, "seq": "x"},
    "a seq beyond the last": lambda body: {**body, "seq": 1e30},
    "a seq below the first": lambda body: {**body, "seq": -1},
    "a time that is a number": lambda body: {**body, "timestamp": 5},
    "a digest that is a list": lambda body: {**body, "digest": [1]},
    "a status that there is not": lambda body: {**body, "status": ESCAPE},
    "no fields": lambda body: {"id": body["id"], "stream": body["stream"]},
    "no digest": lambda body: {name: value for name, value in body.items() if name != "digest"},
    "a later time": lambda body: {**body, "timestamp": "2099", "messages": [ESCAPE]},
}


async def apply_all(storage: CosmosCheckpointStorage, *runs: str) -> int:
    projection = LatestProjection(storage.store)
    return sum(
        [await projection.apply([header async for header in storage.store.headers(StreamId("w", run))]) for run in runs]
    )


@pytest.fixture
async def documents(storage: CosmosCheckpointStorage, client: CosmosClient) -> ContainerProxy:
    """The documents of two runs, each with a checkpoint; the first one has another since."""
    await storage.for_run("r1").save(checkpoint(name="a"))
    await storage.for_run("r2").save(checkpoint(name="b"))
    await apply_all(storage, "r1", "r2")
    await storage.for_run("r1").save(checkpoint("a", name="c"))
    return container(client, "-projections")


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_document_is_as_if_there_were_none_and_is_written_over(
    storage: CosmosCheckpointStorage,
    emulator: CosmosEmulator,
    documents: ContainerProxy,
    damage: Callable[[dict[str, Any]], dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await documents.upsert_item(damage(await documents.read_item("latest", "w|r1")))
    engine, runs = open_engine(storage.store), storage.store.runs()
    other = StreamId("w", "r2")
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert list(await runs.get(STREAM, other)) == [other]
        assert [info.run_id async for info in runs.all()] == ["r2"]
        assert [info.run_id async for info in runs.all("w")] == ["r2"]
    [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "w|r1" in said
    assert said.isprintable()
    newest = await runs.newest("w")
    assert newest is not None
    assert newest.run_id == "r2"
    found = [each async for each in compare(storage.store, engine.feed, runs)]
    assert found == [Difference(STREAM, "missing")]
    emulator.reset()
    assert await apply_all(storage, "r1") == 1
    assert len(emulator.requests) < 10
    assert [each async for each in compare(storage.store, engine.feed, runs)] == []


async def test_the_newest_run_is_found_behind_many_documents_that_do_not_count(
    storage: CosmosCheckpointStorage, documents: ContainerProxy
) -> None:
    for number in range(25):
        claim = {"id": "latest", "workflow_name": "w", "timestamp": f"2099-{number}"}
        await documents.upsert_item(claim | ({"stream": f"w|x{number}"} if number else {}))
    runs = storage.store.runs()
    newest = await runs.newest("w")
    assert newest is not None
    assert newest.run_id in {"r1", "r2"}
    assert {info.run_id async for info in runs.all()} == {"r1", "r2"}
    await runs.clear()
    assert [info async for info in runs.all()] == []


async def test_a_document_that_others_write_all_the_time_ends_with_an_error_that_says_what_to_do(
    storage: CosmosCheckpointStorage, emulator: CosmosEmulator, documents: ContainerProxy
) -> None:
    emulator.reset()
    with (
        emulator.faults.respond(412, kind="replace_item", container="events-projections"),
        pytest.raises(StoreUnavailableError, match=r"'latest' of run 'r1', workflow 'w'.*remove the item"),
    ):
        await apply_all(storage, "r1")
    assert len(emulator.requests) < 60
    assert await apply_all(storage, "r1") == 1


async def test_two_writers_of_one_document_end_with_the_newer_one(
    storage: CosmosCheckpointStorage, emulator: CosmosEmulator, documents: ContainerProxy
) -> None:
    info = (await storage.store.runs().get(STREAM))[STREAM]
    async with CosmosEventStore(**where(emulator)) as other:
        await other.runs().put(RunInfo(workflow_name="w", run_id="r1", seq=9, digest="x"))
    assert await storage.store.runs().put(info) == 0
    assert (await storage.store.runs().get(STREAM))[STREAM].seq == 9


POINTERS: dict[str, dict[str, Any]] = {
    "no name": {},
    "null": {"projection": None},
    "a number": {"projection": 5},
    "a list": {"projection": ["a"]},
    "empty": {"projection": ""},
    "no id": {"projection": "a/b"},
    "control characters": {"projection": ESCAPE},
    "too long": {"projection": "x" * 3000},
}


@pytest.mark.parametrize("pointer", POINTERS.values(), ids=POINTERS)
async def test_a_pointer_that_names_no_projection_is_said_and_repaired(
    storage: CosmosCheckpointStorage,
    documents: ContainerProxy,
    pointer: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await documents.upsert_item({"id": "active", "stream": "latest", **pointer})
    runs = storage.store.runs()
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert await runs.active() == "latest"
    [said] = [record.getMessage() for record in caplog.records]
    assert "names no projection" in said
    assert said.isprintable()
    assert len(said) < 400
    assert len([info async for info in runs.all()]) == 2
    engine = open_engine(storage.store)
    assert await Projector(engine, ProcessorOptions(poll_interval=0.1)).rebuild(lambda *_: None) == "latest-2"
    assert await storage.store.runs().active() == "latest-2"
