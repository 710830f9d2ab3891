"""Annotations and claims in a log: whatever is asked of a run gives what it gives without them, and what was said about
the run stays in force, whatever happens to its events.

Logs are made by a generator over every kind of event that a run has; a twin of each run lacks annotations and claims.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointEvent,
    CheckpointNotFoundError,
    RunInfo,
    SqliteEventStore,
    StreamId,
)
from eventckpt.audit import Filter
from eventckpt.audit.archive import beginning_line, event_line, flaw_of
from eventckpt.audit.kinds import TURNS
from eventckpt.chain import sealed
from eventckpt.events import Annotation
from eventckpt.runs import carried, fold
from eventckpt.storage.compose import annotation_after, claim_after
from eventckpt.storage.memory import Head
from eventckpt.stores import AuditStore, head_of
from eventckpt.testing.events import make_event, record_of

from ..engines import Engine

WORKFLOW = "orders"
RUN, TWIN = StreamId(WORKFLOW, "said"), StreamId(WORKFLOW, "twin")
STEPS: tuple[str, ...] = (
    "saves",
    "saves",
    "annotates",
    "annotates",
    "claims",
    "deletes",
    "supersedes",
    "goes back",
    "prunes",
)


def audited(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


@dataclass
class Said:
    """What must be in force."""

    outcome: str | None = None
    reason: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    hold: bool = False


class Story:
    """Two runs to which the same happens, but that things are said about the first one, and claims are taken."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = audited(engine)
        self.storage = engine.storage()
        self.audit = CheckpointAudit(self.store)
        self.runs = {stream: self.storage.for_run(stream.run_id, workflow_name=WORKFLOW) for stream in (RUN, TWIN)}
        self.engine = engine
        self.said = Said()
        self.saved: list[str] = []
        self.saves = 0
        self.parents: dict[str, str | None] = {}
        self.next: list[str] = []

    async def goes_on(self) -> None:
        self.next = self.next or self.random.sample(STEPS, len(STEPS))
        step = self.next.pop() if self.saved else "saves"
        self.engine.settle()
        match step:
            case "saves":
                await self.save(f"c{len(self.saved)}")
            case "supersedes":
                await self.save(self.random.choice(self.saved))
            case "goes back":
                await self.save(f"c{len(self.saved)}", self.random.choice(self.saved))
            case "deletes":
                name = self.random.choice(self.saved)
                for stream, run in self.runs.items():
                    await run.delete(f"{stream.run_id}-{name}")
            case "claims":
                await self._claim()
            case "annotates":
                await self._annotate()
            case _:
                await self.prune(self.random.choice([0, 1, 2]))

    async def save(self, name: str, behind: str | None = None) -> None:
        behind = self.parents.setdefault(name, behind or (self.saved[-1] if self.saved else None))
        self.saves += 1
        content = self.random.randbytes(1_000 * self.saves).hex()  # too much to be a delta: a prune keeps bases besides
        for stream, run in self.runs.items():
            await run.save(
                WorkflowCheckpoint(
                    WORKFLOW,
                    "g",
                    checkpoint_id=f"{stream.run_id}-{name}",
                    previous_checkpoint_id=behind and f"{stream.run_id}-{behind}",
                    state={"content": content},
                )
            )
        self.saved += [] if name in self.saved else [name]
        self.said.outcome = self.said.reason = None

    async def _annotate(self) -> None:
        change: dict[str, Any] = self.random.choice(
            [
                {"outcome": "failed", "reason": f"why {len(self.saved)}"},
                {"outcome": "cancelled"},
                {"tags": {"customer": f"c-{len(self.saved)}"}},
                {"tags": {"customer": None, "shop": "17"}},
                {"hold": True},
                {"hold": False},
                {"hold": False, "outcome": "done"},
            ]
        )
        if self.random.random() < 0.5:
            await self.runs[RUN].annotate(**change)
        else:
            await self.audit.annotate(RUN, **change)
        said = self.said
        if "outcome" in change:
            said.outcome, said.reason = change["outcome"], change.get("reason")
        merged: dict[str, str | None] = {**said.tags, **change.get("tags", {})}
        said.tags = {name: value for name, value in merged.items() if value is not None}
        said.hold = change.get("hold", said.hold)

    async def _claim(self) -> None:
        head, info = await head_of(self.store, RUN), await self.info(RUN)
        assert head is not None
        located = await self.store.find("", stream=RUN)
        pruned = located.event.pruned if located else ()
        await self.store.append(claim_after(RUN, Head.of(head), carried(info), pruned, None))

    async def prune(self, keep: int) -> None:
        for stream in (RUN, TWIN):
            [plan] = [plan async for plan in self.audit.plan_prune([stream], keep=keep, force=True)]
            if self.said.hold and stream == RUN:
                assert "on hold" in plan.refused
                assert (plan.seqs, plan.unmarked) == ((), ())
                return
            await self.audit.prune(plan)
            [again] = [plan async for plan in self.audit.plan_prune([stream], keep=keep, force=True)]
            assert not again.seqs, "a second prune has nothing to do"

    async def info(self, stream: StreamId) -> RunInfo:
        info = await self.audit.info(stream)
        assert info is not None
        return info

    async def compare(self) -> None:
        """What is in force, and what both runs give to whoever asks."""
        self.engine.settle()
        info = await self.info(RUN)
        assert Said(info.outcome, info.reason, info.tags, info.hold) == self.said
        assert info.status == (self.said.outcome or (await self.info(TWIN)).status)
        for stream in (RUN, TWIN):
            verdict = await self.audit.verify(stream, decode=True)
            assert verdict.ok, verdict
            assert [step.problem for step in [step async for step in self.audit.replay(stream)] if step.problem] == []
            last = [step async for step in self.audit.replay(stream)][-1].info
            told = await self.info(stream)
            assert msgspec.structs.replace(last, removed=told.removed) == told
        ours, theirs = [await self._asked(stream) for stream in (RUN, TWIN)]
        assert ours == theirs

    async def _asked(self, stream: StreamId) -> dict[str, Any]:
        """Whatever can be asked of what a run holds, without the name of the run and without seqs."""
        run, audit = self.runs[stream], self.audit
        named: Callable[[str | None], str | None] = lambda name: name and name.partition("-")[2]  # noqa: E731
        try:
            at = named((await audit.at(stream)).checkpoint_id)
        except CheckpointNotFoundError:
            at = None
        listed = await self.engine.storage().for_run(stream.run_id).list_checkpoints(workflow_name=WORKFLOW)
        latest = await self.engine.storage().for_run(stream.run_id).get_latest(workflow_name=WORKFLOW)
        info = await self.info(stream)
        return {
            "ids": [named(name) for name in await run.list_checkpoint_ids(workflow_name=WORKFLOW)],
            "listed": [(named(each.checkpoint_id), each.state) for each in listed],
            "latest": latest and (named(latest.checkpoint_id), latest.state),
            "at": at,
            "states": [(named(event.checkpoint_id), held.state) async for event, held in audit.states(stream)],
            "changes": [change.after async for change in audit.changes(stream, "state.content")],
            "lineage": [shape(node) for node in await audit.lineage(stream)],
            "info": (named(info.checkpoint_id), info.checkpoints, info.raw_size, info.timestamp > ""),
        }


def shape(node: Any) -> Any:
    """A tree of checkpoints, without the name of its run."""
    return (node.checkpoint_id.partition("-")[2], node.event and node.event.type, [*map(shape, node.children)])


@pytest.mark.parametrize("seed", range(6))
async def test_a_run_about_which_something_is_said_holds_what_it_held(engine: Engine, seed: int) -> None:
    story = Story(engine, seed)
    for step in range(30):
        await story.goes_on()
        if step % 5 == 4:
            await story.compare()


@pytest.mark.parametrize("seed", range(3))
async def test_a_log_with_annotations_moves_to_another_store_digest_by_digest(
    engine: Engine, tmp_path: Any, seed: int
) -> None:
    story = Story(engine, seed)
    for _ in range(25):
        await story.goes_on()
    engine.settle()
    lines = [line async for line in story.audit.export([RUN])]
    async with SqliteEventStore(tmp_path / "other.db") as other:
        audit = CheckpointAudit(other)
        imported = await audit.import_lines(lines)
        assert imported.problems == ()
        assert [each.digest async for each in other.headers(RUN)] == [
            each.digest async for each in story.store.headers(RUN)
        ]
        assert await audit.info(RUN) == await story.info(RUN)
        assert (await audit.import_lines(lines)).added == 0
        assert (await audit.verify(RUN, decode=True)).ok


async def test_tags_hold_and_outcome_outlive_every_prune(engine: Engine) -> None:
    story = Story(engine, 0)
    for name in "abc":
        await story.save(name)
    run = story.runs[RUN]
    await run.annotate(outcome="failed", reason="why", tags={"customer": "c-17"})
    for keep in (1, 0, 0):
        await story.prune(keep)
        info = await story.info(RUN)
        assert (info.status, info.outcome, info.reason, info.tags) == ("failed", "failed", "why", {"customer": "c-17"})
    for _ in range(3):
        await run.annotate(tags={"shop": "17"})
    await story.prune(0)
    assert len([header async for header in story.store.headers(RUN)]) == 1, "one record says it all"
    assert (await story.info(RUN)).tags == {"customer": "c-17", "shop": "17"}
    assert (await story.audit.verify(RUN)).ok


async def test_what_was_taken_back_does_not_come_back_where_a_prune_leaves_what_said_it(engine: Engine) -> None:
    """As where the clock of whoever said it was ahead, and what was recorded before a time goes."""
    story = Story(engine, 0)
    await story.save("a")
    ahead = datetime.now(UTC) + timedelta(days=2)
    head = await head_of(story.store, RUN)
    assert head is not None
    said = Annotation(outcome="failed", tags={"customer": "c-17"}, hold=True)
    early = annotation_after(RUN, Head.of(head), said, (), None)
    await story.store.append(sealed(msgspec.structs.replace(early, recorded_at=ahead.isoformat())))
    engine.settle()
    await story.audit.annotate(RUN, tags={"customer": None}, hold=False)
    for name in "bc":
        await story.save(name)
    [plan] = [plan async for plan in story.audit.plan_prune([RUN], keep=0, before=ahead - timedelta(days=1))]
    await story.audit.prune(plan)
    assert [header.seq async for header in story.store.headers(RUN)] == [2, 6]
    info = await story.info(RUN)
    assert (info.status, info.outcome, info.tags, info.hold) == ("open", None, {}, False)
    event = await story.audit.annotate(RUN, tags={"shop": "17"})
    assert event.annotation == Annotation(tags={"shop": "17"})


async def test_what_a_prune_left_behind_stays_too_once_the_run_is_on_hold(engine: Engine) -> None:
    story = Story(engine, 0)
    for name in "abcd":
        await story.save(name)
    headers = [header async for header in story.store.headers(RUN)]
    await story.store.append(record_of(headers[-1], headers[:2]))  # a prune that died behind its record
    await story.runs[RUN].annotate(hold=True)
    [plan] = [plan async for plan in story.audit.plan_prune([RUN], keep=1, force=True)]
    assert (plan.seqs, plan.unmarked) == ((), ())
    assert "on hold" in plan.refused
    assert (await story.info(RUN)).removed == 2, "the annotation repeats what is recorded as removed"
    await story.runs[RUN].annotate(hold=False)
    [plan] = [plan async for plan in story.audit.plan_prune([RUN], keep=4, force=True)]
    assert plan.seqs[:2] == (1, 2)


async def test_a_hold_that_comes_between_plan_and_prune_is_heeded(engine: Engine) -> None:
    story = Story(engine, 0)
    for name in "abc":
        await story.save(name)
    [plan] = [plan async for plan in story.audit.plan_prune([RUN], keep=1)]
    await story.runs[RUN].annotate(hold=True)
    with pytest.raises(CheckpointConflictError, match="written to meanwhile"):
        await story.audit.prune(plan)
    assert len([header async for header in story.store.headers(RUN)]) == 4


async def test_a_record_that_0_1_0_wrote_over_an_annotation_hides_nothing_of_it(engine: Engine) -> None:
    """It repeats no annotation, and so the headers are asked."""
    story = Story(engine, 0)
    for name in "abc":
        await story.save(name)
    await story.audit.annotate(RUN, outcome="failed", tags={"customer": "c-17"}, hold=True)
    headers = [header async for header in story.store.headers(RUN)]
    await story.store.append(record_of(headers[-1], headers[:1]))
    engine.settle()
    event = await story.audit.annotate(RUN, tags={"shop": "17"})
    assert event.annotation is not None
    assert (event.annotation.tags, event.annotation.hold) == ({"customer": "c-17", "shop": "17"}, True)
    assert [(stretch.first, stretch.last) for stretch in event.pruned] == [(1, 1)]
    assert (await story.info(RUN)).status == "failed"


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        (Filter(tags={"customer": "c-17"}), {"a", "b"}),
        (Filter(tags={"customer": "c-17", "shop": "1"}), {"b"}),
        (Filter(tags={"customer": "c-1"}), set[str]()),
        (Filter(status="failed"), {"a"}),
        (Filter(status=("failed", "cancelled")), {"a", "b"}),
        (Filter(status="failed", tags={"customer": "c-17"}), {"a"}),
        (Filter(status="idle"), {"c"}),
        (Filter(), {"a", "b", "c"}),
    ],
)
async def test_runs_are_listed_by_what_was_said_about_them(engine: Engine, which: Filter, fits: set[str]) -> None:
    storage, store = engine.storage(), audited(engine)
    for name in "abc":
        await storage.for_run(name).save(WorkflowCheckpoint(WORKFLOW, "g", checkpoint_id=name))
    engine.settle()
    audit = CheckpointAudit(store)
    await audit.annotate(StreamId(WORKFLOW, "a"), outcome="failed", tags={"customer": "c-17"})
    await audit.annotate(StreamId(WORKFLOW, "b"), outcome="cancelled", tags={"customer": "c-17", "shop": "1"})
    engine.settle()
    assert {info.run_id async for info in audit.runs(which)} == fits
    for name in "abc":
        info = await audit.info(StreamId(WORKFLOW, name))
        assert info is not None
        await store.run_store().put(info)
    engine.settle()
    projected = CheckpointAudit(store, latest="projection")
    assert {info.run_id async for info in projected.runs(which)} == fits


async def test_sessions_are_not_annotated(engine: Engine) -> None:
    with pytest.raises(ValueError, match="sessions are not"):
        await CheckpointAudit(audited(engine), turns=True).annotate(StreamId("s", "x"), outcome="done")


# Hostile archives


def saying(**fields: Any) -> CheckpointEvent:
    """The second event of a run, a tombstone of no checkpoint, with these fields."""
    event = make_event(RUN, 2, previous=make_event(RUN, 1), type="tombstone")
    return sealed(msgspec.structs.replace(event, checkpoint_id="", **fields))


HOSTILE = {
    "too many tags": (Annotation(tags={f"t{n}": "x" for n in range(21)}), "21 tags"),
    "a long name": (Annotation(tags={"x" * 257: "x"}), "a tag that has not"),
    "a long value": (Annotation(tags={"x": "x" * 257}), "a tag that has not"),
    "an empty name": (Annotation(tags={"": "x"}), "a tag that has not"),
    "an empty value": (Annotation(tags={"x": ""}), "a tag that has not"),
    "a long reason": (Annotation(outcome="done", reason="x" * 1_001), "a reason"),
    "an empty reason": (Annotation(outcome="done", reason=""), "a reason"),
    "a tag whose name ends early": (Annotation(tags={"a=b": "c"}), "a '=' in its name"),
    "a reason for nothing": (Annotation(reason="why"), "a reason without an outcome"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_nobody_can_say_is_refused_out_of_an_archive(case: str) -> None:
    annotation, says = HOSTILE[case]
    assert says in flaw_of(saying(annotation=annotation))
    carried_on = msgspec.structs.replace(annotation, carried=True)
    assert says in flaw_of(saying(annotation=carried_on, claim=2))


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (saying(claim=3), "records nothing"),
        (saying(claim=1), "records nothing"),
        (saying(annotation=Annotation(carried=True)), "records nothing"),
        (saying(annotation=Annotation(outcome="done"), claim=3), "under a claim of seq 3"),
        (saying(annotation=Annotation(outcome="done"), claim=0), "under a claim of seq 0"),
        (saying(annotation=Annotation(outcome="done"), payload=make_event(RUN, 2).payload), "tombstone with a payload"),
        (sealed(msgspec.structs.replace(saying(), checkpoint_id="x", annotation=Annotation())), "is of a checkpoint"),
        (sealed(msgspec.structs.replace(make_event(RUN, 2), annotation=Annotation())), "is of a checkpoint"),
        (sealed(msgspec.structs.replace(make_event(RUN, 2), claim=2)), "under a claim of seq 2"),
        (sealed(msgspec.structs.replace(make_event(RUN, 2), claim=-1)), "under a claim of seq -1"),
    ],
)
async def test_an_event_that_no_writer_makes_is_left_out_of_an_import(
    engine: Engine, event: CheckpointEvent, says: str
) -> None:
    assert says in flaw_of(event)
    audit = CheckpointAudit(audited(engine))
    report = await audit.import_lines([beginning_line(), event_line(make_event(RUN, 1)), event_line(event)])
    assert any(says in problem for problem in report.problems), report.problems
    engine.settle()
    assert [header.seq async for header in audit.store.headers(RUN)] == [1]


@pytest.mark.parametrize("fields", [{"annotation": Annotation(outcome="done")}, {"claim": 2}])
def test_what_is_said_about_a_run_does_not_belong_among_sessions(fields: dict[str, Any]) -> None:
    assert flaw_of(saying(**fields)) == ""
    assert "lies among sessions" in flaw_of(saying(**fields), TURNS)


async def test_a_fork_of_what_a_claim_holder_saved_is_under_no_claim(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run("run", workflow_name=WORKFLOW)
    await run.save(WorkflowCheckpoint(WORKFLOW, "g", checkpoint_id="a"))
    async with run.claim() as claim:
        await run.save(WorkflowCheckpoint(WORKFLOW, "g", checkpoint_id="b", previous_checkpoint_id="a"))
    engine.settle()
    audit = CheckpointAudit(audited(engine))
    origin = await audit.event("b")
    assert origin.claim == claim.epoch
    made = await audit.fork(origin, "forked")
    assert (made.claim, flaw_of(made)) == (None, "")
    assert flaw_of(origin) == ""


def test_carrying_on_says_nothing_new() -> None:
    """What a record repeats is in force, and is no annotation of its own."""
    first = make_event(RUN, 1)
    said = sealed(
        msgspec.structs.replace(
            make_event(RUN, 2, previous=first, type="tombstone"), checkpoint_id="", annotation=Annotation(hold=True)
        )
    )
    info = fold([first, said])
    stays = carried(info)
    assert stays == Annotation(hold=True, carried=True)
