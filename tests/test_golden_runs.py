"""What was said of runs that released versions wrote is read today: annotations, claims, questions and traces.
`tests.golden_runs` says what is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage, RunInfo, SqliteEventStore, StreamId
from eventckpt.events import FIRST_SCHEMA, REMOVALS
from eventckpt.runs import Folding, fold
from eventckpt.traceparent import trace_id_in
from projections import LatestProjection, compare, open_engine
from tests.golden_files import unpacked
from tests.golden_runs import (
    ACTOR,
    ARCHIVE,
    ARCHIVE_SHA256,
    QUESTION,
    REMOVED_RUNS,
    RUNS,
    RUNS_FOLDER,
    TAGS,
    TRACES,
    WORKFLOW,
    state_of,
)

FILES = sorted(RUNS_FOLDER.glob("*"))

KINDS: Final = {
    "annotated": ["checkpoint", "annotation", "annotation", "checkpoint", "annotation"],
    "claimed": ["checkpoint", "annotation", "claim", "checkpoint", "checkpoint", "deletion"],
    "pruned": ["checkpoint", "removal", "claim", "checkpoint", "annotation"],
}
"""What is there of each run."""
SEQS: Final = {"annotated": [1, 2, 3, 4, 5], "claimed": [1, 2, 3, 4, 5, 6], "pruned": [3, 5, 6, 7, 8]}
CLAIMS: Final = {
    "annotated": [None] * 5,
    "claimed": [None, None, 3, 3, 3, 3],
    "pruned": [None, None, 6, 6, 6],
}
AMOUNTS_TO: Final[dict[str, dict[str, Any]]] = {
    "annotated": {
        "status": "cancelled",
        "outcome": "cancelled",
        "reason": "a duplicate of order 16",
        "hold": False,
        "pending_requests": (QUESTION,),
        "waiting_since": "",
        "checkpoint_id": "c-2",
    },
    "claimed": {
        "status": "done",
        "outcome": None,
        "hold": True,
        "pending_requests": (),
        "checkpoint_id": "c-3",
        "tombstones": 3,
    },
    "pruned": {
        "status": "done",
        "outcome": "done",
        "reason": "at last",
        "hold": False,
        "checkpoint_id": "c-4",
        "removed": 3,
    },
}
"""What each run amounts to, beside its tags."""


@pytest.fixture(params=FILES, ids=lambda path: path.name)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    file: Path = request.param
    is_export = file.suffix == ".jsonl"
    async with SqliteEventStore(tmp_path / "runs.db" if is_export else unpacked(file, tmp_path)) as store:
        if is_export:
            imported = await CheckpointAudit(store).import_lines(file.read_bytes().splitlines())  # noqa: ASYNC240 - small
            assert imported.complete
            assert imported.problems == ()
        yield store


def kind_of(event: CheckpointEvent) -> str:
    if event.type == "checkpoint":
        return "checkpoint"
    told = {"annotation": event.is_annotation, "claim": event.is_claim, "removal": event.is_removal}
    [kind] = [name for name, is_it in told.items() if is_it] or ["deletion"]
    return kind


async def headers_of(store: SqliteEventStore, run_id: str) -> list[CheckpointEvent]:
    return [header async for header in store.headers(StreamId(WORKFLOW, run_id))]


async def test_every_event_is_as_it_was_written(store: SqliteEventStore) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(store).verify_all(decode=True)]
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    assert {verdict.stream.run_id for verdict in verdicts} == {*RUNS, *REMOVED_RUNS, REMOVALS}
    assert sum(verdict.events for verdict in verdicts) == sum(map(len, SEQS.values())) + 6


@pytest.mark.parametrize("run_id", RUNS)
async def test_each_event_says_what_it_said(store: SqliteEventStore, run_id: str) -> None:
    events = await headers_of(store, run_id)
    assert [event.seq for event in events] == SEQS[run_id]
    assert [kind_of(event) for event in events] == KINDS[run_id]
    assert [event.claim for event in events] == CLAIMS[run_id]
    assert {event.schema for event in events} == {FIRST_SCHEMA}, "so that 0.1.0 goes on behind them"
    assert {event.actor for event in events} == {ACTOR}
    for event in events:
        assert (event.traceparent is not None) == (event.type == "checkpoint")
        assert event.traceparent is None or trace_id_in(event.traceparent) in TRACES
        assert all(question == QUESTION for question in event.summary.pending_requests)
    answers = [event.seq for event in events if event.summary.answered_requests == (QUESTION.request_id,)]
    assert answers == ([4] if run_id == "claimed" else [])


@pytest.mark.parametrize("run_id", RUNS)
async def test_each_run_amounts_to_what_it_did(store: SqliteEventStore, run_id: str) -> None:
    events, stream, folding = await headers_of(store, run_id), StreamId(WORKFLOW, run_id), Folding()
    info = fold(events)
    assert info is not None
    assert [folding.add(event) for event in events][-1] == info
    assert await CheckpointAudit(store).info(stream) == info
    assert {name: getattr(info, name) for name in AMOUNTS_TO[run_id]} == AMOUNTS_TO[run_id]
    assert info.tags == TAGS
    assert trace_id_in(info.traceparent) == TRACES[1]
    for event in events:
        await LatestProjection(store).apply([event])
    assert await document(store, run_id) == info
    assert [
        found async for found in compare(store, open_engine(store).feed, store.runs()) if run_id in str(found)
    ] == []


async def document(store: SqliteEventStore, run_id: str) -> RunInfo | None:
    stream = StreamId(WORKFLOW, run_id)
    return (await store.runs().get(stream)).get(stream)


@pytest.mark.parametrize("run_id", RUNS)
async def test_the_newest_event_without_a_checkpoint_tells_tags_hold_and_what_is_gone(
    store: SqliteEventStore, run_id: str
) -> None:
    found, info = await store.find("", stream=StreamId(WORKFLOW, run_id)), fold(await headers_of(store, run_id))
    assert found is not None
    assert info is not None
    assert found.event.annotation is not None
    assert (found.event.annotation.tags, found.event.annotation.hold) == (info.tags, info.hold)
    assert sum(gone.last - gone.first + 1 for gone in found.event.pruned) == info.removed


@pytest.mark.parametrize("run_id", RUNS)
async def test_its_checkpoints_are_loaded_and_it_goes_on(store: SqliteEventStore, run_id: str) -> None:
    run = EventCheckpointStorage(store).for_run(run_id)
    for each in await run.list_checkpoints(workflow_name=WORKFLOW):
        assert each.state == state_of(int(each.checkpoint_id.removeprefix("c-")))
    latest = await run.get_latest(workflow_name=WORKFLOW)
    assert latest is not None
    assert latest.checkpoint_id == AMOUNTS_TO[run_id]["checkpoint_id"]
    await run.save(
        WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=latest.checkpoint_id, state=latest.state)
    )
    assert run.forked_to is None
    info = fold(await headers_of(store, run_id))
    assert info is not None
    assert (info.outcome, info.tags, info.hold) == (None, TAGS, AMOUNTS_TO[run_id]["hold"])
    verdict = await CheckpointAudit(store).verify(StreamId(WORKFLOW, run_id), decode=True)
    assert verdict.ok


async def test_what_is_on_hold_is_not_pruned(store: SqliteEventStore) -> None:
    plans = [plan async for plan in CheckpointAudit(store).plan_prune(keep=1, force=True)]
    assert {plan.stream.run_id for plan in plans if "hold" in plan.refused} == {"claimed"}


async def test_it_is_exported_and_imported_event_for_event(store: SqliteEventStore, tmp_path: Path) -> None:
    lines = [line async for line in CheckpointAudit(store).export()]
    async with SqliteEventStore(tmp_path / "copy.db") as copy:
        imported = await CheckpointAudit(copy).import_lines(lines)
        assert imported.problems == ()
        for run_id in (*RUNS, *REMOVED_RUNS, REMOVALS):
            theirs = [event async for event in copy.events(StreamId(WORKFLOW, run_id))]
            assert theirs == [event async for event in store.events(StreamId(WORKFLOW, run_id))]


async def test_what_is_left_of_removed_runs_tells_of_it(store: SqliteEventStore) -> None:
    audit = CheckpointAudit(store)
    seqs = {run_id: [header.seq for header in await headers_of(store, run_id)] for run_id in (*REMOVED_RUNS, REMOVALS)}
    assert seqs == {"removed": [5], "begun again": [3, 4, 5], REMOVALS: [1, 2]}
    for number, (run_id, reason) in enumerate([("removed", "done for 30 days"), ("begun again", "a try")], 1):
        closing = (await headers_of(store, run_id))[0]
        removed = await audit.removed(StreamId(WORKFLOW, run_id))
        assert closing.closes
        assert removed is not None
        assert (removed.seq, removed.actor, removed.told_at, removed.reason) == (closing.seq, ACTOR, number, reason)
        assert (removed.archive, removed.archive_sha256, removed.left) == (ARCHIVE, ARCHIVE_SHA256, 0)
    assert {header.schema for header in await headers_of(store, REMOVALS)} == {FIRST_SCHEMA}
    assert {info.run_id async for info in audit.runs()} == {*RUNS, "begun again"}


async def test_a_removed_run_may_be_begun_and_what_was_begun_again_goes_on(store: SqliteEventStore) -> None:
    for run_id, latest_id in (("removed", None), ("begun again", "c-2")):
        run = EventCheckpointStorage(store).for_run(run_id)
        latest = await run.get_latest(workflow_name=WORKFLOW)
        assert (latest and latest.checkpoint_id) == latest_id
        await run.save(WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=latest_id, state=state_of(3)))
        assert run.forked_to is None
        assert (await CheckpointAudit(store).verify(StreamId(WORKFLOW, run_id), decode=True)).ok
    for each in (await headers_of(store, REMOVALS), await headers_of(store, "begun again")):
        await LatestProjection(store).apply(each)
    assert await document(store, "begun again") == fold(await headers_of(store, "begun again"))
