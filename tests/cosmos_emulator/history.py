"""What a physical partition was a moment ago: its last transactions, kept so that they can be thought away.

Only a server whose replicas lag keeps this, and only for as long as they lag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .storage import Item


@dataclass(frozen=True)
class Undo:
    """One transaction, and what it replaced: None where there was no item."""

    lsn: int
    moment: float
    key: str
    effective_key: str
    before: Mapping[str, Item | None]


class History:
    """The transactions of the last `seconds`, oldest first."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries: deque[Undo] = deque()

    def record(self, lsn: int, key: str, effective_key: str, before: Mapping[str, Item | None]) -> None:
        now = self._monotonic()
        self._entries.append(Undo(lsn, now, key, effective_key, before))
        while self._entries[0].moment < now - self._seconds:
            self._entries.popleft()

    def recent(self, seen: int) -> list[Undo]:
        """The transactions that a replica which lags has not heard of, without those that a client has seen. As
        transactions come in order, these are the newest ones in any case."""
        since = self._monotonic() - self._seconds
        return [entry for entry in self._entries if entry.moment > since and entry.lsn > seen]

    def forget(self) -> None:
        """Every replica has heard of everything."""
        self._entries.clear()

    def within(self, low: str, high: str) -> History:
        """The part that concerns a stretch of the hash space."""
        part = History(self._seconds, self._monotonic)
        part._entries.extend(entry for entry in self._entries if low <= entry.effective_key < high)
        return part

    def items(self) -> Iterator[Item]:
        """Every item that is remembered."""
        for entry in self._entries:
            yield from (item for item in entry.before.values() if item is not None)
