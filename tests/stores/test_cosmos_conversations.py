"""The sessions of a store on Cosmos DB: a container of their own, which saves make and looks do not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CheckpointEvent, CheckpointStoreError, CosmosEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.errors import (
    StoreFormatError,
    StoreMissingError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from eventckpt.events import NO_SUMMARY, SCHEMA_OF_SESSIONS, Turn
from eventckpt.location import open_store
from eventckpt.runs import fold
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import INDEXING_POLICY, PARTITION_KEY, container, listings
from eventckpt.stores.cosmos.items import items_of
from eventckpt.stores.cosmos.query import PAGE
from eventckpt.testing import (
    AuditStoreConformance,
    ChangeFeedConformance,
    DocumentStoreConformance,
    EventStoreConformance,
    RunStoreConformance,
    SessionsConformance,
)
from eventckpt.testing.events import record_of

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from ..engines import catch_up, where
from . import test_cosmos_conformance as of_events
from .chains import STREAM, append_chain, headers
from .cosmos_operations import LOOKS, WRITES
from .cosmos_stores import (
    MEGABYTES_5,
    Gate,
    Settings,
    costs,
    create_container,
    headers_of,
    on_request,
    payloads,
    settings_of,
)
from .identities import EVENTS, identity_account, role

SESSION = StreamId("history", "session-1")
NOISE = hashlib.shake_256(b"a turn").digest(1_000)


def turn(
    stream: StreamId, seq: int, previous: CheckpointEvent | None = None, *, data: bytes = b"turn"
) -> CheckpointEvent:
    """A turn as a history provider saves one."""
    made = make_event(stream, seq, previous=previous, data=data, checkpoint_id=hashlib.md5(b"%d" % seq).hexdigest())
    assert made.payload is not None
    return sealed(
        msgspec.structs.replace(
            made,
            type="turn",
            turn=Turn(roles={"user": 1, "assistant": 1}),
            schema=SCHEMA_OF_SESSIONS,
            summary=NO_SUMMARY,
            graph_signature_hash="",
            checkpoint_version="",
            iteration_count=0,
            payload=msgspec.structs.replace(made.payload, base_seq=None, since_base=0),
        )
    )


async def turns(store: AuditStore, count: int, stream: StreamId = SESSION, **options: Any) -> list[CheckpointEvent]:
    """A session of so many turns."""
    made: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        made.append(turn(stream, seq, made[-1] if made else None, **options))
        await store.append(made[-1])
    return made


async def newest(store: AuditStore, lte: int | None = None, stream: StreamId = SESSION) -> list[CheckpointEvent]:
    return [event async for event in store.newest(stream, lte=lte)]


async def run_ids(store: AuditStore, name: str = SESSION.workflow_name) -> list[str]:
    return sorted([run_id async for run_id in store.run_ids(name)])


def containers(emulator: CosmosEmulator) -> set[str]:
    """The containers that requests were about."""
    paths = (record.path.partition("/colls/")[2] for record in emulator.requests)
    return {path.partition("/")[0] for path in paths} - {""}


async def names_of(client: CosmosClient, settings: Settings) -> set[str]:
    """The containers of this store that are there, by what follows its name."""
    found = client.get_database_client(settings["database_name"]).list_containers()
    name = settings["container_name"]
    return {each["id"].removeprefix(name) async for each in found if each["id"].startswith(name)}


# Conformance: a whole store beside the other


class OfSessions:
    """The suite runs on the sessions; beside them the runs have events of their own, which it never meets."""

    @pytest.fixture(autouse=True)
    async def one_account(self, account: tuple[str, str]) -> AsyncGenerator[None, None]:
        self.settings = settings_of(*account)
        async with AsyncExitStack() as self.opened:
            store = await self.opened.enter_async_context(CosmosEventStore(**self.settings))
            events = await append_chain(store, 2)
            yield
            await self.settle()
            assert await headers(store) == headers_of(events)
            assert [stream async for stream in store.streams()] == [STREAM]

    async def open_store(self) -> AuditStore:
        return (await self.opened.enter_async_context(CosmosEventStore(**self.settings))).sessions()

    async def settle(self) -> None:
        catch_up(self.settings["endpoint"])


class TestEventsOfSessions(OfSessions, EventStoreConformance):
    """An append is one request here too, which compares the event with what is stored at its seq alone."""

    test_a_gap_is_a_conflict_that_tells_the_head = (
        of_events.TestCosmosConformance.test_a_gap_is_a_conflict_that_tells_the_head
    )
    test_a_stream_without_events_conflicts_with_any_seq_but_one = (
        of_events.TestCosmosConformance.test_a_stream_without_events_conflicts_with_any_seq_but_one
    )
    test_another_previous_digest_than_the_heads_is_a_conflict = (
        of_events.TestCosmosConformance.test_another_previous_digest_than_the_heads_is_a_conflict
    )


@pytest.mark.slow
class TestAuditsOfSessions(OfSessions, AuditStoreConformance):
    copies = PAGE + 100


@pytest.mark.slow
class TestProjectionsOfSessions(OfSessions, RunStoreConformance):
    pass


@pytest.mark.slow
class TestChangeFeedsOfSessions(OfSessions, ChangeFeedConformance):
    pass


class TestDocumentsOfSessions(OfSessions, DocumentStoreConformance):
    pass


class TestSessions(OfSessions, SessionsConformance):
    async def open_store(self) -> AuditStore:
        return await self.opened.enter_async_context(CosmosEventStore(**self.settings))

    @pytest.fixture(autouse=True)
    async def one_account(self, account: tuple[str, str]) -> AsyncGenerator[None, None]:
        self.settings = settings_of(*account)
        async with AsyncExitStack() as self.opened:
            yield


# One container beside the other


async def test_the_sessions_are_the_same_store_each_time_and_have_none_of_their_own(store: CosmosEventStore) -> None:
    assert store.sessions() is store.sessions()
    with pytest.raises(CheckpointStoreError, match="keeps no sessions"):
        store.sessions().sessions()


async def test_neither_log_is_in_the_lists_of_the_other(store: CosmosEventStore) -> None:
    events = await append_chain(store, 2, stream=SESSION)
    made = await turns(store.sessions(), 3)
    for log, chain in ((store, events), (store.sessions(), made)):
        assert [event async for event in log.events(SESSION)] == chain
        assert await newest(log) == chain[::-1]
        assert await log.checkpoint_ids("", limit=9) == sorted(event.checkpoint_id for event in chain)
        assert [event async for event in log.workflow_headers(SESSION.workflow_name)] == headers_of(chain)
        found = await log.last(SESSION.workflow_name, SESSION.run_id)
        assert found == chain[-1]


async def test_who_uses_sessions_alone_neither_makes_nor_asks_for_a_container_of_events(
    emulator: CosmosEmulator, settings: Settings, client: CosmosClient
) -> None:
    async with CosmosEventStore(**settings) as store:
        made = await turns(store.sessions(), 2)
        assert await newest(store.sessions()) == made[::-1]
        assert await store.sessions().run_store().get(SESSION) == {}
        name = settings["container_name"]
        assert containers(emulator) == {f"{name}-sessions", f"{name}-sessions-projections"}
    assert await names_of(client, settings) == {"-sessions"}


async def test_the_first_save_makes_the_container_as_that_of_events_is_made(
    emulator: CosmosEmulator, settings: Settings, client: CosmosClient, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(CosmosEventStore(**settings)) for _ in range(4)]
        sessions = [StreamId("history", f"session {number}") for number in range(4)]
        await asyncio.gather(*(turns(other.sessions(), 1, each) for other, each in zip(others, sessions, strict=True)))
    created = [record for record in emulator.requests if record.kind == "create_container" and record.status == 201]
    assert len(created) == 2, "that of events, and that of sessions once"
    name = f"{settings['container_name']}-sessions"
    properties = await client.get_database_client(settings["database_name"]).get_container_client(name).read()
    assert properties["partitionKey"]["paths"] == [PARTITION_KEY]
    assert {each: properties["indexingPolicy"][each] for each in INDEXING_POLICY} == INDEXING_POLICY


LOOKED_AT = {name: look for name, (_, look) in LOOKS.items() if not name.startswith("ChangeFeed")}


async def test_whoever_looks_at_sessions_finds_none_and_makes_no_container(emulator: CosmosEmulator) -> None:
    settings = where(emulator)
    async with CosmosEventStore(**settings) as store:
        sessions: Any = store.sessions()
        for name, look in LOOKED_AT.items():
            if name == "AuditStore.follow":
                continue
            found = await look(sessions)
            if name == "AuditStore.checks":
                assert [check.detail for check in found] == ["events-sessions does not exist"]
            elif name == "RunStore.active":
                assert found == "latest"
            elif name == "RunStore.is_empty":
                assert found is True
            elif name == "RunStore.page":
                assert found.runs == []
            else:
                assert not found or [stretch.events for stretch in found] == [[]], name
        assert await sessions.remove(SESSION, [1, 2]) == 0
        assert await sessions.remove_orphaned_parts(older_than=0) == 0
        assert await sessions.document_store().replace({"id": "lease"}, '"0"') is None
        assert await sessions.document_store().delete("lease", '"0"')
    assert {record.kind for record in emulator.requests} == {"account", "read_container"}


async def test_who_follows_sessions_before_there_are_any_hears_of_the_first(store: CosmosEventStore) -> None:
    following = store.sessions().follow(poll=0.01)
    first = asyncio.ensure_future(anext(following))
    made = await turns(store.sessions(), 1)
    assert await first == made[0].header()
    await following.aclose()


async def test_the_change_feed_of_sessions_makes_their_container_and_no_other(
    settings: Settings, client: CosmosClient, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    feed = store.sessions().change_feed()
    assert await feed.identity() != await store.change_feed().identity()
    [feed_range] = await feed.ranges()
    made = await turns(store.sessions(), 2)
    page = await feed.read(feed_range, None, start="beginning", limit=9)
    assert list(page.events) == headers_of(made)
    assert await names_of(client, settings) == {"", "-sessions"}


async def test_what_is_kept_beside_the_sessions_has_containers_of_its_own(
    settings: Settings, client: CosmosClient, store: CosmosEventStore
) -> None:
    sessions = store.sessions()
    [info] = [fold(await turns(sessions, 1))]
    assert info is not None
    await sessions.run_store().put(info)
    assert await sessions.run_store().get(SESSION) == {SESSION: info}
    await sessions.document_store().create({"id": "lease"})
    assert await names_of(client, settings) == {"-sessions", "-sessions-projections", "-sessions-leases"}
    assert await store.run_store().get(SESSION) == {}
    assert await store.document_store().read("lease") is None


async def test_beside_a_container_that_is_given_that_of_sessions_is_made(
    client: CosmosClient, items: ContainerProxy, settings: Settings
) -> None:
    await create_container(client, settings, "/stream")
    async with CosmosEventStore(container_client=items) as store:
        assert await newest(store.sessions()) == []
        assert await names_of(client, settings) == {""}
        made = await turns(store.sessions(), 2)
        assert await newest(store.sessions()) == made[::-1]
    assert await names_of(client, settings) == {"", "-sessions"}


async def test_a_container_of_sessions_with_another_partition_key_is_refused(
    client: CosmosClient, settings: Settings, store: CosmosEventStore
) -> None:
    name = f"{settings['container_name']}-sessions"
    await create_container(client, {**settings, "container_name": name}, "/session_id")
    for use in (turns(store.sessions(), 1), newest(store.sessions())):
        with pytest.raises(StoreFormatError, match=r"-sessions' is partitioned by \['/session_id'\], sessions need"):
            await use


async def test_the_sessions_are_closed_with_their_store(settings: Settings) -> None:
    store = CosmosEventStore(**settings)
    await turns(store.sessions(), 1)
    await store.close()
    with pytest.raises(CheckpointStoreError, match="closed"):
        await newest(store.sessions())


# Who only looks, and who makes nothing


async def test_a_store_that_only_looks_names_the_container_of_sessions_that_is_missing(
    emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.opening.LOOKED_AT", 0.05)
    emulator.provision("db", "events", "/stream")
    async with CosmosEventStore(**where(emulator), read_only=True) as store:
        with pytest.raises(StoreNotFoundError, match=r"'events-sessions'.*the first save of a session creates"):
            await newest(store.sessions())
    assert not [record for record in emulator.requests if record.method in ("PUT", "POST") and record.status == 201]


@pytest.mark.parametrize("name", WRITES)
async def test_what_writes_to_the_sessions_of_a_store_that_only_looks_is_refused_unsent(
    emulator: CosmosEmulator, name: str
) -> None:
    async with CosmosEventStore(**where(emulator), read_only=True) as store:
        sessions: Any = store.sessions()
        with pytest.raises(StoreReadOnlyError, match=r"'events-sessions.*read_only=True"):
            await WRITES[name](sessions)
    assert not emulator.requests


async def test_where_the_containers_must_exist_one_that_is_missing_is_an_error_that_says_how_it_is_made(
    emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.opening.GIVEN", 0.05)
    emulator.provision("db", "events", "/stream")
    environ = {
        "AZURE_COSMOS_ENDPOINT": emulator.endpoint,
        "AZURE_COSMOS_KEY": emulator.key,
        "AZURE_COSMOS_DATABASE_NAME": "db",
        "AZURE_COSMOS_CONTAINER_NAME": "events",
    }
    async with open_store(environ=environ, must_exist=True) as store:
        await append_chain(store, 1)
        for use in (newest(store.sessions()), turns(store.sessions(), 1)):
            with pytest.raises(StoreMissingError, match=r"az cosmosdb sql container create .* --name events-sessions "):
                await use
    assert "create_container" not in {record.kind for record in emulator.requests}
    async with open_store(environ=environ) as store:
        made = await turns(store.sessions(), 1)
    async with open_store(environ=environ, must_exist=True) as store:
        assert await newest(store.sessions()) == made


async def test_a_store_made_with_must_exist_makes_no_container_of_events(
    emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.opening.GIVEN", 0.05)
    async with CosmosEventStore(**where(emulator), must_exist=True) as store:
        with pytest.raises(StoreMissingError, match="--name events "):
            await append_chain(store, 1)
    assert not {record.kind for record in emulator.requests} & {"create_container", "create_database"}


# Making it, beside others and cut off


async def test_a_look_that_ends_after_the_container_was_made_takes_nothing_back(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    """It was asked before; its answer says that there is none."""
    gate = Gate(emulator, kind="read_container", applied=True)
    looking = asyncio.create_task(newest(store.sessions()))
    await gate.arrived.wait()
    saving = asyncio.create_task(turns(store.sessions(), 2))
    async with CosmosEventStore(**settings) as other:
        await turns(other.sessions(), 1, StreamId("history", "another"))
    gate.open.set()
    assert await looking == []
    made = await saving
    assert await newest(store.sessions()) == made[::-1]


@pytest.mark.parametrize(
    "match", [{"kind": "read_container"}, {"kind": "create_container"}, {"kind": "create_container", "applied": True}]
)
async def test_a_save_that_is_cancelled_while_the_container_is_made_leaves_sessions_that_work(
    emulator: CosmosEmulator, store: CosmosEventStore, match: dict[str, Any]
) -> None:
    gate = Gate(emulator, **match)
    saving = asyncio.create_task(turns(store.sessions(), 1))
    await gate.arrived.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    gate.open.set()
    made = await turns(store.sessions(), 2)
    assert await newest(store.sessions()) == made[::-1]


async def test_a_container_of_sessions_that_was_deleted_under_the_store_is_named_missing(
    settings: Settings, client: CosmosClient, store: CosmosEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.container.SETTLING", 0.0)
    await turns(store.sessions(), 1)
    name = f"{settings['container_name']}-sessions"
    await client.get_database_client(settings["database_name"]).delete_container(name)
    for use in (newest(store.sessions()), turns(store.sessions(), 1)):
        with pytest.raises(StoreMissingError, match="-sessions' of database"):
            await use


# The newest events


async def test_the_newest_events_come_whole_and_parts_are_fetched(store: CosmosEventStore) -> None:
    sessions = store.sessions()
    made = await turns(sessions, 2)
    made.append(turn(SESSION, 3, made[-1], data=MEGABYTES_5))
    await sessions.append(made[-1])
    found = await newest(sessions)
    assert [event.digest for event in found] == [event.digest for event in made[::-1]]
    assert payloads(found) == payloads(made[::-1])


async def test_behind_the_last_seq_that_counts_only_tombstones_are_given(store: CosmosEventStore) -> None:
    sessions = store.sessions()
    made = await turns(sessions, 3)
    made.append(make_event(SESSION, 4, previous=made[-1], type="tombstone"))
    made.append(turn(SESSION, 5, made[-1]))
    for each in made[3:]:
        await sessions.append(each)
    assert await newest(sessions, lte=2) == [made[3], made[1], made[0]]
    assert await newest(sessions, lte=0) == [made[3]]
    assert await newest(sessions, lte=5) == made[::-1]
    assert await newest(sessions, lte=10**30) == made[::-1]
    assert await newest(sessions, lte=-1) == [made[3]]


async def test_what_was_removed_is_not_among_the_newest(store: CosmosEventStore) -> None:
    sessions = store.sessions()
    made = await turns(sessions, 3)
    made.append(record_of(made[-1], made[:2]))
    await sessions.append(made[-1])
    assert await sessions.remove(SESSION, [1, 2]) == 2
    assert await newest(sessions) == made[:1:-1]
    assert await newest(sessions, lte=2) == made[3:]
    assert await run_ids(sessions) == [SESSION.run_id]


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_partition_that_splits_while_the_newest_are_read_doubles_and_loses_none(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    monkeypatch.setattr(listings, "_WHOLE", 7)
    monkeypatch.setattr(container, "PAGE", 7)
    place = (DATABASE, f"{settings['container_name']}-sessions")
    made = await turns(store.sessions(), 20)
    names = [StreamId("history", f"session {number}") for number in range(20)]
    for each in names:
        await turns(store.sessions(), 1, each)
    for read, expected in (
        (newest, made[::-1]),
        (run_ids, sorted([SESSION.run_id, *(each.run_id for each in names)])),
    ):
        on_request(emulator, "query", lambda: emulator.split(*place, emulator.ranges(*place)[0]), nth=nth)
        assert await read(store.sessions()) == expected
        emulator.faults.clear()


# Which sessions there are


@pytest.mark.parametrize("name", ["history", "a|b*c%2A", "ü" * 100, "s" * 3_000, ""], ids=lambda name: name[:8])
async def test_the_sessions_of_a_source_are_each_found_once(store: CosmosEventStore, name: str) -> None:
    sessions = store.sessions()
    streams = [StreamId(name, run_id) for run_id in ("a", "b|c", "d~0123456789ab", "漢" * 255)]
    for stream in streams:
        await turns(sessions, 3, stream)
    for other in ("histor", "history2", "s" * 2_999, "another"):
        await turns(sessions, 1, StreamId(other, "not this one"))
    pruned = await turns(sessions, 3, StreamId(name, "漢" * 254))
    await sessions.append(record_of(pruned[-1], pruned[:2]))
    await sessions.remove(pruned[0].stream, [1, 2])
    assert await run_ids(sessions, name) == sorted([*(each.run_id for each in streams), pruned[0].run_id])
    assert await run_ids(sessions, "none of them") == []
    assert await run_ids(sessions, "\ud800") == []


async def test_a_session_that_was_imported_without_its_beginning_is_found(
    store: CosmosEventStore,
) -> None:
    sessions = store.sessions()
    await turns(sessions, 2)
    other = StreamId("history", "imported")
    third = turn(other, 3, turn(other, 2))
    await sessions.put_over(other, [third, turn(other, 4, third)], after=0)
    assert await run_ids(sessions) == ["imported", SESSION.run_id]


async def test_a_gap_that_was_closed_before_any_event_came_is_no_session(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    await turns(store.sessions(), 1, StreamId("history", "other"))
    with emulator.faults.respond(403, kind="create_item", nth=2), pytest.raises(StoreReadOnlyError):
        await store.sessions().put_over(SESSION, [turn(SESSION, 3)], after=0)
    assert await run_ids(store.sessions()) == ["other"]


async def test_a_run_that_0_1_0_pruned_is_found_by_its_record(items: ContainerProxy, store: CosmosEventStore) -> None:
    """It left nothing in the place of what it removed."""
    events = await append_chain(store, 2)
    await store.append(record_of(events[-1], events[:1]))
    await items.delete_item("000000000001", "workflow|run")
    assert await run_ids(store, "workflow") == ["run"]


# What it costs


async def test_a_turn_is_one_request_and_costs_as_an_event_of_its_size_however_long_the_session_is(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    sessions = store.sessions()
    await append_chain(store, 1)
    made = await turns(sessions, 1, data=NOISE)
    charges: list[float] = []
    for seq in range(2, 1_001):
        made.append(turn(SESSION, seq, made[-1], data=NOISE))
        requests, charge = await costs(emulator, sessions.append(made[-1]))
        assert requests == {"create_item": 1}
        charges.append(charge)
    assert max(charges) <= 1.01 * min(charges), "the same at turn 2 and at turn 1,000"
    assert charges[0] <= 8  # 7.33
    as_a_run = msgspec.structs.replace(made[1], run_id="run")
    requests, charge = await costs(emulator, store.append(as_a_run))
    assert requests == {"create_item": 1}
    assert charge == pytest.approx(charges[0], rel=0.01)

    requests, charge = await costs(emulator, newest(sessions))
    assert requests == {"query": 10}
    assert charge <= 225  # 204
    first = sessions.newest(SESSION)
    requests, charge = await costs(emulator, anext(first))
    assert requests == {"query": 1}, "who takes some of the newest reads no more than a page"
    assert charge <= 23  # 20.4
    await first.aclose()


async def test_the_ids_of_sessions_cost_the_same_however_many_turns_they_have(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    sessions = store.sessions()
    streams = [StreamId("history", f"session {number}") for number in range(20)]
    made = [await turns(sessions, 1, stream) for stream in streams]
    await run_ids(sessions)
    requests, few = await costs(emulator, run_ids(sessions))
    assert requests == {"query": 1}
    bytes_of_few = max(record.response_bytes for record in emulator.requests)
    for stream, chain in zip(streams, made, strict=True):
        for seq in range(2, 21):
            chain.append(turn(stream, seq, chain[-1]))
            await sessions.append(chain[-1])
    requests, many = await costs(emulator, run_ids(sessions))
    assert requests == {"query": 1}
    assert many == pytest.approx(few, rel=0.01)
    assert max(record.response_bytes for record in emulator.requests) <= bytes_of_few + 20


async def test_what_is_known_of_a_turn_beside_its_messages_is_small(store: CosmosEventStore) -> None:
    [_, event] = await turns(store.sessions(), 2)
    body, _ = items_of(event)
    assert len(msgspec.json.encode({**body, "data": ""})) <= 800  # 713


# What doctor says


async def test_doctor_says_of_the_sessions_what_it_says_of_the_events(
    client: CosmosClient, settings: Settings, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    of_events = [check.name for check in await store.checks()]
    assert not [name for name in of_events if name.startswith("sessions")], "there are none"
    await turns(store.sessions(), 1)
    found = await store.checks()
    assert [check.name for check in found] == [*of_events, *(f"sessions: {name}" for name in of_events)]
    assert all(check.ok for check in found)


async def test_doctor_finds_what_is_wrong_with_a_container_of_sessions(
    client: CosmosClient, settings: Settings, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    name = f"{settings['container_name']}-sessions"
    await create_container(client, {**settings, "container_name": name}, "/session_id")
    wrong = [check.name for check in await store.checks() if not check.ok]
    assert "sessions: partition key" in wrong
    assert all(each.startswith("sessions: ") for each in wrong)


async def test_who_has_no_rights_to_sessions_is_told_so_and_nothing_is_wrong() -> None:
    async with identity_account() as account:
        store = await account.store(account.principal({EVENTS: role("maintenance")}))
        account.emulator.provision("agents", f"{EVENTS}-sessions", "/stream")
        found = {check.name: check for check in await store.checks()}
        assert found["sessions"].ok
        assert "may not see whether there is a container of sessions" in found["sessions"].detail
        assert not [name for name, check in found.items() if not check.ok]
