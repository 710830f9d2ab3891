"""What is said about a run, by whoever may say it, and what that is to those who write it (docs/semantics.md), on every
engine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointStoreError,
    CosmosEventStore,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    RunInfo,
    RunNotFoundError,
    StreamId,
)
from eventckpt.runs import fold
from eventckpt.stores import AuditStore

from ..cosmos_emulator import CosmosEmulator
from ..cosmos_emulator.switches import Switches
from ..engines import Engine
from ..engines import where as cosmos
from .checkpoints import WORKFLOW, chain_of, checkpoint, history
from .lost_store import Gate, LostStore
from .placement_model import Cut

RUN = StreamId(WORKFLOW, "r")


async def info_of(store: EventStore, run: StreamId = RUN) -> RunInfo:
    found = fold(await history(store, run.run_id, run.workflow_name))
    assert found is not None
    return found


async def test_an_outcome_counts_until_the_next_checkpoint_and_the_rest_until_it_changes(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    [first] = await chain_of(run, 1)
    assert await run.annotate(outcome="failed", reason="no paper", tags={"customer": "c-17"}, hold=True) == 2
    after = await info_of(engine.open())
    assert (after.status, after.outcome, after.reason) == ("failed", "failed", "no paper")
    assert (after.tags, after.hold, after.checkpoint_id) == ({"customer": "c-17"}, True, first.checkpoint_id)

    await run.annotate(tags={"shop": "17"})
    after = await info_of(engine.open())
    assert (after.status, after.reason) == ("failed", "no paper")
    assert after.tags == {"customer": "c-17", "shop": "17"}

    await run.save(checkpoint(first))
    after = await info_of(engine.open())
    assert (after.status, after.outcome, after.reason) == ("open", None, None)
    assert (after.tags, after.hold) == ({"customer": "c-17", "shop": "17"}, True)

    await run.annotate(tags={"customer": None, "never": None}, hold=False)
    after = await info_of(engine.open())
    assert (after.tags, after.hold) == ({"shop": "17"}, False)


async def test_two_that_annotate_at_once_lose_nothing_of_each_other(engine: Engine) -> None:
    await chain_of(engine.storage().for_run("r"), 1)
    runs = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(5)]
    engine.settle()
    seqs = await asyncio.gather(*(run.annotate(tags={f"from-{n}": "x"}) for n, run in enumerate(runs)))
    assert sorted(seqs) == [2, 3, 4, 5, 6]
    assert (await info_of(engine.open())).tags == {f"from-{n}": "x" for n in range(5)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give an outcome, tags, or hold"),
        ({"tags": {}}, "give an outcome, tags, or hold"),
        ({"outcome": "lost"}, "'done', 'failed' or 'cancelled'"),
        ({"reason": "why"}, "give an outcome with it"),
        ({"outcome": "done", "reason": ""}, "reason is blank"),
        ({"outcome": "done", "reason": "x" * 1_001}, "1 to 1000 characters"),
        ({"outcome": "done", "reason": "\ud800"}, "not valid Unicode"),
        ({"hold": "yes"}, "hold is True or False"),
        ({"tags": ["a"]}, "tags is a mapping"),
        ({"tags": {"": "a"}}, "name of a tag is blank"),
        ({"tags": {"a": ""}}, "value of a tag is blank"),
        ({"tags": {"a" * 257: "a"}}, "name of a tag has 1 to 256"),
        ({"tags": {"a": "a" * 257}}, "value of a tag has 1 to 256"),
        ({"tags": {"a": "\udfff"}}, "value of a tag is not valid Unicode"),
        ({"tags": {"a=b": "a"}}, "name of a tag has no '='"),
        ({"tags": {1: "a"}}, "name of a tag is text"),
        ({"tags": {"a": 1}}, "value of a tag is text"),
        ({"tags": {f"t{n}": "a" for n in range(20)}}, "at most 20 tags, and would have 21"),
    ],
)
async def test_what_cannot_be_said_is_refused_in_a_sentence_and_nothing_is_written(
    engine: Engine, given: dict[str, Any], says: str
) -> None:
    run = engine.storage().for_run("r")
    await chain_of(run, 1)
    await run.annotate(tags={"one": "more"})
    with pytest.raises((ValueError, TypeError), match=says):
        await run.annotate(**given)
    assert len(await history(engine.open(), "r")) == 2


async def test_the_longest_that_can_be_said_is_kept(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    await chain_of(run, 1)
    tags = {f"{n:02}" + "é" * 254: "ü" * 256 for n in range(20)}
    await run.annotate(outcome="cancelled", reason="ß" * 1_000, tags=tags)
    after = await info_of(engine.open())
    assert (after.reason, after.tags) == ("ß" * 1_000, tags)
    await run.annotate(tags={**dict.fromkeys(tags), "the": "only one"})
    assert (await info_of(engine.open())).tags == {"the": "only one"}


async def test_only_a_run_that_is_there_and_whose_workflow_is_known_is_annotated(engine: Engine) -> None:
    storage = engine.storage()
    with pytest.raises(ValueError, match="give for_run its workflow_name"):
        await storage.for_run("r").annotate(outcome="done")
    with pytest.raises(RunNotFoundError, match="Run 'r' of workflow 'orders' has no events"):
        await storage.for_run("r", workflow_name=WORKFLOW).annotate(outcome="done")
    assert await history(engine.open(), "r") == []


async def test_a_handle_that_has_loaded_a_checkpoint_knows_its_workflow(engine: Engine) -> None:
    [first] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    run = engine.storage().for_run("r")
    await run.load(first.checkpoint_id)
    assert await run.annotate(outcome="done") == 2


async def test_what_is_said_through_a_handle_that_forked_is_said_about_the_fork(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    runs = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    for run in runs:
        await run.load(root.checkpoint_id)
    for name, run in zip("ab", runs, strict=True):
        await run.save(checkpoint(root, checkpoint_id=name))
    await runs[1].annotate(outcome="failed")
    engine.settle()
    assert (await info_of(engine.open())).outcome is None
    assert (await info_of(engine.open(), StreamId(WORKFLOW, "r~b"))).outcome == "failed"


# What it costs


@pytest.mark.parametrize("known", [True, False], ids=["known", "not known"])
async def test_an_annotation_is_one_append_and_one_look_and_one_more_where_the_head_is_not_known(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    made = engine.storage().for_run("r")
    await chain_of(made, 2)
    if not known:
        await made.annotate(tags={"a": "b"})
    engine.settle()
    store = engine.open()
    run = made if known else EventCheckpointStorage(store).for_run("r", workflow_name=WORKFLOW)
    asked = calls_of(monkeypatch, type(store))
    await run.annotate(outcome="done")
    assert asked == [*([] if known else ["headers"]), "find", "append"]


async def test_the_handles_own_next_save_goes_right_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    [first] = await chain_of(run, 1)
    await run.annotate(outcome="done")
    asked = calls_of(monkeypatch, type(storage.store))
    await run.save(checkpoint(first))
    assert asked == ["append"]


async def test_another_writer_pays_one_look_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    lineage = await chain_of(run, 3)
    engine.settle()
    await engine.storage().for_run("r", workflow_name=WORKFLOW).annotate(tags={"a": "b"})
    engine.settle()
    asked = calls_of(monkeypatch, type(storage.store))
    costs: list[list[str]] = []
    for _ in range(4):
        lineage.append(checkpoint(lineage[-1]))
        await run.save(lineage[-1])
        costs.append(asked.copy())
        asked.clear()
    assert costs == [["append", "headers", "append"], ["append"], ["append"], ["append"]]


def calls_of(monkeypatch: pytest.MonkeyPatch, engine: type[EventStore]) -> list[str]:
    """What is asked of stores of a class from now on."""
    asked: list[str] = []
    for name in ("append", "read", "find", "find_in", "headers", "last", "keys"):
        method = getattr(engine, name)

        def counted(self: EventStore, *args: Any, _name: str = name, _method: Any = method, **options: Any) -> Any:
            asked.append(_name)
            return _method(self, *args, **options)

        monkeypatch.setattr(engine, name, counted)
    return asked


# Cut off


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "is cancelled"])
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_an_annotation_whose_answer_is_lost_is_in_nobodys_way(engine: Engine, cut: Cut, hangs: bool) -> None:
    store = LostStore(engine.open(), Gate())
    run = EventCheckpointStorage(store, on_conflict="raise").for_run("r", workflow_name=WORKFLOW)
    [first] = await chain_of(run, 1)
    store.cut, store.hangs, store.reached = cut, hangs, asyncio.Event()
    saying = asyncio.ensure_future(run.annotate(outcome="failed", tags={"a": "b"}))
    if hangs:
        await store.reached.wait()
        saying.cancel()
    with pytest.raises(asyncio.CancelledError if hangs else CheckpointStoreError):
        await saying
    store.cut = None
    engine.settle()
    there = await info_of(engine.open())
    assert (there.status, there.seq) == (("failed", 2) if cut == "after" else ("open", 1))
    await run.save(checkpoint(first))
    await run.annotate(outcome="done", tags={"c": "d"})
    engine.settle()
    told = await info_of(engine.open())
    assert (told.status, told.tags) == ("done", {"a": "b", "c": "d"} if cut == "after" else {"c": "d"})


# Beside those who write

LINES = [f"a line of every checkpoint, number {n}" for n in range(50)]


async def annotates(engine: Engine, step: int) -> None:
    """Somebody else says something about the run."""
    engine.settle()
    run = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await run.annotate(outcome="failed" if step % 2 else None, tags={f"step-{step % 7}": str(step)})
    engine.settle()


@pytest.mark.parametrize("on_conflict", ["fork", "raise"])
@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
@pytest.mark.parametrize("begins", ["new", "resumed", "latest"])
async def test_a_writer_that_is_annotated_at_every_step_goes_on_in_its_run(
    engine: Engine, on_conflict: Any, bound: bool, begins: str
) -> None:
    """With states that are stored as deltas; and again after what was deleted, or superseded."""
    storage = engine.storage(on_conflict=on_conflict)
    root = checkpoint(checkpoint_id="r", state={"lines": LINES, "step": 0})
    await (storage if begins == "new" and not bound else engine.storage()).for_run("r").save(root)
    engine.settle()
    await annotates(engine, 0)
    through = storage.for_run("r", workflow_name=WORKFLOW) if bound else storage
    if begins == "latest":
        assert (await through.get_latest(workflow_name=WORKFLOW)) == root
    else:
        assert (await through.load("r")) == root
    lineage, deleted = [root], set[str]()
    for step in range(1, 12):
        await annotates(engine, step)
        lineage.append(checkpoint(lineage[-1], state={"lines": LINES, "step": step}, checkpoint_id=f"at-{step}"))
        await through.save(lineage[-1])
        if step == 4:
            await annotates(engine, step)
            lineage[-1].state["step"] = "changed"
            await through.save(lineage[-1])
        if step == 7:
            await annotates(engine, step)
            await through.delete(lineage[-2].checkpoint_id)
            deleted.add(lineage[-2].checkpoint_id)
    engine.settle()
    store = engine.open()
    assert isinstance(store, AuditStore)
    assert [stream async for stream in store.streams()] == [RUN]
    reader = engine.storage()
    for each in lineage:
        if each.checkpoint_id not in deleted:
            assert await reader.load(each.checkpoint_id) == each
    assert any(header.payload and header.payload.bases for header in await history(store, "r"))
    assert (await CheckpointAudit(store).verify(RUN, decode=True)).ok


async def test_steps_side_by_side_and_annotations_beside_them_are_all_kept(engine: Engine) -> None:
    run = engine.storage(on_conflict="raise").for_run("r", workflow_name=WORKFLOW)
    [root] = await chain_of(run, 1)
    engine.settle()
    others = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(3)]
    steps: list[WorkflowCheckpoint] = [checkpoint(root) for _ in range(6)]
    saying: list[RunCheckpointStorage] = [*others, run]
    await asyncio.gather(
        *(run.save(step) for step in steps),
        *(each.annotate(tags={f"by-{n}": "x"}) for n, each in enumerate(saying)),
    )
    engine.settle()
    assert sorted(await run.list_checkpoint_ids(workflow_name=WORKFLOW)) == sorted(
        each.checkpoint_id for each in (root, *steps)
    )
    assert (await info_of(engine.open())).tags == {f"by-{n}": "x" for n in range(4)}


async def test_two_writers_still_meet_each_other_across_an_annotation(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    writers = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    for writer in writers:
        await writer.load(root.checkpoint_id)
    await annotates(engine, 1)
    await writers[0].save(checkpoint(root, checkpoint_id="a"))
    await annotates(engine, 2)
    await writers[1].save(checkpoint(root, checkpoint_id="b"))
    assert [writer.forked_to for writer in writers] == [None, "r~b"]


# Beside others, on Cosmos DB


async def annotates_known(storage: EventCheckpointStorage) -> Any:
    run = storage.for_run("r", workflow_name=WORKFLOW)
    await run.get_latest(workflow_name=WORKFLOW)
    return run.annotate(tags={"by": "other"})


async def annotates_unknown(storage: EventCheckpointStorage) -> Any:
    return storage.for_run("r", workflow_name=WORKFLOW).annotate(tags={"by": "other"})


async def claims(storage: EventCheckpointStorage) -> Any:
    async def taken() -> None:
        async with storage.for_run("r", workflow_name=WORKFLOW).claim():
            pass

    return taken()


async def prunes(storage: EventCheckpointStorage) -> Any:
    assert isinstance(storage.store, AuditStore)
    audit = CheckpointAudit(storage.store)
    [plan] = [plan async for plan in audit.plan_prune([RUN], keep=1)]

    async def pruned() -> None:
        with suppress(CheckpointConflictError):
            await audit.prune(plan)

    return pruned()


BESIDE = [annotates_known, annotates_unknown, claims, prunes]


async def survives(emulator: CosmosEmulator, acts: Any, *, said_before: bool, at: int = 0) -> bool:
    """Whether what one process said of a run is in force after another acted, which has seen the run as it was before:
    its request number `at` is held until then; False where it asks for no more than that."""
    held, go, asked = asyncio.Event(), asyncio.Event(), 0

    def is_it(call: object) -> bool:
        nonlocal asked
        asked += 1
        if asked == at:
            held.set()
        return asked == at

    one, two, three = (CosmosEventStore(**cosmos(emulator)) for _ in range(3))
    async with one, two, three:
        says = EventCheckpointStorage(one).for_run("r")
        await chain_of(says, 3)
        if said_before:
            await says.annotate(tags={"by": "nobody"})
        emulator.catch_up()
        act = await acts(EventCheckpointStorage(two))
        if at:
            with emulator.faults.delay(until=go, where=is_it):
                acting = asyncio.ensure_future(act)
                holding = asyncio.ensure_future(held.wait())
                await asyncio.wait({acting, holding}, return_when=asyncio.FIRST_COMPLETED)
                holding.cancel()
                if held.is_set():
                    await says.annotate(tags={"customer": "c-17"}, hold=True)
                go.set()
                await acting
        else:
            await says.annotate(tags={"customer": "c-17"}, hold=True)
            await act
        emulator.catch_up()
        if at and not held.is_set():
            return False
        info = await info_of(three)
        assert info.hold
        assert info.tags["customer"] == "c-17"
        await EventCheckpointStorage(three).for_run("r", workflow_name=WORKFLOW).annotate(tags={"and": "then"})
        assert (await info_of(three)).tags.items() >= {"customer": "c-17", "and": "then"}.items()
    return True


@pytest.mark.parametrize("said_before", [True, False], ids=["said before", "not said before"])
@pytest.mark.parametrize("acts", BESIDE)
async def test_what_is_said_between_any_two_requests_of_another_stays_in_force(acts: Any, said_before: bool) -> None:
    at = 1
    while True:
        async with CosmosEmulator() as emulator:
            if not await survives(emulator, acts, said_before=said_before, at=at):
                break
        at += 1
    assert at > 3


@pytest.mark.parametrize("said_before", [True, False], ids=["said before", "not said before"])
@pytest.mark.parametrize("acts", BESIDE)
async def test_what_was_said_a_moment_ago_stays_in_force_where_replicas_lag(acts: Any, said_before: bool) -> None:
    for seed in range(10):
        switches = Switches(lag=0.5, lag_seconds=3600, seed=seed, clients_wait=True)
        async with CosmosEmulator(switches=switches) as emulator:
            await survives(emulator, acts, said_before=said_before)
