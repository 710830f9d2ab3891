"""Where nobody takes what is printed any more, a command ends quietly: a reader that has seen enough is no failure, and
a disk that is full is told in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventckpt.exit_codes import STORE

from ..conversations import session, talked
from ..engines import SqliteEngine
from .conftest import environment, order_run
from .programs import CHANGING, LOOKING

pytestmark = pytest.mark.slow  # every command, each in a process, several times

MODULES = {"eventckpt": "eventckpt.cli", "eventckpt-projector": "projections.worker"}
COMMANDS = {(program, words[0]): words for program, words in (*LOOKING, *CHANGING)}
EACH = pytest.mark.parametrize(
    ("program", "words"), [(program, words) for (program, _), words in COMMANDS.items()], ids=lambda each: str(each)
)
FULL = Path("/dev/full")


@pytest.fixture
async def env(tmp_path: Path) -> dict[str, str]:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=3)
    await order_run(engine, "another", steps=3)
    await talked(engine.open().sessions(), session("s1"), "hello", "again")
    await engine.close()
    return {**os.environ, **environment(engine)}


def started(program: str, words: Sequence[str], env: dict[str, str], stdout: int) -> subprocess.Popen[bytes]:
    code = "from projections.worker import app; app()" if program == "eventckpt-projector" else ""
    command = ["-c", code] if code else ["-m", MODULES[program]]
    return subprocess.Popen([sys.executable, *command, *words], stdout=stdout, stderr=subprocess.PIPE, env=env)


@EACH
def test_a_reader_that_has_gone_ends_a_command_quietly(env: dict[str, str], program: str, words: list[str]) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    process = started(program, words, env | {"FORCE_COLOR": "1"}, ours)
    os.close(ours)
    _, told = process.communicate()
    assert b"Traceback" not in told
    assert b"Broken pipe" not in told
    assert b"Code of the application" not in told
    assert process.returncode in (0, 1), told


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@EACH
def test_a_full_disk_is_told_in_one_line_with_the_code_of_it(
    env: dict[str, str], program: str, words: list[str]
) -> None:
    with FULL.open("wb") as full:
        process = started(program, words, env, full.fileno())
        _, told = process.communicate()
    assert b"Traceback" not in told
    if process.returncode != STORE:
        assert process.returncode in (0, 1), told
        assert b"cannot be written" not in told
    else:
        assert told.count(b"cannot be written") == 1


@pytest.mark.parametrize("words", [["runs"], ["runs", "--json"], ["runs", "--workflow", "nothing"]])
def test_where_nobody_takes_what_is_wrong_either_the_exit_code_says_it(env: dict[str, str], words: list[str]) -> None:
    with FULL.open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "eventckpt.cli", *words], stdout=full, stderr=full, env=env, check=False
        )
    assert process.returncode == (0 if "--workflow" in words else STORE)


@pytest.mark.parametrize("words", [["delete", "--all", "--force"], ["prune", "--all", "--keep", "1", "--force"]])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_changes_something_does_all_of_it_whoever_has_gone(
    env: dict[str, str], words: list[str], form: list[str]
) -> None:
    def still_to_go() -> int:
        command = [sys.executable, "-m", "eventckpt.cli", *words, "--json"]
        lines = subprocess.run(command, env=env, capture_output=True, check=True).stdout.splitlines()
        [summary] = [line for line in map(json.loads, lines) if line["kind"] == "summary"]
        return summary["events"]

    theirs, ours = os.pipe()
    os.close(theirs)
    assert still_to_go() > 0
    process = started("eventckpt", [*words, *form, "--execute", "--yes"], env, ours)
    os.close(ours)
    _, told = process.communicate()
    assert (process.returncode, told) == (0, b"")
    assert still_to_go() == 0
