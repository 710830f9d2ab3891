"""What a run's own records say was removed from it: the stretches of seqs that `prune` has recorded.

What is recorded as removed is removed, whether it is gone already or not: a prune appends its record first, and may be
stopped before it is done. Everything that asks what a run amounts to goes by this, so that it makes no difference when
the events themselves go. Only what is as old as the record can be meant: what came later was never in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from .event_keys import EventKey
from .events import CheckpointEvent, Pruned

__all__ = ["NOTHING", "Removals"]


class Removals:
    """The stretches of any number of records of one run.

    What they claim is only a pair of numbers, which may be any: they are joined and counted by their ends, never one
    seq at a time.
    """

    def __init__(self, records: Iterable[CheckpointEvent | EventKey] = ()) -> None:
        self.from_first: dict[int, Pruned] = {}
        """By the seq of its first event, the stretch that was recorded first."""
        self.to_last: dict[int, Pruned] = {}
        self._stretches: set[tuple[int, int]] = set()
        self._joined: tuple[list[int], list[int]] | None = None
        for record in records:
            self.add(record)

    def add(self, record: CheckpointEvent | EventKey) -> None:
        """Take in what an event records, if it records anything."""
        for removed in record.pruned:
            last = min(removed.last, record.seq - 1)
            if removed.first <= last:
                self.from_first.setdefault(removed.first, removed)
                self.to_last.setdefault(removed.last, removed)
                self._stretches.add((removed.first, last))
                self._joined = None

    def __bool__(self) -> bool:
        return bool(self._stretches)

    def covers(self, first: int, last: int | None = None) -> bool:
        """Whether all of these seqs are in one stretch, or in several without a gap between them."""
        firsts, lasts = self._ends()
        at = bisect_right(firsts, first) - 1
        return at >= 0 and lasts[at] >= (first if last is None else last)

    def before(self, seq: int) -> int:
        """The last seq before this one that is in no stretch; 0 where all are."""
        firsts, lasts = self._ends()
        at = bisect_right(firsts, seq - 1) - 1
        return max(0, firsts[at] - 1) if at >= 0 and lasts[at] >= seq - 1 else seq - 1

    def count(self, head_seq: int) -> int:
        """How many seqs up to the head are recorded."""
        return sum(last - first + 1 for first, last in self.stretches(head_seq))

    def stretches(self, head_seq: int) -> list[tuple[int, int]]:
        """First and last seq of what is recorded up to the head, in order and without neighbours."""
        firsts, lasts = self._ends()
        cut = ((max(first, 1), min(last, head_seq)) for first, last in zip(firsts, lasts, strict=True))
        return [(first, last) for first, last in cut if first <= last]

    def tells(self, event: CheckpointEvent) -> bool | None:
        """Whether an event at a recorded seq is the one that was removed from there, as far as the digests on both
        sides of a stretch tell; None where they do not."""
        ends, begins = self.to_last.get(event.seq), self.from_first.get(event.seq)
        if ends is not None:
            return ends.digest == event.digest
        return False if begins is not None and begins.previous_digest != event.previous_digest else None

    def _ends(self) -> tuple[list[int], list[int]]:
        if self._joined is None:
            firsts: list[int] = []
            lasts: list[int] = []
            for first, last in sorted(self._stretches):
                if not lasts or first > lasts[-1] + 1:
                    firsts.append(first)
                    lasts.append(last)
                else:
                    lasts[-1] = max(lasts[-1], last)
            self._joined = firsts, lasts
        return self._joined


NOTHING: Final = Removals()
"""Of a run without records."""
