"""Everything at once, over both engines: writers, also such as are killed, beside prunes, deletions, imports, forks,
rebuilds and readers, and on SQLite a backup and its restore. At the end log, projection and an independent fold of what
is physically there say the same, and every save that was acknowledged is there, recorded as removed, or newer than the
backup that was restored.

`make campaign` does it for longer. What is done is drawn from a seed, which a failure names; which of two things that
happen at once comes first is not, so that a seed makes a failure likely again, and not certain.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from projections import open_engine
from projections.projector import Projector

from ..cosmos_emulator import CosmosEmulator, Switches
from .book import Book
from .ending import what_is_wrong
from .files import back_up, restore
from .operators import PATIENCE, Operator, Workers, options
from .readers import Reader
from .rows import Rows, from_items, from_sqlite
from .stores import Noting, open_store
from .writers import Writer

pytestmark = pytest.mark.slow  # minutes of everything at once

SEED: Final = int(os.environ.get("EVENTCKPT_TEST_SEED", "1"))
CAMPAIGNS: Final = int(os.environ.get("EVENTCKPT_TEST_CAMPAIGNS", "1"))
"""How many, each with the seed behind that of the one before."""
LENGTH: Final = int(os.environ.get("EVENTCKPT_TEST_LENGTH", "5"))
"""Turns of each operator and reader; a writer has several for each of them."""

SEEDS: Final = [SEED + number for number in range(CAMPAIGNS)]
_MOST: Final = 40
"""Of what is wrong, told."""
_LONGEST: Final = 1800.0
"""Seconds for an act: beyond, something waits for what never comes."""
_OPERATORS: Final = 2
_WRITES: Final = 4
"""Turns of a writer for each of an operator."""
_AHEAD: Final = 2
"""Turns of operators by which others are ahead."""
_READERS: Final = 2
_PROCESSES: Final = 2


Turn: TypeAlias = Callable[[], Awaitable[None]]


class Campaign:
    """One campaign over the store at a place.

    Args:
        place: see `open_store`.
        folder: for journals and other stores.
        seed: of all that is drawn.
        late: whether replicas lag.
    """

    def __init__(self, place: str, folder: Path, seed: int, *, late: bool = False) -> None:
        self.book = Book()
        self.dice = random.Random(seed)
        self.place = place
        self._folder = folder
        self._late = late
        self._again = f"EVENTCKPT_TEST_SEED={seed} EVENTCKPT_TEST_LENGTH={LENGTH}"
        self._acts = 0

    def open(self, name: str) -> Noting:
        """The store as another process opens it."""
        return open_store(self.place, name, self.book.take)

    async def act(self, steps: int, *once: Turn, processes: int = 0) -> None:
        """So many turns for everybody, more for writers; what is to be done `once` is done somewhere between the turns
        of an operator."""
        self._acts += 1
        workers = Workers(self.open, self.book.wrong)
        async with AsyncExitStack() as opened:
            turns: list[list[Turn]] = []
            for number in range(4):
                store = await opened.enter_async_context(self.open(f"s{self._acts}{number}"))
                writer = Writer(
                    store,
                    f"w{self._acts}{number}",
                    random.Random(self.dice.random()),
                    on_conflict="raise" if number == 1 else "fork",
                    bound=number != 2,
                )
                turns.append([writer.turn] * _WRITES * steps)
                if number < _READERS:
                    reader = Reader(store, self.book, random.Random(self.dice.random()), late=self._late)
                    turns.append([reader.turn] * steps)
            for number in range(_OPERATORS):
                store = await opened.enter_async_context(self.open(f"o{self._acts}{number}"))
                elsewhere = self._folder / f"elsewhere-{self._acts}{number}.db"
                dice = random.Random(self.dice.random())
                operator = Operator(store, self.book, dice, workers, elsewhere)
                turns.append([operator.turn] * steps)
            operators = turns[-_OPERATORS:]
            for each in once:
                operators[-1].insert(self.dice.randint(steps // 4, steps // 2), each)
            if processes:
                crew = Crew(self, processes)
                opened.push_async_callback(crew.dismiss)
                await crew.hire()
                turns.append([crew.turn] * _WRITES * steps)
            pace = Pace(sum(map(len, operators)))
            try:
                async with asyncio.timeout(_LONGEST), asyncio.TaskGroup() as everybody:
                    for each in turns:
                        leads = any(each is operator for operator in operators)
                        everybody.create_task(pace.leads(each) if leads else pace.follows(each))
            finally:
                await workers.all_go()
        self.book.absorb()

    def journal(self, name: str) -> Path:
        """Where a process writes its entries."""
        path = self._folder / f"journal-{name}"
        self.book.reads(path)
        return path

    async def end(self, rows: Callable[[], Rows], *, by_commit: bool) -> None:
        """The projection catches up, and everything is compared."""
        async with self.open("the end") as store:
            engine = open_engine(store)
            projector = Projector(engine, options("the last worker"))
            async with projector.processing(await store.runs().active()) as processor:
                async with asyncio.timeout(PATIENCE):
                    await processor.caught_up()
            wrong = [*self.book.said, *await what_is_wrong(rows(), self.book, store, by_commit=by_commit)]
        assert wrong == [], f"{self._again}: {len(wrong)} things are wrong:\n" + "\n".join(wrong[:_MOST])
        assert len(self.book.saved) > LENGTH, "hardly anything was saved"


class Crew:
    """Writers in processes of their own. Now and then one is killed, and another comes."""

    def __init__(self, campaign: Campaign, count: int) -> None:
        self._campaign = campaign
        self._count = count
        self._dice = random.Random(campaign.dice.random())
        self._number = campaign.dice.randrange(1000, 1_000_000)
        self._processes: list[asyncio.subprocess.Process] = []

    async def hire(self) -> None:
        while len(self._processes) < self._count:
            self._number += 1
            name = f"p{self._number}"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.campaign.writer_process", self._campaign.place,
                str(self._campaign.journal(name)), name, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            self._processes.append(process)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"

    async def turn(self) -> None:
        """A turn for one of them, in the middle of which it may be killed."""
        process = self._dice.choice(self._processes)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        await process.stdin.drain()
        if self._dice.random() > 0.03:
            assert await process.stdout.readline() == b"done\n", "a process of writers ended by itself"
            return
        await asyncio.sleep(self._dice.uniform(0, 0.05))
        self._processes.remove(process)
        process.kill()
        await process.communicate()
        await self.hire()

    async def dismiss(self) -> None:
        """All end, when they are done."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            await process.communicate()


class Pace:
    """Keeps everybody beside the operators, whose turns take longer: so that there is always something beside them."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._taken = 0
        self._moved = asyncio.Condition()

    async def leads(self, turns: Sequence[Turn]) -> None:
        """Take the turns of an operator."""
        for turn in turns:
            await turn()
            async with self._moved:
                self._taken += 1
                self._moved.notify_all()

    async def follows(self, turns: Sequence[Turn]) -> None:
        """Take the turns of somebody else, ahead of the operators by no more than what belongs to a few of theirs."""
        for number, turn in enumerate(turns):
            share = number / len(turns)
            async with self._moved:
                await self._moved.wait_for(lambda share=share: share * self._turns < self._taken + _AHEAD)
            await turn()


@pytest.mark.parametrize("seed", SEEDS)
async def test_on_sqlite_nothing_acknowledged_is_lost_and_log_projection_and_rows_agree(
    seed: int, tmp_path: Path
) -> None:
    path, backup = tmp_path / "events.db", tmp_path / "backup.db"
    campaign = Campaign(str(path), tmp_path, seed)
    marks: list[tuple[int, int]] = []

    async def backs_up() -> None:
        marks.append(campaign.book.mark())
        await back_up(path, backup)

    await campaign.act(2 * LENGTH, backs_up, processes=_PROCESSES)
    await campaign.end(lambda: from_sqlite(path), by_commit=True)
    await restore(path, backup)
    campaign.book.restored(marks[0])
    await campaign.end(lambda: from_sqlite(path), by_commit=True)
    await campaign.act(LENGTH, processes=_PROCESSES)
    await campaign.end(lambda: from_sqlite(path), by_commit=True)


@pytest.mark.parametrize("lag", [0.0, 0.4], ids=["prompt", "lagging"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_on_cosmos_nothing_acknowledged_is_lost_and_log_projection_and_rows_agree(
    seed: int, lag: float, tmp_path: Path
) -> None:
    switches = Switches(lag=lag, lag_seconds=0.1, empty_pages=0.2 if lag else 0.0, seed=seed)
    async with emulator(switches, seed) as (service, place):
        campaign = Campaign(json.dumps(place), tmp_path, seed, late=bool(lag))
        await campaign.act(LENGTH)
        service.faults.clear()
        service.catch_up()

        def rows() -> Rows:
            service.catch_up()
            containers = [service.container(place["database_name"], f"{place['container_name']}{suffix}")
                          for suffix in ("", "-projections")]  # fmt: skip
            events, documents = ([item.raw for partition in each.live() for item in partition.items()]
                                 for each in containers)  # fmt: skip
            return from_items(events, documents)

        await campaign.end(rows, by_commit=False)


@asynccontextmanager
async def emulator(switches: Switches, seed: int) -> AsyncGenerator[tuple[CosmosEmulator, dict[str, str]], None]:
    """A service with the troubles that it has at times: it throttles, is out, and loses answers."""
    async with CosmosEmulator(switches=switches, partitions=2) as service:
        writes = ["create_item", "upsert_item", "replace_item", "batch"]
        service.faults.respond(429, retry_after_ms=5, rate=0.03, seed=seed)
        service.faults.respond(503, rate=0.01, seed=seed + 1)
        service.faults.respond(408, applied=True, kind=writes, rate=0.03, seed=seed + 2)
        service.faults.drop(applied=True, kind=writes, rate=0.03, seed=seed + 3)
        yield (
            service,
            {
                "endpoint": service.endpoint,
                "credential": service.key,
                "database_name": "campaign",
                "container_name": "events",
            },
        )
