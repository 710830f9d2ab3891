"""The links of one run's chain, in little room: a run may have a million events, and which of them a record asks for is
only known at the end."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ..delta import MAX_BASES
from ..events import MAX_SEQ, CheckpointEvent

__all__ = ["Bases", "Chain", "Head"]

_SIZE = 32  # bytes of a digest


class Head(NamedTuple):
    """The last event of a run; seq 0: there is none."""

    seq: int
    digest: str


class Bases:
    """The events of a run that deltas can be against, and what those rest on themselves: 16 bytes an event."""

    def __init__(self) -> None:
        self._seqs = array("q")
        self._below = array("q")
        """The seq of a delta's snapshot; of a snapshot 0."""

    def add(self, seq: int, bases: tuple[int, ...]) -> None:
        """An event that is whole, of a later seq than all before, and the seqs that it needs."""
        below = bases[0] if bases else 0
        last = self._seqs[-1] if self._seqs else 0
        if len(bases) < MAX_BASES and last < seq <= MAX_SEQ and len(bases[:1]) <= below < seq:
            self._seqs.append(seq)
            self._below.append(below)

    def serve(self, seq: int, bases: tuple[int, ...]) -> bool:
        """Whether these are there, before the delta at `seq` that needs them, and rest on each other as it says."""
        return bases[:1] < (seq,) and all(
            self._below_of(base) == (*bases[at:], 0)[0] for at, base in enumerate(bases, 1)
        )

    def _below_of(self, seq: int) -> int | None:
        at = bisect_left(self._seqs, seq)
        return self._below[at] if at < len(self._seqs) and self._seqs[at] == seq else None


class Chain:
    """What each event of a run is called by, and which it follows: 32 bytes an event where it follows the one before.

    Digests are compared as text; one that is no SHA-256, of a damaged event, is kept as it is.
    """

    def __init__(self) -> None:
        self.head: Head = Head(0, "")
        self.count: int = 0
        """Events that were added."""
        self._firsts: list[int] = []
        """The seq at which each stretch without a gap begins, and how many events were added before it."""
        self._before: list[int] = []
        self._digests = bytearray()
        self._odd: dict[int, str] = {}
        """By seq, what is no SHA-256."""
        self._follows: dict[int, str] = {}
        """By seq, what an event follows, where that is not the one before it."""

    def add(self, event: CheckpointEvent) -> None:
        """The next event, of a later seq than all before."""
        if not self._firsts or event.seq != self.head.seq + 1:
            self._firsts.append(event.seq)
            self._before.append(self.count)
            self._follows[event.seq] = event.previous_digest
        elif event.previous_digest != self.head.digest:
            self._follows[event.seq] = event.previous_digest
        if (digest := _bytes_of(event.digest)) is None:
            self._odd[event.seq] = event.digest
            digest = bytes(_SIZE)
        self._digests += digest
        self.head = Head(event.seq, event.digest)
        self.count += 1

    def digest_at(self, seq: int) -> str | None:
        """The digest of the event at a seq, if it is there."""
        index = self._index(seq)
        if index is None:
            return None
        if seq in self._odd:
            return self._odd[seq]
        return self._digests[index * _SIZE : (index + 1) * _SIZE].hex()

    def followed_by(self, seq: int) -> str | None:
        """The digest that the event at a seq follows, if it is there."""
        if self._index(seq) is None:
            return None
        return self._follows[seq] if seq in self._follows else self.digest_at(seq - 1)

    def gaps(self) -> Iterator[tuple[int, int]]:
        """The first and last seq of each stretch that is not there, before the head."""
        end = 0
        for at, first in enumerate(self._firsts):
            if first > end + 1:
                yield end + 1, first - 1
            end = first + self._length(at) - 1

    def gap_around(self, seq: int) -> tuple[int, int]:
        """The stretch that is not there and that a seq lies in."""
        at = bisect_right(self._firsts, seq)
        before = self._firsts[at - 1] + self._length(at - 1) if at else 1
        return before, self._firsts[at] - 1 if at < len(self._firsts) else seq

    def seqs(self) -> Iterator[int]:
        """The seqs of the events that are there."""
        for at, first in enumerate(self._firsts):
            yield from range(first, first + self._length(at))

    def _length(self, at: int) -> int:
        return (self._before[at + 1] if at + 1 < len(self._before) else self.count) - self._before[at]

    def _index(self, seq: int) -> int | None:
        at = bisect_right(self._firsts, seq) - 1
        if at < 0 or seq - self._firsts[at] >= self._length(at):
            return None
        return self._before[at] + seq - self._firsts[at]


def _bytes_of(digest: str) -> bytes | None:
    """The bytes of a digest as it is written; None where that is no SHA-256 in lower-case hexadecimal."""
    try:
        found = bytes.fromhex(digest)
    except ValueError:
        return None
    return found if len(found) == _SIZE and found.hex() == digest else None
