"""An event of a later schema says that a newer version wrote it, whatever else is in it."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointDecodeError, EventCheckpointStorage, StreamId
from eventckpt.chain import flaw_of
from eventckpt.events import SCHEMA, CheckpointEvent
from eventckpt.stores.cosmos.items import item_id, items_of

from .engines import CosmosEngine, Engine, SqliteEngine

WORKFLOW = "orders"
STREAM = StreamId(WORKFLOW, "r")
NEWER = "written by a newer version of eventckpt"

CHANGES: dict[str, dict[str, Any]] = {
    "a field more": {"mood": "new"},
    "a field of another type": {"summary": ["of", "another", "shape"], "iteration_count": {"unit": "steps"}},
    "another kind of payload": {"payload": {"lies": "elsewhere"}},
    "a field less": {"timestamp": None},
}


async def two_saved(engine: Engine) -> tuple[WorkflowCheckpoint, WorkflowCheckpoint]:
    run = engine.storage().for_run("r")
    first = WorkflowCheckpoint(WORKFLOW, "graph")
    second = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=first.checkpoint_id)
    for each in (first, second):
        await run.save(each)
    return first, second


async def rewrite(engine: Engine, seq: int, change: dict[str, Any]) -> None:
    """Store the event at `seq` as a version to come would: of a later schema, with a digest over all of its fields."""
    [event] = await engine.open().read(STREAM, seq)
    header: dict[str, Any] = msgspec.to_builtins(event.header()) | {"schema": SCHEMA + 1} | change
    header["digest"] = hashlib.sha256(msgspec.msgpack.encode(header)).hexdigest()
    if isinstance(engine, SqliteEngine):
        rewrite_row(engine, seq, header)
    else:
        assert isinstance(engine, CosmosEngine)
        await rewrite_item(engine, event, header)


def rewrite_row(engine: SqliteEngine, seq: int, header: dict[str, Any]) -> None:
    connection = sqlite3.connect(engine.path)
    with connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        connection.execute(
            "UPDATE events SET header = ?, digest = ? WHERE seq = ?",
            (msgspec.msgpack.encode(header), header["digest"], seq),
        )
    connection.close()


async def rewrite_item(engine: CosmosEngine, event: CheckpointEvent, header: dict[str, Any]) -> None:
    store: Any = engine.open()
    item, _ = items_of(event)
    container = await store.container()
    kept = {name: item[name] for name in ("id", "stream", "data")}
    assert kept["id"] == item_id(event.seq)
    await container.upsert_item({**header, **kept})


@pytest.mark.parametrize("change", CHANGES)
async def test_reading_it_says_so(engine: Engine, change: str, caplog: pytest.LogCaptureFixture) -> None:
    first, second = await two_saved(engine)
    await rewrite(engine, 2, CHANGES[change])
    storage = engine.storage()
    with pytest.raises(CheckpointDecodeError, match=NEWER) as error:
        await storage.load(second.checkpoint_id)
    assert "seq 2 of run 'r', workflow 'orders'" in str(error.value)
    assert "upgrade eventckpt" in str(error.value)
    for reader in (storage, storage.for_run("r")):
        with pytest.raises(CheckpointDecodeError, match=NEWER):
            await reader.get_latest(workflow_name=WORKFLOW)
        caplog.clear()
        assert await reader.list_checkpoints(workflow_name=WORKFLOW) == [first]
        assert NEWER in caplog.text
        assert len(await reader.list_checkpoint_ids(workflow_name=WORKFLOW)) == 2


async def test_what_rests_on_it_says_so_too(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    state = {f"key-{n}": f"value-{n * n}" for n in range(500)}
    first = WorkflowCheckpoint(WORKFLOW, "graph", state=dict(state))
    second = WorkflowCheckpoint(
        WORKFLOW, "graph", previous_checkpoint_id=first.checkpoint_id, state=state | {"more": 1}
    )
    for each in (first, second):
        await run.save(each)
    await rewrite(engine, 1, CHANGES["a field more"])
    with pytest.raises(CheckpointDecodeError, match=rf"delta against seq 1 of its run, and it was {NEWER}"):
        await engine.storage().load(second.checkpoint_id)


async def test_a_run_with_one_goes_on(engine: Engine) -> None:
    first, _ = await two_saved(engine)
    await rewrite(engine, 2, CHANGES["another kind of payload"])
    storage = engine.storage()
    run = storage.for_run("r")
    await run.load(first.checkpoint_id)
    third = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=first.checkpoint_id)
    await run.save(third)
    assert await EventCheckpointStorage(engine.open()).load(third.checkpoint_id) == third
    assert await run.get_latest(workflow_name=WORKFLOW) == third


@pytest.mark.parametrize(
    ("schema", "flaw"), [(SCHEMA, "changed"), (0, "changed"), (SCHEMA + 1, NEWER), (1 << 62, NEWER)]
)
async def test_only_a_later_schema_counts_as_newer(engine: Engine, schema: int, flaw: str) -> None:
    await two_saved(engine)
    [event] = await engine.open().read(STREAM, 2)
    assert flaw_of(event) == ""
    assert flaw in flaw_of(msgspec.structs.replace(event, schema=schema, iteration_count=7))
