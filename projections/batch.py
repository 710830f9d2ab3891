"""What a handler gets: some events of one range, and a way to ask whether they are still its to handle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, overload

from eventckpt import CheckpointEvent
from eventckpt.stores.change_feed import FeedRange

from .leases import LeaseLostError

__all__ = ["Batch", "Handler", "UpgradeNeededError"]


class UpgradeNeededError(Exception):
    """Raised by a handler for events that only a newer version of it can handle.

    That is no failed attempt, however often it happens: while workers are upgraded one by one, an older one waits, and
    the range goes on where a newer one takes it over. Nothing is skipped, and nobody has to resume anything.
    """


class Batch(Sequence[CheckpointEvent]):
    """Events of one range, in order within each run. Headers: `payload.data` is left out.

    It comes again, whole or in part, after a failure and after a crash.
    """

    def __init__(self, feed_range: FeedRange, events: Sequence[CheckpointEvent], fenced: Callable[[], bool]) -> None:
        self.range = feed_range
        self._events = events
        self._fenced = fenced

    @property
    def fenced(self) -> bool:
        """Whether another worker may have begun with this range, because the lease could not be renewed in time.

        The processor cancels the handler before that; but a process that was frozen goes on where it was, and a
        handler whose effects are not guarded otherwise should ask before each of them.
        """
        return self._fenced()

    def check(self) -> None:
        """Raises `LeaseLostError` if `fenced`: nothing more may be done with this batch."""
        if self.fenced:
            raise LeaseLostError(f"the lease {self.range.token} was not renewed in time")

    @overload
    def __getitem__(self, index: int) -> CheckpointEvent: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[CheckpointEvent]: ...

    def __getitem__(self, index: int | slice) -> CheckpointEvent | Sequence[CheckpointEvent]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)


Handler: TypeAlias = Callable[[Batch], Awaitable[object]]
"""Handles a batch completely, or raises: then the whole batch comes again. See also `UpgradeNeededError`."""
