"""A model for the tests of conversations: it answers by rule, and keeps what it was shown."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    HistoryProvider,
    Message,
    ResponseStream,
    tool,
)

__all__ = ["Model", "agent_with", "said", "turn_of"]

TOOL = "look_up: "
"""What a question begins with that the model calls a tool for: once for each word behind it."""


class Model(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """Answers a question with "answer to" it, after it has called the tool as often as the question says."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[list[str]] = []
        """Of each call, the messages, as `said` puts them."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        self.shown.append(said(messages))
        content = _next(messages)
        if stream:
            return self._build_response_stream(_updates(content))
        return _response(content)


async def _response(content: Content) -> ChatResponse:
    return ChatResponse(messages=[Message("assistant", [content])])


async def _updates(content: Content) -> AsyncIterable[ChatResponseUpdate]:
    yield ChatResponseUpdate(role="assistant", contents=[content])


def _next(messages: Sequence[Message]) -> Content:
    """The call that comes next in this turn or, after the last one, the answer."""
    last = max(place for place, message in enumerate(messages) if message.role == "user")
    question = messages[last].text
    words = question.removeprefix(TOOL).split() if question.startswith(TOOL) else []
    done = sum(message.role == "tool" for message in messages[last:])
    if done < len(words):
        return Content.from_function_call(f"{question}/{done}", "look_up", arguments={"word": words[done]})
    return Content.from_text(f"answer to {question}")


@tool(approval_mode="never_require")
def look_up(word: str) -> str:
    """What is known of a word."""
    return f"all about {word}"


def said(messages: Sequence[Message]) -> list[str]:
    """The messages in short: texts as they are, and what went to and came from tools."""
    return [", ".join(_content(content) for content in message.contents) for message in messages]


def _content(content: Content) -> str:
    if content.type == "function_call":
        return f"call {content.call_id}"
    if content.type == "function_result":
        return f"result {content.call_id}: {content.result}"
    return content.text or content.type


def turn_of(question: str) -> list[str]:
    """What a turn of the model adds to a conversation, as `said` puts it: the question, calls with results, and the
    answer."""
    added = [question]
    if question.startswith(TOOL):
        for place, word in enumerate(question.removeprefix(TOOL).split()):
            added += [f"call {question}/{place}", f"result {question}/{place}: all about {word}"]
    return [*added, f"answer to {question}"]


def agent_with(history: HistoryProvider, model: Model, *, per_call: bool = False) -> Agent:
    """An agent of the model that can look things up, and whose history is kept there."""
    return Agent(
        model,
        name="assistant",
        tools=[look_up],
        context_providers=[history],
        require_per_service_call_history_persistence=per_call,
    )
