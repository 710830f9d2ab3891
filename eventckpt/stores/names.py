"""What projections, leases and documents can be called: the same on every engine.

It is what Cosmos DB takes as an id, of which these names become a part. A name that one engine alone takes would keep a
store from being moved; so a wrong one is told at the call that gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard, cast

from .. import settings
from ..text import described, is_unicode

__all__ = ["LONGEST_NAME", "can_be_id", "can_be_projection", "can_begin_id", "check_name", "check_projection", "id_of"]

LONGEST_NAME: Final = 210
"""Characters of a processor's name, which is a part of the ids of its leases."""
_LONGEST_PROJECTION: Final = 200  # its processor's name begins with a word more
_LONGEST_ID: Final = 1023  # bytes; the service takes no more
_IN_NO_ID: Final = frozenset("/\\?#")
_RULE: Final = "takes none of / \\ ? #, nothing that cannot be printed, no blank at its end, and more than dots"


def check_name(what: str, name: object, *, longest: int = LONGEST_NAME) -> str:
    """The name of a processor, which `what` describes.

    Raises:
        TypeError: it is no text.
        ValueError: it is blank, has more than `longest` characters, or some that are in no name.
    """
    text = settings.text(what, name, longest=longest)
    if not _is_plain(text):
        raise ValueError(f"{what} {_RULE}: {described(text)}.")
    return text


def check_projection(name: object) -> str:
    """The name of a projection; raises as `check_name` does."""
    return check_name("the name of a projection", name, longest=_LONGEST_PROJECTION)


def can_be_projection(name: object) -> TypeGuard[str]:
    """Whether a projection can be called so, for what a store says."""
    return isinstance(name, str) and len(name) <= _LONGEST_PROJECTION and _is_plain(name)


def can_be_id(name: object) -> TypeGuard[str]:
    """Whether there can be a document with this id.

    Raises:
        TypeError: it is no text.
    """
    return can_begin_id(name) and _is_plain(name) and len(name.encode()) <= _LONGEST_ID


def can_begin_id(text: object) -> TypeGuard[str]:
    """Whether something in a store can begin so, or be called so, which need not be what is written today.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"the id of a document is text, not {described(text)}.")
    return is_unicode(text)


def id_of(document: object) -> str:
    """The id of a document that is to be written.

    Raises:
        TypeError: it is no mapping, or has no text as its `id`.
        ValueError: no document can have this id.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"a document is a dict with an id, not {described(document)}.")
    name = cast("Mapping[str, Any]", document).get("id")
    if not can_be_id(name):
        raise ValueError(f"the id of a document has up to {_LONGEST_ID:,} bytes and {_RULE}: {described(name)}.")
    return name


def _is_plain(text: str) -> bool:
    is_whole = is_unicode(text) and text.isprintable() and not text.endswith(" ")
    return is_whole and text.strip(".") != "" and not _IN_NO_ID.intersection(text)
