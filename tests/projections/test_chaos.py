"""Workers that are killed, frozen and thawed at random, over leases that fail and ranges that split: nothing is lost.

At the end the projection is the fold of the log, every event was handled, and at no moment had two workers a handler
running on one range with a lease that either believed to be its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from eventckpt.stores.change_feed import FeedRange
from projections import LeaseStore, compare, open_engine

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine, Engine, SqliteEngine
from .chaos_worker import NAME
from .rig import Writer

pytestmark = pytest.mark.slow  # processes that are killed

E = TypeVar("E", bound=Engine)

RUNS = [f"run-{number}" for number in range(30)]
WORKERS = 8
ROUNDS = 8
PATIENCE = 240.0
"""Seconds: eight processes that start at once take their time on a machine that does other things, too."""


class Crew:
    """Worker processes over one store, and the journal that they share."""

    def __init__(self, place: str, journal: Path) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self._place = place
        self._journal = journal
        self._number = 0
        self._said = journal.with_suffix(".log")

    async def hire(self) -> None:
        self._number += 1
        with self._said.open("ab") as said:
            self.processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.projections.chaos_worker", self._place, self._journal,
                    f"w{self._number}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=said,
                )
            )  # fmt: skip

    def check(self) -> None:
        """Nobody goes but who is sent."""
        gone = [process.pid for process in self.processes if process.returncode is not None]
        assert not gone, f"the workers {gone} ended by themselves: {self._said.read_text(encoding='utf-8')[-5000:]}"

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        self.processes.remove(process)
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()

    async def dismiss(self) -> None:
        for process in list(self.processes):
            await self.kill(process)


@asynccontextmanager
async def closing_at_end(engine: E) -> AsyncGenerator[E, None]:
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def place_of(
    kind: str, tmp_path: Path, switches: Switches | None
) -> AsyncGenerator[tuple[Engine, str, CosmosEmulator | None], None]:
    if kind == "sqlite":
        async with closing_at_end(SqliteEngine(tmp_path / "events.db")) as engine:
            yield engine, str(engine.path), None
        return
    name = f"chaos-{uuid.uuid4()}"
    async with (
        CosmosEmulator(partitions={name: 3}, switches=switches) as emulator,
        closing_at_end(CosmosEngine(emulator.endpoint, emulator.key, name)) as cosmos,
    ):
        yield cosmos, json.dumps(cosmos.settings), emulator


@pytest.mark.parametrize("kind", ["sqlite", "cosmos"])
async def test_nothing_is_lost_and_no_range_has_two_handlers(
    kind: str, tmp_path: Path, switches: Switches | None
) -> None:
    dice = random.Random(7)
    journal = tmp_path / "journal"
    journal.touch()
    async with place_of(kind, tmp_path, switches) as (engine, place, emulator):
        crew, writer = Crew(place, journal), Writer(engine.open())
        try:
            await writer.write(*RUNS)
            for _ in range(WORKERS):
                await crew.hire()
            await handled(journal, 1, crew)
            for number in range(ROUNDS):
                await writer.write(*dice.sample(RUNS, 10))
                victim = await owner(writer, crew) or dice.choice(crew.processes)
                await disturb(crew, victim, dice, number)
                if emulator is not None:
                    disturb_service(emulator, engine, number)
            if emulator is not None:
                emulator.faults.clear()
            for process in crew.processes:
                process.send_signal(signal.SIGCONT)
            await caught_up(writer, crew)
            store = writer.store
            assert [each async for each in compare(store, open_engine(store).feed, store.runs())] == []
        finally:
            await crew.dismiss()
        entries = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert {tuple(each) for *_, seen in entries for each in seen} == set(writer.written)
    assert overlaps(entries) == []
    assert len({worker for _, worker, *_ in entries}) > 1


async def owner(writer: Writer, crew: Crew) -> asyncio.subprocess.Process | None:
    """A process that has a lease: whatever happens to it has consequences."""
    owners = {lease.owner.rpartition("-")[2] for lease in await leases_of(writer).all() if lease.owner}
    return next((process for process in crew.processes if str(process.pid) in owners), None)


def leases_of(writer: Writer) -> LeaseStore:
    return open_engine(writer.store).leases(NAME)


async def disturb(crew: Crew, victim: asyncio.subprocess.Process, dice: random.Random, number: int) -> None:
    """One of: a crash and a new worker; a freeze, often past the term of a lease, and a thaw."""
    if number % 2:
        await crew.kill(victim)
        await crew.hire()
        await asyncio.sleep(0.4)
        return
    await asyncio.sleep(0.12)  # so that it is in the middle of a handler
    victim.send_signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(1.0, 2.4))
    victim.send_signal(signal.SIGCONT)


def disturb_service(emulator: CosmosEmulator, engine: Engine, number: int) -> None:
    """Lease writes that fail in every way, and ranges that split and merge."""
    assert isinstance(engine, CosmosEngine)
    events = (engine.settings["database_name"], engine.settings["container_name"])
    emulator.faults.clear()
    leases = f"{events[1]}-leases"
    emulator.faults.respond((412, 429, 503)[number % 3], container=leases, kind="replace_item", rate=0.2, seed=number)
    emulator.faults.respond(503, container=leases, kind="replace_item", rate=0.1, seed=number, applied=True)
    if number in (2, 5):
        emulator.split(*events, emulator.ranges(*events)[-1])
    if number == 6:
        emulator.merge(*events, *emulator.ranges(*events)[:2])


async def handled(journal: Path, least: int, crew: Crew) -> None:
    async with asyncio.timeout(PATIENCE):
        while journal.stat().st_size < least:  # noqa: ASYNC240 - other processes write it
            crew.check()
            await asyncio.sleep(0.05)


async def caught_up(writer: Writer, crew: Crew) -> None:
    """Wait until the projection has the head of every run."""
    runs = writer.store.runs()
    heads = {run: max(writer.in_run(run)) for run in RUNS}
    async with asyncio.timeout(PATIENCE):
        while {info.run_id: info.seq async for info in runs.all()} != heads:
            crew.check()
            await asyncio.sleep(0.1)
    assert not [lease for lease in await leases_of(writer).all() if lease.stopped]


def overlaps(entries: list[Any]) -> list[Any]:
    """Calls of handlers by different workers, on ranges that have keys in common, that ran at the same time."""
    calls: dict[tuple[str, int], list[float]] = {}
    ranges: dict[tuple[str, int], FeedRange] = {}
    for now, worker, call, token, _ in entries:
        calls.setdefault((worker, call), []).append(now)
        low, _, high = token.partition("-")
        ranges[worker, call] = FeedRange(low, high)
    found: list[Any] = []
    running: list[tuple[str, int]] = []
    for call in sorted(calls, key=lambda each: calls[each][0]):
        running = [other for other in running if calls[other][-1] >= calls[call][0]]
        found += [
            (call, other) for other in running if other[0] != call[0] and ranges[other].overlaps(ranges[call])
        ]  # fmt: skip
        running.append(call)
    return found
