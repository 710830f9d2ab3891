"""Retention: which events of a run may go, and how they go without breaking the chain of those that stay.

First a tombstone is appended that records every stretch of the run that is gone, with the digests on both of its
sides; only then is anything removed. A process that dies in between leaves events that are recorded as removed and
still there, which is sound, and the next prune removes them. The record is the run's new head, so that whoever
writes to the run at the same time meets a conflict, finds a tombstone, and goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from ..chain import sealed
from ..errors import StreamConflict
from ..events import MAX_SEQ, CheckpointEvent, Pruned, StreamId
from ..moments import moment_of
from ..runs import fold
from ..stores import AuditStore

__all__ = ["Plan", "carry_out", "plan_for"]


class Plan(NamedTuple):
    """What a prune of one run would remove."""

    stream: StreamId
    seqs: tuple[int, ...]
    """Of the events to remove; empty: nothing is to be done."""
    stored_size: int
    """Bytes of payload that this frees."""
    kept: int
    """Events that stay."""
    head_seq: int
    """The run's head when the plan was made."""
    refused: str = ""
    """Why the run is left alone, where it is."""
    unmarked: tuple[int, ...] = ()
    """Seqs that an earlier prune removed and left open to old writers: to be closed, see `AuditStore.unmarked`."""


def plan_for(
    headers: list[CheckpointEvent],
    *,
    keep: int,
    before: datetime | None = None,
    only_finished: bool = False,
    force: bool = False,
) -> Plan:
    """What may go of a run.

    Stays: the last `keep` live checkpoints, every snapshot that one of them needs, every tombstone whose checkpoint
    still has an event that stays, and what was recorded at `before` or later.

    Args:
        headers: all headers of the run, in order of seq.
        keep: how many live checkpoints stay.
        before: leave alone what was recorded at this time or later.
        only_finished: leave the run alone unless its status is done.
        force: also prune a run that waits for an answer.
    """
    stream = headers[0].stream
    info = fold(headers)
    nothing = Plan(stream, (), 0, len(headers), headers[-1].seq)
    if headers[-1].seq >= MAX_SEQ:
        return nothing._replace(refused="no event can follow its last one; see verify")
    if any(moment_of(header.recorded_at) is None for header in headers):
        return nothing._replace(refused="a header is damaged; see verify")
    if info is not None and info.pending_requests and not force:
        return nothing._replace(
            refused=f"waits for {len(info.pending_requests)} answers; --force prunes it all the same"
        )
    if all(header.pruned for header in headers):
        return nothing  # an earlier prune left nothing but its record
    if info is not None and only_finished and info.status != "done":
        why = "and nothing says that it ended" if info.status == "open" else "not finished"
        return nothing._replace(refused=f"is {info.status}, {why}")
    stays = _kept(headers, keep, before)
    gone = [header for header in headers if header.seq not in stays]
    if not any(header.payload or not header.pruned for header in gone):
        return nothing  # only an older record: nothing would be gained
    size = sum(header.payload.stored_size for header in gone if header.payload)
    return Plan(stream, tuple(header.seq for header in gone), size, len(headers) - len(gone), headers[-1].seq)


async def carry_out(store: AuditStore, plan: Plan, *, actor: str | None) -> int:
    """Record the removal, then remove; how many events were there to remove.

    Raises:
        StreamConflict: the run was written to in the meantime. Nothing was recorded or removed; plan again.
    """
    headers = [header async for header in store.headers(plan.stream)]
    if not headers or headers[-1].seq != plan.head_seq:
        raise StreamConflict(plan.stream, plan.head_seq + 1, headers[-1] if headers else None)
    if plan.seqs:
        await store.append(_record(headers, frozenset(plan.seqs), actor))
    removed = await store.remove(plan.stream, (*plan.seqs, *plan.unmarked))
    await store.remove_orphaned_parts()
    return removed


def _kept(headers: list[CheckpointEvent], keep: int, before: datetime | None) -> set[int]:
    live: dict[str, CheckpointEvent] = {}
    for header in headers:
        live.pop(header.checkpoint_id, None)
        if header.type == "checkpoint":
            live[header.checkpoint_id] = header
    last = list(live.values())[-keep:] if keep else []
    stays = {header.seq for header in last}
    if before is not None:
        stays |= {header.seq for header in headers if (moment := moment_of(header.recorded_at)) and moment >= before}
    by_seq = {header.seq: header for header in headers}
    stays |= {base for seq in stays if (payload := by_seq[seq].payload) and (base := payload.base_seq) is not None}
    named = {by_seq[seq].checkpoint_id for seq in stays if seq in by_seq and by_seq[seq].type == "checkpoint"}
    return stays | {header.seq for header in headers if header.type == "tombstone" and header.checkpoint_id in named}


def _record(headers: list[CheckpointEvent], seqs: frozenset[int], actor: str | None) -> CheckpointEvent:
    head = headers[-1]
    moment = datetime.now(UTC).isoformat()
    earlier = {(removed.first, removed.last): removed for header in headers for removed in header.pruned}
    now = [
        Pruned(first=header.seq, last=header.seq, previous_digest=header.previous_digest, digest=header.digest)
        for header in headers
        if header.seq in seqs
    ]
    return sealed(
        CheckpointEvent(
            type="tombstone",
            workflow_name=head.workflow_name,
            run_id=head.run_id,
            seq=head.seq + 1,
            checkpoint_id="",
            timestamp=moment,
            recorded_at=moment,
            actor=actor,
            pruned=_joined([*earlier.values(), *now]),
            previous_digest=head.digest,
        )
    )


def _joined(stretches: Iterable[Pruned]) -> tuple[Pruned, ...]:
    """The same stretches, with neighbours made one."""
    joined: list[Pruned] = []
    for stretch in sorted(stretches, key=lambda stretch: (stretch.first, stretch.last)):
        last = joined[-1] if joined else None
        if last is not None and stretch.last <= last.last:
            continue
        if last is not None and stretch.first <= last.last + 1:
            joined[-1] = msgspec.structs.replace(last, last=stretch.last, digest=stretch.digest)
        else:
            joined.append(stretch)
    return tuple(joined)
