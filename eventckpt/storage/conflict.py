"""What it means that the seq of an append was taken: a repetition, a run that went on by itself, or another writer.

The events since the head that was expected tell, by their headers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..errors import CheckpointConflictError, StoreCorruptError, StreamConflict
from ..events import CheckpointEvent, Payload, Pruned
from ..runs import counted
from ..stores import EventStore
from ..stores.walks import counts
from ..text import safe
from .memory import Execution, Head, Memory
from .placement import Place

if TYPE_CHECKING:
    from .claiming import Holder

__all__ = [
    "Behind",
    "Diverged",
    "Repeated",
    "answer_to",
    "append_behind",
    "conflict_error",
    "holds",
    "is_removed",
    "reason",
]


class Repeated(NamedTuple):
    """This checkpoint is there already, with the same content: an earlier try was cut off, or another saved it too."""

    event: CheckpointEvent


class Behind(NamedTuple):
    """The save is to be tried again behind this head: what came in between is no other writer's work."""

    head: Head
    pruned: tuple[Pruned, ...]
    """What was recorded as removed in between."""


class Diverged(NamedTuple):
    """Another writer has continued the run, or has removed it as a whole."""

    claim: int = 0
    """The epoch of the last claim that was in force meanwhile; 0: none was."""
    was_removed: bool = False


Answer: TypeAlias = Repeated | Behind | Diverged


async def answer_to(
    store: EventStore, place: Place, event: CheckpointEvent, execution: Execution, memory: Memory
) -> Answer:
    """Why the seq of `event`, which was to go to `place`, is taken."""
    since = [header async for header in store.headers(place.stream, gt=place.head.seq)]
    if not since or since[-1].seq <= place.head.seq:  # a damaged event may say anything: nothing to go on behind
        return Diverged()
    claim = max(header.claim or 0 for header in since)  # the event that took it may be removed
    head = Head.of(since[-1])
    if place.head.seq > 0 and any(header.closes for header in since):  # who has seen nothing of it may begin it again
        return Diverged(claim, was_removed=True)
    behind = Behind(
        head._replace(claim=max(claim, head.claim)), tuple(removed for header in since for removed in header.pruned)
    )
    since = counted(since)

    def is_own(header: CheckpointEvent) -> bool:
        return execution.has_sent(header) or memory.is_in_doubt(header)

    again = next((header for header in reversed(since) if header.checkpoint_id == event.checkpoint_id), None)
    if again is not None and again.type == "checkpoint":
        if event.payload and holds(again, event.payload):
            return Repeated(again)
        if not is_own(again):  # what others have of this checkpoint is superseded, wherever it lies
            return behind
    deleted = (event.checkpoint_id,) if again is not None and again.type == "tombstone" else ()
    if all(header.type == "tombstone" or header.checkpoint_id in deleted or is_own(header) for header in since):
        return behind
    located = await store.find(event.checkpoint_id, stream=place.stream)  # an old one, that was forgotten
    if located is not None and event.payload and holds(located.event, event.payload) and await counts(store, located):
        return Repeated(located.event)
    return Diverged(claim)


async def append_behind(
    store: EventStore, head: Head, event_after: Callable[[Head], Awaitable[CheckpointEvent | None]]
) -> CheckpointEvent | None:
    """Append a tombstone, which conflicts with nobody: it follows whatever the head is.

    Returns the event, once it is there; None where nothing is to be appended by now, or no event of the run is there.

    Args:
        store: the engine.
        head: the last event that was seen of the run.
        event_after: the event that is to follow that, if one is; asked again where the run went on meanwhile.

    Raises:
        StoreCorruptError: nothing can follow the head, as the store itself tells it.
    """
    while True:
        event = await event_after(head)
        if event is None:
            return None
        try:
            await store.append(event)
        except StreamConflict as conflict:
            if conflict.head is None:
                return None
            if conflict.head.seq < event.seq:  # the same again: no writer was faster
                raise _nothing_follows(event) from conflict
            head = Head.of(conflict.head)
        else:
            return event


def _nothing_follows(event: CheckpointEvent) -> StoreCorruptError:
    what = f"Checkpoint {safe(event.checkpoint_id)} was not deleted" if event.checkpoint_id else "Nothing was written"
    return StoreCorruptError(
        f"{what}: run {event.run_id!r} of workflow {event.workflow_name!r} takes no event at seq {event.seq}, though "
        f"nothing is there. Its last event, at seq {event.seq - 1}, is damaged, or is the last that a run can have: "
        "`eventckpt verify` tells which; or an import of the run was cut off: import it again. "
        "Checkpoints of the run can still be loaded; save what goes on from them to another run."
    )


def is_removed(bases: tuple[int, ...], pruned: tuple[Pruned, ...]) -> bool:
    """Whether any of the events at these seqs, remembered bases, is recorded as removed."""
    return any(removed.first <= seq <= removed.last for removed in pruned for seq in bases)


def holds(event: CheckpointEvent, payload: Payload) -> bool:
    """Whether `event` is a checkpoint of the same content, however it is stored."""
    return event.payload is not None and event.payload.raw_sha256 == payload.raw_sha256


def conflict_error(
    place: Place,
    head: CheckpointEvent | None,
    checkpoint_id: str,
    *,
    forks: bool,
    holder: Holder | None = None,
    was_removed: bool = False,
) -> CheckpointConflictError:
    """The error of a save that another writer was faster than, or has the claim, or whose run was removed: it does not
    fork, or `forks` and finds no name left."""
    stream, seq = place.stream, place.head.seq + 1
    at = f"its head is seq {head.seq}, checkpoint {safe(head.checkpoint_id)}" if head else "its head is unknown"
    why = "and so is every name for a fork of it" if forks else at
    taken = f": seq {seq} is taken, {why}" if holder is None or forks else ""
    advice = "give the checkpoint another id" if forks else "use on_conflict='fork'"
    go_on = (
        "Call get_latest, and begin the run again" if was_removed else "Load the newest checkpoint and go on from there"
    )
    return CheckpointConflictError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} {reason(place, holder, was_removed=was_removed)}"
        f"{taken}; checkpoint {safe(checkpoint_id)} was not saved. {go_on}, or {advice}.",
        stream=stream,
        expected_seq=seq,
        head=head,
    )


def reason(place: Place, holder: Holder | None = None, *, was_removed: bool = False) -> str:
    """Why a run could not be gone on with."""
    if was_removed:
        return "was removed as a whole since this storage read it"
    if holder is not None:
        return f"is {holder.named()}"
    if place.head.seq > 0:
        return "was continued by another writer"
    return "has events that this storage has not read (get_latest or load first, to continue it)"
