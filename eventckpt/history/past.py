"""Reading a lineage: its turns, newest first, through the streams that it branched off from.

A clearing hides what is before it for every lineage. It lies in the stream of the session, behind whatever a lineage
has seen; so a read is also given the tombstones behind its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Final, NamedTuple

from ..events import CheckpointEvent, StreamId
from ..stores import AuditStore

__all__ = ["Head", "Past", "read"]

_MOST_STREAMS: Final = 1_000
"""Branches of branches that are followed; nobody makes so many, but a store may say anything."""


class Head(NamedTuple):
    """An event that a lineage stands at. Seq 0: there is none yet."""

    stream: StreamId
    seq: int = 0
    digest: str = ""
    turn_id: str | None = None

    @classmethod
    def of(cls, event: CheckpointEvent) -> Head:
        return cls(event.stream, event.seq, event.digest, event.checkpoint_id or None)


class Past(NamedTuple):
    """What a read of a lineage gives."""

    head: Head
    """The last event of it that is there."""
    turns: list[CheckpointEvent]
    """Whole, in their order, the parts of one turn next to each other."""
    is_whole: bool
    """Whether these are all."""
    hidden: dict[str, int]
    """By the run id of each stream, up to which seq its turns are hidden."""


async def read(store: AuditStore, stream: StreamId, *, upto: int | None = None, wanted: int | None = None) -> Past:
    """A lineage up to an event.

    Args:
        store: of sessions.
        stream: where the lineage goes on.
        upto: the seq of the event; None: the last one.
        wanted: how many of the newest messages are enough; None: all.
    """
    walk = _Walk(store, wanted)
    head = await walk.along(stream, upto, is_own=True)
    streams = 1
    while (origin := walk.origin) is not None and streams < _MOST_STREAMS:
        await walk.along(*origin)
        streams += 1
    return Past(head or Head(stream), _in_order(reversed(walk.turns)), not walk.is_enough, walk.hidden)


class _Walk:
    """What was found so far, newest first."""

    def __init__(self, store: AuditStore, wanted: int | None) -> None:
        self._store = store
        self._left = wanted
        self.turns: list[CheckpointEvent] = []
        self.hidden: dict[str, int] = {}
        self.origin: tuple[StreamId, int, bool] | None = None
        """Where the walk goes on: a stream, up to which event, and whether it is of the same session."""

    @property
    def is_enough(self) -> bool:
        return self._left is not None and self._left <= 0

    async def along(self, stream: StreamId, upto: int | None, is_own: bool) -> Head | None:
        """One stream, from an event back; the event there."""
        head: CheckpointEvent | None = None
        first: CheckpointEvent | None = None
        self.origin = None
        async with aclosing(self._store.newest(stream, lte=upto)) as events:
            async for event in events:
                is_behind = upto is not None and event.seq > upto
                if head is None or (upto is not None and head.seq > upto and not is_behind):
                    head = event
                if event.type == "tombstone" and event.cleared is not None and (is_own or not is_behind):
                    self._hide({**event.cleared, event.run_id: event.seq})
                    return Head.of(head)
                if event.type == "turn" and not is_behind:
                    first = event
                    self._take(event)
                if self.is_enough and upto != 0:
                    break
        if first is None or first.seq != 1:
            was_left_out = self.is_enough or upto == 0
            first = next(iter(await self._store.read(stream, 1)), None) if was_left_out else None
        self._go_on(first, is_own)
        return None if head is None else Head.of(head)

    def _take(self, event: CheckpointEvent) -> None:
        if event.cleared is not None:  # the first of a fork, which knows what was hidden then
            self._hide(event.cleared)
        if event.seq > self.hidden.get(event.run_id, 0):
            self.turns.append(event)
            if self._left is not None and event.turn is not None:
                self._left -= sum(event.turn.roles.values())

    def _hide(self, cleared: dict[str, int]) -> None:
        for run_id, seq in cleared.items():
            self.hidden[run_id] = max(seq, self.hidden.get(run_id, 0))
        self.turns = [turn for turn in self.turns if turn.seq > self.hidden.get(turn.run_id, 0)]

    def _go_on(self, first: CheckpointEvent | None, is_own: bool) -> None:
        """What is cleared in one session stays in those that were forked off from it. Where enough was found, only
        what this session has cleared is looked for. Where anything of a stream is hidden, so is what it goes on from.
        """
        if first is None or first.forked_from is None or first.run_id in self.hidden:
            return
        point = first.forked_from
        is_branch = is_own and first.turn is not None and first.turn.session is not None
        if is_branch or not self.is_enough:
            upto = 0 if self.is_enough else point.seq
            self.origin = StreamId(point.workflow_name, point.run_id), upto, is_branch


def _in_order(turns: Iterable[CheckpointEvent]) -> list[CheckpointEvent]:
    """Turns as they were begun: what others saved in the middle of one comes behind it, and never between a call of a
    tool and its result."""
    parts: dict[str, list[CheckpointEvent]] = {}
    for event in turns:
        begun = event.turn.continues if event.turn else None
        parts.setdefault(begun if begun in parts else event.checkpoint_id, []).append(event)
    return [event for group in parts.values() for event in group]
