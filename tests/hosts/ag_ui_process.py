"""An endpoint of AG-UI in a process of its own: it serves the requests it is given, prints what happened, and is gone.

    python -c 'from tests.hosts.ag_ui_process import main; main()' KIND STORE < requests.json

KIND is what it exposes: "workflow", "detached" (a workflow whose runs outlive their requests) or "agent". STORE is the
file of a SQLite store. Each request has a "user" and a "body" for the endpoint.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextvars import ContextVar
from typing import Any

import httpx
from agent_framework import Agent, Content, InMemoryHistoryProvider
from agent_framework_ag_ui import AgentFrameworkWorkflow, add_agent_framework_fastapi_endpoint
from fastapi import FastAPI, Request

from eventckpt import SqliteCheckpointStorage
from eventckpt.hosts.ag_ui import AGUISnapshotStore

from .chat_client import ContentsChatClient
from .orders import QUESTION, build

run: ContextVar[str | None] = ContextVar("run", default=None)


async def owner(request: Request) -> str:
    """Whose request it is; and whose run it is about."""
    user = request.headers["x-user"]
    run.set(f"{user}/{(await request.json())['threadId']}")
    return user


def app(kind: str, storage: SqliteCheckpointStorage) -> FastAPI:
    made = FastAPI()
    options: dict[str, Any] = {
        "snapshot_store": AGUISnapshotStore(storage.store),
        "authorization_scope_resolver": owner,
    }
    if kind == "agent":
        script = lambda messages: Content.from_text(f"{sum(each.role == 'user' for each in messages)} so far")  # noqa: E731
        exposed: Any = Agent(
            ContentsChatClient(script), name="assistant", context_providers=[InMemoryHistoryProvider()]
        )
    else:
        exposed = AgentFrameworkWorkflow(workflow_factory=build)
        options |= {"checkpoint_storage": storage.for_each(run.get), "detached_runs": kind == "detached"}
    add_agent_framework_fastapi_endpoint(made, exposed, "/", **options)
    return made


async def serve(kind: str, path: str, requests: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    answers: list[list[dict[str, Any]]] = []
    async with SqliteCheckpointStorage(path, allowed_checkpoint_types=[QUESTION]) as storage:
        transport = httpx.ASGITransport(app(kind, storage))
        async with httpx.AsyncClient(transport=transport, base_url="http://host", timeout=60) as client:
            for request in requests:
                answer = await client.post("/", json=request["body"], headers={"x-user": request["user"]})
                assert answer.status_code == 200, answer.text
                events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
                answers.append([json.loads(event) for event in events])
    return answers


def main() -> None:
    kind, path = sys.argv[1:]
    print(json.dumps(asyncio.run(serve(kind, path, json.load(sys.stdin)))))
