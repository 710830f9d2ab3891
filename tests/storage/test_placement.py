"""Where a save goes (docs/semantics.md, "Which run a save joins" to "The same checkpoint again"), on every engine."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointConflictError,
    CheckpointEvent,
    CheckpointNotFoundError,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    SqliteCheckpointStorage,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.audit import CheckpointAudit
from eventckpt.storage.memory import Execution
from eventckpt.stores import AuditStore

from ..engines import Engine
from .test_storage import WORKFLOW, chain_of, checkpoint, history, ids

Reading = Callable[[RunCheckpointStorage], Awaitable[object]]


async def run_log(engine: Engine, run_id: str, workflow_name: str = WORKFLOW) -> list[str]:
    """The checkpoint ids of a run in the order of their commits, as another process sees them."""
    engine.settle()
    return [event.checkpoint_id for event in await history(engine.open(), run_id, workflow_name)]


async def get_latest(run: RunCheckpointStorage) -> WorkflowCheckpoint | None:
    return await run.get_latest(workflow_name=WORKFLOW)


async def two_that_met(engine: Engine, storages: int) -> tuple[RunCheckpointStorage, RunCheckpointStorage]:
    """Handles that have resumed "root" of run r: the first one stayed, with "a", the second one forked, with "b"."""
    made = [engine.storage() for _ in range(storages)]
    root = checkpoint(checkpoint_id="root")
    await made[0].for_run("r").save(root)
    engine.settle()
    first, second = (made[number % storages].for_run("r", workflow_name=WORKFLOW) for number in range(2))
    await first.load("root")
    await second.load("root")
    await first.save(checkpoint(root, checkpoint_id="a"))
    await second.save(checkpoint(root, checkpoint_id="b"))
    engine.settle()
    return first, second


# A conflict is over for who reads after it


@pytest.mark.parametrize("storages", [1, 2])
async def test_each_handle_says_what_became_of_its_own_saves(engine: Engine, storages: int) -> None:
    first, second = await two_that_met(engine, storages)
    assert (first.forked_to, second.forked_to) == (None, "r~b")
    later = engine.storage().for_run("r")
    await get_latest(later)
    assert later.forked_to is None


@pytest.mark.parametrize("storages", [1, 2])
@pytest.mark.parametrize(
    "read",
    [get_latest, lambda run: run.load("a"), lambda run: run.load("root"), lambda run: run.load("b")],
    ids=["get_latest", "load", "load of an older one", "load of its own fork's"],
)
async def test_whoever_reads_after_a_conflict_goes_on_in_the_run(engine: Engine, storages: int, read: Reading) -> None:
    _, forked = await two_that_met(engine, storages)
    await read(forked)
    assert forked.forked_to is None
    await forked.save(checkpoint(checkpoint_id="turn"))
    await forked.save(checkpoint(checkpoint_id="b", state={"said": "again"}))
    assert await run_log(engine, "r") == ["root", "a", "turn", "b"]
    assert await run_log(engine, "r~b") == ["b"]


async def test_lists_and_deletions_end_no_conflict(engine: Engine) -> None:
    _, forked = await two_that_met(engine, 1)
    await ids(forked)
    await forked.list_checkpoints(workflow_name=WORKFLOW)
    await forked.delete("root")
    await forked.save(checkpoint(checkpoint_id="c"))
    assert await run_log(engine, "r~b") == ["b", "c"]
    assert forked.forked_to == "r~b"


async def test_a_read_that_fails_changes_nothing(engine: Engine) -> None:
    _, forked = await two_that_met(engine, 1)
    with pytest.raises(CheckpointNotFoundError):
        await forked.load("nowhere")
    assert forked.forked_to == "r~b"


@pytest.mark.parametrize("servers", [1, 2, 3])
async def test_each_turn_of_a_chat_sees_the_one_before_whatever_met_before_it(engine: Engine, servers: int) -> None:
    storages, dice, done = [engine.storage() for _ in range(servers)], random.Random(servers), ""
    kept = [storage.for_run("chat") for storage in storages]

    async def turn(name: str) -> str | None:
        number = dice.randrange(servers)
        run = kept[number] if dice.random() < 0.3 else storages[number].for_run("chat")
        latest = await get_latest(run)
        await asyncio.sleep(0)
        previous: WorkflowCheckpoint | None = None if dice.random() < 0.5 else latest
        for step in range(dice.randint(1, 3)):
            previous = checkpoint(previous, checkpoint_id=f"{name}.{step}", state={"turn": name})
            await run.save(previous)
        return latest.state["turn"] if latest else None

    for number in range(40):
        engine.settle()
        if dice.random() < 0.3:
            names = [f"{number} twice", f"{number} and again"]
            assert set(await asyncio.gather(*map(turn, names))) <= {done or None, *names}
            engine.settle()
            latest = await get_latest(engine.storage().for_run("chat"))
            assert latest is not None
            assert latest.state["turn"] in names
            done = latest.state["turn"]
        else:
            assert await turn(str(number)) == (done or None)
            done = str(number)


async def test_two_first_saves_at_once_through_one_handle_go_to_one_fork(engine: Engine) -> None:
    await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    run = engine.storage().for_run("r")
    await asyncio.gather(*(run.save(checkpoint(checkpoint_id=name)) for name in ("one", "two", "three")))
    assert len(await run_log(engine, "r")) == 1
    assert await run_log(engine, run.forked_to or "") == ["one", "two", "three"]


async def test_a_run_taken_in_between_is_forked_from_what_was_last_read(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    reader, other = engine.storage().for_run("r"), engine.storage().for_run("r")
    await get_latest(reader)
    await get_latest(other)
    await other.save(checkpoint(root))
    await reader.save(checkpoint(root, checkpoint_id="mine"))
    [event] = await history(engine.open(), "r~mine")
    assert event.forked_from is not None
    assert (event.forked_from.seq, event.forked_from.checkpoint_id) == (1, root.checkpoint_id)


async def test_told_to_raise_a_handle_goes_on_once_it_has_read(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    strict, other = engine.storage(on_conflict="raise").for_run("r"), engine.storage().for_run("r")
    await get_latest(strict)
    await get_latest(other)
    await other.save(checkpoint(root, checkpoint_id="theirs"))
    for _ in range(2):
        with pytest.raises(CheckpointConflictError):
            await strict.save(checkpoint(root, checkpoint_id="mine"))
    engine.settle()
    assert await get_latest(strict) is not None
    await strict.save(checkpoint(root, checkpoint_id="mine"))
    assert await run_log(engine, "r") == [root.checkpoint_id, "theirs", "mine"]
    assert strict.forked_to is None


# A checkpoint id alone places nothing


async def test_a_checkpoint_carried_over_to_another_workflow_is_readable_under_both_names(engine: Engine) -> None:
    storage = engine.storage()
    old = checkpoint(checkpoint_id="same", state={"of": "old"})
    new = dataclasses.replace(old, workflow_name="new", state={"of": "new"})
    await storage.save(old)
    await storage.save(new)
    child = WorkflowCheckpoint("new", "graph", checkpoint_id="child", previous_checkpoint_id="same")
    await storage.save(child)
    for reader in (storage, engine.storage()):
        engine.settle()
        assert await reader.get_latest(workflow_name=WORKFLOW) == old
        assert await reader.get_latest(workflow_name="new") == child
    assert await run_log(engine, "same", "new") == ["same", "child"]
    assert await run_log(engine, "same") == ["same"]


async def test_another_process_joins_the_run_of_the_parent_in_its_own_workflow(engine: Engine) -> None:
    storage = engine.storage()
    await storage.save(checkpoint(checkpoint_id="same", workflow_name="new"))
    await storage.save(checkpoint(checkpoint_id="same"))  # written last, in another workflow
    engine.settle()
    await engine.storage().save(
        WorkflowCheckpoint("new", "graph", checkpoint_id="child", previous_checkpoint_id="same")
    )
    assert await run_log(engine, "same", "new") == ["same", "child"]


async def test_a_parent_that_only_another_workflow_has_makes_a_fork_of_its_run(engine: Engine) -> None:
    await engine.storage().save(checkpoint(checkpoint_id="root"))
    engine.settle()
    for run_id in (None, "bound"):
        storage = engine.storage() if run_id is None else engine.storage().for_run(run_id)
        await storage.save(WorkflowCheckpoint("new", "graph", checkpoint_id="child", previous_checkpoint_id="root"))
        engine.settle()
        [event] = await history(engine.open(), run_id or "child", "new")
        assert event.forked_from is not None
        assert (event.forked_from.workflow_name, event.forked_from.run_id) == (WORKFLOW, "root")


async def test_one_id_in_two_runs_is_two_checkpoints_and_the_newest_is_loaded_and_deleted(engine: Engine) -> None:
    storage = engine.storage()
    runs = {name: storage.for_run(name) for name in ("a", "b")}
    for name, run in runs.items():
        await run.save(checkpoint(checkpoint_id="same", state={"of": name}))
    await runs["a"].load("same")  # touched last, not written last
    for reader in (storage, engine.storage()):
        engine.settle()
        assert (await reader.load("same")).state == {"of": "b"}
    assert await storage.delete("same")
    assert [await ids(run) for run in runs.values()] == [["same"], []]
    engine.settle()
    assert (await engine.storage().load("same")).state == {"of": "a"}
    assert await storage.delete("same")
    assert not await storage.delete("same")


async def test_a_handle_that_does_not_know_its_workflow_loads_its_own_runs_checkpoint(engine: Engine) -> None:
    storage = engine.storage()
    for name in ("a", "b"):
        await storage.for_run(name).save(checkpoint(checkpoint_id="same", state={"of": name}))
    engine.settle()
    run = engine.storage().for_run("a")
    assert (await run.load("same")).state == {"of": "a"}
    await run.save(checkpoint(checkpoint_id="next"))
    assert await run_log(engine, "a") == ["same", "next"]


@pytest.mark.parametrize("named", [None, "new"])
async def test_a_handle_that_resumes_a_checkpoint_of_another_workflow_goes_on_in_its_run(
    engine: Engine, named: str | None
) -> None:
    await engine.storage().for_run("r").save(checkpoint(checkpoint_id="A"))
    for number in range(3):
        engine.settle()
        run = engine.storage().for_run("r", workflow_name=named)
        await run.load("A")
        await run.save(WorkflowCheckpoint("new", "graph", checkpoint_id=f"{number}", previous_checkpoint_id="A"))
        assert run.forked_to is None
    assert await run_log(engine, "r", "new") == ["0", "1", "2"]
    [first, *_] = await history(engine.open(), "r", "new")
    assert first.forked_from is not None
    assert first.forked_from.workflow_name == WORKFLOW


@pytest.mark.parametrize("run_id", ["r", "another"])
@pytest.mark.parametrize("named", [None, "new"])
async def test_a_run_that_begins_is_a_fork_of_what_its_handle_has_loaded_whoever_saves_it_elsewhere_since(
    engine: Engine, run_id: str, named: str | None
) -> None:
    await engine.storage().for_run("r").save(checkpoint(checkpoint_id="A"))
    engine.settle()
    run = engine.storage().for_run(run_id, workflow_name=named)
    await run.load("A")
    await engine.storage().for_run("elsewhere").save(checkpoint(checkpoint_id="A", workflow_name="new"))
    engine.settle()
    await run.save(WorkflowCheckpoint("new", "graph", checkpoint_id="B", previous_checkpoint_id="A"))
    engine.settle()
    [event] = await history(engine.open(), run_id, "new")
    assert event.forked_from is not None
    assert (event.forked_from.workflow_name, event.forked_from.run_id) == (WORKFLOW, "r")


async def test_two_that_resume_a_checkpoint_of_another_workflow_part_as_all_others(engine: Engine) -> None:
    await engine.storage().for_run("r").save(checkpoint(checkpoint_id="A"))
    engine.settle()
    first, second = (engine.storage().for_run("r", workflow_name="new") for _ in range(2))
    for run in (first, second):
        await run.load("A")
    for name, run in (("one", first), ("two", second)):
        await run.save(WorkflowCheckpoint("new", "graph", checkpoint_id=name, previous_checkpoint_id="A"))
    assert (first.forked_to, second.forked_to) == (None, "r~two")


async def test_a_fork_can_be_bound_whatever_its_checkpoint_is_called(engine: Engine) -> None:
    await chain_of(engine.storage().for_run("r" * 200), 1)
    engine.settle()
    for name in ("c" * 300, "c" * 8 + "d" * 300):
        run = engine.storage().for_run("r" * 200)
        await run.save(mine := checkpoint(checkpoint_id=name))
        engine.settle()
        assert await get_latest(engine.storage().for_run(run.forked_to or "")) == mine


async def test_one_handle_serves_the_run_of_each_workflow_that_it_is_given(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    for name in ("one", "two", "three"):
        for workflow_name in ("v", "w"):
            await run.save(WorkflowCheckpoint(workflow_name, "graph", checkpoint_id=f"{name} of {workflow_name}"))
    assert await run_log(engine, "r", "v") == ["one of v", "two of v", "three of v"]
    assert await run_log(engine, "r", "w") == ["one of w", "two of w", "three of w"]


# What a checkpoint follows


async def test_what_follows_a_checkpoint_of_another_run_goes_on_in_the_run_that_was_read(engine: Engine) -> None:
    storage = engine.storage()
    [origin] = await chain_of(storage.for_run("origin"), 1)
    [first] = await chain_of(storage.for_run("r"), 1)
    engine.settle()
    run = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await run.load(origin.checkpoint_id)
    await run.save(checkpoint(origin, checkpoint_id="next"))
    assert await run_log(engine, "r") == [first.checkpoint_id, "next"]


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("change", ["superseded", "deleted"])
async def test_what_follows_a_superseded_or_deleted_checkpoint_stays_in_its_run(
    engine: Engine, bound: bool, change: str
) -> None:
    writer = engine.storage().for_run("r")
    root, second = await chain_of(writer, 2)
    if change == "deleted":
        await writer.delete(root.checkpoint_id)
    else:
        await writer.save(dataclasses.replace(root, state={"step": "changed"}))
    engine.settle()
    later = engine.storage()
    await (later.for_run("r") if bound else later).save(checkpoint(root, checkpoint_id="child"))
    assert await run_log(engine, "r") == [root.checkpoint_id, second.checkpoint_id, root.checkpoint_id, "child"]


async def test_what_follows_a_pruned_checkpoint_goes_on_where_the_run_was_read(engine: Engine) -> None:
    first, *_ = await chain_of(engine.storage().for_run("r"), 3)
    engine.settle()
    await prune(engine, keep=1)
    engine.settle()
    run = engine.storage().for_run("r")
    await get_latest(run)
    await run.save(checkpoint(first, checkpoint_id="child"))
    assert (await run_log(engine, "r"))[-1] == "child"
    assert run.forked_to is None


async def prune(engine: Engine, keep: int) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune([StreamId(WORKFLOW, "r")], keep=keep)]
    assert await audit.prune(plan) > 0


async def test_what_rests_on_a_snapshot_that_was_pruned_since_is_stored_so_that_it_loads(engine: Engine) -> None:
    dice = random.Random(7)
    text, *others = (dice.randbytes(5_000) for _ in range(4))
    writer = engine.storage().for_run("r")
    root = checkpoint(checkpoint_id="root", state={"text": text})
    await writer.save(root)
    engine.settle()
    late = engine.storage().for_run("r")
    await get_latest(late)  # has the snapshot in memory
    last = root
    for number, other in enumerate(others):  # a new snapshot among them, so that root's is needed no longer
        last = checkpoint(last, checkpoint_id=f"step {number}", state={"text": other})
        await writer.save(last)
    engine.settle()
    await prune(engine, keep=1)
    engine.settle()
    assert "root" not in await run_log(engine, "r")
    await get_latest(late)
    await late.save(child := checkpoint(root, checkpoint_id="child", state={"text": text, "and": b"more"}))
    engine.settle()
    assert await engine.storage().load("child") == child


# What a handle has not seen


async def test_a_handle_that_was_never_read_through_looks_the_parent_up_and_has_read_the_run_by_that(
    engine: Engine,
) -> None:
    root, second = await chain_of(engine.storage().for_run("r"), 2)
    engine.settle()
    run = engine.storage().for_run("r")
    await run.save(checkpoint(root, checkpoint_id="child"))
    assert await run_log(engine, "r") == [root.checkpoint_id, second.checkpoint_id, "child"]


async def test_a_parent_that_its_storage_has_met_need_not_be_looked_up_and_counts_as_seen_then(engine: Engine) -> None:
    storage = engine.storage()
    root, second = await chain_of(engine.storage().for_run("r"), 2)
    engine.settle()
    await storage.for_run("r", workflow_name=WORKFLOW).load(root.checkpoint_id)
    await storage.for_run("r").save(checkpoint(root, checkpoint_id="branch"))
    await storage.for_run("r").save(checkpoint(root, checkpoint_id="another"))
    assert await run_log(engine, "r") == [root.checkpoint_id, second.checkpoint_id, "branch"]
    assert await run_log(engine, "r~another") == ["another"]


async def test_deletions_behind_the_parent_are_no_other_writers_work(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage.for_run("r"), 1)
    await storage.delete(root.checkpoint_id)
    engine.settle()
    run = engine.storage().for_run("r")
    await run.save(checkpoint(root, checkpoint_id="child"))
    assert (await run_log(engine, "r"))[-1] == "child"
    assert run.forked_to is None


async def test_a_status_page_that_looks_through_a_handle_of_its_own_moves_nobody(engine: Engine) -> None:
    storage = engine.storage()
    worker = storage.for_run("r")
    [root] = await chain_of(worker, 1)
    other = engine.storage().for_run("r", workflow_name=WORKFLOW)
    engine.settle()
    await other.load(root.checkpoint_id)
    await other.save(checkpoint(root))
    engine.settle()
    await get_latest(storage.for_run("r"))
    await storage.load(root.checkpoint_id)
    await worker.save(checkpoint(root, checkpoint_id="mine"))
    assert worker.forked_to == "r~mine"


async def test_what_was_deleted_through_a_handle_is_behind_it(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    root, second = await chain_of(run, 2)
    assert await run.delete(second.checkpoint_id)
    await run.save(checkpoint(root, checkpoint_id="again"))
    await run.save(second)
    assert await run_log(engine, "r") == [
        *[root.checkpoint_id],
        *[second.checkpoint_id] * 2,
        "again",
        second.checkpoint_id,
    ]
    assert await ids(run) == [root.checkpoint_id, "again", second.checkpoint_id]


# The same checkpoint again


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_an_old_checkpoint_saved_again_unchanged_is_not_appended_by_who_read_a_newer_head(
    engine: Engine, which: int
) -> None:
    saved = await chain_of(engine.storage().for_run("r"), 4)
    engine.settle()
    run = engine.storage().for_run("r")
    await get_latest(run)
    await run.save(saved[which])
    assert await run_log(engine, "r") == [each.checkpoint_id for each in saved]
    await run.save(dataclasses.replace(saved[which], state={"step": "changed"}))
    assert await run_log(engine, "r") == [*(each.checkpoint_id for each in saved), saved[which].checkpoint_id]


async def test_nor_is_one_that_lies_before_the_fork_that_its_handle_went_to(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    [root] = await chain_of(run, 1)
    other = engine.storage().for_run("r")
    engine.settle()
    await get_latest(other)
    await other.save(checkpoint(root))
    await run.save(checkpoint(root, checkpoint_id="mine"))
    await run.save(root)
    assert await run_log(engine, "r~mine") == ["mine"]


async def test_a_deletion_of_the_checkpoint_itself_hides_no_other_writer(engine: Engine) -> None:
    mine, other = engine.storage().for_run("r"), engine.storage().for_run("r", workflow_name=WORKFLOW)
    _, second = await chain_of(mine, 2)
    engine.settle()
    await other.load(second.checkpoint_id)
    await other.save(checkpoint(second, checkpoint_id="theirs"))
    await other.delete(second.checkpoint_id)
    engine.settle()
    await mine.save(dataclasses.replace(second, state={"step": "changed"}))
    assert mine.forked_to is not None
    assert len(await run_log(engine, "r")) == 4


# What goes on at the same time


async def test_a_read_beside_a_save_of_the_same_handle_takes_nothing_back(engine: Engine) -> None:
    for number in range(20):
        run = engine.storage().for_run(f"{number}", workflow_name=WORKFLOW)
        root, last = await chain_of(run, 2)
        read = run.load(root.checkpoint_id) if number % 2 else get_latest(run)
        await asyncio.gather(read, run.save(last := checkpoint(last)))
        await run.save(checkpoint(last))
        assert run.forked_to is None


async def test_a_checkpoint_of_another_workflow_that_is_loaded_beside_a_save_takes_nothing_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = engine.storage().for_run("elsewhere")
    await other.save(checkpoint(checkpoint_id="v0", workflow_name="v"))
    store = engine.open()
    run = EventCheckpointStorage(store).for_run("r", workflow_name=WORKFLOW)
    root, second = await chain_of(run, 2)
    engine.settle()
    asked, may_answer = asyncio.Event(), asyncio.Event()
    read = store.read

    async def slowly(*args: Any) -> list[CheckpointEvent]:
        asked.set()
        found = await read(*args)
        await may_answer.wait()
        return found

    monkeypatch.setattr(store, "read", slowly)
    slow = asyncio.create_task(run.get_latest(workflow_name=WORKFLOW))
    await asked.wait()
    await run.save(third := checkpoint(second))
    await run.load("v0")
    may_answer.set()
    assert await slow == second
    await run.save(root)  # unchanged
    await run.save(checkpoint(third, checkpoint_id="fourth"))
    assert run.forked_to is None
    log = [root.checkpoint_id, second.checkpoint_id, third.checkpoint_id, "fourth"]
    assert await run_log(engine, "r") == log


def test_a_storage_may_be_used_in_one_event_loop_after_the_other(tmp_path: Path) -> None:
    storage = SqliteCheckpointStorage(tmp_path / "checkpoints.db")
    run = storage.for_run("r")

    async def save(
        through: RunCheckpointStorage | EventCheckpointStorage, root: WorkflowCheckpoint, number: int
    ) -> None:
        names = (f"{root.checkpoint_id} {number} {step}" for step in range(5))
        await asyncio.gather(*(through.save(checkpoint(root, checkpoint_id=name)) for name in names))

    roots = [checkpoint(checkpoint_id=name) for name in ("bound", "unbound")]
    for through, root in zip((run, storage), roots, strict=True):
        asyncio.run(through.save(root))
        for number in range(3):
            asyncio.run(save(through, root, number))
    assert run.forked_to is None

    async def end() -> int:
        async with storage.store:
            return len(await history(storage.store, "r")) + len(await history(storage.store, "unbound"))

    assert asyncio.run(end()) == 32


async def test_what_reads_while_a_prune_is_under_way_rests_on_nothing_that_goes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice, storage = random.Random(3), engine.storage()
    writer = storage.for_run("r")
    data = dice.randbytes(3_000)
    old = [checkpoint(checkpoint_id=f"old {n}", state={"data": data, "n": n}) for n in range(2)]
    for each in (
        *old,
        *(checkpoint(checkpoint_id=f"new {n}", state={"data": dice.randbytes(9_000)}) for n in range(3)),
    ):
        await writer.save(each)
    engine.settle()
    removing, may_remove = asyncio.Event(), asyncio.Event()
    store = engine.open()
    assert isinstance(store, AuditStore)
    remove = store.remove

    async def slowly(*args: Any) -> int:
        removing.set()
        await may_remove.wait()
        return await remove(*args)

    monkeypatch.setattr(store, "remove", slowly)
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune([StreamId(WORKFLOW, "r")], keep=1)]
    pruning = asyncio.create_task(audit.prune(plan))
    await removing.wait()
    engine.settle()
    late = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await late.load("old 1")
    await late.save(child := checkpoint(old[1], checkpoint_id="child", state={"data": data, "n": 2}))
    may_remove.set()
    assert await pruning > 0
    engine.settle()
    assert await engine.storage().for_run("r").get_latest(workflow_name=WORKFLOW) == child


# Cut off


async def test_a_job_that_is_cancelled_and_tried_again_at_once_goes_on_in_its_run(engine: Engine) -> None:
    storage, dice = engine.storage(), random.Random(1)
    await chain_of(storage.for_run("warm"), 1)
    for number in range(60):
        first = asyncio.create_task(storage.for_run(f"{number}").save(checkpoint()))
        for _ in range(dice.randrange(40)):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        retry = storage.for_run(f"{number}")
        await get_latest(retry)
        await retry.save(checkpoint())
        assert retry.forked_to is None


@pytest.mark.parametrize("pattern", ["a chat", "going back", "saved again"])
async def test_what_is_tried_again_after_it_was_cut_off_is_gone_on_from(engine: Engine, pattern: str) -> None:
    root, *_ = await chain_of(engine.storage().for_run("r"), 3)
    engine.settle()
    store = CutOff(engine.open())
    run = EventCheckpointStorage(store, on_conflict="raise").for_run("r")
    await get_latest(run)
    cut_off = {
        "a chat": checkpoint(checkpoint_id="x"),
        "going back": checkpoint(root, checkpoint_id="x"),
        "saved again": dataclasses.replace(root, state={"step": "changed"}),
    }[pattern]
    store.loses = "answer"
    with pytest.raises(StoreUnavailableError):
        await run.save(cut_off)
    await run.save(cut_off)
    await run.save(checkpoint(cut_off, checkpoint_id="y"))
    assert (await run_log(engine, "r"))[3:] == [cut_off.checkpoint_id, "y"]


async def test_what_somebody_was_told_of_by_a_read_is_another_writers_to_all_others(engine: Engine) -> None:
    store = CutOff(engine.open())
    storage = EventCheckpointStorage(store)
    [root] = await chain_of(storage.for_run("r"), 1)
    first, stale = (storage.for_run("r", workflow_name=WORKFLOW) for _ in range(2))
    for each in (first, stale):
        await each.load(root.checkpoint_id)
    store.loses = "answer"
    with pytest.raises(StoreUnavailableError):
        await first.save(cut_off := checkpoint(root, checkpoint_id="x"))
    assert await get_latest(first) == cut_off
    await stale.save(checkpoint(root, checkpoint_id="z"))
    await first.save(checkpoint(cut_off, checkpoint_id="y"))
    assert (first.forked_to, stale.forked_to) == (None, "r~z")
    assert await run_log(engine, "r") == [root.checkpoint_id, "x", "y"]


@pytest.mark.parametrize("again", [True, False], ids=["saved again", "not saved again"])
@pytest.mark.parametrize("looks", ["handle", "unbound"])
async def test_whoever_looks_at_what_was_cut_off_takes_it_from_nobody(engine: Engine, again: bool, looks: str) -> None:
    store = CutOff(engine.open())
    storage = EventCheckpointStorage(store, on_conflict="raise")
    run = storage.for_run("r")
    [root] = await chain_of(run, 1)
    store.loses = "answer"
    with pytest.raises(StoreUnavailableError):
        await run.save(cut_off := checkpoint(root, checkpoint_id="x"))
    viewer = storage.for_run("r") if looks == "handle" else storage
    assert await viewer.get_latest(workflow_name=WORKFLOW) == cut_off
    if again:
        await run.save(cut_off)
    await run.save(checkpoint(cut_off, checkpoint_id="y"))
    assert await run_log(engine, "r") == [root.checkpoint_id, "x", "y"]


@pytest.mark.parametrize("loses", ["answer", "task"])
@pytest.mark.parametrize("again", ["unchanged", "changed", "not"])
async def test_a_fork_that_was_cut_off_is_gone_on_with(engine: Engine, loses: str, again: str) -> None:
    store = CutOff(engine.open())
    run = EventCheckpointStorage(store).for_run("r")
    [root] = await chain_of(run, 1)
    other = engine.storage().for_run("r")
    await get_latest(other)
    await other.save(checkpoint(root, checkpoint_id="theirs"))
    engine.settle()
    store.loses, store.passes = loses, 1  # the append that meets the conflict
    mine = checkpoint(root, checkpoint_id="mine")
    with pytest.raises(asyncio.CancelledError if loses == "task" else StoreUnavailableError):
        await run.save(mine)
    if again != "not":
        await run.save(mine if again == "unchanged" else dataclasses.replace(mine, state={"step": "changed"}))
    await run.save(checkpoint(mine, checkpoint_id="next"))
    assert run.forked_to == "r~mine"
    assert await run_log(engine, "r~mine") == ["mine", *(["mine"] if again == "changed" else []), "next"]


@pytest.mark.parametrize("loses", ["answer", "task"])
async def test_what_was_cut_off_and_is_saved_again_changed_goes_behind_nobody_elses_work(
    engine: Engine, loses: str
) -> None:
    store = CutOff(engine.open())
    run = EventCheckpointStorage(store).for_run("r")
    [root] = await chain_of(run, 1)
    store.loses = loses
    mine = checkpoint(root, checkpoint_id="mine")
    with pytest.raises(asyncio.CancelledError if loses == "task" else StoreUnavailableError):
        await run.save(mine)
    engine.settle()
    other = engine.storage().for_run("r")
    await other.load(root.checkpoint_id)
    await other.save(checkpoint(root, checkpoint_id="theirs"))
    engine.settle()
    await run.save(dataclasses.replace(mine, state={"step": "changed"}))
    await run.save(checkpoint(mine, checkpoint_id="next"))
    assert run.forked_to == "r~mine"
    assert await run_log(engine, "r") == [root.checkpoint_id, "mine", "theirs"]
    assert await run_log(engine, "r~mine") == ["mine", "next"]


class CutOff(EventStore):
    """Passes everything on, and loses the answer of the next append, or the append."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.loses: str | None = None
        self.passes = 0
        """Appends before that one."""
        self.tried = 0

    async def append(self, event: CheckpointEvent) -> None:
        self.tried += 1
        if self.passes:
            self.passes -= 1
            await self._store.append(event)
            return
        loses, self.loses = self.loses, None
        if loses != "append":
            await self._store.append(event)
        if loses == "task":
            raise asyncio.CancelledError
        if loses is not None:
            await asyncio.sleep(0)
            raise StoreUnavailableError("no answer")

    async def read(self, *args: Any) -> Any:
        return await self._store.read(*args)

    async def find(self, *args: Any, **options: Any) -> Any:
        return await self._store.find(*args, **options)

    def headers(self, *args: Any, **options: Any) -> Any:
        return self._store.headers(*args, **options)

    def workflow_headers(self, *args: Any, **options: Any) -> Any:
        return self._store.workflow_headers(*args, **options)

    async def close(self) -> None: ...


@pytest.mark.parametrize("loses", ["append", "answer", "task"])
@pytest.mark.parametrize("again", [True, False], ids=["saved again", "not saved again"])
async def test_whoever_goes_on_after_a_save_that_was_cut_off_does_so_in_its_run(
    engine: Engine, loses: str, again: bool
) -> None:
    store = CutOff(engine.open())
    run = EventCheckpointStorage(store).for_run("r")
    [root] = await chain_of(run, 1)
    for number in range(3):
        store.loses = loses
        cut_off = checkpoint(root, checkpoint_id=f"cut off {number}")
        with pytest.raises(asyncio.CancelledError if loses == "task" else StoreUnavailableError):
            await run.save(cut_off)
        if again:
            await run.save(cut_off)
        await run.save(root := checkpoint(cut_off if again else root, checkpoint_id=f"next {number}"))
    assert run.forked_to is None
    log = await run_log(engine, "r")
    kept = [f"cut off {number}" for number in range(3)] if again or loses != "append" else []
    assert sorted(log[1:]) == sorted([*kept, *(f"next {number}" for number in range(3))])


async def test_saves_that_wait_for_one_that_finds_the_store_out_of_reach_fail_with_it(engine: Engine) -> None:
    store = CutOff(engine.open())
    run = EventCheckpointStorage(store).for_run("r")
    await chain_of(run, 1)
    tried, store.loses = store.tried, "append"
    waiting = [checkpoint(checkpoint_id=f"waits {number}") for number in range(20)]
    failed = await asyncio.gather(*map(run.save, waiting), return_exceptions=True)
    assert {type(each) for each in failed} == {StoreUnavailableError}
    assert store.tried == tried + 1
    assert "'r'" in str(failed[-1]) or "waits 19" in str(failed[-1])
    await asyncio.gather(*map(run.save, waiting))
    assert (await run_log(engine, "r"))[1:] == [each.checkpoint_id for each in waiting]


# Forgetting


@pytest.mark.parametrize("bound", [True, False])
async def test_forgetting_costs_a_read_and_never_makes_a_fork(
    engine: Engine, bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.storage.memory.Memory.__init__.__defaults__", (2,))
    storage = engine.storage()
    made: dict[str, list[WorkflowCheckpoint]] = {}
    runs = {name: storage.for_run(name) if bound else storage for name in ("a", "b", "c", "d")}
    for step in range(4):
        for name, run in runs.items():
            lineage = made.setdefault(name, [])
            lineage.append(
                checkpoint(lineage[-1] if lineage else None, checkpoint_id=name if not step else f"{name}{step}")
            )
            await run.save(lineage[-1])
    for name, run in runs.items():
        await run.save(branch := checkpoint(made[name][0], checkpoint_id=f"{name} branch"))
        made[name].append(branch)
        assert await run_log(engine, name) == [each.checkpoint_id for each in made[name]]


async def test_a_handle_that_has_served_very_many_workflows_forks_none_of_their_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.storage.memory._WORKFLOWS", 3)
    run = engine.storage().for_run("r")
    for turn in range(2):
        for number in range(6):
            await run.save(WorkflowCheckpoint(f"workflow {number}", "graph", checkpoint_id=f"{number}.{turn}"))
    assert run.forked_to is None
    for number in range(6):
        assert await run_log(engine, "r", f"workflow {number}") == [f"{number}.0", f"{number}.1"]


# Unbound


async def test_an_unbound_storage_keeps_executions_apart_by_their_loads(engine: Engine) -> None:
    storage, loaded = engine.storage(), asyncio.Barrier(2)
    [root] = await chain_of(storage, 1)

    async def resume(*names: str) -> None:
        await storage.load(root.checkpoint_id)
        await loaded.wait()
        await asyncio.gather(*(storage.save(checkpoint(root, checkpoint_id=name)) for name in names))

    await asyncio.gather(resume("a1", "a2", "a3"), resume("b1", "b2", "b3"))
    [fork] = {event.run_id async for event in storage.store.workflow_headers(WORKFLOW)} - {root.checkpoint_id}
    logs = [await run_log(engine, root.checkpoint_id), await run_log(engine, fork)]
    assert sorted(map(sorted, (logs[0][1:], logs[1]))) == [["a1", "a2", "a3"], ["b1", "b2", "b3"]]


async def test_looking_at_a_checkpoint_before_it_is_resumed_makes_no_fork(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage, 1)
    for _ in range(3):
        await storage.load(root.checkpoint_id)
    await asyncio.gather(*(storage.save(checkpoint(root, checkpoint_id=f"step {number}")) for number in range(3)))
    await storage.load(root.checkpoint_id)
    await storage.save(checkpoint(root, checkpoint_id="back"))
    assert len(await run_log(engine, root.checkpoint_id)) == 5


async def test_where_no_task_tells_each_save_takes_the_last_load_that_waits(engine: Engine) -> None:
    storage = engine.storage()
    root = checkpoint()
    await asyncio.create_task(storage.save(root))
    for _ in range(2):
        await asyncio.create_task(load(storage, root.checkpoint_id))
    for name in ("one", "two", "two, side by side"):
        await asyncio.create_task(storage.save(checkpoint(root, checkpoint_id=name)))
    assert await run_log(engine, root.checkpoint_id) == [root.checkpoint_id, "one"]
    assert await run_log(engine, f"{root.checkpoint_id}~two") == ["two", "two, side by side"]


@pytest.mark.parametrize("look", ["load", "get_latest"])
async def test_who_looks_or_resumes_moves_no_other_task(engine: Engine, look: str) -> None:
    storage = engine.storage()
    root, second = await chain_of(storage, 2)

    async def another(*, saves: str | None) -> None:
        if look == "load":
            await storage.load(second.checkpoint_id)
        else:
            await storage.get_latest(workflow_name=WORKFLOW)
        if saves is not None:
            await storage.save(checkpoint(second, checkpoint_id=saves))

    await asyncio.create_task(another(saves=None))
    await storage.save(mine := checkpoint(second, checkpoint_id="mine"))
    await asyncio.create_task(another(saves=None))
    await storage.save(checkpoint(mine, checkpoint_id="mine too"))
    log = [root.checkpoint_id, second.checkpoint_id, "mine", "mine too"]
    assert await run_log(engine, root.checkpoint_id) == log
    if look == "load":
        theirs = asyncio.create_task(another(saves="theirs"))
        await theirs
        await storage.save(checkpoint(mine, checkpoint_id="and mine"))
        assert await run_log(engine, root.checkpoint_id) == [*log, "theirs"]
        assert await run_log(engine, f"{root.checkpoint_id}~and mine") == ["and mine"]


async def test_what_one_task_saves_again_takes_no_other_tasks_place(engine: Engine) -> None:
    storage, loaded = engine.storage(), asyncio.Barrier(2)
    [root] = await chain_of(storage, 1)

    async def resume(name: str, again: WorkflowCheckpoint) -> None:
        await storage.load(root.checkpoint_id)
        await loaded.wait()
        await storage.save(again)
        await loaded.wait()
        await storage.save(first := checkpoint(root, checkpoint_id=f"{name}1"))
        await storage.save(checkpoint(first, checkpoint_id=f"{name}2"))

    await asyncio.gather(resume("a", root), resume("b", dataclasses.replace(root, state={"step": "changed"})))
    runs = {event.run_id async for event in storage.store.workflow_headers(WORKFLOW)}
    logs = [await run_log(engine, run) for run in runs]
    assert len(logs) == 2
    assert all(not ({"a1", "a2"} & set(log) and {"b1", "b2"} & set(log)) for log in logs)


async def load(storage: EventCheckpointStorage, checkpoint_id: str) -> WorkflowCheckpoint:
    return await storage.load(checkpoint_id)


async def test_a_page_that_only_looks_takes_no_more_memory_each_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.storage.memory._NEWCOMERS", 5)
    storage = engine.storage()
    [root] = await chain_of(storage, 1)
    gc.collect()
    before = sum(type(each) is Execution for each in gc.get_objects())
    for _ in range(50):
        await asyncio.create_task(load(storage, root.checkpoint_id))
    gc.collect()
    assert sum(type(each) is Execution for each in gc.get_objects()) - before <= 6


async def test_lineages_that_are_forgotten_while_their_steps_are_under_way_do_not_fork(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.storage.memory.Memory.__init__.__defaults__", (1,))
    storage = engine.storage()

    async def run(name: str) -> None:
        previous: WorkflowCheckpoint | None = None
        for step in range(3):
            steps = [
                checkpoint(previous, checkpoint_id=f"{name}{step}{side}") for side in "abc"[: 1 if not step else 3]
            ]
            await asyncio.gather(*map(storage.save, steps))
            previous = steps[-1]

    await asyncio.gather(*map(run, "stuvwxyz"))
    runs = {event.run_id async for event in storage.store.workflow_headers(WORKFLOW)}
    assert runs == {f"{name}0a" for name in "stuvwxyz"}


async def test_the_latest_over_all_runs_is_gone_on_from_where_its_run_stands(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage, 1)
    engine.settle()
    other = engine.storage()
    await other.load(root.checkpoint_id)
    gone = checkpoint(root)
    await other.save(gone)
    await other.delete(gone.checkpoint_id)
    engine.settle()
    assert await storage.get_latest(workflow_name=WORKFLOW) == root
    await storage.save(checkpoint(root, checkpoint_id="next"))
    assert (await run_log(engine, root.checkpoint_id))[-1] == "next"
