"""The shape of a class: what of it a stored value depends on, recorded beside the values and compared at load.

A value is stored by the names of its fields, or by their order, or, of an enum, by the value of its member. So a class
that has other fields or members now than when the value was stored would give a wrong value without a word; that its
shape is another one is how a load finds out (`eventckpt.codec.evolution`). A class that only holds whatever attributes
it is given has no shape; nor has a `TypedDict`, which is a plain dict.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from enum import EnumMeta, Flag
from types import MemberDescriptorType
from typing import Any, Final, NamedTuple, cast

import msgspec

from ..errors import CheckpointDecodeError
from .forms import SHORT
from .messagepack import pack

__all__ = [
    "ATTRS",
    "DATACLASS",
    "ENUM",
    "FIELDS",
    "FLAG",
    "KIND",
    "MEMBERS",
    "NAMED_TUPLE",
    "PRIVATE",
    "PYDANTIC",
    "STRUCT",
    "Field",
    "Shape",
    "Shapes",
    "decides_itself",
    "fields_of",
    "is_model",
    "is_ordered",
    "kind_of",
    "malformed_shape",
    "private_of",
    "recorded_shape",
    "slots_of",
    "takes_extra",
]

# Keys of a recorded shape.
KIND: Final = "k"
FIELDS: Final = "f"  # list: the names of the fields, in their order
PRIVATE: Final = "p"  # list: of a pydantic model, the names of its private attributes, if it has any
SLOTS: Final = "s"  # list: names of the fields that are slots, if any are: where the state has them
ORDERED: Final = "o"  # true: of a dataclass whose state is the list of its fields' values
EXTRA: Final = "e"  # true: of a pydantic model that keeps values of other names
MEMBERS: Final = "m"  # list of [name, value]: of an enum, aliases included

DATACLASS: Final = "dataclass"
PYDANTIC: Final = "pydantic"
ATTRS: Final = "attrs"
STRUCT: Final = "struct"  # of msgspec
NAMED_TUPLE: Final = "namedtuple"
ENUM: Final = "enum"
FLAG: Final = "flag"

_GENERATED: Final = frozenset({"dataclasses", "pydantic.main", "attr._make"})
"""Modules whose `__setstate__` only puts back what the class's fields are: as good as none."""


class Shape(NamedTuple):
    """The shape that a class has now."""

    node: dict[str, Any]
    """As it is recorded."""
    packed: bytes
    """That as MessagePack."""

    def is_as(self, recorded: Any) -> bool:
        """Whether a recorded shape is the same: byte for byte, since 1 is no True."""
        return pack(recorded) == self.packed


class Field(NamedTuple):
    """A field of a class as it is now."""

    name: str
    default: Callable[[Any, dict[str, Any]], Any] | None
    """Gives the value of a field that was added, from the instance and what values it has; None: it is required."""


class Shapes:
    """The shapes of classes, each worked out once.

    Args:
        node_of: the stored form of a member's value; it may raise what `Encoder.tree` does.
    """

    def __init__(self, node_of: Callable[[Any], Any]) -> None:
        self._node_of = node_of
        self._known: dict[type[Any], Shape | None] = {}

    def of(self, cls: type[Any]) -> Shape | None:
        """The shape of a class; None where it has none."""
        if cls not in self._known:
            node = self._made(cls)
            self._known[cls] = None if node is None else Shape(node, pack(node))
        return self._known[cls]

    def _made(self, cls: type[Any]) -> dict[str, Any] | None:
        kind = kind_of(cls)
        if kind is None:
            return None
        if isinstance(cls, EnumMeta):
            return {KIND: kind, MEMBERS: [[name, self._value(member)] for name, member in cls.__members__.items()]}
        node: dict[str, Any] = {KIND: kind, FIELDS: list(fields_of(cls))}
        if kind == PYDANTIC:
            if private := sorted(private_of(cls)):
                node[PRIVATE] = private
            if takes_extra(cls):
                node[EXTRA] = True
        if slots := slots_of(cls):
            node[SLOTS] = slots
        if is_ordered(cls):
            node[ORDERED] = True
        return node

    def _value(self, member: Any) -> Any:
        """The value of a member; None where it is no data, so that no value of it was ever stored."""
        try:
            return self._node_of(member._value_)
        except Exception:
            return None


def is_model(cls: type[Any]) -> bool:
    """Whether a class is a model of pydantic, which takes longer to import than all of this package: where nobody has
    done so, there is none."""
    pydantic: Any = sys.modules.get("pydantic.main")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def kind_of(cls: type[Any]) -> str | None:
    """The kind of class that a value's shape is recorded for; None: a plain class, which has none."""
    if isinstance(cls, EnumMeta):
        return FLAG if issubclass(cls, Flag) else ENUM
    if is_model(cls):
        return PYDANTIC
    if issubclass(cls, msgspec.Struct):
        return STRUCT
    if hasattr(cls, "__attrs_attrs__"):
        return ATTRS
    if dataclasses.is_dataclass(cls):
        return DATACLASS
    return NAMED_TUPLE if tuple in cls.__mro__ and hasattr(cls, "_field_defaults") else None


def decides_itself(cls: type[Any]) -> bool:
    """Whether a class has a `__setstate__` of its own, which then says what older states become."""
    own = getattr(cls, "__setstate__", None)
    if own is None or own is cast(Any, BaseException).__setstate__:
        return False
    return getattr(own, "__module__", None) not in _GENERATED


def fields_of(cls: type[Any]) -> dict[str, Field]:
    """The fields of a class that is no enum, in their order."""
    return {field.name: field for field in _FIELDS[cast(str, kind_of(cls))](cls)}


def slots_of(cls: type[Any]) -> list[str]:
    """The fields of a dataclass that are slots, sorted: those of other classes are restored by a method of theirs."""
    if kind_of(cls) != DATACLASS:
        return []
    return sorted(name for name in fields_of(cls) if isinstance(getattr(cls, name, None), MemberDescriptorType))


def is_ordered(cls: type[Any]) -> bool:
    """Whether the state of a dataclass is the list of its fields' values, as that of a frozen one with slots is."""
    return getattr(getattr(cls, "__setstate__", None), "__module__", None) == "dataclasses"


def private_of(cls: type[Any]) -> dict[str, Field]:
    """The private attributes of a pydantic model; of one without a default nothing is filled in."""
    return {
        name: Field(name, _private_default(attribute))
        for name, attribute in cast(Any, cls).__private_attributes__.items()
    }


def takes_extra(cls: type[Any]) -> bool:
    """Whether a pydantic model keeps values of other names than its fields'."""
    return cast(Any, cls).model_config.get("extra") == "allow"


def _private_default(attribute: Any) -> Callable[[Any, dict[str, Any]], Any] | None:
    from pydantic_core import PydanticUndefined

    is_missing = attribute.default is PydanticUndefined and attribute.default_factory is None
    return None if is_missing else _pydantic_default(attribute)


def _of_dataclass(cls: type[Any]) -> list[Field]:
    of_pydantic = cast("dict[str, Any]", getattr(cls, "__pydantic_fields__", {}))  # of a dataclass of pydantic
    return [
        _pydantic_field(each.name, of_pydantic[each.name])
        if each.name in of_pydantic
        else Field(each.name, _default_or_factory(each.default, each.default_factory, dataclasses.MISSING))
        for each in dataclasses.fields(cls)
    ]


def _of_struct(cls: type[Any]) -> list[Field]:
    return [
        Field(each.name, _default_or_factory(each.default, each.default_factory, msgspec.NODEFAULT))
        for each in msgspec.structs.fields(cls)
    ]


def _constant(default: Any) -> Callable[[Any, dict[str, Any]], Any]:
    return lambda made, values: default


def _default_or_factory(default: Any, factory: Any, missing: object) -> Callable[[Any, dict[str, Any]], Any] | None:
    if default is not missing:
        return _constant(default)
    if factory is not missing:
        return lambda made, values: factory()
    return None


def _of_pydantic(cls: type[Any]) -> list[Field]:
    return [_pydantic_field(name, info) for name, info in cast(Any, cls).model_fields.items()]


def _pydantic_field(name: str, info: Any) -> Field:
    return Field(name, None if info.is_required() else _pydantic_default(info))


def _pydantic_default(info: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """The default of a field or a private attribute."""
    factory = info.default_factory
    if factory is None:
        return lambda made, values: info.get_default()  # a copy, where it can be changed
    if getattr(info, "default_factory_takes_validated_data", False):  # newer than the oldest pydantic that runs
        return lambda made, values: factory(values)
    return lambda made, values: factory()


def _of_attrs(cls: type[Any]) -> list[Field]:
    fields = cast(Any, cls).__attrs_attrs__
    names = [each.name for each in fields]
    return [Field(each.name, _attrs_default(each, names)) for each in fields]


def _attrs_default(field: Any, names: list[str]) -> Callable[[Any, dict[str, Any]], Any] | None:
    default, converter = field.default, field.converter
    kind = type(default).__name__ if type(default).__module__ == "attr._make" else ""
    if kind == "_Nothing":
        return None

    def made_as_its_constructor_would(made: Any, values: dict[str, Any]) -> Any:
        for name in names:  # a factory and a converter may ask for the instance, which has its other fields by then
            if name in values:
                object.__setattr__(made, name, values[name])  # of a frozen class too
        value = default
        if kind == "Factory":
            value = default.factory(made) if default.takes_self else default.factory()
        if converter is None:
            return value
        return converter(value, made, field) if type(converter).__module__ == "attr._make" else converter(value)

    return made_as_its_constructor_would


def _of_named_tuple(cls: type[Any]) -> list[Field]:
    defaults = cast("dict[str, Any]", cast(Any, cls)._field_defaults)
    return [Field(name, _constant(defaults[name]) if name in defaults else None) for name in cast(Any, cls)._fields]


_FIELDS: Final[dict[str, Callable[[type[Any]], list[Field]]]] = {
    DATACLASS: _of_dataclass,
    PYDANTIC: _of_pydantic,
    ATTRS: _of_attrs,
    STRUCT: _of_struct,
    NAMED_TUPLE: _of_named_tuple,
}


def recorded_shape(shapes: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    """The shape that was recorded of a class; None: none was.

    Raises:
        CheckpointDecodeError: the record is malformed.
    """
    recorded: Any = None if shapes is None else shapes.get(key)
    if recorded is None:
        return None
    if type(recorded) is not dict or not _is_shape(cast("dict[str, Any]", recorded)):
        raise malformed_shape(key)
    return cast("dict[str, Any]", recorded)


def malformed_shape(key: str) -> CheckpointDecodeError:
    """What to raise where a record is not as it must be."""
    return CheckpointDecodeError(f"The recorded shape of {key[:SHORT]!r} is malformed; the event is damaged.")


def _is_shape(shape: dict[str, Any]) -> bool:
    """Whether a record has the form that shapes have: no name stands twice."""
    for field in (FIELDS, PRIVATE, SLOTS):
        if not _are_names(shape.get(field, [])):
            return False
    members = shape.get(MEMBERS, [])
    if type(shape.get(KIND)) is not str or type(members) is not list:
        return False
    if (MEMBERS in shape) != (shape[KIND] in (ENUM, FLAG)) or (FIELDS in shape) == (MEMBERS in shape):
        return False
    pairs = cast("list[Any]", members)
    if not all(type(pair) is list and len(cast("list[Any]", pair)) == 2 for pair in pairs):
        return False
    return _are_names([pair[0] for pair in pairs])


def _are_names(names: Any) -> bool:
    if type(names) is not list:
        return False
    listed = cast("list[Any]", names)
    return {str}.issuperset(map(type, listed)) and len(set(listed)) == len(listed)
