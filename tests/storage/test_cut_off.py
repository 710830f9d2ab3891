"""Where a save goes beside others, and after one that was cut off (docs/semantics.md), on every engine."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointEvent,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    SqliteCheckpointStorage,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.audit import CheckpointAudit
from eventckpt.stores import AuditStore

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history
from .runs import get_latest, run_log

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
    last = store.last

    async def slowly(*args: Any) -> CheckpointEvent | None:
        found = await last(*args)
        asked.set()
        await may_answer.wait()
        return found

    monkeypatch.setattr(store, "last", slowly)
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
