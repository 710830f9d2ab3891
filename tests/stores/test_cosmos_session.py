"""What a store on Cosmos DB has written, or has seen, is never out of its sight again, whichever replica answers.

The test server lags as the service may: a share of the reads is answered from a moment ago, unless the session token
forbids it. No account was reached.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos.aio import CosmosClient
from hypothesis import given
from hypothesis import strategies as st

from eventckpt import CheckpointStoreError, CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.errors import StoreFormatError, StoreReplacedError, StoreUnavailableError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos.session import Session
from projections import ChangeFeedProcessor, LatestProjection, ProcessorOptions, open_engine

from ..cosmos_emulator import CosmosEmulator, Switches
from .cosmos_operations import hurry

pytestmark = pytest.mark.slow  # every order of writes and replicas

STREAM = StreamId("workflow", "run")
DATABASE = "agents"
HALF = Switches(lag=0.5, lag_seconds=0.3)
LONG_AGO = Switches(lag=1.0, lag_seconds=3600.0)
"""No read is answered from the present unless its token asks for that."""


@pytest.fixture
async def emulator(request: pytest.FixtureRequest) -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator(switches=getattr(request, "param", LONG_AGO)) as running:
        yield running


def where(emulator: CosmosEmulator, name: str = "checkpoints") -> dict[str, Any]:
    return {
        "endpoint": emulator.endpoint,
        "credential": emulator.key,
        "database_name": DATABASE,
        "container_name": name,
    }


def checkpoint(previous: str | None = None, **state: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint("workflow", "graph", previous_checkpoint_id=previous, state=state)


# Reading what one wrote


@pytest.mark.parametrize("emulator", [HALF, LONG_AGO], indirect=True, ids=["some replicas lag", "every replica lags"])
async def test_a_storage_finds_what_it_saved_at_once(emulator: CosmosEmulator) -> None:
    async with CosmosCheckpointStorage(**where(emulator)) as storage:
        for name in ("first", "second"):
            run, previous = storage.for_run(name), None
            for number in range(25):
                previous = await run.save(checkpoint(previous, number=number))
                assert (await run.load(previous)).state == {"number": number}
                latest = await run.get_latest(workflow_name="workflow")
                assert latest is not None
                assert latest.checkpoint_id == previous
                assert len(await run.list_checkpoint_ids(workflow_name="workflow")) == number + 1
                assert (await storage.load(previous)).state == {"number": number}
                newest = await storage.get_latest(workflow_name="workflow")
                assert newest is not None
                assert newest.checkpoint_id == previous


async def test_a_payload_in_parts_is_found_whole(emulator: CosmosEmulator) -> None:
    async with CosmosEventStore(**where(emulator)) as store:
        event = make_event(STREAM, 1, data=bytes(range(256)) * 8_000)
        await store.append(event)
        [found] = await store.read(STREAM, 1)
        assert found.payload is not None
        assert event.payload is not None
        assert len(found.payload.parts) == 6
        assert found.payload.data == event.payload.data


async def test_what_was_seen_once_is_seen_again(emulator: CosmosEmulator) -> None:
    """A listing may be late for another process's events; an event that it has shown can be read."""
    async with CosmosEventStore(**where(emulator)) as writer, CosmosEventStore(**where(emulator)) as reader:
        event = make_event(STREAM, 1)
        await writer.append(event)
        async for header in reader.workflow_headers("workflow"):
            assert await reader.read(header.stream, header.seq) == [event]


async def test_another_process_may_be_late_and_never_takes_a_seq_twice(emulator: CosmosEmulator) -> None:
    """The documented staleness: whoever has seen nothing yet may be shown a run as it was; an append tells."""
    async with CosmosCheckpointStorage(**where(emulator)) as one:
        first = await one.for_run("r").save(checkpoint(n=1))
        async with CosmosCheckpointStorage(**where(emulator)) as two:
            late = await two.for_run("r").get_latest(workflow_name="workflow")
            assert late is None
            began_anew = two.for_run("r")
            other = await began_anew.save(checkpoint(n=2))
            assert began_anew.forked_to is not None  # the seq was taken, and the answer that said so told of the run
            assert (await two.load(first)).state == {"n": 1}
            assert (await two.load(other)).state == {"n": 2}
        assert (await one.load(first)).state == {"n": 1}


# On the wire


async def every_container(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    """Write to all containers of a store, and read from them."""
    documents, runs, engine = store.document_store(), store.runs(), open_engine(store)
    options = ProcessorOptions(poll_interval=0.05)
    await store.append(make_event(STREAM, 1))  # before anything reads beside it
    async with ChangeFeedProcessor(
        engine.feed, engine.leases("latest"), LatestProjection(store).apply, options
    ) as processor:
        for seq in range(2, 5):
            await store.append(make_event(STREAM, seq))
            await processor.caught_up()
            assert (await runs.get(STREAM))[STREAM].seq == seq
            assert len(await store.read(STREAM, seq)) == 1
            assert [header.seq async for header in store.headers(STREAM, desc=True)] == list(range(seq, 0, -1))
            assert [stream async for stream in store.streams()] == [STREAM]
    created = await documents.create({"id": "one", "n": 1})
    assert created is not None
    assert await documents.read("one") is not None
    assert await documents.replace({"id": "one", "n": 2}, created["_etag"]) is not None
    found = await documents.read("one")
    assert found is not None
    assert found["n"] == 2
    assert [each["n"] for each in await documents.list_documents("on")] == [2]
    assert await documents.delete("one", found["_etag"])
    assert await documents.read("one") is None


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("split", [False, True])
async def test_every_read_after_a_write_carries_a_token_of_its_own_container(partitions: int, split: bool) -> None:
    async with (
        CosmosEmulator(switches=HALF, partitions=partitions) as emulator,
        CosmosEventStore(**where(emulator)) as store,
    ):
        await every_container(emulator, store)
        if split:
            for name in ("checkpoints", "checkpoints-projections", "checkpoints-leases"):
                emulator.split(DATABASE, name, emulator.ranges(DATABASE, name)[0])
            for seq in range(5, 8):
                await store.append(make_event(STREAM, seq))
                assert len(await store.read(STREAM, seq)) == 1
        reads = Counter(record.kind for record in emulator.requests if record.is_read)
        assert {"read_item", "query", "change_feed"} <= set(reads)
        assert emulator.reads_without_session() == []
        assert not [record for record in emulator.requests if (record.status, record.substatus) == (404, 1002)]


async def test_the_first_write_asks_for_its_body_so_that_the_clients_other_users_have_sessions_too(
    emulator: CosmosEmulator,
) -> None:
    """The SDK files the token of an answer without body under no container, and mixes those of several."""
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        for name in ("first", "second"):
            names = {"database_name": DATABASE, "container_name": name}
            async with CosmosEventStore(cosmos_client=client, **names) as store:
                await store.append(make_event(STREAM, 1))
                await store.append(make_event(STREAM, 2))
        container = client.get_database_client(DATABASE).get_container_client("first")
        assert (await container.read_item("000000000002", "workflow|run"))["seq"] == 2
    bodies = [record.response_bytes > 0 for record in emulator.requests if record.kind == "create_item"]
    assert bodies == [True, False, True, False]


# Clients


async def test_a_client_that_was_not_entered_is_entered(emulator: CosmosEmulator) -> None:
    client = CosmosClient(emulator.endpoint, emulator.key)
    try:
        names = {"database_name": DATABASE, "container_name": "checkpoints"}
        async with CosmosEventStore(cosmos_client=client, **names) as store:
            await store.append(make_event(STREAM, 1))
            assert len(await store.read(STREAM, 1)) == 1
        container = client.get_database_client(DATABASE).get_container_client("checkpoints")
        async with CosmosEventStore(container_client=container) as store:
            await store.append(make_event(STREAM, 2))
            assert len(await store.read(STREAM, 2)) == 1
    finally:
        await client.close()
    assert emulator.reads_without_session() == []


async def test_a_client_that_was_entered_keeps_the_session_of_its_other_users(emulator: CosmosEmulator) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        container = await (await client.create_database("other")).create_container("other", _key("/p"))
        await container.create_item({"id": "1", "p": "a"})
        async with CosmosEventStore(cosmos_client=client, database_name=DATABASE, container_name="c") as store:
            await store.append(make_event(STREAM, 1))
        assert (await container.read_item("1", "a"))["id"] == "1"


def _key(path: str) -> Any:
    from azure.cosmos import PartitionKey

    return PartitionKey(path)


# When no replica has come as far


async def test_a_session_that_the_sdk_has_forgotten_is_remembered(emulator: CosmosEmulator) -> None:
    """After two answers of 404/1002 the SDK reads without a token; a lagging replica would answer that."""
    async with CosmosEventStore(**where(emulator)) as store:
        events = [make_event(STREAM, seq) for seq in (1, 2)]
        for event in events:
            await store.append(event)
        for kind in ("read_item", "query"):
            with emulator.faults.respond(
                404,
                substatus=1002,
                headers={"x-ms-alt-content-path": f"dbs/{DATABASE}/colls/checkpoints"},
                kind=kind,
                times=4,
            ) as rule:
                assert await store.read(STREAM, 2) == events[1:]
                assert [header.seq async for header in store.headers(STREAM)] == [1, 2]
                assert rule.hits == 4
    assert [record for record in emulator.reads_without_session() if record.substatus != 1002] == []


async def test_a_session_that_no_replica_reaches_is_said_so(emulator: CosmosEmulator) -> None:
    async with CosmosEventStore(**where(emulator)) as store:
        await store.append(make_event(STREAM, 1))
        hurry(store, 0.3)
        with (
            emulator.faults.respond(404, substatus=1002, kind="read_item"),
            pytest.raises(StoreUnavailableError, match="No replica has come as far as what this store has seen"),
        ):
            await store.read(STREAM, 1)
        hurry(store, 30.0)  # no more
        assert len(await store.read(STREAM, 1)) == 1


async def test_a_container_that_was_made_anew_is_told_as_such(
    emulator: CosmosEmulator,
) -> None:
    async with CosmosEventStore(**where(emulator)) as store:
        await store.append(make_event(STREAM, 1))
        hurry(store, 0.5)
        async with CosmosClient(emulator.endpoint, emulator.key) as client:
            await client.get_database_client(DATABASE).delete_container("checkpoints")
            async with CosmosEventStore(**where(emulator)) as other:
                await other.append(make_event(STREAM, 1))
        with pytest.raises((StoreFormatError, CheckpointStoreError), match=r"made anew|does not exist"):
            await store.read(STREAM, 1)


@pytest.mark.parametrize("times", [2, 3])
async def test_a_container_of_many_partitions_remembers_them_all(times: int) -> None:
    """Past two answers of 404/1002 the SDK has no tokens, and stumbles over its own books."""
    async with (
        CosmosEmulator(switches=LONG_AGO, partitions=130) as emulator,
        CosmosCheckpointStorage(**where(emulator)) as storage,
    ):
        for number in range(200):
            await storage.for_run(f"run {number}").save(checkpoint(n=number))
        with emulator.faults.respond(
            404,
            substatus=1002,
            headers={"x-ms-alt-content-path": f"dbs/{DATABASE}/colls/checkpoints"},
            kind="query",
            times=times,
        ):
            newest = await storage.get_latest(workflow_name="workflow")
        assert newest is not None
        assert newest.state == {"n": 199}
        assert len(await storage.list_checkpoint_ids(workflow_name="workflow")) == 200


async def test_saves_into_a_container_that_was_made_anew_are_refused(emulator: CosmosEmulator) -> None:
    """The SDK sends them to the new one by itself, where what they rest on is gone."""
    async with CosmosCheckpointStorage(**where(emulator)) as storage:
        run = storage.for_run("r")
        first = await run.save(checkpoint(n=1))
        second = await run.save(checkpoint(first, n=2))
        async with CosmosClient(emulator.endpoint, emulator.key) as client:
            await client.get_database_client(DATABASE).delete_container("checkpoints")
            async with CosmosCheckpointStorage(**where(emulator)) as other:
                await other.for_run("another").save(checkpoint(n=0))
        for _ in range(2):
            with pytest.raises(StoreReplacedError, match="made anew"):
                await run.save(checkpoint(second, n=3))


# One replica that has not heard of an item


@pytest.mark.parametrize("level", ["Session", "Eventual"])
async def test_the_newest_checkpoint_never_gives_way_to_an_older_one(level: str) -> None:
    async with CosmosEmulator(switches=Switches(consistency=level)) as emulator:
        async with CosmosCheckpointStorage(**where(emulator)) as storage:
            first = await storage.for_run("r").save(checkpoint(n=1))
            second = await storage.for_run("r").save(checkpoint(first, n=2))
        async with CosmosCheckpointStorage(**where(emulator), on_conflict="raise") as storage:
            with emulator.faults.respond(404, kind="read_item", times=2) as rule:
                latest = await storage.get_latest(workflow_name="workflow")
                assert latest is not None
                assert latest.checkpoint_id == second
                assert rule.hits == 2
            with emulator.faults.respond(404, kind="read_item", times=1):
                assert (await storage.load(second)).state == {"n": 2}


async def test_what_stays_out_of_reach_is_said_rather_than_replaced_by_an_older_one(
    emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.storage.load._PAUSES", (0.0, 0.01))
    async with CosmosCheckpointStorage(**where(emulator)) as storage:
        run = storage.for_run("r")
        first = await run.save(checkpoint(n=1))
        await run.save(checkpoint(first, n=2))
        with (
            emulator.faults.respond(404, kind="read_item"),
            pytest.raises(StoreUnavailableError, match="is listed, and cannot be read"),
        ):
            await storage.get_latest(workflow_name="workflow")


async def test_a_part_that_one_replica_has_not_heard_of_is_asked_for_again(emulator: CosmosEmulator) -> None:
    async with CosmosEventStore(**where(emulator)) as store:
        event = make_event(STREAM, 1, data=bytes(range(256)) * 8_000)
        await store.append(event)
        with emulator.faults.respond(404, kind="read_item", where=lambda call: "part-" in call.path, times=3) as rule:
            [found] = await store.read(STREAM, 1)
            assert rule.hits == 3
        assert found.payload is not None
        assert event.payload is not None
        assert found.payload.data == event.payload.data


# Tokens

tokens = st.builds(
    lambda version, lsn, regions: "#".join([f"{version}#{lsn}", *(f"{name}={at}" for name, at in regions.items())]),
    st.integers(-1, 3),
    st.integers(0, 50),
    st.dictionaries(st.integers(1, 3), st.integers(0, 50), max_size=3),
)


@given(st.lists(st.tuples(st.sampled_from("01"), tokens), min_size=1, max_size=20))
def test_a_session_never_goes_back(answers: list[tuple[str, str]]) -> None:
    """In whatever order answers come, what is asked for is at least what each of the newest version has shown."""
    session = Session()
    for partition, token in answers:
        session.note({"x-ms-session-token": f"{partition}:{token}"})
    kept = dict(part.split(":") for part in (session.token() or "").split(","))
    for partition in {partition for partition, _ in answers}:
        seen = [_parsed(token) for name, token in answers if name == partition]
        version, lsn, regions = _parsed(kept[partition])
        assert (version, lsn) == max(each[:2] for each in seen)
        assert regions in [each[2] for each in seen if each[:2] == (version, lsn)] or any(regions)


def _parsed(token: str) -> tuple[int, int, tuple[str, ...]]:
    version, lsn, *regions = token.split("#")
    return int(version), int(lsn), tuple(regions)


@given(st.text(max_size=40))
def test_a_token_that_is_none_is_not_repeated(text: str) -> None:
    session = Session()
    session.note({"x-ms-session-token": text}, "key")
    token = session.token("key")
    assert token is None or token in text


def test_a_read_of_one_partition_carries_no_other_ones_token() -> None:
    session = Session()
    session.note({"x-ms-session-token": "0:-1#7"}, "a")
    session.note({"x-ms-session-token": "1:-1#9"}, "b")
    assert session.token("a") == "0:-1#7"
    assert session.token("b") == "1:-1#9"
    assert session.token("c") == session.token() == "0:-1#7,1:-1#9"


def test_a_container_with_very_many_partitions_is_left_to_the_sdk_where_the_right_one_is_not_known() -> None:
    """A gateway takes only so long a header."""
    session = Session()
    for number in range(1_000):
        session.note({"x-ms-session-token": f"{number}:-1#7"}, f"key {number}")
    assert session.token() is None
    assert session.token("another") is None
    assert session.token("key 100") == "100:-1#7"


async def test_a_request_costs_no_other_request_for_its_session(emulator: CosmosEmulator) -> None:
    async with CosmosCheckpointStorage(**where(emulator)) as storage:
        run = storage.for_run("r")
        first = await run.save(checkpoint(n=1))
        emulator.reset()
        second = await run.save(checkpoint(first, n=2))
        assert Counter(record.kind for record in emulator.requests) == {"create_item": 1}
        emulator.reset()
        await asyncio.gather(*(run.load(second) for _ in range(5)))
        assert set(Counter(record.kind for record in emulator.requests)) <= {"query", "read_item", "read_ranges"}
