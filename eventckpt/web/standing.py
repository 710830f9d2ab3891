"""How the projector of a store stands, as the pages are told: by what the viewer does not know itself."""

from __future__ import annotations

from typing import Final, Protocol

from ..rendering.standing import Standing

__all__ = ["ASKED", "Operations", "Standing"]

ASKED: Final = 100
"""Ranges of which a page says how far they lie behind, as many as it shows: to tell each is a read, and a page is
looked at again and again."""


class Operations(Protocol):
    """What the page about operations asks of the projector's side, which the viewer does not know."""

    async def standing(self) -> Standing:
        """How the projector stands now.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        ...
