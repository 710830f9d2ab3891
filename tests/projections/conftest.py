"""Rigs: workers over either engine, and over an emulator whose ranges a test can split and merge."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ..conftest import switches_for
from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine, SqliteEngine
from .rig import Rig


@pytest.fixture
async def rig(engine: Engine) -> AsyncGenerator[Rig, None]:
    """Workers over an empty store of either engine."""
    made = Rig(engine)
    yield made
    await made.close()


@pytest.fixture
async def sqlite_rig(tmp_path: Path) -> AsyncGenerator[Rig, None]:
    """Workers over one SQLite file."""
    engine = SqliteEngine(tmp_path / "events.db")
    made = Rig(engine)
    yield made
    await made.close()
    await engine.close()


@pytest.fixture
async def cosmos_rig(request: pytest.FixtureRequest) -> AsyncGenerator[Rig, None]:
    """Workers over an emulator of our own; its events have as many ranges as the parameter says, else one."""
    name = f"test-{uuid.uuid4()}"
    partitions = {name: getattr(request, "param", 1)}
    async with CosmosEmulator(partitions=partitions, switches=switches_for(request)) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, name)
        made = Rig(engine, emulator)
        yield made
        await made.close()
        await engine.close()
