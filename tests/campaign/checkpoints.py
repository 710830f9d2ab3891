"""The checkpoints of the campaign: each can be told from its id and its version, so that whoever loads one knows at
once whether it is what was saved."""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any, Final

from agent_framework import WorkflowCheckpoint, WorkflowEvent, WorkflowMessage

__all__ = ["RUNS", "WORKFLOWS", "is_steady", "made", "what_is_wrong_with"]

WORKFLOWS: Final = ("orders", "refunds")
RUNS: Final = ("steady-1", "steady-2", "wild-1", "wild-2", "wild-3")
"""Of each workflow, the runs that writers share. See `is_steady`."""

_LARGE: Final = 700_000
"""Bytes that do not compress: on Cosmos DB they go into parts."""
_LINES: Final = [f"a line that every checkpoint of every run holds, number {number}" for number in range(60)]
"""Makes a delta worth its while."""


_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The id of the copy that a fork begins with; writers name theirs otherwise."""


def is_steady(run_id: str) -> bool:
    """Whether nobody deletes in this run, and each prune keeps its latest: its forks have its name, and are too."""
    return run_id.startswith("steady")


def made(
    workflow: str, checkpoint_id: str, version: int, parent: str | None, *, kind: str, large: bool
) -> WorkflowCheckpoint:
    """A version of a checkpoint.

    Args:
        workflow: its workflow.
        checkpoint_id: its id.
        version: how often it was made anew; from 1.
        parent: the id of the checkpoint that it follows.
        kind: how its run stands: running, waiting, done or open.
        large: whether it is large enough for parts.
    """
    state: dict[str, Any] = {
        "lines": _LINES,
        "size": _LARGE if large else 50,
        "content": _content(checkpoint_id, version, _LARGE if large else 50),
    }
    if kind == "done":
        state["_executor_state"] = {"worker": {}}
    return WorkflowCheckpoint(
        workflow,
        "graph",
        checkpoint_id=checkpoint_id,
        previous_checkpoint_id=parent,
        iteration_count=version,
        state=state,
        messages={"worker": [WorkflowMessage(data=1, source_id="worker")]} if kind == "running" else {},
        pending_request_info_events=(
            {"question": WorkflowEvent.request_info("question", "worker", "is it?", str)} if kind == "waiting" else {}
        ),
    )


def what_is_wrong_with(checkpoint: WorkflowCheckpoint) -> str:
    """Why this is no version of the checkpoint with its id; empty where it is one. A fork's copy has another id than
    what it is a copy of, and counts as that."""
    content = checkpoint.state["content"]
    named = content["id"], content["version"]
    expected = _content(*named, checkpoint.state["size"])
    if checkpoint.state["lines"] != _LINES or content != expected:
        return f"checkpoint {checkpoint.checkpoint_id} has other content than {named} had"
    is_copy = _UUID.fullmatch(checkpoint.checkpoint_id) is not None
    if named[1] != checkpoint.iteration_count or (named[0] != checkpoint.checkpoint_id and not is_copy):
        return f"checkpoint {checkpoint.checkpoint_id} of iteration {checkpoint.iteration_count} has that of {named}"
    return ""


def _content(checkpoint_id: str, version: int, size: int) -> dict[str, Any]:
    seed = hashlib.sha256(f"{checkpoint_id}/{version}".encode()).digest()
    return {"id": checkpoint_id, "version": version, "bytes": random.Random(seed).randbytes(size)}
