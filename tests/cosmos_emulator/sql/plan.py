"""What a client must do itself when a query spans ranges: the plan, in the words the SDK's execution context reads.

The service answers a cross-partition ORDER BY, TOP, DISTINCT, OFFSET or aggregate with "not servable"; the client then
asks for this plan, runs the rewritten query on every range, and merges. The members and the rewritten queries are those
that the tests of azure-cosmos-dotnet-v3 (`QueryPlanRetrieverTests`) and azure-sdk-for-rust show for the service's own
planner; a client names what it can merge, and is refused what it cannot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import bad_request
from . import nodes
from .aggregates import PLAN_NAMES, partial
from .checks import check_compositions
from .nodes import Node, Query, is_aggregate, path_of
from .render import expression, render
from .values import UNDEFINED, hashable

ALL_FEATURES = frozenset(
    {
        "Aggregate",
        "Distinct",
        "GroupBy",
        "MultipleAggregates",
        "MultipleOrderBy",
        "NonValueAggregate",
        "OffsetAndLimit",
        "OrderBy",
        "Top",
    }
)
"""What a client may say that it can merge, by the service's names."""
ORDER_FILTER = "{documentdb-formattableorderbyquery-filter}"
"""Where a client writes which rows of a range it has had; `true` for all of them."""


def needs_client_merge(query: Query) -> bool:
    """Whether the answers of several ranges are more than their concatenation."""
    return bool(
        query.order_by or query.distinct or query.is_grouped or query.top is not None or query.offset is not None
    )


def aggregates_columns(query: Query) -> bool:
    """Whether a gateway refuses it over several partitions without a word of plans: clients know that refusal."""
    return bool(query.aggregates) and (not query.is_value or bool(query.group_by))


def query_info(query: Query, parameters: Mapping[str, Any], features: Collection[str]) -> dict[str, Any]:
    """The `queryInfo` of a plan for a client with these features. One row, an aggregate's, has no order to keep."""
    check_compositions(query)
    _check_features(query, features)
    order_by = () if query.is_grouped else query.order_by
    counts = {name: _count(getattr(query, name), parameters) for name in ("top", "offset", "limit")}
    columns = query.columns if query.is_grouped and not query.is_value else []
    return {
        "distinctType": _distinct_type(query),
        **counts,
        "orderBy": ["Descending" if item.descending else "Ascending" for item in order_by],
        "orderByExpressions": [expression(item.expression) for item in order_by],
        "groupByExpressions": list(map(expression, query.group_by)),
        "groupByAliases": [name for name, _ in columns],
        "aggregates": [PLAN_NAMES[call.name] for call in query.aggregates] if query.is_value else [],
        "groupByAliasToAggregateType": {name: _plan_name(node) for name, node in columns},
        "rewrittenQuery": _rewritten(query, counts),
        "hasSelectValue": query.is_value,
        "dCountInfo": None,
        "hasNonStreamingOrderBy": False,
    }


def _check_features(query: Query, features: Collection[str]) -> None:
    count = len(query.aggregates)
    needed = {
        "Aggregate": query.is_value and count == 1,
        "Distinct": query.distinct,
        "GroupBy": bool(query.group_by),
        "MultipleAggregates": count > 1,
        "MultipleOrderBy": len(query.order_by) > 1,
        "NonValueAggregate": count > 0 and not query.is_value,
        "OffsetAndLimit": query.offset is not None,
        "OrderBy": len(query.order_by) == 1,
        "Top": query.top is not None,
    }
    if missing := [feature for feature, needs in needed.items() if needs and feature not in features]:
        raise bad_request(
            "Query contains the following features, which the calling client does not support: " + " ".join(missing)
        )


def _plan_name(node: Node) -> str | None:
    return PLAN_NAMES[node.name] if is_aggregate(node) else None


def _count(node: Node | None, parameters: Mapping[str, Any]) -> int | None:
    if node is None:
        return None
    value = parameters.get(node.name) if isinstance(node, nodes.Parameter) else getattr(node, "value", None)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request("TOP, OFFSET and LIMIT take a whole number.")
    return value


def _distinct_type(query: Query) -> str:
    if not query.distinct:
        return "None"
    projected = {path_of(item.expression) for item in query.items}
    ordered = bool(query.order_by) and projected == {path_of(item.expression) for item in query.order_by}
    return "Ordered" if ordered else "Unordered"


def _rewritten(query: Query, counts: Mapping[str, int | None]) -> str:
    """What runs on each range; "" where the query itself will do."""
    if query.is_grouped:
        return render(_with_groups(query))
    if query.offset is not None:  # each range must deliver what may be skipped elsewhere
        together = (counts["offset"] or 0) + (counts["limit"] or 0)
        query = replace(query, offset=nodes.Literal(0), limit=nodes.Literal(together))
    if query.distinct:  # only the client knows which rows the other ranges have had
        query = replace(query, top=None, offset=None, limit=None)
    if query.order_by:
        return render(_with_order_values(query), also=ORDER_FILTER)
    return render(query) if query.offset is not None or query.distinct else ""


def _with_order_values(query: Query) -> Query:
    """Rows as the SDK merges them: `_rid`, `orderByItems` to compare by, `payload` to return."""
    root = nodes.Name(query.sources[0].alias)
    items = (
        nodes.SelectItem(nodes.Property(root, "_rid"), "_rid"),
        nodes.SelectItem(_items(item.expression for item in query.order_by), "orderByItems"),
        nodes.SelectItem(_payload(query, root), "payload"),
    )
    return replace(query, items=items, is_value=False, distinct=False)


def _payload(query: Query, root: Node) -> Node:
    if not query.items:
        return root
    return query.items[0].expression if query.is_value else nodes.ObjectLiteral(tuple(query.columns))


def _with_groups(query: Query) -> Query:
    """What a range knows of each group: `groupByItems`, by which the client knows it again, and a `payload` of parts.

    Only the client has whole groups, so it makes them distinct and counts them off. One VALUE without groups is the
    payload alone.
    """
    parts = [(name, partial(node) if is_aggregate(node) else node) for name, node in query.columns]
    payload: Node = nodes.ObjectLiteral(tuple(parts))
    if query.is_value:
        payload = nodes.ArrayLiteral((parts[0][1],)) if query.aggregates else parts[0][1]
    items = [nodes.SelectItem(_items(query.group_by), "groupByItems")] if query.group_by else []
    alone = query.is_value and not query.group_by
    items.append(nodes.SelectItem(payload, None if alone else "payload"))
    return replace(
        query, items=tuple(items), is_value=alone, order_by=(), distinct=False, top=None, offset=None, limit=None
    )


def _items(values: Iterable[Node]) -> Node:
    """`[{"item": …}]`: what is undefined leaves an empty object in its place."""
    return nodes.ArrayLiteral(tuple(nodes.ObjectLiteral((("item", value),)) for value in values))


# ---- which partition keys a filter admits


def partition_keys_in_filter(query: Query, path: tuple[str, ...], parameters: Mapping[str, Any]) -> list[Any] | None:
    """The partition-key values that the filter pins down with = or IN; None where it may be any."""
    if query.where is None or len(query.sources) != 1:
        return None
    found = _pinned(query.where, path, parameters)
    return None if found is None else list(found.values())


def _pinned(node: Node, path: tuple[str, ...], parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    if isinstance(node, nodes.Binary) and node.operator == "=":
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if path_of(side) == path:
                return _constants((other,), parameters)
    if isinstance(node, nodes.In) and path_of(node.operand) == path:
        return _constants(node.options, parameters)
    if isinstance(node, nodes.Binary) and node.operator in {"AND", "OR"}:
        left, right = _pinned(node.left, path, parameters), _pinned(node.right, path, parameters)
        if node.operator == "AND":
            return right if left is None else left
        return None if left is None or right is None else {**left, **right}
    return None


def _constants(options: tuple[Node, ...], parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    values: list[Any] = []
    for option in options:
        if isinstance(option, nodes.Literal) and option.value is not UNDEFINED:
            values.append(option.value)
        elif isinstance(option, nodes.Parameter) and option.name in parameters:
            values.append(parameters[option.name])
        else:
            return None
    return {hashable(value): value for value in values}
