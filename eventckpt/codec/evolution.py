"""What becomes of stored values whose class has another shape now: the rules of the decoder for classes that changed.

What was recorded decides (`eventckpt.codec.shapes`). A field that was added gets its default; a field that was added
without one, or is gone while there is a value for it, is drift: an error, or, where the application asked for that, it
is told of and gone on with. A member of an enum is found by its name. A class with a `__setstate__` of its own decides
itself, and the fields that an instance never had, as `model_construct()` leaves them, are not missed: only what was
recorded and what is now are compared, never the instance and the class.

Values from before shapes were recorded get the defaults of fields that they lack, and otherwise come back as they did.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from ..errors import CheckpointDecodeError
from . import shapes as s
from .enum_members import Members
from .messagepack import pack
from .shapes import Field, Shape
from .work import Work

__all__ = ["Change", "Drift", "Evolution", "OnDrift"]

OnDrift: TypeAlias = Literal["error", "warn"]

_SHORT: Final = 80  # characters of a stored name that a message gives
_ATTRIBUTES: Final = frozenset({s.DATACLASS, s.ATTRS})
"""Kinds whose state is attributes and nothing else."""
_BY_ORDER: Final = frozenset({s.NAMED_TUPLE, s.STRUCT})
"""Kinds whose values are stored in the order of the fields."""
_PLAIN: Final = "plain class"


_ADDED: Final = "was added to the class without a default, and the stored value has none"


class Drift(NamedTuple):
    """A way in which a class has changed such that a stored value does not fit it."""

    type: str
    """The key of the class."""
    kind: Literal["added", "removed", "class", "member"]
    """A required field was added; a field was removed; it is another kind of class; a member of an enum was renamed."""
    name: str
    """Of the field or the member; of a class, what it was."""
    text: str
    """What happened, and what to do."""


class Evolution:
    """How the values of one checkpoint are adapted.

    Args:
        recorded: the shapes that stand in the checkpoint; None: it has none.
        on_drift: "error" raises, "warn" notes the drift and goes on.
    """

    def __init__(self, recorded: dict[str, Any] | None, on_drift: OnDrift) -> None:
        self._recorded = recorded
        self._on_drift = on_drift
        self.drifts: dict[tuple[str, str, str], Drift] = {}
        """What was gone on with, once for each class, kind and name."""
        self._enums: dict[str, Members | None] = {}
        """By their keys; None while one is made, whose values may be of other enums, but not of itself."""

    def then(self, key: str) -> dict[str, Any] | None:
        """The shape that was recorded of a class.

        Raises:
            CheckpointDecodeError: the record is malformed.
        """
        recorded = None if self._recorded is None else self._recorded.get(key)
        if recorded is None:
            return None
        if type(recorded) is not dict or not _is_shape(cast("dict[str, Any]", recorded)):
            raise _malformed(key)
        return cast("dict[str, Any]", recorded)

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
            CheckpointDecodeError: it is another kind of class now.
        """
        then = self.then(key)
        if now is None and then is None:
            return None
        if s.decides_itself(cls):
            return None
        if then is None:
            return self._unrecorded(cls, key)
        if now is not None and pack(then) == now.packed:
            return None
        kind = _PLAIN if now is None else now.node[s.KIND]
        if kind != then[s.KIND] and {kind, then[s.KIND]} != {s.ENUM, s.FLAG}:
            return self._other_kind(key, then[s.KIND], kind)
        if kind in (s.ENUM, s.FLAG):
            return Change(arrange=self._members(cls, key, then, value, work).value_now)
        return self._of_fields(_Fields(self, cls, key, then))

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
            return self._of_fields(_Fields(self, cls, key, {s.KIND: kind, s.FIELDS: list(state)}))
        return Change(attributes=self._model_of_upcast(cls, key, list(state)))

    def _model_of_upcast(self, cls: type[Any], key: str, names: list[str]) -> Callable[[Any, Any], Any]:
        private = [name for name in names if name in s.private_of(cls)]
        kept = s.fields_of(cls) if s.takes_extra(cls) else names
        named = [name for name in names if name in kept and name not in private]
        fields = _Fields(self, cls, key, {s.KIND: s.PYDANTIC, s.FIELDS: named, s.PRIVATE: private})

        def attributes(made: Any, values: Any) -> Any:
            return fields.of_model(made, _as_model(values, named, private))

        return attributes

    def member(self, cls: type[Any], key: str, name: str, value: Callable[[Any], Any], work: Work) -> Any:
        """The member of an enum that was stored by a name which the enum does not have now.

        Raises:
            CheckpointDecodeError: it is not to be found by its value either.
        """
        then = self.then(key)
        if then is None or s.MEMBERS not in then or s.kind_of(cls) not in (s.ENUM, s.FLAG):
            raise CheckpointDecodeError(f"{key[:_SHORT]!r} has no member {name[:_SHORT]!r} now.")
        return self._members(cls, key, then, value, work).by_name(name)

    def _members(
        self, cls: type[Any], key: str, then: dict[str, Any], value: Callable[[Any], Any], work: Work
    ) -> Members:
        """Those of an enum, which are decoded once."""
        if key not in self._enums:
            self._enums[key] = None
            self._enums[key] = Members(self, cls, key, then, value, work)
        members = self._enums[key]
        if members is None:
            raise _malformed(key)
        return members

    def _unrecorded(self, cls: type[Any], key: str) -> Change | None:
        """Of a value from before shapes were recorded, or of a class that had none then."""
        kind = s.kind_of(cls)
        if kind in _BY_ORDER and self._recorded is not None:  # what stands in order has no names to go by
            return self._other_kind(key, _PLAIN, kind)
        if kind not in {*_ATTRIBUTES, s.PYDANTIC}:
            return None
        return self._of_fields(_Fields(self, cls, key, None, strict=self._recorded is not None))

    def _of_fields(self, fields: _Fields) -> Change:
        if fields.kind in _BY_ORDER:
            return Change(arrange=fields.arguments)
        return Change(attributes=fields.of_model if fields.kind == s.PYDANTIC else fields.attributes)

    def _other_kind(self, key: str, then: str, kind: str) -> None:
        text = (
            f"The class {key[:_SHORT]!r} was of the kind {then[:_SHORT]!r} when the value was stored, and is of the "
            f"kind {kind!r} now. An upcaster can make the one from the other, or its __setstate__."
        )
        drift = Drift(key, "class", then, text)
        if {then, kind} <= _ATTRIBUTES | {_PLAIN}:  # attributes either way
            self.note(drift)
        else:
            raise CheckpointDecodeError(text)

    def note(self, drift: Drift, *, even_so: bool = False) -> None:
        """Go on with a drift, or not.

        Args:
            drift: what to go on with.
            even_so: also where drift is an error.

        Raises:
            CheckpointDecodeError: it is an error.
        """
        if self._on_drift == "error" and not even_so:
            raise CheckpointDecodeError(drift.text)
        self.drifts.setdefault(drift[:3], drift)

    def note_renamed(self, key: str, name: str, now: str) -> None:
        """Note that a member of an enum was found by its value, under another name."""
        text = f"The enum {key[:_SHORT]!r} has no member {name!r} any more; by its value it is {now!r}."
        self.note(Drift(key, "member", name, text), even_so=True)


class Change(NamedTuple):
    """What the decoder does with the values of a class that has changed."""

    attributes: Callable[[Any, Any], Any] | None = None
    """The state to restore, from the instance and the state that was stored."""
    arrange: Callable[[list[Any]], list[Any]] | None = None
    """The arguments to make an instance with, from those that were stored."""


class _Fields:
    """The fields of one class, then and now.

    Args:
        evolution: tells what to do about drift.
        cls: the class as it is now.
        key: its key in the store.
        then: the recorded shape; None: none was recorded.
        strict: whether a required field without a value is missed though nothing was recorded.
    """

    def __init__(
        self, evolution: Evolution, cls: type[Any], key: str, then: dict[str, Any] | None, *, strict: bool = True
    ) -> None:
        self._evolution = evolution
        self._key = key
        self.kind = s.kind_of(cls)
        self._cls = cls
        self._now = s.fields_of(cls)
        self._then: list[str] | None = None if then is None else then[s.FIELDS]
        self._names_then = frozenset(self._then or ())
        self._private_then: frozenset[str] = frozenset(() if then is None else then.get(s.PRIVATE, ()))
        self._is_recorded = then is not None
        self._strict = strict

    def attributes(self, made: Any, state: Any) -> Any:
        """The attributes of a dataclass or an attrs class, as its state has them now."""
        values = self._by_name(state)
        if "__pydantic_fields_set__" in values:
            raise CheckpointDecodeError(self._text("__dict__", "is a part of the stored value, as it is of a model's"))
        self._drop_removed(values, self._names_then, self._now)
        self._add(made, values)
        if s.is_ordered(self._cls):
            self._drop_removed(values, values.keys(), self._now)
            return self._in_order(values)
        set_by_name = {*s.slots_of(self._cls), *(_slots_in(state) - self._now.keys())}
        slots = {name: values.pop(name) for name in sorted(set_by_name) if name in values}
        return (values or None, slots) if slots else values

    def _by_name(self, state: Any) -> dict[str, Any]:
        if type(state) is list:
            names = self._then if self._then is not None else list(self._now)
            items = cast("list[Any]", state)
            if len(items) != len(names):
                raise CheckpointDecodeError(
                    f"A stored {self._key[:_SHORT]!r} has {len(items)} values for {len(names)} fields."
                )
            return dict(zip(names, items, strict=True))
        values: dict[str, Any] = {}
        for part in cast("tuple[Any, ...]", state if type(state) is tuple else (state,)):
            if part is not None:
                values.update(part)
        return values

    def of_model(self, made: Any, state: Any) -> Any:
        """The state of a pydantic model: its fields, its private attributes, and values of other names."""
        if type(state) is not dict or "__dict__" not in state:  # the model itself would take it for an empty one
            raise CheckpointDecodeError(self._text("__dict__", "is no part of the stored value, as it is of a model's"))
        parts = dict(cast("dict[str, Any]", state))
        values, extra = dict(parts["__dict__"]), dict(parts.get("__pydantic_extra__") or {})
        removed = self._drop_removed(values, self._names_then, self._now)
        for name in [name for name in extra if self._is_recorded and name in self._now]:
            values[name] = extra.pop(name)  # and stands in the set of the fields that were given, as it did
        self._add(made, values)
        takes_extra = s.takes_extra(self._cls)
        if self._is_recorded:
            for name in [] if takes_extra else list(extra):
                self._drift("removed", name, "is a value beside the fields, which the model does not keep any more")
                del extra[name]
            parts["__pydantic_extra__"] = extra if takes_extra else None
        parts["__dict__"] = values
        parts["__pydantic_fields_set__"] = set(parts.get("__pydantic_fields_set__") or ()) - removed
        parts["__pydantic_private__"] = self._private(made, values, parts.get("__pydantic_private__"))
        return parts

    def _private(self, made: Any, public: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any] | None:
        now = s.private_of(self._cls)
        values = dict(stored or {})
        self._drop_removed(values, self._private_then, now)
        for name, field in now.items():
            if name not in values and name not in self._private_then and field.default is not None:
                values[name] = self._default(field, made, public | values)
        return values if now or values else None

    def arguments(self, args: list[Any]) -> list[Any]:
        """The values of a named tuple or a struct, in the order that its fields have now."""
        values = self._by_name(args)
        self._drop_removed(values, self._names_then, self._now)
        self._add(None, values)
        return self._in_order(values)

    def _in_order(self, values: dict[str, Any]) -> list[Any]:
        for name in self._now:
            if name not in values:
                raise CheckpointDecodeError(self._text(name, _ADDED))
        return [values[name] for name in self._now]

    def _drop_removed(self, values: dict[str, Any], then: Set[str], now: dict[str, Field]) -> set[str]:
        """Take out the values of fields that are gone."""
        removed = {name for name in values if name not in now and name in then}
        for name in sorted(removed):
            self._drift("removed", name, "has a stored value, and is no field of the class any more")
            del values[name]
        return removed

    def _add(self, made: Any, values: dict[str, Any]) -> None:
        """Fill in the fields that were added."""
        given = getattr(made, "__dict__", ())  # of an exception, which its constructor made
        for name, field in self._now.items():
            if name in values or name in self._names_then or name in given:
                continue
            if field.default is not None:
                values[name] = self._default(field, made, values)
            elif self._strict:
                self._drift("added", name, _ADDED)

    def _default(self, field: Field, made: Any, values: dict[str, Any]) -> Any:
        try:
            return cast(Any, field.default)(made, values)
        except Exception as error:
            raise CheckpointDecodeError(
                f"The default of the field {field.name!r}, which was added to {self._key[:_SHORT]!r}, cannot be made: "
                f"{type(error).__name__}: {str(error)[:300]}."
            ) from error

    def _drift(self, kind: Literal["added", "removed"], name: str, what: str) -> None:
        self._evolution.note(Drift(self._key, kind, name[:_SHORT], self._text(name, what)))

    def _text(self, name: str, what: str) -> str:
        return (
            f"The class {self._key[:_SHORT]!r} has changed since the value was stored: {name[:_SHORT]!r} {what}. "
            "Give it a default or keep it, or say by an upcaster or its __setstate__ what becomes of it."
        )


def _malformed(key: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"The recorded shape of {key[:_SHORT]!r} is malformed; the event is damaged.")


def _member_of(cls: type[Any], key: str, state: dict[str, Any]) -> Any:
    """The value of the member that an upcaster named: by its name, else by its value."""
    members = cast("dict[str, Any]", cast(Any, cls).__members__)
    name = state.get("name")
    if type(name) is str and name in members:
        return members[name]._value_
    if name is None and "value" in state:
        return state["value"]
    raise CheckpointDecodeError(f"The upcaster of {key[:_SHORT]!r} named no member of it: {str(name)[:_SHORT]!r}.")


def _as_model(values: dict[str, Any], named: list[str], private: list[str]) -> dict[str, Any]:
    """The state of a pydantic model that has these values."""
    return {
        "__dict__": {name: values[name] for name in named},
        "__pydantic_extra__": {
            name: each for name, each in values.items() if name not in named and name not in private
        },
        "__pydantic_fields_set__": set(named),
        "__pydantic_private__": {name: values[name] for name in private},
    }


def _slots_in(state: Any) -> set[str]:
    """The names that a state sets one by one, as slots: any but a field's are looked at again where they are set."""
    parts = cast("tuple[Any, ...]", state) if type(state) is tuple else ()
    return set(cast("dict[str, Any]", parts[1] or {})) if len(parts) == 2 else set()


def _is_shape(shape: dict[str, Any]) -> bool:
    """Whether a record has the form that shapes have."""
    names: list[Any] = []
    for field in (s.FIELDS, s.PRIVATE, s.SLOTS):
        listed = shape.get(field, [])
        if type(listed) is not list:
            return False
        names += cast("list[Any]", listed)
    members = shape.get(s.MEMBERS, [])
    if type(members) is not list or not {str}.issuperset(map(type, [shape.get(s.KIND), *names])):
        return False
    if (s.MEMBERS in shape) != (shape[s.KIND] in (s.ENUM, s.FLAG)) or (s.FIELDS in shape) == (s.MEMBERS in shape):
        return False
    return all(
        type(each) is list and len(cast("list[Any]", each)) == 2 and type(cast("list[Any]", each)[0]) is str
        for each in cast("list[Any]", members)
    )
