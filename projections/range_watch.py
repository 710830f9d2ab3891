"""How far ranges lie behind, whoever reads them: for people, and for alerts that must not depend on who is still there.

A worker knows of its own ranges from reading them. Of all others it sees the leases, which it looks at anyway, and asks
the feed from time to time, a bounded number at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from eventckpt.clock import Clock
from eventckpt.errors import StoreUnavailableError
from eventckpt.stores.change_feed import ChangeFeed, FeedRange, FeedRangeGoneError, ForeignPositionError, Start

from .leases import Lease, LeaseState

__all__ = ["RangeStatus", "RangeView", "RangeWatch", "status_of"]

_AT_ONCE: Final = 16
"""Ranges of others that are asked for each time: one small read each."""
_PIECES: Final = 1_000
"""Parts of one range; a feed that splits it further all the time never gets to an end."""


class RangeStatus(NamedTuple):
    """One range as its lease shows it to everybody."""

    lease: Lease
    lag: int | None
    """Commits that come after the lease's position; after the beginning, where that is none of the feed's. None: the
    feed was not asked."""
    refused: str | None = None
    """Why the position is none of the feed's, so that whoever reads the range begins anew."""


class RangeView(NamedTuple):
    """One range of a processor as one of its workers sees it, whoever reads it."""

    range: FeedRange
    state: LeaseState
    """As its lease said when this worker last looked."""
    owner: str | None
    is_ours: bool
    """Whether this worker reads it."""
    lag: int | None
    """Commits that are not handled yet; of a range of others as of the last time that the feed was asked. None: it has
    not answered for this range yet."""
    poll_age: float
    """Seconds since the feed answered this worker for the range, or since it took it. Of a range of others, seconds
    since this worker first saw the lease as it is, or read the range itself: one that is read is written every
    `renew_interval`, and one that is stopped, or whose owner is gone, is not."""


class RangeWatch:
    """What one worker sees of the ranges of others.

    Args:
        feed: is asked how far they lie behind.
        held: the ranges that this worker reads, which need no question.
        clock: where the time comes from.
    """

    def __init__(self, feed: ChangeFeed, held: Callable[[], Collection[FeedRange]], clock: Clock) -> None:
        self._feed = feed
        self._held = held
        self._clock = clock
        self._seen: dict[FeedRange, tuple[Lease, float]] = {}
        self._lags: dict[FeedRange, int | None] = {}
        self._asked: dict[FeedRange, float] = {}

    def look(self, leases: Sequence[Lease]) -> None:
        """Note the leases as they are now."""
        now, before = self._clock.monotonic(), self._seen
        self._seen = {}
        for lease in leases:
            known, since = before.get(lease.range, (lease, now))
            self._seen[lease.range] = (lease, since if known.etag == lease.etag else now)
        self._lags = {each: lag for each, lag in self._lags.items() if each in self._seen}
        self._asked = {each: at for each, at in self._asked.items() if each in self._seen}

    def left(self, lease: Lease, read_at: float) -> None:
        """This worker reads a range no more, and last did at `read_at`: from there its age goes on until somebody else
        writes its lease, which is given as this worker wrote it last. It is asked for first."""
        self._seen[lease.range] = (lease, read_at)
        self._asked.pop(lease.range, None)

    async def ask(self) -> None:
        """Ask the feed for some ranges of others, those first that were not asked for longest."""
        held = self._held()
        others = [lease for lease, _ in self._seen.values() if lease.range not in held]
        others.sort(key=lambda lease: self._asked.get(lease.range, -1.0))
        for lease in others[:_AT_ONCE]:
            self._asked[lease.range] = self._clock.monotonic()  # also where it fails: the others have their turn
            self._lags[lease.range] = (await status_of(self._feed, lease)).lag

    def others(self) -> list[RangeView]:
        """The ranges of others, in order. What overlaps one that this worker reads was split since, or merged."""
        held, now = self._held(), self._clock.monotonic()
        return [
            RangeView(each, lease.state, lease.owner, False, self._lags.get(each), now - since)
            for each, (lease, since) in sorted(self._seen.items())
            if not any(each.overlaps(ours) for ours in held)
        ]


async def status_of(feed: ChangeFeed, lease: Lease) -> RangeStatus:
    """How far the range of a lease lies behind.

    Raises:
        CheckpointStoreError: the feed failed.
    """
    try:
        return RangeStatus(lease, await _lag(feed, lease.range, lease.continuation, lease.start))
    except ForeignPositionError as error:
        lag = await _lag(feed, lease.range, None, "beginning") if error.is_certain else 0
        return RangeStatus(lease, lag, refused=str(error))


async def _lag(feed: ChangeFeed, feed_range: FeedRange, continuation: str | None, start: Start) -> int:
    """Of all parts that the range was split into, also those that are split while they are asked."""
    left, lag = [feed_range], 0
    for _ in range(_PIECES):
        if not left:
            return lag
        part = left.pop()
        try:
            lag += await feed.lag(part, continuation, start=start)
        except FeedRangeGoneError as gone:
            left += part.cut(gone.ranges)
    raise StoreUnavailableError(
        f"The range {feed_range.token} is split all the time, so that its lag cannot be told. Ask again."
    )
