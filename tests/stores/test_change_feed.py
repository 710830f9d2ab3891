"""What both engines do for processors: the conformance suite of `ChangeFeed`."""

from __future__ import annotations

import pytest

from eventckpt import EventStore
from eventckpt.testing import ChangeFeedConformance

from ..engines import Engine


class TestChangeFeeds(ChangeFeedConformance):
    @pytest.fixture(autouse=True)
    async def on_the_engine(self, engine: Engine) -> None:
        self.engine = engine

    async def open_store(self) -> EventStore:
        return self.engine.open()

    async def settle(self) -> None:
        self.engine.settle()
