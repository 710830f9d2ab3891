"""Times as events have them: text that somebody wrote, and that need not be one.

As text, two times of one moment differ by how they are written, and what is no time may sort behind all that are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["NEVER", "UNITS", "moment_of", "order_of", "span_of"]

NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""Before every time that an event has."""

UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds of each unit that people give a span of time in, the longest first."""

_LONGEST: Final = timedelta.max // timedelta(seconds=1)


def moment_of(text: object) -> datetime | None:
    """A time as an event has it; None where it is none."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def order_of(text: object) -> datetime:
    """What to order by a time as an event has it: what is none counts as the oldest."""
    return moment_of(text) or NEVER


def span_of(text: str) -> timedelta | None:
    """A span of time as people write it, such as 30m, 12h, 7d or 2w; None where it is none."""
    found = re.fullmatch(r"([0-9]{1,9})([wdhms])", text)
    return timedelta(seconds=min(int(found[1]) * UNITS[found[2]], _LONGEST)) if found else None
