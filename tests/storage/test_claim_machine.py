"""Claims, played at random: one holder's saves count at a time, and a claim is given and refused as it is to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..memory_engine.engine import MemoryEngine
from .claim_machine import ClaimMachine
from .playing import LONG, play_on, play_on_cosmos, play_on_sqlite


def test_one_holder_at_a_time_is_acknowledged_in_memory() -> None:
    play_on(MemoryEngine, ClaimMachine, 10_000 if LONG else 1_000)


@pytest.mark.slow
def test_one_holder_at_a_time_is_acknowledged_on_sqlite(tmp_path: Path) -> None:
    play_on_sqlite(tmp_path, ClaimMachine, 10_000 if LONG else 1_000)


@pytest.mark.slow
def test_one_holder_at_a_time_is_acknowledged_on_cosmos() -> None:
    play_on_cosmos(ClaimMachine, 2_000 if LONG else 300)
