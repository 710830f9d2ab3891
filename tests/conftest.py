"""Fixtures shared by all tests: an engine to run them on, and storages over it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from .engines import Engine, SqliteEngine


@pytest.fixture(params=["sqlite"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine, None]:
    """An empty event store that any number of store objects, like so many processes, can open."""
    made = SqliteEngine(tmp_path / "checkpoints.db")
    yield made
    await made.close()
