"""Where a save goes: it begins a run, continues it, supersedes a checkpoint in it, or forks.

The place follows from what the execution has seen, not from what the store holds by now: that the head has moved since
is for the append to find out, and for `conflict` to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from ..errors import CheckpointEncodeError
from ..events import MAX_RUN_ID, CheckpointEvent, ForkPoint, StreamId
from ..stores import EventStore, FoundEvent, head_of
from ..stores.walks import is_in_closed_run
from ..text import described
from .memory import EMPTY, Bound, Execution, Head, Memory, Tip

__all__ = ["Place", "Placement", "begins", "continues", "forks", "is_named_after", "supersedes"]

_MARK: Final = 128
"""Characters of a checkpoint's id that a fork's name takes; of a longer one, it takes the SHA-256."""
_FURTHER: Final = range(2, 10)
"""Where both names are taken, as by forks that were removed since: of the names that are tried then."""


class Place(NamedTuple):
    """Where the next event goes: right after `head` in `stream`."""

    stream: StreamId
    head: Head
    """Of a run that has no event yet: seq 0, and the digest of the event that it forks from."""
    parent: Tip | None = None
    """The event of the checkpoint that this one follows, wherever it lies."""
    own: Tip | None = None
    """The event that holds this checkpoint already, as far as is known."""
    forked_from: ForkPoint | None = None
    """For the first event of a fork."""

    def after(self, head: Head) -> Place:
        """The place behind events that came in between."""
        return self._replace(head=head, forked_from=None)

    @property
    def rests_on(self) -> Tip | None:
        """The event in the same run that most of this checkpoint's state is likely to be equal to."""
        for tip in (self.own, self.parent):
            if tip is not None and tip.stream == self.stream:
                return tip
        return None


def begins(stream: StreamId, parent: Tip | None) -> Place:
    """The first event of a run; where the parent lies in another run, as a fork of that."""
    if parent is None or parent.stream == stream:
        return Place(stream, EMPTY, parent)
    return Place(stream, Head(0, parent.digest), parent, forked_from=parent.point)


def continues(stream: StreamId, head: Head, parent: Tip | None) -> Place:
    """Behind the head that was seen, whatever the parent is."""
    return Place(stream, head, parent)


def supersedes(stream: StreamId, head: Head, parent: Tip | None, own: Tip) -> Place:
    """Behind the head that was seen, whatever lies between it and the event that holds the checkpoint so far."""
    return Place(stream, head, parent, own)


def forks(place: Place, checkpoint_id: str) -> Iterator[Place]:
    """The first event of a run of its own, from what the lineage last saw, under each of the names that it may have."""
    run_id, parent = place.stream.run_id, place.parent
    nothing_seen = ForkPoint(workflow_name=place.stream.workflow_name, run_id=run_id, seq=0, checkpoint_id=None)
    whole = checkpoint_id if len(checkpoint_id) <= _MARK else sha256(checkpoint_id.encode()).hexdigest()
    begin = checkpoint_id[:8]
    for mark in (begin, whole, *(f"{begin}-{number}" for number in _FURTHER)):
        yield Place(
            StreamId(place.stream.workflow_name, _fork_name(run_id, mark)),
            Head(0, parent.digest) if parent else EMPTY,
            parent,
            forked_from=parent.point if parent else nothing_seen,
        )


def is_named_after(run_id: str, parent: str) -> bool:
    """Whether the name of a run is one that a conflict gives to a fork of `parent`."""
    return run_id == _fork_name(parent, run_id.rpartition("~")[2])


def _fork_name(run_id: str, mark: str) -> str:
    return f"{run_id[: MAX_RUN_ID - 1 - len(mark)]}~{mark}"


class Placement:
    """Finds the execution that a checkpoint belongs to, and its place."""

    def __init__(self, store: EventStore, memory: Memory) -> None:
        self._store = store
        self._memory = memory
        self._looking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def execution_of(self, draft: CheckpointEvent, bound: Bound | None) -> tuple[Execution, Tip | None]:
        """The handle's own; of an unbound storage, the one that its lineage leads to. And the parent, where it is a
        checkpoint of another workflow.

        Raises:
            CheckpointEncodeError: the checkpoint begins a run, and its id is too long to be the name of one.
        """
        if bound is not None:
            return bound.execution(draft.workflow_name), None
        holding = self._memory.holding(draft.workflow_name, draft.checkpoint_id)
        if holding is not None:
            return holding, None
        if draft.previous_checkpoint_id is None:
            return Execution(_named_after(draft)), None
        parent = draft.workflow_name, draft.previous_checkpoint_id
        execution = self._memory.next_after(*parent)
        if execution is not None:
            return execution, None
        self._looking[parent] = looking = self._looking.get(parent) or asyncio.Lock()
        async with looking:  # steps side by side are to find one execution
            return await self._execution_after(draft, parent)

    async def _execution_after(self, draft: CheckpointEvent, parent: tuple[str, str]) -> tuple[Execution, Tip | None]:
        execution = self._memory.next_after(*parent)
        if execution is not None:
            return execution, None
        located = await self._located(*parent)
        if located is None:
            return Execution(_named_after(draft)), None
        tip = self._noted(located)
        if tip.stream.workflow_name != draft.workflow_name:
            return Execution(_named_after(draft)), tip
        execution = self._memory.on_run(tip.stream) or Execution(tip.stream, tip.head)
        self._memory.saved(*parent, execution)
        return execution, None

    async def place(
        self, draft: CheckpointEvent, execution: Execution, bound: Bound | None, elsewhere: Tip | None
    ) -> Place:
        """Where the execution's next event goes. To be asked in its turn.

        Args:
            draft: the header of the checkpoint, without a place.
            execution, elsewhere: what `execution_of` gave.
            bound: what the handle knows, if there is one.
        """
        if execution.must_look:
            head = await head_of(self._store, execution.stream)
            execution.saw(Head.of(head) if head else EMPTY, since=execution.version)
        own = self._tip_of(draft.checkpoint_id, execution)
        parent = elsewhere or await self._parent(draft, execution, bound)
        stream = execution.stream
        if execution.head is None:
            for tip in (own, parent):
                if tip is not None and tip.stream == stream:  # what was seen when it was met, or looked for just now
                    execution.caught_up(stream, tip.head)
        head = execution.head
        if head is not None and head.seq > 0:
            return continues(stream, head, parent) if own is None else supersedes(stream, head, parent, own)
        return begins(stream, parent)

    def _tip_of(self, checkpoint_id: str, execution: Execution) -> Tip | None:
        for stream in reversed(execution.streams):
            if (tip := self._memory.tip(stream, checkpoint_id)) is not None:
                return tip
        return None

    async def _parent(self, draft: CheckpointEvent, execution: Execution, bound: Bound | None) -> Tip | None:
        """The event of the checkpoint that this one follows. To look for it is to read the run that it lies in."""
        parent_id = draft.previous_checkpoint_id
        if parent_id is None or (bound is None and execution.head is None):
            return None  # nobody knows of it: `execution_of` has looked
        known = self._tip_of(parent_id, execution)
        if known is None and bound is not None:
            known = bound.elsewhere(parent_id, execution.streams[0])
        if known is not None:
            return known
        for stream in reversed(execution.streams):
            located = await self._store.find(parent_id, stream=stream)
            if located is not None and not is_in_closed_run(located):
                return self._noted(located)
        located = await self._located(draft.workflow_name, parent_id)
        return self._noted(located) if located is not None else None

    async def _located(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """Where a checkpoint lies: in a run of this workflow or, if there is none, of another. An id alone places
        nothing."""
        located = await self._store.find(checkpoint_id)
        if located is not None and located.event.workflow_name != workflow_name:
            located = await self._store.find_in(workflow_name, checkpoint_id) or located
        return None if located is not None and is_in_closed_run(located) else located

    def _noted(self, located: FoundEvent) -> Tip:
        tip = Tip.of(located.event, Head.of(located.head))
        self._memory.note(tip)
        return tip


def _named_after(draft: CheckpointEvent) -> StreamId:
    """A run of its own takes its name from its first checkpoint, whose id as such may be of any length."""
    if len(draft.checkpoint_id) > MAX_RUN_ID:
        raise CheckpointEncodeError(
            f"A checkpoint's checkpoint_id must have 1 to {MAX_RUN_ID} characters to name the run that it begins, and "
            f"has {len(draft.checkpoint_id):,}: {described(draft.checkpoint_id)}. Nothing was saved: give it a shorter "
            "id, or save through for_run, where the run has a name of its own."
        )
    return StreamId(draft.workflow_name, draft.checkpoint_id)
