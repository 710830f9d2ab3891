"""Sessions on every engine, that of the tests included."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ..conftest import engine_for
from ..engines import Engine
from .histories import Histories
from .sessions import Sessions


@pytest.fixture(params=["sqlite", "cosmos", "memory"])
async def any_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine, None]:
    """An empty event store that any number of store objects, like so many processes, can open."""
    async with engine_for(request, tmp_path) as made:
        yield made


@pytest.fixture
def sessions(any_engine: Engine) -> Sessions:
    """Session stores over every engine, each as if it were a process."""
    return Sessions(any_engine)


@pytest.fixture
async def histories(engine: Engine) -> AsyncGenerator[Histories, None]:
    """The ready-made history providers over their engines, each as if it were a process."""
    made = Histories(engine)
    yield made
    await made.close()
