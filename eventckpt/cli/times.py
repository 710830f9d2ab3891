"""Times as people read them: how long ago, or where in time, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ..moments import moment_of
from ..text import safe

__all__ = ["SECONDS_OF", "ago", "in_utc", "stored"]

SECONDS_OF: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "s": 1}
"""The seconds of each unit that times are told in, the longest first."""


def ago(text: str, now: datetime) -> str:
    """How long ago a time was, or how long it is until then, in the largest unit that it has two of. What is no time
    stays as it is stored.

    Args:
        text: a time as events have it.
        now: the time now.
    """
    moment = moment_of(text)
    if moment is None:
        return stored(text)
    seconds = int((now - moment).total_seconds())
    if abs(seconds) < 2:
        return "now"
    unit, size = next((unit, size) for unit, size in SECONDS_OF.items() if abs(seconds) >= 2 * size)
    count = abs(seconds) // size
    return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"


def in_utc(text: str) -> str:
    """A time to the second, with its zone, which is UTC. What is no time stays as it is stored."""
    moment = moment_of(text)
    return stored(text) if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def stored(text: str) -> str:
    """A time to the second, as it is stored: with its own offset, which is UTC for all that this package wrote."""
    return safe(text[:19].replace("T", " "))
