"""What a provider remembers of the streams that it reads and writes, so that a save needs no look: the events that
lineages stand at, and the ids of their messages. Forgetting costs the look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..events import StreamId
from ..lru import Lru
from .past import Head

__all__ = ["Known", "Memory"]

_BYTES: Final = 32 * 1024 * 1024
"""About what all of it takes."""
_AROUND: Final = 150  # bytes that an id takes beside its characters
_HEADS: Final = 16
"""Events of one stream that lineages stand at."""


class Known:
    """What is known of one stream, and of what it was forked from.

    Args:
        whole_to: up to which seq all its messages are known; -1: of none.
    """

    def __init__(self, whole_to: int = -1) -> None:
        self.whole_to: int = whole_to
        self.heads: Lru[int, Head] = Lru(_HEADS)
        self._seqs: dict[str, int] = {}
        self._size = 1_000

    def __len__(self) -> int:
        return self._size

    def add(self, seq: int, ids: Iterable[str]) -> None:
        """The messages of an event; of what the stream was forked from, with the seq 0."""
        for each in ids:
            if each not in self._seqs:
                self._seqs[each] = seq
                self._size += _AROUND + len(each)

    def has(self, message_id: str, upto: int) -> bool:
        """Whether a lineage that stands at this seq has the message."""
        return self._seqs.get(message_id, upto + 1) <= upto

    def upto(self, seq: int) -> list[str]:
        """The messages that a lineage has which stands at this seq."""
        return [each for each, at in self._seqs.items() if at <= seq]


class Memory:
    """What is known of the streams in use."""

    def __init__(self) -> None:
        self._streams: Lru[StreamId, Known] = Lru(_BYTES, len)

    def of(self, stream: StreamId) -> Known | None:
        """What is known of a stream."""
        return self._streams.get(stream)

    def put(self, stream: StreamId, known: Known) -> None:
        """A stream was read."""
        self._streams.put(stream, known)

    def went_on(self, head: Head, ids: Iterable[str], *, before: Head) -> None:
        """A lineage that stood at `before` was saved to; where that is another stream, it begins one."""
        parent = self._streams.peek(before.stream)
        known = self._streams.pop(head.stream) or Known()
        if before.stream == head.stream:
            known.whole_to = head.seq if known.whole_to >= before.seq else known.whole_to
        elif parent is not None:
            known.add(0, parent.upto(before.seq))
            known.whole_to = head.seq if parent.whole_to >= before.seq else -1
        known.heads.put(head.seq, head)
        known.add(head.seq, ids)
        self._streams.put(head.stream, known)

    def forget(self, stream: StreamId) -> None:
        """It is to be read anew."""
        self._streams.pop(stream)
