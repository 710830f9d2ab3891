"""Rigs: workers over either engine, and over an emulator whose ranges a test can split and merge."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ..conftest import switches_for
from ..cosmos_emulator import CosmosEmulator, Switches
from ..cosmos_emulator.switches import ENVIRONMENT
from ..engines import CosmosEngine, Engine, SqliteEngine
from .rig import Rig

HERE = Path(__file__).parent
SWITCHED = {"engine", "switches"}
"""Fixtures whose test server does what the environment says."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """While the environment switches something on, what meets no server that is switched by it is left out: that would
    be what it is without."""
    if not os.environ.get(ENVIRONMENT):
        return
    alike = [item for item in items if item.path.is_relative_to(HERE) and not is_switched(item)]
    config.hook.pytest_deselected(items=alike)
    items[:] = [item for item in items if item not in alike]


def is_switched(item: pytest.Item) -> bool:
    """Whether the environment can say what the test server of a test does."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return not SWITCHED.isdisjoint(fixtures) and item.get_closest_marker("calm") is None


@pytest.fixture
def switches(request: pytest.FixtureRequest) -> Switches | None:
    """For a server of the test's own: the environment's, but for a test that is `calm`."""
    return switches_for(request)


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
async def cosmos_rig(request: pytest.FixtureRequest, switches: Switches | None) -> AsyncGenerator[Rig, None]:
    """Workers over an emulator of our own; its events have as many ranges as the parameter says, else one."""
    name = f"test-{uuid.uuid4()}"
    partitions = {name: getattr(request, "param", 1)}
    async with CosmosEmulator(partitions=partitions, switches=switches) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, name)
        made = Rig(engine, emulator)
        yield made
        await made.close()
        await engine.close()
