"""What engines keep of sessions: the conformance suite of `sessions`, and over those of a store that of every port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventckpt import EventStore
from eventckpt.stores import AuditStore
from eventckpt.testing import (
    AuditStoreConformance,
    ChangeFeedConformance,
    DocumentStoreConformance,
    EventStoreConformance,
    RunStoreConformance,
    SessionsConformance,
)

from ..engines import Engine, SqliteEngine
from .on_the_engine import OnTheEngine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[Engine, None]:
    made = SqliteEngine(tmp_path / "events.db")
    yield made
    await made.close()


class OnSessions(OnTheEngine):
    """The sessions of a store are a store as that is."""

    async def open_store(self) -> EventStore:
        return self.engine.open().sessions()


class TestSessions(OnTheEngine, SessionsConformance):
    async def open_store(self) -> AuditStore:
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        return store


class TestEventStores(OnSessions, EventStoreConformance):
    pass


class TestAuditStores(OnSessions, AuditStoreConformance):
    async def open_store(self) -> AuditStore:
        sessions = self.engine.open().sessions()
        assert isinstance(sessions, AuditStore)
        return sessions


class TestRunStores(OnSessions, RunStoreConformance):
    pass


class TestChangeFeeds(OnSessions, ChangeFeedConformance):
    pass


class TestDocumentStores(OnSessions, DocumentStoreConformance):
    pass
