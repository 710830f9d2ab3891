"""Handles on a run: what lies in it, what they read, and two of them that met."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agent_framework import WorkflowCheckpoint

from eventckpt import (
    RunCheckpointStorage,
)

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint, history

Reading = Callable[[RunCheckpointStorage], Awaitable[object]]


async def run_log(engine: Engine, run_id: str, workflow_name: str = WORKFLOW) -> list[str]:
    """The checkpoint ids of a run in the order of their commits, as another process sees them."""
    engine.settle()
    return [event.checkpoint_id for event in await history(engine.open(), run_id, workflow_name)]


async def get_latest(run: RunCheckpointStorage) -> WorkflowCheckpoint | None:
    return await run.get_latest(workflow_name=WORKFLOW)


async def two_that_met(engine: Engine, storages: int) -> tuple[RunCheckpointStorage, RunCheckpointStorage]:
    """Handles that have resumed "root" of run r: the first one stayed, with "a", the second one forked, with "b"."""
    made = [engine.storage() for _ in range(storages)]
    root = checkpoint(checkpoint_id="root")
    await made[0].for_run("r").save(root)
    engine.settle()
    first, second = (made[number % storages].for_run("r", workflow_name=WORKFLOW) for number in range(2))
    await first.load("root")
    await second.load("root")
    await first.save(checkpoint(root, checkpoint_id="a"))
    await second.save(checkpoint(root, checkpoint_id="b"))
    engine.settle()
    return first, second
