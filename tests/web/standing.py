"""The projector of a store, as a viewer is told of it."""

from __future__ import annotations

from eventckpt import EventStore
from eventckpt.web import Standing
from eventckpt.web.standing import ASKED
from projections import open_engine
from projections.standing import standing_of

__all__ = ["Projector"]


class Projector:
    """How the projector of a store stands, as its command says it."""

    def __init__(self, store: EventStore) -> None:
        self._engine = open_engine(store)

    async def standing(self) -> Standing:
        return await standing_of(self._engine, ask_at_most=ASKED)
