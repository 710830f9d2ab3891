"""Times as people write them: a moment, or how long ago it was."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ..moments import NEVER
from ..text import described
from .session import USAGE, Failure

__all__ = ["TIME", "UNITS", "moment"]

TIME: Final = "a time such as 2026-05-31, or how long ago it was: 90m, 12h, 7d, 2w"
"""What an option that takes a time says of it."""
UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds of each unit, the longest first."""


def moment(text: str | None, option: str) -> datetime | None:
    """A time as people write it: ISO 8601, in UTC where it does not say, or how long ago it was.

    Args:
        text: what was given; None: nothing.
        option: what for, such as "--since".

    Raises:
        Failure: it is neither.
    """
    if text is None:
        return None
    if ago := re.fullmatch(r"([0-9]{1,9})([wdhms])", text):
        return _ago(int(ago[1]) * UNITS[ago[2]])
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(USAGE, f"{option} takes {TIME}; not {described(text)}.") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _ago(seconds: int) -> datetime:
    """So long ago, or the first time there is."""
    now = datetime.now(UTC)
    return now - timedelta(seconds=min(seconds, int((now - NEVER).total_seconds())))
