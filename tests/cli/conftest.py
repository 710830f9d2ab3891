"""The command line over an engine, run as the `eventckpt` script runs it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint, WorkflowEvent
from agent_framework._workflows._runner_context import WorkflowMessage
from typer.testing import CliRunner

from eventckpt import EventCheckpointStorage, RunCheckpointStorage, StreamId
from eventckpt.cli import app
from eventckpt.cli.output import Screen

from ..engines import CosmosEngine, Engine, SqliteEngine

WORKFLOW = "orders"


@dataclass
class Order:
    """An application type that a store may hold and a viewer need not know."""

    lines: dict[int, str] = field(default_factory=dict)
    total: float = 0.0


ORDER = f"{__name__}:Order"

GRAPH: dict[str, Any] = {"_executor_state": {"clerk": {}}}
"""What is in each state of a graph workflow, and in none of a functional one."""


@dataclass
class Printed:
    """What a command printed."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]


class Cli:
    """The commands, over the store of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.env = environment(engine)

    async def __call__(
        self,
        *words: str,
        code: int = 0,
        stdin: str | bytes | None = None,
        store: str = "",
        screen: Screen | None = None,
    ) -> Printed:
        env: dict[str, str | None] = dict(self.env)
        if store:
            env["EVENTCKPT_STORE"] = store
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), stdin, env, False, obj=screen)
        assert result.exit_code == code, f"{result.exit_code}: {result.stdout}{result.stderr}"
        return Printed(result.exit_code, result.stdout, result.stderr)

    async def json(self, *words: str, **how: Any) -> Printed:
        return await self(*words, "--json", **how)


def environment(engine: Engine) -> dict[str, str]:
    """The environment that a command finds its store by."""
    if isinstance(engine, CosmosEngine):
        settings = engine.settings
        return {
            "EVENTCKPT_STORE": settings["endpoint"],
            "AZURE_COSMOS_KEY": settings["credential"],
            "AZURE_COSMOS_DATABASE_NAME": settings["database_name"],
            "AZURE_COSMOS_CONTAINER_NAME": settings["container_name"],
        }
    assert isinstance(engine, SqliteEngine)
    return {"EVENTCKPT_STORE": str(engine.path)}


@pytest.fixture
def cli(engine: Engine) -> Cli:
    return Cli(engine)


def message(source: str, data: object) -> dict[str, list[WorkflowMessage]]:
    return {source: [WorkflowMessage(data=data, source_id=source)]}


def question(request_id: str = "q1") -> dict[str, WorkflowEvent[Any]]:
    asked = WorkflowEvent.request_info(
        request_id=request_id, source_executor_id="clerk", request_data="may we?", response_type=bool
    )
    return {request_id: asked}


def checkpoint(previous: WorkflowCheckpoint | None = None, /, **fields: Any) -> WorkflowCheckpoint:
    """A checkpoint that follows `previous`."""
    return WorkflowCheckpoint(
        workflow_name=fields.pop("workflow_name", WORKFLOW),
        graph_signature_hash="graph",
        previous_checkpoint_id=previous.checkpoint_id if previous else None,
        state=fields.pop("state", {}),
        **fields,
    )


async def order_run(
    engine: Engine, run_id: str = "order-1", *, steps: int = 4, actor: str = "shop", text: str = ""
) -> list[WorkflowCheckpoint]:
    """A run whose order grows by a line at each step; the first has a message in flight, the last a question."""
    storage = engine.storage(allowed_checkpoint_types=[ORDER], actor=actor)
    return await continued(storage, run_id, steps=steps, text=text)


async def continued(
    storage: EventCheckpointStorage, run_id: str, *, steps: int, text: str = ""
) -> list[WorkflowCheckpoint]:
    run: RunCheckpointStorage = storage.for_run(run_id)
    made: list[WorkflowCheckpoint] = []
    lines: dict[int, str] = {}
    for step in range(steps):
        lines[step] = f"line {step} {text}"
        made.append(
            checkpoint(
                made[-1] if made else None,
                checkpoint_id=f"{run_id}-cp{step}",
                iteration_count=step,
                state={
                    "step": step,
                    "order": Order(dict(lines), step * 1.5),
                    "notes": [f"note {n}" for n in range(step)],
                },
                messages=message("clerk", text or "go") if step == 0 else {},
                pending_request_info_events=question() if step == steps - 1 and steps > 1 else {},
            )
        )
        await run.save(made[-1])
    return made


def stream(run_id: str = "order-1") -> StreamId:
    return StreamId(WORKFLOW, run_id)
