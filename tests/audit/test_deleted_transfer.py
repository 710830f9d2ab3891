"""Runs that were removed as a whole, in exports and imports: what was removed does not come back, what tells of it goes
along, and what two stores tell differently is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from agent_framework import AgentSession, Message

from eventckpt import CheckpointAudit, CheckpointEvent, EventHistoryProvider
from eventckpt.audit import Imported
from eventckpt.audit.archive import flaw_of
from eventckpt.audit.kinds import RUNS, TURNS
from eventckpt.chain import sealed
from eventckpt.events import MAX_REASON, MAX_REMOVED, MAX_RUN_ID, Annotation, ForkPoint, Pruned, Removal, RemovedRun
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event

from ..engines import Engine, SqliteEngine
from .deleting import REMOVALS_OF, CutOff, delete, logs, opened, problems, saved, stream

DIGEST: Final = "ab" * 32


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """Another store."""
    engine = SqliteEngine(tmp_path / "other.db")
    yield engine
    await engine.close()


async def exported(store: AuditStore) -> list[bytes]:
    return [line async for line in CheckpointAudit(store).export()]


async def taken(store: AuditStore, lines: list[bytes]) -> Imported:
    return await CheckpointAudit(store).import_lines(lines)


async def listed(store: AuditStore) -> set[str]:
    return {info.run_id async for info in CheckpointAudit(store).runs()}


async def test_an_export_of_everything_tells_of_removals_and_a_copy_of_it_tells_the_same(
    engine: Engine, other: SqliteEngine
) -> None:
    await saved(engine, "a", "b", "c")
    await delete(opened(engine), "a", reason="old", archive="a.jsonl")
    await delete(opened(engine), "b")
    await saved(engine, "b", first=3)
    engine.settle()
    ours, theirs = opened(engine), opened(other)
    lines = await exported(ours)
    result = await taken(theirs, lines)
    assert (result.whole, result.added, result.events) == (True, 10, 10)
    assert await logs(theirs) == await logs(ours)
    assert await problems(theirs) == []
    for run_id in ("a", "b"):
        there = await CheckpointAudit(theirs).removed(stream(run_id))
        assert there is not None
        assert there == await CheckpointAudit(ours).removed(stream(run_id))
    assert await listed(theirs) == {"b", "c"}
    again = await taken(theirs, lines)
    assert (again.whole, again.added) == (True, 0)


async def test_an_archive_of_before_does_not_bring_a_removed_run_back_and_the_run_is_named(
    engine: Engine, tmp_path: Path
) -> None:
    await saved(engine, "a", "b")
    lines = await exported(opened(engine))
    await delete(opened(engine), "a")
    engine.settle()
    store = opened(engine)
    before = await logs(store)
    result = await taken(store, lines)
    assert (result.whole, result.added, result.removed) == (True, 0, 3)
    [note] = result.notes
    assert note.startswith("run 'a' of workflow 'orders' was removed here by 'Ada' (")
    assert note.endswith("), and stays so: 3 events were not put back.")
    assert await logs(store) == before
    assert await listed(store) == {"b"}
    assert await problems(store) == []


async def test_nor_where_the_run_was_begun_again(engine: Engine) -> None:
    await saved(engine, "a")
    lines = await exported(opened(engine))
    await delete(opened(engine), "a")
    await saved(engine, "a", first=3)
    engine.settle()
    store = opened(engine)
    result = await taken(store, lines)
    assert (result.whole, result.added, result.removed) == (True, 0, 3)
    assert "was removed here" in result.notes[0]
    assert await engine.storage().for_run("a").list_checkpoint_ids(workflow_name="orders") == ["a-3", "a-4", "a-5"]
    assert await problems(store) == []


async def test_where_a_run_still_lives_the_import_of_its_removal_closes_it_and_deleting_it_finishes_that(
    engine: Engine, other: SqliteEngine
) -> None:
    await saved(engine, "a", "b")
    theirs = opened(other)
    await taken(theirs, await exported(opened(engine)))
    await delete(opened(engine), "a")
    engine.settle()
    result = await taken(theirs, await exported(opened(engine)))
    assert (result.whole, result.added) == (True, 2)
    assert await problems(theirs) == []
    half = await CheckpointAudit(theirs).removed(stream("a"))
    assert half is not None
    assert (half.left, half.told_at) == (3, 1)
    assert await listed(theirs) == {"b"}
    assert await delete(theirs, "a", actor=None) == ["removed"]
    assert [header.seq async for header in theirs.headers(stream("a"))] == [4]
    assert await problems(theirs) == []


async def test_where_a_run_went_on_the_import_of_its_removal_is_a_conflict(engine: Engine, other: SqliteEngine) -> None:
    await saved(engine, "a", "b")
    theirs = opened(other)
    await taken(theirs, await exported(opened(engine)))
    await saved(other, "a", first=3)
    await delete(opened(engine), "a")
    engine.settle()
    result = await taken(theirs, await exported(opened(engine)))
    [problem] = result.problems
    assert "run 'a' of workflow 'orders': the store has another event at seq" in problem
    assert await listed(theirs) == {"a", "b"}
    [note] = result.notes
    assert "run 'a' of workflow 'orders' was removed where the export comes from by 'Ada' (" in note
    await whole_with_a_note(theirs)
    assert await delete(theirs, "a") == ["removed"]
    assert await problems(theirs) == []


async def whole_with_a_note(store: AuditStore) -> None:
    """Nothing in a store is damaged, whatever a removal tells of the history that a run has elsewhere."""
    verdicts = [verdict async for verdict in CheckpointAudit(store).verify_all()]
    assert [verdict.problems for verdict in verdicts] == [()] * len(verdicts)
    [note] = [note for verdict in verdicts for note in verdict.notes]
    assert note.startswith("seq 1: it tells that run 'a' was closed at seq 4, and ")
    assert note.endswith("the run has another history in this store")


async def test_a_run_that_other_stores_removed_otherwise_has_another_history(
    engine: Engine, other: SqliteEngine
) -> None:
    """Here it has not gone on as far as it had there, until it is removed here as well."""
    await saved(engine, "a", steps=2)
    theirs = opened(other)
    await taken(theirs, await exported(opened(engine)))
    await saved(engine, "a", first=2, steps=1)
    await saved(other, "a", first=7, steps=1)
    await delete(opened(engine), "a")
    engine.settle()
    assert not (await taken(theirs, await exported(opened(engine)))).whole
    assert await problems(theirs) == [("", 1, "missing")]
    assert await delete(theirs, "a", actor="Bob") == ["removed"]
    await whole_with_a_note(theirs)


async def test_removals_that_both_sides_have_told_of_since_are_a_conflict_that_is_named_and_nothing_is_lost(
    engine: Engine, other: SqliteEngine
) -> None:
    await saved(engine, "a", "b", "c", "d")
    theirs = opened(other)
    await delete(opened(engine), "a")
    engine.settle()
    await taken(theirs, await exported(opened(engine)))
    await delete(opened(engine), "b")
    await delete(theirs, "c")
    engine.settle()
    before = await logs(theirs)
    result = await taken(theirs, await exported(opened(engine)))
    assert not result.whole
    assert result.problems == (
        "the removals of workflow 'orders': the store has another event at seq 2. The two logs have diverged; import "
        "into another store, and compare.",
    )
    assert (await logs(theirs))[REMOVALS_OF] == before[REMOVALS_OF]
    assert await listed(theirs) == {"d"}, "what each side removed is removed"
    assert await problems(theirs) == []
    untold = await CheckpointAudit(theirs).removed(stream("b"))
    assert untold is not None
    assert (untold.left, untold.told_at) == (3, 0)
    assert await delete(theirs, "b", actor="Bob") == ["removed"]
    told = await CheckpointAudit(theirs).removed(stream("b"))
    assert told is not None
    assert (told.left, told.told_at) == (0, 3)


async def test_a_removal_that_was_cut_off_is_exported_as_it_is(engine: Engine, other: SqliteEngine) -> None:
    await saved(engine, "a")
    with pytest.raises(Exception, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=True), "a")
    engine.settle()
    theirs = opened(other)
    assert (await taken(theirs, await exported(opened(engine)))).whole
    assert await delete(theirs, "a") == ["removed"]
    assert await problems(theirs) == []


async def test_sessions_are_removed_with_their_branches_and_do_not_come_back(
    engine: Engine, other: SqliteEngine
) -> None:
    history = EventHistoryProvider(store=opened(engine), source_id="chat")
    for session_id in ("trip", "other"):
        session = AgentSession(session_id=session_id)
        await history.save_messages(session.session_id, [Message("user", ["hello"])], state=session.state)
    engine.settle()
    store = opened(engine)
    audit = CheckpointAudit(store, actor="Ada", turns=True)
    before = [line async for line in audit.export()]
    plans = [plan async for plan in audit.plan_delete([msgspec.structs.replace(stream("trip"), workflow_name="chat")])]
    assert [removal.state async for removal in audit.delete(plans)] == ["removed"]
    assert await problems(store, turns=True) == []
    after = [line async for line in audit.export()]
    result = await audit.import_lines(before)
    assert (result.added, result.removed) == (0, 1)
    theirs = CheckpointAudit(opened(other), turns=True)
    assert (await theirs.import_lines(after)).whole
    assert await problems(opened(other), turns=True) == []


def removal_of(*runs: RemovedRun, **fields: Any) -> CheckpointEvent:
    """An event among the removals, as somebody may have written it into a file."""
    bare = make_event(REMOVALS_OF, 1, type="tombstone")
    removal = Removal(runs=runs, **{name: fields.pop(name) for name in ("reason",) if name in fields})
    return sealed(msgspec.structs.replace(bare, **{"checkpoint_id": "", "payload": None, "removal": removal} | fields))


A_RUN: Final = RemovedRun(run_id="a", seq=4, digest=DIGEST)
STRETCH: Final = Pruned(first=1, last=2, previous_digest="", digest=DIGEST)

NO_REMOVALS: Final[dict[str, tuple[CheckpointEvent, str]]] = {
    "none": (removal_of(), "tells of 0 runs that were removed"),
    "too many": (removal_of(*[A_RUN] * (MAX_REMOVED + 1)), f"tells of {MAX_REMOVED + 1} runs"),
    "itself": (removal_of(msgspec.structs.replace(A_RUN, run_id="")), "that can be none"),
    "a long id": (removal_of(msgspec.structs.replace(A_RUN, run_id="x" * (MAX_RUN_ID + 1))), "that can be none"),
    "no seq": (removal_of(msgspec.structs.replace(A_RUN, seq=0)), "that can be none"),
    "a long reason": (removal_of(A_RUN, reason="x" * (MAX_REASON + 1)), "has a reason that has not"),
    "an empty reason": (removal_of(A_RUN, reason=""), "has a reason that has not"),
    "a checkpoint": (removal_of(A_RUN, checkpoint_id="c"), "and of something else"),
    "stretches": (removal_of(A_RUN, seq=3, pruned=(STRETCH,)), "and of something else"),
    "something said": (removal_of(A_RUN, annotation=Annotation(tags={"a": "b"})), "and of something else"),
    "a fork": (
        removal_of(A_RUN, forked_from=ForkPoint(workflow_name="w", run_id="r", seq=1, checkpoint_id="c")),
        "and of something else",
    ),
    "in a run": (removal_of(A_RUN, run_id="a"), "lies in a run"),
    "no removal": (removal_of(A_RUN, removal=None, pruned=()), "lies among the removals"),
    "closes a run in part": (
        sealed(
            msgspec.structs.replace(removal_of(A_RUN, seq=5, run_id="a", closes=True, pruned=(STRETCH,)), removal=None)
        ),
        "does not record all that was before it",
    ),
    "closes a run, and is a checkpoint": (
        sealed(msgspec.structs.replace(make_event(stream("a"), 1), closes=True)),
        "is a checkpoint that records a removal",
    ),
}


@pytest.mark.parametrize("what", NO_REMOVALS)
def test_what_is_no_removal_is_not_imported(what: str) -> None:
    event, why = NO_REMOVALS[what]
    assert why in flaw_of(event)


def test_what_is_one_is_imported_among_runs_and_among_sessions() -> None:
    event = removal_of(A_RUN, reason="why")
    assert (flaw_of(event, RUNS), flaw_of(event, TURNS)) == ("", "")
