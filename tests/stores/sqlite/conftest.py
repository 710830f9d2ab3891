"""A SQLite file for each test, and the connections that stores open to it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore

from .helpers import noted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteEventStore, None]:
    async with SqliteEventStore(path) as opened:
        yield opened


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[sqlite3.Connection]:
    """The connections that stores open from now on; a file that is there is opened once by each of their threads."""
    path.touch()
    return noted(monkeypatch)
