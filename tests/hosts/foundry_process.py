"""A Foundry host in a process of its own: it serves the requests that it is given, prints the answers, and is gone.

    python -c 'from tests.hosts.foundry_process import main; main()' KIND STORE < requests.json

KIND is what it hosts: "workflow", "workflow-agent" or "agent". STORE is the file of a SQLite store. Each request has a
"user", or none, and a "body" for `POST /responses`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from agent_framework import (
    Agent,
    Content,
    InMemoryHistoryProvider,
    Message,
    tool,
)
from agent_framework_foundry_hosting import HostedResponseRequest, ResponsesHostServer, WorkflowTurn
from azure.ai.agentserver.responses import FileResponseStore

from eventckpt import SqliteCheckpointStorage
from eventckpt.hosts.foundry import FoundryApprovalStores, FoundryCheckpointStores, FoundrySessionStores

from .chat_client import ContentsChatClient
from .orders import QUESTION, build


async def parse(request: HostedResponseRequest) -> WorkflowTurn[Any]:
    items = await request.get_input_items()
    if any(item["type"] == "function_call_output" for item in items):
        return WorkflowTurn(responses=await request.get_workflow_responses())
    return WorkflowTurn(input=await request.get_input_text())


def assistant() -> Agent:
    """Says how many messages of the user it has seen, and deletes what it is told to, once somebody approves."""

    @tool(approval_mode="always_require")
    def delete(name: str) -> str:
        return f"deleted {name}"

    def script(messages: list[Message]) -> Content:
        last = messages[-1]
        results = [content for content in last.contents if content.type == "function_result"]
        if results:
            return Content.from_text(str(results[0].result))
        if last.text.startswith("delete "):
            return Content.from_function_call("call-1", "delete", arguments={"name": last.text.removeprefix("delete ")})
        return Content.from_text(f"{sum(message.role == 'user' for message in messages)} so far")

    return Agent(
        ContentsChatClient(script),
        name="assistant",
        tools=[delete],
        context_providers=[InMemoryHistoryProvider()],
        default_options={"store": False},
    )


def server(kind: str, storage: SqliteCheckpointStorage, responses: str) -> ResponsesHostServer:
    common: dict[str, Any] = {
        "checkpoint_store_provider": FoundryCheckpointStores(storage),
        "response_store": FileResponseStore(storage_dir=responses),
        "log_level": "ERROR",
        "configure_observability": None,  # it would send what it measures to Azure
    }
    if kind == "workflow":
        return ResponsesHostServer(workflow=build, parse_response=parse, **common)
    common |= {
        "agent_session_store_provider": FoundrySessionStores(storage.store),
        "function_approval_store_provider": FoundryApprovalStores(storage.store),
    }
    if kind == "workflow-agent":
        return ResponsesHostServer(lambda: build().as_agent(), **common)
    return ResponsesHostServer(assistant, history_source="agent", **common)


async def serve(kind: str, path: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    async with SqliteCheckpointStorage(path, allowed_checkpoint_types=[QUESTION]) as storage:
        host = server(kind, storage, f"{path}.responses")
        transport = httpx.ASGITransport(host)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            for request in requests:
                headers = {"x-agent-user-id": request["user"]} if request.get("user") else {}
                answer = await client.post("/responses", json={"model": "m", **request["body"]}, headers=headers)
                answers.append({"code": answer.status_code, **answer.json()})
    return answers


def main() -> None:
    kind, path = sys.argv[1:]
    print(json.dumps(asyncio.run(serve(kind, path, json.load(sys.stdin)))))
