"""How a processor behaves: every setting, and what it trades for what."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from eventckpt import settings
from eventckpt.stores.change_feed import Start

__all__ = ["RELEASING", "OnError", "ProcessorOptions"]

OnError: TypeAlias = Literal["stop", "park"]

RELEASING: Final = 5.0
"""Seconds in which a worker that stops gives its leases back, once its handlers have ended."""

_AT_LEAST = (("page_size", 1), ("batch_pages", 1), ("read_ahead", 0), ("requests_per_cycle", 0), ("max_attempts", 1))
_PERIODS = (
    "poll_interval",
    "acquire_interval",
    "renew_interval",
    "expiry",
    "fence_margin",
    "lag_interval",
    "backoff",
    "max_backoff",
)


def _this_worker() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, kw_only=True)
class ProcessorOptions:
    """All times are in seconds.

    Raises:
        TypeError: a value is of another type than its field.
        ValueError: a value is out of range, or the times do not leave room for a second attempt at a renewal.
    """

    worker: str = field(default_factory=_this_worker)
    """This worker's name. No two workers may share one, not even one that crashed and the one that follows it."""
    start: Start = "beginning"
    """Where ranges begin that were never read: with the first event, or with those that come from now on."""
    page_size: int = 500
    """Events that are asked for at once."""
    batch_pages: int = 4
    """Pages that the handler gets at once while the range lies behind; larger batches coalesce better, and more is
    repeated after a crash. At the end of a range it gets what there is."""
    read_ahead: int = 1
    """Pages that wait in memory while the handler works; 0: reading begins when the handler is done."""
    poll_interval: float = 5.0
    """How long to wait at the end of a range; twice as long when nothing came for a dozen polls. Full pages are read
    back to back."""
    acquire_interval: float = 13.0
    """How often to look at all leases. Half of it is how long a new or a released range waits on average."""
    renew_interval: float = 30.0
    """How long a lease may go unwritten. A checkpoint is a renewal too."""
    expiry: float = 60.0
    """After how long without a write a lease counts as nobody's. The same for all workers of a processor."""
    fence_margin: float = 10.0
    """How long before expiry a worker that could not renew stops its handler: the time that it has to stop."""
    requests_per_cycle: int = 16
    """How many leases a worker that has too few asks others for, each time it looks."""
    checkpoint_interval: float = 1.0
    """How often to save the position under load; what came since is repeated after a crash. 0: after each batch."""
    on_error: OnError = "stop"
    """What follows the last attempt: stop the range until `unpark`, or put the events that fail aside and go on."""
    max_attempts: int = 5
    """How often a batch is tried, over all workers and restarts."""
    backoff: float = 1.0
    """The pause after the first failure; it doubles with each further one."""
    max_backoff: float = 60.0
    """The longest pause between two attempts."""
    lag_interval: float = 30.0
    """How often to ask the feed how far ranges lie behind that this worker does not read, 16 of them at a time."""
    stop_timeout: float = 20.0
    """How long `stop` waits for handlers before it cancels them. Leases are given back then, for 5 seconds at most."""

    def __post_init__(self) -> None:
        settings.text("worker", self.worker)
        settings.choice("start", self.start, "beginning", "now")
        settings.choice("on_error", self.on_error, "stop", "park")
        for name, least in _AT_LEAST:
            settings.whole_number(name, getattr(self, name), least=least)
        for name in _PERIODS:
            settings.number(name, getattr(self, name))
        for name in ("checkpoint_interval", "stop_timeout"):
            settings.number(name, getattr(self, name), zero=True)
        if not self.fence_margin < self.expiry - self.renew_interval:
            raise ValueError(
                f"A lease that is renewed after {self.renew_interval:g} s and expires after {self.expiry:g} s leaves "
                f"no time to stop {self.fence_margin:g} s before: make expiry longer, or the others shorter."
            )
