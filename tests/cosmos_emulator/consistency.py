"""Consistency levels: what a request may ask for, and which reads cost twice.

"Consistency levels" and "Manage consistency" (Azure Cosmos DB's documentation, 2025): an account has a default, and a
request may only ask for less; the service answers a stronger one with the 400 below, which its SDKs' issues quote.
"""

from __future__ import annotations

from typing import Final

from .errors import bad_request

LEVELS: Final = ("Strong", "BoundedStaleness", "Session", "ConsistentPrefix", "Eventual")
"""From the strongest."""
_DOUBLE: Final = frozenset({"Strong", "BoundedStaleness"})


def level_of(header: str | None, default: str) -> str:
    """The level that a request is served with."""
    if header is None:
        return default
    wanted = next((level for level in LEVELS if level.lower() == header.lower()), None)
    if wanted is None:
        raise bad_request(f"The value '{header}' specified for the header 'x-ms-consistency-level' is invalid.")
    if LEVELS.index(wanted) < LEVELS.index(default):
        raise bad_request(
            f"ConsistencyLevel {wanted} specified in the request is invalid when service is configured with "
            f"consistency level {default}. Ensure the request consistency level is not stronger than the "
            "service consistency level."
        )
    return wanted


def costs_twice(level: str) -> bool:
    return level in _DOUBLE
