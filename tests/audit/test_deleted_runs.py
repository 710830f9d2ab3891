"""What is told of runs that were removed as a whole: by `verify`, whatever became of a removal and its records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage
from eventckpt.audit import Removed
from eventckpt.chain import sealed
from eventckpt.errors import CheckpointStoreError
from eventckpt.stores import AuditStore
from projections import LatestProjection

from ..cli.conftest import WORKFLOW
from ..engines import Engine, SqliteEngine
from .deleting import REMOVALS_OF, CutOff, Logs, changed, delete, logs, opened, problems, saved, stream


async def removed(store: AuditStore, run_id: str) -> Removed:
    """What a verification of a run, and the audit, say of its removal."""
    audit = CheckpointAudit(store)
    verdict, said = await audit.verify(stream(run_id)), await audit.removed(stream(run_id))
    assert verdict.ok
    assert verdict.removed is not None
    assert verdict.removed == said
    return verdict.removed


async def test_who_removed_a_run_is_told_and_when_and_why_and_into_which_archive(engine: Engine) -> None:
    await saved(engine, "a", "b", "c")
    store = opened(engine)
    said = {"reason": "done for 30 days", "archive": "2026-11.jsonl", "archive_sha256": "ab" * 32}
    assert await delete(store, "a", "b", **said) == ["removed", "removed"]
    engine.settle()
    store = opened(engine)
    assert await problems(store) == []
    a, b = await removed(store, "a"), await removed(store, "b")
    assert (a.stream, a.seq, a.actor, a.told_at, a.left) == (stream("a"), 4, "Ada", 1, 0)
    assert a.recorded_at
    assert (b.reason, b.archive, b.archive_sha256) == tuple(said.values())
    assert await CheckpointAudit(store).removed(stream("c")) is None
    assert (await CheckpointAudit(store).verify(stream("c"))).removed is None


async def test_a_run_that_was_begun_again_is_whole_and_each_of_its_removals_is_told_of(engine: Engine) -> None:
    for number in range(3):
        await saved(engine, "a", first=number * 3)
        engine.settle()
        assert await delete(opened(engine), "a", reason=f"reason {number}") == ["removed"]
    engine.settle()
    last = await removed(opened(engine), "a")
    assert (last.seq, last.told_at, last.reason) == (12, 3, "reason 2")
    await saved(engine, "a", first=9)
    engine.settle()
    assert await problems(opened(engine)) == []
    assert await removed(opened(engine), "a") == last


@pytest.mark.parametrize("before_telling", [True, False])
async def test_a_removal_that_was_cut_off_is_no_damage_and_deleting_again_finishes_it(
    engine: Engine, before_telling: bool
) -> None:
    await saved(engine, "a", "b")
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=before_telling), "a")
    engine.settle()
    store = opened(engine)
    assert await problems(store) == []
    half = await removed(store, "a")
    assert (half.left, half.told_at) == (3, 0 if before_telling else 1)
    [plan] = [plan async for plan in CheckpointAudit(store).plan_delete([stream("a")])]
    assert (plan.events, plan.goes_on, plan.refused) == (3, True, "")
    assert await delete(store, "a", actor="Bob", reason="again") == ["removed"]
    whole = await removed(store, "a")
    assert (whole.left, whole.actor) == (0, "Ada"), "it is who closed it"
    assert whole.told_at > 0
    assert await problems(store) == []


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("before_telling", [True, False])
async def test_what_a_removal_has_left_goes_first_where_the_run_was_begun_again_and_then_that_is_judged_by_itself(
    engine: Engine, before_telling: bool, ended: bool
) -> None:
    await saved(engine, "a")
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=before_telling), "a")
    engine.settle()
    await saved(engine, "a", first=3, steps=2)
    if not ended:
        await EventCheckpointStorage(opened(engine)).for_run("a", workflow_name=WORKFLOW).annotate(hold=True)
    engine.settle()
    audit = CheckpointAudit(opened(engine))
    [plan] = [plan async for plan in audit.plan_delete([stream("a")])]
    assert (plan.events, plan.goes_on, bool(plan.refused)) == ((6, False, False) if ended else (3, True, True))
    assert [(each.state, each.events) async for each in audit.delete([plan])] == [("removed", plan.events)]
    engine.settle()
    seqs = [header.seq async for header in opened(engine).headers(stream("a"))]
    assert seqs == ([7] if ended else [4, 5, 6, 7])
    left = await removed(opened(engine), "a")
    assert (left.seq, left.left, left.told_at > 0) == (seqs[0], 0, True)
    assert await problems(opened(engine)) == []


async def test_a_prune_leaves_a_run_alone_whose_removal_was_cut_off_before_it_was_told_of(engine: Engine) -> None:
    await saved(engine, "a", "b")
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=True), "a")
    engine.settle()
    store = opened(engine)
    audit = CheckpointAudit(store)
    plans = {plan.stream.run_id: plan async for plan in audit.plan_prune(keep=0)}
    assert plans["a"].seqs == ()
    assert "delete it again" in plans["a"].refused
    await delete(store, "a")
    [plan] = [plan async for plan in audit.plan_prune([stream("a")], keep=0)]
    assert (plan.seqs, plan.refused) == ((), "")


async def test_a_prune_keeps_the_record_behind_which_a_run_was_begun_again(engine: Engine) -> None:
    await saved(engine, "a")
    await delete(opened(engine), "a")
    await saved(engine, "a", first=3)
    engine.settle()
    store = opened(engine)
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune([stream("a")], keep=0)]
    assert await audit.prune(plan) == 3
    assert [header.seq async for header in store.headers(stream("a"))] == [4, 8]
    assert await problems(store) == []
    assert (await removed(store, "a")).seq == 4


async def test_a_run_is_planned_for_as_it_stands(engine: Engine) -> None:
    await saved(engine, "ended", "held", "gone")
    storage = engine.storage()
    await storage.for_run("held", workflow_name="orders").annotate(hold=True)
    await delete(opened(engine), "gone")
    engine.settle()
    store = opened(engine)
    audit = CheckpointAudit(store)
    plans = {plan.stream.run_id: plan async for plan in audit.plan_delete()}
    assert set(plans) == {"ended", "held", "gone"}
    assert (plans["ended"].events, plans["ended"].refused) == (3, "")
    assert plans["ended"].stored_size == sum(
        [header.payload.stored_size async for header in store.headers(stream("ended")) if header.payload]
    )
    assert "on hold" in plans["held"].refused
    assert plans["gone"].events == 0
    assert [plan async for plan in audit.plan_delete([stream("nobody")])] == []


async def test_what_was_written_to_since_the_plan_is_left_alone(engine: Engine) -> None:
    await saved(engine, "a", "b")
    store = opened(engine)
    audit = CheckpointAudit(store)
    plans = [plan async for plan in audit.plan_delete()]
    await saved(engine, "a", first=3, steps=1)
    engine.settle()
    outcomes = {each.stream.run_id: each async for each in audit.delete(plans)}
    assert outcomes["b"].state == "removed"
    refusal = outcomes["a"].refusal
    assert refusal is not None
    assert refusal.kind == "moved"
    assert (await audit.verify(stream("a"))).removed is None


# Who forges and cuts


def without(log: list[CheckpointEvent], *seqs: int) -> list[CheckpointEvent]:
    return [event for event in log if event.seq not in seqs]


def naming(log: list[CheckpointEvent], at: int, /, **fields: Any) -> list[CheckpointEvent]:
    """The removals, where one of them tells of its first run something else."""
    removal = log[at - 1].removal
    assert removal is not None
    first = msgspec.structs.replace(removal.runs[0], **fields)
    return changed(log, at, removal=msgspec.structs.replace(removal, runs=(first, *removal.runs[1:])))


Forge = Callable[[Logs], None]


def forge_removals(change: Callable[[list[CheckpointEvent]], list[CheckpointEvent]]) -> Forge:
    def apply(all_logs: Logs) -> None:
        all_logs[REMOVALS_OF] = change(all_logs[REMOVALS_OF])

    return apply


def forge_run(run_id: str, change: Callable[[list[CheckpointEvent]], list[CheckpointEvent]]) -> Forge:
    def apply(all_logs: Logs) -> None:
        all_logs[stream(run_id)] = change(all_logs[stream(run_id)])
        if not all_logs[stream(run_id)]:
            del all_logs[stream(run_id)]

    return apply


def misplace(all_logs: Logs) -> None:
    """A removal among the events of a run."""
    run = all_logs[stream("kept")]
    removal = all_logs[REMOVALS_OF][0].removal
    event = msgspec.structs.replace(all_logs[REMOVALS_OF][0], run_id="kept", seq=len(run) + 1, removal=removal)
    run.append(sealed(msgspec.structs.replace(event, previous_digest=run[-1].digest)))


def mislead(all_logs: Logs) -> None:
    """An event of a run among the removals."""
    log, first = all_logs[REMOVALS_OF], all_logs[stream("kept")][0]
    log.append(sealed(msgspec.structs.replace(first, run_id="", seq=len(log) + 1, previous_digest=log[-1].digest)))


def pruned_otherwise(log: list[CheckpointEvent], **ends: Any) -> list[CheckpointEvent]:
    """A run whose record closes over its closing record too, which is not there any more."""
    closing, head = log[0], log[-1]
    till_closing = msgspec.structs.replace(closing.pruned[0], last=closing.seq, digest=closing.digest)
    till_closing = msgspec.structs.replace(till_closing, **ends)
    rest = head.pruned[-1]
    return changed(log[1:], head.seq, pruned=(till_closing, rest))


def cut_short(log: list[CheckpointEvent]) -> list[CheckpointEvent]:
    """A closing record that does not cover all that was before it, of which nothing is there any more."""
    [gone] = log[-1].pruned
    return changed(log, log[-1].seq, pruned=(msgspec.structs.replace(gone, first=2),))


FORGED: Final[dict[str, tuple[Forge, list[tuple[str, int, str]]]]] = {
    "the first removal is gone": (
        forge_removals(lambda log: without(log, 1)),
        [("", 1, "missing"), ("a", 4, "removal")],
    ),
    "the last removal is gone": (forge_removals(lambda log: without(log, 3)), [("c", 4, "removal")]),
    "all that tells of removals is gone": (
        lambda all_logs: all_logs.pop(REMOVALS_OF),
        [("a", 4, "removal"), ("b", 4, "removal"), ("c", 4, "removal")],
    ),
    "a removal in the middle is gone": (
        forge_removals(lambda log: without(log, 2)),
        [("", 2, "missing"), ("b", 4, "removal")],
    ),
    "a removal is another one": (
        forge_removals(lambda log: [*log[:1], *changed(log[1:2], 2, actor="Eve"), *log[2:]]),
        [("", 3, "reordered")],
    ),
    "a removal tells of another closing record": (
        forge_removals(lambda log: naming(log, 1, digest="0" * 64)),
        [("a", 4, "removal")],
    ),
    "a removal tells of a seq that closes nothing": (
        forge_removals(lambda log: naming(log, 1, seq=3)),
        [("a", 4, "removal")],
    ),
    "a removal tells of a run that was never there": (
        forge_removals(lambda log: naming(log, 3, run_id="nobody")),
        [("", 3, "missing"), ("c", 4, "removal")],
    ),
    "a removal tells of a seq that no event has": (
        forge_removals(lambda log: naming(log, 2, seq=1 << 50)),
        [("", 2, "missing"), ("b", 4, "removal")],
    ),
    "nothing of a removed run is there": (forge_run("b", lambda _: []), [("", 2, "missing")]),
    "a removed run's closing record is another one": (
        forge_run("b", lambda log: changed(log, 4, actor="Eve")),
        [("b", 4, "removal")],
    ),
    "a closing record closes nothing": (
        forge_run("b", lambda log: changed(log, 4, closes=False)),
        [("", 2, "removal")],
    ),
    "a closing record does not cover the run": (
        forge_run("b", cut_short),
        [("b", 1, "missing"), ("b", 4, "removal"), ("b", 4, "removal")],
    ),
    "a removal lies in a run": (misplace, [("kept", 4, "stray")]),
    "an event of a run lies among the removals": (mislead, [("", 4, "stray")]),
    "what was begun again was pruned by another version, whose record tells of another removal": (
        forge_run("c", lambda log: pruned_otherwise(log, digest="0" * 64)),
        [("c", 8, "reordered")],
    ),
    "what was begun again was pruned by another version": (forge_run("c", lambda log: pruned_otherwise(log)), []),
}


@pytest.fixture
async def honest(tmp_path: Path) -> AsyncIterator[Logs]:
    """What is there after three removals, of three runs; the last was begun again, and pruned. Another is kept."""
    engine = SqliteEngine(tmp_path / "honest.db")
    store = opened(engine)
    await saved(engine, "a", "b", "c", "kept")
    for run_id in ("a", "b", "c"):
        assert await delete(store, run_id) == ["removed"]
    await saved(engine, "c", first=3)
    audit = CheckpointAudit(store)
    async for plan in audit.plan_prune([stream("c")], keep=0):
        await audit.prune(plan)
    yield await logs(store)
    await engine.close()


async def kept(engine: Engine, all_logs: Logs) -> AuditStore:
    """A store with these logs."""
    store = opened(engine)
    for log in all_logs.values():
        await store.put(log[0].stream, log)
    engine.settle()
    return store


@pytest.mark.parametrize("what", FORGED)
async def test_whoever_forges_or_cuts_what_tells_of_removals_is_found(engine: Engine, honest: Logs, what: str) -> None:
    forge, found = FORGED[what]
    forge(honest)
    assert sorted(await problems(await kept(engine, honest))) == sorted(found)


async def test_what_nobody_forged_is_whole(engine: Engine, honest: Logs) -> None:
    store = await kept(engine, honest)
    assert await problems(store) == []
    assert {
        each.run_id: (await removed(store, each.run_id)).told_at
        for each in honest
        if each.run_id in "abc" and each.is_run
    } == {
        "a": 1,
        "b": 2,
        "c": 3,
    }


async def test_a_removed_run_that_no_removal_tells_of_is_told_of_once_it_is_deleted_again(
    engine: Engine, honest: Logs
) -> None:
    """As after an import of that run alone, or a cut of what told of it."""
    honest[REMOVALS_OF] = without(honest[REMOVALS_OF], 2, 3)
    del honest[stream("c")]
    store = await kept(engine, honest)
    verdict = await CheckpointAudit(store).verify(stream("b"))
    assert verdict.removed is not None
    assert (verdict.removed.told_at, verdict.removed.left, verdict.removed.actor) == (0, 0, "Ada")
    assert ["delete it again to have it told" in problem.detail for problem in verdict.problems] == [True]
    plans = {plan.stream.run_id: plan async for plan in CheckpointAudit(store).plan_delete()}
    assert {run_id: (plan.events, plan.untold) for run_id, plan in plans.items()} == {
        "a": (0, False),
        "b": (0, True),
        "kept": (3, False),
    }
    assert await delete(store, "a", "b", actor="Bob") == ["removed before"] * 2
    assert await problems(store) == []
    assert ((await removed(store, "a")).told_at, (await removed(store, "b")).told_at) == (1, 2)
    before = await logs(store)
    assert await delete(store, "a", "b") == ["removed before"] * 2
    assert await logs(store) == before, "what is told of is not told again"


async def test_the_life_that_began_since_stays_where_only_the_removal_before_it_is_told_of(
    engine: Engine, honest: Logs
) -> None:
    store = await kept(engine, {stream("c"): honest[stream("c")]})
    run = EventCheckpointStorage(store).for_run("c", workflow_name="orders")
    await run.get_latest(workflow_name="orders")
    await run.save(WorkflowCheckpoint("orders", "g", checkpoint_id="more"))
    engine.settle()
    assert await problems(store) == [("c", 4, "removal")]
    [plan] = [plan async for plan in CheckpointAudit(store).plan_delete()]
    assert (plan.events, plan.untold, "is open" in plan.refused) == (0, True, True)
    assert await delete(store, "c") == ["removed before"]
    assert await problems(store) == []
    assert await run.list_checkpoint_ids(workflow_name="orders") == ["more"]


async def test_a_fork_of_a_removed_run_is_whole(engine: Engine) -> None:
    await saved(engine, "a")
    store = opened(engine)
    audit = CheckpointAudit(store)
    await audit.fork(await audit.event("a@2"), "fork")
    await delete(store, "a")
    engine.settle()
    assert await problems(opened(engine)) == []
    forked = await audit.at(stream("fork"))
    assert (await audit.checkpoint(forked)).state["step"] == 1


async def test_the_documents_of_removed_runs_are_held_against_what_is_left_of_them(engine: Engine) -> None:
    await saved(engine, "a", "b")
    store = opened(engine)
    for log in (await logs(store)).values():
        await LatestProjection(store).apply(log)
    await delete(store, "a")

    async def said() -> dict[str, list[str]]:
        verdicts = [each async for each in CheckpointAudit(store).verify_all(projection=True)]
        return {each.stream.run_id: [bad.detail for bad in each.problems] for each in verdicts}

    assert await said() == {"": [], "a": [], "b": []}, "one that lags is no problem"
    for log in (await logs(store)).values():
        await LatestProjection(store).apply(log)
    assert await said() == {"": [], "a": [], "b": []}
