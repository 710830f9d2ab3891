"""How instances of one class are made from a stored form: the rules of the decoder, class by class.

The decoder asks once for each class (`recipe_for`) and then follows what it got. Three sorts of classes differ:

* Types of the interpreter, and their subclasses: made from the arguments that their own reductions bring
  (`copy_protocol.REDUCTIONS`), no others.
* Records of the framework: made without their constructor; their state is plain attributes.
* Classes that the application allowed: called with what the form says, as the framework's own loader would. What their
  methods do is the application's responsibility; what they inherit from the interpreter is held to the first rule.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from enum import EnumMeta
from types import BuiltinFunctionType, NoneType
from typing import Any, Final, NamedTuple, TypeAlias, cast
from uuid import UUID

from ..allowlist import TypeGate, type_key
from ..errors import CheckpointDecodeError
from ..records import PLAIN_DICTS
from . import forms as f
from .copy_protocol import NOT_SHARED, REDUCTIONS, WRITTEN_AS_KINDS, Reduction, reduction_of, root_of
from .work import Work

__all__ = ["Recipe", "recipe_for"]

Restore: TypeAlias = Callable[[Any, Any], None]
"""Gives an object its state."""

_INERT: Final = f.ATOMS | {bytearray, list, tuple, dict, set, frozenset, Decimal}
"""Exact types of which a constructor of the interpreter asks nothing that the bytes could have chosen."""
_SIZED: Final = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset, deque})
_SCALARS: Final = frozenset({str, int, float, bool, bytes, Decimal})


class Recipe(NamedTuple):
    """How instances of one class are rebuilt."""

    cls: type[Any]
    new: Callable[..., Any]
    check: Restore
    """Refuses a state that is more than plain attributes, where that is the rule."""
    restore: Restore
    plain_dicts: tuple[str, ...]
    """Attributes that have to be dicts."""
    built_in: bool
    """A record of the framework, or a type of the interpreter itself: nobody allowed it by name."""
    reduction: Reduction | None
    """The arguments it is made with; None: a class says so itself."""
    root: type[Any]
    """The type of the interpreter that it inherits from."""
    shared: bool
    """Whether an instance may be referred to: immutable values of the interpreter are written out each time."""

    def check_plain_dicts(self, state: Any) -> None:
        """Refuse a state of which the class's own method would ask an attribute for what only a dict has."""
        attributes = cast("dict[str, Any]", state) if type(state) is dict else None
        for name in self.plain_dicts:
            if attributes is None or not issubclass(f.type_of(attributes.get(name, {})), dict):
                raise CheckpointDecodeError(f"A stored {type_key(self.cls)!r} has {name!r} that is no dict.")

    def make(self, called: bool, args: list[Any], keywords: dict[str, Any], work: Work) -> Any:
        """An instance without its state."""
        if isinstance(self.cls, EnumMeta):
            return self._member(called, args, work)
        if issubclass(self.cls, type):
            return self._none_type(called, args)
        if self.reduction is not None and not keywords and self._fits(called, args):
            self._count(args, work)
        elif self.cls is self.root:
            raise self._asks_too_much()
        elif self.built_in:
            return self._record(called, args, keywords)
        else:
            self._check_arguments(called, args, work)
        return self.cls(*args) if called else self.new(self.cls, *args, **keywords)

    def make_by_base(self, base: type[Any], args: list[Any], work: Work) -> Any:
        """What `copyreg._reconstructor(cls, base, state)` makes: the state is a value of the interpreter's `base`."""
        if self.built_in or base not in REDUCTIONS or not issubclass(self.cls, base) or len(args) != 1:
            raise self._is_built_from(base)
        if base is object:
            return object.__new__(self.cls)
        if type(args[0]) is not base:
            raise self._is_built_from(base)
        self._count(args, work)
        made = base.__new__(self.cls, args[0])
        if base.__init__ is not object.__init__:
            base.__init__(made, *args)
        return made

    def _fits(self, called: bool, args: list[Any]) -> bool:
        if self.cls in WRITTEN_AS_KINDS:  # only what an application's class reduces to: the same value again
            return called and len(args) == 1 and f.type_of(args[0]) is self.cls
        return cast(Reduction, self.reduction).fits(called, args)

    def _count(self, args: list[Any], work: Work) -> None:
        """Count what a constructor of the interpreter copies, and hashes."""
        for arg in args:
            if type(arg) in _SIZED:
                work.spend(len(arg))
            if type(arg) in (list, tuple):
                work.check_keys(self._keys_in(arg))

    def _keys_in(self, arg: list[Any] | tuple[Any, ...]) -> list[Any]:
        """What a constructor would hash of a list: all of it, or the first of each pair."""
        if issubclass(self.root, (set, frozenset, Counter)):
            return list(arg)
        if not issubclass(self.root, dict):
            return []
        if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in arg):
            raise self._asks_too_much()
        return [pair[0] for pair in arg]

    def _record(self, called: bool, args: list[Any], keywords: dict[str, Any]) -> Any:
        """An instance of a framework class that says itself how it is copied: an exception, or a named tuple."""
        is_exception, is_tuple = issubclass(self.cls, BaseException), issubclass(self.cls, tuple)
        if keywords or called != is_exception or not (is_exception or is_tuple):
            raise self._asks_too_much()
        return self.new(self.cls, *args)  # of an exception, its arguments; its attributes are in its state

    def _member(self, called: bool, args: list[Any], work: Work) -> Any:
        if not called or len(args) != 1 or not self.cls.__members__:
            raise CheckpointDecodeError(f"A stored {type_key(self.cls)!r} is no member of it.")
        if self.built_in and type(args[0]) not in f.ATOMS:
            raise self._asks_too_much()
        work.check_shown(args[0])  # the error of an enum shows the value that it has no member for
        try:
            work.check_keys(args)
        except TypeError:  # cannot be hashed: compared with each member
            work.spend(len(self.cls.__members__))
        return self.cls(args[0])

    def _none_type(self, called: bool, args: list[Any]) -> Any:
        if self.cls is not type or not called or args != [None]:
            raise CheckpointDecodeError("A checkpoint cannot make a class.")
        return NoneType

    def _check_arguments(self, called: bool, args: list[Any], work: Work) -> None:
        """Of a class that says itself what it is made from. A constructor of its own is its own responsibility; that of
        a type of the interpreter is not asked to take what could choose what it calls."""
        own_new = not isinstance(self.cls.__new__, BuiltinFunctionType)
        own_init = called and self.cls.__init__ is not cast(Any, self.root).__init__
        inherits = self.root is not object and not own_new and not own_init
        for arg in args:
            self._check_size(arg, inherits, work)
        if not inherits:
            return
        expected = _SCALARS if issubclass(self.root, (str, int, float)) else _INERT
        if not all(type(arg) in expected or isinstance(arg, type) or type(arg) is self.root for arg in args):
            raise self._asks_too_much()
        self._count(args, work)

    def _check_size(self, arg: Any, inherits: bool, work: Work) -> None:
        """Count what a constructor would make of a few stored bytes: bytes of a size, an int of a Decimal."""
        if isinstance(arg, range):
            if inherits:
                work.spend(len(arg))
        elif isinstance(arg, Decimal):
            if issubclass(self.root, int):
                work.spend(max(arg.adjusted(), 0) ** 2)  # digits; converting them takes the square of their number
        elif isinstance(arg, int):
            if issubclass(self.root, Decimal):
                work.spend((arg.bit_length() // 3) ** 2)
            elif issubclass(self.root, (bytes, bytearray)):
                work.spend(max(arg, 0))

    def _asks_too_much(self) -> CheckpointDecodeError:
        return CheckpointDecodeError(
            f"A stored {type_key(self.cls)!r} is made in a way, or from arguments, that its class never asks for."
        )

    def _is_built_from(self, base: type[Any]) -> CheckpointDecodeError:
        return CheckpointDecodeError(f"A stored {type_key(self.cls)!r} is built from {type_key(base)!r}.")


def recipe_for(cls: type[Any], key: str, gate: TypeGate) -> Recipe:
    """The recipe of a class that the gate admitted under `key`."""
    root = root_of(cls)
    built_in = gate.is_built_in(key) or cls is root
    reduction = reduction_of(cls)
    if root is object and not built_in:
        reduction = None  # what the application's own class takes was for its class, at the time, to say
    check, restore = _state_of(cls, root, built_in)
    return Recipe(
        cls=cls,
        new=cls.__new__,
        check=check,
        restore=restore,
        plain_dicts=PLAIN_DICTS.get(key, ()) if built_in else (),
        built_in=built_in,
        reduction=reduction,
        root=root,
        shared=cls not in NOT_SHARED and not isinstance(cls, EnumMeta) and not issubclass(cls, type),
    )


# State


def _state_of(cls: type[Any], root: type[Any], built_in: bool) -> tuple[Restore, Restore]:
    """What to ask of a state of this class first, and what sets it."""
    if isinstance(cls, EnumMeta):
        return _take_any, _refuse_state
    if cls is UUID:
        return _take_any, _set_uuid
    if cls is root:
        return _check_state, _set_attributes if cls is OrderedDict else _refuse_interpreter_state
    own = cast("Restore | None", getattr(cls, "__setstate__", None))
    if own is not None and own is _SET_BY_EXCEPTIONS:
        return _check_state, _set_attributes if built_in else own
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


def _check_state(made: Any, state: Any) -> None:
    """Refuse a state that is more than attributes: a dict, or the pair of one and of slots."""
    parts = cast("tuple[Any, ...]", state if type(state) is tuple else (state,))
    if len(parts) > 2:
        raise _bad_state(made, "is no dict of attributes")
    for part in parts:
        if part is not None:
            _check_names(made, part)


def _check_pydantic_state(made: Any, state: Any) -> None:
    if type(state) is not dict or not _PYDANTIC.issuperset(cast("dict[Any, Any]", state)):
        raise _bad_state(made, "is not that of a pydantic model")
    parts = cast("dict[str, Any]", state)
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        if parts.get(name) is not None:
            _check_names(made, parts[name])
    if type(parts.get("__pydantic_fields_set__", set())) is not set:
        raise _bad_state(made, "names its fields in what is no set")


def _check_names(made: Any, attributes: Any) -> None:
    if type(attributes) is not dict:
        raise _bad_state(made, "is no dict of attributes")
    for name, value in cast("dict[Any, Any]", attributes).items():
        if type(name) is not str:
            raise _bad_state(made, "has a name that is not text")
        if name[:2] == "__" == name[-2:] and not (name == "__notes__" and _are_notes(made, value)):
            raise _bad_state(made, f"sets {name[:80]}")


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
        if name[:2] == "__" == name[-2:]:
            raise _bad_state(made, f"sets {name[:80]}")
        setattr(made, name, item)


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
