"""An event of a later schema says that a newer version wrote it, whatever else is in it."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointDecodeError, EventCheckpointStorage, StreamId
from eventckpt.chain import flaw_of
from eventckpt.events import SCHEMA, CheckpointEvent, RunInfo
from eventckpt.stores.cosmos.items import as_text, item_id, items_of
from projections import LatestProjection, ProcessorOptions, UpgradeNeededError, compare, open_engine
from projections.projector import Projector

from .cli.conftest import Cli
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
    header["digest"] = (
        header["digest"] if "digest" in change else hashlib.sha256(msgspec.msgpack.encode(header)).hexdigest()
    )
    if isinstance(engine, SqliteEngine):
        rewrite_row(engine, seq, header)
    else:
        assert isinstance(engine, CosmosEngine)
        await rewrite_item(engine, event, header)


def rewrite_row(engine: SqliteEngine, seq: int, header: dict[str, Any]) -> None:
    connection = sqlite3.connect(engine.path)
    with connection:
        connection.execute("DROP TRIGGER IF EXISTS events_are_immutable")
        connection.execute(
            "UPDATE events SET header = ?, digest = ? WHERE seq = ?",
            (msgspec.msgpack.encode(header), header["digest"], seq),
        )
    connection.close()


async def rewrite_item(engine: CosmosEngine, event: CheckpointEvent, header: dict[str, Any]) -> None:
    store: Any = engine.open()
    item, _ = items_of(event)
    container = await store.container()
    kept = {name: as_text(item)[name] for name in ("id", "stream", "data")}
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


# Replay


@pytest.mark.parametrize("change", CHANGES)
async def test_a_replay_says_so_and_calls_nothing_wrong(engine: Engine, change: str) -> None:
    await two_saved(engine)
    await rewrite(engine, 2, CHANGES[change])
    cli = Cli(engine)
    printed = await cli("replay", "r", code=1)
    assert f"seq 2: NEWER: it was {NEWER}" in printed.out
    assert "WRONG" not in printed.out
    assert "2 events replayed; none of them disagree with what is stored. 1 need a newer version" in printed.out
    printed = await cli.json("replay", "r", code=1)
    assert [step["newer"] for step in printed.of("step")] == [False, True]
    assert printed.of("summary") == [{"kind": "summary", "steps": 2, "wrong": 0, "newer": 1}]
    assert (await cli("verify", "r", code=1)).code == printed.code


async def test_a_replay_says_so_of_what_rests_on_it(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    state = {f"key-{n}": f"value-{n * n}" for n in range(500)}
    first = WorkflowCheckpoint(WORKFLOW, "graph", state=dict(state))
    await run.save(first)
    await run.save(
        WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=first.checkpoint_id, state=state | {"more": 1})
    )
    await rewrite(engine, 1, CHANGES["a field more"])
    printed = await Cli(engine).json("replay", "r", code=1)
    assert [step["newer"] for step in printed.of("step")] == [True, True]
    assert printed.of("summary")[0]["wrong"] == 0


# The "latest" projection, by a worker of this version while others are upgraded


async def latest_of(engine: Engine, run_id: str = "r") -> RunInfo | None:
    stream = StreamId(WORKFLOW, run_id)
    return (await engine.open().runs().get(stream)).get(stream)


async def headers_of(engine: Engine, run_id: str = "r") -> list[CheckpointEvent]:
    return [header async for header in engine.open().headers(StreamId(WORKFLOW, run_id))]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_projection_stops_before_it_and_goes_on_with_other_runs(engine: Engine, change: str) -> None:
    first, _ = await two_saved(engine)
    other = WorkflowCheckpoint(WORKFLOW, "graph")
    await engine.storage().for_run("other").save(other)
    await rewrite(engine, 2, CHANGES[change])
    projection = LatestProjection(engine.open())
    events = [*await headers_of(engine), *await headers_of(engine, "other")]
    for _ in range(2):
        with pytest.raises(
            UpgradeNeededError, match="such as seq 2 of run 'r', workflow 'orders': upgrade this worker"
        ):
            await projection.apply(events)
    for run_id, checkpoint in (("r", first), ("other", other)):
        document = await latest_of(engine, run_id)
        assert document is not None
        assert (document.seq, document.checkpoint_id) == (1, checkpoint.checkpoint_id)
    assert projection.gaps == 0


async def test_a_projection_that_reads_the_log_again_stops_before_it_too(engine: Engine) -> None:
    first, second = await two_saved(engine)
    third = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=second.checkpoint_id)
    run = engine.storage().for_run("r")
    await run.load(second.checkpoint_id)
    await run.save(third)
    await rewrite(engine, 2, CHANGES["a field of another type"])
    projection = LatestProjection(engine.open())
    with pytest.raises(UpgradeNeededError, match="seq 2"):
        await projection.apply((await headers_of(engine))[2:])
    document = await latest_of(engine)
    assert document is not None
    assert (document.seq, document.checkpoint_id) == (1, first.checkpoint_id)


async def test_a_document_that_a_newer_worker_brought_further_is_left_alone(engine: Engine) -> None:
    _, second = await two_saved(engine)
    newer = LatestProjection(engine.open())  # it knows the event as it was before it is rewritten
    await newer.apply(await headers_of(engine))
    await rewrite(engine, 2, CHANGES["a field of another type"])
    assert await LatestProjection(engine.open()).apply(await headers_of(engine)) == 0
    document = await latest_of(engine)
    assert document is not None
    assert (document.seq, document.checkpoint_id) == (2, second.checkpoint_id)
    store = engine.open()
    differences = [each async for each in compare(store, open_engine(store).feed, store.runs())]
    assert [each.what.partition(":")[0] for each in differences] == ["newer"]
    printed = await Cli(engine).json("verify", "r", "--projection", code=1)
    assert [problem["why"] for problem in printed.of("verdict")[0]["problems"]] == ["newer"]


@pytest.mark.parametrize("on_error", ["stop", "park"])
async def test_a_worker_waits_with_it_and_a_newer_one_takes_over(engine: Engine, on_error: Any) -> None:
    _, second = await two_saved(engine)
    [original] = await engine.open().read(STREAM, 2)
    await rewrite(engine, 2, CHANGES["a field of another type"])
    options = {"poll_interval": 0.01, "max_backoff": 0.01, "max_attempts": 2, "on_error": on_error}
    async with Projector(open_engine(engine.open()), ProcessorOptions(**options)).processing("latest") as old:
        async with asyncio.timeout(120):
            while sum(stats.handler_failures for stats in old.stats.values()) < 5:  # noqa: ASYNC110 - as users see it
                await asyncio.sleep(0.01)
        [status] = await old.status()
        assert (status.lease.stopped, status.lease.attempts) == (False, 0)
        assert "upgrade this worker" in (status.lease.error or "")
        assert await old.parked() == []
    # To the version that takes over, it is plain.
    await rewrite(engine, 2, {**msgspec.to_builtins(original.header()), "schema": SCHEMA})
    upgraded = Projector(open_engine(engine.open()), ProcessorOptions(**options))
    async with upgraded.processing("latest") as worker, asyncio.timeout(120):
        await worker.caught_up()
        [status] = await worker.status()
        assert status.lease.error is None
    document = await latest_of(engine)
    assert document is not None
    assert (document.seq, document.checkpoint_id) == (2, second.checkpoint_id)
