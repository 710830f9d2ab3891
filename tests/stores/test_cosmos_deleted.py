"""Containers that are deleted under an open store, and made anew there: every operation of every port ends after few
requests, in an error that says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, StoreFormatError, StoreNotFoundError
from eventckpt.errors import StoreReplacedError
from eventckpt.stores.cosmos import container

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .cosmos_operations import EVENT, EVERYTHING_DONE, LEASES, LOOKS, SECOND, STREAM, container_of, fill, leases

pytestmark = pytest.mark.slow  # every operation, with every container deleted

FEW: int = 12
"""Requests of one operation, its looks at what happened and the SDK's own among them."""
CONTAINERS = ("events", "events-projections", "events-leases")
ASKS_NOTHING = {"ChangeFeed.identity"}
"""What the store knows since it was opened."""
SAYS_IT_IN_ITS_ANSWER = {"AuditStore.checks"}
IS_TRUE_OF_THE_NEW_ONE = {"ChangeFeed.ranges"}
"""What is read of a range is told, before any of it is used."""


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[CosmosEmulator, None]:
    monkeypatch.setattr(container, "SETTLING", 0.0)  # long after opening
    async with CosmosEmulator() as running:
        yield running


async def opened(store: CosmosEventStore) -> None:
    """All three containers, and what is asked once."""
    await store.read(STREAM, 1)
    await store.run_store().get(STREAM)
    await leases(store).all()


async def delete(emulator: CosmosEmulator, *names: str) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        database = client.get_database_client("db")
        for name in names:
            await database.delete_container(name)


@pytest.mark.parametrize("name", EVERYTHING_DONE)
async def test_with_its_container_deleted_every_operation_names_it_after_few_requests(
    emulator: CosmosEmulator, name: str
) -> None:
    await fill(emulator)
    async with CosmosEventStore(**where(emulator)) as store:
        await opened(store)
        await delete(emulator, *CONTAINERS)
        emulator.reset()
        if name in ASKS_NOTHING:
            assert await EVERYTHING_DONE[name](store)
        elif name in SAYS_IT_IN_ITS_ANSWER:
            [check] = await EVERYTHING_DONE[name](store)
            assert "does not exist" in check.detail
        else:
            with pytest.raises(StoreFormatError, match=rf"'{container_of(name)}'.*does not exist.*az cosmosdb"):
                await EVERYTHING_DONE[name](store)
        assert len(emulator.requests) <= FEW, [record.kind for record in emulator.requests]


@pytest.mark.parametrize("name", [*LOOKS, *(name for name in LEASES if name.endswith(("all", "read", "parked")))])
async def test_who_only_looks_is_told_without_a_command_that_makes_one(emulator: CosmosEmulator, name: str) -> None:
    await fill(emulator)
    async with CosmosEventStore(**where(emulator), read_only=True) as store:
        await opened(store)
        await delete(emulator, *CONTAINERS)
        emulator.reset()
        if name in ASKS_NOTHING | SAYS_IT_IN_ITS_ANSWER:
            await EVERYTHING_DONE[name](store)
        else:
            with pytest.raises(StoreNotFoundError, match=rf"'{container_of(name)}'.*does not exist"):
                await EVERYTHING_DONE[name](store)
        assert len(emulator.requests) <= FEW, [record.kind for record in emulator.requests]


@pytest.mark.parametrize("name", EVERYTHING_DONE)
async def test_with_its_container_made_anew_no_operation_goes_on_as_if_it_were_the_old_one(
    emulator: CosmosEmulator, name: str
) -> None:
    """What it rests on is gone. An answer that tells of another container is not believed."""
    await fill(emulator)
    async with CosmosEventStore(**where(emulator)) as store:
        await opened(store)
        await delete(emulator, *CONTAINERS)
        await fill(emulator)
        emulator.reset()
        if name in ASKS_NOTHING | SAYS_IT_IN_ITS_ANSWER | IS_TRUE_OF_THE_NEW_ONE:
            await EVERYTHING_DONE[name](store)
        else:
            with pytest.raises(StoreReplacedError, match=rf"'{container_of(name)}'.*made anew.*Make a new store"):
                await EVERYTHING_DONE[name](store)
        assert len(emulator.requests) <= FEW, [record.kind for record in emulator.requests]


@pytest.mark.parametrize("gone", CONTAINERS[1:])
async def test_events_are_saved_and_read_whatever_became_of_what_is_made_from_them(
    emulator: CosmosEmulator, gone: str
) -> None:
    await fill(emulator)
    async with CosmosEventStore(**where(emulator)) as store:
        await opened(store)
        await delete(emulator, gone)
        for name in sorted(set(LOOKS) - SAYS_IT_IN_ITS_ANSWER):
            if container_of(name) == "events":
                await EVERYTHING_DONE[name](store)
        await store.append(SECOND)
        assert await store.read(STREAM, 1, 2) == [EVENT, SECOND]


async def test_a_store_that_is_opened_anew_makes_what_is_missing(emulator: CosmosEmulator) -> None:
    await fill(emulator)
    await delete(emulator, *CONTAINERS)
    await fill(emulator)
    async with CosmosEventStore(**where(emulator)) as store:
        assert len(await store.read(STREAM, 1)) == 1
        assert await leases(store).all() == []
