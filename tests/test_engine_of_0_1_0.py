"""An engine that was written for 0.1.0 works: with storages, audits, processors and the projection, and without a
`TypeError` anywhere. What it cannot do it is told about in a sentence.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    CheckpointStoreError,
    EventCheckpointStorage,
    RunInfo,
    SqliteEventStore,
    StreamId,
)
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, Claim, RunFilter, RunStore
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed
from eventckpt.testing.audit_removals import closing, removal_of
from eventckpt.testing.events import append_chain
from projections import (
    ChangeFeedProcessor,
    Engine,
    LatestProjection,
    LeaseStore,
    ProcessorOptions,
    compare,
)
from projections.projector import Projector

from .engine_of_0_1_0 import OldChangeFeed, OldEventStore, OldRunStore
from .memory_engine import Data, MemoryEventStore
from .test_public_names import ABSTRACT, RELEASED

PORTS: dict[str, tuple[type, type]] = {
    "AuditStore": (AuditStore, OldEventStore),
    "RunStore": (RunStore, OldRunStore),
    "ChangeFeed": (ChangeFeed, OldChangeFeed),
}
METHODS = [
    pytest.param(*PORTS[name], method, members[method], id=f"{name}.{method}")
    for _, name, members in RELEASED
    if name in PORTS
    for method in members[ABSTRACT]
]
OPTIONS = ProcessorOptions(poll_interval=0.01, acquire_interval=0.05, backoff=0.05)


@pytest.fixture
def data() -> Data:
    return Data()


@pytest.fixture
def store(data: Data) -> OldEventStore:
    return OldEventStore(MemoryEventStore(data))


def engine_of(data: Data, store: OldEventStore) -> Engine:
    """As its maker put one together: 0.1.0 had `open_engine` for its own two engines alone."""
    inner = MemoryEventStore(data)
    return Engine(store, OldChangeFeed(inner.change_feed()), inner.document_store())


async def saved(storage: EventCheckpointStorage, run: str, **state: object) -> WorkflowCheckpoint:
    checkpoint = WorkflowCheckpoint("w", "graph", state=state)
    await storage.for_run(run).save(checkpoint)
    return checkpoint


async def projected(data: Data, store: OldEventStore) -> None:
    engine = engine_of(data, store)
    async with ChangeFeedProcessor(
        engine.feed, LeaseStore(engine.documents, engine.feed, "mine"), LatestProjection(store).apply, OPTIONS
    ) as processor:
        await asyncio.wait_for(processor.caught_up(), 20)


@pytest.mark.parametrize(("port", "old", "method", "parameters"), METHODS)
def test_the_engine_takes_what_the_ports_of_0_1_0_gave_and_has_nothing_that_came_since(
    port: type, old: type, method: str, parameters: list[str]
) -> None:
    """The control."""
    own = inspect.signature(getattr(old, method)).parameters.values()
    assert [f"*{each.name}" if each.kind is each.KEYWORD_ONLY else each.name for each in own][1:] == parameters
    assert {name for name in vars(old) if not name.startswith("_")} <= {*_abstract_of(port), "runs", "run_store"}


@pytest.mark.parametrize(("port", "old", "method", "parameters"), METHODS)
def test_whatever_a_port_may_be_given_today_an_old_engine_can_be_given(
    port: type, old: type, method: str, parameters: list[str]
) -> None:
    del parameters
    asked = [each for each in inspect.signature(getattr(port, method)).parameters.values() if each.name != "self"]
    by_name = {each.name: None for each in asked if each.kind is each.KEYWORD_ONLY}
    in_place = [None for each in asked if each.kind is not each.KEYWORD_ONLY]
    inspect.signature(getattr(old, method), follow_wrapped=False).bind(None, *in_place, **by_name)


async def test_a_storage_finds_what_was_saved_by_the_projection_and_by_the_log(
    data: Data, store: OldEventStore
) -> None:
    storage = EventCheckpointStorage(store, latest="projection")
    await saved(storage, "a", n=1)
    last = await saved(storage, "b", n=2)
    assert await storage.get_latest(workflow_name="w") == last
    await projected(data, store)
    assert await storage.get_latest(workflow_name="w") == last
    assert last.checkpoint_id in await storage.list_checkpoint_ids(workflow_name="w")


async def test_where_the_newest_document_has_no_live_checkpoint_any_more_the_log_is_asked(
    data: Data, store: OldEventStore
) -> None:
    storage = EventCheckpointStorage(store, latest="projection")
    first = await saved(storage, "a", n=1)
    last = await saved(storage, "b", n=2)
    await projected(data, store)
    await storage.delete(last.checkpoint_id)
    assert await storage.get_latest(workflow_name="w") == first


async def test_a_processor_reads_on_from_page_to_page_and_the_projection_says_what_the_log_says(
    data: Data, store: OldEventStore
) -> None:
    storage = EventCheckpointStorage(store)
    engine, seen = engine_of(data, store), list[str]()
    projection = LatestProjection(store)

    async def handler(batch: list) -> None:
        seen.extend(event.run_id for event in batch)
        await projection.apply(batch)

    leases = LeaseStore(engine.documents, engine.feed, "mine")
    async with ChangeFeedProcessor(engine.feed, leases, handler, OPTIONS) as processor:
        for run in "abc":
            await saved(storage, run)
            await asyncio.wait_for(processor.caught_up(), 20)
        assert processor.troubles == []
    assert seen == ["a", "b", "c"]
    assert [each async for each in compare(store, engine.feed, store.run_store())] == []
    page = await store.run_store().page(RunFilter(workflow_name="w"), limit=2)
    assert [info.run_id for info in page.runs] == ["c", "b"]
    assert await store.run_store().counts() == {"open": 3}


async def test_an_audit_lists_verifies_and_copies(data: Data, store: OldEventStore) -> None:
    storage = EventCheckpointStorage(store)
    run = storage.for_run("a")
    for n in range(4):
        await run.save(WorkflowCheckpoint("w", "graph", state={"n": n}))
    await projected(data, store)
    audit = CheckpointAudit(store, latest="projection")
    assert [info.run_id async for info in audit.runs()] == ["a"]
    assert (await audit.verify(StreamId("w", "a"))).ok
    lines = [line async for line in audit.export()]
    other = CheckpointAudit(OldEventStore(MemoryEventStore(Data())))
    assert (await other.import_lines(lines)).events == 4


async def test_the_projection_that_is_activated_is_in_use_and_a_worker_goes_over_to_it(store: OldEventStore) -> None:
    runs = store.run_store()
    assert await runs.activate("latest-2")
    assert await runs.active() == await runs.active(certain=True) == "latest-2"


async def test_a_worker_runs_and_a_rebuild_says_in_a_sentence_what_the_engine_lacks(
    data: Data, store: OldEventStore
) -> None:
    await saved(EventCheckpointStorage(store), "a")
    stop = asyncio.Event()

    class StopsWhenItIsWritten(OldRunStore):
        async def put(self, *infos: RunInfo) -> int:
            written = await super().put(*infos)
            stop.set()
            return written

    class Watched(OldEventStore):
        def runs(self, name: str | None = None) -> RunStore:
            return StopsWhenItIsWritten(MemoryEventStore(data).run_store(name))

    await asyncio.wait_for(Projector(engine_of(data, Watched(MemoryEventStore(data))), OPTIONS).run(stop), 20)
    assert await store.run_store().get(StreamId("w", "a"))
    with pytest.raises(CheckpointStoreError, match=r"OldRunStore was made for eventckpt 0\.1\.0 and has no claims"):
        await Projector(engine_of(data, store), OPTIONS).rebuild(lambda *_: None)
    with pytest.raises(CheckpointStoreError, match=r"made for eventckpt 0\.1\.0"):
        await store.run_store().activate("latest-2", claim=Claim("latest", "token"))
    assert await store.run_store().active() == "latest"


async def test_a_page_of_a_feed_of_today_can_be_read_on_from_through_an_old_one(
    data: Data, store: OldEventStore
) -> None:
    await saved(EventCheckpointStorage(store), "a")
    feed = engine_of(data, store).feed
    page = await feed.read(EVERYTHING, None, start="beginning", limit=1)
    assert page.witness is not None
    after = await feed.read(EVERYTHING, page.continuation, start="beginning", limit=1, witness=page.witness)
    assert after.events == []


async def test_what_overrides_runs_of_an_engine_of_today_is_what_everything_goes_by(tmp_path: Path) -> None:
    asked: list[str | None] = []

    class Watched(SqliteEventStore):
        def runs(self, name: str | None = None) -> RunStore:
            asked.append(name)
            return super().runs(name)

    async with Watched(tmp_path / "store.db") as store:
        storage = EventCheckpointStorage(store, latest="projection")
        checkpoint = await saved(storage, "a")
        assert await storage.get_latest(workflow_name="w") == checkpoint
        assert await store.runs("other").get(StreamId("w", "a")) == {}
        await store.run_store().put(fold([header async for header in store.headers(StreamId("w", "a"))]))
    assert asked == [None, "other", None]


async def test_a_stream_of_removals_stands_in_none_of_its_lists_and_an_emptied_document_in_none(
    data: Data, store: OldEventStore
) -> None:
    class ListsAll(MemoryEventStore):
        """What an engine of 0.1.0 lists: every stream there is."""

        def _of_runs(self) -> list[CheckpointEvent]:
            return self._listed()

    old = OldEventStore(ListsAll(data))
    [first] = await append_chain(store, StreamId("w", "gone"), 1)
    kept = await append_chain(store, StreamId("w", "kept"), 2)
    await old.append(closed := closing(first))
    await old.append(told := removal_of(closed))
    await old.remove(closed.stream, [1])
    assert {stream async for stream in old.streams()} == {kept[0].stream, closed.stream}
    assert told not in [header async for header in old.workflow_headers("w")]
    assert [header async for header in old.headers(told.stream)] == [told]
    assert sorted([run_id async for run_id in old.run_ids("w")]) == ["gone", "kept"]
    assert [stream async for stream in old.removal_streams()] == []
    assert [info.run_id async for info in CheckpointAudit(old).runs()] == ["kept"]
    await projected(data, old)
    assert [info.run_id async for info in CheckpointAudit(old, latest="projection").runs()] == ["kept"]
    runs = EveryDocument(MemoryEventStore(data).run_store())
    assert [info.run_id async for info in runs.all()] == ["kept"]
    assert {info.run_id async for info in runs.all(emptied=True)} == {"gone", "kept"}
    assert (await runs.counts(), [info.run_id for info in (await runs.page()).runs]) == ({"running": 1}, ["kept"])
    assert not await runs.is_empty()


class EveryDocument(OldRunStore):
    """What one of 0.1.0 gives: every document there is."""

    async def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        async for info in self._inner.all(workflow_name, emptied=True):
            yield info


async def test_it_keeps_no_sessions_and_says_so(store: OldEventStore) -> None:
    with pytest.raises(CheckpointStoreError, match="OldEventStore keeps no sessions"):
        store.sessions()


async def test_its_events_are_given_from_the_last_one_back_and_its_runs_by_name(store: OldEventStore) -> None:
    for run in ("a", "b"):
        events = await append_chain(store, StreamId("w", run), 3)
    assert [event async for event in store.newest(StreamId("w", "b"))] == events[::-1]
    assert [event async for event in store.newest(StreamId("w", "b"), lte=2)] == events[1::-1]
    assert sorted([run_id async for run_id in store.run_ids("w")]) == ["a", "b"]


def _abstract_of(port: type) -> set[str]:
    (members,) = (members for _, name, members in RELEASED if name == port.__name__)
    return set(members[ABSTRACT])
