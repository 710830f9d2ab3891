"""Pages of the change feed that hold nothing though there is more: the service gives them with 200 and a new etag.

Azure/azure-cosmos-dotnet-v3 #755 (2019): a read from a time is first answered with an empty page, with 200, that only
tells where to go on. How often that happens, and how far the etag of such a page gets, is not documented. Here it
stands still or moves towards the next item, and never passes one that was not given.
"""

from __future__ import annotations

from random import Random
from typing import Final

from .feed import FeedPage
from .switches import Switches

MOST_IN_A_ROW: Final = 3
"""So that a reader gets on, be the share as high as 1."""


class EmptyPages:
    """Draws which pages come empty."""

    def __init__(self, switches: Switches) -> None:
        self._share = switches.empty_pages
        self._random = Random(switches.seed)
        self._in_a_row = 0

    def instead_of(self, page: FeedPage, *, after: int, from_time: bool) -> FeedPage:
        """The page, or an empty one in its place. A reader that began at a time has only the etag from then on, so its
        etag must leave behind what is older."""
        if not self._draw(page):
            self._in_a_row = 0
            return page
        self._in_a_row += 1
        before = page.items[0].lsn - 1
        return FeedPage([], before if from_time else self._random.choice([after, self._between(after, before), before]))

    def _draw(self, page: FeedPage) -> bool:
        possible = self._share > 0 and bool(page.items) and self._in_a_row < MOST_IN_A_ROW
        return possible and self._random.random() < self._share

    def _between(self, after: int, before: int) -> int:
        return self._random.randint(min(after, before), before)
