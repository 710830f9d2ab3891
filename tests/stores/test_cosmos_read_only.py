"""A store that was opened to read only leaves an account as it was: it makes no database, no container and no item,
names what is missing, and refuses to write before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, StoreNotFoundError, StoreReadOnlyError
from eventckpt.stores import AuditStore, EventStore, RunStore
from eventckpt.stores.change_feed import ChangeFeed
from eventckpt.stores.documents import DocumentStore

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .cosmos_operations import EVENT, INFO, LOOKS, STREAM, WRITES, fill

FACTORIES = {"run_store", "runs", "change_feed", "document_store", "sessions", "close"}
"""What only makes an object, or ends one."""
OF_A_FILE = {"AuditStore.give_back", "AuditStore.free_share"}
"""What an engine without a file of its own does not have: the service gives room back by itself."""
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
    assert {name.partition(",")[0] for name in [*WRITES, *LOOKS]} == public - OF_A_FILE


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
    monkeypatch.setattr("eventckpt.stores.cosmos.opening.LOOKED_AT", 0.05)
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
    monkeypatch.setattr("eventckpt.stores.cosmos.opening.LOOKED_AT", 0.05)
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
