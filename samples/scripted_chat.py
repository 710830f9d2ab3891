"""A chat client that answers from a script, so that the samples run without a model, a key or a network.

It is a full chat client of the framework: an `Agent` cannot tell. Put a real one in its place and nothing else
changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from typing import Any

from agent_framework import (
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)


class ScriptedChatClient(FunctionInvocationLayer, BaseChatClient):
    """Answers every conversation with what `script` makes of its last user message."""

    def __init__(self, script: Callable[[str], str]) -> None:
        super().__init__()
        self._script = script

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        question = next(message.text for message in reversed(messages) if message.role == "user")
        answer = self._script(question)
        if stream:
            return self._build_response_stream(_updates(answer))
        return _response(answer)


async def _response(answer: str) -> ChatResponse:
    return ChatResponse(messages=[Message("assistant", [answer])])


async def _updates(answer: str) -> AsyncIterable[ChatResponseUpdate]:
    for line in answer.splitlines(keepends=True):
        yield ChatResponseUpdate(role="assistant", contents=[Content.from_text(line)])
