"""Reading a lineage: its turns, newest first, through the streams that it branched off from.

A clearing hides what is before it for every lineage. It lies in the stream of the session, behind whatever a lineage
has seen; so a read is also given the tombstones behind its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import NamedTuple

from ..chain import flaw_of
from ..errors import CheckpointDecodeError, StoreUnavailableError
from ..events import CheckpointEvent, StreamId
from ..removals import Removals
from ..stores import AuditStore
from ..threads import off_the_loop

__all__ = ["Head", "Past", "in_order", "read", "read_seen"]


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
    flaws: list[CheckpointDecodeError]
    """What of its clearings and beginnings was damaged or changed, and not believed."""
    reach: int
    """Up to which seq of its stream the walk knows what became of each event."""
    shifts: dict[str, int]
    """By the run id of each stream that it goes through, what makes a seq of it one of the whole lineage: the events
    before the beginning of the lineage's own stream have 0 and below."""


async def read_seen(store: AuditStore, stream: StreamId, upto: int | None, *, wanted: int | None = None) -> Past:
    """What `read` gives of a lineage that has seen the event `upto`; None: it may have seen anything.

    Raises:
        StoreUnavailableError: the event is not there, nor a record of what became of it: less than the lineage has seen
            is never given for all of it.
    """
    past = await read(store, stream, upto=upto, wanted=wanted)
    _be_there(stream, upto, past.reach)
    return past


async def read(store: AuditStore, stream: StreamId, *, upto: int | None = None, wanted: int | None = None) -> Past:
    """A lineage up to an event.

    Args:
        store: of sessions.
        stream: where the lineage goes on.
        upto: the seq of the event, that in the lineage (see `Past.shifts`); None: the last one.
        wanted: how many of the newest messages are enough; None: all.

    Raises:
        StoreUnavailableError: what a branch goes on from is not there.
    """
    walk = _Walk(store, wanted)
    head = await walk.along(stream, upto, is_own=True)
    reach = walk.reach
    while (origin := walk.origin) is not None:
        parent, seq, _ = origin
        await walk.along(*origin)
        _be_there(parent, seq, walk.reach)
    turns = in_order(reversed(walk.turns))
    return Past(head or Head(stream), turns, not walk.is_enough, walk.hidden, walk.flaws, reach, walk.shifts)


def _be_there(stream: StreamId, seq: int | None, last: int) -> None:
    if seq is not None and last < seq:
        raise StoreUnavailableError(
            f"A session's state, or a branch, says that seq {seq} of {stream.run_id!r} (source "
            f"{stream.workflow_name!r}) was there, and the store ends at seq {last}. On Cosmos DB, what another "
            "process has just written may come late: try again. Where the store is another one, or an older copy, "
            "begin with an empty state."
        )


class _Seqs:
    """The seqs of a stream that a walk goes by, the newest first: each is there, or recorded as removed."""

    def __init__(self, store: AuditStore, stream: StreamId) -> None:
        self._store = store
        self._stream = stream
        self._next: int | None = None
        """Where the walk is; None: it has not begun."""
        self._removals = Removals()

    def is_removed(self, event: CheckpointEvent) -> bool:
        """Whether an event that is there is recorded as removed: who removes records it first."""
        self._removals.add(event)
        return self._removals.covers(event.seq)

    def are_removed(self, first: int, last: int) -> bool:
        """Whether all of these are recorded as removed, by what the walk has met."""
        return self._removals.covers(first, last)

    async def missing_above(self, seq: int) -> CheckpointDecodeError | None:
        """What is wrong if the walk comes to `seq`: what it should have come by is not there."""
        first, last = seq + 1, self._next
        self._next = seq - 1
        if last is None or first > last or self._removals.covers(first, last):
            return None
        async with aclosing(self._store.newest(self._stream, lte=0)) as tombstones:
            async for event in tombstones:  # it may have been recorded since the walk began
                self._removals.add(event)
        if self._removals.covers(first, last):
            return None
        return CheckpointDecodeError(
            f"Seqs {first} to {last} of session {self._stream.run_id!r} (source {self._stream.workflow_name!r}) are "
            "not there, and no record says that they were removed; `eventckpt verify` says more."
        )


class _Walk:
    """What was found so far, newest first."""

    def __init__(self, store: AuditStore, wanted: int | None) -> None:
        self._store = store
        self._left = wanted
        self._continued: set[str] = set()
        """Turns of which a later part was found: what lies between goes behind it (see `in_order`)."""
        self.turns: list[CheckpointEvent] = []
        self.hidden: dict[str, int] = {}
        self.flaws: list[CheckpointDecodeError] = []
        self.shifts: dict[str, int] = {}
        self.reach = 0
        """Of the stream that was walked last: see `Past`."""
        self.origin: tuple[StreamId, int, bool] | None = None
        """Where the walk goes on: a stream, up to which event, and whether it is of the same session."""

    @property
    def is_enough(self) -> bool:
        return self._left is not None and self._left <= 0 and not self._continued

    async def along(self, stream: StreamId, upto: int | None, is_own: bool) -> Head | None:
        """One stream, from an event back; the event there."""
        head: CheckpointEvent | None = None
        first: CheckpointEvent | None = None
        self.origin = None
        self.shifts.setdefault(stream.run_id, 0)
        seqs = _Seqs(self._store, stream)
        async with aclosing(self._store.newest(stream, lte=None if upto is None else max(upto, 0))) as events:
            async for event in events:
                is_behind = upto is not None and event.seq > upto
                is_removed = seqs.is_removed(event)
                if not is_behind and (flaw := await seqs.missing_above(event.seq)):
                    self.flaws.append(flaw)
                if head is None or (upto is not None and head.seq > upto and not is_behind):
                    head = event
                if event.type == "tombstone" and (is_own or not is_behind) and await self._clears(event):
                    if is_behind:  # never behind what comes after it: others have said that
                        self.reach = event.seq
                        return Head.of(event)
                    return self._stands_at(seqs, stream, upto, Head.of(head))
                if event.type == "turn" and not is_behind and not is_removed:
                    first = event
                    await self._take(event)
                if self.is_enough and (upto is None or upto > 0):
                    break
            else:
                if flaw := await seqs.missing_above(0):
                    self.flaws.append(flaw)
        if first is None or first.seq != 1:
            was_left_out = self.is_enough or (upto is not None and upto <= 0)
            first = next(iter(await self._store.read(stream, 1)), None) if was_left_out else None
        await self._go_on(first, upto, is_own)
        return self._stands_at(seqs, stream, upto, None if head is None else Head.of(head))

    def _stands_at(self, seqs: _Seqs, stream: StreamId, upto: int | None, head: Head | None) -> Head | None:
        """Where a lineage goes on that has seen `upto`, which may be removed: behind the last event before it that is
        there, or at the beginning. Never behind the record of the removal: what lies between, others have said."""
        self.reach = last = head.seq if head else 0
        if upto is not None and last > upto and (upto <= 0 or seqs.are_removed(1, upto)):
            return Head(stream)
        if upto is not None and 0 <= last < upto and seqs.are_removed(last + 1, upto):
            self.reach = upto
        return head

    async def _clears(self, event: CheckpointEvent) -> bool:
        """Whether nothing before a tombstone counts any more. One that says neither what it hides nor what was removed
        is damaged: what it hid must not come back in silence."""
        is_told = event.cleared is not None or event.pruned
        if not is_told:
            self.flaws.append(CheckpointDecodeError(f"{event.named()} hides or removes something, and cannot be read."))
        if event.cleared is None or not await self._is_as_written(event):
            return False
        self._hide({**event.cleared, event.run_id: event.seq})
        return True

    async def _take(self, event: CheckpointEvent) -> None:
        if event.cleared is not None and await self._is_as_written(
            event
        ):  # a fork's first, which knows what was hidden then
            self._hide(event.cleared)
        if event.seq > self.hidden.get(event.run_id, 0):
            self.turns.append(event)
            if self._left is not None and event.turn is not None:
                self._left -= event.turn.messages
                self._continued |= {event.turn.continues} if event.turn.continues else set()
                self._continued.discard(event.checkpoint_id)

    def _hide(self, cleared: dict[str, int]) -> None:
        for run_id, seq in cleared.items():
            self.hidden[run_id] = max(seq, self.hidden.get(run_id, 0))
        self.turns = [turn for turn in self.turns if turn.seq > self.hidden.get(turn.run_id, 0)]

    async def _go_on(self, first: CheckpointEvent | None, upto: int | None, is_own: bool) -> None:
        """What is cleared in one session stays in those that were forked off from it. Where enough was found, only
        what this session has cleared is looked for. Where anything of a stream is hidden, so is what it goes on from.
        """
        if first is None or first.forked_from is None or first.run_id in self.hidden:
            return
        if not await self._is_as_written(first):
            return
        point = first.forked_from
        if point.run_id in self.shifts or point.workflow_name != first.workflow_name:
            self.flaws.append(CheckpointDecodeError(f"{first.named()} says that it goes on from itself or elsewhere."))
            return
        is_branch = is_own and first.turn is not None and first.turn.session is not None
        if is_branch or not self.is_enough:
            self.shifts[point.run_id] = self.shifts[first.run_id] - point.seq
            seq = 0 if self.is_enough else point.seq + min(upto or 0, 0)
            self.origin = StreamId(point.workflow_name, point.run_id), seq, is_branch

    async def _is_as_written(self, event: CheckpointEvent) -> bool:
        flaw = await off_the_loop(event.payload.stored_size if event.payload else 0, flaw_of, event)
        if flaw:
            self.flaws.append(CheckpointDecodeError(f"{event.named()} cannot be believed: {flaw}"))
        return not flaw


def in_order(turns: Iterable[CheckpointEvent]) -> list[CheckpointEvent]:
    """Turns as they were begun: what others saved in the middle of one comes behind it, and never between a call of a
    tool and its result."""
    parts: dict[str, list[CheckpointEvent]] = {}
    for event in turns:
        begun = event.turn.continues if event.turn else None
        parts.setdefault(begun if begun in parts else event.checkpoint_id, []).append(event)
    return [event for group in parts.values() for event in group]
