"""From a checkpoint to its event: the header that says what the checkpoint is, and what a place in a run adds to it.

A header is read by anyone without decoding, on every engine: as MessagePack, as JSON, as columns. What one of them
would keep as another value, or not at all, is refused here, by one rule for every field, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from agent_framework import WorkflowCheckpoint

from ..chain import sealed
from ..errors import CheckpointEncodeError
from ..events import (
    FIRST_SCHEMA,
    REMOVALS,
    SCHEMA_OF_SECOND_DELTAS,
    SCHEMA_OF_SESSIONS,
    Annotation,
    CheckpointEvent,
    ForkPoint,
    Pruned,
    Removal,
    RemovedRun,
    StreamId,
)
from ..text import described, is_unicode
from .memory import Head
from .payloads import Packed
from .summary import summarize

__all__ = [
    "MAX_COUNT",
    "annotation_after",
    "claim_after",
    "clearing_after",
    "event_at",
    "header_of",
    "now",
    "removal_after",
    "removal_of_runs_after",
    "removed_run",
    "tombstone_after",
]

MAX_COUNT: Final = (1 << 53) - 1
"""The largest number that every engine keeps: in JSON, a larger one may come back as its neighbour."""


class _Rule(NamedTuple):
    """What a field of a checkpoint must be to go into the header."""

    field: str
    """Its name in the header."""
    holds: Callable[[object], bool]
    what: str


def _is_text(value: object) -> bool:
    return type(value) is str and is_unicode(value)


def _is_name(value: object) -> bool:
    return _is_text(value) and value != ""


def _is_name_or_none(value: object) -> bool:
    return value is None or _is_name(value)


def _is_count(value: object) -> bool:
    return type(value) is int and -MAX_COUNT <= value <= MAX_COUNT


_TEXT: Final = "text in valid Unicode"
_NAME: Final = f"{_TEXT}, and not empty"

_RULES: Final = {
    "workflow_name": _Rule("workflow_name", _is_name, _NAME),
    "checkpoint_id": _Rule("checkpoint_id", _is_name, _NAME),
    "previous_checkpoint_id": _Rule("previous_checkpoint_id", _is_name_or_none, f"None, or {_NAME}"),
    "timestamp": _Rule("timestamp", _is_text, _TEXT),
    "iteration_count": _Rule("iteration_count", _is_count, f"an int of at most {MAX_COUNT:,}"),
    "graph_signature_hash": _Rule("graph_signature_hash", _is_text, _TEXT),
    "version": _Rule("checkpoint_version", _is_text, _TEXT),
}
"""By the name of the field in the checkpoint. A subclass counts as another type: a load would not give it back."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CheckpointEvent)


def header_of(checkpoint: WorkflowCheckpoint, actor: str | None, *, traceparent: str | None = None) -> CheckpointEvent:
    """The event of `checkpoint`, written by `actor` in the span `traceparent`, without its place in a stream and
    without its payload.

    Raises:
        CheckpointEncodeError: a field is of another type than the protocol's; names the field and its value.
    """
    moment = now()
    header = CheckpointEvent(
        type="checkpoint",
        run_id="",
        seq=0,
        summary=summarize(checkpoint, asked_at=moment),
        actor=actor,
        recorded_at=moment,
        traceparent=traceparent,
        **{rule.field: _checked(checkpoint, name, rule) for name, rule in _RULES.items()},
    )
    _check_loadable(header)
    return header


def event_at(
    header: CheckpointEvent,
    stream: StreamId,
    head: Head,
    packed: Packed,
    forked_from: ForkPoint | None,
    claim: int | None = None,
) -> CheckpointEvent:
    """The event that holds a payload right after `head` in `stream`, written under the claim of that epoch."""
    return sealed(
        msgspec.structs.replace(
            header,
            workflow_name=stream.workflow_name,
            run_id=stream.run_id,
            seq=head.seq + 1,
            payload=packed.payload,
            forked_from=forked_from,
            claim=claim,
            previous_digest=head.digest,
            schema=max(header.schema, SCHEMA_OF_SECOND_DELTAS if len(packed.payload.bases) > 1 else FIRST_SCHEMA),
        ),
        packed.data_digest,
    )


def tombstone_after(event: CheckpointEvent, head: Head, actor: str | None) -> CheckpointEvent:
    """The event that hides the checkpoint in `event`, right after `head` in the same stream."""
    return sealed(
        msgspec.structs.replace(
            _tombstone(event.stream, head, actor),
            checkpoint_id=event.checkpoint_id,
            previous_checkpoint_id=event.previous_checkpoint_id,
        )
    )


def removal_after(
    head: CheckpointEvent,
    pruned: tuple[Pruned, ...],
    actor: str | None,
    *,
    stays: Annotation | None = None,
    closes: bool = False,
) -> CheckpointEvent:
    """The event that records a removal, right after `head`, the last event of its stream; what stays in force of what
    was said about the run; and whether it `closes` the run."""
    tombstone = _tombstone(head.stream, Head.of(head), actor)
    return sealed(msgspec.structs.replace(tombstone, pruned=pruned, annotation=stays, closes=closes))


def removed_run(closing: CheckpointEvent) -> RemovedRun:
    """What an event among the removals tells of a run with this closing record."""
    return RemovedRun(run_id=closing.run_id, seq=closing.seq, digest=closing.digest)


def removal_of_runs_after(workflow_name: str, head: Head, removal: Removal, actor: str | None) -> CheckpointEvent:
    """The event that records a removal of whole runs, right after `head` in the stream of a workflow's removals."""
    tombstone = _tombstone(StreamId(workflow_name, REMOVALS), head, actor)
    return sealed(msgspec.structs.replace(tombstone, removal=removal))


def annotation_after(
    stream: StreamId, head: Head, said: Annotation, pruned: tuple[Pruned, ...], actor: str | None
) -> CheckpointEvent:
    """The event that says something about a run, right after `head`; and what is recorded as removed from it."""
    return sealed(msgspec.structs.replace(_tombstone(stream, head, actor), annotation=said, pruned=pruned))


def claim_after(
    stream: StreamId, head: Head, stays: Annotation | None, pruned: tuple[Pruned, ...], actor: str | None
) -> CheckpointEvent:
    """The event that takes a claim, right after `head`; its seq is the epoch."""
    tombstone = _tombstone(stream, head._replace(claim=head.seq + 1), actor)
    return sealed(msgspec.structs.replace(tombstone, annotation=stays, pruned=pruned))


def clearing_after(head: CheckpointEvent, cleared: dict[str, int], actor: str | None) -> CheckpointEvent:
    """The event that clears a session, right after `head`, the last event of its stream."""
    tombstone = _tombstone(head.stream, Head.of(head), actor)
    return sealed(msgspec.structs.replace(tombstone, cleared=cleared, schema=SCHEMA_OF_SESSIONS))


def _tombstone(stream: StreamId, head: Head, actor: str | None) -> CheckpointEvent:
    """A tombstone of no checkpoint, without its digest."""
    moment = now()
    return CheckpointEvent(
        type="tombstone",
        workflow_name=stream.workflow_name,
        run_id=stream.run_id,
        seq=head.seq + 1,
        checkpoint_id="",
        timestamp=moment,
        recorded_at=moment,
        actor=actor,
        claim=head.claim or None,
        previous_digest=head.digest,
    )


def now() -> str:
    """The present in ISO 8601, UTC. For people to read; order comes from seq."""
    return datetime.now(UTC).isoformat()


def _checked(checkpoint: WorkflowCheckpoint, name: str, rule: _Rule) -> Any:
    value: object = getattr(checkpoint, name)
    if not rule.holds(value):
        raise CheckpointEncodeError(
            f"A checkpoint's {name} must be {rule.what}, and is {described(value)} of type "
            f"{described(type(value).__name__)}. Nothing was saved: give the checkpoint a plain value."
        )
    return value


def _check_loadable(header: CheckpointEvent) -> None:
    """What could not be read again must not be acknowledged, header included."""
    if _decoder.decode(_encoder.encode(header)) != header:
        raise CheckpointEncodeError(
            f"The header of checkpoint {described(header.checkpoint_id)} would not be read again as it is."
        )
