"""A checkpoint that is saved again, and one that is deleted (docs/semantics.md), on every engine."""

from __future__ import annotations

import asyncio

import pytest

from eventckpt import (
    CheckpointNotFoundError,
)

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history, ids

# Idempotence


async def test_saving_a_checkpoint_again_changes_nothing(engine: Engine) -> None:
    storage = engine.storage()
    saved = await chain_of(storage, 3)
    for each in saved:
        await storage.save(each)
    assert len(await history(storage.store, saved[0].checkpoint_id)) == 3


async def test_another_process_saving_it_again_changes_nothing(engine: Engine) -> None:
    saved = await chain_of(engine.storage(), 3)
    other = engine.storage()
    for each in saved:
        await other.save(each)
    assert len(await history(other.store, saved[0].checkpoint_id)) == 3


async def test_other_content_under_the_same_id_supersedes(engine: Engine) -> None:
    storage = engine.storage()
    first, second = await chain_of(storage, 2)
    first.state["step"] = "changed"
    await storage.save(first)
    assert (await storage.load(first.checkpoint_id)).state == {"step": "changed"}
    assert await ids(storage) == [second.checkpoint_id, first.checkpoint_id]
    assert len(await history(storage.store, first.checkpoint_id)) == 3


async def test_other_content_from_another_process_supersedes_too(engine: Engine) -> None:
    first, _ = await chain_of(engine.storage(), 2)
    other = engine.storage()
    first.state["step"] = "changed"
    await other.save(first)
    assert (await engine.storage().load(first.checkpoint_id)).state == {"step": "changed"}
    assert len(await history(other.store, first.checkpoint_id)) == 3


async def test_a_save_cut_off_after_its_commit_is_found_again(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage, 1)
    cut_off = checkpoint(root)
    elsewhere = engine.storage()
    await elsewhere.save(cut_off)  # as if by this process, which never heard of it
    await storage.save(cut_off)
    await storage.save(checkpoint(cut_off))
    assert [event.seq for event in await history(storage.store, root.checkpoint_id)] == [1, 2, 3]


# Deletion


async def test_a_deleted_checkpoint_is_gone_everywhere_but_in_the_log(engine: Engine) -> None:
    storage = engine.storage(actor="operator")
    first, second = await chain_of(storage, 2)
    assert await storage.delete(second.checkpoint_id) is True
    assert await storage.delete(second.checkpoint_id) is False
    assert await ids(storage) == [first.checkpoint_id]
    assert await storage.get_latest(workflow_name=WORKFLOW) == first
    for reader in (storage, engine.storage()):
        with pytest.raises(CheckpointNotFoundError):
            await reader.load(second.checkpoint_id)
    events = await history(storage.store, first.checkpoint_id)
    assert [event.type for event in events] == ["checkpoint", "checkpoint", "tombstone"]
    assert events[2].actor == "operator"


async def test_a_deletion_by_someone_else_does_not_make_a_run_fork(engine: Engine) -> None:
    storage = engine.storage().for_run("r")
    first, second = await chain_of(storage, 2)
    await engine.storage().delete(first.checkpoint_id)
    third = checkpoint(second)
    await storage.save(third)
    assert [event.type for event in await history(engine.open(), "r")] == [
        "checkpoint",
        "checkpoint",
        "tombstone",
        "checkpoint",
    ]


@pytest.mark.parametrize("deleted_by", ["the same process", "another process"])
@pytest.mark.parametrize("saved_by", ["the same process", "another process"])
async def test_a_deleted_checkpoint_saved_again_is_back(engine: Engine, deleted_by: str, saved_by: str) -> None:
    storage = engine.storage()
    [saved] = await chain_of(storage, 1)
    await (storage if deleted_by == "the same process" else engine.storage()).delete(saved.checkpoint_id)
    engine.settle()
    await (storage if saved_by == "the same process" else engine.storage()).save(saved)
    engine.settle()
    assert await storage.load(saved.checkpoint_id) == saved
    assert await ids(storage) == [saved.checkpoint_id]


async def test_deletions_and_saves_at_once_lose_nothing(engine: Engine) -> None:
    storage = engine.storage()
    saved = await chain_of(storage, 10)
    other = engine.storage()
    await asyncio.gather(
        chain_of(storage.for_run("more"), 10), *(other.delete(each.checkpoint_id) for each in saved[:5])
    )
    engine.settle()
    assert len(await ids(storage)) == 15
