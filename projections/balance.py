"""Who should read what: the share of one worker, from the leases alone.

Nobody takes a lease from a worker that is alive, since that worker may be in the middle of a batch. Who has less than
its share asks for a lease by writing its name into it; the owner finishes its batch and releases, and for a while the
lease is reserved for who asked. So a range changes hands without a batch being handled twice, and a worker that waits
for its first lease is seen by the others.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .leases import Lease

__all__ = ["Observer", "Share", "share_of"]


class Share(NamedTuple):
    """What a worker should do now."""

    take: list[Lease]
    """Leases without a living owner."""
    request: list[Lease]
    """Leases to ask their owners for."""


def share_of(worker: str, leases: Sequence[Lease], expired: Collection[Lease], *, requests: int) -> Share:
    """The next steps of `worker` towards an even distribution.

    Args:
        expired: leases whose owner, or whoever they are reserved for, is not alive any more.
        requests: how many leases to ask for at most.
    """
    gone = {lease.range for lease in expired}
    readable = [lease for lease in leases if lease.state != "stopped"]
    free = [lease for lease in readable if lease.range in gone or lease.is_free_for(worker)]
    held = [lease for lease in readable if lease not in free]
    counts = Counter({worker: 0})
    counts.update({lease.owner: 0 for lease in held if lease.owner})
    counts.update(_goes_to(lease) for lease in held)
    target = math.ceil(len(readable) / len(counts))
    random.shuffle(free)  # so that workers that start together do not all try the same ones
    free.sort(key=lambda lease: lease.wanted_by != worker)
    take = free[: max(0, target - counts[worker])]
    counts[worker] += len(take)
    request: list[Lease] = []
    while len(request) < requests:
        richest = max(counts, key=lambda name: counts[name])
        if counts[richest] - counts[worker] < 2:
            break
        # Also one that the richest has only asked for so far: the last one who looked saw best who needs it.
        lease = next(each for each in held if _goes_to(each) == richest)
        held.remove(lease)
        request.append(lease)
        counts[richest] -= 1
        counts[worker] += 1
    return Share(take, request)


def _goes_to(lease: Lease) -> str:
    """Who will have this lease soon: one that is asked for is as good as given."""
    return lease.wanted_by or lease.owner or ""


class Observer:
    """Which leases have expired, by the local monotonic clock: those that nobody wrote for a full term.

    The owner counts its term from before it sends a write, this counts it from after it read the result: so whatever
    the clocks of the two say, the owner gives up first.
    """

    def __init__(self, expiry: float, *, reservation: float) -> None:
        self._expiry = expiry
        self._reservation = reservation
        self._seen: dict[str, tuple[str, float]] = {}

    def expired(self, leases: Sequence[Lease], *, asked: float, answered: float) -> list[Lease]:
        """Of `leases`, as read between the two moments, those whose owner must have stopped, or whose reservation
        was not used."""
        seen = self._seen
        self._seen = {}
        expired: list[Lease] = []
        for lease in leases:
            etag, since = seen.get(lease.range.token, ("", answered))
            if etag != lease.etag:
                since = answered
            self._seen[lease.range.token] = (lease.etag, since)
            term = self._expiry if lease.owner else self._reservation
            if asked - since >= term and (lease.owner or lease.wanted_by):
                expired.append(lease)
        return expired
