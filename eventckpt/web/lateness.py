"""How late the projection is that a page lists from: asked of the projector's side now and then, not for each page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import CheckpointStoreError, StoreReplacedError
from ..moments import order_of
from .standing import Operations

__all__ = ["Lateness", "Watch"]

_FOR: Final = 10.0
"""Seconds for which what was told counts: pages are looked at more often, and by many."""


class Lateness(NamedTuple):
    """How far the projection lies behind the log, as far as anybody tells."""

    behind: int | None = None
    """Commits of the ranges that were asked; None: nobody tells."""
    ranges: int | None = None
    """Which the log is read in; 0: no worker ever ran. None: nobody tells."""
    unread: int = 0
    """Of them, those that nobody reads."""
    seen: str | None = None
    """When a worker that reads one wrote of it last, ISO 8601."""
    is_doubted: bool = False
    """Whether the projection is not to be believed."""

    @classmethod
    def of(cls, ranges: Sequence[Mapping[str, Any]], doubted: str | None) -> Self:
        """What the ranges of a standing amount to."""
        lags: list[int] = [each["lag"] for each in ranges if each.get("lag") is not None]
        written = [str(each["written"]) for each in ranges if each.get("owner") is not None and each.get("written")]
        unread = sum(each.get("owner") is None for each in ranges)
        seen = max(written, key=order_of, default=None)
        return cls(sum(lags) if lags else None, len(ranges), unread, seen, doubted is not None)


class Watch:
    """Tells how late the projection is.

    Args:
        operations: the projector's side; None: nobody tells.
        clock: by which what was told grows old; for tests.
    """

    def __init__(self, operations: Operations | None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._operations = operations
        self._clock = clock
        self._told = Lateness()
        self._until = float("-inf")
        self._asking = asyncio.Lock()

    async def lateness(self) -> Lateness:
        """How late it is, or was a few seconds ago.

        Raises:
            StoreReplacedError: there is another store to ask.
        """
        if self._operations is None:
            return self._told
        async with self._asking:
            if self._clock.monotonic() >= self._until:
                self._told = await self._asked(self._operations)
                self._until = self._clock.monotonic() + _FOR
        return self._told

    async def _asked(self, operations: Operations) -> Lateness:
        try:
            standing = await operations.standing()
        except StoreReplacedError:
            raise
        except CheckpointStoreError:  # the list stands all the same; /operations says what is the matter
            return Lateness()
        return Lateness.of(standing.ranges, standing.doubted)
