"""What a stored state may set: the rules of the decoder for the attributes of an instance, class by class.

`BaseException.__setstate__` sets whatever a state names, `__class__` too; a `__setstate__` of the framework asks what
it is given for `items`. So the state of a record, and of an exception, is plain attributes: an exact dict without names
that mean something to Python, or what pydantic and dataclasses themselves make. A class that the application allowed
decides itself.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from enum import EnumMeta
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from ..allowlist import type_key
from ..errors import CheckpointDecodeError
from . import forms as f
from .type_expressions import is_type_expression

__all__ = ["Restore", "references_in", "state_of"]

Restore: TypeAlias = Callable[[Any, Any], None]
"""Gives an object its state."""


def state_of(cls: type[Any], root: type[Any], built_in: bool) -> tuple[Restore, Restore]:
    """What to ask of a state of this class first, and what sets it."""
    if isinstance(cls, EnumMeta):
        return _take_any, _refuse_state
    if cls is UUID:
        return _take_any, _set_uuid
    if cls is root:
        return _check_state, _set_attributes if cls is OrderedDict else _refuse_interpreter_state
    own = cast("Restore | None", getattr(cls, "__setstate__", None))
    if own is not None and own is _SET_BY_EXCEPTIONS:
        return (_check_state, _set_attributes) if built_in else (_take_any, _set_own_exception)
    if not built_in:
        return _take_any, own or _set_attributes
    if getattr(own, "__module__", None) == "dataclasses":
        return _take_any, _fields_setter(cls, cast(Restore, own))
    if getattr(own, "__module__", None) == "pydantic.main":
        return _check_pydantic_state, cast(Restore, own)
    return _check_state, own or _set_attributes


_SET_BY_EXCEPTIONS: Final = cast(Restore, cast(Any, BaseException).__setstate__)
"""Sets whatever attribute a state names, `__class__` too."""


def _take_any(made: Any, state: Any) -> None:
    """Of a class that the application allowed, or whose state is looked at while it is set."""


_PYDANTIC: Final = frozenset({"__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"})
"""What the state of a pydantic model consists of. Their contents are checked alike."""


def references_in(state: dict[str, Any]) -> list[str]:
    """The parts of a stored model's state that refer to what stands elsewhere: stored once, and copied for each
    instance."""
    parts = ((name, cast("dict[str, Any]", state.get(name))) for name in _PYDANTIC if type(state.get(name)) is dict)
    return [name for name, part in parts if part.get(f.FORM) == f.REF]


def _check_state(made: Any, state: Any) -> None:
    """Refuse a state that is more than attributes: a dict, or the pair of one and of slots."""
    for part in _parts(made, state):
        _check_names(made, part)


def _check_own_exception(made: Any, state: Any) -> None:
    """Likewise of an exception of the application, which may have names of its own with underscores on both sides."""
    for part in _parts(made, state):
        _check_names(made, part, own=True)


def _set_own_exception(made: Any, state: Any) -> None:
    _check_own_exception(made, state)
    _SET_BY_EXCEPTIONS(made, state)


def _parts(made: Any, state: Any) -> list[Any]:
    parts = cast("tuple[Any, ...]", state if type(state) is tuple else (state,))
    if len(parts) > 2:
        raise _bad_state(made, "is no dict of attributes")
    return [part for part in parts if part is not None]


def _check_pydantic_state(made: Any, state: Any) -> None:
    if type(state) is not dict or not _PYDANTIC.issuperset(cast("dict[Any, Any]", state)):
        raise _bad_state(made, "is not that of a pydantic model")
    parts = cast("dict[str, Any]", state)
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        if parts.get(name) is not None:
            _check_names(made, parts[name])
    if type(parts.get("__pydantic_fields_set__", set())) is not set:
        raise _bad_state(made, "names its fields in what is no set")


def _check_names(made: Any, attributes: Any, *, own: bool = False) -> None:
    if type(attributes) is not dict:
        raise _bad_state(made, "is no dict of attributes")
    for name, value in cast("dict[Any, Any]", attributes).items():
        if type(name) is not str:
            raise _bad_state(made, "has a name that is not text")
        dunder = name[:2] == "__" == name[-2:]
        if dunder and not (_is_data(made, name, value) or (own and _is_own(made, name))):
            raise _bad_state(made, f"sets {name[:80]}")
        if own and not dunder and _is_the_interpreters(f.type_of(made), name):
            raise _bad_state(made, f"sets {name[:80]}")


def _is_data(made: Any, name: str, value: Any) -> bool:
    """The two names that Python itself gives to instances: the type expression that an instance of a generic class was
    made by, and the notes of an exception."""
    if name == "__orig_class__":
        return is_type_expression(value)
    return name == "__notes__" and _are_notes(made, value)


def _is_own(made: Any, name: str) -> bool:
    """Whether a name means nothing to Python, nor to the class of an exception."""
    return not hasattr(f.type_of(made), name) and name not in _MEANING


_MEANING: Final = frozenset({"__annotations__", "__call__", "__wrapped__", "__signature__", "__type_params__"})
"""Names that tools of the standard library ask any object for."""


def _are_notes(made: Any, value: Any) -> bool:
    """What `BaseException.add_note` leaves behind."""
    if not isinstance(made, BaseException) or type(value) is not list:
        return False
    return {str}.issuperset(map(type, cast("list[Any]", value)))


def _set_attributes(made: Any, state: Any) -> None:
    """What a type without `__setstate__` does with its state: a dict of attributes, or a pair of it and of slots."""
    if isinstance(state, dict):
        made.__dict__.update(state)
        return
    attributes, slots = cast("tuple[Any, Any]", state if isinstance(state, tuple) else ())
    if attributes is not None:
        made.__dict__.update(attributes)
    for name, item in slots.items():
        if name[:2] == "__" == name[-2:] or _is_the_interpreters(f.type_of(made), name):
            raise _bad_state(made, f"sets {name[:80]}")
        setattr(made, name, item)


def _is_the_interpreters(cls: type[Any], name: str) -> bool:
    """Whether a name is one that the interpreter's part of a class looks after: setting `args` of an exception makes a
    tuple of whatever it is given."""
    return any(name in vars(base) for base in cls.__mro__ if not base.__flags__ & f.HEAP_TYPE)


def _fields_setter(cls: type[Any], own: Restore) -> Restore:
    """Of a frozen dataclass with slots, whose state is the list of its fields' values."""
    count = len(dataclasses.fields(cls))

    def set_fields(made: Any, state: Any) -> None:
        if type(state) is not list or len(cast("list[Any]", state)) != count:
            raise _bad_state(made, f"is no list of the {count} values of its fields")
        own(made, state)

    return set_fields


def _set_uuid(made: Any, state: Any) -> None:
    fields = cast("dict[str, Any]", state) if type(state) is dict else {}
    number, is_safe = fields.get("int"), fields.get("is_safe", 0)
    if (
        type(number) is not int
        or not 0 <= number < 1 << 128
        or type(is_safe) is not int
        or not fields.keys() <= {"int", "is_safe"}
    ):
        raise _bad_state(made, "is not that of a UUID")
    made.__setstate__(fields)


def _refuse_state(made: Any, state: Any) -> None:
    raise CheckpointDecodeError(f"A stored state would change {made!r}, which the whole process shares.")


def _refuse_interpreter_state(made: Any, state: Any) -> None:
    raise _bad_state(made, "is one more than such values have")


def _bad_state(made: Any, what: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"The stored state of a {type_key(f.type_of(made))!r} {what}; the event is damaged.")
