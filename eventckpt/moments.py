"""Times as events have them: text that somebody wrote, and that need not be one.

As text, two times of one moment differ by how they are written, and what is no time may sort behind all that are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["NEVER", "moment_of", "order_of"]

NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""Before every time that an event has."""


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
