"""What becomes of stored values whose class has another shape now: the rules of the decoder for classes that changed.

What was recorded decides (`eventckpt.codec.shapes`). A field that was added gets its default; a field that was added
without one, or is gone while there is a value for it, is drift: an error, or, where the application asked for that, it
is told of and gone on with. A member of an enum is found by its name. A class with a `__setstate__` of its own decides
itself, and the fields that an instance never had, as `model_construct()` leaves them, are not missed: only what was
recorded and what is now are compared, never the instance and the class.

Values from before shapes were recorded get the defaults of fields that they lack, and otherwise come back as they did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from ..errors import CheckpointDecodeError
from . import shapes as s
from .changed_fields import Fields, as_model
from .drift import Drift, Drifts, OnDrift
from .enum_members import Members
from .forms import SHORT
from .shapes import Shape
from .work import Work

__all__ = ["Change", "Evolution"]

_ATTRIBUTES: Final = frozenset({s.DATACLASS, s.ATTRS})
"""Kinds whose state is attributes and nothing else."""
_BY_ORDER: Final = frozenset({s.NAMED_TUPLE, s.STRUCT})
"""Kinds whose values are stored in the order of the fields."""
_PLAIN: Final = "plain class"


class Evolution:
    """How the values of one checkpoint are adapted.

    Args:
        recorded: the shapes that stand in the checkpoint; None: it has none.
        on_drift: "error" raises, "warn" notes the drift and goes on.
    """

    def __init__(self, recorded: dict[str, Any] | None, on_drift: OnDrift) -> None:
        self._recorded = recorded
        self.drifts: Drifts = Drifts(on_drift)
        self._enums: dict[str, Members | None] = {}
        """By their keys; None while one is made, whose values may be of other enums, but not of itself."""

    def change(
        self, cls: type[Any], key: str, now: Shape | None, value: Callable[[Any], Any], work: Work
    ) -> Change | None:
        """What to do about the change of a class; None: it has not changed, or it decides itself.

        Args:
            cls: the class as it is now.
            key: its key in the store.
            now: its shape.
            value: decodes the stored form of an enum's value.
            work: counts what comparing such values takes.

        Raises:
            CheckpointDecodeError: it is another kind of class now, or its record is malformed.
        """
        if now is not None and self._recorded is not None and now.is_as(self._recorded.get(key)):
            return None  # as it nearly always is
        then = s.recorded_shape(self._recorded, key)
        if (now is None and then is None) or s.decides_itself(cls):
            return None
        if then is None:
            return self._unrecorded(cls, key)
        kind = _PLAIN if now is None else now.node[s.KIND]
        if kind != then[s.KIND] and {kind, then[s.KIND]} != {s.ENUM, s.FLAG}:
            return self._other_kind(key, then[s.KIND], kind)
        if kind in (s.ENUM, s.FLAG):
            return Change(arrange=self._members(cls, key, then, value, work).value_now)
        return self._of_fields(Fields(self.drifts, cls, key, then))

    def of_upcast(self, cls: type[Any], key: str, state: dict[str, Any]) -> Change | None:
        """What to do with the state that an upcaster made for a class: its names are all that there is of it.

        Raises:
            CheckpointDecodeError: it names no member of an enum.
        """
        kind = s.kind_of(cls)
        if kind in (s.ENUM, s.FLAG):
            names = list(state)

            def member(args: list[Any]) -> list[Any]:
                return [_member_of(cls, key, dict(zip(names, args, strict=True)))]

            return Change(arrange=member)
        if kind is None or s.decides_itself(cls):
            return None
        if kind != s.PYDANTIC:
            return self._of_fields(Fields(self.drifts, cls, key, {s.KIND: kind, s.FIELDS: list(state)}))
        return Change(attributes=self._model_of_upcast(cls, key, list(state)))

    def _model_of_upcast(self, cls: type[Any], key: str, names: list[str]) -> Callable[[Any, Any], Any]:
        private = [name for name in names if name in s.private_of(cls)]
        kept = s.fields_of(cls) if s.takes_extra(cls) else names
        named = [name for name in names if name in kept and name not in private]
        fields = Fields(self.drifts, cls, key, {s.KIND: s.PYDANTIC, s.FIELDS: named, s.PRIVATE: private})

        def attributes(made: Any, values: Any) -> Any:
            return fields.of_model(made, as_model(values, named, private))

        return attributes

    def member(self, cls: type[Any], key: str, name: str, value: Callable[[Any], Any], work: Work) -> Any:
        """The member of an enum that was stored by a name which the enum does not have now.

        Raises:
            CheckpointDecodeError: it is not to be found by its value either, or the record is malformed.
        """
        then = s.recorded_shape(self._recorded, key)
        if then is None or s.MEMBERS not in then or s.kind_of(cls) not in (s.ENUM, s.FLAG):
            raise CheckpointDecodeError(f"{key[:SHORT]!r} has no member {name[:SHORT]!r} now.")
        return self._members(cls, key, then, value, work).by_name(name)

    def _members(
        self, cls: type[Any], key: str, then: dict[str, Any], value: Callable[[Any], Any], work: Work
    ) -> Members:
        """Those of an enum, which are decoded once."""
        if key not in self._enums:
            self._enums[key] = None
            self._enums[key] = Members(self.drifts, cls, key, then, value, work)
        members = self._enums[key]
        if members is None:
            raise s.malformed_shape(key)
        return members

    def _unrecorded(self, cls: type[Any], key: str) -> Change | None:
        """Of a value from before shapes were recorded, or of a class that had none then."""
        kind = s.kind_of(cls)
        if kind in _BY_ORDER and self._recorded is not None:  # what stands in order has no names to go by
            return self._other_kind(key, _PLAIN, kind)
        if kind not in {*_ATTRIBUTES, s.PYDANTIC}:
            return None
        return self._of_fields(Fields(self.drifts, cls, key, None, strict=self._recorded is not None))

    def _of_fields(self, fields: Fields) -> Change:
        if fields.kind in _BY_ORDER:
            return Change(arrange=fields.arguments)
        return Change(attributes=fields.of_model if fields.kind == s.PYDANTIC else fields.attributes)

    def _other_kind(self, key: str, then: str, kind: str) -> None:
        text = (
            f"The class {key[:SHORT]!r} was of the kind {then[:SHORT]!r} when the value was stored, and is of the "
            f"kind {kind!r} now. An upcaster can make the one from the other, or its __setstate__."
        )
        drift = Drift(key, "class", then, text)
        if {then, kind} <= _ATTRIBUTES | {_PLAIN}:  # attributes either way
            self.drifts.note(drift)
        else:
            raise CheckpointDecodeError(text)


class Change(NamedTuple):
    """What the decoder does with the values of a class that has changed."""

    attributes: Callable[[Any, Any], Any] | None = None
    """The state to restore, from the instance and the state that was stored."""
    arrange: Callable[[list[Any]], list[Any]] | None = None
    """The arguments to make an instance with, from those that were stored."""


def _member_of(cls: type[Any], key: str, state: dict[str, Any]) -> Any:
    """The value of the member that an upcaster named: by its name, else by its value."""
    members = cast("dict[str, Any]", cast(Any, cls).__members__)
    name = state.get("name")
    if type(name) is str and name in members:
        return members[name]._value_
    if name is None and "value" in state:
        return state["value"]
    raise CheckpointDecodeError(f"The upcaster of {key[:SHORT]!r} named no member of it: {str(name)[:SHORT]!r}.")
