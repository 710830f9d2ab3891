"""Agents in workflows on our storages: their sessions, calls and replies in another process."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from typing import Any, Never

import pytest
from agent_framework import (
    Agent,
    AgentExecutor,
    AgentExecutorResponse,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    CheckpointStorage,
    Content,
    Executor,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)

from ..engines import Engine
from .workflows import RUN, CrashError, latest, log

# Agents


class Parrot(FunctionInvocationLayer, BaseChatClient):
    """Answers with the number of the turn, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[list[str]] = []

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        self.heard.append([message.text for message in messages if message.role in ("user", "assistant")])
        answer = f"answer to {messages[-1].text}"
        if stream:
            return self._build_response_stream(self._updates(answer))
        return self._response(answer)

    async def _response(self, answer: str) -> ChatResponse:
        return ChatResponse(messages=[Message("assistant", [answer])])

    async def _updates(self, answer: str) -> AsyncIterable[ChatResponseUpdate]:
        yield ChatResponseUpdate(role="assistant", contents=[Content.from_text(answer)])


def conversation(parrot: Parrot, *, session_id: str) -> Workflow:
    agent = Agent(parrot, name="parrot")
    executor = AgentExecutor(agent, session=agent.create_session(session_id=session_id))
    return WorkflowBuilder(start_executor=executor, name="conversation").build()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_remembers_its_session_in_another_process(engine: Engine, stream: bool) -> None:
    async def say(workflow: Workflow, text: str, storage: CheckpointStorage) -> None:
        if stream:
            await workflow.run(text, checkpoint_storage=storage, stream=True).get_final_response()
        else:
            await workflow.run(text, checkpoint_storage=storage)

    first = conversation(Parrot(), session_id="the customer's")
    await say(first, "one", engine.storage().for_run(RUN))

    storage, parrot = engine.storage(), Parrot()
    run = storage.for_run(RUN)
    second = conversation(parrot, session_id="another")
    await second.run(checkpoint_id=(await latest(run, "conversation")).checkpoint_id, checkpoint_storage=run)
    assert parrot.heard == [], "nothing was left to do"
    await say(second, "two", run)

    assert parrot.heard == [["one", "answer to one", "two"]]
    state = (await latest(run, "conversation")).state["_executor_state"]["parrot"]
    assert state["agent_session"]["session_id"] == "the customer's"
    assert [message.text for message in state["full_conversation"]][-2:] == ["two", "answer to two"]
    assert len({event.run_id for event in await log(storage, "conversation")}) == 1


async def test_an_agent_that_was_asked_before_the_crash_is_not_asked_again(engine: Engine) -> None:
    def workflow(parrot: Parrot, *, crash: bool) -> Workflow:
        agent = AgentExecutor(Agent(parrot, name="parrot"))
        sink = Sink(crash=crash)
        return WorkflowBuilder(start_executor=agent, name="paid", output_from=[sink]).add_edge(agent, sink).build()

    asked, spared = Parrot(), Parrot()
    with pytest.raises(CrashError):
        await workflow(asked, crash=True).run("dear", checkpoint_storage=engine.storage().for_run(RUN))
    run = engine.storage().for_run(RUN)
    result = await workflow(spared, crash=False).run(
        checkpoint_id=(await latest(run, "paid")).checkpoint_id, checkpoint_storage=run
    )

    assert (asked.heard, spared.heard) == ([["dear"]], [])
    assert result.get_outputs() == ["answer to dear"]


class Sink(Executor):
    def __init__(self, *, crash: bool) -> None:
        super().__init__(id="sink")
        self._crash = crash

    @handler
    async def take(self, response: AgentExecutorResponse, ctx: WorkflowContext[Never, str]) -> None:
        if self._crash:
            raise CrashError
        await ctx.yield_output(response.agent_response.text)


async def test_a_workflow_used_as_an_agent_goes_on_in_another_process(engine: Engine) -> None:
    first = conversation(Parrot(), session_id="s")
    await first.as_agent().run("one", checkpoint_storage=engine.storage().for_run(RUN))

    storage, parrot = engine.storage(), Parrot()
    run = storage.for_run(RUN)
    second = conversation(parrot, session_id="s")
    checkpoint = await latest(run, "conversation")
    answer = await second.as_agent().run("two", checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert answer.text == "answer to two"
    assert parrot.heard == [["one", "answer to one", "two"]]
    events = await log(storage, "conversation")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].checkpoint_id == (await latest(run, "conversation")).checkpoint_id
