"""What follows a failure: one policy, asked by every loop in the background and for whatever a handler raises.

What fails because of the events is tried a number of times, and then stopped or put aside. What fails because the store
cannot be reached, is locked or full, or lacks a container that was deleted, says nothing about the events: it is waited
out, however long that takes. And what no later attempt does better, such as without rights, ends the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from eventckpt.errors import (
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreReplacedError,
    StoreUnavailableError,
)
from eventckpt.text import safe

from .batch import UpgradeNeededError
from .leases import LeaseLostError
from .options import ProcessorOptions

__all__ = ["Retry", "Verdict", "is_lasting", "is_outage", "named", "raise_if_lasting", "verdict_on"]

_OUTAGES: Final = (StoreUnavailableError, StoreLockedError, StoreFullError, StoreMissingError)
_LASTING: Final = (StoreReplacedError, StoreReadOnlyError)
_DOUBLINGS: Final = 30
"""A number of failures may be anybody's, read from a lease: what is doubled more often has long been cut."""
_LONGEST: Final = 1_000  # characters of an error that are kept


class Verdict(Enum):
    """What an error means for whoever met it."""

    COUNTS = "counts"
    """A failed attempt at these events."""
    OUTAGE = "outage"
    """The store does not answer for now, whatever the events are: no attempt."""
    UPGRADE = "upgrade"
    """Somebody newer has to handle them: no attempt either."""
    LOST = "lost"
    """The lease is somebody else's by now."""
    LASTS = "lasts"
    """No later attempt does better."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When something that failed is tried again, and when no more."""

    backoff: float
    """Seconds before the second attempt; twice as long before each further one."""
    max_backoff: float
    """The longest pause, in seconds."""
    max_attempts: int | None = None
    """After how many failures it is given up; None: never."""
    stops: bool = True
    """Whether a range stops where its events are given up; else those that fail are put aside."""

    @classmethod
    def of(cls, options: ProcessorOptions) -> Self:
        """What the options of a processor say about its handler."""
        return cls(
            backoff=options.backoff,
            max_backoff=options.max_backoff,
            max_attempts=options.max_attempts,
            stops=options.on_error == "stop",
        )

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.max_backoff, self.backoff * 2 ** min(max(failures - 1, 0), _DOUBLINGS))

    def gives_up(self, attempts: int) -> bool:
        """Whether so many failed attempts are enough."""
        return self.max_attempts is not None and attempts >= self.max_attempts


def verdict_on(error: BaseException) -> Verdict:
    """What `error` means. Of a group, the worst that is in it: an outage is one only where nothing else went wrong."""
    verdicts = {_verdict_on_one(each) for each in _each_of(error)}
    return next(each for each in _WORST_FIRST if each in verdicts)


def is_outage(error: BaseException) -> bool:
    """Whether the store cannot be reached, is locked or full, or lacks a container; that passes, and says nothing about
    the events."""
    return verdict_on(error) is Verdict.OUTAGE


def is_lasting(error: BaseException) -> bool:
    """Whether no later attempt does better: the store under us is another one, or this identity has no rights."""
    return verdict_on(error) is Verdict.LASTS


def raise_if_lasting(error: BaseException) -> None:
    """Raises what makes `error` last, where it does. To be asked wherever a failure would be tried again."""
    for each in _each_of(error):
        if isinstance(each, _LASTING):
            raise each


def named(error: BaseException) -> str:
    """An error on one line, as logs, leases and parked events have it."""
    return f"{safe(type(error).__name__)}: {safe(error)}"[:_LONGEST]


_WORST_FIRST: Final = (Verdict.LASTS, Verdict.LOST, Verdict.COUNTS, Verdict.UPGRADE, Verdict.OUTAGE)


def _verdict_on_one(error: BaseException) -> Verdict:
    if isinstance(error, _LASTING):
        return Verdict.LASTS
    if isinstance(error, LeaseLostError):
        return Verdict.LOST
    if isinstance(error, UpgradeNeededError):
        return Verdict.UPGRADE
    return Verdict.OUTAGE if isinstance(error, _OUTAGES) else Verdict.COUNTS


def _each_of(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, in groups of groups, too: what a handler with a TaskGroup raises."""
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions  # pyright: ignore[reportUnknownMemberType] - of any kind
        else:
            yield each
