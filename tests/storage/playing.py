"""Machines that play steps at random, for so many steps, on one engine or another."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ..conftest import cosmos_account
from ..cosmos_emulator import Switches
from ..engines import CosmosEngine, Engine, SqliteEngine

LONG: Final = os.environ.get("EVENTCKPT_TEST_STEPS") == "long"
"""Set by `make soak`."""

STEPS: Final = 50
"""Steps of one play."""


class Machine(RuleBasedStateMachine):
    """Plays on an engine that is new for each play."""

    runner: ClassVar[asyncio.Runner]
    new_engine: ClassVar[Callable[[], Engine]]
    taken: ClassVar[int] = 0
    """Steps so far, over all plays."""


def play_all(machine: type[RuleBasedStateMachine], *, plays: int, steps: int) -> None:
    """So many plays of so many steps each, the same ones each time unless it is the long form."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=plays,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not LONG,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def play(machine: type[Machine], steps: int) -> None:
    """At least so many steps."""
    play_all(machine, plays=steps // 30, steps=STEPS)  # some plays are shorter than they may be
    assert machine.taken >= steps


def play_on(new_engine: Callable[[], Engine], machine: type[Machine], steps: int) -> None:
    class OnIt(machine):
        pass

    OnIt.new_engine = staticmethod(new_engine)
    with asyncio.Runner() as OnIt.runner:
        play(OnIt, steps)


def play_on_sqlite(folder: Path, machine: type[Machine], steps: int) -> None:
    play_on(lambda: SqliteEngine(Path(tempfile.mkdtemp(dir=folder)) / "checkpoints.db"), machine, steps)


def play_on_cosmos(machine: type[Machine], steps: int) -> None:
    class OnCosmos(machine):
        pass

    with asyncio.Runner() as OnCosmos.runner:
        account = cosmos_account(Switches())
        endpoint, key = OnCosmos.runner.run(account.__aenter__())
        OnCosmos.new_engine = staticmethod(lambda: CosmosEngine(endpoint, key, f"test-{uuid.uuid4()}"))
        try:
            play(OnCosmos, steps)
        finally:
            OnCosmos.runner.run(account.__aexit__(None, None, None))
