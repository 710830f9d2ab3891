"""Which indexes a query used, and which it would use: the header `x-ms-cosmos-index-utilization`.

It goes by the shape of the query and the policy, never by the data, as in the service. Facts: the unit "Troubleshoot
with query and index metrics" of the service's training (2026): base64 on the wire, four lists, only with at least one
row; case conversion and arithmetic are not served by an index, string functions are. The entries' members are those
that the tests of azure-cosmos-dotnet-v3 (`IndexUtilizationInfoTests`) parse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .indexing import IndexingPolicy
from .sql import Query
from .sql.nodes import Between, Binary, Call, In, Like, Node, Unary, path_of

_RANGES = frozenset({"<", "<=", ">", ">="})
_PRECISE = frozenset({"STARTSWITH", "STRINGEQUALS", "ARRAY_CONTAINS"})
_SCANNED = frozenset({"CONTAINS", "ENDSWITH"})
_TYPE_TESTS = "IS_"


@dataclass(frozen=True)
class Filter:
    """One path that a condition bounds."""

    path: tuple[str, ...]
    is_equality: bool = False
    is_precise: bool = True
    """Whether the index finds the items alone; otherwise all its values are looked through."""


def index_metrics(query: Query, policy: IndexingPolicy) -> str:
    """The header's value: base64 of JSON."""
    filters = list(dict.fromkeys(_filters(query.where)))
    ordered = [(path_of(item.expression) or (), item.descending) for item in query.order_by]
    single = {each.path: each for each in filters}
    for path, _ in ordered[:1] if len(ordered) == 1 else []:
        single.setdefault(path, Filter(path))
    used = [each for each in single.values() if policy.covers(each.path)]
    missing = [each for each in single.values() if not policy.covers(each.path)]
    composite = _composite(query.where, filters, ordered)
    exists = bool(composite) and policy.has_composite(composite)
    return _encoded(
        {
            "UtilizedSingleIndexes": list(map(_single, used)),
            "PotentialSingleIndexes": list(map(_single, missing)),
            "UtilizedCompositeIndexes": [_composite_entry(composite)] if composite and exists else [],
            "PotentialCompositeIndexes": [_composite_entry(composite)] if composite and not exists else [],
        }
    )


def uses_index(query: Query, policy: IndexingPolicy) -> bool:
    """Whether an index narrows what a query loads; one without a filter loads nothing in vain."""
    return query.where is None or any(policy.covers(each.path) for each in _filters(query.where))


def _filters(node: Node | None) -> Iterator[Filter]:
    match node:
        case Binary(operator="AND" | "OR"):
            yield from _filters(node.left)
            yield from _filters(node.right)
        case Binary(operator="=" | "!=" | "<" | "<=" | ">" | ">="):
            sides = [path for side in (node.left, node.right) if (path := path_of(side))]
            if len(sides) == 1:
                yield Filter(sides[0], is_equality=node.operator == "=")
        case Unary(operator="NOT"):
            yield from (Filter(each.path, is_precise=each.is_precise) for each in _filters(node.operand))
        case In() | Between() | Like() if path := path_of(node.operand):
            yield Filter(path, is_precise=not isinstance(node, Like))
        case Call() if node.arguments and (path := path_of(node.arguments[0])):
            if node.name in _PRECISE or node.name in _SCANNED or node.name.startswith(_TYPE_TESTS):
                yield Filter(path, is_precise=node.name not in _SCANNED and len(node.arguments) < 3)
        case _:
            return


def _composite(
    where: Node | None, filters: list[Filter], ordered: list[tuple[tuple[str, ...], bool]]
) -> list[tuple[tuple[str, ...], bool]]:
    """The composite index that would serve all of it: equalities, then a range or the order."""
    if len(ordered) > 1:
        return ordered
    if any(isinstance(part, Binary) and part.operator == "OR" for part in (where.walk() if where else ())):
        return []
    equal = [(each.path, False) for each in filters if each.is_equality]
    rest = ordered or [(each.path, False) for each in filters if not each.is_equality][:1]
    found = [*equal, *(each for each in rest if each[0] not in {path for path, _ in equal})]
    return found if len(found) > 1 else []


def _single(found: Filter) -> dict[str, Any]:
    return {
        "FilterExpression": "",
        "IndexSpec": f"{_spec(found.path)}/?",
        "FilterPreciseSet": found.is_precise,
        "IndexPreciseSet": found.is_precise,
        "IndexImpactScore": "High",
    }


def _composite_entry(parts: list[tuple[tuple[str, ...], bool]]) -> dict[str, Any]:
    specs = [f"{_spec(path)} {'DESC' if descending else 'ASC'}" for path, descending in parts]
    return {"IndexSpecs": specs, "IndexPreciseSet": True, "IndexImpactScore": "High"}


def _spec(path: tuple[str, ...]) -> str:
    return "".join(f"/{part}" for part in path)


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).decode()
