"""What a request costs, from the service's published figures, so that costs can be compared within one run.

Source: Azure Cosmos DB documentation, "Request Units in Azure Cosmos DB" and the capacity planner's table of point
reads and inserts by item size (one region, session consistency). Sizes between two rows are interpolated.

What is ours: a replace is two inserts (the old terms go, the new ones come); a query pays for what it *reads* to
make its page, not only for what it returns, because a projection still loads its documents.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

KIB = 1024
TABLE: tuple[tuple[int, float, float], ...] = (
    # item size in bytes, point read, insert without indexing
    (1 * KIB, 1.00, 4.95),
    (2 * KIB, 1.04, 6.29),
    (4 * KIB, 1.14, 6.67),
    (8 * KIB, 1.33, 7.04),
    (16 * KIB, 1.67, 9.52),
    (32 * KIB, 2.19, 11.23),
    (64 * KIB, 4.76, 22.67),
    (128 * KIB, 9.95, 48.19),
    (256 * KIB, 20.28, 98.29),
    (512 * KIB, 40.95, 184.57),
    (1024 * KIB, 145.90, 625.00),
    (2048 * KIB, 291.80, 1250.00),
)
"""Below 1 KB an item costs what 1 KB costs."""

INDEXED_TERM = 0.2
PATCHED_PROPERTY = 0.4
DELETE = 7.0
NOT_MODIFIED = 1.0
REFUSED = 1.0
"""A point operation that ends in 404, 409 or 412: the service still looked."""
METADATA = 1.0
"""A database, container or offer. What gateways keep in memory (account, ranges, query plans) costs nothing."""
QUERY_PARTITION = 2.8
QUERY_KIB = 0.08
"""The table's own rate for large reads: 40.95 RU for 512 KB."""
FEED_CALL = 2.0

_SIZES = [size for size, _, _ in TABLE]


def _interpolated(size: int, column: int) -> float:
    index = bisect_left(_SIZES, size)
    if index == 0:
        return TABLE[0][column]
    if index == len(TABLE):
        return TABLE[-1][column]
    (low, *_), (high, *_) = TABLE[index - 1], TABLE[index]
    share = (size - low) / (high - low)
    return TABLE[index - 1][column] + share * (TABLE[index][column] - TABLE[index - 1][column])


def point_read(size: int) -> float:
    return _interpolated(size, 1)


def insert(size: int, terms: int) -> float:
    return _interpolated(size, 2) + INDEXED_TERM * terms


def replace(size: int, terms: int) -> float:
    return 2 * insert(size, terms)


def patch(size: int, terms: int, properties: int) -> float:
    return replace(size, terms) + PATCHED_PROPERTY * properties


def query(bytes_read: int) -> float:
    """One page of a query, which looks at one physical partition."""
    return QUERY_PARTITION + QUERY_KIB * bytes_read / KIB


def change_feed(sizes: list[int]) -> float:
    return FEED_CALL + sum(map(point_read, sizes))


@dataclass
class Charges:
    """Everything charged since the start or the last reset."""

    total: float = 0.0
    by_kind: Counter[str] = field(default_factory=Counter)
    requests_by_kind: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, charge: float) -> None:
        self.total += charge
        self.by_kind[kind] += charge  # a Counter adds floats as well
        self.requests_by_kind[kind] += 1

    def reset(self) -> None:
        self.total = 0.0
        self.by_kind.clear()
        self.requests_by_kind.clear()
