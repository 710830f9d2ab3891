"""The SQLite engine passes the suite of its port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from eventckpt import EventStore, SqliteEventStore
from eventckpt.stores.conformance import EventStoreConformance


class TestSqliteConformance(EventStoreConformance):
    @pytest.fixture(autouse=True)
    async def one_file(self, path: Path) -> AsyncGenerator[None, None]:
        self.path = path
        async with AsyncExitStack() as self.opened:
            yield

    async def open_store(self) -> EventStore:
        return await self.opened.enter_async_context(SqliteEventStore(self.path))
