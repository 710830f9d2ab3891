"""What it means that the seq of an append was taken: a repetition, a run that went on by itself, or another writer.

The events since the head that was expected tell, by their headers.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ..errors import CheckpointConflictError
from ..events import CheckpointEvent, Payload, Pruned, StreamId
from ..stores import EventStore
from ..text import safe
from .memory import Execution, Head
from .placement import Place

__all__ = ["Behind", "Diverged", "Repeated", "answer_to", "conflict_error", "holds"]


class Repeated(NamedTuple):
    """This checkpoint is there already, with the same content: an earlier try was cut off, or another saved it too."""

    event: CheckpointEvent


class Behind(NamedTuple):
    """The save is to be tried again behind this head: what came in between is no other writer's work."""

    head: Head
    pruned: tuple[Pruned, ...]

    def removed(self, seq: int | None) -> bool:
        """Whether the event at `seq`, a remembered base, was removed."""
        return seq is not None and any(removed.first <= seq <= removed.last for removed in self.pruned)


class Diverged(NamedTuple):
    """Another writer has continued the run."""


Answer: TypeAlias = Repeated | Behind | Diverged


async def answer_to(store: EventStore, place: Place, event: CheckpointEvent, execution: Execution) -> Answer:
    """Why the seq of `event`, which was to go to `place`, is taken."""
    since = [header async for header in store.headers(place.stream, gt=place.head.seq)]
    if not since:
        return Diverged()
    behind = Behind(Head.of(since[-1]), tuple(removed for header in since for removed in header.pruned))
    for header in reversed(since):
        if header.checkpoint_id == event.checkpoint_id:
            return Repeated(header) if event.payload and holds(header, event.payload) else behind
    if all(header.type == "tombstone" or execution.may_have_sent(header) for header in since):
        return behind
    located = await store.find(event.checkpoint_id, stream=place.stream)  # an old one, that was forgotten
    if located is not None and event.payload and holds(located.event, event.payload):
        return Repeated(located.event)
    return Diverged()


def holds(event: CheckpointEvent, payload: Payload) -> bool:
    """Whether `event` is a checkpoint of the same content, however it is stored."""
    return event.payload is not None and event.payload.raw_sha256 == payload.raw_sha256


def conflict_error(stream: StreamId, seq: int, head: CheckpointEvent | None, what: str) -> CheckpointConflictError:
    """The error that says that nothing was saved, and `what` that means."""
    at = f"its head is seq {head.seq}, checkpoint {safe(head.checkpoint_id)}" if head else "its head is unknown"
    return CheckpointConflictError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was continued by another writer: seq {seq} is "
        f"taken, {at}; {what}. Load the newest checkpoint and go on from there, or use on_conflict='fork'.",
        stream=stream,
        expected_seq=seq,
        head=head,
    )
