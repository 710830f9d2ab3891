"""Whether an argument is of the form that its constructor asks for: told at once, in one sentence that names it.

A setting of the wrong kind must not surface later as an error of a library below, after half a minute of retries.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

from .text import described, is_connection_string, is_unicode

__all__ = [
    "choice",
    "flag",
    "function",
    "instance",
    "moment",
    "no_connection_string",
    "number",
    "plain_function",
    "text",
    "text_by_name",
    "texts",
    "whole_number",
]

_T = TypeVar("_T")


def choice(name: str, value: object, *options: str) -> None:
    """One of a few words.

    Raises:
        ValueError: it is none of them.
    """
    if type(value) is not str or value not in options:
        *others, last = map(repr, options)
        raise ValueError(f"{name} is {', '.join(others)} or {last}, not {described(value)}.")


def flag(name: str, value: object) -> None:
    """True or False.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {described(value)}.")


def text(name: str, value: object, *, longest: int | None = None) -> str:
    """Text that says something.

    Raises:
        TypeError: it is no text.
        ValueError: it is blank, longer than `longest`, or not valid Unicode.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is text, not {described(value)}.")
    if not value.strip():
        raise ValueError(f"{name} is blank: {described(value)}.")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{name} has 1 to {longest} characters, this one has {len(value):,}: {described(value)}.")
    if not is_unicode(value):
        raise ValueError(f"{name} is not valid Unicode: {described(value)}.")
    return value


def no_connection_string(name: str, value: str, *, instead: str) -> None:
    """Text that is used, and shown, as the name of a place. A connection string is none, and has a key in it.

    Raises:
        ValueError: it is one, or a URL with a password, which is not shown; `instead` says what to give.
    """
    if is_connection_string(value):
        raise ValueError(f"{name} is a connection string, or a URL with a password, and is not shown. {instead}")


def texts(name: str, value: object) -> list[str]:
    """Several texts.

    Raises:
        TypeError: it is one text, or holds something else than texts.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} takes a list of strings, not one string or other value: {described(value)}.")
    items = list(cast("Iterable[object]", value))
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} takes strings, and {described(item)} is none.")
    return cast("list[str]", items)


def text_by_name(name: str, value: object) -> dict[str, str]:
    """Texts, each under a name; a copy.

    Raises:
        TypeError: it is no mapping, or has something else than texts.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping of texts, not {described(value)}.")
    items = dict(cast("Mapping[object, object]", value))
    for item in (*items, *items.values()):
        if not isinstance(item, str):
            raise TypeError(f"{name} has texts by their names, and {described(item)} is none.")
    return cast("dict[str, str]", items)


def whole_number(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """An int, which True is not.

    Raises:
        TypeError: it is none.
        ValueError: it is less than `least`, or more than `most`.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {described(value)}.")
    if value < least or (most is not None and value > most):
        upto = "" if most is None else f", and at most {most}"
        raise ValueError(f"{name} is at least {least}{upto}, not {described(value)}.")


def number(name: str, value: object, *, most: float = math.inf, zero: bool = False) -> None:
    """A number of seconds, positive or, with `zero`, not negative.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range, or not finite.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is a number of seconds, not {described(value)}.")
    if not (value > 0 or (zero and value == 0)) or value > min(most, sys.float_info.max):
        least, upto = "at least 0" if zero else "more than 0", "" if most == math.inf else f", and at most {most:,}"
        raise ValueError(f"{name} is a number of seconds, {least}{upto}, not {described(value)}.")


def function(name: str, value: object) -> None:
    """Something that can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} is a function, not {described(value)}.")


def plain_function(name: str, value: object) -> None:
    """A function that is called and not awaited.

    Raises:
        TypeError: it cannot be called, or what it does would wait to be awaited.
    """
    function(name, value)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise TypeError(f"{name} is a plain function, and is not awaited; an async one would never run.")


def moment(name: str, value: object) -> None:
    """A time of a day.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is a datetime, not {described(value)}.")


def instance(name: str, value: object, kind: type[_T], *, what: str) -> _T:
    """An object of a class, which `what` describes.

    Raises:
        TypeError: it is of another one.
    """
    if not isinstance(value, cast("type[Any]", kind)):
        if isinstance(getattr(value, "store", None), cast("type[Any]", kind)):
            raise TypeError(f"{name} is {what}, such as the .store of what was given: {described(value)}.")
        raise TypeError(f"{name} is {what}, not {described(value)}.")
    return cast(_T, value)
