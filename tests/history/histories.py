"""Providers to run the tests of conversations on, and what is asked of them again and again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import agent_framework_azure_cosmos as upstream
from agent_framework import AgentSession, HistoryProvider, Message
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosHistoryProvider, SqliteHistoryProvider
from eventckpt.history import EventHistoryProvider
from eventckpt.stores import AuditStore

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine, Engine, SqliteEngine
from .models import said

__all__ = ["Histories", "copy_of", "question_and_answer", "stored", "take_turn", "upstream_history", "upstreams"]


class Histories:
    """The conversations of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opened: list[EventHistoryProvider] = []

    def open(self, **options: Any) -> EventHistoryProvider:
        """A provider over a store of its own, like another process; closed with the engine."""
        made = self._open(options)
        self._opened.append(made)
        return made

    def _open(self, options: dict[str, Any]) -> EventHistoryProvider:
        if isinstance(self._engine, SqliteEngine):
            return SqliteHistoryProvider(self._engine.path, **options)
        if isinstance(self._engine, CosmosEngine):
            return CosmosHistoryProvider(**self._engine.settings, **options)
        store = self._engine.open()
        assert isinstance(store, AuditStore)
        return EventHistoryProvider(store, **options)

    def settle(self) -> None:
        """A moment goes by: see `Engine.settle`."""
        self._engine.settle()

    async def close(self) -> None:
        for provider in self._opened:
            await provider.close()


def question_and_answer(question: str, **answer: Any) -> list[Message]:
    """The messages of a turn, without ids."""
    return [Message("user", [question]), Message("assistant", [f"answer to {question}"], **answer)]


async def stored(history: HistoryProvider, session_id: str = "s") -> list[str]:
    """What is read of a session without any state."""
    return said(await history.get_messages(session_id))


async def take_turn(history: HistoryProvider, session: AgentSession, messages: list[Message]) -> list[str]:
    """A turn as an agent takes it: what it was shown of the past, as `said`."""
    state = session.state.setdefault(history.source_id, {})
    past = await history.get_messages(session.session_id, state=state)
    await history.save_messages(session.session_id, messages, state=state)
    return said(past)


def copy_of(session: AgentSession) -> AgentSession:
    """What a checkpoint keeps of a session, and gives back."""
    return AgentSession.from_dict(session.to_dict())


@asynccontextmanager
async def upstream_history() -> AsyncGenerator[tuple[HistoryProvider, Callable[[], None]], None]:
    """The framework's own provider on a test server, and what lets a moment go by there."""
    async with CosmosEmulator(switches=Switches()) as server, CosmosClient(server.endpoint, server.key) as client:
        await client.create_database_if_not_exists("db")
        server.catch_up()
        yield upstreams(client, "db", "upstream"), server.catch_up


def upstreams(client: CosmosClient, database_name: str, container_name: str) -> HistoryProvider:
    """The framework's own provider, in a container of its own."""
    return upstream.CosmosHistoryProvider(
        cosmos_client=client, database_name=database_name, container_name=container_name
    )
