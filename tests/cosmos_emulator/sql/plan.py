"""What a client must do itself when a query spans ranges: the plan, in the words the SDK's execution context reads.

The service answers a cross-partition ORDER BY, TOP, DISTINCT, OFFSET or aggregate with "not servable"; the client then
asks for this plan, runs the rewritten query on every range, and merges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import bad_request, unsupported
from . import nodes
from .nodes import Node, Query, path_of
from .render import expression, render
from .values import UNDEFINED, hashable

_AGGREGATE_NAMES = {"COUNT": "Count", "SUM": "Sum", "MIN": "Min", "MAX": "Max", "AVG": "Average"}


def needs_client_merge(query: Query) -> bool:
    """Whether the answers of several ranges are more than their concatenation."""
    return bool(
        query.order_by or query.distinct or query.aggregates or query.top is not None or query.offset is not None
    )


def query_info(query: Query, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The `queryInfo` of a plan. One row, an aggregate's, has no order to keep."""
    order_by = () if query.aggregates else query.order_by
    counts = {name: _count(getattr(query, name), parameters) for name in ("top", "offset", "limit")}
    return {
        "distinctType": _distinct_type(query),
        **counts,
        "orderBy": ["Descending" if item.descending else "Ascending" for item in order_by],
        "orderByExpressions": [expression(item.expression) for item in order_by],
        "groupByExpressions": [],
        "groupByAliases": [],
        "aggregates": [_AGGREGATE_NAMES[call.name] for call in query.aggregates],
        "groupByAliasToAggregateType": {},
        "rewrittenQuery": _rewritten(query, counts),
        "hasSelectValue": query.is_value,
        "hasNonStreamingOrderBy": False,
    }


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
    if query.aggregates:
        return _rewritten_aggregate(query)
    if query.offset is not None:  # each range must deliver what may be skipped elsewhere
        together = (counts["offset"] or 0) + (counts["limit"] or 0)
        query = replace(query, offset=nodes.Literal(0), limit=nodes.Literal(together))
    if query.distinct:  # only the client knows which rows the other ranges have had
        query = replace(query, top=None, offset=None, limit=None)
    if query.order_by:
        return render(_with_order_values(query))
    return render(query) if query.offset is not None or query.distinct else ""


def _with_order_values(query: Query) -> Query:
    """Rows as the SDK merges them: `_rid`, `orderByItems` to compare by, `payload` to return."""
    root = nodes.Name(query.sources[0].alias)
    values = nodes.ArrayLiteral(
        tuple(nodes.ObjectLiteral((("item", item.expression),)) for item in query.order_by),
    )
    items = (
        nodes.SelectItem(nodes.Property(root, "_rid"), "_rid"),
        nodes.SelectItem(values, "orderByItems"),
        nodes.SelectItem(_payload(query, root), "payload"),
    )
    return replace(query, items=items, is_value=False, distinct=False)


def _payload(query: Query, root: Node) -> Node:
    if not query.items:
        return root
    if query.is_value:
        return query.items[0].expression
    unnamed = 0
    entries: list[tuple[str, Node]] = []
    for item in query.items:
        if item.alias is None:
            unnamed += 1
        entries.append((item.alias or f"${unnamed}", item.expression))
    return nodes.ObjectLiteral(tuple(entries))


def _rewritten_aggregate(query: Query) -> str:
    """`SELECT VALUE [{"item": partial}]`, the shape in which the SDK's aggregators take a range's part."""
    calls = query.aggregates
    if not query.is_value or query.items[0].expression != calls[0]:
        return ""  # the SDK refuses it from the plan alone
    if query.distinct or query.offset is not None:
        raise unsupported("an aggregate together with DISTINCT or OFFSET over several partitions")
    argument = calls[0].arguments
    partial: Node = calls[0]
    if calls[0].name == "AVG":
        sums = (("sum", nodes.Call("SUM", argument)), ("count", nodes.Call("COUNT", argument)))
        partial = nodes.ObjectLiteral(sums)
    rows = nodes.ArrayLiteral((nodes.ObjectLiteral((("item", partial),)),))
    return render(replace(query, items=(nodes.SelectItem(rows, None),), order_by=()))


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
