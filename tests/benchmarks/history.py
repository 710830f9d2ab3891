"""Chat history: what a turn costs, on Cosmos DB beside upstream's provider and on SQLite by itself."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import agent_framework_azure_cosmos as upstream
from agent_framework import HistoryProvider, Message
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosHistoryProvider, SqliteHistoryProvider

from ..cosmos_emulator import CosmosEmulator
from .cosmos import DATABASE, Cost, cost
from .measure import PRINTED, Bound, Figure, Sample, at_most, compared
from .states import text

__all__ = ["charges", "client_time"]

SESSION = "s"
FLAT = Bound("within 10 %", lambda ratio: 1 / 1.1 <= ratio <= 1.1)
UPSTREAM_FIRST = Bound("≥ 1.67 ×", lambda ratio: ratio >= 1 / 0.6)
UPSTREAM_LATER = Bound("≥ 3.33 ×", lambda ratio: ratio >= 1 / 0.3)
"""Upstream's request units in those of a save here: at most 0.6 of them are to be paid at first, then 0.3."""
PAGE = 100


class Conversation:
    """Turns of one session, as an agent saves them: a question of 80 words and an answer of 80."""

    def __init__(self, history: HistoryProvider, session_id: str = SESSION) -> None:
        self._history = history
        self._session_id = session_id
        self._state: dict[str, Any] = {}
        self._rng = random.Random(1)

    def turn(self) -> list[Message]:
        return [Message(role, [text(self._rng)]) for role in ("user", "assistant")]

    async def save(self, turn: list[Message]) -> None:
        await self._history.save_messages(self._session_id, turn, state=self._state)

    async def load(self) -> list[Message]:
        return await self._history.get_messages(self._session_id, state=self._state)

    async def has(self, turns: int) -> None:
        for _ in range(turns):
            await self.save(self.turn())


async def charges(at: Sequence[int] = (1, 10, 100, 1000)) -> list[Figure]:
    """Requests and request units of a conversation's saves, and of reading it.

    Args:
        at: the turns that are told of. With upstream all but the last are compared.
    """
    ours: list[Cost] = []
    theirs: list[Cost] = []
    *shared, last = at
    reads = Cost([]), Cost([])
    async with CosmosEmulator() as emulator, opened(emulator) as (history, other):
        mine, others = Conversation(history), Conversation(other)
        await mine.load()  # as an agent does before it asks the model
        for number in range(1, last + 1):
            ours.append(await cost(emulator, mine.save(mine.turn())))
            if number <= shared[-1]:
                theirs.append(await cost(emulator, others.save(others.turn())))
            if number == shared[-1]:
                reads = await cost(emulator, mine.load()), await cost(emulator, others.load())
        read = await cost(emulator, mine.load())
    most = max(len(each.requests) for each in ours)
    pages = -(-last // PAGE)
    bounds = (UPSTREAM_FIRST, *[PRINTED] * (len(shared) - 2), UPSTREAM_LATER)
    return [
        *(beside_upstream(number, ours, theirs, bound) for number, bound in zip(shared, bounds, strict=True)),
        *(beside_the_first(number, ours) for number in at[1:]),
        Figure(f"requests of a save, most of {last:,}", str(most), "1", most, "1", most == 1),
        Figure(f"read of {shared[-1]:,} turns", str(reads[0]), f"{reads[1]} upstream",
               reads[1].units / reads[0].units, "printed", True),
        Figure(f"read of {last:,} turns", str(read), f"a request for {PAGE} turns", len(read.requests) / pages,
               "≤ 1 ×", len(read.requests) <= pages),
    ]  # fmt: skip


def beside_upstream(number: int, ours: list[Cost], theirs: list[Cost], bound: Bound) -> Figure:
    mine, other = ours[number - 1].units, theirs[number - 1].units
    return Figure(f"save of turn {number:,}", f"{mine:,.2f} RU", f"{other:,.1f} RU upstream", other / mine, bound.text,
                  bound.holds(other / mine))  # fmt: skip


def beside_the_first(number: int, ours: list[Cost]) -> Figure:
    first, later = ours[0].units, ours[number - 1].units
    return Figure(f"save of turn {number:,} beside turn 1", f"{later:,.2f} RU", f"{first:,.2f} RU", first / later,
                  FLAT.text, FLAT.holds(first / later))  # fmt: skip


@asynccontextmanager
async def opened(emulator: CosmosEmulator) -> AsyncGenerator[tuple[HistoryProvider, HistoryProvider], None]:
    """Ours and upstream's, each in a container of its own that is there already."""
    place = {"database_name": DATABASE, "container_name": "history"}
    async with (
        CosmosClient(emulator.endpoint, emulator.key) as client,
        CosmosHistoryProvider(endpoint=emulator.endpoint, credential=emulator.key, **place) as ours,
    ):
        await client.create_database_if_not_exists(DATABASE)
        theirs = upstream.CosmosHistoryProvider(cosmos_client=client, database_name=DATABASE, container_name="upstream")
        for each in (ours, theirs):
            await Conversation(each, "another").has(1)
        yield ours, theirs


async def client_time(short: int = 10, long: int = 1000, rounds: int = 200) -> list[Figure]:
    """Processor time of a save on SQLite, after many turns and after few."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteHistoryProvider(Path(folder) / "history.db") as history:
            few, many = Conversation(history, "short"), Conversation(history, "long")
            await few.has(short)
            await many.has(long)
            taken: dict[Conversation, list[float]] = {few: [], many: []}
            order = random.Random(rounds)
            for _ in range(rounds):
                for conversation in order.sample([few, many], 2):
                    turn = conversation.turn()
                    started = time.process_time()
                    await conversation.save(turn)
                    taken[conversation].append(time.process_time() - started)
    after_few, after_many = (Sample(taken[each], _ms) for each in (few, many))
    what = f"save after {long:,} turns, CPU"
    return [compared(what, after_many, after_few, f"after {short}", at_most(1.1))]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
