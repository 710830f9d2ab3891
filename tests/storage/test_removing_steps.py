"""Removals that are cut off, that meet others, and what they ask of a store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import pytest
from agent_framework import WorkflowEvent

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    CheckpointNotFoundError,
    CheckpointStoreError,
    EventCheckpointStorage,
    StreamId,
)
from eventckpt.storage.removing import each_of, remove_runs
from eventckpt.stores import AuditStore, Stretch

from ..engines import Engine
from ..interleaving import Interrupted
from .checkpoints import WORKFLOW, checkpoint, history
from .removed import REMOVED, audited, begun, is_explained, is_finished, latest, remove, told

RUNS: Final = ("a", "b", "c")
Cut: TypeAlias = Callable[[Engine, int], Awaitable[bool]]
"""Removes the runs, and is cut off at a step; whether it was: it has fewer steps otherwise."""

on_each_engine = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)


class _KilledError(CheckpointStoreError):
    """Stands for the end of the process: nothing is done after it."""


class _Counting(Interrupted):
    """Counts what is asked of it."""

    def __init__(self, store: AuditStore) -> None:
        async def nothing() -> None: ...

        super().__init__(store, -1, nothing)
        self.asked: Counter[str] = Counter()

    async def append(self, event: CheckpointEvent) -> None:
        self.asked["append"] += 1
        await super().append(event)

    def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        self.asked["headers"] += 1
        return super().headers(stream, gt=gt, lte=lte, desc=desc)

    def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        self.asked["headers_of_runs"] += 1
        return super().headers_of_runs(streams)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        self.asked["remove"] += 1
        return await super().remove(stream, seqs)

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        self.asked["remove_orphaned_parts"] += 1
        return await super().remove_orphaned_parts(older_than=older_than)


class _Gathering(_Counting):
    """The first event that tells of removals goes once all of these runs are closed, and theirs wait to be told of."""

    def __init__(self, store: AuditStore, runs: int) -> None:
        super().__init__(store)
        self._open = runs
        self._are_closed = asyncio.Event()

    async def append(self, event: CheckpointEvent) -> None:
        if event.closes:
            await super().append(event)
            self._open -= 1
            if not self._open:
                self._are_closed.set()
            return
        await self._are_closed.wait()
        for _ in range(100):  # turns of the loop: between its record and its wait a removal asks the store nothing
            await asyncio.sleep(0)
        await super().append(event)


class _Halved(Interrupted):
    """Of what it removes, every other event goes, and then it is killed."""

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        await super().remove(stream, seqs[::2])
        raise _KilledError("half way")


async def killed(engine: Engine, at: int) -> bool:
    async def end() -> None:
        raise _KilledError("now")

    store = Interrupted(audited(engine), at, end)
    try:
        await remove(store, *RUNS)
    except _KilledError:
        return True
    return False


async def killed_half_way(engine: Engine, at: int) -> bool:
    async def nothing() -> None: ...

    with pytest.raises(_KilledError):
        await remove(_Halved(audited(engine), at, nothing), *RUNS)
    return False


async def cancelled(engine: Engine, at: int) -> bool:
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    inner = audited(engine)
    store = Interrupted(inner, at, hang)
    removing = asyncio.create_task(remove(store, *RUNS))
    waiting = asyncio.create_task(reached.wait())
    await asyncio.wait({removing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if reached.is_set():
        removing.cancel()
        await asyncio.wait({removing})
        assert removing.cancelled()
    else:
        await removing
    await inner.close()  # what was on its way to the store when it was cancelled is there by now, or never
    return reached.is_set()


@on_each_engine
@pytest.mark.parametrize("cut", [killed, killed_half_way, cancelled], ids=lambda cut: cut.__name__)
async def test_a_removal_that_is_cut_off_has_removed_nothing_that_is_not_recorded_and_is_finished_by_the_next(
    engine: Engine, cut: Cut
) -> None:
    at, is_cut, closed_early = 0, True, False
    while is_cut:
        await begun(engine, *RUNS)
        before = len(await told(engine))
        is_cut = await cut(engine, at)
        engine.settle()
        assert await is_explained(engine, RUNS)
        for run_id in RUNS:
            run = engine.storage().for_run(run_id, workflow_name=WORKFLOW)
            is_closed = (await history(audited(engine), run_id))[-1].closes
            assert await latest(run) == (None if is_closed else f"{run_id}3")
            closed_early |= is_closed and len(await told(engine)) == before
        assert all([each.ok async for each in CheckpointAudit(audited(engine)).verify_all()])
        await remove(audited(engine), *RUNS)
        assert await is_finished(engine, RUNS)
        named = {(each.run_id, each.seq) for each in (await told(engine))[before:]}
        assert named == {(run_id, (await history(audited(engine), run_id))[0].seq) for run_id in RUNS}
        at += 1
    assert closed_early or cut is killed_half_way, "one was cut off between the first step and the second"


@on_each_engine
async def test_what_was_closed_and_begun_again_before_its_events_went_is_whole(engine: Engine) -> None:
    """Whoever begins it again meets nothing of it, though all is there, and loses nothing of its own."""
    await begun(engine, "a")
    store = audited(engine)
    at = 0
    while not (headers := await history(audited(engine), "a"))[-1].closes:
        await killed_alone(store, at)
        at += 1
    assert len(headers) == 5
    again = engine.storage().for_run("a", workflow_name=WORKFLOW)
    first = checkpoint(checkpoint_id="a1", state={"number": 1})  # as the old one
    await again.save(first)
    await again.save(checkpoint(first, checkpoint_id="new"))
    assert again.forked_to is None
    engine.settle()
    run = engine.storage().for_run("a", workflow_name=WORKFLOW)
    assert await latest(run) == "new"
    assert await run.list_checkpoint_ids(workflow_name=WORKFLOW) == ["a1", "new"]
    audit = CheckpointAudit(audited(engine))
    [plan] = [plan async for plan in audit.plan_prune([StreamId(WORKFLOW, "a")], keep=1)]
    assert plan.seqs == (), "the old ones stay until it is told that they were removed"
    for is_left in (True, False):
        [removal] = await remove(audited(engine), "a")
        assert removal.refusal is not None
        assert (removal.refusal.kind, removal.events, removal.stored_size > 0) == ("unfinished", 4 * is_left, is_left)
        assert [each.seq for each in await told(engine)] == [5]
        assert [each.seq for each in await history(audited(engine), "a")] == [5, 6, 7]
    with pytest.raises(CheckpointNotFoundError):
        await run.load("a2")
    assert await latest(run) == "new"
    assert [(each.state, each.events) for each in await remove(audited(engine), "a", force=True)] == [("removed", 3)]
    assert [each.seq for each in await told(engine)] == [5, 8]
    assert await is_finished(engine, ["a"])
    assert await is_explained(engine, ["a"])


async def killed_alone(store: AuditStore, at: int) -> None:
    async def end() -> None:
        raise _KilledError("now")

    runs = remove_runs(Interrupted(store, at, end), each_of([StreamId(WORKFLOW, "a")]), actor=None)
    with pytest.raises(_KilledError):
        [each async for each in runs]


@on_each_engine
async def test_removals_at_once_are_in_nobodys_way(engine: Engine) -> None:
    run_ids = [f"r{number}" for number in range(6)]
    await begun(engine, *run_ids)
    stores = [audited(engine) for _ in range(3)]
    turned = [[*run_ids[place:], *run_ids[:place]] for place in range(3)]
    found = await asyncio.gather(*(remove(store, *each) for store, each in zip(stores, turned, strict=True)))
    assert {each.state for removals in found for each in removals} <= {"removed", "removed before"}
    assert sum(each.events for removals in found for each in removals) == 6 * 4
    assert await is_finished(engine, run_ids)
    assert {each.run_id for each in await told(engine)} == set(run_ids)


@pytest.mark.parametrize("engine", ["sqlite", "cosmos"], indirect=True)
async def test_removals_at_once_by_one_process_share_the_events_that_tell_of_them(engine: Engine) -> None:
    run_ids = [f"r{number}" for number in range(12)]
    await begun(engine, *run_ids)
    store = _Gathering(audited(engine), 12)
    storages = [EventCheckpointStorage(store) for _ in range(3)]
    removing = (storages[number % 3].delete_run(run_id) for number, run_id in enumerate(run_ids))
    assert all(await asyncio.gather(*removing))
    assert store.asked["append"] == 12 + 2  # the records; what tells of the first, and of all that came meanwhile
    assert sorted(each.run_id for each in await told(engine)) == sorted(run_ids)
    assert await is_finished(engine, run_ids)


@pytest.mark.parametrize("engine", ["sqlite", "cosmos"], indirect=True)
async def test_removals_for_several_reasons_at_once_are_told_of_each_by_its_own(engine: Engine) -> None:
    await begun(engine, *(f"r{number}" for number in range(6)))
    store = _Gathering(audited(engine), 6)

    async def removed(number: int) -> None:
        streams = each_of([StreamId(WORKFLOW, f"r{number}")])
        why = "even" if number % 2 == 0 else "odd"
        removals = remove_runs(store, streams, actor="ann", reason=why)
        assert [each.state async for each in removals] == ["removed"]

    await asyncio.gather(*map(removed, range(6)))
    removals = [header.removal async for header in store.headers(REMOVED) if header.removal is not None]
    named = {(run.run_id, each.reason) for each in removals for run in each.runs}
    assert named == {(f"r{number}", "even" if number % 2 == 0 else "odd") for number in range(6)}
    assert len(removals) == 3  # of the first; of the others of its reason; of those of the other one


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ends", ["cancelled", "failed"])
async def test_one_of_several_removals_at_once_that_is_cut_off_takes_no_other_with_it_unnoticed(
    engine: Engine, ends: str
) -> None:
    async def end() -> None:
        if ends == "failed":
            raise _KilledError("now")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    steps, at, shared = 1, 0, False
    while at < steps:
        await begun(engine, *RUNS)
        store = Interrupted(audited(engine), at, end)
        storage = EventCheckpointStorage(store)
        removing = (storage.delete_run(run_id, workflow_name=WORKFLOW) for run_id in RUNS)
        outcomes = await asyncio.gather(*removing, return_exceptions=True)
        failed = [each for each in outcomes if each is not True]
        assert all(isinstance(each, _KilledError | asyncio.CancelledError) for each in failed)
        assert len(failed) >= 1
        assert ends == "failed" or len(failed) == 1
        shared |= 1 < len(failed) < len(RUNS)
        done = [run_id for run_id, outcome in zip(RUNS, outcomes, strict=True) if outcome is True]
        assert await is_finished(engine, done)
        assert await is_explained(engine, RUNS)
        await remove(audited(engine), *RUNS)
        assert await is_finished(engine, RUNS)
        steps, at = store.steps, at + 1
    assert shared or ends == "cancelled", "one failed for some that waited together"


async def saves(engine: Engine) -> None:
    run = engine.storage().for_run("a", workflow_name=WORKFLOW)
    await run.load("a3")
    await run.save(checkpoint(checkpoint_id="more"))


async def asks(engine: Engine) -> None:
    run = engine.storage().for_run("a", workflow_name=WORKFLOW)
    await run.load("a3")
    asked = WorkflowEvent.request_info("q", "clerk", "may we?", bool)
    await run.save(checkpoint(checkpoint_id="asks", pending_request_info_events={"q": asked}))


async def says(engine: Engine) -> None:
    await engine.storage().for_run("a", workflow_name=WORKFLOW).annotate(tags={"more": "said"})


async def holds(engine: Engine) -> None:
    await engine.storage().for_run("a", workflow_name=WORKFLOW).annotate(hold=True)


async def _before_it_is_closed(
    engine: Engine, writes: Callable[[Engine], Awaitable[None]], has_written: asyncio.Event
) -> None:
    if not (await history(audited(engine), "a"))[-1].closes:
        await writes(engine)
        engine.settle()
        has_written.set()


@on_each_engine
@pytest.mark.parametrize(
    ("writes", "state"),
    [(saves, "unfinished"), (asks, "unfinished"), (says, None), (holds, "held")],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
async def test_a_run_that_is_written_to_meanwhile_is_looked_at_again(
    engine: Engine, writes: Callable[[Engine], Awaitable[None]], state: str | None
) -> None:
    at = 0
    while True:
        await begun(engine, "a")
        has_written = asyncio.Event()
        store = Interrupted(audited(engine), at, partial(_before_it_is_closed, engine, writes, has_written))
        [removal] = await remove(store, "a")
        kind = removal.refusal.kind if removal.refusal else None
        assert kind == (state if has_written.is_set() else None)
        if kind is None:
            assert await is_finished(engine, ["a"])
        else:
            assert not (await history(audited(engine), "a"))[-1].closes
            await engine.storage().for_run("a", workflow_name=WORKFLOW).annotate(hold=False, outcome="done")
            engine.settle()
            await remove(audited(engine), "a")
        if store.steps <= at:
            return
        at += 1


@on_each_engine
async def test_a_checkpoint_that_is_deleted_while_its_run_is_removed_leaves_nothing_behind_the_record(
    engine: Engine,
) -> None:
    at = 0
    while True:
        await begun(engine, "a")

        async def act() -> None:
            await remove(audited(engine), "a")
            engine.settle()

        store = Interrupted(audited(engine), at, act)
        await EventCheckpointStorage(store).for_run("a", workflow_name=WORKFLOW).delete("a2")
        await remove(audited(engine), "a")
        assert await is_finished(engine, ["a"])
        if store.steps <= at:
            return
        at += 1


@pytest.mark.parametrize("engine", ["memory"], indirect=True)
async def test_a_batch_has_256_runs_at_most(engine: Engine) -> None:
    run_ids = [f"r{number}" for number in range(300)]
    await begun(engine, *run_ids, events=1)
    removals = await remove(audited(engine), *run_ids)
    assert {each.state for each in removals} == {"removed"}
    assert [each.stream.run_id for each in removals] == run_ids
    headers = await history(audited(engine), REMOVED.run_id)
    assert [len(header.removal.runs) for header in headers if header.removal] == [256, 44]
    assert await is_finished(engine, run_ids)


@pytest.mark.calm
@on_each_engine
async def test_a_removal_asks_for_the_runs_at_once_and_writes_once_for_each_and_once_for_all(engine: Engine) -> None:
    await begun(engine, *RUNS)
    store = _Counting(audited(engine))
    await remove(store, *RUNS)
    assert store.asked == {
        "headers_of_runs": 1,
        "append": len(RUNS) + 1,  # the records, and the event that tells of them
        "headers": 1,  # of the last such event
        "remove": len(RUNS),
        "remove_orphaned_parts": 1,
    }
    store.asked.clear()
    await remove(store, *RUNS)
    assert store.asked == {"headers_of_runs": 1, "headers": 1}, "whether something tells of them"
