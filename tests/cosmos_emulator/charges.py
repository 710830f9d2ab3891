"""What a request costs, by the service's published rules, so that costs can be compared within one run.

Sources, of Azure Cosmos DB's documentation:

* "Understanding Request Units Consumption" (21 April 2026): the table of point reads and writes by size, which holds
  for session and eventual consistency and is called *illustrative*, as are the examples. A create is "document size"
  and "0.2 × 10 (indexing)"; a replace "5.0 (deletion) + 5.0 (insertion) + 0.2 × 2 (index deletion) + 0.2 × 2 (index
  insertion)", of "modified indexed terms" alone; a patch that, and "0.4 * 2 (base charge for patch)", for it "scales
  with the number of modified properties"; a delete "5.0 (document size) + 0.2 × 10 (index removal)". "Write RU
  consumption increases with the number of regions configured"; reads are paid for where they are served. A feed costs
  "approximately the same RUs as reading those five documents individually".
* "Indexing policies" (8 May 2025): "All explicitly included paths have values added to the index for each item in the
  container, even if the path is undefined for a given item", and a composite index has a value for each item likewise:
  so both are terms of every item. `indexing.py` counts them.
* "Optimize request cost" (26 August 2021): with strong or bounded staleness "the RU cost of any read operation (point
  read or query) is doubled".
* "Request rate too large" (18 July 2025): charges "include requests that don't complete successfully due to application
  errors such as 400, 412, and 449".

What is our reading: sizes between two rows are interpolated, and a size is that of the item as JSON; the terms of `id`
and `_ts`, which no policy names, are in the table's price; the deletion of a replace is priced by the old item's size
and the insertion by the new one's; a write in N regions costs N times as much; what is refused costs 1 RU, and a
throttled request what traces in the SDKs' issues show (`THROTTLED`); a query pays for what it *reads* to make its page,
not only for what it returns, because a projection still loads its documents; a delete by partition key, which the
service runs in the background, is charged to its request; metadata cost 1 RU.
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
NOT_MODIFIED = 1.0
REFUSED = 1.0
"""An operation on items that ends in one of `REFUSALS`: the service still looked."""
REFUSALS = frozenset({400, 404, 409, 412, 449})
THROTTLED = 0.38
"""What a 429 says that it cost: Azure/azure-sdk-for-java issue 20288 (March 2021); no page has the figure."""
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


def delete(size: int, terms: int) -> float:
    """As much as the insert: the document goes, and its terms."""
    return insert(size, terms)


def replace(old_size: int, size: int, terms_out: int, terms_in: int) -> float:
    """The old document and the new one, and the terms that the one has and the other has not."""
    return delete(old_size, terms_out) + insert(size, terms_in)


def patch(old_size: int, size: int, terms_out: int, terms_in: int, properties: int) -> float:
    return replace(old_size, size, terms_out, terms_in) + PATCHED_PROPERTY * properties


def query(bytes_read: int) -> float:
    """One page of a query, which looks at one physical partition."""
    return QUERY_PARTITION + QUERY_KIB * bytes_read / KIB


def change_feed(sizes: list[int]) -> float:
    return FEED_CALL + sum(map(point_read, sizes))


@dataclass(frozen=True)
class Prices:
    """What an account makes of the list: its regions multiply writes, and reads that are more than session double."""

    on: bool = True
    regions: int = 1

    def write(self, charge: float) -> float:
        return charge * self.regions if self.on else 0.0

    def read(self, charge: float, *, strong: bool) -> float:
        return (2 * charge if strong else charge) if self.on else 0.0

    def other(self, charge: float) -> float:
        """Metadata, refusals."""
        return charge if self.on else 0.0


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
