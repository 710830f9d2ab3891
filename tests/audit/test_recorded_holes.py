"""What is recorded as removed and still there, and what lies in a recorded hole and does not belong there."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage, StreamId
from eventckpt.audit import Verdict
from eventckpt.chain import sealed
from eventckpt.events import Pruned
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event

from ..cli.conftest import GRAPH, WORKFLOW, Cli, checkpoint, question
from ..engines import Engine
from ..interleaving import Interrupted

pytestmark = pytest.mark.slow  # every kind of hole on every engine

RUN = StreamId("workflow", "run")
LENGTH = 8


def chain(length: int = LENGTH, *, after: CheckpointEvent | None = None, to: int = 0) -> list[CheckpointEvent]:
    """Events that follow each other: a run from its beginning, or what goes on from `after`, up to seq `to`."""
    events: list[CheckpointEvent] = []
    previous = after
    for seq in range(after.seq + 1 if after else 1, (to or length) + 1):
        mark = b"another" if after else b"one"
        previous = alone(make_event(RUN, seq, previous=previous, data=mark))
        events.append(previous)
    return events


def alone(event: CheckpointEvent) -> CheckpointEvent:
    """The event as a snapshot, which needs no other."""
    assert event.payload is not None
    return sealed(msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, base_seq=None)))


def record(previous: CheckpointEvent, log: Sequence[CheckpointEvent], *stretches: tuple[int, int]) -> CheckpointEvent:
    """The record, right behind an event, of the removal of stretches of a log, both ends included."""
    pruned = tuple(
        Pruned(first=first, last=last, previous_digest=log[first - 1].previous_digest, digest=log[last - 1].digest)
        for first, last in stretches
    )
    seq = previous.seq + 1
    bare = make_event(RUN, seq, previous=previous, type="tombstone")
    return sealed(msgspec.structs.replace(bare, checkpoint_id="", payload=None, pruned=pruned))


async def verdict_of(engine: Engine, *events: CheckpointEvent) -> Verdict:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(RUN, sorted(events, key=lambda event: event.seq))
    return await CheckpointAudit(store).verify(RUN)


def wrong(verdict: Verdict) -> list[tuple[int, str]]:
    return [(problem.seq, problem.why) for problem in verdict.problems]


def without(log: Sequence[CheckpointEvent], *seqs: int) -> list[CheckpointEvent]:
    return [event for event in log if event.seq not in seqs]


@pytest.mark.parametrize("first", [1, 2, LENGTH - 1, LENGTH])
@pytest.mark.parametrize("length", [1, 2, LENGTH])
@pytest.mark.parametrize("left", [0, 1, 2, 3])
async def test_whatever_a_prune_that_was_cut_off_left_is_sound(
    engine: Engine, first: int, length: int, left: int
) -> None:
    """`left` says which of the events that are on record are there: none, the first, the last, all but the first."""
    log, last = chain(), min(first + length - 1, LENGTH)
    gone = set(range(first, last + 1))
    there = [set[int](), {first}, {last}, gone - {first}][left]
    verdict = await verdict_of(engine, *without(log, *(gone - there)), record(log[-1], log, (first, last)))
    assert verdict.problems == ()
    assert (verdict.not_gone_yet, verdict.pruned) == (len(there), len(gone - there))
    assert verdict.events == LENGTH + 1 - len(gone - there)


ADJACENT, NESTED, OVERLAPPING, APART = [(2, 4), (5, 7)], [(3, 4), (2, 7)], [(2, 5), (4, 7)], [(1, 2), (5, 7)]


@pytest.mark.parametrize("stretches", [ADJACENT, NESTED, OVERLAPPING, APART])
@pytest.mark.parametrize("older_is_there", [True, False])
async def test_stretches_of_two_prunes_close_the_chain_together(
    engine: Engine, stretches: list[tuple[int, int]], older_is_there: bool
) -> None:
    log = chain()
    older = record(log[-1], log, stretches[0])
    log.append(older)
    end = () if older_is_there else ((older.seq, older.seq),)
    newer = record(older, log, *stretches, *end)
    gone = {seq for first, last in stretches for seq in range(first, last + 1)}
    rest = without(log, *gone, *(() if older_is_there else (older.seq,)))
    assert wrong(await verdict_of(engine, *rest, newer)) == []


@pytest.mark.parametrize("stretches", [[(2, 4)], [(1, 3)], ADJACENT, NESTED, OVERLAPPING, APART])
@pytest.mark.parametrize("end", ["previous_digest", "digest"])
@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("all_gone", [True, False])
async def test_a_record_that_does_not_fit_what_is_around_it_or_in_it_is_caught(
    engine: Engine, stretches: list[tuple[int, int]], end: str, at: int, all_gone: bool
) -> None:
    """Both ends of every stretch, with all of it gone, and with nothing of it gone: wherever anything else tells what
    was there, an event or another record."""
    log = chain()
    older = record(log[-1], log, stretches[0])
    newer = record(older, [*log, older], *stretches[1:]) if len(stretches) > 1 else None
    forged = newer if newer is not None and at == -1 else older
    pruned = [*forged.pruned]
    pruned[at] = msgspec.structs.replace(pruned[at], **{end: "0" * 64})
    events = [*log, sealed(msgspec.structs.replace(forged, pruned=tuple(pruned)))]
    if forged is newer:
        events.append(older)
    elif newer is not None:
        events.append(sealed(msgspec.structs.replace(newer, previous_digest=events[-1].digest)))
    gone = {seq for start, stop in stretches for seq in range(start, stop + 1)} if all_gone else set[int]()
    where = stretches[at][0] - 1 if end == "previous_digest" else stretches[at][1]
    ends = [seq for start, stop in stretches for seq in (start - 1, stop)]
    is_told_elsewhere = ends.count(where) > 1 or not {where, where + 1} - {0} <= gone
    assert bool(wrong(await verdict_of(engine, *without(events, *gone)))) == is_told_elsewhere


@pytest.mark.parametrize("seen", [1, 5, LENGTH - 1])
@pytest.mark.parametrize("written", [1, 2])
async def test_what_a_writer_put_into_a_hole_is_caught_where_the_chain_tells(
    engine: Engine, seen: int, written: int
) -> None:
    """A writer of 0.1.0 on Cosmos DB that had seen the run up to `seen`, and met no conflict in the hole behind it."""
    log = chain()
    first, last = seen + 1, min(seen + written, LENGTH)
    lineage = chain(after=log[seen - 1], to=last)
    rest = [*without(log, *range(first, last + 1)), record(log[-1], log, (first, last))]
    assert (last, "reordered") in wrong(await verdict_of(engine, *rest, *lineage))


async def test_a_second_lineage_through_a_hole_is_caught_where_it_does_not_follow(engine: Engine) -> None:
    log = chain()
    other = chain(after=alone(make_event(RUN, 2, previous=log[0], data=b"never kept")), to=4)
    rest = [*without(log, 2, 3, 4, 5), record(log[-1], log, (2, 5))]
    events = [*rest, alone(make_event(RUN, 2, previous=log[0], data=b"kept")), *other]
    assert (3, "reordered") in wrong(await verdict_of(engine, *events))


async def test_an_event_in_a_hole_is_checked_like_any_other(engine: Engine) -> None:
    log = chain()
    broken = msgspec.structs.replace(log[3], iteration_count=77)
    verdict = await verdict_of(engine, *without(log, 4), broken, record(log[-1], log, (2, 6)))
    assert wrong(verdict) == [(4, "changed")]


async def test_a_payload_of_another_size_than_its_header_says_is_caught_without_decoding(engine: Engine) -> None:
    log = chain(2)
    assert log[1].payload is not None
    lying = sealed(
        msgspec.structs.replace(log[1], payload=msgspec.structs.replace(log[1].payload, stored_size=1_000_000))
    )
    verdict = await verdict_of(engine, log[0], lying)
    assert wrong(verdict) == [(2, "payload")]


@pytest.mark.parametrize(
    "field",
    [
        {"previous_checkpoint_id": "another"},
        {"iteration_count": 7},
        {"timestamp": "2020-01-01T00:00:00+00:00"},
        {"graph_signature_hash": "another"},
        {"checkpoint_id": "another"},
    ],
)
async def test_a_state_that_is_another_than_its_header_says_is_caught(engine: Engine, field: dict[str, object]) -> None:
    storage = engine.storage()
    await storage.for_run("run").save(checkpoint(checkpoint_id="a"))
    [event] = await storage.store.read(StreamId(WORKFLOW, "run"), 1)
    lying = sealed(msgspec.structs.replace(event, run_id="lying", **field))
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(lying.stream, [lying])
    audit = CheckpointAudit(store)
    assert (await audit.verify(lying.stream)).ok
    [problem] = (await audit.verify(lying.stream, decode=True)).problems
    assert (problem.seq, problem.why) == (1, "payload")
    assert [step.problem for step in [step async for step in audit.replay(lying.stream)]] == [problem.detail]


# A prune that was cut off


class Killed(Interrupted):
    """What a prune writes to that is killed before it removes anything."""

    def __init__(self, store: AuditStore) -> None:
        async def nothing() -> None: ...

        super().__init__(store, -1, nothing)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        return 0


async def answers(store: AuditStore, stream: StreamId) -> list[object]:
    """What can be asked of a run, but for how much of it is there."""
    audit, storage = CheckpointAudit(store), EventCheckpointStorage(store)
    run, name = storage.for_run(stream.run_id), stream.workflow_name
    latest, at = await run.get_latest(workflow_name=name), await audit.at(stream)
    newest = await storage.get_latest(workflow_name=name)
    assert latest is not None
    assert newest is not None
    return [
        latest.checkpoint_id,
        newest.checkpoint_id,
        await run.list_checkpoint_ids(workflow_name=name),
        await storage.list_checkpoint_ids(workflow_name=name),
        [each.checkpoint_id for each in await run.list_checkpoints(workflow_name=name)],
        at.checkpoint_id,
        await audit.info(stream),
        [header.seq async for header, _ in audit.states(stream)],
        [(change.event.seq, change.after) async for change in audit.changes(stream, "state.step")],
        [step.event.seq async for step in audit.replay(stream)],
        [node.checkpoint_id for node in await audit.lineage(stream)],
    ]


async def killed_run(engine: Engine, *, waits: bool = False) -> tuple[AuditStore, StreamId]:
    stream, previous = StreamId(WORKFLOW, "order-1"), None
    run = engine.storage().for_run(stream.run_id)
    for step in range(6):
        asks = question() if waits and step == 5 else {}
        previous = checkpoint(
            previous,
            checkpoint_id=f"cp{step}",
            iteration_count=step,
            state=GRAPH | {"step": step, "notes": ["x" * 50] * step},
            pending_request_info_events=asks,
        )
        await run.save(previous)
    store = engine.open()
    assert isinstance(store, AuditStore)
    audit = CheckpointAudit(Killed(store))
    [plan] = [plan async for plan in audit.plan_prune([stream], keep=1, force=True)]
    await audit.prune(plan)
    return store, stream


async def test_a_prune_that_was_cut_off_reads_like_one_that_was_not(engine: Engine) -> None:
    store, stream = await killed_run(engine)
    before = await answers(store, stream)
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune([stream], keep=1)]
    assert await audit.prune(plan) > 0
    assert await answers(store, stream) == before


@pytest.mark.parametrize("waits", [True, False])
async def test_the_next_prune_finishes_it_whatever_it_is_told_to_keep(engine: Engine, waits: bool) -> None:
    store, stream = await killed_run(engine, waits=waits)
    audit = CheckpointAudit(store)
    headers = [header async for header in store.headers(stream)]
    assert (await audit.verify(stream)).not_gone_yet > 0
    [plan] = [plan async for plan in audit.plan_prune([stream], keep=100, only_finished=True)]
    assert await audit.prune(plan) == len(plan.seqs) > 0
    after = [header async for header in store.headers(stream)]
    assert after[-1] == headers[-1], "what is on record needs no other record"
    verdict = await audit.verify(stream, decode=True)
    assert (verdict.ok, verdict.not_gone_yet) == (True, 0)
    [plan] = [plan async for plan in audit.plan_prune([stream], keep=100, force=True)]
    assert plan.seqs == ()


async def test_what_is_on_record_and_still_there_is_said_and_is_no_problem(engine: Engine) -> None:
    await killed_run(engine)
    cli = Cli(engine)
    for words in (["verify", "--all"], ["verify", "order-1", "--decode"]):
        printed = await cli(*words)
        assert "events are recorded as removed and still there; they count no more" in printed.out
    [verdict] = (await cli.json("verify", "--all")).of("verdict")
    assert (verdict["ok"], verdict["not_gone_yet"] > 0) == (True, True)
    assert "recorded as removed and still there" in (await cli("history", "order-1")).err
