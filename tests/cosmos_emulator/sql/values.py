"""How Cosmos SQL compares values: `undefined` beside `null`, equality by type, and one total order over all types."""

from __future__ import annotations

import json
import math
from typing import Any


class _Undefined:
    """The value of a path that is not there; a singleton, falsy, never written to JSON."""

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED = _Undefined()
_EXACT_INTEGERS = 2**53


def type_rank(value: Any) -> int:
    """Position of the value's type in the order undefined < null < boolean < number < string < array < object."""
    if value is UNDEFINED:
        return 0
    if value is None:
        return 1
    if isinstance(value, bool):
        return 2
    if isinstance(value, int | float):
        return 3
    if isinstance(value, str):
        return 4
    return 5 if isinstance(value, list) else 6


def sort_key(value: Any) -> tuple[int, Any]:
    """A key under which values of all types sort as ORDER BY sorts them."""
    rank = type_rank(value)
    if rank < 2:
        return rank, 0
    if rank > 4:
        return rank, json.dumps(value, sort_keys=True)
    return rank, value


def equal(left: Any, right: Any) -> bool:
    """Deep equality that tells `true` from 1, and takes 1 and 1.0 for the same number."""
    rank = type_rank(left)
    if rank != type_rank(right):
        return False
    if rank == 5:
        return len(left) == len(right) and all(map(equal, left, right))
    if rank == 6:
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    return rank < 2 or left == right


def matches_partially(value: Any, pattern: Any) -> bool:
    """ARRAY_CONTAINS(…, true): every property of the pattern is in the value; other properties do not matter."""
    if isinstance(value, dict) and isinstance(pattern, dict):
        return all(key in value and matches_partially(value[key], part) for key, part in pattern.items())
    return equal(value, pattern)


def as_number(value: float) -> Any:
    """A result as JSON can hold it: a double; undefined beyond its range; whole ones that are exact as integers."""
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_INTEGERS else _as_double(value)
    if math.isnan(value) or math.isinf(value):
        return UNDEFINED
    return int(value) if value.is_integer() and abs(value) <= _EXACT_INTEGERS else value


def _as_double(value: int) -> Any:
    try:
        return int(float(value))
    except OverflowError:
        return UNDEFINED


def hashable(value: Any) -> str:
    """A text that is the same for equal values: how DISTINCT recognises what it has already returned."""
    return json.dumps(_numbers_as_floats(value), sort_keys=True)


def _numbers_as_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers_as_floats(part) for part in value]
    if isinstance(value, dict):
        return {key: _numbers_as_floats(part) for key, part in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
