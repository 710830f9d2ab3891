"""What both engines do for projections: the conformance suite of `RunStore`, and what an engine of 0.1.0 does."""

from __future__ import annotations

import pytest

from eventckpt import EventStore
from eventckpt.stores import RunStore
from eventckpt.stores.conformance import RunStoreConformance
from eventckpt.stores.sqlite_runs import SqliteRunStore

from ..engines import Engine


class TestRunStores(RunStoreConformance):
    @pytest.fixture(autouse=True)
    async def on_the_engine(self, engine: Engine) -> None:
        self.engine = engine

    async def open_store(self) -> EventStore:
        return self.engine.open()

    async def settle(self) -> None:
        self.engine.settle()


class TestARunStoreThatKeepsNoNote(TestRunStores):
    """An engine that was written for 0.1.0 goes through its documents."""

    @pytest.fixture(autouse=True)
    def without_the_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from eventckpt.stores.cosmos.runs import CosmosRunStore

        for engine in (SqliteRunStore, CosmosRunStore):
            for name in ("idle", "note_none_idle"):
                monkeypatch.setattr(engine, name, getattr(RunStore, name))
