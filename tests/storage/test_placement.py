"""Where a save goes (docs/semantics.md, "Which run a save joins" to "The same checkpoint again"), on every engine."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointConflictError,
    CheckpointNotFoundError,
    StreamId,
)
from eventckpt.audit import CheckpointAudit
from eventckpt.stores import AuditStore

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history, ids
from .runs import Reading, get_latest, run_log, two_that_met

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
    first, *_ = await chain_of(engine.storage().for_run("r"), 4)
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
