"""The third engine passes every suite of `eventckpt.testing`."""

from __future__ import annotations

import pytest

from eventckpt import testing

from .data import Data
from .event_store import MemoryEventStore


class InMemory:
    @pytest.fixture(autouse=True)
    def one_place_for_the_data(self) -> None:
        self.data = Data()

    async def open_store(self) -> MemoryEventStore:
        return MemoryEventStore(self.data)


class TestEventStore(InMemory, testing.EventStoreConformance):
    pass


class TestAuditStore(InMemory, testing.AuditStoreConformance):
    pass


class TestRunStore(InMemory, testing.RunStoreConformance):
    pass


class TestChangeFeed(InMemory, testing.ChangeFeedConformance):
    pass


class TestDocumentStore(InMemory, testing.DocumentStoreConformance):
    pass
