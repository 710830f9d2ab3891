"""How instances of one class are made from a stored form: the rules of the decoder, class by class.

The decoder asks once for each class (`recipe_for`) and then follows what it got. Three sorts of classes differ:

* Types of the interpreter, and their subclasses: made from the arguments that their own reductions bring
  (`copy_protocol.REDUCTIONS`), no others.
* Records of the framework: made without their constructor; their state is plain attributes.
* Classes that the application allowed: called with what the form says, as the framework's own loader would. What their
  methods do is the application's responsibility; what they inherit from the interpreter is held to the first rule.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum, EnumMeta, Flag
from types import BuiltinFunctionType, NoneType
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from ..allowlist import INTERPRETER, TypeGate, type_key
from ..errors import CheckpointDecodeError
from ..records import PLAIN_DICTS
from . import forms as f
from .copy_protocol import NOT_SHARED, REDUCTIONS, WRITTEN_AS_KINDS, Reduction, reduction_of, root_of
from .enum_members import FLAG_BITS
from .evolution import Change
from .keys import check_hashed
from .state import Restore, state_of
from .work import Work

__all__ = ["Recipe", "recipe_for"]

_INERT: Final = f.ATOMS | {bytearray, list, tuple, dict, set, frozenset, Decimal}
"""Exact types of which a constructor of the interpreter asks nothing that the bytes could have chosen."""
_ITERABLE: Final = frozenset({list, tuple, dict, set, frozenset})
_SCALARS: Final = frozenset({str, int, float, bool, bytes, Decimal})
_FILLED_BY_INIT: Final = frozenset({list, dict, set, bytearray, deque, OrderedDict, defaultdict, Counter})
_BAD_DATES: Final[dict[type[Any], Callable[[Any], object]]] = {
    date: lambda made: date(made.year, made.month, made.day),
    time: lambda made: time(made.hour, made.minute, made.second, made.microsecond),
    datetime: lambda made: datetime(
        made.year, made.month, made.day, made.hour, made.minute, made.second, made.microsecond
    ),
}
"""Refuses what is no date or time: their own constructors take any bytes of the right length."""


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
    needs_state: bool
    """Whether an instance is nothing without one."""
    arrange: Callable[[list[Any]], list[Any]] | None
    """What the arguments become first, of a class that has changed since."""
    shared: bool
    """Whether an instance may be referred to: immutable values of the interpreter are written out each time."""

    @property
    def is_called(self) -> bool:
        """Whether instances of a class that stands in order are made by calling it."""
        return not issubclass(self.cls, tuple)

    def adapted(self, change: Change) -> Recipe:
        """The recipe for values from before a change of the class."""
        attributes, restore = change.attributes, self.restore
        if attributes is None:
            return self._replace(arrange=change.arrange)

        def restore_adapted(made: Any, state: Any) -> None:
            restore(made, attributes(made, state))

        return self._replace(restore=restore_adapted)

    def check_plain_dicts(self, state: Any) -> None:
        """Refuse a state of which the class's own method would ask an attribute for what only a dict has."""
        attributes = cast("dict[str, Any]", state) if type(state) is dict else None
        for name in self.plain_dicts:
            if attributes is None or not issubclass(f.type_of(attributes.get(name, {})), dict):
                raise CheckpointDecodeError(f"A stored {type_key(self.cls)!r} has {name!r} that is no dict.")

    def make(self, called: bool, args: list[Any], keywords: dict[str, Any], work: Work) -> Any:
        """An instance without its state."""
        if self.arrange is not None:
            args = self.arrange(args)
        if isinstance(self.cls, EnumMeta):
            return self._member(called, args, work)
        if issubclass(self.cls, type):
            return self._none_type(called, args)
        if self.reduction is not None and not keywords and self._fits(called, args):
            self._count(args, work)
            if self.root in _BAD_DATES:
                made = self.cls(*args)
                _BAD_DATES[self.root](made)
                return made
        elif self.cls is self.root:
            raise self._asks_too_much()
        elif self.built_in:
            return self._record(called, args, keywords)
        else:
            self._check_arguments(called, args, work)
        return self.cls(*args) if called else self.new(self.cls, *args, **keywords)

    def make_by_base(self, base: type[Any], args: list[Any], work: Work) -> Any:
        """What `copyreg._reconstructor(cls, base, state)` makes: the state is a value of the interpreter's `base`."""
        if self.built_in or isinstance(self.cls, EnumMeta) or base not in REDUCTIONS or len(args) != 1:
            raise self._is_built_from(base)
        if not issubclass(self.cls, base):
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
        work.decimals = work.decimals or self.root is Decimal
        if self.root is range:  # which divides to find its length
            work.spend(max(map(int.bit_length, args)) * min(int.bit_length(args[2]), int.bit_length(args[1])) >> 8)
        for arg in args:
            work.copy(arg)
            if type(arg) in _ITERABLE:
                check_hashed(self._keys_in(arg), work)

    def _keys_in(self, arg: Any) -> list[Any]:
        """What a constructor would hash of an argument: all of it, or the first of each pair."""
        root: type[Any] = self.root
        copied = {set: (set, frozenset), frozenset: (set, frozenset)}.get(root, (dict,))
        if type(arg) in copied or not issubclass(root, (set, frozenset, dict)):
            return []  # as it is, without a look at its keys
        if root in (set, frozenset, Counter):
            return list(arg)
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
        value = args[0]
        try:
            work.check_keys([value])
            known = value in self.cls._value2member_map_
        except TypeError:  # cannot be hashed: compared with each member
            work.check_shown(value)
            values = [member._value_ for member in self.cls.__members__.values()]
            known = any(f.type_of(value) is type(each) and value == each for each in values)
        if not known and not self._makes_members(value):  # its own error would show the value, whatever its length
            raise CheckpointDecodeError(f"{type_key(self.cls)!r} has no member of a stored value now.")
        return self.cls(value)

    def _makes_members(self, value: Any) -> bool:
        """Whether an enum is asked for a value that it has no member for: a combination of flags, or its own way."""
        if issubclass(self.cls, Flag):
            return type(value) is int and value.bit_length() <= FLAG_BITS
        return self.cls._missing_.__func__ is not Enum._missing_.__func__ and type(value) in f.ATOMS

    def _none_type(self, called: bool, args: list[Any]) -> Any:
        if self.cls is not type or not called or len(args) != 1 or args[0] is not None:
            raise CheckpointDecodeError("A checkpoint cannot make a class.")
        return NoneType

    def _check_arguments(self, called: bool, args: list[Any], work: Work) -> None:
        """Of a class that says itself what it is made from. A constructor of its own is its own responsibility; that of
        a type of the interpreter is not asked to take what could choose what it calls."""
        for arg in args:
            self._check_size(arg, work)
        if not self._runs_the_interpreters(called):
            return
        if self.root is object:  # a type in C that the table does not have: all that is known is what it is given
            if not all(type(arg) in _INERT or issubclass(type(arg), type) for arg in args):
                raise self._asks_too_much()
            for arg in args:
                work.check_shown(arg)
            return
        if issubclass(self.root, (str, bytes, bytearray)) and len(args) > 1:
            raise self._asks_too_much()  # a codec, by its name
        expected = _SCALARS if issubclass(self.root, (str, int, float)) else _INERT
        if issubclass(self.root, str):
            expected = expected - {bytes}
        if not all(type(arg) in expected or issubclass(type(arg), type) or type(arg) is self.root for arg in args):
            raise self._asks_too_much()
        self._count(args, work)

    def _runs_the_interpreters(self, called: bool) -> bool:
        """Whether the arguments reach a constructor of the interpreter: `__new__` of what is immutable, `__init__` of a
        container."""
        if issubclass(self.cls, BaseException):
            return False  # which keeps them, and asks nothing
        if self.root in _FILLED_BY_INIT:
            return called and self.cls.__init__ is cast(Any, self.root).__init__
        return isinstance(self.cls.__new__, BuiltinFunctionType) and self.cls.__new__ is not object.__new__

    def _check_size(self, arg: Any, work: Work) -> None:
        """Count what a constructor would make of a few stored bytes: bytes of a size, an int of a Decimal."""
        if isinstance(arg, range):
            if self.root is not object and isinstance(self.cls.__new__, BuiltinFunctionType):
                work.spend(8 * len(arg))
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
    built_in = gate.is_built_in(key) or type_key(cls) in INTERPRETER
    reduction = reduction_of(cls)
    if root is object and not built_in:
        reduction = None  # what the application's own class takes was for its class, at the time, to say
    check, restore = state_of(cls, root, built_in)
    return Recipe(
        cls=cls,
        new=_new_of(cls, built_in),
        check=check,
        restore=restore,
        plain_dicts=PLAIN_DICTS.get(key, ()) if built_in else (),
        built_in=built_in,
        reduction=reduction,
        root=root,
        needs_state=cls is UUID,
        arrange=None,
        shared=cls not in NOT_SHARED and not isinstance(cls, EnumMeta) and not issubclass(cls, type),
    )


def _new_of(cls: type[Any], built_in: bool) -> Callable[..., Any]:
    """What makes an instance. Of a record it is the interpreter's own, which runs no code of the framework, not even
    the warning that a class is experimental; only a named tuple has one that takes its fields."""
    if not built_in or tuple in cls.__mro__:
        return cls.__new__
    return next(cast(Any, base).__new__ for base in cls.__mro__ if not base.__flags__ & f.HEAP_TYPE)
