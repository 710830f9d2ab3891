"""A pytest plugin: writes each test's outcome to a file, and ends a test that takes too long.

It is loaded into the process that runs Microsoft's tests, by `-p tests.sdk_tests.outcomes`. The time limit is an alarm,
since pytest has none, and is no `Exception`, since their retries catch those.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

FILE = "SDK_TESTS_OUTCOMES"
"""The variable that names the file."""
LIMIT = "SDK_TESTS_LIMIT"
"""The variable that holds the seconds of one test."""
_AGAIN = 10.0
"""Seconds after which the alarm rings again: what ends a test may wait for its threads."""
_KEPT = 4000
"""Characters of a failure that are kept."""


class TooLong(BaseException):
    """A test has had its time."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.passed and report.when != "call":
        return
    outcome = {"test": report.nodeid, "outcome": report.outcome, "text": _text(report)}
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome) + "\n")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": report.nodeid, "outcome": "failed", "text": _text(report)}) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with _limit():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with _limit():
        yield


@contextmanager
def _limit() -> Generator[None, None, None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"The test has run for {seconds} s.")

    seconds = float(os.environ[LIMIT])
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _text(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Both ends of a failure: what was asked, and the error."""
    text = str(report.longrepr or "")
    return text if len(text) <= _KEPT else f"{text[: _KEPT // 2]}\n…\n{text[-_KEPT // 2 :]}"
