"""Behind routes of one's own, with `agent-framework-hosting`: its state of agents over a session store."""

from __future__ import annotations

from typing import Any

import pytest
from agent_framework import Agent, Content, InMemoryHistoryProvider, Message
from agent_framework_hosting import AgentState

from eventckpt import EventSessionStore, SessionConflictError

from ..engines import Engine
from .chat_client import ContentsChatClient


def state(engine: Engine) -> AgentState[Any]:
    """As another process has it."""

    def script(messages: list[Message]) -> Content:
        return Content.from_text(f"{sum(message.role == 'user' for message in messages)} so far")

    agent = Agent(ContentsChatClient(script), name="assistant", context_providers=[InMemoryHistoryProvider()])
    store: Any = engine.open()
    return AgentState(agent, session_store=EventSessionStore(store))


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


async def test_of_two_requests_with_one_session_one_hears_of_the_other(engine: Engine) -> None:
    await turn(state(engine), "anna")
    engine.settle()
    one, other = state(engine), state(engine)
    sessions = [await each.get_or_create_session("anna") for each in (one, other)]
    await one.set_session("anna", sessions[0])
    engine.settle()
    with pytest.raises(SessionConflictError):
        await other.set_session("anna", sessions[1])
