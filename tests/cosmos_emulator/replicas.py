"""Replicas that lag: a share of reads sees a partition as it was a moment ago, as eventual reads of the service may.

The page "Troubleshoot not found exceptions" (Microsoft's documentation of Azure Cosmos DB, read in November 2026) says
that a session token guarantees a read from a replica which has the change, and that a client without it may read before
the write of another. So a token forbids a replica that has not reached its LSN; without a token anything goes. A
lagging replica answers whole and honest: what it does not have is 404 with substatus 0, its feed ends where it ends,
and its session token is its own LSN. Reads that are served with strong or bounded staleness ask two replicas, and see
what was written in the region that is written ("Consistency levels", Azure Cosmos DB's documentation, 2025): none of
them meets a replica that is behind.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import takewhile
from random import Random
from typing import Final

from .history import Undo
from .storage import Item, Partition
from .switches import Switches

READS: Final = frozenset({"read_item", "query", "list_items", "change_feed"})
"""Kinds of requests that a replica may answer. A batch goes to the primary, even where it only reads."""


class Replica(Partition):
    """A partition as it was before some transactions: to be read only, and within one request."""

    def __init__(self, present: Partition, undone: list[Undo], now: float) -> None:
        super().__init__(
            present.id,
            present.low,
            present.high,
            present.parents,
            lsn=undone[0].lsn - 1,
            born=present.born,
            first_lsn=present.first_lsn,
        )
        self._present = present
        self._earlier: dict[str, dict[str, Item | None]] = {}
        for entry in reversed(undone):
            self._earlier.setdefault(entry.key, {}).update(
                (identifier, _alive(item, now)) for identifier, item in entry.before.items()
            )

    def reached(self, place: int) -> int:
        return place if self.lsn < place <= self._present.lsn else self.lsn

    def logical(self, key: str) -> dict[str, Item]:
        present = self._present.logical(key)
        if key not in self._earlier:
            return present
        merged = {**present, **self._earlier[key]}
        return {identifier: item for identifier, item in merged.items() if item is not None}

    def items(self) -> Iterator[Item]:
        for key in {**self._present.logical_keys(), **dict.fromkeys(self._earlier)}:
            yield from self.logical(key).values()

    def after(self, lsn: int) -> Iterator[Item]:
        unchanged = takewhile(lambda item: item.lsn <= self.lsn, self._present.after(lsn))
        earlier = [item for logical in self._earlier.values() for item in logical.values() if item and item.lsn > lsn]
        return heapq.merge(unchanged, sorted(earlier, key=_place), key=_place)

    def commit(self, key: str, changes: dict[str, Item | None]) -> int:
        raise AssertionError("A replica is written by its primary only.")


class Replicas:
    """Draws which reads a lagging replica answers."""

    def __init__(self, switches: Switches) -> None:
        self._share = switches.lag
        self._random = Random(switches.seed)

    def lags(self, kind: str, *, strong: bool) -> bool:
        """Whether this request meets a replica that is behind; `strong` is more than session consistency."""
        return self._share > 0 and kind in READS and not strong and self._random.random() < self._share

    @staticmethod
    def view(partition: Partition, seen: int, now: float) -> Partition:
        """The partition as a lagging replica has it, which is never behind the LSN that the client has seen."""
        undone = partition.history.recent(seen) if partition.history else []
        return Replica(partition, undone, now) if undone else partition


def _alive(item: Item | None, now: float) -> Item | None:
    return None if item is None or (item.expires_at is not None and item.expires_at <= now) else item


def _place(item: Item) -> tuple[int, int]:
    return item.lsn, item.position
