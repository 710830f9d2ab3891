"""A rebuilt projection is put in use only when it has what the one in use has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from eventckpt import CheckpointAudit, RunInfo, StreamId
from eventckpt.errors import StoreUnavailableError
from eventckpt.runs import fold
from eventckpt.stores import AuditStore
from projections import ChangeFeedProcessor, ProcessorOptions, compare, open_engine
from projections.projector import Projector
from projections.rebuild_check import PAUSE
from projections.rebuild_lock import RebuildLostError, RebuildRunningError

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine, SqliteEngine
from ..golden_runs import RUNS as GOLDEN
from ..golden_runs import RUNS_FOLDER, TAGS
from ..golden_runs import WORKFLOW as GOLDEN_WORKFLOW
from .commands import ended, started
from .driven_clock import DrivenClock
from .rig import WORKFLOW, Rig, event

pytestmark = pytest.mark.slow  # projections of a thousand runs, and processes

RUNS = 2000
P = TypeVar("P", bound=Projector)


def rebuild_of(rig: Rig) -> asyncio.Future[str]:
    """A rebuild in another process."""
    projector = Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="other"), clock=rig.clock)
    return asyncio.ensure_future(projector.rebuild(lambda *_: None))


def info(run: str, seq: int) -> RunInfo:
    return RunInfo(workflow_name=WORKFLOW, run_id=run, seq=seq, digest="x")


class Watched(DrivenClock):
    """Counts the pauses of a rebuild that has caught up and waits."""

    waits = 0

    async def sleep(self, seconds: float) -> None:
        self.waits += seconds == PAUSE
        await super().sleep(seconds)


async def test_a_rebuild_waits_for_the_runs_that_a_feed_which_lags_does_not_show() -> None:
    clock, replicas = Watched(), DrivenClock()
    lagging = Switches(lag=1.0, lag_seconds=8.0)
    async with CosmosEmulator(switches=lagging, monotonic=replicas.monotonic) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        store, written = engine.open(), event("a", 1)
        known = fold([written])
        assert known is not None
        await store.runs().put(known)
        replicas.advance(100)
        await store.append(written)
        projector = Projector(open_engine(engine.open()), ProcessorOptions(worker="other"), clock=clock)
        rebuilding = asyncio.ensure_future(projector.rebuild(lambda *_: None))
        await clock.until(lambda: clock.waits >= 3 or rebuilding.done(), at_most=10_000)
        assert not rebuilding.done()
        assert await store.runs().active() == "latest"
        replicas.advance(100)
        await clock.until(rebuilding.done, at_most=10_000)
        assert await rebuilding == "latest-2"
        replicas.advance(100)
        assert [each async for each in store.runs("latest-2").all()] == [known]
        await engine.close()


async def test_what_is_ahead_of_the_log_ends_a_rebuild_with_what_to_do(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=2)
    runs = rig.writer.store.runs()
    await runs.put(info("b", 2), info("c", 7), info("d", 1))
    rig.engine.settle()
    rebuilding = rebuild_of(rig)
    await rig.clock.until(rebuilding.done, at_most=10_000)
    with pytest.raises(StoreUnavailableError) as raised:
        await rebuilding
    said = str(raised.value)
    assert "run 'c' of workflow 'w' is at seq 0 in it, and at seq 7 in 'latest'" in said
    assert "2 runs in all" in said
    assert "remove the document 'latest' of this run" in said
    assert await runs.active() == "latest"


async def test_a_rebuild_goes_on_where_the_last_one_was_refused(rig: Rig) -> None:
    await rig.writer.write("a", count=2)
    runs = rig.writer.store.runs()
    await runs.put(info("c", 7))
    rig.engine.settle()
    refused = rebuild_of(rig)
    await rig.clock.until(refused.done, at_most=10_000)
    assert isinstance(refused.exception(), StoreUnavailableError)
    await runs.clear()
    rig.engine.settle()
    rebuilding = rebuild_of(rig)
    await rig.clock.until(rebuilding.done, at_most=10_000)
    assert await rebuilding == "latest-2"
    rig.engine.settle()
    assert [(each.run_id, each.seq) async for each in rig.writer.store.runs("latest-2").all()] == [("a", 2)]


# One at a time


class Stalled(Projector):
    """A rebuild that stands still when it has caught up, until it is let go."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.time = options["clock"]
        self.stands_still, self.goes_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def processing(self, name: str) -> AsyncGenerator[ChangeFeedProcessor]:
        async with super().processing(name) as processor:
            yield processor
        self.stands_still.set()
        await self.goes_on.wait()


class Frozen(DrivenClock):
    """The time of a process that stands still: nothing of it is due, until it wakes up to what the time is."""

    def __init__(self, real: DrivenClock) -> None:
        super().__init__()
        self.now = real.now


def projector_of(rig: Rig, worker: str, kind: type[P], clock: DrivenClock | None = None) -> P:
    return kind(open_engine(rig.engine.open()), ProcessorOptions(worker=worker), clock=clock or rig.clock)


def begun(projector: Projector) -> asyncio.Future[str]:
    return asyncio.ensure_future(projector.rebuild(lambda *_: None))


async def in_use(rig: Rig) -> set[str]:
    rig.engine.settle()
    return {each.run_id async for each in rig.engine.open().runs().all()}


async def test_of_two_rebuilds_at_once_one_is_refused_and_every_run_is_in_use(rig: Rig) -> None:
    runs = [f"{number}" for number in range(RUNS)]
    await rig.writer.write(*runs)
    projectors = [projector_of(rig, worker, Stalled) for worker in ("one", "two")]
    rebuilding = [begun(each) for each in projectors]
    step = 0.05 if isinstance(rig.engine, SqliteEngine) else 0.5  # a thread writes them all in one transaction
    await rig.clock.until(lambda: any(each.done() for each in rebuilding), at_most=10_000, step=step)
    for each in projectors:
        each.goes_on.set()  # it was not done before the other one asked
    await rig.clock.until(lambda: all(each.done() for each in rebuilding), at_most=10_000, step=step)
    refused = [error for each in rebuilding if (error := each.exception()) is not None]
    assert [type(error) for error in refused] == [RebuildRunningError]
    assert "'one' rebuilds" in str(refused[0]) or "'two' rebuilds" in str(refused[0])
    assert await in_use(rig) == set(runs)


async def test_rebuilds_one_after_the_other_leave_two_projections(rig: Rig) -> None:
    await rig.writer.write("a", "b")
    for number in range(2, 6):
        rebuilding = begun(projector_of(rig, f"{number}", Projector))
        await rig.clock.until(rebuilding.done, at_most=10_000)
        assert await rebuilding == f"latest-{number}"
        assert await in_use(rig) == {"a", "b"}
        rig.engine.settle()
        assert await rig.engine.open().runs(f"latest-{number - 2}" if number > 3 else "latest-0").is_empty()


async def test_a_rebuild_that_was_killed_does_not_block_for_longer_than_a_term(rig: Rig) -> None:
    await rig.writer.write("a", "b")
    killed = projector_of(rig, "killed", Stalled, Frozen(rig.clock))
    first = begun(killed)
    await until_still(killed)
    other = projector_of(rig, "two", Projector)
    second = begun(other)
    await rig.clock.until(lambda: other.projection is not None, at_most=2 * 60.0)  # time passes during requests, too
    await rig.clock.until(second.done, at_most=10_000)
    assert await second == "latest-3"
    assert await in_use(rig) == {"a", "b"}
    first.cancel()
    await asyncio.wait([first])


async def test_a_rebuild_that_wakes_up_late_puts_nothing_in_use(rig: Rig) -> None:
    await rig.writer.write("a", "b")
    frozen = Frozen(rig.clock)
    late = projector_of(rig, "late", Stalled, frozen)
    first = begun(late)
    await until_still(late)
    second = begun(projector_of(rig, "two", Projector))
    await rig.clock.until(second.done, at_most=10_000)
    await rig.writer.write("c")
    late.goes_on.set()  # it believes that no time has passed: only the claim is left to tell
    await frozen.until(first.done, at_most=10_000)
    assert isinstance(first.exception(), RebuildLostError)
    rig.engine.settle()
    assert await rig.engine.open().runs().active() == "latest-3"
    assert await in_use(rig) >= {"a", "b"}


async def test_a_rebuild_that_finds_its_lock_outlived_stops_before_it_changes_anything(rig: Rig) -> None:
    await rig.writer.write("a", "b")
    frozen = Frozen(rig.clock)
    late = projector_of(rig, "late", Stalled, frozen)
    first = begun(late)
    await until_still(late)
    frozen.now += 61
    late.goes_on.set()
    await frozen.until(first.done, at_most=10_000)
    assert isinstance(first.exception(), RebuildLostError)
    rig.engine.settle()
    assert await rig.engine.open().runs().active() == "latest"


async def until_still(late: Stalled) -> None:
    await late.time.until(late.stands_still.is_set, at_most=10_000)


async def test_the_command_ends_with_1_beside_a_rebuild_that_is_at_work_and_says_who(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    working = projector_of(rig, "at work", Stalled)
    first = begun(working)
    await until_still(working)
    command = asyncio.ensure_future(ended(rig, "rebuild"))
    await rig.clock.until(command.done, at_most=1_000_000)  # meanwhile the lock is renewed
    code, _, said = await command
    assert code == 1
    assert "'at work' rebuilds the projection" in said
    assert "One rebuild at a time" in said
    working.goes_on.set()
    await rig.clock.until(first.done)
    await first


async def test_a_rebuild_in_another_process_refuses_a_second_one_and_says_who(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    runs = [f"{number}" for number in range(RUNS)]
    await rig.writer.write(*runs)
    processes = [await started(rig, "rebuild") for _ in range(2)]
    said = [(await process.communicate())[1].decode() for process in processes]
    codes = sorted(process.returncode or 0 for process in processes)
    assert codes in ([0, 1], [0, 0])  # 0, 0: one was done before the other began
    assert await in_use(rig) == set(runs)
    assert all("Traceback" not in each for each in said)
    if codes == [0, 1]:
        assert any("One rebuild at a time" in each for each in said)


async def test_what_was_said_of_runs_is_in_a_rebuilt_projection_also_after_a_prune(rig: Rig) -> None:
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    audit, clock = CheckpointAudit(store), rig.clock
    imported = await audit.import_lines((RUNS_FOLDER / "0.3.jsonl").read_bytes().splitlines())
    assert imported.problems == ()
    removed = 0
    for number in (1, 2):
        rig.engine.settle()
        rebuilding = rebuild_of(rig)
        await clock.until(rebuilding.done, at_most=10_000)
        assert await rebuilding == f"latest-{number + 1}"
        rig.engine.settle()
        runs = store.runs(f"latest-{number + 1}")
        documents = {info.run_id: info async for info in runs.all()}
        for run_id in GOLDEN:
            log = fold([header async for header in store.headers(StreamId(GOLDEN_WORKFLOW, run_id))])
            assert documents[run_id] == log
            assert documents[run_id].tags == TAGS
        assert [each async for each in compare(store, open_engine(store).feed, runs, clock=clock)] == []
        async for plan in audit.plan_prune(keep=1, force=True):
            removed += await audit.prune(plan) if plan.seqs else 0
    assert removed > 0
