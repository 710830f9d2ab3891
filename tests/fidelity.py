"""What "the same value" means for a checkpoint: equal, of equal types, and shared in the same places."""

from __future__ import annotations

import enum
import struct
from collections.abc import Collection, Mapping
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from types import GenericAlias, UnionType
from typing import Any

from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointCodec

_MADE_BY_CLASS_STATEMENT = 1 << 9
_ATOMS = (str, bytes, bytearray, Decimal, date, time, timedelta, tzinfo, range)


def checkpoint(value: Any, **fields: Any) -> WorkflowCheckpoint:
    """A checkpoint like any other of these, but for `value` in its state."""
    fixed = {"checkpoint_id": "c-1", "timestamp": "2026-01-01T00:00:00+00:00", "state": {"value": value}}
    return WorkflowCheckpoint("workflow", "hash", **fixed | fields)


def loaded(codec: CheckpointCodec, value: Any) -> Any:
    """The value after a save and a load."""
    return codec.decode(codec.encode(checkpoint(value))).state["value"]


def assert_same(left: Any, right: Any) -> None:
    """Fail unless `right` is what a perfect copy of `left` would be. Objects are compared by their state."""
    _Comparison().compare(left, right, "value")


class _Comparison:
    def __init__(self) -> None:
        self.left_to_right: dict[int, int] = {}
        self.right_to_left: dict[int, int] = {}
        self.kept: list[Any] = []

    def compare(self, left: Any, right: Any, where: str) -> None:
        assert type(left) is type(right), f"{where}: {type(left)} became {type(right)}"
        if left is None or isinstance(left, (enum.Enum, type)):
            assert left is right, f"{where}: {left!r} became {right!r}"
            return
        # On Python 3.13 the flag is that of Decimal, too, which is an atom: whether it is shared means nothing.
        is_object = type(left) not in _ATOMS and bool(type(left).__flags__ & _MADE_BY_CLASS_STATEMENT)
        if (is_object or type(left).__hash__ is None) and self._met(left, right, where):
            return
        self._compare_content(left, right, where)
        if is_object:
            self.compare(left.__getstate__(), right.__getstate__(), f"{where}.")

    def _met(self, left: Any, right: Any, where: str) -> bool:
        """Whether `left` was compared before; what it was compared to must be `right`, and the other way round."""
        met = id(left) in self.left_to_right
        self.kept.append((left, right))
        assert self.left_to_right.setdefault(id(left), id(right)) == id(right), f"{where}: no longer shared"
        assert self.right_to_left.setdefault(id(right), id(left)) == id(left), f"{where}: shared, and was not"
        return met

    def _compare_content(self, left: Any, right: Any, where: str) -> None:
        match left:
            case float():
                assert struct.pack(">d", left) == struct.pack(">d", right), f"{where}: {left!r} became {right!r}"
            case complex():
                self.compare((left.real, left.imag), (right.real, right.imag), where)
            case slice():
                self.compare((left.start, left.stop, left.step), (right.start, right.stop, right.step), where)
            case BaseException():
                self.compare(left.args, right.args, f"{where}.args")
            case GenericAlias() | UnionType():
                assert left == right, f"{where}: {left!r} became {right!r}"
            case int():
                assert int(left) == int(right), f"{where}: another number"
            case _ if isinstance(left, _ATOMS):
                assert repr(left) == repr(right), f"{where}: {left!r} became {right!r}"
            case Mapping():
                self.compare(tuple(left.items()), tuple(right.items()), f"{where}.items")
            case set() | frozenset():
                self.compare(tuple(sorted(left, key=_fixed)), tuple(sorted(right, key=_fixed)), f"{where}.elements")
            case Collection():
                assert len(left) == len(right), f"{where}: {left!r} became {right!r}"
                for index, pair in enumerate(zip(left, right, strict=True)):
                    self.compare(*pair, f"{where}[{index}]")


def _fixed(element: Any) -> tuple[str, str]:
    """A key that sorts elements of any types the same way everywhere."""
    if isinstance(element, frozenset):
        return type(element).__name__, repr(sorted(map(_fixed, element)))
    if isinstance(element, tuple):
        return type(element).__name__, repr([_fixed(item) for item in element])
    return type(element).__name__, repr(element)
