"""What is done to whole sessions: cleared, forked, erased."""

from __future__ import annotations

from typing import Final

from ..codec import CheckpointCodec
from ..errors import CheckpointStoreError, RunNotFoundError, SessionConflictError, StreamConflict
from ..events import StreamId
from ..storage.compose import clearing_after
from ..storage.removing import RunRemoval, each_of, not_removed, remove_runs
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


async def erase(store: AuditStore, session: StreamId, *, actor: str | None) -> list[RunRemoval]:
    """Remove a session and its branches as a whole; what became of each of its streams."""
    streams = await streams_of(store, session)
    removals = [each async for each in remove_runs(store, each_of(streams), actor=actor, force=True)]
    for removal in removals:
        if (error := not_removed(removal)) is not None:
            raise error
    return removals


def _busy(stream: StreamId, what: str) -> CheckpointStoreError:
    return CheckpointStoreError(
        f"Session {stream.run_id!r} (source {stream.workflow_name!r}) was written to {_TRIES} times while it was to be "
        f"{what}; it was not. Try again."
    )
