"""Runs that are removed as a whole: what is left, what is told, what is refused, and who may use their ids again."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

import pytest
from agent_framework import WorkflowEvent

from eventckpt import (
    AmbiguousNameError,
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    ClaimLostError,
    EventCheckpointStorage,
    RunCheckpointStorage,
    RunClaimedError,
    RunNotFoundError,
    RunNotRemovedError,
    StreamId,
)
from eventckpt.storage.removing import ToRemove, not_removed, remove_runs
from eventckpt.stores import head_of

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint, history
from .lost_store import Gate, LostStore
from .removed import REMOVED, audited, begun, is_finished, latest, remove, told

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)

PADDING: Final = random.Random(1).randbytes(3000).hex()
"""So large that what follows is stored as a delta."""


def run_of(engine: Engine, run_id: str = "r", **options: Any) -> RunCheckpointStorage:
    engine.settle()
    return engine.storage(**options).for_run(run_id, workflow_name=WORKFLOW)


# What is left


async def test_a_removed_run_is_in_no_answer_of_any_process(engine: Engine) -> None:
    await begun(engine, "r", "other")
    remover, before = engine.storage(), engine.storage()
    assert await latest(before.for_run("r", workflow_name=WORKFLOW)) == "r3"
    assert await remover.delete_run("r")
    engine.settle()
    for storage in (remover, before, engine.storage()):
        run = storage.for_run("r", workflow_name=WORKFLOW)
        assert await latest(run) is None
        assert await run.list_checkpoints(workflow_name=WORKFLOW) == []
        assert await run.list_checkpoint_ids(workflow_name=WORKFLOW) == []
        assert await storage.list_checkpoint_ids(workflow_name=WORKFLOW) == ["other1", "other2", "other3"]
        found = await storage.get_latest(workflow_name=WORKFLOW)
        assert found is not None
        assert found.checkpoint_id == "other3"
        for through in (run, storage):
            with pytest.raises(CheckpointNotFoundError):
                await through.load("r2")
            assert not await through.delete("r2")


async def test_what_is_left_is_the_record_that_closes_it_and_one_event_of_the_workflow_tells_of_all(
    engine: Engine,
) -> None:
    await begun(engine, "a", "b", "c")
    removals = await remove(audited(engine), "a", "c", "never was")
    assert [(each.state, each.events) for each in removals] == [("removed", 4), ("removed", 4), ("missing", 0)]
    assert all(each.stored_size > 0 for each in removals[:2])
    assert await is_finished(engine, ["a", "c"])
    [event] = await history(audited(engine), REMOVED.run_id)
    records = [each.record for each in removals[:2]]
    assert event.removal is not None
    assert [(each.run_id, each.seq, each.digest) for each in event.removal.runs] == [
        (record.run_id, record.seq, record.digest) for record in records if record is not None
    ]
    assert (event.removal.reason, event.actor) == ("over", "ann")
    assert len(await history(audited(engine), "b")) == 4


async def test_removing_again_removes_nothing_and_tells_nothing(engine: Engine) -> None:
    await begun(engine, "r")
    storage = engine.storage()
    assert await storage.delete_run("r", workflow_name=WORKFLOW)
    engine.settle()
    assert not await storage.delete_run("r", workflow_name=WORKFLOW)
    assert not await storage.delete_run("r")
    assert not await storage.delete_run("never was")
    assert [each.state for each in await remove(audited(engine), "r")] == ["removed before"]
    assert len(await told(engine)) == 1


async def test_runs_of_several_workflows_are_told_of_in_their_own(engine: Engine) -> None:
    storage = engine.storage()
    for workflow in ("a", "b"):
        await storage.for_run("r").save(checkpoint(workflow_name=workflow, checkpoint_id=f"in {workflow}"))
    engine.settle()
    with pytest.raises(AmbiguousNameError, match="workflow_name") as error:
        await storage.delete_run("r", force=True)
    assert error.value.candidates == ["a", "b"]
    assert await storage.delete_run("r", workflow_name="b", force=True)
    engine.settle()
    assert await storage.list_checkpoint_ids(workflow_name="a") == ["in a"]
    assert await storage.list_checkpoint_ids(workflow_name="b") == []
    for removes in (True, False):  # what was removed is not meant
        assert await engine.storage().delete_run("r", force=True) is removes
        engine.settle()
    assert await storage.list_checkpoint_ids(workflow_name="a") == []


@pytest.mark.parametrize("removed_before", [0, 1, 2])
async def test_a_run_that_a_prune_emptied_is_closed_too_whatever_became_of_its_lives_before(
    engine: Engine, removed_before: int
) -> None:
    for _ in range(removed_before):
        await begun(engine, "r")
        await remove(audited(engine), "r")
    run = run_of(engine)
    await latest(run)
    await run.save(checkpoint(checkpoint_id="r3"))
    stale = run_of(engine)
    await stale.load("r3")
    await pruned_to_nothing(engine)
    assert [each.state for each in await remove(audited(engine), "r")] == ["removed"]
    assert await is_finished(engine, ["r"])
    await stale.save(checkpoint(checkpoint_id="stale"))
    assert stale.forked_to == "r~stale"


async def pruned_to_nothing(engine: Engine) -> None:
    audit = CheckpointAudit(audited(engine))
    for plan in [plan async for plan in audit.plan_prune([StreamId(WORKFLOW, "r")], keep=0)]:
        await audit.prune(plan)


# What is refused


async def waits(run: RunCheckpointStorage) -> None:
    asked = WorkflowEvent.request_info("q", "clerk", "may we?", bool)
    await run.save(checkpoint(checkpoint_id="asks", pending_request_info_events={"q": asked}))


async def is_open(run: RunCheckpointStorage) -> None:
    await run.save(checkpoint(checkpoint_id="goes on"))


@pytest.mark.parametrize(("stands", "said"), [(waits, "waits for 1 answers"), (is_open, "is open, and nothing says")])
async def test_what_has_not_ended_is_left_alone_unless_it_is_forced(
    engine: Engine, stands: Callable[[RunCheckpointStorage], Coroutine[Any, Any, None]], said: str
) -> None:
    await stands(run_of(engine))
    engine.settle()
    storage = engine.storage()
    with pytest.raises(RunNotRemovedError, match=said) as error:
        await storage.delete_run("r")
    assert (error.value.kind, error.value.stream) == ("unfinished", StreamId(WORKFLOW, "r"))
    assert len(await history(audited(engine), "r")) == 1
    assert await storage.delete_run("r", force=True)
    assert await is_finished(engine, ["r"])


@pytest.mark.parametrize("outcome", ["done", "failed", "cancelled"])
async def test_what_has_ended_is_removed_however_it_ended(engine: Engine, outcome: Any) -> None:
    run = run_of(engine)
    await waits(run)
    await run.annotate(outcome=outcome)
    assert await run.delete_run()
    assert await is_finished(engine, ["r"])


async def test_a_hold_is_overridden_by_nothing(engine: Engine) -> None:
    await begun(engine, "r", "other")
    run = run_of(engine)
    await run.annotate(hold=True)
    engine.settle()
    for force in (False, True):
        with pytest.raises(RunNotRemovedError, match="on hold") as error:
            await run.delete_run(force=force)
        assert error.value.kind == "held"
    states = [each.state for each in await remove(audited(engine), "r", "other", force=True)]
    assert states == ["refused", "removed"]
    assert [each.run_id for each in await told(engine)] == ["other"]
    assert await latest(run_of(engine)) == "r3"
    await run.annotate(hold=False, outcome="done")
    assert await run.delete_run()


async def test_a_claim_that_is_held_is_overridden_by_nothing(engine: Engine) -> None:
    await begun(engine, "r")
    holder = run_of(engine, actor="bob")
    async with holder.claim():
        engine.settle()
        for storage in (engine.storage(), EventCheckpointStorage(engine.open())):
            with pytest.raises(RunClaimedError, match="claimed by bob"):
                await storage.delete_run("r", force=True)
        [removal] = await remove(audited(engine), "r", force=True)
        assert removal.refusal is not None
        assert removal.refusal.kind == "claimed"
        assert isinstance(not_removed(removal), RunClaimedError)
    engine.settle()
    assert await engine.storage().delete_run("r")


async def test_whoever_holds_the_claim_removes_the_run_and_may_begin_it_again_until_the_claim_ends(
    engine: Engine,
) -> None:
    await begun(engine, "r")
    holder = run_of(engine, actor="bob")
    async with holder.claim():
        await latest(holder)
        await holder.save(checkpoint(checkpoint_id="mine"))
        assert await holder.delete_run(force=True)
        assert await is_finished(engine, ["r"])
        with pytest.raises(RunNotFoundError):
            async with run_of(engine).claim():
                pass
        await holder.save(checkpoint(checkpoint_id="again"))
        engine.settle()
        with pytest.raises(RunClaimedError, match="claimed by bob"):
            await engine.storage().delete_run("r", force=True)
        assert await holder.delete_run(force=True)
    assert await is_finished(engine, ["r"])
    await run_of(engine).save(checkpoint(checkpoint_id="anybody's"))
    assert await latest(run_of(engine)) == "anybody's"


async def test_whoever_has_lost_the_claim_removes_nothing_by_it(engine: Engine) -> None:
    await begun(engine, "r")
    holder = run_of(engine)

    async def loses() -> None:
        async with holder.claim() as claim:
            claim.lose("others have it")
            with pytest.raises(ClaimLostError, match="others have it"):
                await holder.delete_run(force=True)

    with pytest.raises(ClaimLostError):
        await loses()
    assert await latest(run_of(engine)) == "r3"


async def test_a_run_that_was_written_to_since_it_was_planned_for_is_left_alone(engine: Engine) -> None:
    await begun(engine, "r")
    store = audited(engine)
    head = await head_of(store, StreamId(WORKFLOW, "r"))
    assert head is not None
    await run_of(engine).annotate(tags={"more": "said"})
    engine.settle()

    async def planned() -> AsyncGenerator[ToRemove]:
        yield ToRemove(StreamId(WORKFLOW, "r"), head.digest)

    [removal] = [each async for each in remove_runs(store, planned(), actor=None)]
    error = not_removed(removal)
    assert isinstance(error, RunNotRemovedError)
    assert (error.kind, str(error)) == ("moved", str(error))
    assert "ends with seq 5 now" in str(error)
    assert await told(engine) == []


async def test_an_engine_that_cannot_remove_says_so(engine: Engine) -> None:
    await begun(engine, "r")
    storage = EventCheckpointStorage(LostStore(engine.open(), Gate()))
    for workflow_name in (None, WORKFLOW):
        with pytest.raises(CheckpointStoreError, match="LostStore cannot remove events"):
            await storage.delete_run("r", workflow_name=workflow_name)
    assert await latest(run_of(engine)) == "r3"


async def test_what_is_no_argument_of_a_removal_is_said(engine: Engine) -> None:
    storage = engine.storage()
    for run_id, workflow_name in (("", None), ("r", ""), ("x" * 256, WORKFLOW)):
        with pytest.raises(ValueError, match=r"run id|workflow_name"):
            await storage.delete_run(run_id, workflow_name=workflow_name)
    with pytest.raises(TypeError, match="force"):
        await storage.delete_run("r", workflow_name=WORKFLOW, force="yes")  # pyright: ignore[reportArgumentType] - no flag
    with pytest.raises(ValueError, match="nothing was removed of it"):
        await storage.for_run("r").delete_run()
    with pytest.raises(ValueError, match="reason"):
        [each async for each in remove_runs(audited(engine), _none(), actor=None, reason="x" * 1_001)]


async def _none() -> AsyncGenerator[ToRemove]:
    return
    yield


# Who remembers, and who does not


async def loaded(run: RunCheckpointStorage) -> None:
    await run.load("r2")


async def read(run: RunCheckpointStorage) -> None:
    assert await latest(run) == "r3"


async def written(run: RunCheckpointStorage) -> None:
    await read(run)
    await run.save(checkpoint(checkpoint_id="mine"))


async def removed(engine: Engine) -> None:
    assert await engine.storage().delete_run("r", force=True)


async def removed_and_begun_again(engine: Engine) -> None:
    await removed(engine)
    await run_of(engine).save(checkpoint(checkpoint_id="new"))


async def removed_begun_again_and_pruned(engine: Engine) -> None:
    await removed_and_begun_again(engine)
    engine.settle()
    run = run_of(engine)
    await run.load("new")
    await run.delete("new")
    await run.save(checkpoint(checkpoint_id="newer"))
    await pruned_to_nothing(engine)


async def removed_twice(engine: Engine) -> None:
    await removed_and_begun_again(engine)
    engine.settle()
    await removed(engine)


GONE: Final = [removed, removed_and_begun_again, removed_begun_again_and_pruned, removed_twice]


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("sees", [loaded, read, written])
async def test_whoever_has_seen_the_run_meets_a_conflict_whatever_lies_there_now(
    engine: Engine,
    sees: Callable[[RunCheckpointStorage], Coroutine[Any, Any, None]],
    gone: Callable[[Engine], Coroutine[Any, Any, None]],
) -> None:
    await begun(engine, "r")
    forks, raises = run_of(engine), run_of(engine, on_conflict="raise")
    await loaded(raises)
    await sees(forks)
    engine.settle()
    await gone(engine)
    engine.settle()
    before = await history(audited(engine), "r")
    with pytest.raises(CheckpointConflictError, match="was removed as a whole since") as error:
        await raises.save(checkpoint(checkpoint_id="raised"))
    assert "Call get_latest, and begin the run again" in str(error.value)
    await forks.save(checkpoint(checkpoint_id="stale"))
    assert forks.forked_to == "r~stale"
    assert await history(audited(engine), "r") == before
    assert await latest(run_of(engine, "r~stale")) == "stale"
    assert all([each.ok async for each in CheckpointAudit(audited(engine)).verify_all(decode=True)])


@pytest.mark.parametrize("same_handle", [True, False])
@pytest.mark.parametrize("by_itself", [True, False])
async def test_a_lineage_has_seen_what_it_follows_whoever_removed_that(
    engine: Engine, by_itself: bool, same_handle: bool
) -> None:
    storage = engine.storage()
    run = storage.for_run("r", workflow_name=WORKFLOW)
    first = checkpoint(checkpoint_id="first")
    await run.save(first)
    engine.settle()
    assert await (storage if by_itself else engine.storage()).delete_run("r", force=True)
    engine.settle()
    follower = run if same_handle else storage.for_run("r", workflow_name=WORKFLOW)
    await follower.save(checkpoint(first, checkpoint_id="second"))
    assert follower.forked_to == "r~second"
    assert await is_finished(engine, ["r"])


async def test_a_fork_whose_names_were_used_up_by_removed_ones_has_another_name(engine: Engine) -> None:
    await begun(engine, "r")
    names: list[str | None] = []
    for number in range(4):
        behind, first = run_of(engine), run_of(engine)
        last = await behind.load("r3")
        assert await latest(first) in ("r3", f"first{number - 1}")
        await first.save(checkpoint(checkpoint_id=f"first{number}"))
        engine.settle()
        await behind.save(checkpoint(last, checkpoint_id="the-same-again", state={"number": number}))
        names.append(behind.forked_to)
        engine.settle()
        assert await latest(run_of(engine, str(behind.forked_to))) == "the-same-again"
        assert await engine.storage().delete_run(str(behind.forked_to), force=True)
    assert names == ["r~the-same", "r~the-same-again", "r~the-same-2", "r~the-same-3"]


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("same_storage", [True, False])
async def test_whoever_has_seen_nothing_of_it_or_reads_since_begins_it_again_behind_the_record(
    engine: Engine, same_storage: bool, reads: bool
) -> None:
    await begun(engine, "r")
    storage = engine.storage()
    before = storage.for_run("r", workflow_name=WORKFLOW)
    assert await latest(before) == "r3"
    assert await storage.delete_run("r")
    engine.settle()
    run = before if reads and same_storage else (storage if same_storage else engine.storage()).for_run("r")
    if reads:
        assert await latest(run) is None
    await run.save(checkpoint(checkpoint_id="r1", state={"again": True}))
    assert run.forked_to is None
    engine.settle()
    assert [(each.seq, each.checkpoint_id) for each in await history(audited(engine), "r")] == [(5, ""), (6, "r1")]
    assert (await run_of(engine).load("r1")).state == {"again": True}
    with pytest.raises(RunNotRemovedError, match="is open"):
        await engine.storage().delete_run("r")
    assert await engine.storage().delete_run("r", force=True)
    assert await is_finished(engine, ["r"])
    assert [each.seq for each in await told(engine)] == [5, 7]


async def test_whoever_removes_a_run_through_its_handle_begins_it_again(engine: Engine) -> None:
    run = run_of(engine, on_conflict="raise")
    for number in range(3):
        await run.save(checkpoint(checkpoint_id=f"c{number}", state={"padding": PADDING}))
        engine.settle()
        assert await run.delete_run(force=True)
    await run.save(checkpoint(checkpoint_id="c0", state={"padding": PADDING}))
    assert await latest(run_of(engine)) == "c0"


async def test_no_delta_rests_on_what_was_removed(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run("r", workflow_name=WORKFLOW)
    first = checkpoint(checkpoint_id="first", state={"padding": PADDING})
    await run.save(first)
    await run.save(checkpoint(first, checkpoint_id="second", state={"padding": PADDING, "more": 1}))
    [_, delta] = await history(audited(engine), "r")
    assert delta.payload is not None
    assert delta.payload.bases == (1,)
    await removed(engine)
    engine.settle()
    assert await latest(run) is None
    await run.save(checkpoint(first, checkpoint_id="third", state={"padding": PADDING, "more": 2}))
    engine.settle()
    assert (await run_of(engine).load("third")).state["more"] == 2


async def test_a_fork_stays_whole_when_the_run_that_it_came_from_is_removed(engine: Engine) -> None:
    await begun(engine, "r")
    fork = engine.storage().for_run("fork", workflow_name=WORKFLOW)
    origin = await fork.load("r2")
    await fork.save(checkpoint(origin, checkpoint_id="forked", state={"padding": PADDING}))
    engine.settle()
    await removed(engine)
    engine.settle()
    assert (await run_of(engine, "fork").load("forked")).state == {"padding": PADDING}
    last = await fork.get_latest(workflow_name=WORKFLOW)
    await fork.save(checkpoint(last, checkpoint_id="goes on"))
    assert await latest(run_of(engine, "fork")) == "goes on"


async def test_nothing_is_said_about_a_removed_run_and_nobody_claims_it(engine: Engine) -> None:
    await begun(engine, "r")
    stale = run_of(engine)
    await loaded(stale)
    await removed(engine)
    engine.settle()
    before = await history(audited(engine), "r")
    for run in (stale, run_of(engine)):
        with pytest.raises(RunNotFoundError):
            await run.annotate(tags={"a": "b"})
        with pytest.raises(RunNotFoundError):
            async with run.claim():
                pass
        async with run.recording():
            pass
        with pytest.raises(ZeroDivisionError):
            async with run.recording():
                raise ZeroDivisionError
    assert await history(audited(engine), "r") == before
    await run_of(engine).save(checkpoint(checkpoint_id="new"))
    engine.settle()
    async with run_of(engine).claim():
        pass
    assert await run_of(engine).annotate(tags={"a": "b"}) == 8


# Other storages


async def test_a_lineage_of_an_unbound_storage_that_remembers_the_run_forks(engine: Engine) -> None:
    storage = engine.storage()
    first = checkpoint(checkpoint_id="first")
    await storage.save(first)
    engine.settle()
    assert await engine.storage().delete_run("first", force=True)
    engine.settle()
    await storage.save(checkpoint(first, checkpoint_id="second"))
    assert [each.checkpoint_id for each in await history(audited(engine), "first")] == [""]
    assert await latest(run_of(engine, "first~second")) == "second"


async def test_a_checkpoint_that_follows_a_removed_one_begins_a_run_where_nobody_remembers_it(engine: Engine) -> None:
    first = checkpoint(checkpoint_id="first")
    await engine.storage().save(first)
    engine.settle()
    assert await engine.storage().delete_run("first", force=True)
    engine.settle()
    await engine.storage().save(checkpoint(first, checkpoint_id="second"))
    assert await latest(run_of(engine, "second")) == "second"


async def test_a_host_removes_the_run_that_a_call_is_about(engine: Engine) -> None:
    routed = engine.storage().for_each(lambda: "r")
    await routed.save(checkpoint(checkpoint_id="one"))
    engine.settle()
    with pytest.raises(RunNotRemovedError):
        await routed.delete_run(workflow_name=WORKFLOW)
    assert await routed.delete_run(workflow_name=WORKFLOW, force=True)
    engine.settle()
    assert not await routed.delete_run(workflow_name=WORKFLOW, force=True)
    assert await routed.get_latest(workflow_name=WORKFLOW) is None
    await routed.save(checkpoint(checkpoint_id="two"))
    assert await latest(run_of(engine)) == "two"
