"""How much a decode may do beyond reading its bytes once.

Hostile bytes can ask for far more work than they have bytes: a tuple of (ref, ref) of (ref, ref) … hashes in 2^n steps
and a deep one ends the process, since hashing descends in C; keys whose hashes are equal are compared each with each.
So whatever is copied, hashed or compared is counted before it is done, and the sum is bounded by the size of the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import Field
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, cast, get_args

from ..errors import CheckpointDecodeError
from . import forms as f
from .type_expressions import is_type_expression

__all__ = ["MAX_WORK", "WORK_PER_BYTE", "Work"]

MAX_WORK: Final = 1_000_000
"""Steps that any decode may take beyond reading its bytes: copying an item, hashing a part of a key, comparing it."""
WORK_PER_BYTE: Final = 8
"""As many more for each byte of the encoded checkpoint."""

_any_tuple, _any_frozenset, _any_set = cast(Any, tuple), cast(Any, frozenset), cast(Any, set)
_any_list, _any_dict = cast(Any, list), cast(Any, dict)
"""The interpreter's own methods, whatever a subclass makes of them."""

_SEEDED: Final = frozenset({str, bytes})
"""Types that are hashed with a secret of the process, so that nobody can make hashes equal."""
_LOOK: Final = 4
"""Steps that it takes to look at a part of a key, in Python, against those that its hash takes."""
_CALL: Final = 20
"""Likewise to hash or compare an object by methods of its class."""


class Work:
    """Counts the work of one decode.

    Args:
        size: bytes of the encoded checkpoint.
    """

    def __init__(self, size: int) -> None:
        self._left = MAX_WORK + WORK_PER_BYTE * size

    def spend(self, steps: int) -> None:
        """Count work that is about to be done.

        Raises:
            CheckpointDecodeError: it is more than the size of the bytes allows for.
        """
        self._left -= steps
        if self._left < 0:
            raise CheckpointDecodeError(
                "Stored values would take far more memory or time to make than their size allows for."
            )

    def check_keys(self, keys: list[Any]) -> None:
        """Count the hashing and comparing that a dict or set takes that gets these keys at once.

        Raises:
            CheckpointDecodeError: it is too much, or a key nests deeper than `MAX_DEPTH`, through references too.
        """
        if _SEEDED.issuperset(map(type, keys)):
            return
        seen: dict[int, int] = {}
        steps = [self._steps(key, seen, 0) for key in keys]
        self.spend(sum(steps))
        hashes = list(map(hash, keys))
        if len(set(hashes)) == len(hashes):
            return
        largest: dict[int, int] = {}
        for hashed, cost in zip(hashes, steps, strict=True):
            largest[hashed] = max(cost, largest.get(hashed, 0))
        self.spend(sum(count * (count - 1) // 2 * largest[hashed] for hashed, count in Counter(hashes).items()))

    def check_shown(self, value: Any) -> None:
        """Count the work of a text of `value`, which an error may make of it."""
        self.spend(self._steps(value, {}, 0, shown=True))

    def _steps(self, value: Any, seen: dict[int, int], depth: int, *, shown: bool = False) -> int:
        """How many steps it takes to hash a value, everything in it again wherever it stands."""
        cls = f.type_of(value)
        if cls in f.ATOMS:
            return (
                1 if cls is not int else 1 + (value.bit_length() ** 2 >> 14)
            )  # compared with a Decimal, it is squared
        known = seen.get(id(value))
        if known is not None:
            return known
        if depth > f.MAX_DEPTH:
            raise CheckpointDecodeError(f"Stored keys nest deeper than {f.MAX_DEPTH} levels.")
        self.spend(_LOOK)
        seen[id(value)] = 1  # where it holds itself, Python's own limit ends the hashing
        steps, parts = _parts_shown(value, cls) if shown else _parts_hashed(value, cls)
        for part in parts:
            steps += self._steps(part, seen, depth + 1, shown=shown)
        seen[id(value)] = steps
        return steps


def _parts_hashed(value: Any, cls: type[Any]) -> tuple[int, Iterable[Any]]:
    """The steps that the hash of a value takes by itself, and what it descends into.

    Of a class that says by a method of its own how it is hashed nothing is known; the application allowed it.
    """
    if issubclass(cls, tuple):
        return 1, _any_tuple.__iter__(value)
    if issubclass(cls, frozenset):
        return 1, _any_frozenset.__iter__(value)
    if issubclass(cls, (range, slice)):
        return 1, (value.start, value.stop, value.step)
    if is_type_expression(value):
        return _CALL, get_args(value)
    return (_CALL, _fields_hashed(value, cls)) if _has_generated_hash(cls) else (1, ())


def _parts_shown(value: Any, cls: type[Any]) -> tuple[int, Iterable[Any]]:
    if issubclass(cls, dict):
        return 1, (*_any_dict.keys(value), *_any_dict.values(value))
    if issubclass(cls, list):
        return 1, _any_list.__iter__(value)
    if issubclass(cls, set):
        return 1, _any_set.__iter__(value)
    steps, parts = _parts_hashed(value, cls)
    return steps, (*parts, *(part for _, part in _attributes(value, cls)))


def _has_generated_hash(cls: type[Any]) -> bool:
    """Whether a class is hashed by all it holds, by a method that dataclasses, attrs or pydantic made."""
    code = getattr(cls.__hash__, "__code__", None)
    module = getattr(cls.__hash__, "__module__", None) or ""
    return code is not None and (code.co_filename.startswith("<") or module.startswith("pydantic."))


def _fields_hashed(value: Any, cls: type[Any]) -> list[Any]:
    fields = cast("dict[str, Field[Any]]", getattr(cls, "__dataclass_fields__", {}))
    left_out = {name for name, field in fields.items() if not (field.compare if field.hash is None else field.hash)}
    return [part for name, part in _attributes(value, cls) if name not in left_out]


def _attributes(value: Any, cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """What lies in an object's slots and `__dict__`; nothing of the class's own is asked."""
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if type(member) is MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # never set
                    continue
            elif name == "__dict__" and type(member) is GetSetDescriptorType:
                yield from member.__get__(value).items()
