"""The projector's figures: throughput beside a bare read of the same feed, lag, cost when idle, and balance.

`python -m tests.benchmarks.projector`
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec

from eventckpt import CosmosEventStore, EventStore, SqliteEventStore
from eventckpt.stores.change_feed import FeedRange
from projections import Batch, ChangeFeedProcessor, LatestProjection, Lease, ProcessorOptions, open_engine
from projections.balance import share_of

from ..cosmos_emulator import CosmosEmulator
from ..projections.driven_clock import DrivenClock
from ..projections.rig import event
from .cosmos_server import emulator_process
from .measure import Figure, report

__all__ = ["figures"]

RUNS = 50
SETTINGS = {"database_name": "bench", "container_name": "events"}


async def figures(
    events: int = 20_000, rounds: int = 7, seconds: float = 6.0, minutes: int = 20, trials: int = 300
) -> list[Figure]:
    """All of them, each against its bound."""
    return [
        await sqlite_throughput(events, rounds),
        await cosmos_throughput(events, rounds),
        await lag(seconds),
        await idle_cost(minutes),
        balance(trials),
    ]


async def fill(store: EventStore, events: int, runs: int = RUNS) -> None:
    """So many events of so many runs, as they come when the runs take turns."""
    heads: list[Any] = [None] * runs
    for seq in range(1, events // runs + 1):
        heads = [event(f"run-{number}", seq, before=heads[number], data=b"x" * 400) for number in range(runs)]
        await asyncio.gather(*map(store.append, heads))


async def projecting(store: EventStore, name: str, events: int) -> float:
    """Seconds in which one worker brings a new projection to the end of a log of so many events."""
    engine, projection = open_engine(store), LatestProjection(store, store.runs(name))
    done, left = asyncio.Event(), events

    async def apply(batch: Batch) -> None:
        nonlocal left
        await projection.apply(batch)
        left -= len(batch)
        if left <= 0:
            done.set()

    started = time.perf_counter()
    async with ChangeFeedProcessor(engine.feed, engine.leases(name), apply, ProcessorOptions(page_size=1000)):
        await done.wait()
        return time.perf_counter() - started


async def sqlite_throughput(events: int, rounds: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db"), synchronous="NORMAL") as store:
            await fill(store, events)
            taken = statistics.median([await projecting(store, f"p{number}", events) for number in range(rounds)])
    rate = events / taken
    return Figure("SQLite, one worker", f"{rate:,.0f} events/s", "", rate / 5000, "≥ 5,000 events/s", rate >= 5000)


@contextlib.asynccontextmanager
async def emulated(**options: Any) -> AsyncGenerator[tuple[CosmosEmulator, CosmosEventStore], None]:
    async with (
        CosmosEmulator(**options) as emulator,
        CosmosEventStore(endpoint=emulator.endpoint, credential=emulator.key, **SETTINGS) as store,
    ):
        yield emulator, store


async def cosmos_throughput(events: int, rounds: int, runs: int = 10) -> Figure:
    """The bare reader and the processor take turns, over a server in a process of its own; both ask for pages of the
    same size. A page has a hundred events of each run, so that they coalesce."""
    bare: list[float] = []
    ours: list[float] = []
    async with (
        emulator_process() as (endpoint, key),
        CosmosEventStore(endpoint=endpoint, credential=key, **SETTINGS) as store,
    ):
        await fill(store, events, runs)
        container: Any = await store.container()
        for number in range(rounds):
            started = time.perf_counter()
            feed = container.query_items_change_feed(start_time="Beginning", max_item_count=1000)
            assert len([item async for item in feed]) == events
            bare.append(time.perf_counter() - started)
            ours.append(await projecting(store, f"p{number}", events))
    theirs, mine = statistics.median(bare), statistics.median(ours)
    ratio = theirs / mine
    rates = f"{events / mine:,.0f} events/s", f"{events / theirs:,.0f} events/s bare read"
    return Figure("Cosmos DB (test server), one worker", *rates, ratio, "≥ 0.8 ×", ratio >= 0.8)


async def lag(seconds: float, rate: int = 200, poll: float = 1.0) -> Figure:
    """From the append of an event to the end of the handler, while events come evenly."""
    written: dict[tuple[str, int], float] = {}
    lags: list[float] = []
    heads: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db"), synchronous="NORMAL") as store:
            engine, projection = open_engine(store), LatestProjection(store)

            async def apply(batch: Batch) -> None:
                await projection.apply(batch)
                now = time.perf_counter()
                lags.extend(now - written[each.run_id, each.seq] for each in batch)

            options = ProcessorOptions(poll_interval=poll)
            async with ChangeFeedProcessor(engine.feed, engine.leases("lag"), apply, options):
                started = time.perf_counter()
                for number in range(int(seconds * rate)):
                    run, seq = f"run-{number % RUNS}", number // RUNS + 1
                    written[run, seq] = time.perf_counter()
                    heads[run] = event(run, seq, before=heads.get(run))
                    await store.append(heads[run])
                    await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.perf_counter()))
                await asyncio.sleep(2 * poll)
    p99 = statistics.quantiles(lags, n=100)[98]
    return Figure(f"lag at {rate} events/s, p99", f"{p99:.2f} s", f"{poll:g} s poll interval", p99 / poll, "≤ 2 ×",
                  p99 <= 2 * poll)  # fmt: skip


async def idle_cost(minutes: int) -> Figure:
    """Request units of a worker that has nothing to do, beside one that does what .NET's does, at its defaults."""
    async with emulated() as (emulator, store):
        await store.find("nothing")
        engine, clock = open_engine(store), DrivenClock()

        async def nothing(batch: Batch) -> None:
            return

        async with ChangeFeedProcessor(engine.feed, engine.leases("idle"), nothing, clock=clock):
            await clock.passes(5)
            emulator.reset()
            await _slowly(clock, minutes * 60)
            ours = emulator.charges.total
        theirs = await _dotnet(emulator, store, minutes * 60)
    return Figure("idle, one lease", f"{ours / minutes:.0f} RU/min", f"{theirs / minutes:.0f} RU/min .NET defaults",
                  ours / theirs, "≤ 0.7 ×", ours <= 0.7 * theirs)  # fmt: skip


async def _slowly(clock: DrivenClock, seconds: float) -> None:
    """Let virtual time pass, giving every request that becomes due the real time that it needs."""
    for _ in range(int(seconds)):
        clock.advance(1.0)
        await asyncio.sleep(0.01)


async def _dotnet(emulator: CosmosEmulator, store: CosmosEventStore, seconds: int) -> float:
    """The requests that .NET's processor sends for one idle lease: a poll every 5 s, a look every 13 s, and every 17 s
    a renewal, for which it reads the lease before it replaces it."""
    engine = open_engine(store)
    leases = engine.leases("dotnet")
    lease = await leases.create(Lease(range=FeedRange("", "FF"), owner="one"))
    assert lease is not None
    page = await engine.feed.read(lease.range, None, start="beginning", limit=100)
    emulator.reset()
    for second in range(1, seconds + 1):
        if second % 5 == 0:
            await engine.feed.read(lease.range, page.continuation, start="beginning", limit=100)
        if second % 13 == 0:
            await leases.all()
        if second % 17 == 0:
            current = await leases.read(lease)
            assert current is not None
            await leases.replace(current)
    return emulator.charges.total


def balance(trials: int) -> Figure:
    """12 leases over 1 to 8 workers that join and leave: the spread after three looks of everybody."""
    dice = random.Random(5)
    worst = 0
    for _ in range(trials):
        leases = [Lease(range=FeedRange(f"{number:02X}", f"{number + 1:02X}")) for number in range(12)]
        workers: list[str] = []
        for change in range(6):
            workers = _changed(workers, leases, dice, change)
            for _ in range(3):
                for worker in dice.sample(workers, len(workers)):
                    _look(worker, leases)
            counts = [sum(lease.owner == worker for lease in leases) for worker in workers]
            assert sum(counts) == 12
            worst = max(worst, max(counts) - min(counts))
    return Figure("12 leases, 1 to 8 workers: spread", f"{worst}", "", float(worst), "≤ 1 after 3 cycles", worst <= 1)


def _changed(workers: list[str], leases: list[Lease], dice: random.Random, change: int) -> list[str]:
    """Another number of workers; those that leave release what they have."""
    wanted = dice.randint(1, 8)
    stay = dice.sample(workers, min(len(workers), wanted))
    for index, lease in enumerate(leases):
        if lease.owner not in stay:
            leases[index] = _with(lease, owner=None, wanted_by=lease.wanted_by if lease.wanted_by in stay else None)
    return stay + [f"{change}-{number}" for number in range(wanted - len(stay))]


def _look(worker: str, leases: list[Lease]) -> None:
    """One acquire cycle: give away what others asked for, take what is free, ask for what is missing."""
    at: Callable[[Lease], int] = leases.index
    for lease in list(leases):
        if lease.owner == worker and lease.wanted_by:
            leases[at(lease)] = _with(lease, owner=None)
    share = share_of(worker, leases, [], requests=ProcessorOptions().requests_per_cycle)
    for lease in share.take:
        leases[at(lease)] = _with(lease, owner=worker, wanted_by=None)
    for lease in share.request:
        leases[at(lease)] = _with(lease, wanted_by=None if lease.owner == worker else worker)


def _with(lease: Lease, **changes: Any) -> Lease:
    return msgspec.structs.replace(lease, **changes)


if __name__ == "__main__":
    sys.exit(0 if report("The projector", asyncio.run(figures())) else 1)
