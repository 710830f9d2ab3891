"""A workflow that is cut off, and what its run's log holds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from agent_framework import (
    CheckpointStorage,
    WorkflowCheckpoint,
)
from packaging.version import Version

from eventckpt import (
    CheckpointEvent,
    EventCheckpointStorage,
    StreamId,
)

RUN = "order-42"
KEEPS_AN_ANSWERED_QUESTION = Version(version("agent-framework-core")) < Version("1.22")
"""Until then the framework asked the second question of a sub-workflow again while it took the answer to the first, and
kept it for ever."""


class CrashError(Exception):
    """The process dies here, as far as the workflow can tell."""


async def log(storage: EventCheckpointStorage, workflow_name: str, run_id: str = RUN) -> list[CheckpointEvent]:
    return [event async for event in storage.store.headers(StreamId(workflow_name, run_id))]


async def latest(storage: CheckpointStorage, workflow_name: str) -> WorkflowCheckpoint:
    found = await storage.get_latest(workflow_name=workflow_name)
    assert found is not None
    return found


@dataclass
class Question:
    text: str


QUESTION = [f"{__name__}:Question"]


class Unregistered:
    """Application state that nobody put on the allow-list."""


UNREGISTERED = f"{__name__}:Unregistered"
