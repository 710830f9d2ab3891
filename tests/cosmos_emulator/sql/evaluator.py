"""Runs a query over documents: rows come out filtered, grouped, ordered, distinct and cut.

Every row carries a position, so that a page can stop anywhere and the next page can start after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import bad_request
from . import nodes
from .expressions import Compiler
from .nodes import Node, Query
from .selection import Selection
from .values import UNDEFINED, hashable, sort_key

Position = tuple[Any, ...]


class Document(Protocol):
    """What a query runs over: a body, and a number that never changes and orders documents within a container."""

    body: dict[str, Any]
    number: int


@dataclass(frozen=True)
class Row:
    value: Any
    position: Position
    """The ORDER BY values, then the document's number, then the place among that document's rows; of a group, its key
    and 0."""
    document: Document | None
    """The document the row was made from; None for a group."""


@dataclass(frozen=True)
class _Descending:
    """A sort key that sorts the other way round."""

    key: Any

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key


class CompiledQuery:
    """A query bound to its parameters, ready to run over any documents.

    `drops_undefined` leaves out the rows that have no value to be ordered by, as an index does that does not name the
    path.
    """

    def __init__(self, query: Query, parameters: Mapping[str, Any], *, drops_undefined: bool = False) -> None:
        self.query = query
        self._selection = Selection(query, parameters)
        self._drops_undefined = drops_undefined
        self._is_grouped = query.is_grouped
        self._descending = [] if self._is_grouped else [item.descending for item in query.order_by]

    def rows(self, documents: Iterable[Document]) -> list[Row]:
        """Every row of the answer over these documents, in order, before OFFSET, LIMIT and TOP."""
        if self._is_grouped:
            rows = self._group_rows(documents)
        else:
            rows = [row for document in documents for row in self._rows_of(document)]
        rows.sort(key=lambda row: self.sort_key(row.position))
        if self.query.distinct:
            rows = _without_repetitions(rows)
        return rows

    @property
    def offset(self) -> int:
        """Rows that the answer leaves out."""
        return self._selection.offset

    @property
    def limit(self) -> int | None:
        """The most rows that the answer has, over all pages."""
        return self._selection.limit

    def sort_key(self, position: Position) -> tuple[Any, ...]:
        """Orders positions: by the ORDER BY values, ties in the direction of the first of them."""
        if self._is_grouped or not self._descending:
            return position
        *values, number, place = position
        keys = [
            _Descending(sort_key(value)) if descending else sort_key(value)
            for value, descending in zip(values, self._descending, strict=True)
        ]
        return (*keys, -number if self._descending[0] else number, place)

    def accepts(self, position: Position) -> bool:
        """Whether this can be the position of one of its rows: continuations come from outside."""
        if len(position) != len(self._descending) + 2:
            return False
        number, place = position[-2:]
        return type(place) is int and type(number) is (str if self._is_grouped else int)

    def _rows_of(self, document: Document) -> Iterable[Row]:
        selection = self._selection
        for place, environment in enumerate(selection.environments({}, document.body)):
            value = selection.project(environment)
            order = tuple(expression(environment) for expression in selection.order)
            if value is UNDEFINED or (self._drops_undefined and UNDEFINED in order):
                continue
            yield Row(value, (*order, document.number, place), document)

    def _group_rows(self, documents: Iterable[Document]) -> list[Row]:
        selection = self._selection
        found = (each for document in documents for each in selection.environments({}, document.body))
        return [Row(value, (key, 0), None) for key, value in selection.groups(found).items() if value is not UNDEFINED]


def compile_query(query: Query, parameters: Mapping[str, Any], *, drops_undefined: bool = False) -> CompiledQuery:
    return CompiledQuery(query, parameters, drops_undefined=drops_undefined)


def compile_predicate(alias: str, predicate: Node) -> Callable[[dict[str, Any]], bool]:
    """A patch's condition, as a test of one document."""
    if any(isinstance(part, nodes.Subquery) or nodes.is_aggregate(part) for part in predicate.walk()):
        raise bad_request("A patch's condition takes neither subqueries nor aggregates.")
    test = Compiler({}, [alias]).compile(predicate)
    return lambda body: test({alias: body}) is True


def _without_repetitions(rows: Sequence[Row]) -> list[Row]:
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(hashable(row.value), row)
    return list(first.values())
