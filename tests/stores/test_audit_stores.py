"""What both engines do for audits: the conformance suite of `AuditStore`."""

from __future__ import annotations

import pytest

from eventckpt.stores import AuditStore
from eventckpt.testing import AuditStoreConformance

from ..engines import Engine


class TestAuditStores(AuditStoreConformance):
    @pytest.fixture(autouse=True)
    async def on_the_engine(self, engine: Engine) -> None:
        self.engine = engine

    async def open_store(self) -> AuditStore:
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        return store

    async def settle(self) -> None:
        self.engine.settle()
