"""Runs files of Microsoft's tests, each in a process of its own, against a server of its own.

Their tests create containers by the dozen and their `conftest.py` makes several for each run, so files that shared a
server would see each other's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.cosmos_emulator.auth import EMULATOR_KEY

from . import outcomes
from .download import ROOT

STAND_INS = Path(__file__).parent / "stand_ins"
_LIMIT_OF_FILE = 900.0


@dataclass(frozen=True)
class Outcome:
    """What became of one test."""

    outcome: str
    """`passed`, `failed` or `skipped`."""
    text: str = ""
    """Of the failure."""


@dataclass
class FileRun:
    """What became of one file."""

    name: str
    tests: dict[str, Outcome] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    """What is wrong beside the tests: the file did not end, the server failed."""

    def count(self, outcome: str) -> int:
        return sum(each.outcome == outcome for each in self.tests.values())


def run_files(folder: Path, names: Iterable[str], *, jobs: int, limit: float) -> Generator[FileRun, None, None]:
    """Each file's outcomes, in the order of the names, as soon as they are known."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda name: run_file(folder, name, limit), names)


def run_file(folder: Path, name: str, limit: float) -> FileRun:
    run = FileRun(name)
    with tempfile.TemporaryDirectory() as place, (Path(place) / "server").open("w+") as said:
        written = Path(place) / "outcomes"
        with server(said) as endpoint:
            environment = os.environ | {
                "ACCOUNT_HOST": endpoint,
                "ACCOUNT_KEY": EMULATOR_KEY,
                "PYTHONPATH": os.pathsep.join((str(STAND_INS), str(ROOT))),
                outcomes.FILE: str(written),
                outcomes.LIMIT: str(limit),
            }
            if complaint := _pytest(folder, name, environment):
                run.complaints.append(complaint)
        run.tests = read(written)
        said.seek(0)
        if "Traceback" in (text := said.read()):
            run.complaints.append(f"the server failed:\n{text[-2000:]}")
    return run


def _pytest(folder: Path, name: str, environment: dict[str, str]) -> str | None:
    """Runs one file; a sentence where it did not come to its end."""
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "tests.sdk_tests.outcomes", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "--quiet", "--tb=short", "-W", "ignore", name]
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_LIMIT_OF_FILE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{name} did not end within {_LIMIT_OF_FILE:.0f} s."
    if ended.returncode in {0, 1}:
        return None
    return f"pytest ended with {ended.returncode}:\n{(ended.stdout + ended.stderr)[-2000:]}"


def read(written: Path) -> dict[str, Outcome]:
    """The outcomes in a file. A test that is told of twice (a test and its teardown, subtests) has failed if either
    has."""
    found: dict[str, Outcome] = {}
    for line in written.read_text(encoding="utf-8").splitlines() if written.exists() else []:
        told = json.loads(line)
        before = found.get(told["test"])
        if before is None or before.outcome != "failed":
            found[told["test"]] = Outcome(told["outcome"], told["text"])
    return found


@contextmanager
def server(said: IO[str]) -> Generator[str, None, None]:
    """A test server as a process; its endpoint. What it complains of goes to `said`."""
    command = [sys.executable, "-m", "tests.cosmos_emulator", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            if not endpoint:
                raise RuntimeError("The test server did not start.")
            yield endpoint
        finally:
            process.terminate()
