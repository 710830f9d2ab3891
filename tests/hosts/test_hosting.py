"""Behind routes of one's own, with `agent-framework-hosting`: its state of agents over a session store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_framework import Agent, AgentSession, Content, InMemoryHistoryProvider, Message
from agent_framework_hosting import AgentState

from eventckpt import EventSessionStore, SessionConflictError

from ..engines import Engine
from .chat_client import ContentsChatClient


def state(engine: Engine, kind: type[EventSessionStore] = EventSessionStore) -> AgentState[Any]:
    """As another process has it."""

    def script(messages: list[Message]) -> Content:
        return Content.from_text(f"{sum(message.role == 'user' for message in messages)} so far")

    agent = Agent(ContentsChatClient(script), name="assistant", context_providers=[InMemoryHistoryProvider()])
    store: Any = engine.open()
    return AgentState(agent, session_store=kind(store))


async def turn(state: AgentState[Any], session_id: str) -> str:
    session = await state.get_or_create_session(session_id)
    answer = await state.target.run("hello", session=session)
    await state.set_session(session_id, session)
    return str(answer.text)


async def test_the_next_process_goes_on_with_a_session(engine: Engine) -> None:
    for number in (1, 2, 3):
        assert await turn(state(engine), "anna") == f"{number} so far"
        engine.settle()
    assert await turn(state(engine), "ben") == "1 so far"


@pytest.mark.parametrize("is_new", [True, False], ids=["made by the first", "of an earlier process"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_of_two_requests_with_one_session_one_hears_of_the_other(
    engine: Engine, is_new: bool, processes: int
) -> None:
    if not is_new:
        await turn(state(engine), "anna")
        engine.settle()
    one = state(engine)
    other = state(engine) if processes == 2 else one
    sessions: list[AgentSession] = []
    for each in (one, other):
        sessions.append(await each.get_or_create_session("anna"))
        engine.settle()
    await one.set_session("anna", sessions[0])
    await one.set_session("anna", sessions[0])
    engine.settle()
    with pytest.raises(SessionConflictError):
        await other.set_session("anna", sessions[1])
    assert await turn(other, "anna") == ("1 so far" if is_new else "2 so far")


async def test_of_two_processes_that_make_one_session_one_hears_of_the_other(engine: Engine) -> None:
    both = asyncio.Barrier(2)

    class Together(EventSessionStore):
        """Each makes one only once the other has found none, too."""

        async def get(self, session_id: str) -> AgentSession | None:
            found = await super().get(session_id)
            await both.wait()
            return found

    states = [state(engine, Together) for _ in range(2)]
    made = await asyncio.gather(*(each.get_or_create_session("anna") for each in states), return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["AgentSession", "SessionConflictError"]
