"""Runs that were removed as a whole, and the streams that tell of it: in no list of the projection, which still agrees
with the log, whatever the feed gives, how often and to whom."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointAudit, CheckpointEvent, RunInfo, StreamId
from eventckpt.errors import CheckpointStoreError
from eventckpt.events import REMOVALS
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, RunFilter
from eventckpt.testing.audit_removals import closing, removal_of
from eventckpt.testing.events import dated
from projections import LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector

from ..memory_engine import Data, MemoryEventStore
from .driven_clock import Passing
from .rig import WORKFLOW, Rig, event

GONE, AGAIN, KEPT = (StreamId(WORKFLOW, run) for run in ("gone", "again", "kept"))


class Log:
    """Three runs: one was removed, one was removed and began again, one was let be."""

    def __init__(self, store: AuditStore) -> None:
        self.store = store
        self.written: list[CheckpointEvent] = []
        self.removed: list[tuple[StreamId, int]] = []

    async def write(self) -> None:
        told: CheckpointEvent | None = None
        for stream in (GONE, AGAIN, KEPT):
            head = await self._saved(stream, 3, None)
            if stream == KEPT:
                continue
            closed = await self._append(closing(head))
            told = await self._append(removal_of(closed, told))
            self.removed += [(stream, seq) for seq in range(1, closed.seq)]
            if stream == AGAIN:
                await self._saved(stream, 2, closed)

    async def remove(self) -> None:
        for stream, seq in self.removed:
            await self.store.remove(stream, [seq])

    async def folds(self) -> dict[StreamId, RunInfo | None]:
        return {stream: fold([each async for each in self.store.headers(stream)]) for stream in (GONE, AGAIN, KEPT)}

    async def _saved(self, stream: StreamId, count: int, head: CheckpointEvent | None) -> CheckpointEvent:
        for _ in range(count):
            head = await self._append(event(stream.run_id, head.seq + 1 if head else 1, before=head))
        assert head is not None
        return head

    async def _append(self, made: CheckpointEvent) -> CheckpointEvent:
        await self.store.append(made)
        self.written.append(made.header())
        return made


async def logged(rig: Rig) -> Log:
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    log = Log(store)
    await log.write()
    return log


class TestDeliveries:
    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_in_any_order_repeated_and_by_two_workers_every_document_is_the_fold_of_its_run(
        self, data: st.DataObject
    ) -> None:
        async def play() -> None:
            memory = Data()
            log = Log(MemoryEventStore(memory))
            await log.write()
            workers = [LatestProjection(MemoryEventStore(memory)) for _ in range(2)]
            whole = st.permutations(log.written)
            order = data.draw(whole) + data.draw(st.lists(st.sampled_from(log.written), max_size=10)) + data.draw(whole)
            gone_at = data.draw(st.integers(0, len(order)))
            runs, documents = log.store.run_store(), dict[StreamId, RunInfo]()
            while order:
                if gone_at is not None and len(order) <= gone_at:
                    await log.remove()
                    gone_at = None
                batch, order = order[: (count := data.draw(st.integers(1, 4)))], order[count:]
                await workers[data.draw(st.integers(0, 1))].apply(batch)
                before, documents = documents, await runs.get(GONE, AGAIN, KEPT)
                assert all(documents[stream].seq >= info.seq for stream, info in before.items())
                assert {info.stream async for info in runs.all()} == {
                    stream for stream, info in documents.items() if not info.is_emptied
                }
            await log.remove()
            assert documents == await log.folds()
            assert documents[GONE].is_emptied
            assert {info.run_id for info in (await runs.page()).runs} == {"again", "kept"}
            assert [info async for info in runs.all(emptied=True) if not info.stream.is_run] == []

        asyncio.run(play())

    async def test_an_older_document_that_a_slow_worker_still_puts_brings_nothing_back(self, rig: Rig) -> None:
        log = await logged(rig)
        slow = fold([each for each in log.written if each.stream == GONE][:3])
        assert slow is not None
        assert not slow.is_emptied
        await LatestProjection(log.store).apply(log.written)
        await log.remove()
        assert await rig.engine.open().run_store().put(slow) == 0
        assert await rig.info("gone") == (await log.folds())[GONE]

    async def test_a_feed_in_which_the_events_are_gone_already_is_read_without_a_word(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = await logged(rig)
        await log.remove()
        rig.engine.settle()
        projection = LatestProjection(rig.engine.open())
        worker = rig.worker(projection.apply)
        await worker.start()
        caught_up = asyncio.ensure_future(worker.caught_up())
        await rig.clock.until(caught_up.done, at_most=200)
        for stream, info in (await log.folds()).items():
            assert await rig.info(stream.run_id) == info
        assert projection.gaps == 0
        assert [each.getMessage() for each in caplog.records if each.levelname in ("WARNING", "ERROR")] == []


class TestProjection:
    @pytest.mark.parametrize("are_gone", [False, True], ids=["closed", "removed"])
    async def test_it_agrees_with_the_log_and_is_built_anew_as_it_was(self, rig: Rig, are_gone: bool) -> None:
        log = await logged(rig)
        await LatestProjection(log.store).apply(log.written)
        if are_gone:
            await log.remove()
        rig.engine.settle()
        opened = open_engine(rig.engine.open())
        assert [
            each async for each in compare(opened.store, opened.feed, opened.store.run_store(), clock=rig.clock)
        ] == []
        projector = Projector(opened, ProcessorOptions(worker="other"), clock=rig.clock)
        rebuilding = asyncio.ensure_future(projector.rebuild(lambda *_: None))
        await rig.clock.until(rebuilding.done, at_most=2_000)
        assert await rebuilding == "latest-2"
        for stream, info in (await log.folds()).items():
            assert await rig.info(stream.run_id, "latest-2") == info
        assert await opened.store.run_store("latest-2").get(StreamId(WORKFLOW, REMOVALS)) == {}

    async def test_what_of_a_removed_run_is_wrong_or_missing_is_found(self, rig: Rig) -> None:
        log = await logged(rig)
        projection = LatestProjection(log.store)
        await projection.apply([each for each in log.written if each.stream != GONE])
        await log.remove()
        rig.engine.settle()
        opened = open_engine(rig.engine.open())
        found = [each async for each in compare(opened.store, opened.feed, opened.store.run_store(), clock=Passing())]
        assert found == [(GONE, "missing")]
        problems = [each async for each in CheckpointAudit(log.store).verify_all(projection=True)]
        assert [each.stream for each in problems if each.problems] == [GONE]

    async def test_that_the_feed_begins_with_what_tells_of_a_removal_is_no_reason_for_doubt(
        self, sqlite_rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        rig = sqlite_rig
        log = await logged(rig)
        await log.store.remove(AGAIN, [1, 2, 3])
        head = [each for each in log.written if each.stream == GONE][-1]
        again = event("gone", head.seq + 1, before=head)
        await log.store.append(again)
        await log.store.remove(GONE, range(1, again.seq))
        [piece] = await open_engine(log.store).feed.ranges()
        first = await open_engine(log.store).feed.read(piece, None, start="beginning", limit=1)
        assert [each.run_id for each in first.events] == [REMOVALS]
        stop = asyncio.Event()
        projector = Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="one"), clock=rig.clock)
        running = asyncio.ensure_future(projector.run(stop))
        await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 3)
        await rig.clock.passes(300)
        stop.set()
        await rig.clock.until(running.done, at_most=200)
        assert await log.store.run_store().active() == "latest"
        assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


class TestListings:
    @pytest.mark.parametrize("latest", ["log", "projection"])
    async def test_an_emptied_run_is_in_no_list_of_runs(self, rig: Rig, latest: str) -> None:
        log = await logged(rig)
        await LatestProjection(log.store).apply(log.written)
        for _ in range(2):
            rig.engine.settle()
            audit = CheckpointAudit(log.store, latest=latest)
            assert sorted([info.run_id async for info in audit.runs()]) == ["again", "kept"]
            await log.remove()
        runs = log.store.run_store()
        assert await runs.counts(RunFilter(WORKFLOW)) == {"open": 2}
        assert [each async for each in audit.inbox()] == []

    @pytest.mark.parametrize("latest", ["log", "projection"])
    async def test_a_list_is_read_on_behind_a_run_that_was_emptied_meanwhile(self, rig: Rig, latest: str) -> None:
        await rig.writer.write("a", "b", "c")
        store = rig.writer.store
        assert isinstance(store, AuditStore)
        heads = {run: (await store.read(StreamId(WORKFLOW, run), 1))[0] for run in "abc"}
        await store.append(closed := dated(closing(heads["b"]), "2027-01-01T00:00:00+00:00"))
        await LatestProjection(store).apply([*heads.values(), closed])
        await store.remove(closed.stream, [1])
        rig.engine.settle()
        audit = CheckpointAudit(store, latest=latest)
        for behind in (closed.stream, None):
            assert sorted([info.run_id async for info in audit.runs(after=behind)]) == ["a", "c"]

    async def test_where_all_runs_were_removed_the_projection_is_filled_and_the_list_empty(self, rig: Rig) -> None:
        await rig.writer.write("a")
        store = rig.writer.store
        assert isinstance(store, AuditStore)
        [head] = await store.read(StreamId(WORKFLOW, "a"), 1)
        audit = CheckpointAudit(store, latest="projection")
        rig.engine.settle()
        with pytest.raises(CheckpointStoreError, match="The projection is empty, and the log is not"):
            _ = [info async for info in audit.runs()]
        await store.append(closed := closing(head))
        await LatestProjection(store).apply([head, closed])
        rig.engine.settle()
        assert [info async for info in audit.runs()] == []
        await store.remove(closed.stream, [1])
        await store.run_store().clear()
        rig.engine.settle()
        assert [info async for info in audit.runs()] == []
