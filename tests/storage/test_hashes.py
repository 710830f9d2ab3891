"""The hash that a load gives: of the bytes that are stored, the same in every process, on every engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventckpt import CheckpointNotFoundError, SqliteCheckpointStorage, StreamId

from ..engines import Engine
from .checkpoints import chain_of, checkpoint
from .runs import run_log

WORDS = {f"word {number}" for number in range(50)}

ELSEWHERE = """
import asyncio, sys
from eventckpt import SqliteCheckpointStorage

async def main():
    async with SqliteCheckpointStorage(sys.argv[1]) as storage:
        print((await storage.load_with_hash(sys.argv[2]))[1])

asyncio.run(main())
"""


def hash_elsewhere(path: Path, checkpoint_id: str, seed: int) -> str:
    """What a process of its own says, in which texts hash otherwise."""
    command = [sys.executable, "-c", ELSEWHERE, str(path), checkpoint_id]
    return subprocess.check_output(command, env=os.environ | {"PYTHONHASHSEED": str(seed)}, text=True).strip()


@pytest.mark.parametrize("bound", [True, False])
async def test_it_is_the_hash_in_the_header_beside_what_a_load_gives(engine: Engine, bound: bool) -> None:
    storage = engine.storage()
    made = await chain_of(storage.for_run("r"), 3)  # a snapshot and deltas
    events = await storage.store.read(StreamId(made[0].workflow_name, "r"), 1, 2, 3)
    reader = storage.for_run("r") if bound else storage
    for saved, event in zip(made, events, strict=True):
        assert event.payload is not None
        assert await reader.load_with_hash(saved.checkpoint_id) == (saved, event.payload.raw_sha256)


async def test_a_state_that_holds_a_set_has_the_same_hash_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteCheckpointStorage(path) as storage:
        saved = checkpoint(state={"words": WORDS})
        await storage.save(saved)
        hashes = {(await storage.load_with_hash(saved.checkpoint_id))[1]}
    hashes |= {hash_elsewhere(path, saved.checkpoint_id, seed) for seed in range(3)}
    assert len(hashes) == 1


async def test_it_changes_with_the_content(engine: Engine) -> None:
    storage = engine.storage()
    [saved] = await chain_of(storage, 1)
    _, before = await storage.load_with_hash(saved.checkpoint_id)
    await storage.save(saved)
    assert (await storage.load_with_hash(saved.checkpoint_id))[1] == before
    saved.state["step"] = "another"
    await storage.save(saved)
    assert (await storage.load_with_hash(saved.checkpoint_id))[1] != before


@pytest.mark.parametrize("bound", [True, False])
async def test_to_load_with_the_hash_is_to_go_on_from_there(engine: Engine, bound: bool) -> None:
    made = await chain_of(engine.storage().for_run("r"), 3)
    engine.settle()
    storage = engine.storage()
    reader = storage.for_run("r") if bound else storage
    first, _ = await reader.load_with_hash(made[0].checkpoint_id)
    await reader.save(checkpoint(first, checkpoint_id="back"))
    assert await run_log(engine, "r") == [*(each.checkpoint_id for each in made), "back"]


async def test_what_is_not_there_is_not_found(engine: Engine) -> None:
    with pytest.raises(CheckpointNotFoundError):
        await engine.storage().load_with_hash("nothing")
