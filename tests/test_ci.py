"""What CI runs, and what it says of itself: a failure of any part fails the whole, and nothing of it goes on behind."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .environments import EXTRAS
from .python_versions import others

ROOT = Path(__file__).parent.parent
HANG = 60
"""Seconds after which something has not ended."""

FIRST = ["lint", "browser", "test"]
BESIDE = ["test-pythons", "test-hosts", "test-framework", "test-adverse"]
"""What runs while `make test` does."""

MAKEFILE = f"""
.PHONY: {" ".join(FIRST + BESIDE)}
test-pythons: options = $(PYTHONS)
test-framework: options = $(OPTIONS)
test test-adverse: options = $(PYTHONDONTWRITEBYTECODE)
test-hosts: options = $(PYTEST_ADDOPTS)
meets = :
test: meets = echo >meeting
test-adverse: meets = cat meeting
{" ".join(FIRST + BESIDE)}:
	@echo "begins $@ $(options)"
	@[ "$@" != "$(FAILS)" ]
	@[ "$@" != "$(WAITS)" ] || tail -f /dev/null
	@[ ! -p meeting ] || $(meets)
	@echo "$@ passes"
"""

SUITE = """
import pytest
seen = set()
@pytest.mark.parametrize("number", range({once}))
def test_once(number):
    assert number in seen or seen.add(number), "failed once"
@pytest.mark.parametrize("number", range({always}))
def test_always(number):
    raise AssertionError("fails always")
def test_passes():
    pass
"""


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """The script in a checkout of its own, whose targets say that they are made."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "Makefile").write_text(MAKEFILE)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    return tmp_path / ".ci" / "run"


def ran(ci: Path, *, alive: int | None = None, **said: str) -> tuple[int, list[str]]:
    """What the script ends with, and the lines that it prints.

    Args:
        alive: a descriptor that all of its processes keep open.
        said: to `make`.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        [ci],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[] if alive is None else [alive],
        env=ours | {"TMPDIR": str(ci.parent)} | said,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert list(ci.parent.iterdir()) == [ci], "it cleans up"
    return done.returncode, [line.strip() for line in done.stdout.splitlines()]


def passed(lines: list[str]) -> list[str]:
    return [line.removesuffix(" passes") for line in lines if line.endswith(" passes")]


def test_everything_runs_and_what_runs_beside_the_suite_is_shown_behind_it_in_one_piece(ci: Path) -> None:
    code, lines = ran(ci)
    assert code == 0
    assert passed(lines) == FIRST + BESIDE
    assert lines[-1] == "test-adverse passes", "a run of tests has the last word"


def test_beside_the_suite_the_newest_python_and_the_other_version_of_the_framework_are_enough(ci: Path) -> None:
    _, lines = ran(ci)
    assert {"begins test-pythons --newest", "begins test-framework --not-installed"} <= set(lines)


def test_what_runs_is_what_the_makefile_has() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(FIRST + BESIDE) <= set(targets)


def test_every_environment_of_the_suite_has_the_same_extras_of_this_package() -> None:
    [installed] = re.findall(r"--editable '\.\[([a-z,]+)\]'\n\ttouch", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert installed == EXTRAS


def test_what_is_compiled_is_kept_for_the_next_process_whatever_the_environment_says(ci: Path) -> None:
    _, lines = ran(ci, PYTHONDONTWRITEBYTECODE="1")
    assert {"begins test", "begins test-adverse"} <= set(lines)


@pytest.mark.parametrize(
    ("once", "always", "passes"),
    [(0, 0, True), (3, 0, True), (4, 0, False), (0, 1, False)],
    ids=["none", "three once", "four once", "one always"],
)
def test_what_fails_is_run_once_more_and_shown_where_it_is_little(
    ci: Path, once: int, always: int, passes: bool
) -> None:
    _, lines = ran(ci)
    [options] = [line.removeprefix("begins test-hosts ") for line in lines if line.startswith("begins test-hosts ")]
    suite = ci.parent.parent / "test_suite.py"
    suite.write_text(SUITE.format(once=once, always=always))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", suite.parent, suite],
        env=os.environ | {"PYTEST_ADDOPTS": options},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == passes
    assert ("failed once" in done.stdout, "fails always" in done.stdout) == (once > 0, always > 0)


def test_what_runs_beside_the_suite_does_not_wait_for_its_end(ci: Path) -> None:
    os.mkfifo(ci.parent.parent / "meeting")
    assert ran(ci)[0] == 0


@pytest.mark.parametrize("command", FIRST + BESIDE)
def test_a_failure_of_any_part_fails_the_whole_and_is_shown(ci: Path, command: str) -> None:
    code, lines = ran(ci, FAILS=command)
    assert code != 0
    assert f"begins {command}" in [" ".join(line.split()[:2]) for line in lines]
    assert command not in passed(lines)
    assert not lines[-1].endswith(" passes")


@pytest.mark.parametrize("command", BESIDE)
def test_beside_the_suite_a_failure_keeps_nothing_else_from_running(ci: Path, command: str) -> None:
    _, lines = ran(ci, FAILS=command)
    assert passed(lines) == [each for each in FIRST + BESIDE if each != command]


@pytest.mark.parametrize("command", BESIDE)
def test_where_the_suite_fails_what_runs_beside_it_is_ended(ci: Path, command: str) -> None:
    reads, writes = os.pipe()
    try:
        code, lines = ran(ci, alive=writes, FAILS="test", WAITS=command)
    finally:
        os.close(writes)
    assert (code != 0, lines[-1]) == (True, "It fails in make test.")
    assert select.select([reads], [], [], HANG)[0], "a process is there yet"
    os.close(reads)


@pytest.mark.parametrize(
    ("newest", "own", "expected"),
    [
        (False, "3.11", ["3.12", "3.13"]),
        (True, "3.11", ["3.13"]),
        (True, "3.13", ["3.12"]),
        (True, "3.14", ["3.13"]),
    ],
)
def test_the_suite_runs_on_every_other_python_or_on_the_newest_of_them(
    newest: bool, own: str, expected: list[str]
) -> None:
    assert others(["3.11", "3.12", "3.13"], own, newest=newest) == expected


@pytest.mark.parametrize("newest", [False, True])
def test_where_there_is_no_other_python_the_suite_runs_on_none(newest: bool) -> None:
    assert others(["3.11"], "3.11", newest=newest) == []


def test_no_property_fails_because_the_machine_is_busy() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_the_pythons_that_the_readme_names_are_those_that_the_package_says_it_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [each.rpartition(" :: ")[2] for each in project["classifiers"] if re.search(r"Python :: 3\.", each)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [named] = re.findall(r"It supports CPython ([^:]*):", readme)
    assert re.findall(r"3\.[0-9]+", named) == supported
    assert project["requires-python"] == f">={supported[0]}"
