"""Which sessions a source has: each with its branches, which are streams of their own and no sessions.

An index says which streams there are, so that a listing is never late. What each amounts to is told by its document,
where a projection is kept, and else by its log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, NamedTuple

from ..errors import StoreNotFoundError
from ..events import MAX_RUN_ID, CheckpointEvent, RunInfo, StreamId
from ..moments import order_of
from ..removals import Removals
from ..runs import fold
from ..side_by_side import side_by_side
from ..storage import Latest
from ..stores import AuditStore
from ..stores.walks import runs_of
from .branches import BRANCH, BRANCH_MARK, begun_by, session_named

__all__ = ["SessionInfo", "ids_of", "sessions_of"]

_OF_SESSION: Final = MAX_RUN_ID - 1 - BRANCH_MARK
"""Characters of its session's id that the run id of a branch begins with."""


class SessionInfo(NamedTuple):
    """What a session amounts to."""

    source_id: str
    session_id: str
    turns: int | None
    """Kept of it and of its branches, also those that a clear hides; None: they were not counted."""
    branches: int
    """Of those that hold a turn that no clear hides."""
    last_activity: str
    """When the newest of its events was recorded, ISO 8601."""


class _Stream(NamedTuple):
    """A session without its branches, or a branch."""

    run_id: str
    branch_of: str | None
    last_turn: int
    """The seq of the newest turn that counts and that no clear of the same stream hides; 0: there is none."""
    turns: int | None
    recorded_at: str

    @property
    def session_id(self) -> str:
        return self.branch_of or self.run_id


async def sessions_of(
    store: AuditStore, source_id: str, *, latest: Latest = "projection", prefix: str = "", counted: bool = False
) -> list[SessionInfo]:
    """The sessions of a source that hold a turn, sorted by their ids. One that was cleared or erased is left out.

    Asks an index for the streams, and for each that has no document its head, and of a branch the first event.

    Args:
        store: of sessions, as `AuditStore.sessions` gives it.
        source_id: the source.
        latest: "projection": what each amounts to is told by its document, where there is one, maybe late;
            "log": by its log.
        prefix: only those whose id begins so.
        counted: count the turns also where only the log tells, which reads the headers of all events.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    documents = await _documents(store, source_id) if latest == "projection" else {}
    streams: list[_Stream] = []
    lacking: list[StreamId] = []
    async with aclosing(store.run_ids(source_id)) as run_ids:
        async for run_id in run_ids:
            if run_id in documents:
                streams.append(_of_document(documents[run_id]))
            elif run_id.startswith(prefix[:_OF_SESSION]):
                lacking.append(StreamId(source_id, run_id))
    streams += await (_counted(store, lacking) if counted else _looked_at(store, lacking))
    return await _infos(store, source_id, [each for each in streams if each.session_id.startswith(prefix)])


async def ids_of(store: AuditStore, source_id: str) -> list[str]:
    """The ids of the sessions that `sessions_of` gives, sorted, by indexes alone: only what was cleared or pruned, and
    what has the name of a branch, is looked at.

    Args:
        store: of sessions, as `AuditStore.sessions` gives it.
        source_id: the source.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    changed = {run_id for _, run_id in await store.runs_with(source_id, [""])}  # what clears and records has no id
    streams: list[_Stream] = []
    doubtful: list[StreamId] = []
    async with aclosing(store.run_ids(source_id)) as run_ids:
        async for run_id in run_ids:
            if run_id in changed or BRANCH.fullmatch(run_id):
                doubtful.append(StreamId(source_id, run_id))
            else:
                streams.append(_Stream(run_id, None, 1, None, ""))
    streams += await _looked_at(store, doubtful)
    return [info.session_id for info in await _infos(store, source_id, streams)]


async def _infos(store: AuditStore, source_id: str, streams: Iterable[_Stream]) -> list[SessionInfo]:
    sessions: dict[str, list[_Stream]] = {}
    for stream in streams:
        sessions.setdefault(stream.session_id, []).append(stream)
    infos = [await _folded(store, source_id, name, sessions[name]) for name in sorted(sessions)]
    return [info for info in infos if info is not None]


async def _documents(store: AuditStore, source_id: str) -> dict[str, RunInfo]:
    """The documents of a source, by run id. A store that is only looked at may have no place for any."""
    try:
        async with aclosing(store.run_store().all(source_id, emptied=True)) as infos:
            return {info.run_id: info async for info in infos}
    except StoreNotFoundError:
        return {}


async def _folded(store: AuditStore, source_id: str, session_id: str, streams: Sequence[_Stream]) -> SessionInfo | None:
    """A session with its branches; None: nothing of it is left to be read."""
    own = next((each for each in streams if each.branch_of is None), None)
    branches = [each for each in streams if each.branch_of is not None and each.last_turn]
    if branches and (own is None or not own.last_turn):
        hidden = await _hidden(store, StreamId(source_id, session_id))
        branches = [each for each in branches if each.last_turn > hidden.get(each.run_id, 0)]
    if not branches and (own is None or not own.last_turn):
        return None
    counts = [each.turns for each in streams]
    return SessionInfo(
        source_id=source_id,
        session_id=session_id,
        turns=None if None in counts else sum(count or 0 for count in counts),
        branches=len(branches),
        last_activity=max((each.recorded_at for each in streams), key=order_of),
    )


async def _hidden(store: AuditStore, session: StreamId) -> dict[str, int]:
    """Up to which seq each branch of a session is hidden by its last clear."""
    async with aclosing(store.headers(session, desc=True)) as headers:
        async for header in headers:
            if header.type == "tombstone" and header.cleared is not None:
                return header.cleared
    return {}


def _of_document(info: RunInfo) -> _Stream:
    is_begun_elsewhere = info.session is None and info.removed and BRANCH.fullmatch(info.run_id)
    branch_of = session_named(info.run_id) if is_begun_elsewhere else info.session
    return _Stream(info.run_id, branch_of, info.checkpoint_seq, info.checkpoints, info.recorded_at)


async def _counted(store: AuditStore, streams: Iterable[StreamId]) -> list[_Stream]:
    async def each() -> AsyncGenerator[StreamId, None]:
        for stream in streams:
            yield stream

    found: list[_Stream] = []
    async with aclosing(each()) as wanted, aclosing(runs_of(store, wanted)) as runs:
        async for _, headers in runs:
            if (info := fold(headers)) is not None:
                found.append(_of_document(info))
    return found


async def _looked_at(store: AuditStore, streams: Sequence[StreamId]) -> list[_Stream]:
    found = await side_by_side(partial(_look, store), streams)
    return [each for each in found if each is not None]


async def _look(store: AuditStore, stream: StreamId) -> _Stream | None:
    """What the newest events of a stream tell, back to its last turn or clear; None: it has no events."""
    head: CheckpointEvent | None = None
    last_turn, removals = 0, Removals()
    async with aclosing(store.headers(stream, desc=True)) as headers:
        async for header in headers:
            head = head or header
            removals.add(header)
            if header.type == "tombstone" and header.cleared is None:
                continue
            if not removals.covers(header.seq):
                last_turn = header.seq if header.type != "tombstone" else 0
                break
    if head is None:
        return None
    branch_of = await begun_by(store, stream) if BRANCH.fullmatch(stream.run_id) else None
    return _Stream(stream.run_id, branch_of, last_turn, None, head.recorded_at)
