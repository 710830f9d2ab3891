"""Conversations as the framework's own history providers keep them: what is to be moved."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import agent_framework_azure_cosmos as upstream
from agent_framework import Content, Message
from azure.cosmos.aio import CosmosClient

from eventckpt.location import open_other_container
from eventckpt.stores.cosmos.other_container import OtherContainer

from .conftest import cosmos_account
from .engines import COSMOS_DATABASE

__all__ = ["CALLED", "Container", "answer", "question", "said", "upstreams_container"]


def question(text: str = "yes", **fields: Any) -> Message:
    return Message("user", [text], **fields)


def answer(text: str = "ok", **fields: Any) -> Message:
    return Message("assistant", [text], **fields)


def said(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What is in messages, but for their ids: who has none is given one."""
    return [message.to_dict() | {"message_id": None} for message in messages]


CALLED = [
    question("what is 2 + 2?", author_name="Ada", additional_properties={"$": "ref", "i": 3, "deep": [{"a": None}]}),
    Message("assistant", [Content.from_function_call("c1", "add", arguments={"a": 2, "b": 2})], message_id="mine"),
    Message("tool", [Content.from_function_result("c1", result="4")]),
    answer("4"),
]


class Container:
    """Upstream's container, written by upstream's provider."""

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint, self.key = endpoint, key
        self.name = f"old-{uuid4()}"

    def provider(self, source_id: str = "azure_cosmos_history") -> upstream.CosmosHistoryProvider:
        return upstream.CosmosHistoryProvider(
            source_id,
            endpoint=self.endpoint,
            credential=self.key,
            database_name=COSMOS_DATABASE,
            container_name=self.name,
        )

    async def put(self, *items: dict[str, Any]) -> None:
        """Items that somebody else wrote."""
        async with CosmosClient(self.endpoint, self.key) as client:
            container = client.get_database_client(COSMOS_DATABASE).get_container_client(self.name)
            for item in items:
                await container.create_item(item)

    def opened(self) -> AbstractAsyncContextManager[OtherContainer]:
        return open_other_container(
            self.name,
            endpoint=self.endpoint,
            database_name=COSMOS_DATABASE,
            environ={"AZURE_COSMOS_KEY": self.key},
        )


@asynccontextmanager
async def upstreams_container() -> AsyncGenerator[Container, None]:
    """A container to be, in a database that is there: upstream's provider makes the one, and not the other."""
    async with cosmos_account() as account:
        async with CosmosClient(*account) as client:
            await client.create_database_if_not_exists(COSMOS_DATABASE)
        yield Container(*account)
