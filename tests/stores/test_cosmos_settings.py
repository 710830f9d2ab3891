"""The ways to a store on Cosmos DB: settings, an environment, a file, a client or a container of the caller's own;
and what closing it closes."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from agent_framework import SecretString
from agent_framework.exceptions import SettingNotFoundError
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from eventckpt import CheckpointStoreError, CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.errors import StoreFormatError
from eventckpt.stores.conformance import make_event

from .chains import STREAM, append_chain, headers
from .cosmos_stores import WORKFLOW, Settings, create_container, saves


async def test_a_store_takes_an_endpoint_and_a_key(settings: Settings) -> None:
    for credential in (settings["credential"], SecretString(settings["credential"])):
        async with CosmosEventStore(**{**settings, "credential": credential}) as store:
            event = make_event(StreamId("workflow", type(credential).__name__), 1)
            await store.append(event)
            assert await store.read(event.stream, 1) == [event]


async def test_a_store_takes_its_settings_from_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    async with CosmosEventStore() as store:
        assert await store.read(STREAM, 1) == []
    monkeypatch.setenv("AZURE_COSMOS_CONTAINER_NAME", "not this one")
    async with CosmosEventStore(container_name=settings["container_name"]) as store:
        await append_chain(store, 1)
    async with CosmosEventStore(**settings) as store:
        assert len(await headers(store)) == 1


async def test_a_store_takes_its_settings_from_a_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables(settings):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "settings.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables(settings).items()), encoding="utf-16")
    async with CosmosCheckpointStorage(env_file_path=str(file), env_file_encoding="utf-16") as storage:
        [saved] = await saves(storage, 1)
        assert await storage.load(saved.checkpoint_id) == saved


def variables(settings: Settings) -> dict[str, str]:
    return {
        "AZURE_COSMOS_ENDPOINT": settings["endpoint"],
        "AZURE_COSMOS_KEY": settings["credential"],
        "AZURE_COSMOS_DATABASE_NAME": settings["database_name"],
        "AZURE_COSMOS_CONTAINER_NAME": settings["container_name"],
    }


@pytest.mark.parametrize("missing", ["endpoint", "credential", "database_name", "container_name"])
def test_a_setting_that_is_given_nowhere_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"endpoint": "https://x", "credential": "a2V5", "database_name": "d", "container_name": "c"}
    for name in variables(settings):
        monkeypatch.delenv(name, raising=False)
    del settings[missing]
    with pytest.raises(SettingNotFoundError, match={"credential": "key"}.get(missing, missing)):
        CosmosEventStore(**settings)


async def test_a_client_that_is_given_is_used_and_left_open(client: CosmosClient, settings: Settings) -> None:
    names = {name: settings[name] for name in ("database_name", "container_name")}
    async with CosmosCheckpointStorage(cosmos_client=client, **names) as storage:
        [saved] = await saves(storage, 1)
    async with CosmosCheckpointStorage(cosmos_client=client, **names) as storage:
        assert await storage.load(saved.checkpoint_id) == saved
    assert [each["id"] async for each in client.query_databases("SELECT * FROM c")]


async def test_a_container_that_is_given_is_used_and_left_open(
    client: CosmosClient, items: ContainerProxy, settings: Settings
) -> None:
    await create_container(client, settings, "/stream")
    async with CosmosCheckpointStorage(container_client=items) as storage:
        saved = await saves(storage, 2)
        assert await storage.get_latest(workflow_name=WORKFLOW) == saved[-1]  # whatever its indexing policy
    async with CosmosCheckpointStorage(container_client=items) as storage:
        assert await storage.list_checkpoints(workflow_name=WORKFLOW) == saved
    assert await items.read()


async def test_a_container_that_is_given_is_never_created(items: ContainerProxy, settings: Settings) -> None:
    async with CosmosEventStore(container_client=items) as store:
        with pytest.raises(StoreFormatError, match="does not exist"):
            await store.append(make_event(STREAM, 1))
    with pytest.raises(CosmosResourceNotFoundError):
        await items.read()


async def test_close_closes_what_the_store_made(settings: Settings) -> None:
    def sessions() -> list[Any]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each).__name__ == "ClientSession" and not each.closed]

    before = len(sessions())
    store = CosmosEventStore(**settings)
    await append_chain(store, 1)
    assert len(sessions()) == before + 1
    await store.close()
    assert len(sessions()) == before
    with pytest.raises(CheckpointStoreError, match="closed"):
        await store.read(STREAM, 1)


async def test_a_store_can_be_made_where_no_event_loop_runs(settings: Settings) -> None:
    async with await asyncio.to_thread(lambda: CosmosEventStore(**settings)) as store:
        assert await store.read(STREAM, 1) == []


async def test_a_store_tells_that_it_belongs_to_another_event_loop(store: CosmosEventStore) -> None:
    await append_chain(store, 1)
    with pytest.raises(CheckpointStoreError, match=r"another event loop.*asyncio\.run"):
        await asyncio.to_thread(lambda: asyncio.run(store.read(STREAM, 1)))
    assert len(await store.read(STREAM, 1)) == 1
