"""Times as people write them: a moment, or how long ago it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ..moments import NEVER, span_of
from ..text import described
from .session import USAGE, Failure

__all__ = ["TIME", "moment"]

TIME: Final = "a time such as 2026-05-31, or how long ago it was: 90m, 12h, 7d, 2w"
"""What an option that takes a time says of it."""


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
    if (ago := span_of(text)) is not None:
        now = datetime.now(UTC)
        return now - min(ago, now - NEVER)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(USAGE, f"{option} takes {TIME}; not {described(text)}.") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
