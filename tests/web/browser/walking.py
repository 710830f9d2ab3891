"""A walk over all that the front page leads to, so that no page is forgotten."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from .watching import NARROW, WIDE, opened

if TYPE_CHECKING:
    from playwright.async_api import Browser, StorageState

__all__ = ["Walk", "walked"]

FRONT: Final = "/"
SIGN_IN: Final = "/sign-in"


@dataclass
class Walk:
    """Where it came, and what went wrong there."""

    visited: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The addresses that were looked at, by their paths."""
    asked: set[str] = field(default_factory=set)
    """The paths of all that the pages asked for, by themselves too."""
    troubles: list[str] = field(default_factory=list)
    signed_in: StorageState | None = None
    """The cookies of somebody who signed in."""

    def one_of_each(self) -> list[str]:
        """An address of each page."""
        return [addresses[0] for path, addresses in sorted(self.visited.items()) if path != FRONT]


async def walked(browser: Browser, address: str, *, each: int) -> Walk:
    """Follow every link from the front page, as somebody who signed in.

    Args:
        browser: that looks.
        address: of the viewer.
        each: how many addresses of one path are looked at; the first ones that name other things.
    """
    walk, ahead, known = Walk(), deque([FRONT, SIGN_IN]), {FRONT, SIGN_IN}
    async with opened(browser, address) as window:
        await window.sign_in()
        walk.signed_in = await window.page.context.storage_state()
        while ahead:
            where = ahead.popleft()
            path = urlsplit(where).path
            if len(walk.visited[path]) >= each:
                continue
            walk.visited[path].append(where)
            found = await window.visit(where)
            await window.page.set_viewport_size(NARROW)
            await window.looked()
            await window.page.set_viewport_size(WIDE)
            links = [_below(link, address) for link in found["links"]]
            ahead.extend(_new([link for link in links if link], known))
        walk.asked, walk.troubles = set(window.asked), window.troubles
    return walk


def _new(links: list[str], known: set[str]) -> list[str]:
    """Those that are not known yet, another page before another view of one that is known; they are known then."""
    found = [link for link in dict.fromkeys(links) if link not in known and "format=jsonl" not in link]
    known.update(found)
    return sorted(found, key=lambda link: len(parse_qsl(urlsplit(link).query)))


def _below(link: str, address: str) -> str:
    """The address that a link of a page leads to, without the viewer's own; empty: within the page."""
    where = link.partition("#")[0].removeprefix(address)
    return where if where.startswith("/") else ""
