"""One checkpoint at a glance, by the name and with the words that the framework's tutorial on checkpoints uses."""

from __future__ import annotations

from typing import Any, NamedTuple

from agent_framework import WorkflowCheckpoint, WorkflowEvent

from ..events import CheckpointEvent, PendingRequest, Summary
from ..storage.summary import summarize

__all__ = ["CheckpointSummary", "get_checkpoint_summary", "status_of"]


class CheckpointSummary(NamedTuple):
    """What `get_checkpoint_summary` gives."""

    checkpoint_id: str
    workflow_name: str
    timestamp: str
    iteration_count: int
    targets: list[str]
    """Executors with messages in flight, sorted; the framework files messages under who sent them."""
    executor_ids: list[str]
    """Executors with saved state, sorted."""
    messages: dict[str, int]
    """Messages in flight, counted by the executor that sent them."""
    pending_requests: tuple[PendingRequest, ...]
    pending_request_info_events: list[WorkflowEvent[Any]]
    """The events of those requests, as the framework restores them."""
    status: str
    """"awaiting request response", "awaiting next superstep" or "idle"."""


def get_checkpoint_summary(checkpoint: WorkflowCheckpoint) -> CheckpointSummary:
    """What a checkpoint is about, without its state."""
    summary = summarize(checkpoint)
    return CheckpointSummary(
        checkpoint_id=checkpoint.checkpoint_id,
        workflow_name=checkpoint.workflow_name,
        timestamp=checkpoint.timestamp,
        iteration_count=checkpoint.iteration_count,
        targets=sorted(source for source, count in summary.messages.items() if count),
        executor_ids=list(summary.executor_ids),
        messages=summary.messages,
        pending_requests=summary.pending_requests,
        pending_request_info_events=list(checkpoint.pending_request_info_events.values()),
        status=status_of(summary),
    )


def status_of(of: Summary | CheckpointEvent) -> str:
    """The tutorial's words for where a workflow stands."""
    summary = of.summary if isinstance(of, CheckpointEvent) else of
    if summary.pending_requests:
        return "awaiting request response"
    return "awaiting next superstep" if any(summary.messages.values()) else "idle"
