"""What the query compiler refuses in a query that is well formed: columns outside their group, aggregates out of place.

Sources: the page "GROUP BY (NoSQL query)" of the service's documentation (22 August 2024); the messages are those that
Microsoft's tests of azure-cosmos-dotnet-v3 expect, and that users of the service report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ..errors import bad_request, unsupported
from . import nodes
from .nodes import Node, Query, is_aggregate
from .render import expression

MOST_AGGREGATES = 21
"""In a GROUP BY over several partitions."""

MOST_JOINS = 10
"""In one query ("Service quotas", 2025)."""


def check_query(query: Query) -> None:
    """Refuses what no form of the request makes right."""
    if not query.items and len(query.sources) != 1:
        raise bad_request("'SELECT *' is only valid with a single input set.")
    if len(query.sources) - 1 > MOST_JOINS:
        raise bad_request(f"The query has more than {MOST_JOINS} JOIN expressions.")
    _check_aliases(source.alias for source in query.sources if source.alias)
    if query.top is not None and query.offset is not None:
        raise bad_request("'TOP' is not allowed together with 'OFFSET LIMIT'.")
    if not query.is_value:
        _check_names(name for name, _ in query.columns)
    misplaced = [query.where, *query.group_by, *(item.expression for item in query.order_by)]
    for node in (part for root in misplaced if root for part in root.walk()):
        if is_aggregate(node):
            raise bad_request(f"The aggregate {node.name} is only allowed in the SELECT clause.")
    for item in query.order_by:
        _check_order(query, item.expression)
    if query.group_by:
        _check_groups(query)
    if query.is_grouped:
        _check_columns(query)


def check_subquery(query: Query) -> None:
    if query.group_by or query.order_by or query.offset is not None:
        raise unsupported("GROUP BY, ORDER BY or OFFSET in a subquery")
    check_compositions(query)


def check_compositions(query: Query) -> None:
    """An aggregate stands alone in its column. A plan's rewritten query does otherwise, so a query of one range may."""
    if any(not is_aggregate(item.expression) and _aggregates(item.expression) for item in query.items):
        raise bad_request("Compositions of aggregates and other expressions are not allowed.")
    if query.group_by and len(query.aggregates) > MOST_AGGREGATES:
        raise bad_request(f"A cross partition GROUP BY query has at most {MOST_AGGREGATES} aggregates.")


def _check_names(names: Iterable[str]) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise bad_request(f"The property name '{repeated[0]}' is specified more than once in the SELECT clause.")


def _check_aliases(names: Iterable[str]) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise bad_request(f"The input alias '{repeated[0]}' is specified more than once in the FROM clause.")


def _check_order(query: Query, path: Node) -> None:
    """Only what the documents have can order them: an account refuses the elements of a joined array (2026)."""
    root = path
    while isinstance(root, nodes.Property):
        root = root.base
    iterated = {source.alias for source in query.sources if source.iterate}
    if isinstance(root, nodes.Name) and root.name in iterated:
        raise bad_request(f"ORDER BY '{expression(path)}' is not supported: it is not a property of the items.")


def _check_groups(query: Query) -> None:
    if not query.items:
        raise bad_request("'SELECT *' is not allowed with GROUP BY.")
    if query.order_by:
        raise bad_request("'ORDER BY' is not supported in presence of GROUP BY.")
    for key in query.group_by:
        parts = list(key.walk())
        if any(isinstance(part, nodes.Subquery) for part in parts):
            raise bad_request("Subqueries are not allowed in the GROUP BY clause.")
        if not any(isinstance(part, nodes.Name) for part in parts):
            raise bad_request("Each expression of the GROUP BY clause must contain a property reference.")


def _check_columns(query: Query) -> None:
    for call in query.aggregates:
        inside = (part for argument in call.arguments for part in argument.walk())
        if any(is_aggregate(part) or isinstance(part, nodes.Subquery) for part in inside):
            raise bad_request(
                "Cannot perform an aggregate function on an expression containing an aggregate or a subquery."
            )
    for item in query.items:
        if (stray := _outside(item.expression, set(query.group_by))) is not None:
            raise bad_request(
                f"Property reference '{expression(stray)}' is invalid in the select list because it is not contained "
                "in either an aggregate function or the GROUP BY clause."
            )


def _outside(node: Node, keys: Collection[Node]) -> Node | None:
    """A reference that has no single value in a group."""
    if node in keys or is_aggregate(node):
        return None
    if isinstance(node, nodes.Name | nodes.Subquery):
        return node
    found = next((stray for child in node.children() if (stray := _outside(child, keys)) is not None), None)
    return node if found is not None and isinstance(node, nodes.Property) else found


def _aggregates(node: Node) -> bool:
    return any(map(is_aggregate, node.walk()))
