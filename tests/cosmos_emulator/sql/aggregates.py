"""COUNT, SUM, MIN, MAX and AVG over the values of a group, and the parts from which a client merges several ranges.

The parts have the shape that the SDKs' aggregators read (azure-cosmos 4.17.1 for Python, @azure/cosmos 4.9.3, looked
at in November 2026): `item` holds the value, or sum and count of an average; JavaScript's MIN and MAX read `item2`
instead, whose count tells a range without values from one with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import nodes
from .nodes import Call, Node
from .values import UNDEFINED, as_number, sort_key, type_rank

PLAN_NAMES = {"COUNT": "Count", "SUM": "Sum", "MIN": "Min", "MAX": "Max", "AVG": "Average"}
"""What query plans call them."""


def aggregate(name: str, values: Sequence[Any]) -> Any:
    """One aggregate over the defined values. A value that is not a number makes SUM and AVG undefined."""
    if name == "COUNT":
        return len(values)
    if name in {"MIN", "MAX"}:
        if not values or any(type_rank(value) > 4 for value in values):
            return UNDEFINED
        return (min if name == "MIN" else max)(values, key=sort_key)
    if any(type_rank(value) != 3 for value in values):
        return UNDEFINED
    total = as_number(sum(map(float, values)))  # in doubles, as the service adds: beyond their range is undefined
    if name == "SUM":
        return total
    return as_number(total / len(values)) if values and total is not UNDEFINED else UNDEFINED


def partial(call: Call) -> Node:
    """What one range contributes, as an expression of the rewritten query."""
    count = ("count", nodes.Call("COUNT", call.arguments))
    if call.name == "AVG":
        return _object(("item", _object(("sum", nodes.Call("SUM", call.arguments)), count)))
    if call.name in {"MIN", "MAX"}:
        return _object(("item", call), ("item2", _object((call.name.lower(), call), count)))
    return _object(("item", call))


def _object(*entries: tuple[str, Node]) -> Node:
    return nodes.ObjectLiteral(entries)
