"""Items in physical partitions: each with its range of the hash space, its own LSN, and the log its feed is read from.

One commit is one transaction of one physical partition and takes one LSN. A split gives its items to two children that
go on counting from the parent's LSN, so a reader's place in the parent is a place in both children.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import partition_keys
from .charges import Prices
from .errors import bad_request, not_found, range_gone
from .indexing import IndexingPolicy
from .partition_keys import Components, PartitionKeyDefinition

_COMPACT_AFTER = 1000


@dataclass(eq=False)
class Item:
    """One stored item. It is never changed: a write puts a new one in its place."""

    id: str
    key: str
    """The logical partition, as `partition_keys.key_of` writes it."""
    effective_key: str
    number: int
    """Order of creation within the container; survives replaces."""
    body: dict[str, Any]
    raw: bytes
    """The body as JSON, system properties included."""
    etag: str
    timestamp: int
    expires_at: float | None = None
    lsn: int = 0

    @property
    def size(self) -> int:
        return len(self.raw)


@dataclass(eq=False)
class Partition:
    """A physical partition: the items whose effective key is in [low, high)."""

    id: str
    low: str
    high: str
    parents: tuple[str, ...] = ()
    lsn: int = 0
    born: int = 0
    """The container's generation in which it came to be."""
    log: list[tuple[int, str, str]] = field(default_factory=list)
    """(LSN, logical partition, id) of every write, in order; entries of items that changed since are skipped."""
    _logical: dict[str, dict[str, Item]] = field(default_factory=dict)
    _expiries: list[tuple[float, str, str]] = field(default_factory=list)
    _count: int = 0

    def holds(self, effective_key: str) -> bool:
        return self.low <= effective_key < self.high

    def logical(self, key: str) -> dict[str, Item]:
        return self._logical.get(key, {})

    def items(self) -> Iterator[Item]:
        for logical in self._logical.values():
            yield from logical.values()

    def commit(self, key: str, changes: dict[str, Item | None]) -> int:
        """Applies one transaction under the next LSN; None removes an item."""
        self.lsn += 1
        for identifier, item in changes.items():
            if item is None:
                self._remove(key, identifier)
                continue
            item.lsn = self.lsn
            self._put(item)
            self.log.append((item.lsn, key, identifier))
        if len(self.log) > 2 * self._count + _COMPACT_AFTER:
            self.log = [entry for entry in self.log if self.current(entry) is not None]
        return self.lsn

    def current(self, entry: tuple[int, str, str]) -> Item | None:
        """The item a log entry tells of, unless it has changed or gone since."""
        lsn, key, identifier = entry
        item = self._logical.get(key, {}).get(identifier)
        return item if item is not None and item.lsn == lsn else None

    def after(self, lsn: int) -> Iterator[Item]:
        """Items whose last write came after this LSN, in order."""
        for index in range(bisect_right(self.log, (lsn, "\U0010ffff", "")), len(self.log)):
            if (item := self.current(self.log[index])) is not None:
                yield item

    def expire(self, now: float) -> None:
        """Removes what has outlived its time to live."""
        while self._expiries and self._expiries[0][0] <= now:
            moment, key, identifier = heapq.heappop(self._expiries)
            item = self._logical.get(key, {}).get(identifier)
            if item is not None and item.expires_at == moment:
                self._remove(key, identifier)

    def adopt(self, items: Iterable[Item]) -> None:
        """Takes over another partition's items, with the LSNs they have."""
        for item in items:
            self._put(item)
            self.log.append((item.lsn, item.key, item.id))
        self.log.sort()

    def reschedule(self, expiry_of: Callable[[Item], float | None]) -> None:
        """Computes every expiry anew, after the container's default has changed."""
        self._expiries = []
        for item in self.items():
            item.expires_at = expiry_of(item)
            self._schedule(item)

    def _put(self, item: Item) -> None:
        logical = self._logical.setdefault(item.key, {})
        self._count += item.id not in logical
        logical[item.id] = item
        self._schedule(item)

    def _schedule(self, item: Item) -> None:
        if item.expires_at is not None:
            heapq.heappush(self._expiries, (item.expires_at, item.key, item.id))

    def _remove(self, key: str, identifier: str) -> None:
        logical = self._logical.get(key, {})
        if logical.pop(identifier, None) is not None:
            self._count -= 1
            if not logical:
                del self._logical[key]


class Container:
    """A container's partitions and the settings that decide how items are kept."""

    def __init__(self, document: dict[str, Any], partitions: int, clock: Callable[[], float]) -> None:
        self.document = document
        self.rid: str = document["_rid"]
        self.definition = PartitionKeyDefinition.parse(document.get("partitionKey"))
        self.clock = clock
        self.policy = IndexingPolicy(document.get("indexingPolicy"))
        self.unique_paths = _unique_paths(document)
        self.prices = Prices()
        boundaries = partition_keys.initial_boundaries(partitions)
        self.partitions = [Partition(str(index), low, high) for index, (low, high) in enumerate(boundaries)]
        self.generation = 1
        self._next_range = partitions
        self._next_number = 0

    def next_number(self) -> int:
        self._next_number += 1
        return self._next_number

    def settings_changed(self) -> None:
        """Reads the container's document again after it was replaced."""
        self.policy = IndexingPolicy(self.document.get("indexingPolicy"))
        for partition in self.partitions:
            partition.reschedule(lambda item: self.expiry(item.body, item.timestamp))

    def expiry(self, body: dict[str, Any], timestamp: int) -> float | None:
        """When an item ends: its own `ttl` before the container's default; never where the container has none."""
        default = self.document.get("defaultTtl")
        if default is None:
            return None
        own = body.get("ttl", default)
        return None if own == -1 else timestamp + own

    # ---- finding partitions

    def live(self) -> list[Partition]:
        """The partitions in key order, without what has expired."""
        now = self.clock()
        for partition in self.partitions:
            partition.expire(now)
        return self.partitions

    def owner(self, effective_key: str) -> Partition:
        return next(partition for partition in self.live() if partition.holds(effective_key))

    def partition(self, range_id: str) -> Partition:
        """The partition with this id; 410 where it never was or has split."""
        for partition in self.live():
            if partition.id == range_id:
                return partition
        raise range_gone(range_id)

    def overlapping(self, low: str, high: str) -> list[Partition]:
        return [partition for partition in self.live() if partition.low < high and low < partition.high]

    def locate(self, components: Components) -> tuple[Partition, str]:
        """The partition and the logical key of a full partition key."""
        if self.definition.is_prefix(components):
            raise partition_keys.mismatch()
        return self.owner(self.definition.effective_key(components)), partition_keys.key_of(components)

    def find(self, components: Components, identifier: str) -> tuple[Partition, Item]:
        partition, key = self.locate(components)
        item = partition.logical(key).get(identifier)
        if item is None:
            raise not_found(identifier)
        return partition, item

    # ---- splits and merges

    def split(self, range_id: str, at: str | None = None) -> tuple[Partition, Partition]:
        """Replaces a partition with two, cut in the middle of its range or at a given effective key."""
        parent = self.partition(range_id)
        cut = at or partition_keys.middle(parent.low, parent.high)
        if not parent.low < cut < parent.high:
            raise bad_request(f"{cut!r} does not lie inside the range {range_id}.")
        lower, upper = self._child((parent,), parent.low, cut), self._child((parent,), cut, parent.high)
        self._replace([parent], [lower, upper])
        return lower, upper

    def merge(self, first: str, second: str) -> Partition:
        """Replaces two neighbours with one."""
        parents = sorted((self.partition(first), self.partition(second)), key=lambda partition: partition.low)
        if parents[0].high != parents[1].low:
            raise bad_request(f"The ranges {first} and {second} are not neighbours.")
        merged = self._child(tuple(parents), parents[0].low, parents[1].high)
        self._replace(parents, [merged])
        return merged

    def _child(self, parents: tuple[Partition, ...], low: str, high: str) -> Partition:
        ancestors = [name for parent in parents for name in (*parent.parents, parent.id)]
        lsn = max(parent.lsn for parent in parents)
        child = Partition(str(self._next_range), low, high, tuple(ancestors), lsn, self.generation + 1)
        self._next_range += 1
        child.adopt(item for parent in parents for item in parent.items() if child.holds(item.effective_key))
        return child

    def _replace(self, parents: list[Partition], children: list[Partition]) -> None:
        kept = [partition for partition in self.partitions if partition not in parents]
        self.partitions = sorted([*kept, *children], key=lambda partition: partition.low)
        self.generation += 1


def _unique_paths(document: dict[str, Any]) -> list[list[tuple[str, ...]]]:
    keys = (document.get("uniqueKeyPolicy") or {}).get("uniqueKeys", [])
    return [[partition_keys.split_path(path) for path in key["paths"]] for key in keys]
