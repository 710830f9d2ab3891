"""Partial updates: add, set, replace, remove, incr and move, with an optional `from c where …` condition."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import bad_request, precondition_failed
from .sql import compile_predicate
from .sql.parser import parse_filter
from .sql.values import UNDEFINED, as_number

_MOST_OPERATIONS = 10
_LONGEST_INDEX = 10
_SYSTEM = frozenset({"id", "_rid", "_self", "_etag", "_ts", "_attachments"})


@dataclass(frozen=True)
class Patch:
    operations: Sequence[Mapping[str, Any]]
    condition: str | None = None

    @classmethod
    def parse(cls, body: Any) -> Patch:
        """`{operations, condition}`, or the operations alone: JavaScript's client sends either as it was given it."""
        given = {"operations": body} if isinstance(body, list) else body
        if not isinstance(given, Mapping):
            raise bad_request("A patch is an object with operations, or a list of them.")
        operations, condition = given.get("operations"), given.get("condition")
        if not isinstance(operations, list) or not 1 <= len(operations) <= _MOST_OPERATIONS:
            raise bad_request(f"A patch has between 1 and {_MOST_OPERATIONS} operations.")
        if not all(isinstance(operation, Mapping) for operation in operations):
            raise bad_request("The operations of a patch are objects.")
        if condition is not None and not isinstance(condition, str):
            raise bad_request("The condition of a patch is a text.")
        return cls(operations, condition or None)

    def apply(self, body: Mapping[str, Any], key_paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
        """The document after the operations, in order; the original is left alone."""
        if self.condition is not None:
            alias, predicate = parse_filter(self.condition)
            if not compile_predicate(alias, predicate)(dict(body)):
                raise precondition_failed()
        patched = copy.deepcopy(dict(body))
        for operation in self.operations:
            _apply(patched, operation, key_paths)
        return patched


def _apply(document: dict[str, Any], operation: Mapping[str, Any], key_paths: Sequence[tuple[str, ...]]) -> None:
    path = _changeable(operation.get("path"), key_paths)
    match operation.get("op"):
        case "add":
            _place(document, path, _value(operation), insert=True)
        case "set":
            _place(document, path, _value(operation), insert=False)
        case "replace":
            _find(document, path)
            _place(document, path, _value(operation), insert=False)
        case "remove":
            _remove(document, path)
        case "incr" | "increment":
            _increment(document, path, _value(operation))
        case "move":
            source = _changeable(operation.get("from"), key_paths)
            value = _find(document, source)
            _remove(document, source)
            _place(document, path, value, insert=True)
        case other:
            raise bad_request(f"The patch operation {other!r} is not known.")


def _changeable(path: Any, key_paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    steps = _steps(path)
    if steps[0] in _SYSTEM or steps in key_paths:
        raise bad_request(f"Cannot patch the system property or partition key '{path}'.")
    return steps


def _steps(path: Any) -> tuple[str, ...]:
    if not isinstance(path, str) or not path.startswith("/") or path == "/":
        raise bad_request(f"The patch path {path!r} is not valid.")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise bad_request(f"The patch operation {operation.get('op')!r} needs a value.")
    return operation["value"]


def _parent(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    parent: Any = document
    for step in path[:-1]:
        parent = _child(parent, step, path)
    return parent


def _child(parent: Any, step: str, path: tuple[str, ...]) -> Any:
    if isinstance(parent, dict) and step in parent:
        return parent[step]
    if isinstance(parent, list) and _is_index(step) and int(step) < len(parent):
        return parent[int(step)]
    raise bad_request(f"The patch path '/{'/'.join(path)}' does not exist.")


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < _LONGEST_INDEX


def _find(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    return _child(_parent(document, path), path[-1], path)


def _place(document: dict[str, Any], path: tuple[str, ...], value: Any, *, insert: bool) -> None:
    parent, last = _parent(document, path), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
        return
    if not isinstance(parent, list) or not (last == "-" or _is_index(last)):
        raise bad_request(f"The patch path '/{'/'.join(path)}' does not exist.")
    index = len(parent) if last == "-" else int(last)
    if index > len(parent) or (index == len(parent) and not insert and last != "-"):
        raise bad_request(f"The patch path '/{'/'.join(path)}' is beyond the end of the array.")
    if insert or index == len(parent):
        parent.insert(index, value)
    else:
        parent[index] = value


def _remove(document: dict[str, Any], path: tuple[str, ...]) -> None:
    _find(document, path)
    parent, last = _parent(document, path), path[-1]
    del parent[last if isinstance(parent, dict) else int(last)]


def _increment(document: dict[str, Any], path: tuple[str, ...], by: Any) -> None:
    parent = _parent(document, path)
    before = parent.get(path[-1], 0) if isinstance(parent, dict) else _find(document, path)
    numbers = [value for value in (before, by) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2:
        raise bad_request("The patch operation 'incr' needs numbers.")
    after = as_number(before + by)
    if after is UNDEFINED:
        raise bad_request("The patch operation 'incr' leaves the range of numbers.")
    _place(document, path, after, insert=False)
