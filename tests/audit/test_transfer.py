"""Export and import: whatever happens to a file on its way, an import notices, keeps what is whole, and harms no run.

The files are damaged line by line by a generator; stores and files that share a part of a log are made by another.
"""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.audit import Imported
from eventckpt.audit.archive import event_line, run_line
from eventckpt.chain import sealed
from eventckpt.cli.line_reader import lines_in
from eventckpt.events import ForkPoint, Pruned
from eventckpt.removals import Removals
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event

from ..engines import Engine

GOLDEN = Path(__file__).parent.parent / "golden" / "exports"
BEGINNING = b'{"format":"eventckpt-export","version":2}'
RUN = StreamId("w", "r")

Log = dict[StreamId, dict[int, CheckpointEvent]]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncGenerator[Iterator[SqliteEventStore], None]:
    """New stores, as many as are asked for."""
    async with contextlib.AsyncExitStack() as opened:

        def each() -> Iterator[SqliteEventStore]:
            for number in count():
                store = SqliteEventStore(tmp_path / f"{number}.db", synchronous="OFF")
                opened.push_async_callback(store.close)
                yield store

        yield each()


async def saved(storage: EventCheckpointStorage, run_id: str, steps: int, first: int = 0) -> None:
    run, previous = storage.for_run(run_id), None
    if first:
        latest = await run.get_latest(workflow_name="w")
        previous = latest.checkpoint_id if latest else None
    for step in range(first, first + steps):
        previous = await run.save(
            WorkflowCheckpoint(
                "w", "g", checkpoint_id=f"{run_id}-{step}", previous_checkpoint_id=previous, state={"n": step}
            )
        )


async def fill(store: SqliteEventStore) -> None:
    """A run with a deletion, one that was pruned and went on, a fork, and one of one event."""
    storage, audit = EventCheckpointStorage(store), CheckpointAudit(store)
    await saved(storage, "plain", 4)
    await storage.for_run("plain", workflow_name="w").delete("plain-1")
    await saved(storage, "pruned", 6)
    [plan] = [plan async for plan in audit.plan_prune([StreamId("w", "pruned")], keep=2)]
    assert await audit.prune(plan) > 0
    await saved(storage, "pruned", 2, first=6)
    await audit.fork(await audit.event("plain@2"), "fork")
    await saved(storage, "fork", 2, first=1)
    await saved(storage, "one", 1)


async def exported(store: AuditStore) -> list[bytes]:
    return [line async for line in CheckpointAudit(store).export()]


async def imported(store: AuditStore, lines: Iterable[bytes]) -> Imported:
    return await CheckpointAudit(store).import_lines(list(lines))


async def log(store: AuditStore) -> Log:
    streams = [stream async for stream in store.streams()]
    return {stream: {event.seq: event async for event in store.events(stream)} for stream in streams}


async def assert_sound(store: AuditStore) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(store).verify_all()]
    assert [problem for verdict in verdicts for problem in verdict.problems] == []


def written(events: Sequence[CheckpointEvent], *, totals: bool = True) -> list[bytes]:
    """A file with these events of one run, as export writes it."""
    last = max(events, key=lambda event: event.seq)
    end = [run_line(last.stream, len(events), last.seq, last.digest)] if totals else []
    return [
        BEGINNING if totals else BEGINNING.replace(b"2", b"1"),
        *map(event_line, events),
        *end,
        json.dumps({"end": True, "runs": 1, "events": len(events)}).encode(),
    ]


def with_payload(event: CheckpointEvent, **fields: Any) -> CheckpointEvent:
    assert event.payload is not None
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, **fields))


def chain(
    length: int, stream: StreamId = RUN, *, mark: bytes = b"a", start: Sequence[CheckpointEvent] = ()
) -> list[CheckpointEvent]:
    events = list(start)
    while len(events) < length:
        previous = events[-1] if events else None
        event = make_event(stream, len(events) + 1, previous=previous, data=mark * 20)
        events.append(sealed(with_payload(event, base_seq=None, since_base=0)))
    return events


def record(events: Sequence[CheckpointEvent], first: int, last: int) -> CheckpointEvent:
    """The event that records the removal of a stretch of these, right behind them."""
    stretch = Pruned(
        first=first, last=last, previous_digest=events[first - 1].previous_digest, digest=events[last - 1].digest
    )
    made = make_event(RUN, len(events) + 1, previous=events[-1])
    return sealed(msgspec.structs.replace(made, type="tombstone", checkpoint_id="", payload=None, pruned=(stretch,)))


# Damaged files


def damages(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Every file that comes of one line being lost, doubled, moved or cut."""
    for at, line in enumerate(lines):
        before, after = lines[:at], lines[at + 1 :]
        yield f"without line {at + 1}", [*before, *after]
        yield f"line {at + 1} twice", [*before, line, line, *after]
        yield f"line {at + 1} cut", [*before, line[: len(line) // 2], *after]
        yield f"cut in line {at + 1}", [*before, line[: len(line) // 2]]
        yield f"cut before line {at + 1}", before
        if after:
            yield f"line {at + 1} behind the next", [*before, after[0], line, *after[1:]]
        if len(after) > 4:
            yield f"line {at + 1} behind four", [*before, *after[:4], line, *after[4:]]


def flips(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Files in which one bit of one line is another."""
    rng = random.Random(14)
    for at, line in enumerate(lines):
        for _ in range(6):
            changed = bytearray(line)
            where, bit = rng.randrange(len(line)), rng.randrange(8)
            changed[where] ^= 1 << bit
            yield f"bit {bit} of byte {where} of line {at + 1}", [*lines[:at], bytes(changed), *lines[at + 1 :]]


def runs_of(lines: list[bytes]) -> set[str]:
    return {json.loads(line)["run_id"] for line in lines if b'"run_id"' in line}


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [damages, flips])
async def test_whatever_happens_to_a_line_is_noticed_what_is_whole_is_kept_and_the_whole_file_mends_it(
    stores: Iterator[SqliteEventStore], damaged: Any
) -> None:
    source = next(stores)
    await fill(source)
    lines, truth = await exported(source), await log(source)
    assert (await imported(next(stores), lines)).whole
    unharmed = 0
    for what, file in damaged(lines):
        target = next(stores)
        result = await imported(target, [line + b"\n" for line in b"\n".join(file).split(b"\n")])
        kept = await log(target)
        if result.whole:  # as where a bit that base64 leaves unused is another
            assert kept == truth, what
            unharmed += 1
            continue
        assert result.problem_count or not result.complete, what
        for stream, events in kept.items():
            assert events.items() <= truth[stream].items(), what
        verdicts = [verdict async for verdict in CheckpointAudit(target).verify_all()]
        assert all(verdict.ok for verdict in verdicts), (what, verdicts, result)
        touched = [line for line in lines if file.count(line) != 1]
        if "behind" not in what and "cut in" not in what and "before" not in what:
            names = {run for line in touched for run in runs_of([line])}
            assert all(kept[stream] == truth[stream] for stream in truth if stream.run_id not in names), what
        again = await imported(target, lines)
        assert again.whole, (what, again)
        assert await log(target) == truth, what
        await target.close()
    assert unharmed < 10


async def test_the_seqs_and_the_line_are_named_and_how_to_get_the_rest(stores: Iterator[SqliteEventStore]) -> None:
    lines = written(chain(6))
    result = await imported(next(stores), [*lines[:3], *lines[4:]])
    assert result.problems == (
        "run 'r' of workflow 'w': seq 3 is missing, and no removal was recorded: 3 events from line 4 on were left "
        "out. Import it again from a whole export.",
        "line 7: run 'r' of workflow 'w' had 6 events up to seq 6 when it was exported, and the file has 5 whole ones, "
        "up to seq 6. Import it again from a whole export.",
        "line 8: 6 events of 1 runs were exported, and the file has 5 whole ones, of 1 runs.",
    )
    assert (result.events, result.added, result.complete, result.whole) == (5, 2, True, False)


async def test_a_file_of_version_1_is_judged_by_the_totals_that_it_has(stores: Iterator[SqliteEventStore]) -> None:
    lines = written(chain(5), totals=False)
    for what, file in damages(lines):
        target = next(stores)
        assert not (await imported(target, file)).whole, what
        await assert_sound(target)
    assert (await imported(next(stores), lines)).whole


@pytest.mark.parametrize("version", [0, -1, 3, 10**30])
async def test_a_file_of_a_later_version_is_refused(stores: Iterator[SqliteEventStore], version: int) -> None:
    lines = written(chain(3))
    lines[0] = BEGINNING.replace(b"2", str(version).encode())
    result = await imported(next(stores), lines)
    assert (result.added, result.whole) == (0, False)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
async def test_released_formats_of_export_are_imported_as_a_whole(
    stores: Iterator[SqliteEventStore], file: Path
) -> None:
    store = next(stores)
    result = await imported(store, file.read_bytes().splitlines())  # noqa: ASYNC240 - small, and nothing else runs
    assert (result.whole, result.events, result.runs) == (True, 15, 4)
    await assert_sound(store)


# What a store has, and what a file brings


FOREIGN = chain(12, mark=b"b")
PLAIN = chain(12)
EARLIER = chain(9)
PRUNED = [*EARLIER, record(EARLIER, 1, 6)]
PRUNED = chain(12, start=PRUNED)[6:]
HISTORIES = {"same": PLAIN, "foreign": FOREIGN, "pruned": PRUNED}
subsets = st.lists(st.integers(1, 12), unique=True).map(sorted)
slices = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda ends: list(range(min(ends), max(ends) + 1)))


@example(ours=[3, 4], theirs=[1, 4], history="same")
@settings(max_examples=150, deadline=None)
@given(ours=st.one_of(slices, subsets), theirs=st.one_of(slices, subsets), history=st.sampled_from(sorted(HISTORIES)))
async def test_what_is_added_follows_what_the_store_has_and_nothing_of_the_store_changes(
    tmp_path_factory: pytest.TempPathFactory, ours: list[int], theirs: list[int], history: str
) -> None:
    had = {event.seq: event for event in PLAIN if event.seq in ours}
    file = [event for event in HISTORIES[history] if event.seq in theirs]
    async with SqliteEventStore(tmp_path_factory.getbasetemp() / f"{uuid4()}.db", synchronous="OFF") as store:
        await store.put(RUN, list(had.values()))
        result = await imported(store, [BEGINNING.replace(b"2", b"1"), *map(event_line, file)])
        has = (await log(store)).get(RUN, {})
    assert had.items() <= has.items()
    added = {seq: event for seq, event in has.items() if seq not in had}
    assert len(added) == result.added
    removals = Removals(has.values())
    for seq, event in added.items():
        before = removals.before(seq)
        behind = has.get(before)
        if before == seq - 1 and before:
            assert behind is not None
            assert behind.digest == event.previous_digest
        else:
            assert before == 0 or before in has
    if history == "foreign" and had and file:
        assert not added or max(added) < min(had)
        assert not added, (ours, theirs)
        assert result.problems
    if added and had:  # nothing was put before a hole that is still there
        latest = max(seq for seq in added)
        later = [seq for seq in had if seq > latest]
        assert not later or min(later) == latest + 1 or removals.covers(latest + 1, min(later) - 1)
    if history == "same" and len(file) < len(set(theirs) | set(ours)) and file and file[0].seq > max([0, *ours]) + 1:
        assert result.problems


async def test_a_foreign_run_whose_beginning_was_pruned_does_not_take_a_run_over(
    stores: Iterator[SqliteEventStore],
) -> None:
    foreign = chain(9, mark=b"b")
    foreign = [*foreign, record(foreign, 1, 7)][7:]
    store = next(stores)
    await store.put(RUN, PLAIN[:3])
    result = await imported(store, written(foreign))
    assert "nothing shows that they were the same. Import into another store" in result.problems[0]
    assert list((await log(store))[RUN].values()) == PLAIN[:3]
    assert (await imported(next(stores), written(foreign))).whole


@pytest.mark.parametrize("had", [6, 7])
async def test_a_record_that_names_the_head_of_the_store_lets_the_run_go_on(
    stores: Iterator[SqliteEventStore], had: int
) -> None:
    """What went between is gone for good, and the digests at the ends of the stretch show that it is the same run."""
    events = chain(9)
    pruned = [*events, record(events, 7, 8)][8:] if had == 6 else [*events, record(events, 1, 7)][7:]
    store = next(stores)
    await store.put(RUN, events[:had])
    assert (await imported(store, written(pruned))).whole
    await assert_sound(store)


async def test_what_the_store_has_recorded_as_removed_is_not_put_back(engine: Engine, tmp_path: Path) -> None:
    storage = engine.storage()
    previous = None
    for n in range(5):
        checkpoint = WorkflowCheckpoint("w", "g", previous_checkpoint_id=previous, state={"n": n})
        previous = await storage.for_run("r").save(checkpoint)
    store = storage.store
    assert isinstance(store, AuditStore)
    lines, audit = await exported(store), CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune(keep=1)]
    await audit.prune(plan)
    before = await log(store)
    result = await imported(store, lines)
    assert (result.events, result.added, result.removed, result.problems) == (5, 0, len(plan.seqs), ())
    assert result.whole
    assert await log(store) == before


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("follows", [None, "elsewhere-0"])
async def test_whoever_uses_the_id_of_an_imported_run_again_does_not_write_into_what_was_removed(
    engine: Engine, stores: Iterator[SqliteEventStore], keep: int, follows: str | None
) -> None:
    source = EventCheckpointStorage(next(stores))
    await saved(source, "r", 6)
    audit = CheckpointAudit(source.store)
    [plan] = [plan async for plan in audit.plan_prune(keep=keep)]
    await audit.prune(plan)
    storage = engine.storage()
    await saved(storage, "elsewhere", 1)
    store = storage.store
    assert isinstance(store, AuditStore)
    result = await imported(store, await exported(source.store))
    assert result.whole
    before = (await log(store))[RUN]
    engine.settle()
    again = (
        await engine.storage()
        .for_run("r")
        .save(WorkflowCheckpoint("w", "g", previous_checkpoint_id=follows, state={"again": True}))
    )
    engine.settle()
    assert (await log(store))[RUN] == before
    assert again in {info.checkpoint_id async for info in CheckpointAudit(engine.open()).runs()}
    await assert_sound(store)


@pytest.mark.parametrize("beside", ["before", "behind"])
async def test_what_is_saved_beside_an_import_is_not_hidden_by_a_record_in_the_file(
    engine: Engine, stores: Iterator[SqliteEventStore], beside: str
) -> None:
    """The store's run ends where the removal in the file begins, and goes on before the import comes to it."""
    events = chain(7)
    file = written([*events[:3], events[6], record(events, 4, 6)])
    store = engine.open()
    assert isinstance(store, AuditStore)
    for event in events[:3]:
        await store.append(event)
    engine.settle()
    own = make_event(RUN, 4, previous=events[2], data=b"own")

    async def lines() -> AsyncGenerator[bytes, None]:
        for number, line in enumerate(file):
            if number == (4 if beside == "before" else 5):
                await engine.open().append(own)
                engine.settle()
            yield line

    result = await CheckpointAudit(store).import_lines(lines())
    assert "the store has another event at seq 4. The two logs have diverged" in result.problems[0]
    assert list((await log(store))[RUN]) == [1, 2, 3, 4]
    await assert_sound(store)


@pytest.mark.parametrize("length", [3, 4, 6])
async def test_another_history_of_what_was_removed_is_not_taken_for_it_where_a_digest_tells(
    engine: Engine, length: int
) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    for event in [*PLAIN[:5], record(PLAIN[:5], 1, 3)]:
        await store.append(event)
    await store.remove(RUN, [1, 2, 3])
    before = await log(store)
    result = await imported(store, written(FOREIGN[:length]))
    assert "The two logs have diverged" in result.problems[0]
    assert await log(store) == before


async def test_two_histories_of_one_run_in_a_file_do_not_mix(stores: Iterator[SqliteEventStore]) -> None:
    mixed = [event for pair in zip(PLAIN, FOREIGN, strict=True) for event in pair]
    store = next(stores)
    result = await imported(store, written(mixed))
    assert result.problem_count >= 12
    assert list((await log(store))[RUN].values()) == PLAIN
    await assert_sound(store)


async def test_the_runs_of_a_file_may_be_in_any_order_and_one_in_several_places(
    stores: Iterator[SqliteEventStore],
) -> None:
    other = chain(3, StreamId("w", "other"))
    parts = [PLAIN[:5], other, PLAIN[5:9], PLAIN[9:]]
    store = next(stores)
    await imported(store, [BEGINNING, *(event_line(event) for part in parts for event in part)])
    assert {stream.run_id: len(events) for stream, events in (await log(store)).items()} == {"r": 12, "other": 3}
    await assert_sound(store)


# Fields


def removal(*stretches: tuple[int, int]) -> CheckpointEvent:
    pruned = tuple(Pruned(first=first, last=last, previous_digest="", digest="") for first, last in stretches)
    return msgspec.structs.replace(record(EARLIER, 1, 6), pruned=pruned)


def forked(seq: int, run_id: str = "origin", at: int = 0) -> CheckpointEvent:
    return msgspec.structs.replace(
        PLAIN[at], forked_from=ForkPoint(workflow_name="w", run_id=run_id, seq=seq, checkpoint_id=None)
    )


UNFIT = {
    "seq 0": msgspec.structs.replace(PLAIN[0], seq=0),
    "seq below zero": msgspec.structs.replace(PLAIN[0], seq=-5),
    "seq beyond 63 bits": msgspec.structs.replace(PLAIN[0], seq=2**63),
    "no run id": msgspec.structs.replace(PLAIN[0], run_id=""),
    "a long run id": msgspec.structs.replace(PLAIN[0], run_id="x" * 256),
    "a checkpoint without payload": msgspec.structs.replace(PLAIN[0], payload=None),
    "a tombstone with payload": msgspec.structs.replace(PLAIN[0], type="tombstone"),
    "a checkpoint with stretches": msgspec.structs.replace(PLAIN[0], pruned=removal((1, 2)).pruned),
    "a size that is not the data's": with_payload(PLAIN[0], stored_size=7),
    "a size below zero": with_payload(PLAIN[0], raw_size=-1),
    "deltas below zero": with_payload(PLAIN[0], since_base=-1),
    "base 0": with_payload(PLAIN[3], base_seq=0),
    "base of its own": with_payload(PLAIN[3], base_seq=4),
    "base behind": with_payload(PLAIN[3], base_seq=9),
    "a snapshot at 0": with_payload(PLAIN[3], base_seq=(2, 0)),
    "a snapshot that is the base": with_payload(PLAIN[3], base_seq=(2, 2)),
    "a snapshot behind the base": with_payload(PLAIN[3], base_seq=(2, 3)),
    "both behind": with_payload(PLAIN[3], base_seq=(9, 8)),
    "a stretch from 0": removal((0, 3)),
    "a stretch backwards": removal((5, 3)),
    "a stretch up to itself": removal((1, 10)),
    "stretches out of order": removal((4, 5), (1, 2)),
    "stretches over each other": removal((1, 4), (3, 5)),
    "a removal and a deletion": msgspec.structs.replace(removal((1, 2)), checkpoint_id="x"),
    "a checkpoint without an id": msgspec.structs.replace(PLAIN[0], checkpoint_id=""),
    "a tombstone of nothing": removal(),
    "a fork in the middle": forked(1, at=3),
    "a fork from before all": forked(-1),
    "a fork from beyond all": forked(2**63),
    "a fork from no run": forked(1, ""),
}


@pytest.mark.parametrize("what", UNFIT)
async def test_an_event_that_no_store_can_keep_is_named_and_left_out(
    stores: Iterator[SqliteEventStore], what: str
) -> None:
    """Its digest fits: whoever made it could compute one."""
    store = next(stores)
    good = chain(3, StreamId("w", "good"))
    lines = written(good)
    result = await imported(store, [lines[0], event_line(sealed(UNFIT[what])), *lines[1:]])
    [problem] = result.problems
    assert problem.startswith("line 2: seq ")
    assert (result.added, result.complete) == (3, True)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"seq":' + b"[" * 200_000,
        b'{"a":' * 50_000,
        b"9" * 100_000,
        event_line(PLAIN[0]).replace(b'"seq":1', b'"seq":' + b"9" * 6_000),
        event_line(PLAIN[0]).replace(b'"seq":1', b'"seq":1e400'),
        event_line(PLAIN[0]).replace(b'"seq":1', b'"seq":null'),
        b'{"end":true,"runs":' + b"9" * 6_000 + b',"events":1}',
        b'{"run_end":true,"workflow_name":"w","run_id":5}',
        b'{"run_end":true,"workflow_name":"\\ud800","run_id":"r","events":1,"seq":1,"digest":""}',
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"\x1f\x8b\x08\x00rubbish",
        b'"text"',
        b"null",
        b"{}",
        b'{"run_id":"\\ud800"}',
    ],
    ids=lambda line: repr(line[:30]),
)
async def test_no_bytes_in_a_line_stop_an_import_or_hide_the_other_lines(
    stores: Iterator[SqliteEventStore], line: bytes
) -> None:
    lines = written(PLAIN)
    for at in range(len(lines) + 1):
        store = next(stores)
        file = b"\r\n".join([*lines[:at], line, *lines[at:]])
        result = await imported(store, [each for some in lines_in(BytesIO(file)) for each in some])
        assert not result.whole
        assert list((await log(store))[RUN].values()) == PLAIN
        await store.close()


async def test_marks_that_editors_leave_do_no_harm(stores: Iterator[SqliteEventStore]) -> None:
    lines = written(PLAIN)
    assert (await imported(next(stores), [b"\xef\xbb\xbf" + lines[0], *(line + b"\r\n" for line in lines[1:])])).whole
    assert (await imported(next(stores), [lines[0], b"\n", *lines[1:], b"  \n"])).whole


async def test_a_line_without_an_end_is_not_held() -> None:
    """What can be no event is let go of at once."""

    class Endless:
        left = 400

        def read(self, size: int) -> bytes:
            self.left -= 1
            return b"x" * size if self.left else b""

    tracemalloc.start()
    [[line]] = list(lines_in(Endless()))  # type: ignore[arg-type] - all that is asked of a file
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(line) < 100
    assert peak < 10_000_000


async def test_of_a_million_bad_lines_the_first_are_told_and_all_are_counted(
    stores: Iterator[SqliteEventStore],
) -> None:
    result = await imported(next(stores), [BEGINNING, *[b"rubbish"] * 20_000])
    assert (len(result.problems), result.problem_count) == (100, 20_000)


# One id in several runs


async def test_a_checkpoint_id_that_another_run_has_is_noted_unless_one_forked_from_the_other(
    engine: Engine, stores: Iterator[SqliteEventStore]
) -> None:
    first = chain(2, StreamId("w", "first"))
    stranger, elsewhere = (
        [sealed(msgspec.structs.replace(first[0], run_id=run, workflow_name=workflow, timestamp="x"))]
        for workflow, run in (("w", "stranger"), ("elsewhere", "first"))
    )
    origin = ForkPoint(workflow_name="w", run_id="first", seq=1, checkpoint_id=first[0].checkpoint_id)
    made = make_event(StreamId("w", "fork"), 1, previous=None)
    fork = sealed(
        msgspec.structs.replace(
            made, checkpoint_id=first[0].checkpoint_id, forked_from=origin, previous_digest=first[0].digest
        )
    )
    store = engine.open()
    assert isinstance(store, AuditStore)
    for events in (first, [fork], elsewhere):
        result = await imported(store, written(events))
        assert (result.whole, result.notes) == (True, ())
    result = await imported(store, written(stranger))
    assert result.whole
    [note] = result.notes
    assert "is in run 'stranger' and in 'first'" in note or "is in run 'stranger' and in 'first', 'fork'" in note
    assert (await imported(store, written(stranger))).notes == ()


# Beside a prune


async def test_an_export_beside_a_prune_is_whole(stores: Iterator[SqliteEventStore]) -> None:
    store = next(stores)
    await store.put(RUN, chain(700))
    audit = CheckpointAudit(store)
    told: list[str] = []
    lines = audit.export(told=lambda run: told.append(run.problem))
    got = [await anext(lines) for _ in range(10)]
    [plan] = [plan async for plan in audit.plan_prune(keep=1)]
    await audit.prune(plan)
    got += [line async for line in lines]
    target = next(stores)
    assert (await imported(target, got)).whole
    assert told == [""]
    await assert_sound(target)


async def test_a_damaged_run_is_exported_as_it_is_and_told(stores: Iterator[SqliteEventStore]) -> None:
    store = next(stores)
    await store.put(RUN, [*PLAIN[:4], *PLAIN[6:]])
    told: list[str] = []
    lines = [line async for line in CheckpointAudit(store).export(told=lambda run: told.append(run.problem))]
    assert len(lines) == 3 + 10
    assert told == [
        "run 'r' of workflow 'w' is damaged: seqs 5 to 6 are gone, and no removal of them was recorded. "
        "What is there was exported; see verify."
    ]


async def test_a_run_with_an_event_that_was_changed_is_exported_as_it_is_and_told(
    stores: Iterator[SqliteEventStore],
) -> None:
    store = next(stores)
    changed = msgspec.structs.replace(PLAIN[2], actor="somebody else")
    await store.put(RUN, [*PLAIN[:2], changed, *PLAIN[3:]])
    told: list[str] = []
    lines = [line async for line in CheckpointAudit(store).export(told=lambda run: told.append(run.problem))]
    assert len(lines) == 3 + 12
    [said] = told
    assert said.startswith("run 'r' of workflow 'w' is damaged: seq 3 was changed: its digest does not match")


# Memory


async def peak(store: SqliteEventStore, events: int, *, first: int = 1) -> int:
    """The bytes at most in use while a log of so many events of 100 KB is imported."""
    previous: list[CheckpointEvent] = []

    async def lines() -> AsyncGenerator[bytes, None]:
        yield BEGINNING
        for seq in range(1, events + 1):
            event = make_event(RUN, seq, previous=previous[-1] if previous else None, data=b"x" * 100_000)
            previous[:] = [event]
            if seq >= first:
                yield event_line(event)

    tracemalloc.start()
    try:
        await CheckpointAudit(store).import_lines(lines())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2], ids=["each line is kept", "all lines wait for a record"])
async def test_memory_does_not_grow_with_the_file(stores: Iterator[SqliteEventStore], first: int) -> None:
    """Of files of 33 and 133 MB, no more than three batches."""
    one, four = [await peak(next(stores), events, first=first) for events in (250, 1_000)]
    assert max(one, four) < 24_000_000
