"""A syntax tree back to text: the rewritten query that a plan hands to the client is written here."""

from __future__ import annotations

import json
from typing import Any

from . import nodes
from .lexer import RESERVED
from .nodes import Node, Query
from .values import UNDEFINED


def render(query: Query, *, also: str = "") -> str:
    """The query; `also` is a condition that is added to its filter as it stands."""
    parts = ["SELECT"]
    if query.distinct:
        parts.append("DISTINCT")
    if query.top is not None:
        parts.append(f"TOP {expression(query.top)}")
    parts.append(_projection(query))
    if query.sources:
        parts.append("FROM " + " JOIN ".join(map(_source, query.sources)))
    conditions = [] if query.where is None else [expression(query.where)]
    if also:
        conditions.append(also)
    if conditions:
        parts.append(f"WHERE ({' AND '.join(conditions)})")
    if query.group_by:
        parts.append("GROUP BY " + _list(query.group_by))
    if query.order_by:
        parts.append("ORDER BY " + ", ".join(map(_order_item, query.order_by)))
    if query.offset is not None and query.limit is not None:
        parts.append(f"OFFSET {expression(query.offset)} LIMIT {expression(query.limit)}")
    return " ".join(parts)


def _projection(query: Query) -> str:
    if not query.items:
        return "*"
    if query.is_value:
        return f"VALUE {expression(query.items[0].expression)}"
    return ", ".join(expression(item.expression) + (f" AS {item.alias}" if item.alias else "") for item in query.items)


def _source(source: nodes.Source) -> str:
    if source.path is None:
        return source.alias
    if isinstance(source.path, nodes.Subquery):
        return f"({render(source.path.query)})" + (f" AS {source.alias}" if source.alias else "")
    path = expression(source.path)
    return f"{source.alias} IN {path}" if source.iterate else f"{path} AS {source.alias}"


def _order_item(item: nodes.OrderItem) -> str:
    return f"{expression(item.expression)} {'DESC' if item.descending else 'ASC'}"


def expression(node: Node) -> str:
    match node:
        case nodes.Literal():
            return _literal(node.value)
        case nodes.Parameter() | nodes.Name():
            return node.name
        case nodes.Property():
            return expression(node.base) + (f".{node.key}" if _plain(node.key) else f"[{json.dumps(node.key)}]")
        case nodes.Index():
            return f"{expression(node.base)}[{expression(node.key)}]"
        case nodes.ArrayLiteral():
            return f"[{_list(node.items)}]"
        case nodes.ObjectLiteral():
            return "{" + ", ".join(f"{json.dumps(key)}: {expression(value)}" for key, value in node.entries) + "}"
        case nodes.Call():
            return f"{node.name}({_list(node.arguments)})"
        case nodes.Subquery():
            return f"{node.kind}({render(node.query)})"
        case _:
            return f"({_operation(node)})"


def _operation(node: Node) -> str:
    match node:
        case nodes.Unary():
            return f"{node.operator} {expression(node.operand)}"
        case nodes.Binary():
            return f"{expression(node.left)} {node.operator} {expression(node.right)}"
        case nodes.Conditional():
            return f"{expression(node.condition)} ? {expression(node.then)} : {expression(node.otherwise)}"
        case nodes.Between():
            return f"{expression(node.operand)} BETWEEN {expression(node.low)} AND {expression(node.high)}"
        case nodes.In():
            return f"{expression(node.operand)} IN ({_list(node.options)})"
        case nodes.Like():
            escape = "" if node.escape is None else f" ESCAPE {expression(node.escape)}"
            return f"{expression(node.operand)} LIKE {expression(node.pattern)}{escape}"
        case _:
            raise TypeError(f"no text for {type(node).__name__}")


def _plain(key: str) -> bool:
    """Whether a property can follow a dot."""
    return key.isascii() and key.isidentifier() and key.upper() not in RESERVED


def _list(items: tuple[Node, ...]) -> str:
    return ", ".join(map(expression, items))


def _literal(value: Any) -> str:
    return "undefined" if value is UNDEFINED else json.dumps(value)
