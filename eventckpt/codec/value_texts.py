"""Values of the standard library that are best read as text, for the tree.

Each function looks at the arguments that the type's own reduction gives, and at no more: whatever else is stored under
its name is shown with its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final, cast
from uuid import UUID

from ..errors import CheckpointDecodeError
from . import forms as f
from .fields import bytes_of, text_of

__all__ = ["ONLY_ARGUMENTS", "VALUE_TEXTS"]

ONLY_ARGUMENTS: Final = frozenset({f.FORM, f.ARGS, f.CALL, f.STATE, f.LABEL})
"""The fields of a form that such a text says all of."""


def _args_of(node: Any, name: str | None = None) -> list[Any]:
    """The arguments of a form that has nothing else; none where it is not of that name."""
    if type(node) is not dict or f.STATE in node or (name is not None and cast(Any, node).get(f.FORM) != name):
        return []
    args = cast("dict[str, Any]", node).get(f.CALL, cast("dict[str, Any]", node).get(f.ARGS))
    return cast("list[Any]", args) if type(args) is list else []


def _of_complex(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return str(complex(*args)) if [type(arg) for arg in args] == [float, float] else None


def _of_range(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    if len(args) != 3 or any(type(arg) is not int for arg in args):
        return None
    return f"range({args[0]}, {args[1]})" if args[2] == 1 else f"range({args[0]}, {args[1]}, {args[2]})"


def _of_slice(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return f"slice({args[0]}, {args[1]}, {args[2]})" if _are(args, (int, type(None)), 3) else None


def _of_date(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return str(_made(cast(Any, date), args[0])) if _are(args, (bytes,), 1) and len(args[0]) == 4 else None


def _of_time(node: dict[str, Any]) -> str | None:
    return _moment(time, _args_of(node), 6)


def _of_datetime(node: dict[str, Any]) -> str | None:
    return _moment(datetime, _args_of(node), 10)


def _moment(cls: Any, args: list[Any], size: int) -> str | None:
    if not 1 <= len(args) <= 2 or type(args[0]) is not bytes or len(args[0]) != size:
        return None
    zone, name = (None, "") if len(args) == 1 else _zone_of(args[1])
    if len(args) == 2 and zone is None and not name:
        return None
    moment = _made(cls, args[0]) if zone is None else _made(cls, args[0], zone)
    return f"{moment}{f' {name}' if name else ''}{' fold=1' if moment.fold else ''}"


def _zone_of(node: Any) -> tuple[timezone | None, str]:
    """A fixed offset and the name that it was given, or a named zone, whose rules are not read."""
    if type(node) is dict and cast(Any, node).get(f.FORM) == f.ZONE:
        return None, text_of(cast("dict[str, Any]", node), f.NAME)
    return _fixed_zone(_args_of(node, "datetime:timezone"))


def _of_timezone(node: dict[str, Any]) -> str | None:
    zone, name = _fixed_zone(_args_of(node))
    if zone is None:
        return None
    offset = str(_made(timezone, zone.utcoffset(None)))
    return f"{offset} {name}" if name else offset


def _fixed_zone(args: list[Any]) -> tuple[timezone | None, str]:
    offset = _duration(_args_of(args[0], "datetime:timedelta")) if args else None
    if offset is None or not _are(args[1:], (str,), len(args) - 1) or len(args) > 2:
        return None, ""
    return _made(timezone, offset, *args[1:]), repr(args[1]) if len(args) == 2 else ""


def _of_timedelta(node: dict[str, Any]) -> str | None:
    duration = _duration(_args_of(node))
    return None if duration is None else str(duration)


def _duration(args: list[Any]) -> timedelta | None:
    return _made(timedelta, *args) if _are(args, (int,), 3) else None


def _of_one_text(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return args[0] if _are(args, (str,), 1) else None


def _of_fraction(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return f"{args[0]}/{args[1]}" if _are(args, (int,), 2) else _of_one_text(node)


def _of_path(cls: type[PurePosixPath | PureWindowsPath]) -> Callable[[dict[str, Any]], str | None]:
    def text_of(node: dict[str, Any]) -> str | None:
        args = _args_of(node)
        return str(cls(*args)) if args and _are(args, (str,), len(args)) else None

    return text_of


def _of_uuid(node: dict[str, Any]) -> str | None:
    state: Any = node.get(f.STATE)
    if type(state) is not dict or list(cast(Any, state)) != ["int"] or f.ARGS in node or f.CALL in node:
        return None
    number: Any = cast(Any, state)["int"]
    if f.type_of(number) is dict and number.get(f.FORM) == f.INT:
        raw = bytes_of(cast("dict[str, Any]", number))
        number = int.from_bytes(raw, "big", signed=True) if len(raw) <= 17 else None
    return str(UUID(int=number)) if type(number) is int and 0 <= number < 1 << 128 else None


def _of_type(node: dict[str, Any]) -> str | None:
    """Of `type` itself only the call that names the type of None is ever stored."""
    return "NoneType" if _args_of(node) == [None] else None


def _are(args: list[Any], types: tuple[type[Any], ...], count: int) -> bool:
    return len(args) == count and all(type(arg) in types for arg in args)


def _made(cls: Callable[..., Any], *args: Any) -> Any:
    """A value of the standard library, or a refusal where its type takes no such arguments."""
    try:
        return cls(*args)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointDecodeError(f"A stored {cls.__name__} is damaged: {error}") from error


VALUE_TEXTS: Final[dict[str, Callable[[dict[str, Any]], str | None]]] = {
    "builtins:complex": _of_complex,
    "builtins:range": _of_range,
    "builtins:slice": _of_slice,
    "builtins:type": _of_type,
    "datetime:date": _of_date,
    "datetime:datetime": _of_datetime,
    "datetime:time": _of_time,
    "datetime:timedelta": _of_timedelta,
    "datetime:timezone": _of_timezone,
    "decimal:Decimal": _of_one_text,
    "fractions:Fraction": _of_fraction,
    "pathlib:PurePosixPath": _of_path(PurePosixPath),
    "pathlib:PureWindowsPath": _of_path(PureWindowsPath),
    "uuid:UUID": _of_uuid,
}
"""By the name of a type, what gives the text of an instance's form; None where the form has other arguments than the
type's own reduction gives."""
