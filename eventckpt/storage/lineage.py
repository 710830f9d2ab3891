"""What a process remembers of the runs it writes, so that a save needs no read.

The memory is a cache with bounds: forgetting costs a look-up, never correctness.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from ..events import CheckpointEvent, ForkPoint, Payload, StreamId

__all__ = ["Head", "Lru", "Memory", "Tip"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Lru(Generic[_K, _V]):
    """A mapping that keeps the `size` entries used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: _K, value: _V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


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
    diverted_from: StreamId | None = None
    """The run that the lineage was meant for, if a conflict made it fork."""

    @classmethod
    def of(cls, event: CheckpointEvent, head: Head, *, diverted_from: StreamId | None = None) -> Tip:
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
            diverted_from=diverted_from,
        )

    def belongs_to(self, stream: StreamId) -> bool:
        """Whether a storage bound to `stream` goes on here."""
        return stream in (self.stream, self.diverted_from)


class Memory:
    """The lineages and streams that one storage knows, shared by every handle that `for_run` makes."""

    def __init__(self, size: int = 10_000) -> None:
        self._tips: Lru[str, Tip] = Lru(size)
        self._heads: Lru[StreamId, Head] = Lru(size)
        self._forks: Lru[StreamId, StreamId] = Lru(size)

    def tip(self, checkpoint_id: str) -> Tip | None:
        return self._tips.get(checkpoint_id)

    def head(self, stream: StreamId) -> Head | None:
        return self._heads.get(stream)

    def fork_of(self, stream: StreamId) -> StreamId | None:
        """The run that saves meant for `stream` went on in, after the last conflict."""
        return self._forks.get(stream)

    def saw(self, event: CheckpointEvent, head: Head, *, diverted_from: StreamId | None = None) -> None:
        """Note where `event`'s checkpoint lies and what the head of its stream is now."""
        self._tips.put(event.checkpoint_id, Tip.of(event, head, diverted_from=diverted_from))
        self._heads.put(event.stream, head)
        if diverted_from is not None:
            self._forks.put(diverted_from, event.stream)
