"""What is done to whole sessions: cleared, forked, erased; and which streams are their branches."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Final

from ..chain import sealed
from ..codec import CheckpointCodec
from ..errors import CheckpointStoreError, RunNotFoundError, SessionConflictError, StreamConflict
from ..events import MAX_RUN_ID, SCHEMA_OF_SESSIONS, CheckpointEvent, Pruned, StreamId
from ..storage.compose import now, removal_after
from ..stores import AuditStore, head_of
from .past import read
from .saving import BRANCH_MARK, Place, turn_at
from .turns import packed

__all__ = ["BRANCH", "begun_by", "clear", "erase", "fork", "session_named", "streams_of"]

_TRIES: Final = 100
BRANCH: Final = re.compile(rf".*~[0-9a-f]{{{BRANCH_MARK}}}", re.DOTALL)


async def begun_by(store: AuditStore, branch: StreamId) -> str | None:
    """The session that a stream with a branch's name is a branch of. Its first event tells, for anybody may call a
    session so; of one whose beginning was removed, the name."""
    async with aclosing(store.headers(branch)) as headers:
        first = await anext(headers, None)
    return first.turn.session if first is not None and first.turn is not None else session_named(branch.run_id)


def session_named(run_id: str) -> str:
    """The session that the name of a branch begins with; of a long id, the beginning."""
    return run_id[: -1 - BRANCH_MARK]


async def streams_of(store: AuditStore, session: StreamId) -> list[StreamId]:
    """A session's own stream and its branches."""
    name = session.run_id[: MAX_RUN_ID - 1 - BRANCH_MARK]
    async with aclosing(store.streams(workflow_name=session.workflow_name, prefix=f"{name}~")) as found:
        named = [stream async for stream in found if BRANCH.fullmatch(stream.run_id)]
    branches = [each for each in named if session_named(each.run_id) == name]
    return [session, *[each for each in branches if await begun_by(store, each) in (session.run_id, name)]]


async def clear(store: AuditStore, session: StreamId, *, actor: str | None) -> list[StreamId]:
    """Hide what a session and its branches hold by now; their streams."""
    streams = await streams_of(store, session)
    for _ in range(_TRIES):
        head = await head_of(store, session)
        if head is None:
            return streams
        heads = [await head_of(store, stream) for stream in streams[1:]]
        moment = now()
        event = CheckpointEvent(
            type="tombstone",
            workflow_name=session.workflow_name,
            run_id=session.run_id,
            seq=head.seq + 1,
            checkpoint_id="",
            timestamp=moment,
            recorded_at=moment,
            actor=actor,
            cleared={each.run_id: each.seq for each in heads if each is not None},
            previous_digest=head.digest,
            schema=SCHEMA_OF_SESSIONS,
        )
        try:
            await store.append(sealed(event))
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
    event = turn_at(place, await packed(codec, []), {}, actor=actor)
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
        head = headers[-1]
        gone = [header for header in headers if not (header is head and header.pruned)]
        if not gone:
            return 0
        try:
            if not head.pruned:
                await store.append(removal_after(head, (_all_of(headers),), actor))
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
