"""How much of what is stored finds a place on a page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from markupsafe import escape

from ..text import safe

__all__ = ["Room", "first_of", "page_of"]

_T = TypeVar("_T")

_ROOM: Final = 600_000
_MARKUP: Final = 200  # bytes around texts that stand together
_BREAK: Final = len("<br>")


class Room:
    """What is left of a page.

    Args:
        size: in bytes of HTML.
    """

    def __init__(self, size: int = _ROOM) -> None:
        self._left = size

    def takes(self, *texts: str) -> bool:
        """Whether these texts find a place still, which they have then."""
        self._left -= _MARKUP + sum(_BREAK + len(escape(safe(text)).encode()) for text in texts)
        return self._left >= 0


def first_of(each: Sequence[_T], size: int, texts: Callable[[_T], Iterable[str]]) -> list[_T]:
    """The first of some things, as many as find a place.

    Args:
        each: the things.
        size: of the place that they have, in bytes of HTML.
        texts: what a page shows of one, and where its links lead.
    """
    room, shown = Room(size), list[_T]()
    for one in each:
        if not room.takes(*texts(one)):
            break
        shown.append(one)
    return shown


async def page_of(listed: AsyncGenerator[_T, None], limit: int) -> tuple[list[_T], bool]:
    """The first of what is listed, so many at most, and whether there is more."""
    found: list[_T] = []
    async with aclosing(listed) as items:
        async for each in items:
            if len(found) == limit:
                return found, True
            found.append(each)
    return found, False
