"""Type expressions as data: `list[Message]`, `str | None`, `Literal["yes", "no"]`.

A question's event says which type of answer it waits for, and that is seldom a bare class. An expression is stored as
its origin and its arguments. Each class in it goes through the allow-list, and no text is ever taken for a forward
reference: `typing` would compile it. Building one calls `typing` and the interpreter only, never a class's own
`__class_getitem__`.
"""

from __future__ import annotations

import typing
from enum import Enum
from functools import reduce
from operator import or_ as either  # pyright: ignore[reportUnknownVariableType] - of any two values
from types import EllipsisType, GenericAlias, UnionType
from typing import Any, Final, cast

from ..errors import CheckpointDecodeError, CheckpointEncodeError
from . import forms as f

__all__ = ["MAX_TYPE_ARGUMENTS", "MAX_TYPE_DEPTH", "forget", "is_bare", "is_type_expression", "made", "taken_apart"]

MAX_TYPE_DEPTH: Final = 16
"""How many type expressions may lie inside each other."""
MAX_TYPE_ARGUMENTS: Final = 256
"""How many arguments one of them may have: members of a union, values of a Literal."""

_typing = cast(Any, typing)
_BARE: Final[dict[str, Any]] = {name: getattr(typing, name) for name in ("Any", "NoReturn", "Never", "LiteralString")}
"""Names of `typing` that stand for themselves."""
_BARE_ALIASES: Final[tuple[type[Any], ...]] = (
    _typing._SpecialGenericAlias,  # of typing.List without arguments, and of its like; typing has no public name for
    type(typing.Tuple),  # noqa: UP006 - any of these
    type(typing.Callable),
)
_EXPRESSIONS: Final[tuple[type[Any], ...]] = cast(
    Any, (GenericAlias, UnionType, _typing._GenericAlias, _typing._SpecialForm, *_BARE_ALIASES)
)
_PARTS_OF_LITERAL: Final = f.ATOMS - {float}


def is_type_expression(value: Any) -> bool:
    """Whether a value is an expression of types, and no class."""
    return issubclass(type(value), _EXPRESSIONS)


def is_bare(cls: type[Any]) -> bool:
    """Whether a class is one that stands for a type expression: `typing.Any`."""
    return any(bare is cls for bare in _BARE.values())


def taken_apart(value: Any) -> tuple[str, str | type[Any] | None, list[Any]]:
    """The kind of a type expression, its origin and its arguments.

    Returns:
        The kind (`forms.TYPING`, `GENERIC` or `UNION`); the name in `typing`, or the class that it is an expression of,
        or None for a union; the arguments, which are classes, type expressions, `...` or values of a Literal.

    Raises:
        CheckpointEncodeError: it holds what is no data, or what a load could not make again.
    """
    name = _name_in_typing(value)
    if name is not None:
        return f.TYPING, name, []
    args, origin = list(typing.get_args(value)), typing.get_origin(value)
    if len(args) > MAX_TYPE_ARGUMENTS:
        raise _too_many(value, args)
    if origin is typing.Literal:
        return f.GENERIC, "Literal", args
    if not all(map(_is_argument, [*args, value])):
        raise _not_data(value)
    if type(value) is UnionType:
        return f.UNION, None, args
    if origin is typing.Union:
        return f.GENERIC, "Union", args
    alias = getattr(value, "_name", None)  # "List" of typing.List[int], None of a generic class of one's own
    if type(value) not in (GenericAlias, _typing._GenericAlias) or not isinstance(origin, type):
        raise _not_data(value)
    named = isinstance(alias, str) and isinstance(getattr(typing, alias, None), _BARE_ALIASES)
    return f.GENERIC, alias if named else cast(type[Any], origin), args


def forget() -> None:
    """Empty what `typing` keeps of the types that it was asked for: those of one checkpoint are not those of another,
    nor of the application, even where they are equal."""
    for clear in _typing._cleanups:
        clear()


def made(kind: str, origin: str | type[Any] | None, args: list[Any]) -> Any:
    """The type expression that `taken_apart` gave these for.

    Raises:
        CheckpointDecodeError: they are none that it gives.
    """
    if len(args) > MAX_TYPE_ARGUMENTS:
        raise CheckpointDecodeError(f"A stored type expression has {len(args):,} arguments.")
    if kind == f.TYPING:
        return _named(cast(str, origin))
    if origin == "Literal":
        if not args or not all(type(arg) in _PARTS_OF_LITERAL or issubclass(type(arg), Enum) for arg in args):
            raise CheckpointDecodeError("A stored Literal holds what is neither a plain value nor an enum's member.")
        return cast(Any, typing.Literal)[tuple(args)]
    _check_arguments(args)
    if kind == f.UNION or origin == "Union":  # which is flat: it has the members of the unions in it
        members = sum(max(1, len(typing.get_args(arg))) for arg in args if _is_union(arg))
        if members + len(args) > MAX_TYPE_ARGUMENTS:
            raise CheckpointDecodeError(f"A stored union has more than {MAX_TYPE_ARGUMENTS} members.")
    if kind == f.UNION:
        if len(args) < 2:
            raise CheckpointDecodeError("A stored union has less than two members.")
        return _union(args)
    if origin == "Union":
        return cast(Any, typing.Union)[tuple(args)]
    if isinstance(origin, str):
        alias = _named(origin)
        if not isinstance(alias, _BARE_ALIASES):
            raise CheckpointDecodeError(f"A stored type expression takes arguments for typing.{origin[:80]}.")
        return alias[tuple(args)]
    return _of_class(cast(type[Any], origin), tuple(args))


def _of_class(origin: type[Any], args: tuple[Any, ...]) -> Any:
    maker = next((base for base in origin.__mro__ if "__class_getitem__" in vars(base)), None)
    if maker is typing.Generic:
        return cast(Any, origin)[args]
    return GenericAlias(origin, args)


def _is_union(value: Any) -> bool:
    return type(value) is UnionType or typing.get_origin(value) is typing.Union


def _union(args: list[Any]) -> Any:
    """`a | b | …`, in pairs of pairs: each step looks at all members of both sides."""
    while len(args) > 1:
        args = [reduce(cast(Any, either), args[index : index + 2]) for index in range(0, len(args), 2)]
    return args[0]


def _check_arguments(args: list[Any]) -> None:
    if not all(map(_is_argument, args)):
        raise CheckpointDecodeError("A stored type expression has an argument that is no type.")


def _is_argument(arg: Any) -> bool:
    if is_type_expression(arg):
        return not getattr(arg, "__unpacked__", False)  # *tuple[str, ...], which no argument alone stands for
    return arg is None or issubclass(type(arg), (type, EllipsisType))


def _named(name: str) -> Any:
    found = _BARE.get(name) or (getattr(typing, name, None) if name in _typing.__all__ else None)
    if name not in _BARE and not isinstance(found, _BARE_ALIASES):
        raise CheckpointDecodeError(f"A stored type expression names {name[:80]!r}, which typing has no such type for.")
    return found


def _name_in_typing(value: Any) -> str | None:
    """The name of a value of `typing` that stands for itself; None for what has arguments."""
    if not issubclass(type(value), _BARE_ALIASES):
        return next((name for name, bare in _BARE.items() if bare is value), None)
    name = getattr(value, "_name", None)
    return name if isinstance(name, str) and getattr(typing, name, None) is value else None


def _too_many(value: Any, args: list[Any]) -> CheckpointEncodeError:
    return CheckpointEncodeError(
        f"The type expression {str(value)[:80]} … has {len(args):,} arguments; the limit is {MAX_TYPE_ARGUMENTS}. "
        "Give the type a name: an enum, or a class."
    )


def _not_data(value: Any) -> CheckpointEncodeError:
    return CheckpointEncodeError(
        f"The type expression {value!r} holds more than classes and their arguments (a forward reference, a type "
        "variable, an annotation, a signature). Use a class, or an expression of classes such as list[str] | None."
    )
