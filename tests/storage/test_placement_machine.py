"""Where a save goes, played at random against a model: nothing acknowledged goes out of sight, whoever did what before.

`placement_machine` has the steps, `placement_model` what each of them may have seen.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ..conftest import cosmos_account
from ..cosmos_emulator import Switches
from ..engines import CosmosEngine, SqliteEngine
from .placement_machine import PlacementMachine

pytestmark = pytest.mark.slow  # thousands of steps

LONG = os.environ.get("EVENTCKPT_TEST_STEPS") == "long"
"""Set by `make soak`."""

STEPS = 50
"""Steps of one play."""


def play(machine: type[PlacementMachine], steps: int) -> None:
    """At least so many steps, the same ones each time unless it is the long form."""
    plays = settings(
        max_examples=steps // 30,  # some plays are shorter than they may be
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=not LONG,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=plays)
    assert machine.taken >= steps


def test_what_was_acknowledged_is_found_whoever_wrote_it_on_sqlite(tmp_path: Path) -> None:
    class OnSqlite(PlacementMachine):
        new_engine = staticmethod(lambda: SqliteEngine(Path(tempfile.mkdtemp(dir=tmp_path)) / "checkpoints.db"))

    with asyncio.Runner() as OnSqlite.runner:
        play(OnSqlite, 10_000 if LONG else 2_000)


def test_what_was_acknowledged_is_found_whoever_wrote_it_on_cosmos() -> None:
    class OnCosmos(PlacementMachine):
        by_commit = False

    with asyncio.Runner() as OnCosmos.runner:
        account = cosmos_account(Switches())
        endpoint, key = OnCosmos.runner.run(account.__aenter__())
        OnCosmos.new_engine = staticmethod(lambda: CosmosEngine(endpoint, key, f"test-{uuid.uuid4()}"))
        try:
            play(OnCosmos, 2_000 if LONG else 300)
        finally:
            OnCosmos.runner.run(account.__aexit__(None, None, None))
