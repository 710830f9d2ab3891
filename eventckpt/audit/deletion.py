"""What a removal of a whole run would remove, before it does: `eventckpt.storage.removing` carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..events import CheckpointEvent, StreamId
from ..storage.claiming import holder_at
from ..storage.removing import parted, refusal_of
from ..stores import AuditStore
from .removed import RecordedRemovals

__all__ = ["Deletion", "deletion_of"]


class Deletion(NamedTuple):
    """What a removal of one run would remove."""

    stream: StreamId
    events: int
    """How many would go; 0: it was removed before, and nothing is left of it."""
    stored_size: int
    """Bytes of payload that this frees."""
    head_seq: int
    """The run's head when the plan was made, with:"""
    head_digest: str
    """Its digest."""
    refused: str = ""
    """Why the run is left alone, where it is: what an earlier removal has left goes all the same."""
    goes_on: bool = False
    """Whether that is what goes: an earlier removal closed the run, and did not come to remove all of it."""
    untold: bool = False
    """Whether the run was removed before, and nothing among its workflow's removals tells of that: deleting it again
    has it told."""


async def deletion_of(
    store: AuditStore, headers: Sequence[CheckpointEvent], recorded: RecordedRemovals, *, force: bool
) -> Deletion:
    """What a removal of a run would remove.

    Args:
        store: the engine.
        headers: all of the run, in order of seq; at least one.
        recorded: what tells of removals.
        force: whether it is to be removed also where it has not ended.
    """
    left, rest = parted(headers)
    finishing = _plan(headers, left)._replace(goes_on=bool(left))
    if headers[-1].closes:
        untold = not left and not (await recorded.of(headers[-1], 0)).told_at
        return finishing._replace(untold=untold)
    plan = _plan(headers, headers)
    refusal = refusal_of(rest, force=force)
    holder = await holder_at(store, headers[-1]) if refusal is None else None
    if refusal is None and holder is None:
        return plan
    why = refusal.why if refusal is not None else f"is {holder.named()}" if holder is not None else ""
    return (finishing if left else plan)._replace(refused=why)


def _plan(headers: Sequence[CheckpointEvent], going: Sequence[CheckpointEvent]) -> Deletion:
    head, size = headers[-1], sum(header.payload.stored_size for header in going if header.payload)
    return Deletion(head.stream, len(going), size, head.seq, head.digest)
