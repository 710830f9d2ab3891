"""How the projector of a store stands, as the pages are told: by what the viewer does not know itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

__all__ = ["ASKED", "Operations", "Standing"]

ASKED: Final = 100
"""Ranges of which a page says how far they lie behind, as to tell each is a read: as many as it shows."""


class Standing(NamedTuple):
    """How the projector of a store stands, as `eventckpt-projector status --json` prints it."""

    projection: str
    """The name of the projection in use."""
    doubted: str | None
    """Why it is not to be believed; None: nothing speaks against it."""
    ranges: Sequence[Mapping[str, Any]]
    """Of those behind the first hundred or so, the lag is None: a page that is looked at again and again asks for no
    more."""
    parked: Sequence[Mapping[str, Any]]


class Operations(Protocol):
    """What the page about operations asks of the projector's side, which the viewer does not know."""

    async def standing(self) -> Standing:
        """How the projector stands now.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        ...
