"""Pages of a query over one or more partitions, and the continuation that says where the next page begins.

A page is computed anew from the items of the moment; the continuation is the position of the last row returned, so rows
are neither repeated nor skipped however the container changes in between, splits included.
"""

from __future__ import annotations

import base64
import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from . import charges
from .errors import bad_request
from .sql import CompiledQuery, Row
from .sql.evaluator import Document, Position
from .sql.values import UNDEFINED
from .storage import Partition

LARGEST_PAGE = 4 * 1024 * 1024
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

    @property
    def metrics(self) -> str:
        """The part of the service's query metrics that holds here."""
        return (
            f"retrievedDocumentCount={self.documents_read};retrievedDocumentSize={self.bytes_read};"
            f"outputDocumentCount={len(self.rows)};outputDocumentSize={sum(map(len, self.rows))}"
        )


def run_page(
    query: CompiledQuery, segments: Sequence[Segment], continuation: str | None, limit: int | None, scope: str = ""
) -> Page:
    """The next page. It holds rows of one segment only, as the service's do, and may be empty. `scope` is what a
    continuation belongs to: another container's, or another query's, is refused."""
    start = _decode(continuation, scope, query) if continuation else None
    ahead = [segment for segment in segments if start is None or segment.high > start.low]
    if not ahead:
        return Page([], None)
    segment = ahead[0]
    after = start.position if start and segment.low < start.high else None
    following = _encode(scope, ahead[1].low, ahead[1].low, ()) if len(ahead) > 1 else None
    page = Page([], following, segment.partition)
    room = LARGEST_PAGE
    last: Position = ()
    for row in _rows_after(query, segment, after):
        encoded = encode(row)
        if page.rows and (len(page.rows) == limit or len(encoded) > room):
            page.continuation = _encode(scope, segment.low, segment.high, last)
            break
        page.rows.append(encoded)
        last, room = row.position, room - len(encoded)
        if row.document is not None:  # an aggregate is answered from the index
            page.documents_read += 1
            page.bytes_read += getattr(row.document, "size", len(encoded))
    return page


def encode(row: Row) -> bytes:
    """A row as JSON; a whole document as it is stored."""
    if row.document is not None and row.value is row.document.body and hasattr(row.document, "raw"):
        return row.document.raw
    return json.dumps(row.value, ensure_ascii=False, separators=(",", ":")).encode()


def _rows_after(query: CompiledQuery, segment: Segment, after: Position | None) -> list[Row]:
    rows = query.rows(segment.documents())
    if after is None:
        return rows
    threshold = query.sort_key(after)
    return [row for row in rows if threshold < query.sort_key(row.position)]


@dataclass(frozen=True)
class _Start:
    low: str
    high: str
    position: Position


def scope_of(rid: str, text: str) -> str:
    """A short name of a query in a container."""
    return hashlib.blake2b(f"{rid} {text}".encode(errors="replace"), digest_size=8).hexdigest()


def _encode(scope: str, low: str, high: str, position: Position) -> str:
    values = [["undefined"] if value is UNDEFINED else ["value", value] for value in position]
    return base64.b64encode(json.dumps([scope, low, high, values]).encode()).decode()


def _decode(continuation: str, scope: str, query: CompiledQuery) -> _Start:
    try:
        found, low, high, values = json.loads(base64.b64decode(continuation, validate=True))
        position: Position = tuple(UNDEFINED if value[0] == "undefined" else value[1] for value in values)
        if found == scope and isinstance(low, str) and isinstance(high, str) and (low < high) == bool(position):
            if position:  # of another query it has another length, or no numbers at its end
                *_, number, place = position
                query.sort_key((*position[:-2], operator.index(number), operator.index(place)))
            return _Start(low, high, position)
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        pass
    raise bad_request("The continuation token specified in the request is malformed. Re-run the query without it.")
