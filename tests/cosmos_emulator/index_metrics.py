"""Which indexes a query used, and which it would use: the header `x-ms-cosmos-index-utilization`.

It goes by the shape of the query and the policy, never by the data, as in the service. Facts: the unit "Troubleshoot
with query and index metrics" of the service's training (2026): base64 on the wire, four lists, only with at least one
row; case conversion and arithmetic are not served by an index, string functions are. The entries' members are those
that the tests of azure-cosmos-dotnet-v3 (`IndexUtilizationInfoTests`) parse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .indexing import IndexingPolicy
from .sql import Query
from .sql.nodes import Between, Binary, Call, In, Like, Node, Unary, path_of

_PRECISE = frozenset({"STARTSWITH", "STRINGEQUALS", "ARRAY_CONTAINS"})
_SCANNED = frozenset({"CONTAINS", "ENDSWITH"})
_TYPE_TESTS = "IS_"
_HIGH = {"IndexImpactScore": "High"}
"""The only score given here: how a filter is written makes each of these likely to help."""
CompositeIndex = list[tuple[tuple[str, ...], bool]]
"""Paths, and whether each is descending."""


@dataclass(frozen=True)
class Filter:
    """One path that a condition bounds."""

    path: tuple[str, ...]
    is_equality: bool = False
    is_precise: bool = True
    """Whether the index finds the items alone; otherwise all its values are looked through."""


@dataclass(frozen=True)
class _Indexes:
    used: list[Filter]
    missing: list[Filter]
    used_composites: list[CompositeIndex]
    missing_composites: list[CompositeIndex]


def index_metrics(query: Query, policy: IndexingPolicy, keys: Sequence[tuple[str, ...]] = ()) -> str:
    """The header's value for `x-ms-cosmos-populateindexmetrics`: base64 of JSON.

    `keys` are the paths of a partition key that the request names. Where a query has no filter and no order, a test of
    azure-cosmos 4.17.1 (`test_populate_index_metrics`) finds them among the indexes; else they are left out.
    """
    found = _indexes(query, policy)
    for path in () if query.where or query.order_by else keys:
        if path not in {each.path for each in (*found.used, *found.missing)}:
            (found.used if policy.covers(path) else found.missing).append(Filter(path, is_equality=True))
    entries = {
        "UtilizedSingleIndexes": [_single(each) for each in found.used],
        "PotentialSingleIndexes": [_single(each) for each in found.missing],
        "UtilizedCompositeIndexes": [_composite_entry(each) for each in found.used_composites],
        "PotentialCompositeIndexes": [_composite_entry(each) for each in found.missing_composites],
    }
    return base64.b64encode(_json(entries).encode()).decode()


def index_metrics_v2(query: Query, policy: IndexingPolicy, keys: Sequence[tuple[str, ...]] = ()) -> str:
    """The header's value for `x-ms-cosmos-populateindexmetrics-V2`, which JavaScript sends: JSON, percent-encoded.

    An account answered so, without the lists that were empty (recorded, 2026). Whether it has the keys is not known.
    """
    del keys
    found = _indexes(query, policy)
    used: dict[str, Any] = {"SingleIndexes": [{"IndexSpec": _spec(each.path)} for each in found.used]}
    missing: dict[str, Any] = {"SingleIndexes": [{"IndexSpec": _spec(each.path), **_HIGH} for each in found.missing]}
    if found.used_composites:
        used["CompositeIndexes"] = [{"IndexSpecs": _specs(each)} for each in found.used_composites]
    if found.missing_composites:
        missing["CompositeIndexes"] = [{"IndexSpecs": _specs(each), **_HIGH} for each in found.missing_composites]
    return quote(_json({"UtilizedIndexes": used, "PotentialIndexes": missing}), safe="")


def _indexes(query: Query, policy: IndexingPolicy) -> _Indexes:
    filters = list(dict.fromkeys(_filters(query.where)))
    ordered = [(path_of(item.expression) or (), item.descending) for item in query.order_by]
    single = {each.path: each for each in filters}
    for path, _ in ordered if len(ordered) == 1 else []:
        single.setdefault(path, Filter(path))
    composite = _composite(query.where, filters, ordered)
    composites = [composite] if composite else []
    exists = bool(composite) and policy.has_composite(composite)
    return _Indexes(
        [each for each in single.values() if policy.covers(each.path)],
        [each for each in single.values() if not policy.covers(each.path)],
        composites if exists else [],
        [] if exists else composites,
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


def _composite(where: Node | None, filters: list[Filter], ordered: CompositeIndex) -> CompositeIndex:
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
        "IndexSpec": _spec(found.path),
        "FilterPreciseSet": found.is_precise,
        "IndexPreciseSet": found.is_precise,
        **_HIGH,
    }


def _composite_entry(parts: CompositeIndex) -> dict[str, Any]:
    return {"IndexSpecs": _specs(parts), "IndexPreciseSet": True, **_HIGH}


def _spec(path: tuple[str, ...]) -> str:
    return "".join(f"/{part}" for part in path) + "/?"


def _specs(parts: CompositeIndex) -> list[str]:
    return ["".join(f"/{part}" for part in path) + (" DESC" if descending else " ASC") for path, descending in parts]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
