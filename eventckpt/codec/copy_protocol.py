"""How objects say what they are made of (`__reduce_ex__`): what the encoder asks, and what the decoder believes.

The encoder takes an object apart by the protocol that `copy` and `pickle` use. The decoder reads the outcome from bytes
that may say anything, and a constructor of the interpreter asks what it is given for methods: `dict(x)` calls `x.keys`.
So for each type of the interpreter the table `REDUCTIONS` names the arguments that its own reductions bring, in
CPython 3.11 to 3.14, and a form that brings others is refused. `tests/codec/test_copy_protocol.py` generates values of
every type and proves the table complete on the Python that runs it.
"""

from __future__ import annotations

import copyreg
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import EnumMeta
from types import NoneType
from typing import Any, Final, NamedTuple, TypeAlias, cast
from uuid import UUID

from . import forms as f
from .refusals import not_data

__all__ = [
    "NOT_SHARED",
    "REDUCTIONS",
    "WRITTEN_AS_KINDS",
    "Reduced",
    "Reduction",
    "data_of",
    "is_member",
    "is_rebuilt_by_its_class",
    "plain",
    "reduces_as_a_set",
    "reduction_of",
    "root_of",
    "uses_defaults",
]

Fits: TypeAlias = Callable[[Any], bool]
"""Whether an argument is one that a reduction brings."""


class Reduction(NamedTuple):
    """What the reductions of a type of the interpreter look like."""

    called: bool | None
    """`cls(*args)`; else `cls.__new__(cls, *args)`; None: either."""
    signatures: tuple[tuple[Fits, ...], ...]
    """The arguments, one by one; any of them."""

    def fits(self, called: bool, args: list[Any]) -> bool:
        """Whether a form with these arguments is one that a reduction gives."""
        return self.called in (None, called) and any(
            len(signature) == len(args) and all(fits(arg) for fits, arg in zip(signature, args, strict=True))
            for signature in self.signatures
        )


def _exactly(cls: type[Any]) -> Fits:
    return lambda value: type(value) is cls


def _anything(value: Any) -> bool:
    return True


def _is_zone(value: Any) -> bool:
    return isinstance(value, tzinfo)


def _is_factory(value: Any) -> bool:
    return callable(
        value
    )  # it is kept, not called; nothing that can be called is admitted unless the application says so


def _is_empty(value: Any) -> bool:
    return type(value) is tuple and not value


_int, _bytes, _str = _exactly(int), _exactly(bytes), _exactly(str)


def _new(*signatures: tuple[Fits, ...]) -> Reduction:
    return Reduction(False, signatures)


def _call(*signatures: tuple[Fits, ...]) -> Reduction:
    return Reduction(True, signatures)


REDUCTIONS: Final[dict[type[Any], Reduction]] = {
    object: _new(()),
    int: _new((_int,)),
    float: _new((_exactly(float),)),
    str: _new((_str,)),
    bytes: _new((_bytes,)),
    tuple: _new((_exactly(tuple),)),
    complex: Reduction(None, ((_exactly(float), _exactly(float)),)),  # called by copyreg; a subclass is made anew
    list: _new(()),
    dict: _new(()),
    bytearray: _call((), (_bytes,)),
    set: _call((_exactly(list),)),
    frozenset: _call((_exactly(list),)),
    range: _call((_int, _int, _int)),
    slice: _call((_anything, _anything, _anything)),
    type: _call((_exactly(NoneType),)),
    date: _call((_bytes,)),
    time: _call((_bytes,), (_bytes, _is_zone)),
    datetime: _call((_bytes,), (_bytes, _is_zone)),
    timedelta: _call((_int, _int, _int)),
    timezone: _call((_exactly(timedelta),), (_exactly(timedelta), _str)),
    UUID: _new(()),
    Decimal: _call((_str,)),
    OrderedDict: _call(()),
    defaultdict: _call((), (_is_factory,)),
    deque: _call((), (_is_empty, _int)),
    Counter: _call((_exactly(dict),)),
}
"""For a type and for its subclasses that leave the copying to it."""

WRITTEN_AS_KINDS: Final = frozenset({int, float, str, bytes, tuple, list, dict, bytearray, set, frozenset})
"""Types of which only subclasses are written as objects; they themselves are natives or kinds."""

NOT_SHARED: Final[frozenset[type[Any]]] = frozenset(
    {datetime, date, time, timedelta, timezone, UUID, Decimal, complex, range, slice}
)
"""Immutable values: written out each time, so that equal checkpoints give equal bytes however their values came
to be the same object. So nothing refers to one, either."""


def root_of(cls: type[Any]) -> type[Any]:
    """The type of the interpreter that a class is, or inherits from."""
    return next(base for base in cls.__mro__ if base in REDUCTIONS)


def reduction_of(cls: type[Any]) -> Reduction | None:
    """What the reductions of a class look like, where it leaves them to the interpreter's type; else None."""
    root = root_of(cls)
    protocol = ("__reduce_ex__", "__reduce__", "__getnewargs__", "__getnewargs_ex__")
    if cls in copyreg.dispatch_table and cls is not root:
        return None
    if any(getattr(cls, name, None) != getattr(root, name, None) for name in protocol):
        return None
    return REDUCTIONS[root]


# What the encoder asks

_SET_REDUCERS: tuple[Any, ...] = (cast(Any, set).__reduce__, cast(Any, frozenset).__reduce__)


def reduces_as_a_set(cls: type[Any]) -> bool:
    """Whether the one argument of the class's reduction lists the elements of a set."""
    return (
        cls.__reduce__ in _SET_REDUCERS
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls not in copyreg.dispatch_table
    )


def uses_defaults(cls: type[Any]) -> bool:
    """Whether `copy` and `pickle` would take instances apart by `object`'s own rules alone."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
        and all(base is object or base.__flags__ & f.HEAP_TYPE for base in cls.__mro__)
    )


class Reduced(NamedTuple):
    """What an object's copy protocol says."""

    build: Any
    """What to call; a function where it is no data."""
    args: tuple[Any, ...]
    state: Any
    items: list[Any] | None
    pairs: list[tuple[Any, Any]] | None
    setter: Any
    """A function that would restore the state; None for data."""


def reduced(value: Any) -> Reduced | str:
    """Take an object apart; a text is the name of a global that it reduces to.

    Raises:
        TypeError: its `__reduce__` does not return what the copy protocol asks for.
        Exception: whatever its own methods raise.
    """
    reducer = cast("Callable[[Any], Any] | None", copyreg.dispatch_table.get(f.type_of(value)))
    said: Any = reducer(value) if reducer else value.__reduce_ex__(4)
    if isinstance(said, str):
        return said
    build, args, *rest = cast("tuple[Any, ...]", said)
    state, items, pairs, setter = (*rest, None, None, None, None)[:4]
    iterators = all(part is None or hasattr(part, "__next__") for part in (items, pairs))
    if type(args) is not tuple or len(rest) > 4 or not iterators:
        raise TypeError("its __reduce__ does not return what the copy protocol asks for")
    if state == {} and type(state) is dict and isinstance(value, BaseException):
        state = None  # of an exception whose attributes were looked at, and never set: equal to one left alone
    return Reduced(
        build,
        cast("tuple[Any, ...]", args),
        state,
        None if items is None else list(items),
        None if pairs is None else [(key, item) for key, item in pairs],
        setter,
    )


_copyreg = cast(Any, copyreg)
BUILDERS: Final[tuple[Any, ...]] = (_copyreg.__newobj__, _copyreg.__newobj_ex__, _copyreg._reconstructor)
"""Functions of the copy protocol itself: what they call is a type, which stands in their arguments."""


def data_of(cls: type[Any], value: Any) -> Reduced:
    """The parts of an object that is data: it is rebuilt by a type, and nothing else restores it.

    Raises:
        CheckpointEncodeError: it is none.
        Exception: what `reduced` raises.
    """
    parts = reduced(value)
    if isinstance(parts, str):
        raise not_data(cls, f"reduces to the global {parts!r}")
    if parts.setter is not None:
        raise not_data(cls, "brings a function that restores its state")
    if not (isinstance(parts.build, type) or parts.build in BUILDERS or is_member(parts)):
        raise not_data(cls, f"is rebuilt by calling {parts.build!r}, which is not a type")
    return parts


def is_member(parts: Reduced) -> bool:
    """Whether what is built is a member of an enum."""
    return parts.build is getattr and isinstance(parts.args[0], EnumMeta) and parts.args[1] in parts.args[0].__members__


def plain(value: str | int | float) -> str | int | float:
    """What JSON makes of an instance of a subclass: the value without its type."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def is_rebuilt_by_its_class(value: object) -> bool:
    """Whether an instance of a subclass of str, int or float says that its class rebuilds it, and no function."""
    try:
        parts = reduced(value)
    except Exception:
        return True  # which the walk will name
    return isinstance(parts, str) or isinstance(parts.build, type) or parts.build in BUILDERS
