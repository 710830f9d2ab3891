"""Retention: which events of a run may go, and how they go without breaking the chain of those that stay.

First a tombstone is appended that records every stretch of the run that is gone, with the digests on both of its
sides; only then is anything removed. From the record on, what it tells of counts no more. A process that dies in
between leaves events that are recorded as removed and still there, and the next prune removes them, whatever it is
told to keep. The record is the run's new head, so that whoever writes to the run at the same time meets a conflict,
finds a tombstone, and goes on behind it; and of two prunes at once, one finds that it was not the first, and has
removed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from ..errors import StreamConflict
from ..events import Annotation, CheckpointEvent, Pruned, RunInfo, StreamId
from ..moments import moment_of
from ..removals import Removals
from ..runs import ENDED, carried, counted, fold, live
from ..storage.compose import removal_after
from ..storage.damage import damage_in
from ..storage.removing import parted
from ..stores import AuditStore
from .kinds import RUNS
from .rests import turn_of

__all__ = ["Plan", "carry_out", "plan_for", "shorten"]

_NOTHING: Final = Annotation(carried=True)


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
    rests: int = 0,
) -> Plan:
    """What may go of a run, or of a session.

    Stays: the last `keep` live checkpoints, those that a migration made, so that it is known not to be due again, every
    base that one of them needs, every tombstone whose checkpoint still has an event that stays, the record of a removal
    of the run as a whole, so that whoever remembers it from before meets a conflict, and what was recorded at `before`
    or later. Of a session besides: the first event of a branch or a fork, which says what it rests on, all that others
    rest on, each clear, and the whole of a turn of which a part stays. Goes in any case, also from a run that is
    otherwise left alone: what an earlier prune has recorded as removed and did not come to remove. A run that was
    removed as a whole is none to prune, and what of that is still there is left to who removes it, also where the run
    was begun again: it tells of the removal before.

    What is said about the run stays in force, whatever goes: the record repeats it. A run on hold is left alone, and so
    is what an earlier prune did not come to remove of it.

    Args:
        headers: all headers of the run, in order of seq.
        keep: how many live checkpoints stay.
        before: leave alone what was recorded at this time or later.
        only_finished: leave the run alone unless it ended: unless its status is done, failed or cancelled.
        force: also prune a run that waits for an answer.
        rests: the last seq that branches and forks of a session rest on.
    """
    counting = counted(headers)
    if damage := damage_in(headers):
        return _plan(headers, [], refused=damage)
    removed, rest = parted(headers)
    if headers[-1].closes:
        why = "was removed, and some of it is still there: delete it again" if removed else ""
        return _plan(headers, [], refused=why)
    left = _left(rest, counting)
    info = fold(headers)
    if info is not None and info.hold:
        return _plan(headers, [], refused="is on hold, which nothing overrides: annotate it with hold=False first")
    if all(header.is_removal for header in counting):
        return _plan(headers, left)  # an earlier prune left nothing but its record
    if (refused := _refusal(info, only_finished=only_finished, force=force)) and not left:
        return _plan(headers, [], refused=refused)
    stays = _kept(counting, keep, before) | _kept_of_session(counting, rests)
    going = [header for header in counting if header.seq not in stays]
    if refused or not any(header.payload or not header.is_removal for header in going):
        going = []  # only an older record: nothing would be gained
    return _plan(headers, sorted([*left, *going], key=lambda header: header.seq))


async def carry_out(store: AuditStore, plan: Plan, *, actor: str | None) -> int:
    """`shorten` a run, and remove what of its events lay beside them."""
    removed = await shorten(store, plan, actor=actor)
    await store.remove_orphaned_parts()
    return removed


async def shorten(store: AuditStore, plan: Plan, *, actor: str | None) -> int:
    """Record the removal, unless it is on record already, then remove; how many events were there to remove. Whoever
    shortened some runs asks for `AuditStore.remove_orphaned_parts` then.

    Raises:
        StreamConflict: the run was written to in the meantime. Nothing was recorded or removed; plan again.
    """
    headers = [header async for header in store.headers(plan.stream)]
    if not headers or headers[-1].seq != plan.head_seq:
        raise StreamConflict(plan.stream, plan.head_seq + 1, headers[-1] if headers else None)
    removals = Removals(headers)
    now = [header for header in headers if header.seq in frozenset(plan.seqs) and not removals.covers(header.seq)]
    if now:
        await store.append(_record(headers, now, actor))
    return await store.remove(plan.stream, (*plan.seqs, *plan.unmarked))


def _plan(headers: Sequence[CheckpointEvent], gone: Sequence[CheckpointEvent], *, refused: str = "") -> Plan:
    size = sum(header.payload.stored_size for header in gone if header.payload)
    seqs = tuple(header.seq for header in gone)
    return Plan(headers[0].stream, seqs, size, len(headers) - len(seqs), headers[-1].seq, refused)


def _refusal(info: RunInfo | None, *, only_finished: bool, force: bool) -> str:
    """Why a run is to be left alone as it stands; empty: it is not."""
    if info is not None and info.pending_requests and info.status != "cancelled" and not force:
        return f"waits for {len(info.pending_requests)} answers; --force prunes it all the same"
    if info is not None and only_finished and info.status not in ENDED:
        return f"is {info.status}, " + ("and nothing says that it ended" if info.status == "open" else "not finished")
    return ""


def _left(headers: Sequence[CheckpointEvent], counting: Sequence[CheckpointEvent]) -> list[CheckpointEvent]:
    """What is recorded as removed and still there; not a base that something rests on which counts, as after a
    record that no prune has written."""
    stays = {header.seq for header in counting}
    stays |= _bases(counting)
    return [header for header in headers if header.seq not in stays]


def _kept(counting: Sequence[CheckpointEvent], keep: int, before: datetime | None) -> set[int]:
    stays = {header.seq for header in _last(list(live(counting).values()), keep)}
    stays |= {header.seq for header in counting if header.migration is not None or header.closes}
    if before is not None:
        stays |= {header.seq for header in counting if (moment := moment_of(header.recorded_at)) and moment >= before}
    whole = {turn_of(header) for header in counting if header.seq in stays and header.type == "turn"}
    stays |= {header.seq for header in counting if header.type == "turn" and turn_of(header) in whole}
    by_seq = {header.seq: header for header in counting}
    stays |= _bases(by_seq[seq] for seq in stays)
    named = {by_seq[seq].checkpoint_id for seq in stays if seq in by_seq and by_seq[seq].type != "tombstone"}
    return stays | {header.seq for header in counting if header.type == "tombstone" and header.checkpoint_id in named}


def _last(alive: Sequence[CheckpointEvent], keep: int) -> Sequence[CheckpointEvent]:
    """The last `keep` of what is live. A turn that was saved in several parts is one."""
    met: set[str] = set()
    for at in range(len(alive) - 1, -1, -1):
        met.add(turn_of(alive[at]))
        if len(met) > keep:
            return alive[at + 1 :]
    return alive


def _kept_of_session(counting: Sequence[CheckpointEvent], rests: int) -> set[int]:
    """What stays of a session, whatever a prune is told to keep."""
    if all(header.type in RUNS.types and header.cleared is None for header in counting):
        return set()
    return {
        header.seq
        for header in counting
        if header.seq <= rests or header.cleared is not None or header.forked_from is not None
    }


def _bases(headers: Iterable[CheckpointEvent]) -> set[int]:
    """The seqs of the events that any of these rests on."""
    return {base for header in headers if header.payload for base in header.payload.bases}


def _record(headers: Sequence[CheckpointEvent], gone: Sequence[CheckpointEvent], actor: str | None) -> CheckpointEvent:
    """The record of a removal of `gone`, and of all that `headers` record already."""
    earlier = [
        msgspec.structs.replace(removed, last=min(removed.last, header.seq - 1))
        for header in headers
        for removed in header.pruned
        if removed.first < header.seq
    ]
    now = [
        Pruned(first=header.seq, last=header.seq, previous_digest=header.previous_digest, digest=header.digest)
        for header in gone
    ]
    # Said even where nothing is in force: an annotation may stay that was taken back by one that goes.
    stays = carried(fold(headers)) or (_NOTHING if any(header.annotation for header in headers) else None)
    return removal_after(headers[-1], _joined([*earlier, *now]), actor, stays=stays)


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
