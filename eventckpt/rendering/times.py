"""Times as people write and read them: a moment, or how long ago it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ..exit_codes import USAGE, Failure
from ..moments import NEVER, UNITS, moment_of, span_of
from ..text import described, safe

__all__ = ["TIME", "ago", "in_utc", "moment", "stored", "took"]

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
    if (span := span_of(text)) is not None:
        now = datetime.now(UTC)
        return now - min(span, timedelta(seconds=int((now - NEVER).total_seconds())))
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(USAGE, f"{option} takes {TIME}; not {described(text)}.", about=option) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


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
    span = _span_text(abs(seconds))
    return f"{span} ago" if seconds > 0 else f"in {span}"


def _span_text(seconds: int) -> str:
    for unit, size in UNITS.items():
        if seconds >= 2 * size:
            return f"{seconds // size} {'min' if unit == 'm' else unit}"
    return f"{seconds} s"


def took(first: str, last: str) -> str:
    """How long it was from one time to another, in the largest unit that it has two of; to the millisecond below two
    minutes; empty where one is no time."""
    begun, ended = moment_of(first), moment_of(last)
    if begun is None or ended is None:
        return ""
    seconds = (ended - begun).total_seconds()
    if abs(seconds) < 2 * UNITS["m"]:
        return f"{seconds:,.3f}".rstrip("0").rstrip(".") + " s"
    unit, size = next((unit, size) for unit, size in UNITS.items() if abs(seconds) >= 2 * size)
    return f"{seconds / size:,.1f} {'min' if unit == 'm' else unit}"


def in_utc(text: str) -> str:
    """A time to the second, with its zone, which is UTC. What is no time, or is none in UTC, where the calendar has
    its ends, stays as it is stored."""
    moment = moment_of(text)
    if moment is not None and moment.tzinfo is UTC and text[4:17:3] == "--T::":  # as this package writes it
        return f"{text[:10]} {text[11:19]}Z"
    try:
        return stored(text) if moment is None else f"{moment.astimezone(UTC).isoformat(' ')[:19]}Z"
    except OverflowError:
        return stored(text)


def stored(text: str) -> str:
    """A time to the second, as it is stored: with its own offset, which is UTC for all that this package wrote."""
    return safe(text[:19].replace("T", " "))
