"""Since when what others write is seen as it is: what tells a document that was left behind from one that is kept."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from ..clock import Clock

__all__ = ["Sightings"]

_FORGOTTEN: Final = 3_600.0  # seconds without a look, after which one gives way to others


class _Sighting(NamedTuple):
    etag: str
    since: float
    last: float


class Sightings:
    """Of documents, by their names; so many at most.

    What was seen first stays. Whoever goes over more than there is room for finds those again that it saw first, is
    done with them, and has room for others: all get their turn. If the newest stayed, as in a cache, none would ever be
    seen twice.

    Args:
        size: how many.
        clock: where the time comes from.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self._size = size
        self._clock = clock
        self._seen: OrderedDict[str, _Sighting] = OrderedDict()
        """Those that were looked at last come last."""
        self._is_short = False

    def saw(self, name: str, etag: str) -> float:
        """Since when this one is seen with this etag: from now on, where it is not known or has another one."""
        now = self._clock.monotonic()
        known = self._seen.pop(name, None)
        if known is not None and known.etag == etag:
            self._seen[name] = known._replace(last=now)
            return known.since
        if known is not None and self._is_short:  # it is kept by somebody: its place is for those that may not be
            self._is_short = False
        elif self._has_room(now):
            self._seen[name] = _Sighting(etag, now, now)
        else:
            self._is_short = True
        return now

    def gone(self, name: str) -> None:
        """It is not there any more, or is another's matter no more."""
        self._seen.pop(name, None)

    def _has_room(self, now: float) -> bool:
        if len(self._seen) < self._size:
            return True
        first = next(iter(self._seen), None)
        if first is None or now - self._seen[first].last < _FORGOTTEN:
            return False
        del self._seen[first]
        return True
