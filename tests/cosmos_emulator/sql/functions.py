"""The built-in scalar functions, by name. An argument of the wrong type, or undefined, makes the result undefined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import bad_request, unsupported
from .values import UNDEFINED, equal, matches_partially


@dataclass(frozen=True)
class Function:
    apply: Callable[..., Any]
    fewest: int
    most: int


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _on_text(function: Callable[..., Any], texts: int = 1) -> Callable[..., Any]:
    """The function, for leading string arguments; undefined for anything else."""

    def apply(*values: Any) -> Any:
        return function(*values) if all(isinstance(value, str) for value in values[:texts]) else UNDEFINED

    return apply


def _text_test(test: Callable[[str, str], bool]) -> Callable[..., Any]:
    """A test of two strings with the optional third argument `ignore case`."""

    def apply(text: Any, part: Any, ignore_case: Any = False) -> Any:
        if not isinstance(text, str) or not isinstance(part, str) or not isinstance(ignore_case, bool):
            return UNDEFINED
        return test(_folded(text), _folded(part)) if ignore_case else test(text, part)

    return apply


def _folded(text: str) -> str:
    """Without case, one character for one: the service does not take ß for ss."""
    return "".join(lower if len(lower := letter.lower()) == 1 else letter for letter in text)


def _on_number(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda value: function(value) if _is_number(value) else UNDEFINED


def _type_test(test: Callable[[Any], bool]) -> Callable[..., Any]:
    return lambda value: value is not UNDEFINED and test(value)


def _array_contains(array: Any, wanted: Any, partial: Any = False) -> Any:
    if not isinstance(array, list) or wanted is UNDEFINED:
        return False if wanted is not UNDEFINED and array is not UNDEFINED else UNDEFINED
    matches = matches_partially if partial is True else equal
    return any(matches(value, wanted) for value in array)


def _array_length(array: Any) -> Any:
    return len(array) if isinstance(array, list) else UNDEFINED


def _concat(*parts: Any) -> Any:
    return "".join(parts) if all(isinstance(part, str) for part in parts) else UNDEFINED


def _substring(text: Any, start: Any, length: Any) -> Any:
    if not isinstance(text, str) or not _is_number(start) or not _is_number(length):
        return UNDEFINED
    begin = max(0, int(start))
    return text[begin : begin + max(0, int(length))]


def _left(text: Any, length: Any) -> Any:
    return _substring(text, 0, length)


def _right(text: Any, length: Any) -> Any:
    if not isinstance(text, str) or not _is_number(length):
        return UNDEFINED
    return text[max(0, len(text) - int(length)) :] if length > 0 else ""


def _index_of(text: Any, part: Any, start: Any = 0) -> Any:
    if not isinstance(text, str) or not isinstance(part, str) or not _is_number(start):
        return UNDEFINED
    return text.find(part, max(0, int(start)))


def _replace(text: Any, old: Any, new: Any) -> Any:
    return text.replace(old, new)


def _round(value: float) -> float:
    """Halves go away from zero, unlike Python's."""
    return math.copysign(math.floor(abs(value) + 0.5), value) if value != int(value) else value


def check_arity(name: str, arguments: Sequence[Any]) -> None:
    """An aggregate takes one argument; a scalar function what it declares."""
    if name == "TRIM" and len(arguments) == 2:
        raise unsupported("TRIM of given characters")
    fewest, most = (FUNCTIONS[name].fewest, FUNCTIONS[name].most) if name in FUNCTIONS else (1, 1)
    if not fewest <= len(arguments) <= most:
        raise bad_request(f"The {name} function takes {fewest} to {most} arguments, not {len(arguments)}.")


_PRIMITIVES = (bool, int, float, str, type(None))
FUNCTIONS: dict[str, Function] = {
    "IS_DEFINED": Function(lambda value: value is not UNDEFINED, 1, 1),
    "IS_NULL": Function(_type_test(lambda value: value is None), 1, 1),
    "IS_BOOL": Function(_type_test(lambda value: isinstance(value, bool)), 1, 1),
    "IS_NUMBER": Function(_type_test(_is_number), 1, 1),
    "IS_STRING": Function(_type_test(lambda value: isinstance(value, str)), 1, 1),
    "IS_ARRAY": Function(_type_test(lambda value: isinstance(value, list)), 1, 1),
    "IS_OBJECT": Function(_type_test(lambda value: isinstance(value, dict)), 1, 1),
    "IS_PRIMITIVE": Function(_type_test(lambda value: isinstance(value, _PRIMITIVES)), 1, 1),
    "STARTSWITH": Function(_text_test(str.startswith), 2, 3),
    "ENDSWITH": Function(_text_test(str.endswith), 2, 3),
    "CONTAINS": Function(_text_test(lambda text, part: part in text), 2, 3),
    "STRINGEQUALS": Function(_text_test(str.__eq__), 2, 3),
    "ARRAY_CONTAINS": Function(_array_contains, 2, 3),
    "ARRAY_LENGTH": Function(_array_length, 1, 1),
    "LENGTH": Function(_on_text(len), 1, 1),
    "LOWER": Function(_on_text(str.lower), 1, 1),
    "UPPER": Function(_on_text(str.upper), 1, 1),
    "TRIM": Function(_on_text(str.strip), 1, 1),
    "CONCAT": Function(_concat, 2, 10_000),
    "SUBSTRING": Function(_substring, 3, 3),
    "LEFT": Function(_left, 2, 2),
    "RIGHT": Function(_right, 2, 2),
    "INDEX_OF": Function(_index_of, 2, 3),
    "REPLACE": Function(_on_text(_replace, 3), 3, 3),
    "ABS": Function(_on_number(abs), 1, 1),
    "FLOOR": Function(_on_number(math.floor), 1, 1),
    "CEILING": Function(_on_number(math.ceil), 1, 1),
    "ROUND": Function(_on_number(_round), 1, 1),
}
