"""What is done to whole sessions: cleared, forked, erased."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from ..codec import CheckpointCodec
from ..errors import CheckpointStoreError, RunNotFoundError, SessionConflictError, StreamConflict
from ..events import CheckpointEvent, Pruned, StreamId
from ..removals import Removals
from ..storage.compose import clearing_after, removal_after
from ..stores import AuditStore, head_of
from .branches import streams_of
from .past import read
from .saving import Place, turn_at
from .turns import packed

__all__ = ["clear", "erase", "fork"]

_TRIES: Final = 100


async def clear(store: AuditStore, session: StreamId, *, actor: str | None) -> list[StreamId]:
    """Hide what a session and its branches hold by now; their streams."""
    streams = await streams_of(store, session)
    for _ in range(_TRIES):
        head = await head_of(store, session)
        if head is None:
            return streams
        heads = [await head_of(store, stream) for stream in streams[1:]]
        hidden = {each.run_id: each.seq for each in heads if each is not None}
        try:
            await store.append(clearing_after(head, hidden, actor))
        except StreamConflict:
            continue
        return streams
    raise _busy(session, "cleared")


async def fork(
    store: AuditStore,
    codec: CheckpointCodec,
    session: StreamId,
    new: StreamId,
    upto_seq: int | None,
    *,
    actor: str | None,
) -> None:
    """See `EventHistoryProvider.fork`."""
    last = await head_of(store, session)
    if last is None:
        raise RunNotFoundError(f"There is no session {session.run_id!r} (source {session.workflow_name!r}) to fork.")
    if upto_seq is not None and not 1 <= upto_seq <= last.seq:
        raise ValueError(
            f"Session {session.run_id!r} (source {session.workflow_name!r}) has no seq {upto_seq}; its last is "
            f"{last.seq}."
        )
    past = await read(store, session, upto=upto_seq)
    place = Place.fork(new, past.head, hidden=past.hidden or None)
    event = turn_at(place, await packed(codec, []), [], actor=actor)
    try:
        await store.append(event)
    except StreamConflict as conflict:
        raise SessionConflictError(
            f"There is a session {new.run_id!r} (source {new.workflow_name!r}) already; nothing was forked. Give "
            "another id.",
            stream=new,
            expected_seq=1,
            head=conflict.head,
        ) from conflict


async def erase(store: AuditStore, stream: StreamId, *, actor: str | None) -> int:
    """Remove what a stream holds, and record that; how many events were removed."""
    for _ in range(_TRIES):
        async with aclosing(store.headers(stream)) as listing:
            headers = [header async for header in listing]
        if not headers:
            return 0
        head, whole = headers[-1], _all_of(headers)
        is_recorded = Removals([head]).covers(whole.first, head.seq - 1)  # the record of a prune may tell of a part
        gone = [header for header in headers if not (header is head and is_recorded)]
        if not gone:
            return 0
        try:
            if not is_recorded:
                await store.append(removal_after(head, (whole,), actor))
        except StreamConflict:
            continue
        removed = await store.remove(stream, [header.seq for header in gone])
        await store.remove_orphaned_parts()
        return removed
    raise _busy(stream, "erased")


def _all_of(headers: list[CheckpointEvent]) -> Pruned:
    """The whole of a run as one stretch, with what an earlier record says of its beginning."""
    first = min([headers[0].seq, *[gap.first for header in headers for gap in header.pruned]])
    before = next((gap for header in headers for gap in header.pruned if gap.first == first), None)
    return Pruned(
        first=first,
        last=headers[-1].seq,
        previous_digest=headers[0].previous_digest if before is None else before.previous_digest,
        digest=headers[-1].digest,
    )


def _busy(stream: StreamId, what: str) -> CheckpointStoreError:
    return CheckpointStoreError(
        f"Session {stream.run_id!r} (source {stream.workflow_name!r}) was written to {_TRIES} times while it was to be "
        f"{what}; it was not. Try again."
    )
