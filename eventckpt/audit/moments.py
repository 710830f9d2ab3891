"""Times as events have them: text that somebody wrote, and that need not be one."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["moment_of"]


def moment_of(text: str) -> datetime | None:
    """A time as an event has it; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
