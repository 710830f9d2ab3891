"""The third engine passes every suite of `eventckpt.testing`."""

from __future__ import annotations

import pytest

from eventckpt import testing
from eventckpt.stores import AuditStore

from .data import Data
from .event_store import MemoryEventStore


class OfThatVersion(MemoryEventStore):
    last = AuditStore.last
    keys = AuditStore.keys
    read_each = AuditStore.read_each
    headers_of_runs = AuditStore.headers_of_runs
    events_of_runs = AuditStore.events_of_runs
    newest = AuditStore.newest
    run_ids = AuditStore.run_ids


class InMemory:
    @pytest.fixture(autouse=True)
    def one_place_for_the_data(self) -> None:
        self.data = Data()

    async def open_store(self) -> MemoryEventStore:
        return MemoryEventStore(self.data)


class OfSessions(InMemory):
    """The sessions of a store are a store as that is."""

    async def open_store(self) -> AuditStore:
        return MemoryEventStore(self.data).sessions()


class TestEventStore(InMemory, testing.EventStoreConformance):
    pass


class TestAuditStore(InMemory, testing.AuditStoreConformance):
    pass


class WithTheDefaults(InMemory):
    """An engine of 0.1.0, which has none of what came since."""

    async def open_store(self) -> MemoryEventStore:
        return OfThatVersion(self.data)


class TestEventStoreWithTheDefaults(WithTheDefaults, testing.EventStoreConformance):
    pass


class TestAuditStoreWithTheDefaults(WithTheDefaults, testing.AuditStoreConformance):
    pass


class TestRunStore(InMemory, testing.RunStoreConformance):
    pass


class TestChangeFeed(InMemory, testing.ChangeFeedConformance):
    pass


class TestDocumentStore(InMemory, testing.DocumentStoreConformance):
    pass


class TestSessions(InMemory, testing.SessionsConformance):
    pass


class TestSessionsWithTheDefaults(WithTheDefaults, testing.SessionsConformance):
    pass


class TestEventStoreOfSessions(OfSessions, testing.EventStoreConformance):
    pass


class TestAuditStoreOfSessions(OfSessions, testing.AuditStoreConformance):
    pass


class TestRunStoreOfSessions(OfSessions, testing.RunStoreConformance):
    pass


class TestChangeFeedOfSessions(OfSessions, testing.ChangeFeedConformance):
    pass


class TestDocumentStoreOfSessions(OfSessions, testing.DocumentStoreConformance):
    pass
