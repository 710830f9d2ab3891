"""How much is asked of the file, and held of it: for the end of a run one row, for ids no header, for many runs a page
at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import Summary
from eventckpt.storage.removing import each_of, remove_runs
from eventckpt.testing.events import make_event
from projections import compare

WORKFLOW = "workflow"


@asynccontextmanager
async def asked_of(store: SqliteEventStore) -> AsyncGenerator[list[str], None]:
    """The statements that a store's reader is given."""
    statements: list[str] = []
    await store.reading(lambda connection: connection.set_trace_callback(statements.append))
    yield statements
    await store.reading(lambda connection: connection.set_trace_callback(None))


def reads(statements: list[str]) -> list[str]:
    """Those that read events."""
    return [each for each in statements if "FROM events" in each]


def jobs(statements: list[str]) -> int:
    """How many transactions they were read in, without the one that the trace began and ended with."""
    return sum(each.startswith("BEGIN") for each in statements) - 1


async def put(store: SqliteEventStore, runs: int, *, executors: int = 0) -> None:
    """Runs of three snapshots, whose headers name so many executors."""
    for number in range(runs):
        stream, log = StreamId(WORKFLOW, f"run-{number}"), list[CheckpointEvent]()
        for seq in (1, 2, 3):
            event = make_event(stream, seq, previous=log[-1] if log else None)
            assert event.payload is not None
            payload = msgspec.structs.replace(event.payload, base_seq=None)
            summary = Summary(executor_ids=tuple(f"executor {n}" for n in range(executors)))
            log.append(sealed(msgspec.structs.replace(event, payload=payload, summary=summary)))
        await store.put(stream, log)


async def peak_of(ask: Callable[[], Awaitable[object]]) -> int:
    """Bytes in use at once while something is asked."""
    await ask()  # what is made once
    tracemalloc.start()
    try:
        await ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def drained(each: AsyncIterator[object]) -> int:
    return sum([1 async for _ in each])


QUESTIONS: dict[str, Callable[[SqliteEventStore], AsyncIterator[object]]] = {
    "verify": lambda store: CheckpointAudit(store).verify_all(),
    "runs": lambda store: CheckpointAudit(store).runs(),
    "prune": lambda store: CheckpointAudit(store).plan_prune(keep=1),
    "compare": lambda store: compare(store, store.change_feed(), store.run_store()),
}


async def test_the_latest_checkpoint_is_one_row_whatever_lies_behind_it(tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        storage = EventCheckpointStorage(store)
        run, last = storage.for_run("r", workflow_name=WORKFLOW), WorkflowCheckpoint(WORKFLOW, "graph")
        for _ in range(20):
            last = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=last.checkpoint_id)
            await run.save(last)
        for handle in (run, storage):
            async with asked_of(store) as statements:
                found = await handle.get_latest(workflow_name=WORKFLOW)
            assert found == last
            assert [each.rsplit(" ", 2)[1:] for each in reads(statements)] == [["LIMIT", "1"]]


async def test_a_walk_backwards_begins_with_one_row_and_grows(tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await put(store, 200)
        for wanted, pages in ((1, [1]), (2, [1, 16]), (18, [1, 16, 256]), (300, [1, 16, 256, 256])):
            async with asked_of(store) as statements, aclosing(store.workflow_headers(WORKFLOW, desc=True)) as headers:
                for _ in range(wanted):
                    await anext(headers)
            assert [int(each.rsplit(" ", 1)[1]) for each in reads(statements)] == pages


@pytest.mark.parametrize("deleted", [False, True])
async def test_ids_are_listed_without_their_headers(tmp_path: Path, deleted: bool) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await put(store, 100)
        storage = EventCheckpointStorage(store)
        wanted = [f"checkpoint {seq} of run-{n}, {WORKFLOW}" for n in range(100) for seq in (1, 2, 3)]
        if deleted:
            await storage.delete(wanted.pop(7))
        async with asked_of(store) as statements:
            assert await storage.list_checkpoint_ids(workflow_name=WORKFLOW) == wanted
        assert len(reads(statements)) == 1 + deleted
        assert not any("header" in each for each in statements)


@pytest.mark.parametrize("annotated", [False, True])
async def test_runs_that_were_removed_cost_who_asks_for_the_newest_no_statement(
    tmp_path: Path, annotated: bool
) -> None:
    found: list[tuple[int, int]] = []
    for removed in (1, 300):
        async with SqliteEventStore(tmp_path / f"{removed}.db") as store:
            await put(store, removed)
            storage = EventCheckpointStorage(store)
            live, last = storage.for_run("live", workflow_name=WORKFLOW), WorkflowCheckpoint(WORKFLOW, "graph")
            await live.save(last)
            if annotated:
                await live.annotate(outcome="done")
            gone = (StreamId(WORKFLOW, f"run-{number}") for number in range(removed))
            async for removal in remove_runs(store, each_of(gone), actor=None, force=True):
                assert removal.state == "removed"
            async with asked_of(store) as latest:
                assert await storage.get_latest(workflow_name=WORKFLOW) == last
            async with asked_of(store) as ids:
                assert await storage.list_checkpoint_ids(workflow_name=WORKFLOW) == [last.checkpoint_id]
            found.append((len(reads(latest)), len(reads(ids))))
    assert found[1][0] == found[0][0]
    assert found[1][1] <= found[0][1] + 2  # those that are read in twice as many statements, in each of two walks


async def test_ids_take_the_same_memory_whatever_their_headers_hold(tmp_path: Path) -> None:
    peaks: list[int] = []
    for executors in (0, 300):
        async with SqliteEventStore(tmp_path / f"{executors}.db") as store:
            await put(store, 300, executors=executors)
            storage = EventCheckpointStorage(store)
            peaks.append(await peak_of(lambda s=storage: s.list_checkpoint_ids(workflow_name=WORKFLOW)))
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_whole_store_is_read_many_runs_at_a_time(tmp_path: Path, question: str) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await put(store, 300)
        async with asked_of(store) as statements:
            await drained(QUESTIONS[question](store))
        assert jobs(statements) < 300 / 4


@pytest.mark.parametrize("question", ["verify", "runs", "prune"])
async def test_of_a_whole_store_no_more_is_held_than_what_names_its_runs(tmp_path: Path, question: str) -> None:
    peaks: list[int] = []
    for runs in (600, 1_200):
        async with SqliteEventStore(tmp_path / f"{runs}.db") as store:
            await put(store, runs, executors=100)
            peaks.append(await peak_of(lambda s=store: drained(QUESTIONS[question](s))))
    assert peaks[1] - peaks[0] < 600 * 1_200, "less than one header of each"


async def test_of_large_headers_no_more_is_held_than_a_page_has_room_for(tmp_path: Path) -> None:
    peaks: list[int] = []
    for runs in (40, 80):
        async with SqliteEventStore(tmp_path / f"{runs}.db") as store:
            await put(store, runs, executors=15_000)  # 300 KB each
            peaks.append(await peak_of(lambda s=store: drained(CheckpointAudit(s).verify_all())))
    assert peaks[1] < 1.2 * peaks[0]


async def test_a_long_run_among_others_is_read_a_page_at_a_time(tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await put(store, 3)
        head: CheckpointEvent | None = None
        for seq in range(1, 1_201):
            await store.append(head := make_event(StreamId(WORKFLOW, "long"), seq, previous=head))
        streams = [StreamId(WORKFLOW, name) for name in ("run-0", "long", "run-1")]
        stretches = [each async for each in store.headers_of_runs(streams)]
        assert [(each.stream.run_id, len(each.events), each.ends) for each in stretches] == [
            ("run-0", 3, True),
            ("long", 1021, False),
            ("long", 179, True),
            ("run-1", 3, True),
        ]
