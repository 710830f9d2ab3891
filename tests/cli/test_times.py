"""Times on the command line: wherever one is taken, so is how long ago it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventckpt.exit_codes import Failure
from eventckpt.moments import UNITS
from eventckpt.rendering.times import moment

from ..engines import Engine
from .conftest import Cli, order_run

TIMED = [
    ["runs", "--since"],
    ["runs", "--until"],
    ["at", "order-1", "--time"],
    ["inbox", "--older-than"],
    ["prune", "--all", "--older-than"],
]
"""Every option that takes a time."""


@pytest.mark.parametrize("before", TIMED, ids=" ".join)
@pytest.mark.parametrize("text", ["0s", "2h", "90m", "7d", "2w", "2026-05-31", "2026-05-31T14:00+02:00"])
async def test_an_option_takes_a_time_and_how_long_ago_it_was(
    engine: Engine, cli: Cli, before: list[str], text: str
) -> None:
    await order_run(engine, steps=2)
    printed = await cli(*before, text, code=3 if before[0] == "at" and text != "0s" else 0)
    assert "takes a time" not in printed.err


@pytest.mark.parametrize("before", TIMED, ids=" ".join)
@pytest.mark.parametrize("text", ["soon", "-1d", "2", "1.5h", "2 h", "9999999999d", "h", ""])
async def test_what_is_no_time_is_refused_and_both_forms_are_named(
    engine: Engine, cli: Cli, before: list[str], text: str
) -> None:
    await order_run(engine, steps=1)
    said = (await cli(*before, text, code=2)).err
    assert f"{before[-1]} takes a time such as 2026-05-31, or how long ago it was: 90m, 12h" in said


async def test_runs_are_listed_by_how_long_ago_they_were_written(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    for words, listed in ((["--since", "1h"], 1), (["--until", "1h"], 0), (["--since", "1h", "--until", "0s"], 1)):
        assert len((await cli.json("runs", *words)).of("run")) == listed


@given(st.integers(0, 999_999_999), st.sampled_from(list(UNITS)))
def test_so_long_ago_is_that_or_the_first_time_there_is(count: int, unit: str) -> None:
    before = datetime.now(UTC)
    found = moment(f"{count}{unit}", "--since")
    assert found is not None
    ago = min(count * UNITS[unit], (before - datetime.min.replace(tzinfo=UTC)) // timedelta(seconds=1))
    assert before - timedelta(seconds=ago) <= found <= datetime.now(UTC) - timedelta(seconds=ago - 1)


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert moment("2026-05-31T14:00", "--since") == datetime(2026, 5, 31, 14, tzinfo=UTC)
    assert moment(None, "--since") is None
    with pytest.raises(Failure, match="--since takes a time"):
        moment("31.5.2026", "--since")
