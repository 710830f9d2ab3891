"""Items in Cosmos DB that somebody has changed fail their own checkpoint and no other."""

from __future__ import annotations

import os
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy

from eventckpt import CheckpointDecodeError, CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.chain import digest_of

from .chains import STREAM, append_chain, headers
from .cosmos_stores import MEGABYTES_5, WORKFLOW, Settings, checkpoint, payloads, saves, tamper

pytestmark = pytest.mark.slow  # every way in which an item may be changed


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "not base64!"},
        {"data": 17},
        {"data": ...},
        {"data": ""},
        {"payload": "text"},
        {"payload": {"encoding": "zstd"}},
        {"payload": None},
        {"seq": "2"},
        {"seq": 1},
        {"seq": 7},
        {"seq": ...},
        {"type": "part"},
        {"type": 5},
        {"run_id": "other"},
        {"run_id": 7},
        {"workflow_name": ...},
        {"timestamp": None},
        {"timestamp": 1},
        {"timestamp": "9999"},
        {"digest": None},
        {"previous_digest": "0"},
        {"summary": []},
        {"schema": "2"},
        {"checkpoint_version": "1.1"},
    ],
    ids=lambda changes: "-".join(f"{name}-{value!r}"[:30] for name, value in changes.items()),
)
async def test_a_changed_item_fails_its_own_checkpoint_and_hides_no_other(
    settings: Settings, items: ContainerProxy, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        mine = await saves(storage.for_run("r"), 2)
        mine.append(checkpoint(mine[-1], state={"noise": os.urandom(3_000)}))  # which rests on no other
        await storage.for_run("r").save(mine[-1])
        others = await saves(storage.for_run("other"), 2)
    await tamper(items, "000000000002", "orders|r", **changes)
    async with CosmosCheckpointStorage(**settings) as storage:
        run, other = storage.for_run("r"), storage.for_run("other")
        assert await other.list_checkpoints(workflow_name=WORKFLOW) == others
        assert await other.get_latest(workflow_name=WORKFLOW) == others[-1]
        assert [header.seq for header in await headers(storage.store, StreamId(WORKFLOW, "r"))] == [1, 2, 3]
        left = await run.list_checkpoints(workflow_name=WORKFLOW)
        assert left == [mine[0], mine[2]]
        assert "cannot be loaded" in caplog.text
        with pytest.raises(CheckpointDecodeError):
            await run.load(mine[1].checkpoint_id)
        assert await run.get_latest(workflow_name=WORKFLOW) == mine[2]
        following = checkpoint(mine[2])
        await run.save(following)
        assert await run.get_latest(workflow_name=WORKFLOW) == following
        assert [each.checkpoint_id for each in await storage.list_checkpoints(workflow_name=WORKFLOW)] != []


@pytest.mark.parametrize("changes", [{"timestamp": 5}, {"timestamp": ...}, {"seq": "x"}, {"payload": 1}], ids=str)
async def test_a_changed_newest_item_never_gives_way_to_an_older_one(
    settings: Settings, items: ContainerProxy, changes: dict[str, Any]
) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        mine = await saves(storage.for_run("r"), 2)
    await tamper(items, "000000000002", "orders|r", **changes)
    async with CosmosCheckpointStorage(**settings, on_conflict="raise") as storage:
        for reader in (storage, storage.for_run("r")):
            with pytest.raises(CheckpointDecodeError):
                await reader.get_latest(workflow_name=WORKFLOW)
        assert await storage.delete(mine[1].checkpoint_id)
        assert await storage.get_latest(workflow_name=WORKFLOW) == mine[0]


async def test_a_part_list_that_names_no_parts_reads_nothing_else(
    store: CosmosEventStore, items: ContainerProxy
) -> None:
    await append_chain(store, 2, data=MEGABYTES_5[:1_000_000])
    payload = (await items.read_item("000000000002", "workflow|run"))["payload"]
    await tamper(items, "000000000002", payload={**payload, "parts": ["000000000001", "../x", ""]})
    [event] = await store.read(STREAM, 2)
    assert payloads([event]) == [b""]
    assert digest_of(event) != event.digest
