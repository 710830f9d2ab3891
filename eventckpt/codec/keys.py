"""What becomes of keys, and of elements of sets, whose class compares or hashes otherwise than when they were stored.

Keys that a dict had beside each other may be equal now: their class has a field less, compares without one, its members
have other values, or an upcaster made one of two. Python would keep one of their values and drop the others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, cast

from ..allowlist import type_key
from ..errors import CheckpointDecodeError
from .forms import SHORT, type_of
from .work import Work

__all__ = ["SETS", "check_elements", "check_hashed", "fill", "put"]

_LENGTH: Final = cast(Any, dict).__len__
_PLAIN_SETTERS: Final = (cast(Any, dict).__setitem__, cast(Any, OrderedDict).__setitem__)
"""Of dicts that keep what they are given; of others only they know."""
SETS: Final = frozenset({set, frozenset})
"""Types of the interpreter whose instances, and those of their subclasses, drop an element that is equal to another."""


def check_hashed(keys: list[Any], work: Work) -> None:
    """Count what hashing and comparing keys takes, and hash them.

    Raises:
        CheckpointDecodeError: it is too much, or one cannot be hashed.
    """
    try:
        work.check_keys(keys)
    except (CheckpointDecodeError, RecursionError):
        raise
    except Exception as error:
        key = next((key for key in keys if not _can_be_hashed(key)), None)
        reason = type(error).__name__ + (f": {str(error)[:300]}" if {str}.issuperset(map(type, error.args)) else "")
        raise CheckpointDecodeError(
            f"A stored key of a dict or element of a set, {_named(key)}, cannot be hashed now: {reason}. Has a class "
            "changed, so that it cannot be a key any more, or lacks a field? Give it back its hash (frozen=True, a "
            "__hash__), or what is missing by a default or an upcaster."
        ) from error


def _check_kept(keys: list[Any], kept: int) -> None:
    """Refuse a dict or a set that has fewer keys than were stored.

    Args:
        keys: those that were stored.
        kept: how many it has.

    Raises:
        CheckpointDecodeError: two keys are equal now.
    """
    if kept >= len(keys):
        return
    seen: dict[Any, Any] = {}
    for key in keys:
        if key in seen:
            raise CheckpointDecodeError(
                f"Two stored keys of a dict or elements of a set, {_named(seen[key])} and {_named(key)}, are equal "
                "now, and one would be lost. Has a class changed how it is compared, or which fields or values it has? "
                "Let them differ again, if need be by an upcaster, or load them with the older class."
            )
        seen[key] = key


def check_elements(made: Any, args: list[Any]) -> None:
    """Refuse a set that was made from a list and has fewer elements.

    Raises:
        CheckpointDecodeError: two elements are equal now.
    """
    if len(args) == 1 and type_of(args[0]) is list:
        _check_kept(args[0], len(made))


def fill(made: set[Any], elements: list[Any], work: Work) -> None:
    """Put elements into a new set, and count what that takes.

    Raises:
        CheckpointDecodeError: it is too much, one cannot be hashed, or two are equal now.
    """
    check_hashed(elements, work)
    made.update(elements)
    if len(made) < len(elements):
        _check_kept(elements, len(made))


def put(target: Any, pairs: list[list[Any]], work: Work) -> None:
    """Put pairs into a new dict, or what is filled like one, and count what that takes.

    Raises:
        CheckpointDecodeError: it is too much, a key cannot be hashed, or `target` is filled as a dict is, and two keys
            are equal now.
    """
    keys = [key for key, _ in pairs]
    check_hashed(keys, work)
    counts = getattr(type_of(target), "__setitem__", None) in _PLAIN_SETTERS and not _LENGTH(target)
    for key, item in pairs:
        target[key] = item
    if counts:
        _check_kept(keys, _LENGTH(target))


def _named(value: Any) -> str:
    return f"of the class {type_key(type_of(value))[:SHORT]!r}"


def _can_be_hashed(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True
