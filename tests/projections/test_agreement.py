"""Log and projection: one rule says where they differ. While events are on their way a document is missing, behind or
late; once they have been delivered, it says what the log says, whatever was removed or came late."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointAudit, CheckpointEvent, RunInfo, SqliteEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.errors import StoreUnavailableError
from eventckpt.events import (
    REMOVALS,
    Annotation,
    ForkPoint,
    PendingRequest,
    Pruned,
    Removal,
    RemovedRun,
    RunStatus,
)
from eventckpt.runs import carried, fold
from eventckpt.storage.compose import annotation_after, claim_after, removal_after, removal_of_runs_after
from eventckpt.storage.memory import EMPTY, Head
from eventckpt.stores import AuditStore, head_of
from eventckpt.stores.change_feed import EVERYTHING
from eventckpt.stores.run_documents import difference
from projections import LatestProjection, compare, open_engine

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine
from .driven_clock import Passing
from .rig import WORKFLOW, Rig, event

STREAM = StreamId(WORKFLOW, "r")
REMOVED = StreamId(WORKFLOW, REMOVALS)
NAMES = st.sampled_from("abc")
STEP = st.one_of(
    st.tuples(st.just("save"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("withhold"), NAMES),
    st.tuples(st.just("bring"), st.integers(0, 3)),
    st.tuples(st.just("prune"), st.integers(0, 3)),
    st.tuples(st.just("die pruning"), st.integers(0, 3)),
    st.tuples(st.just("remove"), st.integers(1, 3)),
    st.tuples(
        st.just("annotate"),
        st.builds(
            Annotation,
            outcome=st.sampled_from([None, "done", "failed"]),
            tags=st.sampled_from([{}, {"customer": "c-17"}]),
            hold=st.sampled_from([False, False, False, True]),
        ),
    ),
    st.tuples(st.just("claim"), st.just(0)),
    st.tuples(st.just("deliver"), st.integers(1, 4)),
    st.tuples(st.just("deliver"), st.just(9)),
    st.tuples(st.just("begin anew"), st.integers(0, 3)),
)
Step = tuple[str, Any]


def named(seq: int, name: str, before: CheckpointEvent | None, *, deletes: bool = False) -> CheckpointEvent:
    """An event of the run about the checkpoint `name`."""
    made = event("r", seq, before=before, deletes=(name or "-") if deletes else None, data=b"x" * seq)
    return sealed(msgspec.structs.replace(made, checkpoint_id=name))


class Play:
    """A run that is written to, pruned, and imported into out of order, and a projection that hears of it in time."""

    def __init__(self, store: AuditStore) -> None:
        self.store = store
        self.engine = open_engine(store)
        self.audit = CheckpointAudit(store)
        self.projection = LatestProjection(store)
        self._head: CheckpointEvent | None = None
        self._withheld: list[CheckpointEvent] = []
        self._positions: list[str | None] = [None]

    async def headers(self) -> list[CheckpointEvent]:
        return [header async for header in self.store.headers(STREAM)]

    async def save(self, name: str, *, deletes: bool = False, is_withheld: bool = False) -> None:
        made = named(self._head.seq + 1 if self._head else 1, name, self._head, deletes=deletes)
        if is_withheld:
            self._head = made
            self._withheld.append(made)
        else:
            await self._put(made)

    async def delete(self, name: str) -> None:
        await self.save(name, deletes=True)

    async def withhold(self, name: str) -> None:
        """The log lacks an event, which may be brought to it later, and has the next one."""
        await self.save(name, is_withheld=True)
        await self.save(name)

    async def annotate(self, said: Annotation) -> None:
        if self._head is not None:
            await self._put(annotation_after(STREAM, Head.of(self._head), said, await self._recorded(), None))

    async def claim(self, _: int) -> None:
        if self._head is not None:
            stays = carried(fold(await self.headers()))
            await self._put(claim_after(STREAM, Head.of(self._head), stays, await self._recorded(), None))

    async def _recorded(self) -> tuple[Pruned, ...]:
        found = await self.store.find("", stream=STREAM)
        return found.event.pruned if found is not None else ()

    async def _put(self, made: CheckpointEvent) -> None:
        self._head = made
        await self.store.put(STREAM, [made])

    async def bring(self, which: int) -> None:
        if self._withheld:
            await self.store.put(STREAM, [self._withheld.pop(which % len(self._withheld))])

    async def prune(self, keep: int) -> None:
        async for plan in self.audit.plan_prune([STREAM], keep=keep):
            if plan.seqs:
                await self.audit.prune(plan)
        await self._look()

    async def die_pruning(self, keep: int) -> None:
        """Record a removal, and remove nothing."""

        async def dies(*_: object) -> int:
            raise StoreUnavailableError("It died.")

        remove, self.store.remove = self.store.remove, dies
        try:
            await self.prune(keep)
        except StoreUnavailableError:
            await self._look()
        finally:
            self.store.remove = remove

    async def remove(self, steps: int) -> None:
        """Remove the run as a whole, up to one of the three steps."""
        if self._head is None:
            return
        last = self._head.seq
        gone = Pruned(first=1, last=last, previous_digest="", digest=self._head.digest)
        closed = removal_after(self._head, (gone,), None, closes=True)
        await self._put(closed)
        if steps > 1:
            removal = Removal(runs=(RemovedRun(run_id="r", seq=closed.seq, digest=closed.digest),))
            before = await head_of(self.store, REMOVED)
            told = removal_of_runs_after(WORKFLOW, Head.of(before) if before else EMPTY, removal, None)
            await self.store.append(told)
        if steps > 2:
            await self.store.remove(STREAM, range(1, last + 1))

    async def deliver(self, count: int) -> bool:
        """Give the projection the next events, if there are any."""
        [piece] = EVERYTHING.cut(await self.engine.feed.ranges())
        page = await self.engine.feed.read(piece, self._positions[-1], start="beginning", limit=count)
        await self.projection.apply(page.events)
        self._positions.append(page.continuation)
        assert not any(each.stream.is_run for each in page.events) or await self.document() is not None
        return bool(page.events or page.behind)  # a page may have nothing but markers

    async def begin_anew(self, back: int) -> None:
        """A worker dies, and another one goes on from an earlier position."""
        self.projection = LatestProjection(self.store)
        self._positions = self._positions[: max(1, len(self._positions) - back)]

    async def differences(self) -> list[str]:
        found = compare(self.store, self.engine.feed, self.store.runs(), clock=Passing())
        return [each.what async for each in found]

    async def denials(self) -> list[str]:
        """What `verify --projection` has against the documents."""
        verdicts = [verdict async for verdict in self.audit.verify_all(projection=True)]
        return [bad.detail for verdict in verdicts for bad in verdict.problems if bad.why == "projection"]

    async def document(self) -> RunInfo | None:
        return (await self.store.runs().get(STREAM)).get(STREAM)

    async def _look(self) -> None:
        headers = await self.headers()
        if headers and (self._head is None or headers[-1].seq > self._head.seq):
            self._head = headers[-1]


async def played(store: AuditStore, steps: Sequence[Step]) -> None:
    play = Play(store)
    for what, how in steps:
        act: Callable[[Any], Awaitable[object]] = getattr(play, what.replace(" ", "_"))
        await act(how)
        kinds = {each.partition(":")[0] for each in await play.differences()}
        assert kinds <= {"missing", "behind", "late"}
        assert bool(await play.denials()) == bool(kinds - {"behind"})
    while await play.deliver(3):
        pass
    assert await play.differences() == []
    assert await play.denials() == []
    assert (document := await play.document()) == fold(await play.headers())
    listed = [info async for info in store.run_store().all()]
    assert listed == ([document] if document is not None and not document.is_emptied else [])
    assert [info async for info in play.audit.runs()] == listed


LATE: list[Step] = [("save", "a"), ("withhold", "b"), ("deliver", 9), ("bring", 0)]
"""An event comes to the log after one that follows it was projected."""
FAILED = Annotation(outcome="failed", reason="because", tags={"customer": "c-17"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=6, max_size=24))
@example(LATE)
@example([*LATE, ("begin anew", 0), ("deliver", 9), ("save", "c")])
@example([*LATE, ("prune", 0), ("deliver", 9), ("begin anew", 3)])
@example([*LATE[:3], ("die pruning", 1), ("deliver", 9), *LATE[3:], ("prune", 1)])
@example([("save", "a"), ("annotate", FAILED), ("deliver", 9), ("save", "b"), ("claim", 0), ("prune", 1), ("claim", 0)])
@example([("save", "a"), ("save", "b"), ("prune", 1), ("annotate", FAILED), ("deliver", 1), ("claim", 0), *LATE])
@example([("save", "a"), ("save", "b"), ("remove", 3), ("deliver", 9), ("begin anew", 1), ("deliver", 9)])
@example([("save", "a"), ("deliver", 1), ("remove", 2), ("deliver", 1), ("save", "b"), ("remove", 3), ("save", "a")])
@example([*LATE[:3], ("remove", 3), ("bring", 0), ("deliver", 9), ("annotate", FAILED), ("deliver", 9)])
@example([*LATE[:3], ("prune", 0), *LATE[1:3], ("bring", 1), ("deliver", 9), ("delete", "b"), ("bring", 0)])
def test_whatever_happens_to_a_run_its_document_lags_and_then_agrees(steps: list[Step]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with SqliteEventStore(Path(folder) / "events.db") as store:
                await played(store, steps)

    asyncio.run(play())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=6, max_size=16))
def test_so_it_does_on_the_other_engine(steps: list[Step]) -> None:
    async def play() -> None:
        async with cosmos() as store:
            await played(store, steps)

    asyncio.run(play())


@asynccontextmanager
async def cosmos() -> AsyncGenerator[AuditStore, None]:
    """A store whose replicas have heard of everything, whatever the environment says."""
    async with CosmosEmulator(switches=Switches()) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        store = engine.open()
        assert isinstance(store, AuditStore)
        try:
            yield store
        finally:
            await engine.close()


# The rule


def record(seq: int, before: CheckpointEvent, first: int, last: int) -> CheckpointEvent:
    """An event that records a removal from the run."""
    stretch = Pruned(first=first, last=last, previous_digest="", digest="")
    return sealed(msgspec.structs.replace(named(seq, "", before, deletes=True), pruned=(stretch,)))


def log_of(*names: str) -> list[CheckpointEvent]:
    """The headers of a run that saved these checkpoints; `-a` deletes one."""
    events: list[CheckpointEvent] = []
    for seq, name in enumerate(names, 1):
        events.append(named(seq, name.removeprefix("-"), events[-1] if events else None, deletes=name[0] == "-"))
    return [made.header() for made in events]


def folded(headers: Sequence[CheckpointEvent]) -> RunInfo:
    info = fold(headers)
    assert info is not None
    return info


def said(headers: Sequence[CheckpointEvent], document: RunInfo | None) -> str:
    return str(difference(headers, document) or "nothing")


OTHER: dict[str, list[Any]] = {
    "seq": [1, 2, 4, 10**12],
    "digest": ["x"],
    "checkpoint_id": ["a", "nowhere", None],
    "checkpoint_seq": [0, 1, 2, 9, -1],
    "base_seq": [1],
    "iteration_count": [9],
    "timestamp": ["", "2999"],
    "status": ["running", "waiting", "done"],
    "messages": [{"x": 1}],
    "pending_requests": [(PendingRequest(request_id="q", source_executor_id="x", request_type="y"),)],
    "raw_size": [0, 9],
    "checkpoints": [0, 1, 9],
    "tombstones": [0, 9],
    "removed": [0, 9],
    "stored_size": [0],
    "actor": ["somebody else"],
    "started_at": ["", "2999"],
    "recorded_at": ["", "2999"],
    "forked_from": [ForkPoint(workflow_name=WORKFLOW, run_id="a", seq=1, checkpoint_id="a-1")],
    "session": ["a"],
    "schema": [9],
    "outcome": ["failed"],
    "reason": ["because"],
    "tags": [{"customer": "c-17"}],
    "hold": [True],
    "traceparent": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
}
"""Other values than the right ones, by field. A document under another run's key does not count at all."""


def pruned_log() -> list[CheckpointEvent]:
    """Three saves of which one is gone, the record of that, and one more."""
    events = log_of("a", "b", "c")
    events.append(record(4, events[-1], 1, 1).header())
    return [*events[1:], named(5, "d", events[-1]).header()]


def test_every_field_is_compared() -> None:
    assert {*OTHER, "workflow_name", "run_id"} == {field.name for field in msgspec.structs.fields(RunInfo)}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in OTHER.items() for value in values])
def test_a_document_with_any_field_wrong_is_not_taken_for_one_that_only_has_not_read_on(
    field: str, value: object
) -> None:
    headers = pruned_log()
    right = folded(headers)
    assert difference(headers, right) is None
    found = difference(headers, msgspec.structs.replace(right, **{field: value}))
    if getattr(right, field) == value:
        assert found is None
        return
    assert found is not None
    others = {"seq": {"ahead"}, "checkpoints": {"late"}, "tombstones": {"late"}, "removed": {"late"}}
    assert found.kind in {"wrong"} | others.get(field, set())
    assert found.kind != "wrong" or field in found.detail.split(", ") or field == "seq"


@pytest.mark.parametrize("status", ["done", "open"])
def test_what_0_1_0_called_idle_is_right(status: RunStatus) -> None:
    headers = log_of("a")
    assert folded(headers).status == "open"
    assert difference(headers, msgspec.structs.replace(folded(headers), status="idle")) is None


def test_a_document_is_behind_where_the_log_has_gone_on_and_missing_ahead_or_unknown_where_one_of_both_is_not() -> None:
    headers = log_of("a", "b", "-b")
    assert said(headers, None) == "missing"
    assert said([], None) == "nothing"
    assert said(headers, folded(headers[:2])) == "behind: the projection is at seq 2, the log at 3"
    assert said(headers[:2], folded(headers)) == "ahead: the projection is at seq 3, the log at 2"
    assert said([], folded(headers)) == "unknown: the log has no such run"


def test_of_a_log_that_was_cut_and_went_on_a_document_says_another_thing() -> None:
    headers = log_of("a", "b", "c")
    other = [*headers[:2], named(3, "x", headers[1]).header()]
    assert said(other, folded(headers)).startswith("wrong: digest")
    assert said([*other, named(4, "y", other[-1]).header()], folded(headers)).startswith("wrong: digest")


def test_of_a_document_whose_events_were_removed_since_only_head_and_checkpoint_are_compared() -> None:
    headers = log_of("a", "b", "-a", "c")
    document = folded(headers[:3])
    headers.append(record(5, headers[-1], 1, 1).header())
    for left in (headers, headers[1:]):
        assert said(left, document) == "behind: the projection is at seq 3, the log at 5"
        uncounted = msgspec.structs.replace(document, checkpoints=99, stored_size=99)
        assert said(left, uncounted) == "behind: the projection is at seq 3, the log at 5"
        for field, value in (
            ("digest", "x"),
            ("actor", "x"),
            ("checkpoint_seq", 3),
            ("raw_size", 99),
            ("status", "done"),
        ):
            assert said(left, msgspec.structs.replace(document, **{field: value})).startswith("wrong: ")
    everything = [record(5, headers[3], 1, 4).header()]
    assert said(everything, document) == "behind: the projection is at seq 3, the log at 5"


def test_a_document_of_0_1_0_that_counted_on_what_was_removed_is_wrong() -> None:
    headers = pruned_log()
    counted_on = msgspec.structs.replace(folded(headers), checkpoints=4, tombstones=1, stored_size=11, removed=0)
    assert said(headers, counted_on) == "wrong: checkpoints, removed, stored_size"


def test_a_document_lacks_what_came_late_also_where_that_is_the_record_of_a_removal() -> None:
    headers = log_of("a", "b")
    headers.append(record(3, headers[-1], 1, 1).header())
    headers.append(named(4, "c", headers[-1]).header())
    without = [headers[0], headers[1], headers[3]]
    assert (folded(without).checkpoints, folded(headers).checkpoints) == (3, 2)
    assert said(headers, folded(without)) == "late: of the 4 seqs up to 4 it knows 3, the log 4"


@pytest.mark.parametrize(("field", "value"), [(field, values[0]) for field, values in OTHER.items()])
async def test_verify_fails_for_a_document_with_any_field_wrong(rig: Rig, field: str, value: object) -> None:
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    headers = pruned_log()
    await store.put(STREAM, headers)
    await store.runs().put(folded(headers))
    audit = CheckpointAudit(store)
    assert [bad for bad in (await audit.verify(STREAM, projection=True)).problems if bad.why == "projection"] == []
    await store.runs().clear()
    await store.runs().put(msgspec.structs.replace(folded(headers), **{field: value}))
    [bad] = [bad for bad in (await audit.verify(STREAM, projection=True)).problems if bad.why == "projection"]
    assert "rebuild" in bad.detail


# Documents that know less, or of another log


async def test_an_event_that_comes_late_is_counted_though_the_head_stays(rig: Rig) -> None:
    headers = log_of("a", "b", "c", "d")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    projection = LatestProjection(store)
    await store.put(STREAM, [headers[0], headers[3]])
    await projection.apply([headers[0], headers[3]])
    assert (await rig.info("r")).seqs_known == 2
    for late in (headers[2], headers[1]):
        await store.put(STREAM, [late])
        await projection.apply([late])
    assert await rig.info("r") == folded(headers)
    assert projection.gaps == 1


async def test_a_record_that_comes_late_takes_what_it_covers_out_of_the_count(rig: Rig) -> None:
    headers = log_of("a", "b")
    headers.append(record(3, headers[-1], 1, 1).header())
    headers.append(named(4, "c", headers[-1]).header())
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await store.put(STREAM, [headers[0], headers[1], headers[3]])
    await LatestProjection(store).apply([headers[0], headers[1], headers[3]])
    await store.put(STREAM, [headers[2]])
    assert await LatestProjection(store).apply([headers[2]]) == 1
    assert await rig.info("r") == folded(headers)


async def test_what_was_delivered_counts_though_the_log_does_not_show_it_below_its_head(rig: Rig) -> None:
    headers = log_of("a", "b", "c")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await store.put(STREAM, [headers[0], headers[2]])
    await LatestProjection(store).apply([headers[0], headers[2]])
    await LatestProjection(store).apply([headers[1]])
    assert await rig.info("r") == folded(headers)


async def test_repeated_events_are_read_from_the_log_once_at_most_and_never_in_a_run_that_was_not_pruned(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pruned = log_of("a", "b", "c"), pruned_log()
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    other = [msgspec.structs.replace(header, run_id="whole") for header in whole]
    await store.put(StreamId(WORKFLOW, "whole"), other)
    await store.put(STREAM, pruned)
    await LatestProjection(store).apply([*other, *pruned])
    read, asked = store.headers, list[str]()

    def headers(stream: StreamId, **how: Any) -> AsyncGenerator[CheckpointEvent, None]:
        asked.append(stream.run_id)
        return read(stream, **how)

    monkeypatch.setattr(store, "headers", headers)
    projection = LatestProjection(store)
    for each in (*other, *pruned, *other, *pruned):
        assert await projection.apply([each]) == 0
    assert asked == []
    more = named(6, "e", pruned[-1])
    await store.put(STREAM, [more])
    assert await projection.apply([more]) == 1
    assert asked == []


async def test_what_only_repeats_a_record_is_projected_without_a_look_at_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = pruned_log()
    head, [gone] = Head.of(pruned[-1]), pruned[2].pruned
    said = annotation_after(STREAM, head, FAILED, (gone,), None)
    claimed = claim_after(STREAM, Head.of(said), carried(folded([*pruned, said])), (gone,), None)
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await store.put(STREAM, pruned)
    projection = LatestProjection(store)
    await projection.apply(pruned)
    await store.put(STREAM, [said, claimed])

    def headers(*_: Any, **__: Any) -> AsyncGenerator[CheckpointEvent, None]:
        raise AssertionError("the log was read")

    monkeypatch.setattr(store, "headers", headers)
    assert [await projection.apply([each]) for each in (said, claimed)] == [1, 1]
    assert await rig.info("r") == folded([*pruned, said, claimed])


async def test_a_document_of_another_history_is_written_over_once_the_log_is_further(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """A file was restored, and its runs went on otherwise."""
    lost = log_of("a", "b", "c")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await LatestProjection(store).apply(lost)  # what was delivered counts before the log shows it
    restored = [*lost[:2], named(3, "x", lost[1]).header()]
    await store.put(STREAM, restored)
    projection = LatestProjection(store)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"'r' of workflow 'w'.*another event at seq 3"):
            await projection.apply(restored[2:])
    for _ in range(3):
        assert await projection.apply(restored[2:]) == 0
    [told] = [each.getMessage() for each in caplog.records if "was cut or restored" in each.getMessage()]
    assert "Run 'r' of workflow 'w': its document is of another event at seq 3 than the log has there" in told
    restored.append(named(4, "y", restored[-1]).header())
    await store.put(STREAM, restored[3:])
    assert await projection.apply(restored[3:]) == 1
    assert await rig.info("r") == folded(restored)


async def test_a_document_of_another_history_is_noticed_by_what_follows_it(rig: Rig) -> None:
    lost = log_of("a", "b", "c")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await LatestProjection(store).apply(lost)
    restored = [*lost[:2], named(3, "x", lost[1]).header()]
    restored.append(named(4, "y", restored[-1]).header())
    await store.put(STREAM, restored)
    projection = LatestProjection(store)
    assert await projection.apply(restored[3:]) == 1
    assert await rig.info("r") == folded(restored)
    assert projection.gaps == 1


async def test_a_document_that_is_ahead_of_the_log_for_good_is_said_once_and_stops_no_other_run(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    headers = log_of("a", "b")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    await store.put(STREAM, headers)
    await store.runs().put(msgspec.structs.replace(folded(headers), seq=9, digest="x"))
    await rig.writer.write("other", count=2)
    others = [header async for header in store.headers(StreamId(WORKFLOW, "other"))]
    projection = LatestProjection(store)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="at seq 9, and the log ends at seq 2"):
            await projection.apply([*headers, *others])
    for _ in range(2):
        assert await projection.apply([*headers, *others]) == 0
    assert (await rig.info("other")).seq == 2
    assert (await rig.info("r")).seq == 9
    told = [each.getMessage() for each in caplog.records if "was cut or restored" in each.getMessage()]
    assert len(told) == 1
    assert "remove the document and rebuild the projection" in told[0]
