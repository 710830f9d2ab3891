"""Where a save of an unbound storage goes, and of one that has forgotten (docs/semantics.md), on every engine."""

from __future__ import annotations

import asyncio
import dataclasses
import gc

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    EventCheckpointStorage,
)
from eventckpt.storage.memory import Execution

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint
from .runs import run_log

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
