"""What a conversation costs on Cosmos DB: requests, and request units by the service's price list."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from agent_framework import AgentSession, HistoryProvider, Message
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosHistoryProvider

from ..benchmarks.states import text
from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import where
from ..stores.cosmos_stores import asked, costs
from .histories import upstreams
from .models import Model, agent_with

pytestmark = pytest.mark.calm


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator(switches=Switches()) as running:
        yield running


@pytest.fixture
async def history(emulator: CosmosEmulator) -> AsyncGenerator[CosmosHistoryProvider, None]:
    async with CosmosHistoryProvider(**where(emulator)) as opened:
        await opened.save_messages("another", [Message("user", ["hello"])])  # makes the container
        yield opened


class Turns:
    """Turns of one session, one after the other, as an agent saves them: 80 words, and 80 in answer."""

    def __init__(self, history: HistoryProvider) -> None:
        self._history = history
        self._state: dict[str, Any] = {}
        self._rng = random.Random(1)

    async def load(self) -> None:
        await self._history.get_messages("s", state=self._state)

    async def save(self) -> None:
        messages = [Message(role, [text(self._rng)]) for role in ("user", "assistant")]
        await self._history.save_messages("s", messages, state=self._state)

    async def save_up_to(self, count: int, done: int = 0) -> None:
        for _ in range(done, count):
            await self.save()


async def test_a_turn_is_one_request_to_read_and_one_to_save(
    emulator: CosmosEmulator, history: CosmosHistoryProvider
) -> None:
    turns = Turns(history)
    for _ in range(3):
        assert (await costs(emulator, turns.load()))[0] == {"query": 1}
        assert (await costs(emulator, turns.save()))[0] == {"create_item": 1}


async def test_without_a_state_a_save_asks_for_the_head_once(
    emulator: CosmosEmulator, history: CosmosHistoryProvider
) -> None:
    for _ in range(3):
        requests, _ = await costs(emulator, history.save_messages("s", [Message("user", ["hello"])]))
        assert requests == {"query": 1, "create_item": 1}


@pytest.mark.parametrize("per_call", [False, True])
async def test_through_an_agent_there_are_no_other_requests(
    emulator: CosmosEmulator, history: CosmosHistoryProvider, *, per_call: bool
) -> None:
    session, agent = AgentSession(session_id="s"), agent_with(history, Model(), per_call=per_call)
    await agent.run("one", session=session)
    requests, _ = await costs(emulator, agent.run("look_up: tea coffee", session=session))
    calls = 3 if per_call else 1
    assert requests == {"query": calls, "create_item": calls}


@pytest.mark.parametrize("count", [1, 50, pytest.param(250, marks=pytest.mark.slow)])
async def test_reading_turns_is_one_request_a_page(
    emulator: CosmosEmulator, history: CosmosHistoryProvider, count: int
) -> None:
    turns = Turns(history)
    await turns.save_up_to(count)
    emulator.reset()
    await turns.load()
    requests = asked(emulator)
    assert set(requests) == {"query"}
    pages = [record for record in emulator.requests if record.kind == "query"]
    assert len(pages) <= 1 + count // 100


async def test_a_branch_is_read_with_one_more_request(emulator: CosmosEmulator, history: CosmosHistoryProvider) -> None:
    agent, session = agent_with(history, Model()), AgentSession(session_id="s")
    await agent.run("one", session=session)
    earlier = AgentSession.from_dict(session.to_dict())
    for each in (session, earlier):
        await agent.run("two", session=each)
    requests, _ = await costs(emulator, history.get_messages("s", state=earlier.state[history.source_id]))
    assert requests == {"query": 2}


@pytest.mark.slow
async def test_a_save_costs_the_same_however_long_the_conversation_is(
    emulator: CosmosEmulator, history: CosmosHistoryProvider
) -> None:
    turns, done, units = Turns(history), 0, {}
    await turns.load()
    for count in (1, 10, 100, 1000):
        await turns.save_up_to(count - 1, done)
        _, units[count] = await costs(emulator, turns.save())
        done = count
    assert max(units.values()) <= 1.1 * min(units.values()), units


@pytest.mark.slow
async def test_a_save_costs_less_than_upstreams_from_the_first_turn_on(
    emulator: CosmosEmulator, history: CosmosHistoryProvider
) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        ours, theirs = Turns(history), Turns(upstreams(client, "db", "upstream"))
        for each in (ours, theirs):
            await each.load()
        for number in range(1, 101):
            _, mine = await costs(emulator, ours.save())
            _, other = await costs(emulator, theirs.save())
            if number in (1, 100):
                assert mine <= (0.6 if number == 1 else 0.3) * other, (number, mine, other)
