"""Which streams are branches of a session: by their names and, since anybody may call a session so, by their first
events."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from ..events import MAX_RUN_ID, CheckpointEvent, StreamId
from ..stores import AuditStore

__all__ = [
    "BRANCH",
    "BRANCH_MARK",
    "begin_of_branches",
    "begun_by",
    "branches_of",
    "may_be_branch",
    "session_named",
    "session_of",
    "streams_of",
]

BRANCH_MARK: Final = 12
"""Characters, hexadecimal, behind the `~` at the end of a branch's run id."""
BRANCH: Final = re.compile(rf".*~[0-9a-f]{{{BRANCH_MARK}}}", re.DOTALL)

_REMOVED: Final = ""
"""In place of the session that a branch was begun in: its beginning is not there any more."""


def begin_of_branches(session_id: str) -> str:
    """What the names of a session's branches begin with; their marks follow."""
    return f"{session_id[: MAX_RUN_ID - 1 - BRANCH_MARK]}~"


def session_named(run_id: str) -> str:
    """The session that the name of a branch begins with; of a long id, the beginning."""
    return run_id[: -1 - BRANCH_MARK]


def may_be_branch(run_id: str, session_id: str) -> bool:
    """Whether a stream has the name of a branch of a session or, where that is a branch itself, of another branch of
    its session."""
    begins = {begin_of_branches(session_id)}
    if BRANCH.fullmatch(session_id):
        begins.add(begin_of_branches(session_named(session_id)))
    return BRANCH.fullmatch(run_id) is not None and begin_of_branches(session_named(run_id)) in begins


async def begun_by(store: AuditStore, branch: StreamId) -> str | None:
    """The session that a stream with a branch's name is a branch of. Its first event tells; of one whose beginning was
    removed, the name."""
    begun = _session_in(await _first(store, branch))
    return session_named(branch.run_id) if begun == _REMOVED else begun


async def session_of(store: AuditStore, stream: StreamId) -> StreamId:
    """The session that a stream is a branch of, or itself."""
    begun = await begun_by(store, stream) if BRANCH.fullmatch(stream.run_id) else None
    return stream if begun is None else StreamId(stream.workflow_name, begun)


async def streams_of(store: AuditStore, session: StreamId) -> list[StreamId]:
    """A session's own stream and its branches."""
    async with aclosing(branches_of(store, session)) as branches:
        return [session, *[stream async for stream, _ in branches]]


async def branches_of(
    store: AuditStore, session: StreamId
) -> AsyncGenerator[tuple[StreamId, CheckpointEvent | None], None]:
    """The branches of a session, each with the header of its first event, where that is there still.

    Long sessions may share the names of their branches: then what a branch says of itself counts.
    """
    begin = begin_of_branches(session.run_id)
    async with aclosing(store.streams(workflow_name=session.workflow_name, prefix=begin)) as found:
        named = [stream async for stream in found if BRANCH.fullmatch(stream.run_id)]
    for stream in named:
        if f"{session_named(stream.run_id)}~" == begin:
            first = await _first(store, stream)
            if _session_in(first) in (session.run_id, _REMOVED):
                yield stream, first


async def _first(store: AuditStore, stream: StreamId) -> CheckpointEvent | None:
    async with aclosing(store.headers(stream)) as headers:
        return await anext(headers, None)


def _session_in(first: CheckpointEvent | None) -> str | None:
    return first.turn.session if first is not None and first.turn is not None else _REMOVED
