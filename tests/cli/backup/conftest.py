"""A store in a folder of its own, the place where its copy goes, and a store that has gone on since."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventckpt import CheckpointEvent, SqliteEventStore

from ...engines import CosmosEngine, Engine, SqliteEngine
from ...stores.chains import STREAM
from ..conftest import Cli
from .backups import whole, written


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[SqliteEngine, None]:
    """A store in a folder of its own."""
    folder = tmp_path / "live"
    folder.mkdir()
    made = SqliteEngine(folder / "events.db")
    yield made
    await made.close()


@pytest.fixture
def path(engine: SqliteEngine) -> Path:
    return engine.path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the backup goes."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.db"


@pytest.fixture
async def cosmos(cosmos_engine_of_its_own: Engine) -> CosmosEngine:
    assert isinstance(cosmos_engine_of_its_own, CosmosEngine)
    return cosmos_engine_of_its_own


@pytest.fixture
def cosmos_engine_of_its_own() -> CosmosEngine:
    return CosmosEngine("https://nowhere.example:443/", "a2V5", "events")


@pytest.fixture
async def backed_up(cli: Cli, path: Path, file: Path) -> list[CheckpointEvent]:
    """The events in the backup; by now the store has more."""
    events = await written(path, 3)
    await cli("backup", str(file))
    async with SqliteEventStore(path) as store:
        await store.append(whole(STREAM, 4, events[-1]))
    return events
