"""Which member of an enum a stored value means, where the enum has other members or values now than it had then.

Members are stored by value, and values move: one more `auto()` at the top gives each member that of its neighbour. The
record of all members says which name a value had; that name is looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import EnumMeta, Flag
from typing import Any, Final, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from . import shapes as s
from .drift import Drift, Drifts
from .forms import SHORT
from .work import Work

__all__ = ["FLAG_BITS", "Members"]

FLAG_BITS: Final = 1_024
"""Bits of a combination of flags: of more, Python's own loops over them would take long."""

_STEP: Final = 8  # steps, as `work` counts them, that it takes to look at a flag


class Members:
    """The members of one enum, then and now.

    Args:
        drifts: are told of a member that was renamed.
        cls: the enum as it is now.
        key: its key in the store.
        then: the recorded shape, with its members, [name, stored value] each.
        decoded: gives the value of such a stored one.
        work: counts the hashing and comparing of values.
    """

    def __init__(
        self,
        drifts: Drifts,
        cls: type[Any],
        key: str,
        then: dict[str, Any],
        decoded: Callable[[Any], Any],
        work: Work,
    ) -> None:
        self._drifts = drifts
        self._now: dict[str, Any] = dict(cast(EnumMeta, cls).__members__)
        self._cls = cls
        self._key = key
        self._work = work
        self._then: dict[str, Any] = {name: decoded(value) for name, value in then[s.MEMBERS]}
        self._were_flags = then[s.KIND] == s.FLAG
        self._hashed: dict[tuple[type[Any], Any], str] = {}
        """The name of a value: of several that is kept which the enum still has."""
        self._others: list[tuple[Any, str]] = []
        """Likewise of values that cannot be hashed."""
        self._alike: Counter[tuple[type[Any], int]] = Counter()
        """How many values of `_hashed` have one hash: each is compared with whatever is looked for that has it too."""
        for name, value in self._then.items():
            self._keep(name, value)
        self._bits = [
            (value, name)
            for (kind, value), name in self._hashed.items()
            if kind is int and value > 0 and value & (value - 1) == 0 and value.bit_length() <= FLAG_BITS
        ]
        new: set[str] = {each.name for each in self._now.values()} - self._then.keys()
        self._only_new: str | None = new.pop() if len(new) == 1 else None

    def _keep(self, name: str, value: Any) -> None:
        known = self._name(value)
        if known is not None and (known in self._now or name not in self._now):
            return
        try:
            if known is None:
                self._alike[f.type_of(value), hash(value)] += 1
            self._hashed[f.type_of(value), value] = name
        except TypeError:
            self._others.insert(0, (value, name))

    def _name(self, value: Any) -> str | None:
        """The name that a value had."""
        cls = f.type_of(value)
        try:
            if cls not in f.ATOMS:
                self._work.check_keys([value])
            alike = self._alike[cls, hash(value)]
            if alike > 1 or (alike and cls not in f.ATOMS):
                self._work.compare(value, alike)
            return self._hashed.get((cls, value))
        except TypeError:  # cannot be hashed: compared with each
            self._work.check_shown([value] * len(self._others))
        return next((name for other, name in self._others if f.type_of(other) is cls and value == other), None)

    def value_now(self, args: list[Any]) -> list[Any]:
        """The value that the member has now which had the stored one."""
        if len(args) != 1:
            return args
        value = args[0]
        name = self._name(value)
        if name is not None:
            return [self._value_of(name, value)]
        if issubclass(self._cls, Flag) and f.type_of(value) is int and value.bit_length() <= FLAG_BITS:
            return [self._combined(value)]
        if self._were_flags and not issubclass(self._cls, Flag):
            raise CheckpointDecodeError(
                f"The enum {self._key[:SHORT]!r} was one of flags, and a stored value is no single one of them. Give "
                "an upcaster."
            )
        return args

    def by_name(self, name: str) -> Any:
        """The member that was stored by its name."""
        return cast(Any, self._cls)(self._value_of(name, self._then.get(name)))

    def _value_of(self, name: str, value: Any) -> Any:
        """The value of the member of this name; else of the only member that is new, if it has the stored value."""
        if name in self._now:
            return self._now[name]._value_
        renamed = None if self._only_new is None else self._now[self._only_new]
        if renamed is None or f.type_of(renamed._value_) is not f.type_of(value) or renamed._value_ != value:
            raise CheckpointDecodeError(
                f"The enum {self._key[:SHORT]!r} has no member {name[:SHORT]!r} any more. Keep the name as an "
                "alias of what it is called now, or give an upcaster."
            )
        text = (
            f"The enum {self._key[:SHORT]!r} has no member {name[:SHORT]!r} any more; by its value it is "
            f"{renamed.name!r}."
        )
        self._drifts.note(Drift(self._key, "member", name[:SHORT], text), even_so=True)
        return renamed._value_

    def _combined(self, value: int) -> int:
        """A combination of flags, member by member."""
        self._work.spend(_STEP * (len(self._bits) + len(self._now)))
        now, rest = 0, value
        for bit, name in self._bits:
            if rest & bit:
                now |= cast(int, self._value_of(name, bit))
                rest &= ~bit
        mask = 0
        for member in self._now.values():
            mask |= member._value_
        if rest and (rest < 0 or rest & mask):
            raise CheckpointDecodeError(
                f"The flags {self._key[:SHORT]!r} have changed, and a stored combination has bits that no member had. "
                "Give an upcaster."
            )
        return now | rest
