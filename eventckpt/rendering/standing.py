"""How the projector of a store stands, as commands and pages say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Standing"]


class Standing(NamedTuple):
    """The projection in use, and what its workers have left: what `eventckpt-projector status --json` prints."""

    projection: str
    """Its name."""
    doubted: str | None
    """Why it is not to be believed; None: nothing speaks against it."""
    ranges: Sequence[Mapping[str, Any]]
    """Of those of which nobody asked the feed, the lag is None."""
    parked: Sequence[Mapping[str, Any]]
