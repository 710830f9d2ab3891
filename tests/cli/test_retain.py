"""`eventckpt retain`: a policy, tried and carried out from the command line."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ..audit.retention_runs import Calendar, audited, made, save
from ..engines import Engine, SqliteEngine
from .conftest import Cli

POLICY = """
[rules.ended]
workflow = "orders"
keep = 1
remove_after = "30d"
archive = "archives"

[rules.others]
workflow = "others"
optional = true
keep = 1
"""


@pytest.fixture
async def policy(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A policy over a store with a run that goes, one that is shortened, one on hold, one that waits and one that
    stays."""
    calendar = Calendar(monkeypatch)
    storage = engine.storage()
    calendar.now -= timedelta(days=300)
    await save(storage, "old", "done", checkpoints=2)
    await save(storage, "held", "failed", hold=True)
    calendar.now += timedelta(days=36_500)
    await save(storage, "waits", "waiting")
    await save(storage, "long", "done", checkpoints=3)
    await save(storage, "short", "done")
    monkeypatch.undo()
    (tmp_path / "archives").mkdir()
    path = tmp_path / "retention.toml"
    path.write_text(POLICY)
    return path


NAMES = ("old", "held", "waits", "long", "short")
WHOLE = {"old": 2, "held": 1, "waits": 1, "long": 3, "short": 1}


async def left(engine: Engine) -> dict[str, int]:
    return {name: len(ids) for name, ids in (await made(audited(engine), "orders", NAMES)).items()}


async def test_without_execute_it_only_says_what_would_be_done(engine: Engine, cli: Cli, policy: Path) -> None:
    printed = await cli("retain", "--policy", str(policy))
    assert await left(engine) == WHOLE
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["ended", "orders", "4", "1", "1", "1", "1"] in [row[:7] for row in rows]
    assert ["others", "others", "0", "0", "0", "0", "0", "0", "0"] in rows
    assert "run held of orders: left alone: is on hold" in printed.out
    assert "Would remove 1 of 5 and shorten 1: " in printed.out
    assert "Add --execute to do it." in printed.out


async def test_with_execute_it_does_what_it_said_and_tells_it_by_rule(engine: Engine, cli: Cli, policy: Path) -> None:
    planned = await cli.json("retain", "--policy", str(policy))
    printed = await cli.json("retain", "--policy", str(policy), "--execute", "--actor", "janitor")
    after = await left(engine)
    assert after == {"held": 1, "waits": 1, "long": after["long"], "short": 1}
    assert 1 <= after["long"] < 3, "the last one, and what it rests on"
    assert {line["run_id"]: line["does"] for line in printed.of("retention")} == {
        "old": "remove",
        "held": "refuse",
        "long": "prune",
    }
    archives = {path.name for path in policy.with_name("archives").iterdir()}
    assert {line["archive"] for line in printed.of("retention")} == {*archives, None}
    assert len(archives) == 2
    [ended, others] = printed.of("rule")
    assert (ended["rule"], ended["removed"], ended["pruned"], ended["kept"]) == ("ended", 1, 1, 1)
    assert (ended["refused"], others["runs"]) == ({"held": 1}, 0)
    [summary], [expected] = printed.of("summary"), planned.of("summary")
    assert (summary["executed"], expected["executed"]) == (True, False)
    assert (summary["events"], summary["bytes"]) == (expected["events"], expected["bytes"])
    assert (summary["looked_at"], summary["archives"], summary["seconds"] > 0) == (5, 2, True)
    again = await cli("retain", "--policy", str(policy), "--execute")
    assert "Removed 0 of 4, and shortened 0: 0 events, 0 bytes of payload." in again.out


async def test_what_keeps_the_room_from_being_given_back_is_said_with_what_to_do(
    engine: Engine, cli: Cli, policy: Path
) -> None:
    if not isinstance(engine, SqliteEngine):
        pytest.skip("of SQLite: the others give back by themselves")
    await engine.close()
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")  # as a file of an earlier version is
    printed = await cli("retain", "--policy", str(policy), "--execute")
    assert "compact --rewrite" in printed.out
    assert (await cli.json("retain", "--policy", str(policy))).of("summary")[0]["advice"] == ""


async def test_the_projection_may_be_asked_which_runs_may_go(engine: Engine, cli: Cli, policy: Path) -> None:
    printed = await cli.json("retain", "--policy", str(policy), "--projection")
    assert printed.of("summary")[0]["removed"] == 1, "where nothing is projected, the log is asked"


async def test_what_cannot_be_archived_stays_and_the_exit_code_says_so(engine: Engine, cli: Cli, policy: Path) -> None:
    policy.with_name("archives").rmdir()
    told = [await cli("retain", "--policy", str(policy), *more, code=1) for more in ([], ["--execute"])]
    for printed in told:
        lines = [line for line in printed.out.splitlines() if "could not be archived" in line]
        assert len(lines) == 1, "one line, however many runs it is about"
        assert lines[0].startswith("rule ended: 2 left alone: could not be archived: ")
    assert await left(engine) == WHOLE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("[rules.r]\nworkflow = 'orders'\nkeep = 0\n", "rule 'r': keep is at least 1"),
        ("[rules.r]\nworkflow = 'ordres'\nkeep = 1\n", "Rule 'r' is for runs of workflow 'ordres'"),
    ],
)
async def test_a_policy_that_is_wrong_is_an_error_of_usage(
    engine: Engine, cli: Cli, policy: Path, text: str | None, says: str
) -> None:
    await asyncio.to_thread(policy.unlink if text is None else partial(policy.write_text, text))
    printed = await cli("retain", "--policy", str(policy), "--execute", code=2)
    assert says in printed.err
    assert await left(engine) == WHOLE


async def test_sessions_are_asked_for_in_the_policy(cli: Cli, policy: Path) -> None:
    printed = await cli("retain", "--policy", str(policy), "--turns", code=2)
    assert "where it says turns = true" in printed.err
