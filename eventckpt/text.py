"""Text that came from somewhere else, made fit to be shown: for terminals, log lines and error messages alike.

Whatever is in a store, or in a checkpoint, is hostile on its way out too: a control character moves a cursor, a newline
forges a log line, and `str()` of somebody else's object may raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from typing import Final

__all__ = [
    "SHORTENED",
    "cell",
    "count_text",
    "described",
    "is_connection_string",
    "is_name",
    "is_unicode",
    "may_hold_a_key",
    "safe",
    "safe_json",
    "shortened",
]

SHORTENED: Final = "…"
"""Stands where the rest of a text is left out."""

_HISSES: Final = ("s", "x", "ch", "sh")
_CELL: Final = 300  # characters of a cell; a run id has 255
_WIDTH: Final = 120  # characters of a value in an error message
_LOOKED_AT: Final = 4_096  # characters of a value that are searched for a key: what is quoted is far from their end
# Compiled when they are first asked for: few programs ever ask.
_CONNECTION: Final = r"(?ia)\b(?:account(?:key|endpoint)|sharedaccess\w{0,40})\s*=|://[^\s@]{1,512}@"
"""What only a connection string has, or a URL with a user and a password before its host."""
_KEY: Final = (
    # of a connection string, or of a signed URL
    r"(?ia)(?:\b(?:account|access|master|api_?)key|sharedaccess\w{0,40}|password|\bpwd|secret|\bsig)\s*="
    r"|://[^\s@]{1,512}@"  # a user and a password before the host
    r"|://[^\s?]{1,512}\?\S"  # the query of a URL, whatever its names are
    r"|(?<![\w+/])[\w+/]{43,600}={1,2}(?!\w)"  # an account key by itself: base64 of 32 bytes or more
    # and base64 of 64 bytes whose end was left out: figures, capitals and small letters, unlike most names
    r"|(?<![\w+/])(?-i:(?=[\w+/]{0,85}\d)(?=[\w+/]{0,85}[A-Z])(?=[\w+/]{0,85}[a-z]))[\w+/]{86}(?![\w+/])"
)


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


def shortened(text: str, width: int) -> str:
    """`text`, its end left out where it has more characters than `width`."""
    return text if len(text) <= width else f"{text[: width - 1]}{SHORTENED}"


def cell(value: object) -> str:
    """`value` as a listing shows it, whichever program prints it: safe, and no longer than any name that a store gives
    away, since all cells of a column are as wide as the widest."""
    text = value if type(value) is str else _text_of(value, str)
    return shortened(safe(text[: _CELL + 1]), _CELL)


def safe_json(text: str) -> str:
    """The same JSON with every character printable: what is not can only stand in a string."""
    if text.isprintable():
        return text
    return "".join(
        "".join(marks) if printable else "".join(map(_escaped, marks))
        for printable, marks in groupby(text, str.isprintable)
    )


def _escaped(mark: str) -> str:
    units = mark.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def described(value: object) -> str:
    """`value` as an error message quotes it: as Python writes it, safe to print, its end left out where it is long.

    What may hold a key is not quoted at all: errors are logged, and shown to whoever did not set the value.
    """
    # A long text is cut before it is quoted, and a huge int has no decimal digits that Python would print.
    text = _text_of(value[:_LOOKED_AT] if type(value) is str else value, repr)
    if may_hold_a_key(text):
        return "a value that is not shown, as it may hold a key"
    text = safe(_text_of(value[:_WIDTH], repr) if type(value) is str else text)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}{SHORTENED}"


def may_hold_a_key(text: str) -> bool:
    """Whether `text` looks like a connection string, a URL with a password or a query, or an account key: not to be
    shown."""
    return re.search(_KEY, text[:_LOOKED_AT]) is not None


def is_connection_string(text: str) -> bool:
    """Whether `text` is a connection string, or a URL with a user and a password: it is no name of anything."""
    return re.search(_CONNECTION, text[:_LOOKED_AT]) is not None


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


def count_text(number: int, noun: str) -> str:
    """So many of something.

    Args:
        number: how many.
        noun: what one of them is called; its plural ends in s, or in es behind what hisses.
    """
    return f"{number:,} {noun if number == 1 else f'{noun}es' if noun.endswith(_HISSES) else f'{noun}s'}"
