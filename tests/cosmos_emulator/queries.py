"""Pages of a query over one or more partitions, and the continuation that says where the next page begins.

A page is computed anew from the items of the moment; the continuation is the position of the last row returned, so rows
are neither repeated nor skipped however the container changes in between, splits included. It also counts what OFFSET
has skipped and what TOP or LIMIT has given, so that these hold over all pages.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import charges
from .errors import bad_request
from .sql import CompiledQuery, Row
from .sql.evaluator import Document, Position
from .sql.values import UNDEFINED
from .storage import Partition

LARGEST_PAGE = 4 * 1024 * 1024
_TIMES = (
    "queryCompileTimeInMs",
    "queryLogicalPlanBuildTimeInMs",
    "queryPhysicalPlanBuildTimeInMs",
    "queryOptimizationTimeInMs",
    "VMExecutionTimeInMs",
    "indexLookupTimeInMs",
    "documentLoadTimeInMs",
    "systemFunctionExecuteTimeInMs",
    "userFunctionExecuteTimeInMs",
    "writeOutputTimeInMs",
)
LONGEST_QUERY = 512 * 1024
"""Bytes of a query's text ("Service quotas" of Azure Cosmos DB's documentation, 2025)."""


@dataclass(frozen=True)
class Segment:
    """A stretch of the hash space, and the documents in it that the query may see."""

    low: str
    high: str
    documents: Callable[[], Iterable[Document]]
    partition: Partition | None = None
    """The physical partition it belongs to; databases, containers and offers have none."""


@dataclass
class Page:
    rows: list[bytes]
    continuation: str | None
    partition: Partition | None = None
    documents_read: int = 0
    bytes_read: int = 0

    @property
    def charge(self) -> float:
        return charges.query(self.bytes_read)

    def metrics(self, milliseconds: float, *, uses_index: bool) -> str:
        """The service's query metrics; of the times only the whole is measured."""
        figures = {
            "totalExecutionTimeInMs": f"{milliseconds:.2f}",
            **dict.fromkeys(_TIMES, "0.00"),
            "instructionCount": "0",
            "retrievedDocumentCount": str(self.documents_read),
            "retrievedDocumentSize": str(self.bytes_read),
            "outputDocumentCount": str(len(self.rows)),
            "outputDocumentSize": str(sum(map(len, self.rows))),
            "indexUtilizationRatio": f"{float(uses_index):.2f}",
        }
        return ";".join(f"{name}={value}" for name, value in figures.items())


def run_page(
    query: CompiledQuery, segments: Sequence[Segment], continuation: str | None, limit: int | None, scope: str = ""
) -> Page:
    """The next page. It holds rows of one segment only, as the service's do, and may be empty. `scope` is what a
    continuation belongs to: another container's, or another query's, is refused."""
    begun, told = _decode(continuation, scope, query) if continuation else ((), _Told())
    ahead = [segment for segment in segments if not begun or segment.high > begun[0].low]
    if not ahead:
        return Page([], None)
    segment = _first(ahead[0], begun)
    after = next((each.position for each in begun if each.low <= segment.low < each.high), ()) or None
    later = _later(begun, segment.high)
    page = Page([], None, segment.partition)
    room = LARGEST_PAGE
    last: Position = ()
    rows = _rows_after(query, segment, after)
    skipped = min(query.offset - told.skipped, len(rows))
    told = _Told(told.skipped + skipped, told.given)
    for row in rows[skipped:]:
        if (left := told.left(query)) is not None and len(page.rows) == left:
            return page
        encoded = encode(row)
        if page.rows and (len(page.rows) == limit or len(encoded) > room):
            rest = (_Stretch(segment.low, segment.high, last), *later)
            page.continuation = _encode(scope, rest, told.and_given(page))
            return page
        page.rows.append(encoded)
        last, room = row.position, room - len(encoded)
        if row.document is not None:  # an aggregate is answered from the index
            page.documents_read += 1
            page.bytes_read += getattr(row.document, "size", len(encoded))
    told = told.and_given(page)
    if told.left(query) != 0 and (segment.high < ahead[0].high or len(ahead) > 1):
        page.continuation = _encode(scope, later or (_Stretch(segment.high, segment.high, ()),), told)
    return page


def encode(row: Row) -> bytes:
    """A row as JSON; a whole document as it is stored."""
    raw: bytes | None = getattr(row.document, "raw", None)
    if raw is not None and row.document is not None and row.value is row.document.body:
        return raw
    return json.dumps(row.value, ensure_ascii=False, separators=(",", ":")).encode()


def _rows_after(query: CompiledQuery, segment: Segment, after: Position | None) -> list[Row]:
    rows = query.rows(segment.documents())
    if after is None:
        return rows
    threshold = query.sort_key(after)
    return [row for row in rows if threshold < query.sort_key(row.position)]


@dataclass(frozen=True)
class _Stretch:
    """A stretch of the hash space that has been read up to a position; one of no width says where to begin."""

    low: str
    high: str
    position: Position


@dataclass(frozen=True)
class _Told:
    """What pages so far have skipped and given: OFFSET, TOP and LIMIT are of the whole answer."""

    skipped: int = 0
    given: int = 0

    def left(self, query: CompiledQuery) -> int | None:
        """Rows that are still to be given at most."""
        return None if query.limit is None else query.limit - self.given

    def and_given(self, page: Page) -> _Told:
        return _Told(self.skipped, self.given + len(page.rows))

    def is_right(self, query: CompiledQuery) -> bool:
        """Whether the query could have come to there."""
        if not all(type(count) is int and count >= 0 for count in (self.skipped, self.given)):
            return False
        return self.skipped <= query.offset and (query.limit is None or self.given < query.limit)


def _first(segment: Segment, begun: Sequence[_Stretch]) -> Segment:
    """The first part of a segment that is read from one position: after a merge it may have more."""
    low = max(segment.low, begun[0].low) if begun else segment.low
    bounds = (bound for each in begun for bound in (each.low, each.high) if low < bound < segment.high)
    high = min(bounds, default=segment.high)
    if (low, high) == (segment.low, segment.high):
        return segment

    def within() -> Iterable[Document]:
        return (document for document in segment.documents() if low <= getattr(document, "effective_key", low) < high)

    return Segment(low, high, within, segment.partition)


def _later(begun: Sequence[_Stretch], high: str) -> tuple[_Stretch, ...]:
    """What was begun beyond a bound: the children of a partition are read from where the parent was left."""
    return tuple(_Stretch(max(each.low, high), each.high, each.position) for each in begun if each.high > high)


def scope_of(rid: str, text: str) -> str:
    """A short name of a query in a container."""
    return hashlib.blake2b(f"{rid} {text}".encode(errors="replace"), digest_size=8).hexdigest()


def _encode(scope: str, begun: Sequence[_Stretch], told: _Told) -> str:
    content = [(each.low, each.high, [_as_json(value) for value in each.position]) for each in begun]
    return base64.b64encode(json.dumps([scope, content, told.skipped, told.given]).encode()).decode()


def _as_json(value: Any) -> list[Any]:
    return ["undefined"] if value is UNDEFINED else ["value", value]


def _decode(continuation: str, scope: str, query: CompiledQuery) -> tuple[tuple[_Stretch, ...], _Told]:
    try:
        found, content, skipped, given = json.loads(base64.b64decode(continuation, validate=True))
        begun = tuple(
            _Stretch(low, high, tuple(UNDEFINED if value[0] == "undefined" else value[1] for value in values))
            for low, high, values in content
        )
        told = _Told(skipped, given)
        if begun and found == scope and told.is_right(query) and all(_is_right(each, query) for each in begun):
            return begun, told
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        pass
    raise bad_request("The continuation token specified in the request is malformed. Re-run the query without it.")


def _is_right(begun: _Stretch, query: CompiledQuery) -> bool:
    """Whether the query could have left off there."""
    if not isinstance(begun.low, str) or not isinstance(begun.high, str):
        return False
    return query.accepts(begun.position) if begun.low < begun.high else not begun.position
