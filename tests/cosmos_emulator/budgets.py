"""Throttling: what an account serves in a second, and the 429 that tells how long to wait.

A budget refills evenly and holds one second's worth. A request is admitted while the budget is not overdrawn, and what
it costs is taken off afterwards, so one dear request makes the next ones wait, as long as `x-ms-retry-after-ms` says.
("Request rate too large", 18 July 2025: "Each second, the number of request units available to use is reset." That an
overdraft is carried over is our reading, and the stricter one.)

Each physical partition has its own: 429/3200. No physical or logical partition serves more than 10,000 RU/s, and none
of a serverless account more than 5,000 ("Service quotas", "Serverless account performance", 2025), whatever the switch
says; as a logical partition lies in one physical partition, its hot spot is the physical one's. Metadata have one
budget for the account, 240 RU/s, and 500 creations and 500 reads in five minutes ("Service quotas"): 429/3201. A
throttled request is not taken off any budget. A serverless account is throttled only if the switch says so, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import CosmosError
from .statuses import METADATA_THROTTLED, THROTTLED

MOST_OF_A_PARTITION: Final = 10_000
MOST_OF_A_SERVERLESS_PARTITION: Final = 5_000
METADATA_UNITS: Final = 240
METADATA_REQUESTS: Final = 500
METADATA_INTERVAL: Final = 300.0
"""Seconds in which so many metadata requests are served."""

_CREATIONS: Final = frozenset({"create_database", "create_container"})
_LOOKS: Final = frozenset(
    {"read_database", "read_container", "list_databases", "list_containers", "query_databases", "query_containers"}
)
_METADATA: Final = (
    _CREATIONS
    | _LOOKS
    | {"delete_database", "replace_container", "delete_container"}
    | {"list_offers", "query_offers", "read_offer", "replace_offer"}
)


@dataclass
class Budget:
    """`rate` a second, of which `most` can be there at once."""

    rate: float
    most: float
    left: float
    at: float
    """When `left` was right."""

    def wait(self, now: float) -> float:
        """Seconds until a request is admitted; 0 where one is now."""
        self.left = min(self.most, self.left + (now - self.at) * self.rate)
        self.at = now
        return 0.0 if self.left > 0 else -self.left / self.rate


class Budgets:
    """The budgets of one account. A request is admitted to those that it draws on, and `spend` takes its cost off."""

    def __init__(self, units: int, *, serverless: bool, clock: Callable[[], float]) -> None:
        self._units = min(units, MOST_OF_A_SERVERLESS_PARTITION if serverless else MOST_OF_A_PARTITION)
        self._clock = clock
        self._partitions: dict[tuple[str, str], Budget] = {}
        self._units_of_metadata = self._budget(METADATA_UNITS)
        self._creations, self._looks = (
            Budget(METADATA_REQUESTS / METADATA_INTERVAL, METADATA_REQUESTS, METADATA_REQUESTS, clock()) for _ in "12"
        )
        self._admitted: Budget | None = None

    def begin(self, kind: str) -> None:
        """A request of this kind; refuses metadata beyond the account's budgets."""
        self._admitted = None
        if not self._units or kind not in _METADATA:
            return
        counted = self._creations if kind in _CREATIONS else self._looks if kind in _LOOKS else None
        now = self._clock()
        wait = max(self._units_of_metadata.wait(now), counted.wait(now) if counted else 0.0)
        if wait:
            raise METADATA_THROTTLED.error(retry_after_ms=_milliseconds(wait))
        if counted:
            counted.left -= 1
        self._admitted = self._units_of_metadata

    def admit(self, container: str, partition: str) -> None:
        """Refuses a request whose physical partition is overdrawn."""
        if not self._units:
            return
        budget = self._partitions.setdefault((container, partition), self._budget(self._units))
        if wait := budget.wait(self._clock()):
            raise _throttled(wait)
        self._admitted = budget

    def spend(self, charge: float) -> None:
        if self._admitted is not None:
            self._admitted.left -= charge
            self._admitted = None

    def _budget(self, units: int) -> Budget:
        return Budget(units, units, units, self._clock())


def _throttled(wait: float) -> CosmosError:
    return THROTTLED.error(retry_after_ms=_milliseconds(wait))


def _milliseconds(wait: float) -> int:
    """The first whole millisecond at which something is left."""
    return math.floor(wait * 1000) + 1
