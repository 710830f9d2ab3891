"""Where a save goes, played at random against a model: nothing acknowledged goes out of sight, whoever did what before.

`placement_machine` has the steps, `placement_model` what each of them may have seen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .placement_machine import PlacementMachine
from .playing import LONG, play_on_cosmos, play_on_sqlite

pytestmark = pytest.mark.slow  # thousands of steps


def test_what_was_acknowledged_is_found_whoever_wrote_it_on_sqlite(tmp_path: Path) -> None:
    play_on_sqlite(tmp_path, PlacementMachine, 10_000 if LONG else 2_000)


def test_what_was_acknowledged_is_found_whoever_wrote_it_on_cosmos() -> None:
    class OnCosmos(PlacementMachine):
        by_commit = False

    play_on_cosmos(OnCosmos, 2_000 if LONG else 300)
