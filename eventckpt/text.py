"""Text that came from somewhere else, made fit to be shown: for terminals, log lines and error messages alike.

Whatever is in a store, or in a checkpoint, is hostile on its way out too: a control character moves a cursor, a newline
forges a log line, and `str()` of somebody else's object may raise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final

__all__ = ["described", "is_name", "is_unicode", "safe"]

_WIDTH: Final = 120  # characters of a value in an error message


def safe(value: object) -> str:
    """`value` on one line: control characters, and what turns the direction of text, are shown, not obeyed.

    Never raises: what cannot be turned into text is named by its type.
    """
    text = value if type(value) is str else _text_of(value, str)
    if text.isprintable():
        return text
    return "".join(
        "".join(marks) if printable else "".join(marks).encode("unicode_escape", "replace").decode("ascii")
        for printable, marks in groupby(text, str.isprintable)
    )


def described(value: object) -> str:
    """`value` as an error message quotes it: as Python writes it, safe to print, its end left out where it is long."""
    # A long text is cut before it is quoted, and a huge int has no decimal digits that Python would print.
    text = safe(_text_of(value[:_WIDTH] if type(value) is str else value, repr))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def is_name(value: object) -> bool:
    """Whether something in a store can have this name."""
    return isinstance(value, str) and is_unicode(value)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has bytes for `text`: not where it holds half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_of(value: object, write: Callable[[object], str]) -> str:
    try:
        return str.__str__(write(value))  # of a subclass of str, the text alone
    except Exception as error:
        return f"<{type(value).__name__} without text: {type(error).__name__}>"
