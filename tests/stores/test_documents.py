"""What both engines do for leases and other documents: the conformance suite of `DocumentStore`."""

from __future__ import annotations

import pytest

from eventckpt import EventStore
from eventckpt.testing import DocumentStoreConformance

from ..engines import Engine


class TestDocumentStores(DocumentStoreConformance):
    @pytest.fixture(autouse=True)
    async def on_the_engine(self, engine: Engine) -> None:
        self.engine = engine

    async def open_store(self) -> EventStore:
        return self.engine.open()

    async def settle(self) -> None:
        self.engine.settle()
