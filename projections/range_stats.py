"""What a worker counts about each range it reads; `/metrics` and `/healthz` show it."""

from __future__ import annotations

from dataclasses import dataclass

from eventckpt.stores.change_feed import FeedPage

__all__ = ["RangeStats"]


@dataclass
class RangeStats:
    """Counters of one range since this worker first read it. All times are in seconds."""

    events: int = 0
    """Handled, or parked."""
    batches: int = 0
    polls: int = 0
    """Reads that the feed answered."""
    read_failures: int = 0
    read_seconds: float = 0.0
    charge: float = 0.0
    """Request units of the reads."""
    handler_seconds: float = 0.0
    handler_failures: int = 0
    outages: int = 0
    """Of them, those in which the store could not be reached, was locked or full: no failed attempts."""
    parked: int = 0
    restarts: int = 0
    """How often the work on the range began again after an error that nobody expected."""
    stopped: int = 0
    """How often the policy stopped the range."""
    positions_refused: int = 0
    """How often the range was begun anew, because its position was none of the feed's."""
    lease_writes: int = 0
    polled_at: float | None = None
    """When the feed last answered, by the processor's monotonic clock."""
    behind: int = 0
    """Commits that came after the last page that was read."""
    waiting: int = 0
    """Events that were read and not yet handled."""
    position: str = ""

    @property
    def lag(self) -> int:
        """What is left to do, as far as the last read told."""
        return self.behind + self.waiting

    def read(self, page: FeedPage, seconds: float, now: float) -> None:
        """Count a page that the feed gave."""
        self.polls += 1
        self.read_seconds += seconds
        self.charge += page.charge
        self.polled_at = now
        self.behind = page.behind
        self.waiting += len(page.events)

    def handled(self, events: int, position: str) -> None:
        """Count a page that is done."""
        self.events += events
        self.waiting -= events
        self.position = position
