"""Counterparts of the framework's `TestHistoryProviderBase`: what an agent keeps and is shown, by the flags."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    ContextProvider,
    HistoryProvider,
    Message,
    ResponseStream,
    SessionContext,
    SupportsAgentRun,
)

from .histories import Histories, stored
from .models import Model


class Adds(ContextProvider):
    """Puts a text before what the model is asked."""

    def __init__(self, source_id: str, text: str) -> None:
        super().__init__(source_id)
        self._text = text

    async def before_run(
        self, *, agent: SupportsAgentRun, session: AgentSession, context: SessionContext, state: dict[str, Any]
    ) -> None:
        context.extend_messages(self, [Message("system", [self._text])])


async def ask(history: HistoryProvider, *others: ContextProvider) -> list[str]:
    """A turn of an agent with this history; what the model was shown."""
    model = Model()
    agent = Agent(model, context_providers=[*others, history])
    await agent.run("hello", session=AgentSession(session_id="s"))
    return model.shown[-1]


class TestHistoryProviderBase:
    async def test_default_flags(self, histories: Histories) -> None:
        provider = histories.open()
        assert isinstance(provider, HistoryProvider)
        assert provider.load_messages is True
        assert provider.store_outputs is True
        assert provider.store_inputs is True
        assert provider.store_context_messages is False
        assert provider.store_context_from is None

    async def test_custom_flags(self, histories: Histories) -> None:
        flags = {
            "load_messages": False,
            "store_inputs": False,
            "store_outputs": False,
            "store_context_messages": True,
            "store_context_from": {"rag"},
        }
        provider = histories.open(source_id="audit", **flags)
        assert provider.source_id == "audit"
        assert {name: getattr(provider, name) for name in flags} == flags

    async def test_before_run_loads_messages(self, histories: Histories) -> None:
        await histories.open().save_messages("s", [Message("user", ["history"])])
        histories.settle()
        assert await ask(histories.open()) == ["history", "hello"]

    async def test_after_run_stores_inputs_and_responses(self, histories: Histories) -> None:
        history = histories.open()
        assert await ask(history) == ["hello"]
        assert await stored(history) == ["hello", "answer to hello"]

    async def test_after_run_stores_coalesced_code_interpreter_chunks(self, histories: Histories) -> None:
        history = histories.open(store_inputs=False)
        agent = Agent(Streams(chunks()), context_providers=[history])
        stream = agent.run("make a sheet", session=AgentSession(session_id="s"), stream=True)
        [answer] = (await stream.get_final_response()).messages

        [message] = await history.get_messages("s")
        kinds = [content.type for content in message.contents]
        assert sorted(kinds) == ["code_interpreter_tool_call", "code_interpreter_tool_result"]
        assert [each.to_dict() for each in message.contents] == [each.to_dict() for each in answer.contents]

    async def test_after_run_skips_inputs_when_disabled(self, histories: Histories) -> None:
        history = histories.open(store_inputs=False)
        await ask(history)
        assert await stored(history) == ["answer to hello"]

    async def test_after_run_skips_responses_when_disabled(self, histories: Histories) -> None:
        history = histories.open(store_outputs=False)
        await ask(history)
        assert await stored(history) == ["hello"]

    async def test_after_run_stores_context_messages(self, histories: Histories) -> None:
        history = histories.open(load_messages=False, store_context_messages=True)
        assert await ask(history, Adds("rag", "context")) == ["context", "hello"]
        assert await stored(history) == ["context", "hello", "answer to hello"]

    async def test_after_run_stores_context_from_specific_sources(self, histories: Histories) -> None:
        history = histories.open(load_messages=False, store_context_messages=True, store_context_from={"rag"})
        shown = await ask(history, Adds("rag", "rag-context"), Adds("other", "other-context"))
        assert shown == ["rag-context", "other-context", "hello"]
        assert await stored(history) == ["rag-context", "hello", "answer to hello"]


class Streams(BaseChatClient):
    """Answers with these pieces, whatever it is asked."""

    def __init__(self, updates: Sequence[ChatResponseUpdate]) -> None:
        super().__init__()
        self._answer = updates

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> ResponseStream[ChatResponseUpdate, ChatResponse]:
        assert stream
        return self._build_response_stream(self._updates())

    async def _updates(self) -> AsyncIterable[ChatResponseUpdate]:
        for update in self._answer:
            yield update


def chunks() -> list[ChatResponseUpdate]:
    """A call of a code interpreter that comes in pieces, and then as a whole."""
    result = Content.from_code_interpreter_tool_result(call_id="ci_123", outputs=[])
    calls = [
        Content.from_code_interpreter_tool_call(
            call_id="ci_123", inputs=[Content.from_text(text)], additional_properties={"sequence_number": number}
        )
        for number, text in enumerate(["import", " pandas", "import pandas as pd"], 1)
    ]
    return [ChatResponseUpdate(role="assistant", contents=[content]) for content in (result, *calls)]
