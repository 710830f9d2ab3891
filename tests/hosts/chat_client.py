"""A chat client that answers by a function, calls of tools included."""

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


class ContentsChatClient(FunctionInvocationLayer, BaseChatClient):
    """Answers with what `script` makes of all messages."""

    def __init__(self, script: Callable[[list[Message]], Content]) -> None:
        super().__init__()
        self._script = script

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        answer = self._script(list(messages))
        return self._build_response_stream(_updates(answer)) if stream else _response(answer)


async def _response(answer: Content) -> ChatResponse:
    return ChatResponse(messages=[Message("assistant", [answer])])


async def _updates(answer: Content) -> AsyncIterable[ChatResponseUpdate]:
    yield ChatResponseUpdate(role="assistant", contents=[answer])
