"""What a removal of a whole run would remove, before it does: `eventckpt.storage.removing` carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..events import CheckpointEvent, StreamId
from ..runs import counted
from ..storage.claiming import holder_at
from ..storage.removing import closing_record, refusal_of
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
    """Why the run is left alone, where it is."""
    goes_on: bool = False
    """Whether an earlier removal closed the run, and did not come to remove all of it."""
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
    head = headers[-1]
    if (closing := closing_record(headers)) is not None:
        stays = {header.seq for header in counted(headers)}
        left = [header for header in headers if header.seq not in stays]
        untold = not left and not (await recorded.of(closing, 0)).told_at
        return _plan(headers, left)._replace(goes_on=bool(left), untold=untold)
    plan = _plan(headers, headers)
    if refusal := refusal_of(headers, force=force):
        return plan._replace(refused=refusal.why)
    holder = await holder_at(store, head)
    return plan if holder is None else plan._replace(refused=f"is {holder.named()}")


def _plan(headers: Sequence[CheckpointEvent], going: Sequence[CheckpointEvent]) -> Deletion:
    head, size = headers[-1], sum(header.payload.stored_size for header in going if header.payload)
    return Deletion(head.stream, len(going), size, head.seq, head.digest)
