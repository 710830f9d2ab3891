"""What both engines do for audits: the conformance suite of `AuditStore`."""

from __future__ import annotations

from eventckpt.stores import AuditStore
from eventckpt.testing import AuditStoreConformance

from .on_the_engine import OnTheEngine


class TestAuditStores(OnTheEngine, AuditStoreConformance):
    async def open_store(self) -> AuditStore:
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        return store
