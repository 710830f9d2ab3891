"""Texts for a header out of values that may be anything: what they say of themselves is not asked.

Goes by the real type of a value, and by the methods of the built-in one: `isinstance`, `len` and `str` would ask it.
"""

from __future__ import annotations

from typing import Any, Final, cast

__all__ = ["MAX_NAME", "is_class", "is_text", "key_of", "text_of"]

MAX_NAME: Final = 1_000
"""Characters of a name in a header; the rest is left out."""

_PLAIN: Final = frozenset({bool, float, type(None)})
_type_name = type.__dict__["__qualname__"].__get__
_type_module = type.__dict__["__module__"].__get__


def is_class(value: object) -> bool:
    """Whether a value is a class."""
    return issubclass(type(value), type)


def is_text(value: object) -> bool:
    """Whether a value is text."""
    return issubclass(type(value), str)


def text_of(value: object, longest: int = MAX_NAME) -> str:
    """Text that every engine can hold: cut where it is long, and lone surrogates are replaced. Of a value that is
    neither text nor number, the type."""
    cls, given = type(value), cast(Any, value)
    if cls is str and len(given) <= longest and given.isascii():
        return given
    if is_text(value):
        return _clean(given, longest)
    if cls in _PLAIN or (cls is int and -(1 << 63) <= given < 1 << 64):
        return str(value)
    return key_of(cls)


def _clean(text: str, longest: int = MAX_NAME) -> str:
    return str.__getitem__(text, slice(longest)).encode("utf-8", "replace").decode()


def key_of(cls: object) -> str:
    """The key of a class, as it was defined: a metaclass or the class itself may say something else, or raise."""
    parts: list[str] = []
    for read in (_type_module, _type_name):
        try:
            part: object = read(cls)
        except Exception:
            part = "?"
        parts.append(_clean(cast(str, part)) if is_text(part) else "?")
    return ":".join(parts)
