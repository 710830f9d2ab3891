"""The syntax tree of a query: what the parser builds, and the evaluator and the renderer walk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

AGGREGATES = frozenset({"COUNT", "SUM", "MIN", "MAX", "AVG"})


@dataclass(frozen=True)
class Node:
    """Anything in the tree; children are found by its fields."""

    def children(self) -> Iterator[Node]:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Node):
                yield value
            elif isinstance(value, tuple):
                for part in value:
                    if isinstance(part, Node):
                        yield part
                    elif isinstance(part, tuple):
                        yield from (leaf for leaf in part if isinstance(leaf, Node))

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children():
            yield from child.walk()


@dataclass(frozen=True)
class Literal(Node):
    value: Any


@dataclass(frozen=True)
class Parameter(Node):
    name: str


@dataclass(frozen=True)
class Name(Node):
    """An alias of the FROM clause, or the root."""

    name: str


@dataclass(frozen=True)
class Property(Node):
    base: Node
    key: str


@dataclass(frozen=True)
class Index(Node):
    """`base[key]` where the key is not a constant string."""

    base: Node
    key: Node


@dataclass(frozen=True)
class ArrayLiteral(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True)
class ObjectLiteral(Node):
    entries: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Unary(Node):
    operator: str
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Conditional(Node):
    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True)
class Between(Node):
    operand: Node
    low: Node
    high: Node


@dataclass(frozen=True)
class In(Node):
    operand: Node
    options: tuple[Node, ...]


@dataclass(frozen=True)
class Like(Node):
    operand: Node
    pattern: Node
    escape: Node | None = None


@dataclass(frozen=True)
class Call(Node):
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Subquery(Node):
    """`(SELECT …)`, `EXISTS(SELECT …)` or `ARRAY(SELECT …)`. It has no children: what is in it is its own affair."""

    kind: str
    """`EXISTS`, `ARRAY`, or "" for one value."""
    query: Query

    def children(self) -> Iterator[Node]:
        return iter(())


@dataclass(frozen=True)
class SelectItem(Node):
    expression: Node
    alias: str | None


@dataclass(frozen=True)
class Source(Node):
    """`FROM alias` (path is None), `FROM path AS alias`, or `alias IN path` (`iterate`). A path can be a subquery."""

    alias: str
    path: Node | None = None
    iterate: bool = False


@dataclass(frozen=True)
class OrderItem(Node):
    expression: Node
    descending: bool


@dataclass(frozen=True)
class Query(Node):
    items: tuple[SelectItem, ...]
    """Empty for `SELECT *`."""
    is_value: bool
    sources: tuple[Source, ...]
    where: Node | None = None
    group_by: tuple[Node, ...] = ()
    order_by: tuple[OrderItem, ...] = ()
    distinct: bool = False
    top: Node | None = None
    offset: Node | None = None
    limit: Node | None = None

    @property
    def aggregates(self) -> list[Call]:
        return [node for item in self.items for node in item.walk() if is_aggregate(node)]

    @property
    def is_grouped(self) -> bool:
        """Whether its rows stand for groups of documents; without GROUP BY all of them are one group."""
        return bool(self.group_by or self.aggregates)

    @property
    def columns(self) -> list[tuple[str, Node]]:
        """What a row is made of, by name; expressions without a name are `$1`, `$2` and so on."""
        unnamed = itertools.count(1)
        return [(item.alias or f"${next(unnamed)}", item.expression) for item in self.items]


def is_aggregate(node: Node) -> TypeGuard[Call]:
    return isinstance(node, Call) and node.name in AGGREGATES


def path_of(node: Node) -> tuple[str, ...] | None:
    """`c.a["b"]` → `("a", "b")`; None for anything that is not a plain path below an alias."""
    keys: list[str] = []
    while isinstance(node, Property):
        keys.append(node.key)
        node = node.base
    return tuple(reversed(keys)) if isinstance(node, Name) else None
