"""Commands as they are shown to be copied: nothing stored means anything to a shell in them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

__all__ = ["in_shell", "quoted"]


def in_shell(words: Iterable[str]) -> str:
    """The words of a command, as they are typed into a shell."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word that a shell gives back as it is; what cannot be printed is spelled out, as bash and zsh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_spelled, word))}'"


def _spelled(mark: str) -> str:
    if mark in "\\'":
        return f"\\{mark}"
    if mark.isprintable():
        return mark
    number = ord(mark)
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
