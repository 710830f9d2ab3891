"""A store that was opened to read only leaves an account as it was: it makes no database, no container and no item,
names what is missing, and refuses to write before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, StoreNotFoundError, StoreReadOnlyError, StreamId
from eventckpt.removals import NOTHING
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, Claim, EventStore, RunStore
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed
from eventckpt.stores.conformance import make_event
from eventckpt.stores.documents import DocumentStore

from ..cosmos_emulator import CosmosEmulator
from ..engines import where

STREAM = StreamId("workflow", "run")
EVENT = make_event(STREAM, 1)
INFO = fold([EVENT])
assert INFO is not None
LEASE = {"id": "lease"}

Operation = Callable[[CosmosEventStore], Awaitable[Any]]


def every(listing: Callable[[CosmosEventStore], AsyncGenerator[Any, None]]) -> Operation:
    async def read(store: CosmosEventStore) -> list[Any]:
        return [each async for each in listing(store)]

    return read


def first(listing: Callable[[CosmosEventStore], AsyncGenerator[Any, None]]) -> Operation:
    async def read(store: CosmosEventStore) -> Any:
        listed = listing(store)
        try:
            return await anext(listed)
        finally:
            await listed.aclose()

    return read


WRITES: dict[str, Operation] = {
    "EventStore.append": lambda store: store.append(make_event(STREAM, 2, previous=EVENT)),
    "EventStore.remove_orphaned_parts": lambda store: store.remove_orphaned_parts(older_than=0),
    "AuditStore.put": lambda store: store.put(STREAM, []),
    "AuditStore.put_over": lambda store: store.put_over(STREAM, [], after=0),
    "AuditStore.remove": lambda store: store.remove(STREAM, []),
    "RunStore.put": lambda store: store.run_store().put(INFO),
    "RunStore.clear": lambda store: store.run_store("none").clear(),
    "RunStore.active, certain": lambda store: store.run_store().active(certain=True),
    "RunStore.claim": lambda store: store.run_store().claim(),
    "RunStore.activate": lambda store: store.run_store().activate("other"),
    "RunStore.activate, with a claim": lambda store: store.run_store().activate("other", claim=Claim("latest", "x")),
    "DocumentStore.create": lambda store: store.document_store().create({"id": "other"}),
    "DocumentStore.replace": lambda store: store.document_store().replace(LEASE, "etag"),
    "DocumentStore.delete": lambda store: store.document_store().delete("lease", "etag"),
}
LOOKS: dict[str, tuple[str, Operation]] = {
    "EventStore.read": ("events", lambda store: store.read(STREAM, 1)),
    "EventStore.find": ("events", lambda store: store.find(EVENT.checkpoint_id)),
    "EventStore.find_in": ("events", lambda store: store.find_in("workflow", EVENT.checkpoint_id)),
    "EventStore.headers": ("events", every(lambda store: store.headers(STREAM))),
    "EventStore.workflow_headers": ("events", every(lambda store: store.workflow_headers("workflow"))),
    "AuditStore.streams": ("events", every(lambda store: store.streams())),
    "AuditStore.checkpoint_ids": ("events", lambda store: store.checkpoint_ids("", limit=9)),
    "AuditStore.runs_with": ("events", lambda store: store.runs_with("workflow", [EVENT.checkpoint_id])),
    "AuditStore.events": ("events", every(lambda store: store.events(STREAM))),
    "AuditStore.unmarked": ("events", lambda store: store.unmarked(STREAM, NOTHING)),
    "AuditStore.follow": ("events", first(lambda store: store.follow(last=1))),
    "AuditStore.checks": ("events", lambda store: store.checks()),
    "RunStore.get": ("events-projections", lambda store: store.run_store().get(STREAM)),
    "RunStore.newest": ("events-projections", lambda store: store.run_store().newest("workflow")),
    "RunStore.all": ("events-projections", every(lambda store: store.run_store().all())),
    "RunStore.idle": ("events-projections", every(lambda store: store.run_store().idle())),
    "RunStore.active": ("events-projections", lambda store: store.run_store().active()),
    "RunStore.page": ("events-projections", lambda store: store.run_store().page()),
    "RunStore.counts": ("events-projections", lambda store: store.run_store().counts()),
    "RunStore.is_empty": ("events-projections", lambda store: store.run_store().is_empty()),
    "DocumentStore.list_documents": ("events-leases", lambda store: store.document_store().list_documents("")),
    "DocumentStore.read": ("events-leases", lambda store: store.document_store().read("lease")),
    "ChangeFeed.identity": ("events", lambda store: store.change_feed().identity()),
    "ChangeFeed.ranges": ("events", lambda store: store.change_feed().ranges()),
    "ChangeFeed.read": (
        "events",
        lambda store: store.change_feed().read(EVERYTHING, None, start="beginning", limit=9),
    ),
    "ChangeFeed.lag": ("events", lambda store: store.change_feed().lag(EVERYTHING, None, start="beginning")),
}
FACTORIES = {"run_store", "runs", "change_feed", "document_store", "close"}
"""What only makes an object, or ends one."""
NOTHING_TO_SEE = {"AuditStore.checks", "AuditStore.unmarked"}
"""What says in its answer that a container is missing, and what asks nothing where nothing was removed."""
READING = {
    "account",
    "read_item",
    "query",
    "query_plan",
    "change_feed",
    "read_ranges",
    "read_container",
    "read_database",
}


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


@pytest.fixture
async def looking(emulator: CosmosEmulator) -> AsyncGenerator[CosmosEventStore, None]:
    async with CosmosEventStore(**where(emulator), read_only=True) as store:
        yield store


async def fill(emulator: CosmosEmulator) -> None:
    """One of everything, in all three containers, known to every replica."""
    async with CosmosEventStore(**where(emulator)) as store:
        await store.append(EVENT)
        await store.run_store().put(INFO)
        await store.document_store().create(LEASE)
    emulator.catch_up()
    emulator.reset()


def changes(emulator: CosmosEmulator) -> set[str]:
    """Requests that are not known to only read."""
    return {record.kind for record in emulator.requests} - READING


def test_every_operation_of_every_port_is_among_them() -> None:
    ports = (EventStore, AuditStore, RunStore, ChangeFeed, DocumentStore)
    public = {
        f"{port.__name__}.{name}"
        for port in ports
        for name in vars(port)
        if not name.startswith("_") and callable(getattr(port, name)) and name not in FACTORIES
    }
    assert {name.partition(",")[0] for name in [*WRITES, *LOOKS]} == public


@pytest.mark.parametrize("name", WRITES)
async def test_what_writes_is_refused_before_anything_is_sent(
    emulator: CosmosEmulator, looking: CosmosEventStore, name: str
) -> None:
    with pytest.raises(StoreReadOnlyError, match="read_only=True") as error:
        await WRITES[name](looking)
    assert not isinstance(error.value, StoreNotFoundError)
    assert not emulator.requests


async def test_whatever_looks_gives_what_is_there_and_writes_nothing(
    emulator: CosmosEmulator, looking: CosmosEventStore
) -> None:
    await fill(emulator)
    assert await LOOKS["EventStore.read"][1](looking) == [EVENT]
    assert await LOOKS["RunStore.newest"][1](looking) == INFO
    for _, look in LOOKS.values():
        await look(looking)
    assert not changes(emulator)


@pytest.mark.parametrize("name", sorted(set(LOOKS) - NOTHING_TO_SEE))
async def test_a_missing_container_is_named_and_stays_missing(
    emulator: CosmosEmulator, looking: CosmosEventStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.container.LOOKED_AT", 0.05)
    container, look = LOOKS[name]
    for each, key in (("events", "/stream"), ("events-projections", "/stream"), ("events-leases", "/id")):
        if each != container:
            emulator.provision("db", each, key)
    with pytest.raises(StoreNotFoundError, match=f"Container '{container}' of database 'db' does not exist"):
        await look(looking)
    assert not changes(emulator)


async def test_a_missing_database_is_named_and_stays_missing(
    emulator: CosmosEmulator, looking: CosmosEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.container.LOOKED_AT", 0.05)
    for name in sorted(set(LOOKS) - NOTHING_TO_SEE):
        with pytest.raises(StoreNotFoundError, match="Database 'db' does not exist"):
            await LOOKS[name][1](looking)
    assert not changes(emulator)


async def test_a_container_that_is_deleted_under_an_open_store_is_named_and_stays_missing(
    emulator: CosmosEmulator, looking: CosmosEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.container.SETTLING", 0.0)
    await fill(emulator)
    await looking.read(STREAM, 1)
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        await client.get_database_client("db").delete_container("events")
    emulator.reset()
    with pytest.raises(StoreNotFoundError, match="'events'"):
        await looking.read(STREAM, 1)
    assert not changes(emulator)


async def test_the_checks_of_a_store_that_only_looks_write_no_probe(
    emulator: CosmosEmulator, looking: CosmosEventStore
) -> None:
    await fill(emulator)
    found = {check.name: check for check in await looking.checks()}
    assert found["reading"].ok
    assert "writing" not in found
    assert not changes(emulator)


async def test_the_checks_of_a_store_that_only_looks_say_that_the_container_is_missing(
    emulator: CosmosEmulator, looking: CosmosEventStore
) -> None:
    [check] = await looking.checks()
    assert not check.ok
    assert "does not exist" in check.detail
    assert not changes(emulator)
