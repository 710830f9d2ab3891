"""What a process remembers of the runs it writes, so that a save needs no read.

The memory is a cache with bounds: forgetting costs a look-up, never correctness.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from ..events import CheckpointEvent, ForkPoint, Payload, StreamId
from ..lru import Lru

__all__ = ["Head", "Memory", "Tip"]


class Head(NamedTuple):
    """The last event of a stream, as someone saw it. Seq 0: the stream was empty."""

    seq: int
    digest: str

    @classmethod
    def of(cls, event: CheckpointEvent) -> Head:
        return cls(event.seq, event.digest)


class Tip(NamedTuple):
    """One checkpoint as the end of a lineage: where it lies, and the head its lineage last saw there."""

    stream: StreamId
    point: ForkPoint
    """The checkpoint's own event: where a fork would begin."""
    digest: str
    """The digest of that event."""
    payload: Payload | None
    """That event's payload, without data."""
    head: Head
    strands: tuple[int, ...] = ()
    """The executions that go on from here, as far as is known: the one that saved the checkpoint, or, once it was
    loaded to go on from, those that loaded it. See `Memory`."""
    loaded: bool = False
    diverted_from: StreamId | None = None
    """The run that the lineage was meant for, if a conflict made it fork."""

    @classmethod
    def of(cls, event: CheckpointEvent, head: Head) -> Tip:
        return cls(
            stream=event.stream,
            point=ForkPoint(
                workflow_name=event.workflow_name,
                run_id=event.run_id,
                seq=event.seq,
                checkpoint_id=event.checkpoint_id,
            ),
            digest=event.digest,
            payload=event.header().payload,
            head=head,
        )

    def belongs_to(self, stream: StreamId) -> bool:
        """Whether a storage bound to `stream` goes on here."""
        return stream in (self.stream, self.diverted_from)


class Memory:
    """The lineages and streams that one storage knows, shared by every handle that `for_run` makes.

    It also tells executions of a workflow apart. A strand is what began with one first checkpoint, or with one load
    of a checkpoint to go on from. Steps that run side by side in one execution save checkpoints that follow the same
    one: those belong together. Two executions that resumed the same checkpoint do not. First checkpoints that follow
    nothing belong together if they were saved through the same bound storage.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._tips: Lru[str, Tip] = Lru(size)
        self._heads: Lru[StreamId, Head] = Lru(size)
        self._forks: Lru[StreamId, StreamId] = Lru(size)
        self._written: Lru[str, int] = Lru(size)
        """Digests of the events that this storage wrote → the strand that each belongs to."""
        self._strands = count(1)

    def tip(self, checkpoint_id: str) -> Tip | None:
        return self._tips.get(checkpoint_id)

    def head(self, stream: StreamId) -> Head | None:
        return self._heads.get(stream)

    def fork_of(self, stream: StreamId) -> StreamId | None:
        """The run that saves meant for `stream` went on in, after the last conflict."""
        return self._forks.get(stream)

    def new_strand(self) -> int:
        return next(self._strands)

    def strand_after(self, checkpoint_id: str | None, default: int | None) -> int:
        """The strand of a checkpoint that follows this one, or, where nothing is known of that, `default` or a new
        one. Of several executions that loaded it, each gets its own; the last one keeps it."""
        tip = self._tips.get(checkpoint_id) if checkpoint_id else None
        strands = (tip.strands if tip else ()) or (default or self.new_strand(),)
        if checkpoint_id and tip:
            self._tips.put(checkpoint_id, tip._replace(strands=strands[1:] or strands))
        return strands[0]

    def writing(self, event: CheckpointEvent, strand: int) -> None:
        """Note an append before it is sent: others can see the event in the store before its own task hears of it."""
        self._written.put(event.digest, strand)

    def wrote(self, event: CheckpointEvent, strand: int) -> bool:
        """Whether this storage wrote `event`, for that strand."""
        return self._written.get(event.digest) == strand

    def read(self, event: CheckpointEvent, head: Head, *, before: Head | None, to_go_on: bool) -> None:
        """Note where a checkpoint was found, the head of its stream then, and whether an execution goes on from it.

        `before` is what `head` gave when the checkpoint was looked for: decoding takes its time, and a save that this
        storage has committed since is not to be forgotten.
        """
        tip = self._tips.get(event.checkpoint_id)
        if tip is None or (tip.stream, tip.head) != (event.stream, head):
            tip = Tip.of(event, head)
        if to_go_on:
            others = tip.strands if tip.loaded else ()
            tip = tip._replace(strands=(*others, self.new_strand()), loaded=True)
        self._tips.put(event.checkpoint_id, tip)
        if self._heads.get(event.stream) == before:
            self._heads.put(event.stream, head)

    def saved(self, event: CheckpointEvent, strand: int, *, diverted_from: StreamId | None = None) -> None:
        """Note that `event` is the head of its stream, and that this storage wrote it or found it written."""
        head = Head.of(event)
        tip = Tip.of(event, head)._replace(strands=(strand,), diverted_from=diverted_from)
        self._tips.put(event.checkpoint_id, tip)
        self._heads.put(event.stream, head)
        self.writing(event, strand)
        if diverted_from is not None:
            self._forks.put(diverted_from, event.stream)
