"""What CI runs, and what it says of itself: a failure of any part fails the whole, and nothing of it goes on behind."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
HANG = 60
"""Seconds after which something has not ended."""

COMMANDS = ["lint", "test", "test-pythons", "test-adverse", "test-hosts", "test-framework"]

MAKE = """#!/bin/sh
echo "begins $1"
[ "$1" = "$FAILS" ] && exit 3
[ "$1" = "$WAITS" ] && tail -f /dev/null
echo "$1 passes"
"""


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """The script in a checkout of its own, where `make` says what it is to make."""
    for folder in (".ci", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    make = tmp_path / "bin" / "make"
    make.write_text(MAKE)
    make.chmod(0o755)
    return tmp_path / ".ci" / "run"


def ran(ci: Path, *, alive: int | None = None, **said: str) -> tuple[int, list[str]]:
    """What the script ends with, and the lines that it prints.

    Args:
        alive: a descriptor that all of its processes keep open.
        said: to the `make`.
    """
    path = f"{ci.parent.parent / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "FAILS": "", "WAITS": "", "TMPDIR": str(ci.parent)} | said
    done = subprocess.run(
        [ci],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[] if alive is None else [alive],
        env=environment,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert list(ci.parent.iterdir()) == [ci], "it cleans up"
    return done.returncode, done.stdout.splitlines()


def test_everything_runs_and_the_other_pythons_are_shown_behind_the_suite_in_one_piece(ci: Path) -> None:
    code, lines = ran(ci)
    assert code == 0
    assert [line.removesuffix(" passes") for line in lines if line.endswith(" passes")] == COMMANDS
    assert lines.index("test-pythons passes") == lines.index("begins test-pythons") + 1
    assert lines[-1] == "test-framework passes"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_failure_of_any_part_fails_the_whole_and_is_shown(ci: Path, command: str) -> None:
    code, lines = ran(ci, FAILS=command)
    assert code != 0
    assert f"begins {command}" in lines
    assert "test-framework passes" not in lines


def test_where_the_suite_fails_the_other_pythons_are_ended(ci: Path) -> None:
    reads, writes = os.pipe()
    try:
        assert ran(ci, alive=writes, FAILS="test", WAITS="test-pythons")[0] != 0
    finally:
        os.close(writes)
    assert select.select([reads], [], [], HANG)[0], "a process is there yet"
    os.close(reads)


def test_no_property_fails_because_the_machine_is_busy() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_the_pythons_that_the_readme_names_are_those_that_the_package_says_it_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [each.rpartition(" :: ")[2] for each in project["classifiers"] if re.search(r"Python :: 3\.", each)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [named] = re.findall(r"CI runs the suites on CPython ([^;]*);", readme)
    assert re.findall(r"3\.[0-9]+", named) == supported
    assert project["requires-python"] == f">={supported[0]}"
