"""When a delta is worth an attempt.

To compress a large state against a snapshot with which it has nothing in common takes longer than all else in a save,
and gives nothing. Whether it would is known only afterwards, and as a rule it goes on as it was: a state of random
bytes is followed by another. So each attempt in vain makes the pause to the next one longer. What that can cost is
bounded: once the states begin to be alike, no more snapshots are written for the pause than were needed before it.
"""

from __future__ import annotations

from typing import Final

from ..events import Payload
from ..threads import LARGE

__all__ = ["Attempts"]

_LONGEST: Final = 16
"""Saves from one attempt to the next at most: by then, attempts take a sixteenth of what they took."""


class Attempts:
    """What a lineage has shown of deltas. Forgetting costs an attempt."""

    def __init__(self) -> None:
        self._every = 1
        """From one attempt to the next, in saves."""
        self._since = 0

    def is_due(self, size: int) -> bool:
        """Whether the next save, of `size` raw bytes, is to try a delta. Of few it always is: that costs next to
        nothing."""
        if size < LARGE:
            return True
        self._since += 1
        return self._since >= self._every

    def made(self, payload: Payload, rests_on: Payload) -> None:
        """One was made against `rests_on`, a snapshot or what rests on one, and gave `payload`.

        It was in vain if what was written right after a snapshot is hardly smaller than that. Where the state has grown
        to much more than the snapshot holds, it tells nothing about the next one.
        """
        size, before = payload.stored_size, rests_on.stored_size
        in_vain = rests_on.base_seq is None and 3 * before < 4 * size < 8 * before
        self._every = min(2 * self._every, _LONGEST) if in_vain else 1
        self._since = 0
