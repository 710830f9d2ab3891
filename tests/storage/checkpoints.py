"""Checkpoints to save, and what a store holds of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointEvent,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    StreamId,
)

WORKFLOW = "orders"


@dataclass
class NotAllowed:
    value: int = 1


NOT_ALLOWED = f"{__name__}:NotAllowed"


class Fragile:
    """Can be taken apart, but not put together again."""

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("no longer")


FRAGILE = f"{__name__}:Fragile"


def checkpoint(previous: WorkflowCheckpoint | None = None, /, **fields: Any) -> WorkflowCheckpoint:
    """A checkpoint that follows `previous`."""
    return WorkflowCheckpoint(
        workflow_name=fields.pop("workflow_name", WORKFLOW),
        graph_signature_hash="graph",
        previous_checkpoint_id=previous.checkpoint_id if previous else None,
        state=fields.pop("state", {}),
        **fields,
    )


async def chain_of(storage: EventCheckpointStorage | RunCheckpointStorage, length: int) -> list[WorkflowCheckpoint]:
    """Save a lineage of `length` checkpoints."""
    made: list[WorkflowCheckpoint] = []
    for step in range(length):
        made.append(checkpoint(made[-1] if made else None, iteration_count=step, state={"step": step}))
        await storage.save(made[-1])
    return made


async def history(store: EventStore, run_id: str, workflow_name: str = WORKFLOW) -> list[CheckpointEvent]:
    return [header async for header in store.headers(StreamId(workflow_name, run_id))]


async def ids(storage: EventCheckpointStorage | RunCheckpointStorage) -> list[str]:
    return await storage.list_checkpoint_ids(workflow_name=WORKFLOW)
