"""A document is a hint: whatever one says, an unbound `get_latest` gives what the log has, of the run that it names."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, get_args

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, EventCheckpointStorage, EventStore, RunInfo, StreamId
from eventckpt.errors import StoreUnavailableError
from eventckpt.events import ForkPoint, PendingRequest, RunStatus
from eventckpt.runs import fold
from eventckpt.stores import AuditStore
from projections import LatestProjection

from ..engines import SqliteEngine
from .rig import WORKFLOW, Rig

pytestmark = pytest.mark.slow  # every kind of document on every engine

A, B, ELSEWHERE = StreamId(WORKFLOW, "a"), StreamId(WORKFLOW, "b"), StreamId("elsewhere", "c")
ASKS = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")
HEADS = ["a checkpoint", "a superseded one", "a deletion"]


def checkpoint(name: str, minute: int, workflow: str = WORKFLOW) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        workflow, "graph", checkpoint_id=name, timestamp=f"2026-01-01T00:{minute:02d}:00", state={"at": minute}
    )


async def written(rig: Rig, head: str) -> None:
    """Two runs of a workflow and one of another; the run written last has deleted and superseded checkpoints."""
    storage = rig.engine.storage()
    await storage.for_run("c").save(checkpoint("elsewhere", 9, "elsewhere"))
    await storage.for_run("a").save(checkpoint("a-1", 1))
    run = storage.for_run("b", workflow_name=WORKFLOW)
    for minute, name in enumerate(("b-1", "b-2", "b-3"), 2):
        await run.save(checkpoint(name, minute))
    await run.delete("b-2")
    await run.save(checkpoint("b-4", 5))
    if head == "a superseded one":
        await run.save(checkpoint("b-1", 6))
    if head == "a deletion":
        await run.delete("b-4")
    rig.engine.settle()


async def projected(rig: Rig, *streams: StreamId) -> None:
    store = rig.engine.open()
    for stream in streams:
        await LatestProjection(store).apply([header async for header in store.headers(stream)])
    rig.engine.settle()


async def info_of(store: EventStore, stream: StreamId, upto: int | None = None) -> RunInfo:
    info = fold([header async for header in store.headers(stream, lte=upto)])
    assert info is not None
    return info


async def forge(rig: Rig, info: RunInfo, kept_as: StreamId = B) -> None:
    """Put a document in the place of a run's, where it is found as that one was."""
    if isinstance(rig.engine, SqliteEngine):
        with closing(sqlite3.connect(rig.engine.path)) as connection, connection:
            connection.execute(
                "UPDATE runs SET info = ? WHERE run_id = ?", (msgspec.msgpack.encode(info), kept_as.run_id)
            )
        return
    runs: Any = rig.engine.open().runs()
    async with runs._container.in_use():
        key = f"{kept_as.workflow_name}|{kept_as.run_id}"
        await runs._container.upsert({**msgspec.to_builtins(info), "id": "latest", "stream": key})
    rig.engine.settle()


async def latest(rig: Rig) -> str | None:
    """What an unbound `get_latest` gives that asks the projection."""
    found = await EventCheckpointStorage(rig.engine.open(), latest="projection").get_latest(workflow_name=WORKFLOW)
    return found and found.checkpoint_id


async def logged(rig: Rig, run: str) -> str | None:
    found = await rig.engine.storage().for_run(run, workflow_name=WORKFLOW).get_latest(workflow_name=WORKFLOW)
    return found and found.checkpoint_id


FORGED: dict[str, list[Any]] = {
    "workflow_name": ["elsewhere", ""],
    "run_id": ["a", "c", "d"],
    "seq": [1, 2, 4, 6, 7, 10**12],
    "digest": ["", "x" * 64],
    "checkpoint_id": [None, "", "a-1", "b-1", "b-2", "b-3", "elsewhere", "nowhere", "\x1b[31m"],
    "checkpoint_seq": [-1, 0, 1, 2, 4, 5, 7, 10**12],
    "base_seq": [None, 1, 9],
    "iteration_count": [99],
    "timestamp": ["", "1999", "2999", "\x1b"],
    "status": list(get_args(RunStatus)),
    "messages": [{"x": 1}],
    "pending_requests": [(ASKS,)],
    "raw_size": [0, 10**12],
    "checkpoints": [0, 99],
    "tombstones": [0, 99],
    "removed": [99],
    "stored_size": [0, -1],
    "actor": ["somebody else"],
    "started_at": ["2999"],
    "recorded_at": ["2999"],
    "forked_from": [ForkPoint(workflow_name=WORKFLOW, run_id="a", seq=1, checkpoint_id="a-1")],
    "session": ["a"],
    "schema": [9],
    "outcome": ["done", "failed", "cancelled"],
    "reason": ["\x1b[31m"],
    "tags": [{"\x1b[31m": "\x1b[31m"}],
    "hold": [True],
    "traceparent": ["", "\x1b[31m"],
}
OUT_OF_SIGHT = {"workflow_name", "run_id"}
"""Fields of a document without which it is not found, or does not count: as late as if there were none."""


def test_every_field_is_forged() -> None:
    assert set(FORGED) == {field.name for field in msgspec.structs.fields(RunInfo)}


@pytest.mark.parametrize("head", HEADS)
async def test_a_document_with_any_field_forged_gives_nothing_but_the_latest_of_its_run(rig: Rig, head: str) -> None:
    await written(rig, head)
    await projected(rig, A, B, ELSEWHERE)
    right, expected = await info_of(rig.engine.open(), B), await logged(rig, "b")
    assert await latest(rig) == expected
    for field, values in FORGED.items():
        for value in values:
            await forge(rig, msgspec.structs.replace(right, **{field: value}))
            found = await latest(rig)
            is_hidden = field in OUT_OF_SIGHT or (field == "timestamp" and value in ("", "1999", "\x1b"))
            assert found == expected or (is_hidden and found == "a-1"), (field, value)


@pytest.mark.parametrize("head", HEADS)
async def test_a_document_that_points_at_any_event_of_any_run_gives_nothing_but_the_latest(rig: Rig, head: str) -> None:
    await written(rig, head)
    await projected(rig, A, B)
    store = rig.engine.open()
    right, expected = await info_of(store, B), await logged(rig, "b")
    for stream in (A, B, ELSEWHERE):
        last = await info_of(store, stream)
        for seq in range(1, last.seq + 1):
            told = await info_of(store, stream, seq)
            for ends in (told, last):
                pointing = {"checkpoint_id": told.checkpoint_id, "checkpoint_seq": told.checkpoint_seq}
                found_as = {"workflow_name": WORKFLOW, "run_id": "b", "timestamp": right.timestamp}
                await forge(rig, msgspec.structs.replace(ends, **found_as, **pointing))
                assert await latest(rig) == expected, (stream, seq)


# Documents that lag


async def test_where_the_run_has_moved_on_its_log_is_asked(rig: Rig) -> None:
    await written(rig, "a checkpoint")
    await projected(rig, A, B)
    run = rig.engine.storage().for_run("b", workflow_name=WORKFLOW)
    for act, expected in (
        (lambda: run.save(checkpoint("b-4", 7)), "b-4"),
        (lambda: run.save(checkpoint("b-5", 8)), "b-5"),
        (lambda: run.delete("b-5"), "b-4"),
        (lambda: run.delete("b-4"), "b-3"),
    ):
        await act()
        rig.engine.settle()
        assert await latest(rig) == expected


async def test_where_no_checkpoint_is_left_the_next_run_is_asked_and_at_last_the_log(rig: Rig) -> None:
    await written(rig, "a checkpoint")
    await projected(rig, A, B)
    storage = rig.engine.storage()
    for name in ("b-1", "b-3", "b-4"):
        await storage.for_run("b", workflow_name=WORKFLOW).delete(name)
    rig.engine.settle()
    assert await latest(rig) == "a-1"
    await storage.for_run("new").save(checkpoint("new-1", 30))
    rig.engine.settle()
    assert await latest(rig) == "a-1", "what the projection does not know yet is late"
    await storage.for_run("a", workflow_name=WORKFLOW).delete("a-1")
    rig.engine.settle()
    assert await latest(rig) == "new-1"
    await storage.for_run("new", workflow_name=WORKFLOW).delete("new-1")
    rig.engine.settle()
    assert await latest(rig) is None


async def test_however_many_runs_have_no_checkpoint_left_the_log_tells_which_has(rig: Rig) -> None:
    storage = rig.engine.storage()
    runs = [f"{number}" for number in range(9)]
    for minute, run in enumerate(runs):
        await storage.for_run(run).save(checkpoint(f"{run}-1", minute))
    await projected(rig, *(StreamId(WORKFLOW, run) for run in runs))
    for run in reversed(runs[1:]):
        await storage.for_run(run, workflow_name=WORKFLOW).delete(f"{run}-1")
        rig.engine.settle()
        left = runs[int(run) - 1]
        assert await latest(rig) == f"{left}-1"


async def test_a_run_that_the_log_does_not_have_is_passed_over(rig: Rig) -> None:
    await written(rig, "a checkpoint")
    await projected(rig, A, B)
    for run in "xyz":
        await forge(rig, msgspec.structs.replace(await info_of(rig.engine.open(), B), run_id=run), B)
        assert await latest(rig) == "a-1"


# Removals


async def pruned(rig: Rig, stream: StreamId, keep: int, *, dies: bool = False) -> None:
    store = rig.engine.open()
    assert isinstance(store, AuditStore)
    if dies:
        store.remove = died
    audit = CheckpointAudit(store)
    async for plan in audit.plan_prune([stream], keep=keep):
        try:
            await audit.prune(plan)
        except StoreUnavailableError:
            assert dies
    rig.engine.settle()


async def died(*_: object) -> int:
    raise StoreUnavailableError("It died.")


@pytest.mark.parametrize("is_told", [False, True], ids=["the projection is late", "the projection knows"])
@pytest.mark.parametrize("keep", [0, 1])
async def test_after_a_prune_what_stays_is_given_and_after_one_of_everything_the_next_run(
    rig: Rig, keep: int, is_told: bool
) -> None:
    await written(rig, "a superseded one")
    await projected(rig, A, B)
    await pruned(rig, B, keep)
    if is_told:
        await projected(rig, B)
        told = await info_of(rig.engine.open(), B)
        assert (told.checkpoint_id, told.timestamp > "") == (("b-1", True) if keep else (None, False))
    assert await latest(rig) == ("b-1" if keep else "a-1")
    await pruned(rig, A, 0)
    assert await latest(rig) == ("b-1" if keep else None)


@pytest.mark.parametrize("is_told", [False, True], ids=["the projection is late", "the projection knows"])
async def test_what_is_recorded_as_removed_and_still_there_is_not_given(rig: Rig, is_told: bool) -> None:
    await written(rig, "a checkpoint")
    await projected(rig, A, B)
    await pruned(rig, B, 0, dies=True)
    if is_told:
        await projected(rig, B)
    assert await latest(rig) == "a-1"


# What it costs


@pytest.mark.calm
async def test_a_document_that_is_right_costs_two_queries_more_and_one_that_is_not_its_run(cosmos_rig: Rig) -> None:
    """As docs/cosmos.md says. The SDK sends a query that sorts to the gateway first, which refuses it."""
    rig, kinds = cosmos_rig, []
    await written(rig, "a checkpoint")
    await projected(rig, A, B)
    store = rig.engine.open()
    asking = EventCheckpointStorage(store, latest="projection")
    await asking.get_latest(workflow_name=WORKFLOW)
    run = rig.engine.storage().for_run("b", workflow_name=WORKFLOW)
    await run.load("b-4")
    acts: list[Callable[[], Any]] = [lambda: run.save(checkpoint("b-5", 7)), lambda: run.delete("b-5")]
    for act in (None, *acts):
        if act is not None:
            await act()
        rig.emulator.reset()
        assert await asking.get_latest(workflow_name=WORKFLOW) is not None
        counted = rig.emulator.charges.requests_by_kind
        kinds.append((counted["query"] - 1, counted["read_item"]))
    assert kinds == [(3, 0), (4, 0), (6, 1)]
