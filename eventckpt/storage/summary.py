"""What an event says of its checkpoint to those who must not decode it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from agent_framework import WorkflowCheckpoint, WorkflowEvent

from ..allowlist import type_key
from ..events import NO_SUMMARY, PendingRequest, Summary

__all__ = ["MAX_STATE_KEYS", "summarize"]

MAX_STATE_KEYS: Final = 100
"""How many state keys a header lists, so that a state with very many does not make every event large."""


def summarize(checkpoint: WorkflowCheckpoint) -> Summary:
    """The summary of `checkpoint`. Reads attributes of the framework's own classes only, and calls nothing."""
    state = cast(Mapping[Any, Any], checkpoint.state)
    keys = sorted(_text(key) for key in state if not str(key).startswith("_"))
    executors = state.get("_executor_state")
    executor_ids = cast(Mapping[Any, Any], executors) if isinstance(executors, Mapping) else ()
    summary = Summary(
        executor_ids=tuple(sorted(map(_text, executor_ids))),
        messages={_text(source): len(messages) for source, messages in sorted(checkpoint.messages.items())},
        pending_requests=tuple(
            PendingRequest(
                request_id=_text(request_id),
                source_executor_id=_text(_property(event, "source_executor_id")),
                request_type=_type_name(_property(event, "request_type")),
            )
            for request_id, event in checkpoint.pending_request_info_events.items()
        ),
        answered_requests=tuple(
            _text(request.request_id)
            for messages in checkpoint.messages.values()
            for message in messages
            if (request := message.original_request_info_event) is not None
        ),
        state_keys=tuple(keys[:MAX_STATE_KEYS]),
        more_state_keys=max(0, len(keys) - MAX_STATE_KEYS),
    )
    return NO_SUMMARY if summary == NO_SUMMARY else summary  # which is stored by leaving it out, that one alone


def _property(event: WorkflowEvent[Any], name: str) -> Any:
    """A property of a request event; the framework raises where such an event is incomplete."""
    try:
        return getattr(event, name)
    except RuntimeError:
        return ""


def _text(value: object) -> str:
    """Text that every engine can hold: lone surrogates are replaced."""
    return str(value).encode("utf-8", "replace").decode()


def _type_name(value: object) -> str:
    return _text(type_key(cast(type[Any], value)) if isinstance(value, type) else value)
