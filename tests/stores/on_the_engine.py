"""The conformance suites on the engines of this project: each test on each of them."""

from __future__ import annotations

import pytest

from eventckpt import EventStore

from ..engines import Engine

__all__ = ["OnTheEngine"]


class OnTheEngine:
    """What a suite asks of the engine under test."""

    @pytest.fixture(autouse=True)
    async def on_the_engine(self, engine: Engine) -> None:
        self.engine = engine

    async def open_store(self) -> EventStore:
        return self.engine.open()

    async def settle(self) -> None:
        self.engine.settle()
