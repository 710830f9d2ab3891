"""The port between the processor and a log: ranges that are read page by page, each from its own continuation.

A continuation is an opaque text, on Cosmos DB the service's own etag. Order is kept within a run, because a run never
lies in two ranges. A continuation that was stored is not believed: the log that it is about may be another one by now.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

from ..errors import CheckpointStoreError
from ..events import MAX_SEQ, CheckpointEvent
from ..text import described
from .released import adapt

__all__ = [
    "EVERYTHING",
    "ChangeFeed",
    "FeedPage",
    "FeedRange",
    "FeedRangeGoneError",
    "ForeignPositionError",
    "Start",
    "number_of",
]

Start: TypeAlias = Literal["beginning", "now"]


class FeedRange(NamedTuple):
    """A part of the space of keys, as upper-case hexadecimal text: `min` belongs to it, `max` does not."""

    min: str
    max: str

    @property
    def token(self) -> str:
        """How lease documents name this range."""
        return f"{self.min}-{self.max}"

    def overlaps(self, other: FeedRange) -> bool:
        """Whether a key can lie in both."""
        return self.min < other.max and other.min < self.max

    def contains(self, other: FeedRange) -> bool:
        """Whether every key of `other` lies in this range."""
        return self.min <= other.min and other.max <= self.max

    def cut(self, others: Iterable[FeedRange]) -> list[FeedRange]:
        """This range in pieces, at every bound of `others` that lies inside it."""
        bounds = {bound for other in others for bound in other if self.min < bound < self.max}
        edges = [self.min, *sorted(bounds), self.max]
        return [FeedRange(low, high) for low, high in pairwise(edges)]

    def without(self, others: Iterable[FeedRange]) -> list[FeedRange]:
        """What of this range none of `others` covers."""
        left: list[FeedRange] = []
        low = self.min
        for other in sorted(others):
            if other.min >= self.max:
                break
            if other.min > low:
                left.append(FeedRange(low, other.min))
            low = max(low, other.max)
        if low < self.max:
            left.append(FeedRange(low, self.max))
        return left


EVERYTHING: Final = FeedRange("", "FF")


class FeedPage(NamedTuple):
    """What one read gives."""

    events: Sequence[CheckpointEvent]
    """Headers, in order within each run."""
    continuation: str
    """Where to read on; there even if nothing was found."""
    charge: float = 0.0
    """Request units, where the service counts them."""
    behind: int = 0
    """How many commits of the range came after this page when it was read; 0: it is the last one for now."""
    witness: str | None = None
    """What identifies the event right before `continuation`, to be given with it: so another log that goes as far is
    noticed. None: the feed has none."""


class FeedRangeGoneError(Exception):
    """A range is no longer served as one: it was split. Nothing of the page that noticed it may be used."""

    def __init__(self, feed_range: FeedRange, ranges: Sequence[FeedRange]) -> None:
        super().__init__(f"the range {feed_range.token} now spans {', '.join(each.token for each in ranges)}")
        self.ranges = ranges
        """The ranges that the feed is served in now."""


class ForeignPositionError(CheckpointStoreError):
    """A position that was kept is none that this feed gave: it is no position at all, lies beyond the feed's end, or
    the event before it is another one. The log was restored from a backup or cut, or somebody changed what was kept.

    Reading on from it would leave events out: begin anew.
    """

    def __init__(self, feed_range: FeedRange, position: str, why: str, *, is_certain: bool = True) -> None:
        super().__init__(f"the position {described(position)} of the range {feed_range.token} {why}")
        self.is_certain = is_certain
        """False: a replica that lags may say so, too. Only what stays so is true."""


def number_of(feed_range: FeedRange, position: str, *, most: int = MAX_SEQ) -> int:
    """The number in a position as the engines' feeds write it.

    Raises:
        ForeignPositionError: there is none, or one greater than `most`, up to which the engine counts.
    """
    found = re.fullmatch(_POSITION, position)
    if found is None or int(found[1]) > most:
        raise ForeignPositionError(feed_range, position, f"is none: it is no number from 0 to {most}")
    return int(found[1])


_POSITION: Final = r'"?([0-9]{1,19})"?'


class ChangeFeed(ABC):
    """The events of a store in the order in which they were committed, per range.

    A subclass whose `read` takes what that of 0.1.0 took is one, too; it does not notice that the log was replaced.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adapt(cls, "read", "witness", _read_of_0_1_0)

    @abstractmethod
    async def identity(self) -> str:
        """What tells this feed from all others; lease documents carry it in their ids."""

    @abstractmethod
    async def ranges(self) -> list[FeedRange]:
        """The ranges that the feed is served in at this moment; together they cover everything."""

    @abstractmethod
    async def read(
        self,
        feed_range: FeedRange,
        continuation: str | None,
        *,
        start: Start,
        limit: int,
        witness: str | None = None,
    ) -> FeedPage:
        """The next events of a range, about `limit` of them at most.

        Args:
            continuation: of the page before; None: this range was never read, and `start` says where to begin.
            witness: of the page before, if it had one; else this is left out.

        Raises:
            FeedRangeGoneError: the range was split.
            ForeignPositionError: this feed never gave `continuation`.
            CheckpointStoreError: the engine failed.
        """

    @abstractmethod
    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        """How many commits of the range come after `continuation`.

        Raises:
            FeedRangeGoneError, ForeignPositionError, CheckpointStoreError: see `read`.
        """


def _read_of_0_1_0(read: Callable[..., Awaitable[FeedPage]]) -> Callable[..., object]:
    """It cannot compare a witness."""

    async def adapted(
        self: ChangeFeed,
        feed_range: FeedRange,
        continuation: str | None,
        *,
        start: Start,
        limit: int,
        witness: str | None = None,
    ) -> FeedPage:
        return await read(self, feed_range, continuation, start=start, limit=limit)

    return adapted
