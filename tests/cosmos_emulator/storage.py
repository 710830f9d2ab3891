"""Items in physical partitions: each with its range of the hash space, its own LSN, and the log its feed is read from.

One commit is one transaction of one physical partition and takes one LSN. A split gives its items to two children that
go on counting from the parent's LSN, so a reader's place in the parent is a place in both children.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import partition_keys
from .charges import Prices
from .errors import bad_request, not_found, range_gone
from .history import History
from .indexing import IndexingPolicy
from .partition_keys import Components, PartitionKeyDefinition
from .sessions import STRETCH, first_lsn
from .switches import Switches
from .versions import VersionLog, retention_of

_EFFECTIVE_KEY = re.compile(r"[0-9A-F]+")
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
    position: int = 0
    """Its place in the transaction that wrote it."""

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
    first_lsn: int = 0
    """Where its LSNs began, or those of the partitions it came from."""
    history: History | None = None
    """Its last transactions, where replicas lag."""
    log: list[tuple[int, str, str]] = field(default_factory=list)
    """(LSN, logical partition, id) of every write, in order; entries of items that changed since are skipped."""
    versions: VersionLog | None = None
    """Every write and removal, where the container keeps them."""
    _logical: dict[str, dict[str, Item]] = field(default_factory=dict)
    _expiries: list[tuple[float, str, str]] = field(default_factory=list)
    _count: int = 0
    _bytes: dict[str, int] = field(default_factory=dict)

    def reached(self, place: int) -> int:
        """Where a reader of the feed is who began at a place and got everything."""
        return self.lsn

    def holds(self, effective_key: str) -> bool:
        return self.low <= effective_key < self.high

    def logical(self, key: str) -> dict[str, Item]:
        return self._logical.get(key, {})

    def bytes_of(self, key: str) -> int:
        """What the items of a logical partition take."""
        return self._bytes.get(key, 0)

    def logical_keys(self) -> dict[str, None]:
        """The logical partitions that hold anything, in the order in which they came to be."""
        return dict.fromkeys(self._logical)

    def items(self) -> Iterator[Item]:
        for logical in self._logical.values():
            yield from logical.values()

    def commit(self, key: str, changes: dict[str, Item | None]) -> int:
        """Applies one transaction under the next LSN; None removes an item."""
        return self.commit_all({key: changes})

    def commit_all(self, transactions: Mapping[str, dict[str, Item | None]]) -> int:
        """Applies the transactions of several logical partitions under one LSN."""
        self.lsn += 1
        position = 0
        for key, changes in transactions.items():
            if self.history is not None:
                self._remember(self.history, key, changes)
            for identifier, item in changes.items():
                self._change(key, identifier, item, position)
                position += 1
        if len(self.log) > 2 * self._count + _COMPACT_AFTER:
            self.log = [entry for entry in self.log if self.current(entry) is not None]
        return self.lsn

    def _change(self, key: str, identifier: str, item: Item | None, position: int) -> None:
        if self.versions is not None:
            self.versions.record(self.lsn, item, self.logical(key).get(identifier))
        if item is None:
            self._remove(key, identifier)
            return
        item.lsn, item.position = self.lsn, position
        self._put(item)
        self.log.append((item.lsn, key, identifier))

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
                if self.versions is not None:
                    self.lsn += 1
                    self.versions.record(self.lsn, None, item, expired=True)

    def adopt(self, items: Iterable[Item]) -> None:
        """Takes over another partition's items, with the LSNs they have."""
        for item in items:
            self._put(item)
        self.log = [(item.lsn, item.key, item.id) for item in sorted(self.items(), key=_place)]

    def reschedule(self, expiry_of: Callable[[Item], float | None]) -> None:
        """Computes every expiry anew, after the container's default has changed."""
        self._expiries = []
        for item in self.items():
            item.expires_at = expiry_of(item)
            self._schedule(item)
        for item in self.history.items() if self.history else ():
            item.expires_at = expiry_of(item)

    def _remember(self, history: History, key: str, changes: dict[str, Item | None]) -> None:
        logical = self._logical.get(key, {})
        before = {identifier: logical.get(identifier) for identifier in changes}
        touched = next((item for item in (*changes.values(), *before.values()) if item is not None), None)
        if touched is not None:  # else what came and went within the transaction leaves nothing to think away
            history.record(self.lsn, key, touched.effective_key, before)

    def _put(self, item: Item) -> None:
        logical = self._logical.setdefault(item.key, {})
        replaced = logical.get(item.id)
        self._count += replaced is None
        self._bytes[item.key] = self.bytes_of(item.key) + item.size - (replaced.size if replaced else 0)
        logical[item.id] = item
        self._schedule(item)

    def _schedule(self, item: Item) -> None:
        if item.expires_at is not None:
            heapq.heappush(self._expiries, (item.expires_at, item.key, item.id))

    def _remove(self, key: str, identifier: str) -> None:
        logical = self._logical.get(key, {})
        if (removed := logical.pop(identifier, None)) is not None:
            self._count -= 1
            self._bytes[key] -= removed.size
            if not logical:
                del self._logical[key], self._bytes[key]


def _place(item: Item) -> tuple[int, int]:
    return item.lsn, item.position


class Container:
    """A container's partitions and the settings that decide how items are kept."""

    def __init__(
        self,
        document: dict[str, Any],
        partitions: int,
        clock: Callable[[], float],
        *,
        number: int,
        switches: Switches,
        monotonic: Callable[[], float],
    ) -> None:
        self.document = document
        self.rid: str = document["_rid"]
        self.definition = PartitionKeyDefinition.parse(document.get("partitionKey"), key_versions=switches.key_versions)
        self.logical_partition_bytes = switches.logical_partition_bytes if switches.sizes else None
        self.clock = clock
        self.policy = IndexingPolicy(document.get("indexingPolicy"))
        self.unique_paths = _unique_paths(document)
        self.prices = Prices()
        boundaries = self.definition.boundaries(partitions)
        first = first_lsn(number) if switches.sessions else 0
        self.partitions = [
            _new_partition(index, bounds, first + index * STRETCH if first else 0)
            for index, bounds in enumerate(boundaries)
        ]
        if switches.lag:
            for partition in self.partitions:
                partition.history = History(switches.lag_seconds, monotonic)
        self.generation = 1
        self._next_range = partitions
        self._range_ids = {partition.id for partition in self.partitions}
        self._next_number = 0
        self._keep_versions()

    def next_number(self) -> int:
        self._next_number += 1
        return self._next_number

    def settings_changed(self) -> None:
        """Reads the container's document again after it was replaced."""
        self.policy = IndexingPolicy(self.document.get("indexingPolicy"))
        self._keep_versions()
        for partition in self.partitions:
            partition.reschedule(lambda item: self.expiry(item.body, item.timestamp))

    def _keep_versions(self) -> None:
        retention = retention_of(self.document)
        for partition in self.partitions:
            if retention is None:
                partition.versions = None
            elif partition.versions is None:
                partition.versions = VersionLog(self.clock, retention, partition.lsn)
            else:
                partition.versions.retention = retention

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

    def had_range(self, range_id: str) -> bool:
        """Whether a partition of this id is there or was there before it split or merged."""
        return range_id in self._range_ids

    def overlapping(self, low: str, high: str) -> list[Partition]:
        return [partition for partition in self.live() if partition.low < high and low < partition.high]

    def locate(self, components: Components) -> tuple[Partition, str]:
        """The partition and the logical key of a full partition key."""
        if self.definition.is_prefix(components):
            raise partition_keys.mismatch()
        return self.owner(self.definition.effective_key(components)), self.definition.logical_key(components)

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
        cut = self.definition.middle(parent.low, parent.high) if at is None else at.upper()
        if not _EFFECTIVE_KEY.fullmatch(cut):
            raise bad_request(f"{at!r} is not an effective key.")
        if not parent.low < cut < parent.high:
            raise bad_request(f"{cut!r} does not lie inside the range {range_id}.")
        lower, upper = self._child((parent,), parent.low, cut), self._child((parent,), cut, parent.high)
        self._replace([parent], [lower, upper])
        return lower, upper

    def merge(self, first: str, second: str) -> Partition:
        """Replaces two neighbours with one."""
        if retention_of(self.document) is not None:
            raise bad_request("Partitions of a container that keeps all versions and deletes are not merged.")
        parents = sorted((self.partition(first), self.partition(second)), key=lambda partition: partition.low)
        if parents[0].high != parents[1].low:
            raise bad_request(f"The ranges {first} and {second} are not neighbours.")
        merged = self._child(tuple(parents), parents[0].low, parents[1].high)
        self._replace(parents, [merged])
        return merged

    def _child(self, parents: tuple[Partition, ...], low: str, high: str) -> Partition:
        ancestors = [name for parent in parents for name in (*parent.parents, parent.id)]
        lsn = max(parent.lsn for parent in parents)
        first = min(parent.first_lsn for parent in parents)
        child = Partition(str(self._next_range), low, high, tuple(ancestors), lsn, self.generation + 1, first)
        if parents[0].history is not None:  # after a merge none: two orders of LSNs cannot be undone as one
            child.history = parents[0].history.within(low, high if len(parents) == 1 else low)
        self._next_range += 1
        if parents[0].versions is not None:
            child.versions = parents[0].versions.part(child.holds)
        self._range_ids.add(child.id)
        child.adopt(item for parent in parents for item in parent.items() if child.holds(item.effective_key))
        return child

    def _replace(self, parents: list[Partition], children: list[Partition]) -> None:
        kept = [partition for partition in self.partitions if partition not in parents]
        self.partitions = sorted([*kept, *children], key=lambda partition: partition.low)
        self.generation += 1


def _new_partition(index: int, bounds: tuple[str, str], lsn: int) -> Partition:
    return Partition(str(index), *bounds, lsn=lsn, first_lsn=lsn)


def _unique_paths(document: dict[str, Any]) -> list[list[tuple[str, ...]]]:
    keys = (document.get("uniqueKeyPolicy") or {}).get("uniqueKeys", [])
    return [[partition_keys.split_path(path) for path in key["paths"]] for key in keys]
