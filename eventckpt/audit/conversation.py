"""Which turns a session held at a point: its own, and of a branch or a fork before them those that it rests on.

A clear hides what was there when it was made. It says of each branch up to which seq that was; a branch that it does
not name had nothing then. So it counts at a point of a branch that lies behind that seq, and not before. Works on
headers: no payload is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, NamedTuple

from ..chain import flaw_of, is_whole
from ..codec.tree import Tree
from ..errors import CheckpointDecodeError
from ..events import MAX_SEQ, CheckpointEvent, ForkPoint, StreamId
from ..history.past import in_order
from ..moments import moment_of
from ..runs import counted
from ..stores import AuditStore
from ..stores.walks import headers_of
from ..threads import off_the_loop
from .diff import Difference, Kind
from .states import States

__all__ = [
    "Point",
    "clear_of",
    "conversation_at",
    "differences_of_turns",
    "holds_snapshots",
    "messages_of",
    "turns_at",
    "whole",
]

_AT_ONCE: Final = 16  # whole events that are read together


class Point(NamedTuple):
    """A place in the log of a session."""

    stream: StreamId
    seq: int = MAX_SEQ
    """The last one that counts; without it, all do."""


async def turns_at(store: AuditStore, point: Point) -> list[CheckpointEvent]:
    """The headers of the turns that a session held at a point, in their order. What was removed is left out.

    Args:
        store: of sessions.
        point: where; of a stream that is not there, it is nothing.

    Raises:
        CheckpointDecodeError: what says where a stream goes on from was changed, or goes round in a circle.
    """
    walk = _Walk(store)
    stretches: list[list[CheckpointEvent]] = []
    at: Point | None = point
    while at is not None:
        turns, at = await walk.step(at)
        stretches.append(turns)
    return [turn for stretch in reversed(stretches) for turn in stretch]


async def conversation_at(
    store: AuditStore, stream: StreamId, *, seq: int | None = None, time: datetime | None = None
) -> list[CheckpointEvent]:
    """The headers of the turns that a session, or a branch of one, held at a point, as they were begun: see
    `CheckpointAudit.conversation`."""
    if time is not None:
        seq = await _seq_at(store, stream, time)
    return in_order(await turns_at(store, Point(stream) if seq is None else Point(stream, seq)))


async def clear_of(store: AuditStore, stream: StreamId) -> CheckpointEvent | None:
    """The header of the last event that cleared a stream; None: there is none."""
    async with aclosing(store.newest(stream, lte=0)) as tombstones:
        async for event in tombstones:
            if event.type == "tombstone" and event.cleared is not None:
                return event.header()
    return None


async def holds_snapshots(store: AuditStore, stream: StreamId) -> bool:
    """Whether a stream among sessions is what a host keeps of one, of which each event is the whole."""
    async with aclosing(store.headers(stream)) as headers:
        async for header in headers:
            if header.type != "tombstone":
                return header.type == "session"
    return False


class _Walk:
    """From a point back along what it rests on."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._logs: dict[StreamId, list[CheckpointEvent]] = {}
        self._session: StreamId | None = None
        """Whose streams are gone along."""
        self._hidden: dict[str, int] = {}
        """By the run id of a stream, up to which seq it is hidden."""
        self._met: set[StreamId] = set()

    async def step(self, at: Point) -> tuple[list[CheckpointEvent], Point | None]:
        """What one stream has of it, and where that goes on from. Where anything of a stream is hidden, so is that."""
        self._met.add(at.stream)
        log = await self._log(at.stream)
        first = log[0] if log and log[0].seq == 1 else None
        branch_of = first.turn.session if first is not None and first.turn is not None else None
        session = StreamId(at.stream.workflow_name, branch_of) if branch_of else at.stream
        if session != self._session:
            self._session = session
            self._hide(await self._cleared_before(session, at))
        hidden = self._hidden.get(at.stream.run_id, 0)
        turns = [each for each in log if each.type == "turn" and hidden < each.seq <= at.seq]
        if first is None or first.forked_from is None or hidden:
            return turns, None
        return turns, await self._origin(first.forked_from, first)

    async def _origin(self, origin: ForkPoint, first: CheckpointEvent) -> Point:
        """Where a stream goes on from, by its first event, of which all is looked at: it is to be believed."""
        for event in await self._store.read(first.stream, 1):
            if flaw := await off_the_loop(event.payload.stored_size if event.payload else 0, flaw_of, event):
                raise CheckpointDecodeError(f"{first.named()} cannot be believed: {flaw}")
        stream = StreamId(origin.workflow_name, origin.run_id)
        if stream in self._met or origin.workflow_name != first.workflow_name:
            raise CheckpointDecodeError(f"{first.named()} says that it goes on from itself, or from another source.")
        self._hide(first.cleared or {})
        return Point(stream, min(origin.seq, MAX_SEQ))

    def _hide(self, cleared: Mapping[str, int]) -> None:
        for run_id, seq in cleared.items():
            self._hidden[run_id] = max(seq, self._hidden.get(run_id, 0))

    async def _log(self, stream: StreamId) -> list[CheckpointEvent]:
        if stream not in self._logs:
            self._logs[stream] = list(counted(await headers_of(self._store, stream)))
        return self._logs[stream]

    async def _cleared_before(self, session: StreamId, at: Point) -> dict[str, int]:
        """What the last clear of a session hides that had been made at a point of it."""
        found: dict[str, int] = {}
        for each in await self._log(session):
            if each.type != "tombstone" or each.cleared is None or not is_whole(each):
                continue
            if each.seq <= at.seq if at.stream == session else at.seq > each.cleared.get(at.stream.run_id, 0):
                found = {**each.cleared, session.run_id: each.seq}
        return found


async def whole(store: AuditStore, turns: Sequence[CheckpointEvent]) -> AsyncGenerator[CheckpointEvent, None]:
    """The events of these headers, a few at a time; what was removed meanwhile is left out."""
    for start in range(0, len(turns), _AT_ONCE):
        places = [(turn.stream, turn.seq) for turn in turns[start : start + _AT_ONCE]]
        found = {(event.stream, event.seq): event for event in await store.read_each(sorted(places))}
        for place in places:
            if place in found:
                yield found[place]


async def differences_of_turns(
    store: AuditStore, states: States, before: Point, after: Point
) -> AsyncGenerator[Difference, None]:
    """The messages that a session held at one point and not at the other. Turns that both have are not read.

    Args:
        store: of sessions.
        states: reads what turns hold.
        before, after: the points; of one session, or of any two.
    """
    was, now = await turns_at(store, before), await turns_at(store, after)
    both = 0
    while both < min(len(was), len(now)) and was[both].digest == now[both].digest:
        both += 1
    first = sum(turn.turn.messages for turn in was[:both] if turn.turn is not None)
    sides: list[tuple[Kind, list[CheckpointEvent]]] = [("removed", was[both:]), ("added", now[both:])]
    for kind, turns in sides:
        at = first
        async with aclosing(whole(store, turns)) as events:
            async for event in events:
                for message in messages_of(await states.tree(event)):
                    ours, theirs = (message, None) if kind == "removed" else (None, message)
                    yield Difference(kind, f"messages[{at}]", ours, theirs)
                    at += 1


def messages_of(tree: Mapping[str, Tree]) -> list[Tree]:
    """The messages in the tree of a turn; none where it holds none."""
    messages = tree.get("messages")
    return messages if isinstance(messages, list) else []


async def _seq_at(store: AuditStore, stream: StreamId, time: datetime) -> int:
    """The seq of the last event of a stream that was recorded up to a time; 0: there was none."""
    seq = 0
    async with aclosing(store.headers(stream)) as headers:
        async for header in headers:
            moment = moment_of(header.recorded_at)
            if moment is None or moment > time:
                break
            seq = header.seq
    return seq
