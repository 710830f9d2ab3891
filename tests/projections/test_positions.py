"""A stored position is not taken on trust: one that the feed never gave is refused, said, and read anew."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import EventStore, SqliteEventStore, StoreReplacedError
from eventckpt.stores.change_feed import EVERYTHING, ForeignPositionError
from projections import ChangeFeedProcessor, LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine, SqliteEngine
from .driven_clock import DrivenClock
from .rig import Recorder, Rig, Writer

pytestmark = pytest.mark.slow  # every kind of position on every engine

FOREIGN = ['"abc"', '"-1"', '"9223372036854775808"', '"99999999999999999999"', '"*"', '"1"2', "7 ", '"']
"""Texts that are no position of either engine."""
NEVER = ["", '"٣"', "x" * 5000, "1\r\nheader: x"]
"""What can be no position of any feed; the empty one stands for none."""
BEYOND = '"999999999999999999"'


async def tamper(rig: Rig, position: str | None, processor: str = "test", **fields: Any) -> None:
    """Write another position into the leases of a processor, which has no worker."""
    leases = open_engine(rig.engine.open()).leases(processor)
    rig.engine.settle()
    for lease in await leases.all():
        await leases.replace(msgspec.structs.replace(lease, continuation=position, **fields))


async def read_once(rig: Rig, processor: str = "test") -> None:
    """A worker reads everything there is, and goes."""
    async with rig.worker(Recorder(), "before", processor=processor) as worker:
        await rig.clock.until(lambda: sum(each.events for each in worker.stats.values()) == len(rig.writer.written))


async def caught_up(rig: Rig, worker: ChangeFeedProcessor) -> None:
    """Let time pass until a worker has read everything."""
    waiting = asyncio.ensure_future(worker.caught_up())
    await rig.clock.until(waiting.done)
    await waiting


@pytest.mark.calm
@pytest.mark.parametrize("position", [*FOREIGN, *NEVER])
async def test_what_is_no_position_is_refused_by_the_feed(rig: Rig, position: str) -> None:
    await rig.writer.write("a", count=3)
    feed = open_engine(rig.writer.store).feed
    with pytest.raises(ForeignPositionError, match="is none") as raised:
        await feed.read(EVERYTHING, position, start="beginning", limit=10)
    assert raised.value.is_certain
    with pytest.raises(ForeignPositionError, match="is none"):
        await feed.lag(EVERYTHING, position, start="beginning")


@pytest.mark.calm
async def test_a_position_beyond_the_end_is_refused_by_the_feed(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    feed = open_engine(rig.writer.store).feed
    last = await feed.read(EVERYTHING, None, start="beginning", limit=10)
    beyond = f'"{int(last.continuation.strip(chr(34))) + 1}"'
    for position in (beyond, BEYOND):
        with pytest.raises(ForeignPositionError, match="beyond the end"):
            await feed.read(EVERYTHING, position, start="beginning", limit=10)
        with pytest.raises(ForeignPositionError, match="beyond the end"):
            await feed.lag(EVERYTHING, position, start="beginning")
    assert await feed.lag(EVERYTHING, last.continuation, start="beginning") == 0


@pytest.mark.parametrize("position", [*FOREIGN, BEYOND])
@pytest.mark.parametrize("start", ["beginning", "now"])
async def test_a_worker_that_starts_from_a_foreign_position_reads_everything_anew(
    rig: Rig, caplog: pytest.LogCaptureFixture, position: str, start: Any
) -> None:
    await rig.writer.write("a", "b", count=3)
    await read_once(rig)
    await tamper(rig, position, start=start)
    await rig.writer.write("b")
    seen = Recorder()
    async with rig.worker(seen, "two") as worker:
        await rig.clock.until(lambda: len(seen.handled) == 7)
        await rig.clock.passes(10)
        assert sorted(seen.handled) == sorted(rig.writer.written)
        assert worker.stats["-FF"].positions_refused == 1
        await caught_up(rig, worker)
    assert any("begins anew" in each.getMessage() for each in caplog.records if each.levelname == "ERROR")
    assert "began anew" in str(await open_engine(rig.writer.store).leases("test").doubted())
    [lease] = await rig.leases()
    assert lease.continuation not in (None, position)


@pytest.mark.parametrize("position", NEVER)
async def test_what_can_be_no_position_of_any_feed_counts_as_none(
    rig: Rig, caplog: pytest.LogCaptureFixture, position: str
) -> None:
    await rig.writer.write("a", count=3)
    await read_once(rig)
    await tamper(rig, position)
    seen = Recorder()
    async with rig.worker(seen, "two"):
        await rig.clock.until(lambda: len(seen.handled) == 3)
    assert any("can be none" in each.getMessage() for each in caplog.records) == bool(position)


@pytest.mark.parametrize("position", [FOREIGN[0], BEYOND])
async def test_a_status_says_that_a_position_is_none(rig: Rig, position: str) -> None:
    await rig.writer.write("a", count=3)
    await read_once(rig)
    await tamper(rig, position)
    [status] = await rig.worker(Recorder(), "looks").status()
    assert status.refused is not None
    is_certain = position != BEYOND or isinstance(rig.engine, SqliteEngine)
    assert (status.lag > 0) == is_certain  # else it may be a replica that lags


@pytest.mark.parametrize("kind", ["beginning", "now"])
async def test_positions_that_the_feed_gave_are_never_refused(rig: Rig, kind: Any) -> None:
    await rig.writer.write("a", "b", count=2)
    for number in range(3):
        async with rig.worker(Recorder(), f"worker {number}", start=kind) as worker:
            await caught_up(rig, worker)
            await rig.writer.write("a")
            await caught_up(rig, worker)
            assert worker.stats["-FF"].positions_refused == 0
    assert await open_engine(rig.writer.store).leases("test").doubted() is None


# Where a replica that lags may say so, too

LAG = 8.0


@asynccontextmanager
async def late_rig(lag: float) -> AsyncGenerator[tuple[Rig, DrivenClock]]:
    """Workers over a server whose replicas lag until time passes."""
    replicas = DrivenClock()
    async with CosmosEmulator(switches=Switches(lag=1.0, lag_seconds=lag), monotonic=replicas.monotonic) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        rig = Rig(engine, emulator)
        yield rig, replicas
        await rig.close()
        await engine.close()


async def test_a_replica_that_lags_behind_a_position_does_not_put_it_back() -> None:
    async with late_rig(LAG) as (rig, replicas):
        await rig.writer.write("a", count=2)
        replicas.advance(2 * LAG)
        await rig.writer.write("a", count=3)
        end = (
            await open_engine(rig.writer.store).feed.read(EVERYTHING, None, start="beginning", limit=10)
        ).continuation
        leases = open_engine(rig.writer.store).leases("test")
        await leases.check_rights()
        seen = Recorder()
        worker = rig.worker(seen, "one")  # a process that has seen nothing
        await worker._cycle()
        await worker.stop()
        replicas.advance(2 * LAG)
        await tamper(rig, end)
        await rig.writer.write("a", count=2)
        async with rig.worker(seen, "two") as worker:
            await rig.clock.passes(25)
            assert seen.handled in ([], [("a", 6), ("a", 7)])
            replicas.advance(2 * LAG)
            await rig.clock.until(lambda: ("a", 7) in seen.handled)
            assert worker.stats["-FF"].positions_refused == 0
        assert seen.handled == [("a", 6), ("a", 7)]


async def test_a_position_that_stays_beyond_the_end_is_refused_after_a_while_and_no_sooner(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a", count=3)
    await read_once(rig)
    await tamper(rig, BEYOND)
    seen = Recorder()
    async with rig.worker(seen, "two") as worker:
        await rig.clock.passes(25)
        assert seen.handled == []
        await rig.clock.until(lambda: len(seen.handled) == 3, at_most=20)
        assert worker.stats["-FF"].positions_refused == 1


# A SQLite file that is another one under the same positions


def copied(store: EventStore, to: Path) -> None:
    """A backup as SQLite makes one."""
    assert isinstance(store, SqliteEventStore)
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def put_back(events_of: Path, store: EventStore) -> None:
    """Put the events of a backup in place of those that are there. Who has the file open notices, and ends."""
    assert isinstance(store, SqliteEventStore)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS backup", (str(events_of),))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM events")
        connection.execute("INSERT INTO events SELECT * FROM backup.events")
        connection.execute(
            "UPDATE sqlite_sequence SET seq = (SELECT seq FROM backup.sqlite_sequence WHERE name = 'events')"
            " WHERE name = 'events'"
        )
        connection.execute("COMMIT")


async def test_removing_events_is_no_restore(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b", count=3)
    await read_once(rig)
    with closing(sqlite3.connect(rig.engine.path)) as connection, connection:  # pyright: ignore[reportAttributeAccessIssue]
        connection.execute("DELETE FROM events WHERE position > 3")
    seen = Recorder()
    async with rig.worker(seen, "two") as worker:
        await caught_up(rig, worker)
        assert seen.handled == []
        assert worker.stats["-FF"].positions_refused == 0


@pytest.mark.parametrize("after", [1, 5, 9], ids=["fewer", "as many", "more"])
async def test_another_history_under_the_same_positions_is_noticed(sqlite_rig: Rig, tmp_path: Path, after: int) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    copied(rig.writer.store, tmp_path / "backup.db")
    await rig.writer.write("b", count=5)
    before = Recorder()
    async with rig.worker(before, "one"):
        await rig.clock.until(lambda: len(before.handled) == 6)
    put_back(tmp_path / "backup.db", rig.writer.store)
    writer = Writer(rig.engine.open())
    await writer.write("c", count=after)
    seen = Recorder()
    async with rig.worker(seen, "two") as running:
        await rig.clock.until(lambda: seen.in_run("c") == list(range(1, after + 1)))
        assert running.stats["-FF"].positions_refused == 1


# The projection after a restore


class Unhurried(DrivenClock):
    """Of who looks again at once."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


async def projecting(rig: Rig, worker: str) -> tuple[Projector, asyncio.Event, asyncio.Future[None]]:
    options = ProcessorOptions(worker=worker)
    projector, stop = Projector(open_engine(rig.engine.open()), options, clock=rig.clock), asyncio.Event()
    return projector, stop, asyncio.ensure_future(projector.run(stop))


async def differences(rig: Rig) -> list[Any]:
    rig.engine.settle()
    store = rig.engine.open()
    return [each async for each in compare(store, open_engine(store).feed, store.runs(), clock=Unhurried())]


async def agrees(rig: Rig) -> bool:
    return not await differences(rig)


async def all_is_read(rig: Rig, projector: Projector) -> None:
    """Let time pass until the documents are right and the position behind them is stored, which is done after they are:
    what is put in place of the log in between leaves nobody who knows that it was read."""
    await rig.clock.until(lambda: agrees(rig))
    await caught_up(rig, projector.processor_of(await rig.engine.open().runs().active()))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("is_running", [True, False], ids=["running", "restarted"])
@pytest.mark.parametrize("after", [1, 4, 9])
async def test_after_a_restore_every_document_is_what_the_log_says(
    sqlite_rig: Rig, tmp_path: Path, workers: int, is_running: bool, after: int
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b")
    copied(rig.writer.store, tmp_path / "backup.db")
    await rig.writer.write("a", "b", "gone", count=3)
    started = [await projecting(rig, f"worker {number}") for number in range(workers)]
    await all_is_read(rig, started[0][0])
    if not is_running:
        for _, stop, running in started:
            stop.set()
            await running
    put_back(tmp_path / "backup.db", rig.writer.store)
    rig.writer = writer = Writer(rig.engine.open())
    await writer.write("a2", count=after)
    if is_running:  # each ends where it looks next, and is started anew by who watches over it
        for _, _, running in started:
            await rig.clock.until(running.done)
            with pytest.raises(StoreReplacedError):
                await running
    started = [await projecting(rig, f"later {number}") for number in range(workers)]

    runs = rig.engine.open().run_store()

    async def is_rebuilt() -> bool:
        return await runs.active() != "latest" and await agrees(rig)

    await rig.clock.until(is_rebuilt, step=0.05)
    await writer.write("a2")
    await rig.clock.until(lambda: agrees(rig))
    assert await runs.active() == "latest-2"  # however many noticed, one rebuilt
    assert await rig.info("gone") is None
    assert (await rig.info("a")).seq == 1
    assert any(projector.doubts for projector, _, _ in started)
    for _, stop, running in started:
        stop.set()
        await running


async def test_documents_of_a_log_that_is_gone_are_replaced(rig: Rig) -> None:
    """As where the container of the events is made anew, and leases have another identity."""
    await rig.writer.write("a", "b", count=2)
    store = rig.engine.open()
    async with rig.worker(LatestProjection(store).apply, processor="elsewhere") as worker:
        await caught_up(rig, worker)
    info = await rig.info("a")
    await store.runs().put(msgspec.structs.replace(info, seq=9), msgspec.structs.replace(info, run_id="gone"))
    rig.engine.settle()
    projector, stop, running = await projecting(rig, "one")

    async def is_right() -> bool:
        return await rig.engine.open().runs().active() != "latest" and await agrees(rig)

    await rig.clock.until(is_right)
    assert projector.doubts == 1
    stop.set()
    await running


async def test_an_empty_projection_under_stored_positions_is_filled_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.writer.write("a", "b", count=2)
    projector, stop, running = await projecting(rig, "one")
    await all_is_read(rig, projector)
    await rig.engine.open().runs("latest").clear()
    assert {each.what for each in await differences(rig)} == {"missing"}
    await rig.clock.until(lambda: projector.doubts == 1)
    await all_is_read(rig, projector)
    assert any("has no document" in each.getMessage() for each in caplog.records if each.levelname == "ERROR")
    stop.set()
    await running
    await rig.engine.open().runs().clear()
    projector, stop, running = await projecting(rig, "two")
    await rig.clock.until(lambda: projector.doubts == 1)
    await rig.clock.until(lambda: agrees(rig))
    stop.set()
    await running


async def test_an_emptied_projection_is_noticed_though_events_that_came_since_have_documents(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=2)
    projector, stop, running = await projecting(rig, "one")
    await all_is_read(rig, projector)
    stop.set()
    await running
    await rig.engine.open().runs().clear()
    await rig.writer.write("c")
    projector, stop, running = await projecting(rig, "two")
    await rig.clock.until(lambda: projector.doubts == 1)
    await rig.clock.until(lambda: agrees(rig))
    stop.set()
    await running


async def test_a_projection_that_is_emptied_while_events_come_all_the_time_is_noticed(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=2)
    projector, stop, running = await projecting(rig, "one")
    await all_is_read(rig, projector)
    await rig.engine.open().runs().clear()
    for number in range(60):
        await rig.writer.write(f"new {number}")
        await rig.clock.passes(3)
    await rig.clock.until(lambda: projector.doubts == 1)
    await rig.clock.until(lambda: agrees(rig))
    stop.set()
    await running


async def test_an_empty_log_leaves_nothing_to_doubt(rig: Rig) -> None:
    projector, stop, running = await projecting(rig, "one")
    await rig.clock.passes(200)
    await rig.writer.write("a")
    await rig.clock.until(lambda: agrees(rig))
    await rig.clock.passes(200)
    assert projector.doubts == 0
    assert await rig.engine.open().runs().active() == "latest"
    stop.set()
    await running


async def test_a_pointer_to_a_projection_that_is_not_there_is_said_and_it_is_filled(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.writer.write("a", "b", count=2)
    await rig.engine.open().runs().activate("latest-7")
    rig.engine.settle()
    _, stop, running = await projecting(rig, "one")
    await rig.clock.until(lambda: agrees(rig))
    assert any("'latest-7' is in use" in each.getMessage() for each in caplog.records)
    stop.set()
    await running
