"""What both engines do for audits: the conformance suite of `AuditStore`."""

from __future__ import annotations

import pytest

from eventckpt.stores import AuditStore
from eventckpt.stores.cosmos.query import PAGE
from eventckpt.testing import AuditStoreConformance

from ..engines import CosmosEngine
from .on_the_engine import OnTheEngine


class TestAuditStores(OnTheEngine, AuditStoreConformance):
    @pytest.fixture(autouse=True)
    def by_the_page_of_the_engine(self, on_the_engine: None) -> None:
        if isinstance(self.engine, CosmosEngine):
            self.copies = PAGE + 100

    async def open_store(self) -> AuditStore:
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        return store
