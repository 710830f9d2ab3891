"""Databases, containers and offers that not everybody has heard of yet.

A container that was just created can be 404 with substatus 1003 for whoever asks next, as if it had no owner. The
Python SDK (4.17.1) names the substatus and does nothing about it. No page says for how long it lasts, or for whom; so
here it is everybody, the creator included, and only the answer to the creation has the document. A container
that is made anew is as late as one that is new. What is certain is told at once all the same: a name that is taken is
taken (409).
"""

from __future__ import annotations

from collections.abc import Callable


class Lateness:
    """When each resource, by resource id, is there for those who ask."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._known_from: dict[str, float] = {}

    def created(self, rid: str) -> None:
        if self._seconds > 0:
            self._known_from[rid] = self._monotonic() + self._seconds

    def is_known(self, rid: str) -> bool:
        moment = self._known_from.get(rid)
        if moment is None:
            return True
        if moment > self._monotonic():
            return False
        del self._known_from[rid]
        return True
