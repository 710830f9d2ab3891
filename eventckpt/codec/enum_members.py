"""Which member of an enum a stored value means, where the enum has other members or values now than it had then.

Members are stored by value, and values move: one more `auto()` at the top gives each member that of its neighbour. The
record of all members says which name a value had; that name is looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import EnumMeta, Flag
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import CheckpointDecodeError
from . import forms as f

if TYPE_CHECKING:
    from .evolution import Evolution

__all__ = ["Members"]

_SHORT: Final = 80  # characters of a stored name that a message gives


class Members:
    """The members of one enum, then and now.

    Args:
        evolution: is told of a member that was renamed.
        cls: the enum as it is now.
        key: its key in the store.
        then: the recorded members, [name, stored value] each.
        decoded: gives the value of such a stored one.
    """

    def __init__(
        self, evolution: Evolution, cls: type[Any], key: str, then: list[list[Any]], decoded: Callable[[Any], Any]
    ) -> None:
        self._evolution = evolution
        self._cls = cast(EnumMeta, cls)
        self._key = key
        self._then: dict[str, Any] = {name: decoded(value) for name, value in then}
        self._atoms: dict[tuple[type[Any], Any], list[str]] = {}
        self._others: list[tuple[str, Any]] = []
        for name, value in self._then.items():
            if f.type_of(value) in f.ATOMS:
                self._atoms.setdefault((f.type_of(value), value), []).append(name)
            else:
                self._others.append((name, value))
        new: set[str] = {cast(Any, each).name for each in self._cls.__members__.values()} - self._then.keys()
        self._only_new: str | None = new.pop() if len(new) == 1 else None

    def value_now(self, args: list[Any]) -> list[Any]:
        """The value that the member has now which had the stored one."""
        if len(args) != 1:
            return args
        value = args[0]
        names = self._names(value)
        if names:
            return [self._now(names, value)]
        if issubclass(self._cls, Flag) and type(value) is int:
            return [self._combined(value)]
        return args

    def by_name(self, name: str) -> Any:
        """The member that was stored by its name."""
        return cast(Any, self._cls)(self._now([name], self._then.get(name)))

    def _names(self, value: Any) -> list[str]:
        if f.type_of(value) in f.ATOMS:
            return self._atoms.get((f.type_of(value), value), [])
        return [name for name, other in self._others if type(value) is type(other) and value == other]

    def _now(self, names: list[str], value: Any) -> Any:
        """The value of the member that has one of these names now; else of the only member that is new, if it has the
        stored value."""
        for name in names:
            if name in self._cls.__members__:
                return cast(Any, self._cls.__members__[name])._value_
        renamed = None if self._only_new is None else cast(Any, self._cls.__members__[self._only_new])
        if renamed is None or type(renamed._value_) is not type(value) or renamed._value_ != value:
            raise CheckpointDecodeError(
                f"The enum {self._key[:_SHORT]!r} has no member {names[0][:_SHORT]!r} any more. Keep the name as an "
                "alias of what it is called now, or give an upcaster."
            )
        self._evolution.note_renamed(self._key, names[0][:_SHORT], renamed.name)
        return renamed._value_

    def _combined(self, value: int) -> int:
        """A combination of flags, member by member."""
        now, rest = 0, value
        for name, bit in self._then.items():
            if type(bit) is int and bit > 0 and bit & (bit - 1) == 0 and rest & bit:
                now |= cast(int, self._now(self._names(bit) or [name], bit))
                rest &= ~bit
        mask = 0
        for member in self._cls.__members__.values():
            mask |= cast(Any, member)._value_
        if rest and (rest < 0 or rest & mask):
            raise CheckpointDecodeError(
                f"The flags {self._key[:_SHORT]!r} have changed, and a stored combination has bits that no member had. "
                "Give an upcaster."
            )
        return now | rest
