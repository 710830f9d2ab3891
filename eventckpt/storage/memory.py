"""What is remembered of a store, and by whom, so that a save needs no read.

Two things are kept apart. Where the event of a checkpoint lies never changes: a storage and all its handles share it,
as a cache. How far a run was read, and where the next save goes, is known to one execution only: a handle that
`for_run` gave serves one, and an unbound storage keeps one for each lineage. So it makes no difference whether two
handles are in one process or in two. Forgetting costs a read, never a fork.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from ..errors import CheckpointStoreError
from ..events import CheckpointEvent, ForkPoint, Payload, StreamId
from ..lru import Lru

__all__ = ["EMPTY", "Bound", "Execution", "Head", "Lineage", "Memory", "Tip"]

_WORKFLOWS: Final = 1_000  # of one bound run: as a rule it is one
_IN_DOUBT: Final = 1_000  # appends in a row of which nobody knows what became of them


class Head(NamedTuple):
    """The last event of a stream, as someone saw it. Seq 0: the stream was empty."""

    seq: int
    digest: str

    @classmethod
    def of(cls, event: CheckpointEvent) -> Head:
        return cls(event.seq, event.digest)


EMPTY: Final = Head(0, "")


class Tip(NamedTuple):
    """The event of a checkpoint: where a lineage ends, until the next save."""

    stream: StreamId
    seq: int
    checkpoint_id: str
    digest: str
    payload: Payload | None
    """Without data."""
    head: Head
    """The head of the stream when this event, and the snapshot that it needs, were known to be there."""

    @classmethod
    def of(cls, event: CheckpointEvent, head: Head | None = None) -> Tip:
        """The checkpoint of `event`, met when `head` was the head of its stream, or the event itself."""
        payload = event.header().payload
        return cls(event.stream, event.seq, event.checkpoint_id, event.digest, payload, head or Head.of(event))

    @property
    def point(self) -> ForkPoint:
        """Where a fork from here begins."""
        return ForkPoint(
            workflow_name=self.stream.workflow_name,
            run_id=self.stream.run_id,
            seq=self.seq,
            checkpoint_id=self.checkpoint_id,
        )


class Execution:
    """One going-on of a workflow, from one start or one resume: what it has seen of its run, and where its saves go.

    Its saves take turns, so that steps which run side by side never conflict with each other.
    """

    def __init__(self, home: StreamId, head: Head | None = None) -> None:
        self.streams = [home]
        """The run that it is meant for, and each fork that a conflict has led it to since."""
        self.head = head
        """The last event seen where its saves go; None: nothing was seen of that."""
        self.is_forgotten = False
        """Whether something may have been seen, which was forgotten since."""
        self.read_to = head.seq if head else 0
        """Up to here others may have written; what lies between this seq and the head, it wrote itself."""
        self.turn = asyncio.Lock()
        self.outage: CheckpointStoreError | None = None
        """What the last turn was told that found the store out of reach."""
        self.version = 0
        """Counts what it learnt, so that a read which took its time does not undo what a save has found since."""
        self._in_doubt: dict[str, None] = {}

    @property
    def stream(self) -> StreamId:
        """The run that its saves go to."""
        return self.streams[-1]

    @property
    def is_diverted(self) -> bool:
        return len(self.streams) > 1

    def saw(self, head: Head, *, since: int) -> None:
        """Its run was read when `version` was `since`, and ended with `head`. A conflict before that is over."""
        if self.version == since:
            self._learn(head, read_to=head.seq, streams=self.streams[:1])

    def caught_up(self, stream: StreamId, head: Head) -> None:
        """The run was found further on, by nobody's work that its saves would be in conflict with."""
        if stream == self.stream and (self.head is None or head.seq > self.head.seq):
            self._learn(head, read_to=head.seq, streams=self.streams)

    def sends(self, event: CheckpointEvent) -> None:
        """Note an append before it is sent: where no answer comes, it may be there all the same."""
        self._in_doubt[event.digest] = None
        if len(self._in_doubt) > _IN_DOUBT:
            del self._in_doubt[next(iter(self._in_doubt))]

    def was_refused(self, event: CheckpointEvent) -> None:
        self._in_doubt.pop(event.digest, None)

    def may_have_sent(self, event: CheckpointEvent) -> bool:
        """Whether `event` is an append of its own, of which it never heard what became of it."""
        return event.digest in self._in_doubt

    def wrote(self, event: CheckpointEvent) -> None:
        """`event` is in the log, and its own."""
        self._in_doubt.clear()  # whatever else was tried at this seq was not committed, and will not be
        if event.stream == self.stream and (self.head is None or event.seq > self.head.seq):
            self._learn(Head.of(event), read_to=self.read_to, streams=self.streams)

    def deleted(self, tombstone: CheckpointEvent) -> None:
        """Whom it serves has deleted a checkpoint, right behind what it has seen."""
        if tombstone.stream == self.stream and self.head == (tombstone.seq - 1, tombstone.previous_digest):
            self._learn(Head.of(tombstone), read_to=self.read_to, streams=self.streams)

    def diverted_to(self, event: CheckpointEvent) -> None:
        """It goes on in a fork, which begins with `event`."""
        self._in_doubt.clear()
        self._learn(Head.of(event), read_to=0, streams=[*self.streams, event.stream])

    def _learn(self, head: Head, *, read_to: int, streams: list[StreamId]) -> None:
        self.head, self.read_to, self.streams = head, read_to, streams
        self.version += 1


class Bound:
    """What one handle knows of its run: an execution for each workflow whose checkpoints go through it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._executions: Lru[str, Execution] = Lru(_WORKFLOWS)
        self._elsewhere: Lru[tuple[str, str], Tip] = Lru(_WORKFLOWS)
        self._last: Execution | None = None

    @property
    def forked_to(self) -> str | None:
        """The fork that the last save through the handle went to; None: it went to the run itself, or a read has
        ended that since."""
        return self._last.stream.run_id if self._last is not None and self._last.is_diverted else None

    def execution(self, workflow_name: str) -> Execution:
        execution = self._executions.get(workflow_name)
        if execution is None:
            execution = Execution(StreamId(workflow_name, self.run_id))
            execution.is_forgotten = self._executions.has_dropped
            self._executions.put(workflow_name, execution)
        return execution

    def saves_through(self, execution: Execution) -> None:
        self._last = execution

    def found_elsewhere(self, tip: Tip) -> None:
        """A checkpoint of another run was loaded through the handle: a run that begins may be its fork."""
        self._elsewhere.put((tip.stream.workflow_name, tip.checkpoint_id), tip)

    def elsewhere(self, workflow_name: str, checkpoint_id: str) -> Tip | None:
        return self._elsewhere.get((workflow_name, checkpoint_id))


class Lineage(NamedTuple):
    """Who goes on from a checkpoint that was saved or loaded through an unbound storage."""

    current: Execution
    """The one that saved the checkpoint or, once others have loaded it, the last of them to go on from there."""
    waiting: tuple[Execution, ...] = ()
    """Those that have loaded it since, and have not gone on yet."""

    @property
    def newest(self) -> Execution:
        return self.waiting[-1] if self.waiting else self.current


class Memory:
    """What a storage and its handles remember together, and the lineages of the unbound storage."""

    def __init__(self, size: int = 10_000) -> None:
        self._tips: Lru[tuple[StreamId, str], Tip] = Lru(size)
        self._lineages: Lru[tuple[str, str], Lineage] = Lru(size)

    @property
    def has_forgotten(self) -> bool:
        """Whether a checkpoint that is not known may be one that was."""
        return self._tips.has_dropped

    def tip(self, stream: StreamId, checkpoint_id: str) -> Tip | None:
        return self._tips.get((stream, checkpoint_id))

    def note(self, tip: Tip) -> None:
        self._tips.put((tip.stream, tip.checkpoint_id), tip)

    def forget(self, event: CheckpointEvent) -> None:
        """The checkpoint of `event` was deleted there."""
        self._tips.pop((event.stream, event.checkpoint_id))

    # Of an unbound storage

    def lineage(self, workflow_name: str, checkpoint_id: str) -> Lineage | None:
        return self._lineages.get((workflow_name, checkpoint_id))

    def next_after(self, workflow_name: str, checkpoint_id: str) -> Execution | None:
        """The execution that the next checkpoint which follows this one belongs to."""
        lineage = self.lineage(workflow_name, checkpoint_id)
        if lineage is None:
            return None
        if lineage.waiting:
            lineage = Lineage(lineage.waiting[0], lineage.waiting[1:])
            self._lineages.put((workflow_name, checkpoint_id), lineage)
        return lineage.current

    def saved(self, workflow_name: str, checkpoint_id: str, execution: Execution) -> None:
        self._lineages.put((workflow_name, checkpoint_id), Lineage(execution))

    def loaded(self, event: CheckpointEvent, head: Head) -> None:
        """An execution begins: it goes on from the checkpoint in `event`."""
        key = (event.workflow_name, event.checkpoint_id)
        new, lineage = Execution(event.stream, head), self._lineages.get(key)
        self._lineages.put(key, Lineage(lineage.current, (*lineage.waiting, new)) if lineage else Lineage(new, (new,)))

    def looked_at(self, event: CheckpointEvent, head: Head) -> None:
        """The checkpoint in `event` is the latest; its run ended with `head`."""
        key = (event.workflow_name, event.checkpoint_id)
        lineage = self._lineages.get(key)
        if lineage is not None and lineage.newest.stream == event.stream:
            lineage.newest.caught_up(event.stream, head)
        else:
            self._lineages.put(key, Lineage(Execution(event.stream, head)))
