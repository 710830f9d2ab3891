"""A session is what the lists of its lineages say, whoever reads and writes it; `history_machine` has the steps."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from pathlib import Path

import pytest

from eventckpt import CosmosEventStore, SqliteEventStore

from ..conftest import cosmos_account
from ..cosmos_emulator import Switches
from ..engines import COSMOS_DATABASE
from ..storage.playing import LONG, play_all
from .history_machine import HistoryMachine

pytestmark = pytest.mark.slow  # thousands of calls


def play(machine: type[HistoryMachine], plays: int) -> None:
    play_all(machine, plays=plays * (10 if LONG else 1), steps=25)
    assert machine.steps > 20 * plays


def test_every_lineage_reads_its_own_past_on_sqlite(tmp_path: Path) -> None:
    class OnSqlite(HistoryMachine):
        new_store = staticmethod(lambda: SqliteEventStore(Path(tempfile.mkdtemp(dir=tmp_path)) / "s.db"))

    with asyncio.Runner() as OnSqlite.runner:
        play(OnSqlite, 60)


def test_every_lineage_reads_its_own_past_on_cosmos() -> None:
    class OnCosmos(HistoryMachine):
        pass

    with asyncio.Runner() as OnCosmos.runner:
        account = cosmos_account(Switches())
        endpoint, key = OnCosmos.runner.run(account.__aenter__())
        OnCosmos.new_store = staticmethod(
            lambda: CosmosEventStore(
                endpoint=endpoint,
                credential=key,
                database_name=COSMOS_DATABASE,
                container_name=f"test-{uuid.uuid4()}",
            )
        )
        try:
            play(OnCosmos, 12)
        finally:
            OnCosmos.runner.run(account.__aexit__(None, None, None))
