"""Two that write to one run, and steps of one execution that run side by side (docs/semantics.md), on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointConflictError,
    StreamId,
)

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history, ids

# Conflicts


async def test_two_workers_that_resume_one_checkpoint_end_as_two_runs(engine: Engine) -> None:
    first, second = await chain_of(engine.storage().for_run("r"), 2)
    workers = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    lineages = [[await worker.load(second.checkpoint_id)] for worker in workers]
    for _ in range(3):
        for worker, lineage in zip(workers, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1]))
            await worker.save(lineage[-1])

    reader = engine.storage()
    fork_id = f"r~{lineages[1][1].checkpoint_id[:8]}"
    run, fork = await history(reader.store, "r"), await history(reader.store, fork_id)
    assert [event.checkpoint_id for event in run] == [each.checkpoint_id for each in (first, second, *lineages[0][1:])]
    assert [event.checkpoint_id for event in fork] == [each.checkpoint_id for each in lineages[1][1:]]
    assert fork[0].forked_from is not None
    assert (fork[0].forked_from.run_id, fork[0].forked_from.seq) == ("r", 2)
    assert fork[0].forked_from.checkpoint_id == second.checkpoint_id
    assert fork[0].previous_digest == run[1].digest
    for lineage in lineages:
        for each in lineage[1:]:
            assert await reader.load(each.checkpoint_id) == each


async def test_a_fork_is_logged_with_both_names(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await late.load(root.checkpoint_id)
    other = engine.storage()
    await other.save(checkpoint(await other.load(root.checkpoint_id)))
    mine = checkpoint(root)
    await late.save(mine)
    assert f"goes on as run 'r~{mine.checkpoint_id[:8]}'" in caplog.text


async def test_two_workers_that_start_one_run_end_as_two_runs(engine: Engine) -> None:
    made = await asyncio.gather(*(chain_of(engine.storage().for_run("r"), 3) for _ in range(2)))
    reader = engine.storage()
    assert len(await history(reader.store, "r")) == 3
    forks = [run for run in made if await history(reader.store, f"r~{run[0].checkpoint_id[:8]}")]
    assert len(forks) == 1
    assert len(await ids(reader)) == 6


async def test_a_bound_storage_names_the_fork_that_its_saves_went_on_in(engine: Engine) -> None:
    first = engine.storage().for_run("r")
    await chain_of(first, 2)
    assert first.forked_to is None
    storage = engine.storage()
    second = storage.for_run("r")
    assert second.forked_to is None
    mine = await chain_of(second, 2)
    assert second.forked_to == f"r~{mine[0].checkpoint_id[:8]}"
    fork = storage.for_run(second.forked_to)
    assert await fork.list_checkpoints(workflow_name=WORKFLOW) == mine


async def test_starting_again_after_such_a_fork_goes_on_in_the_fork(engine: Engine, caplog: Any) -> None:
    await chain_of(engine.storage().for_run("r"), 2)
    storage = engine.storage()
    run = storage.for_run("r")
    first = await chain_of(run, 2)
    second = await chain_of(run, 2)
    fork = await history(storage.store, f"r~{first[0].checkpoint_id[:8]}")
    assert [event.checkpoint_id for event in fork] == [each.checkpoint_id for each in (*first, *second)]
    assert caplog.text.count("has events that this storage has not read") == 1


async def test_a_fork_of_nothing_seen_says_so(engine: Engine) -> None:
    await chain_of(engine.storage().for_run("r"), 1)
    [mine] = await chain_of(engine.storage().for_run("r"), 1)
    [event] = await history(engine.open(), f"r~{mine.checkpoint_id[:8]}")
    assert event.forked_from is not None
    assert (event.forked_from.run_id, event.forked_from.seq, event.forked_from.checkpoint_id) == ("r", 0, None)
    assert event.previous_digest == ""


async def test_with_raise_the_second_writer_is_told_where_the_run_stands(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = engine.storage(on_conflict="raise").for_run("r", workflow_name=WORKFLOW)
    await late.load(root.checkpoint_id)
    other = engine.storage()
    taken = checkpoint(await other.load(root.checkpoint_id))
    await other.save(taken)
    with pytest.raises(CheckpointConflictError, match="continued by another writer") as error:
        await late.save(checkpoint(root))
    assert error.value.stream == StreamId(WORKFLOW, "r")
    assert error.value.expected_seq == 2
    assert error.value.head is not None
    assert error.value.head.checkpoint_id == taken.checkpoint_id
    assert len(await history(other.store, "r")) == 2


async def test_forks_whose_names_would_meet_get_different_names(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(3)]
    for worker in late:
        await worker.load(root.checkpoint_id)
    made = [checkpoint(root, checkpoint_id=f"12345678-{n}") for n in range(3)]
    for worker, each in zip(late, made, strict=True):
        await worker.save(each)
    store = engine.open()
    assert [event.checkpoint_id for event in await history(store, "r~12345678")] == ["12345678-1"]
    assert [event.checkpoint_id for event in await history(store, "r~12345678-2")] == ["12345678-2"]


async def test_a_fork_of_a_run_with_the_longest_name_still_has_a_name(engine: Engine) -> None:
    run_id = "x" * 255
    await chain_of(engine.storage().for_run(run_id), 1)
    [mine] = await chain_of(engine.storage().for_run(run_id), 1)
    assert await history(engine.open(), "x" * 246 + "~" + mine.checkpoint_id[:8])


async def test_going_back_on_purpose_is_a_branch_of_the_same_run(engine: Engine) -> None:
    storage = engine.storage().for_run("r")
    first, second, third = await chain_of(storage, 3)
    branch = checkpoint(await storage.load(first.checkpoint_id))
    await storage.save(branch)
    assert await ids(storage) == [each.checkpoint_id for each in (first, second, third, branch)]
    assert await storage.get_latest(workflow_name=WORKFLOW) == branch


@pytest.mark.slow
async def test_a_hundred_races_have_one_winner_and_one_fork_each(engine: Engine) -> None:
    writers = [engine.storage() for _ in range(2)]
    for number in range(100):
        [root] = await chain_of(writers[0].for_run(f"race-{number}"), 1)
        engine.settle()
        runs = [writer.for_run(f"race-{number}", workflow_name=WORKFLOW) for writer in writers]
        for run in runs:
            await run.load(root.checkpoint_id)
        rivals = [checkpoint(root), checkpoint(root)]
        await asyncio.gather(*(run.save(each) for run, each in zip(runs, rivals, strict=True)))
        engine.settle()
        winners = [event.checkpoint_id for event in (await history(writers[0].store, f"race-{number}"))[1:]]
        forks = [each for each in rivals if each.checkpoint_id not in winners]
        assert (len(winners), len(forks)) == (1, 1)
        assert await history(writers[0].store, f"race-{number}~{forks[0].checkpoint_id[:8]}")


# Steps side by side


async def test_steps_of_one_execution_that_save_side_by_side_stay_in_one_run(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    [root] = await chain_of(run, 1)
    steps = [checkpoint(root, state={"step": n}) for n in range(30)]
    await asyncio.gather(*(run.save(step) for step in steps))
    last = checkpoint(steps[2])
    await run.save(last)
    events = await history(engine.open(), "r")
    assert {event.checkpoint_id for event in events} == {each.checkpoint_id for each in (root, *steps, last)}
    assert run.forked_to is None
    assert await run.get_latest(workflow_name=WORKFLOW) == last


async def test_so_do_the_steps_of_an_execution_that_was_resumed(engine: Engine) -> None:
    saved = await chain_of(engine.storage().for_run("r"), 2)
    run = engine.storage().for_run("r")
    latest = await run.get_latest(workflow_name=WORKFLOW)
    assert latest is not None
    resumed = await run.load(latest.checkpoint_id)
    await asyncio.gather(*(run.save(checkpoint(resumed)) for _ in range(3)))
    assert len(await history(engine.open(), "r")) == len(saved) + 3
    assert run.forked_to is None


async def test_so_do_the_steps_of_an_execution_that_this_storage_began_itself(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    saved = await chain_of(run, 2)
    resumed = await run.load(saved[-1].checkpoint_id)
    await asyncio.gather(*(run.save(checkpoint(resumed)) for _ in range(3)))
    assert len(await history(engine.open(), "r")) == len(saved) + 3
    assert run.forked_to is None


async def test_so_do_the_first_steps_of_an_execution(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    await asyncio.gather(*(run.save(checkpoint()) for _ in range(10)))
    assert len(await history(engine.open(), "r")) == 10
    assert run.forked_to is None


async def test_two_executions_on_one_storage_that_resume_one_checkpoint_part_all_the_same(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage.for_run("r"), 1)
    runs = [storage.for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    for run in runs:
        await run.load(root.checkpoint_id)
    lineages = [[root], [root]]
    for _ in range(3):
        for run, lineage in zip(runs, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1]))
            await run.save(lineage[-1])
    stayed = await history(storage.store, "r")
    parted = await history(storage.store, f"r~{lineages[1][1].checkpoint_id[:8]}")
    assert [event.checkpoint_id for event in stayed] == [each.checkpoint_id for each in lineages[0]]
    assert [event.checkpoint_id for event in parted] == [each.checkpoint_id for each in lineages[1][1:]]


async def test_two_executions_that_start_one_run_part_too(engine: Engine) -> None:
    storage = engine.storage()
    runs = [storage.for_run("r") for _ in range(2)]
    lineages: list[list[WorkflowCheckpoint]] = [[], []]
    for _ in range(3):
        for run, lineage in zip(runs, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1] if lineage else None))
            await run.save(lineage[-1])
    stayed = [event.checkpoint_id for event in await history(storage.store, "r")]
    parted = [event.checkpoint_id for event in await history(storage.store, runs[1].forked_to or "")]
    assert [stayed, parted] == [[each.checkpoint_id for each in lineage] for lineage in lineages]
    assert runs[0].forked_to is None
