"""The Invocations host, with sessions of ours: a client that was overtaken is told so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_framework import Agent, Content, InMemoryHistoryProvider, Message
from agent_framework_foundry_hosting import InvocationsHostServer

from eventckpt import SqliteCheckpointStorage
from eventckpt.hosts.foundry import FoundrySessionStores

from .chat_client import ContentsChatClient


def server(storage: SqliteCheckpointStorage, both: asyncio.Barrier) -> InvocationsHostServer:
    """Each answers only once the other one is about to."""

    def script(messages: list[Message]) -> Content:
        return Content.from_text(f"{sum(message.role == 'user' for message in messages)} so far")

    class Waiting(InMemoryHistoryProvider):
        async def before_run(self, **of: Any) -> None:
            await both.wait()
            await super().before_run(**of)

    agent = Agent(ContentsChatClient(script), context_providers=[Waiting()], default_options={"store": False})
    return InvocationsHostServer(
        agent,
        agent_session_store_provider=FoundrySessionStores(storage.store),
        log_level="CRITICAL",
        configure_observability=None,  # it would send what it measures to Azure
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_of_two_requests_at_two_hosts_the_slower_one_hears_of_a_conflict(tmp_path: Path, stream: bool) -> None:
    both = asyncio.Barrier(2)
    async with (
        SqliteCheckpointStorage(tmp_path / "a.db") as one,
        SqliteCheckpointStorage(tmp_path / "a.db") as other,
    ):

        async def asked(storage: SqliteCheckpointStorage) -> str:
            transport = httpx.ASGITransport(server(storage, both))
            async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
                body = {"message": "hello", "stream": stream}
                answer = await client.post("/invocations?agent_session_id=s", json=body)
            assert stream or answer.status_code in (200, 409)
            return answer.text

        answers = sorted(await asyncio.gather(asked(one), asked(other)), key=lambda text: "reload" in text)
    assert "1 so far" in answers[0]
    assert "reload before retrying" not in answers[0]
    assert "Another request advanced this agent session; reload before retrying." in answers[1]
