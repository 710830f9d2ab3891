"""How `make sdk-tests` judges a run of Microsoft's tests against the list of those that are known to fail.

The run itself takes minutes and a package index, and is not part of this suite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..sdk_tests.__main__ import fewer_than_before, summary
from ..sdk_tests.files import BEFORE, FILES
from ..sdk_tests.known import LIST, REFUSED, Reason, faults, listed_nowhere, read_list
from ..sdk_tests.running import FileRun, Outcome, read

REFUSAL = Outcome("failed", "E   Message: The emulator does not support triggers.")
KNOWN = {
    "test_a.py::refused": Reason(REFUSED, "triggers"),
    "test_a.py::timed": Reason("flaky", "a matter of time"),
    "test_b.py::other": Reason("undocumented", "a token"),
}


def run(**outcomes: Outcome | str) -> FileRun:
    """Of test_a.py, in which the listed tests do what the list says unless told otherwise."""
    told: dict[str, Outcome | str] = {"refused": REFUSAL, "timed": "passed", "fine": "passed", **outcomes}
    tests = {f"test_a.py::{name}": Outcome(each) if isinstance(each, str) else each for name, each in told.items()}
    return FileRun("test_a.py", tests)


@pytest.mark.parametrize("timed", ["passed", "failed"])
def test_a_run_as_the_list_says_has_no_fault(timed: str) -> None:
    assert faults(run(timed=timed), KNOWN) == []


def test_a_failure_that_is_not_listed_is_a_fault_with_its_last_line() -> None:
    assert faults(run(fine=Outcome("failed", "first\nE  KeyError: 'x'\n")), KNOWN) == [
        "test_a.py::fine failed: E  KeyError: 'x'"
    ]


@pytest.mark.parametrize("outcome", ["passed", "skipped"])
def test_a_listed_test_that_does_not_fail_has_to_leave_the_list(outcome: str) -> None:
    assert faults(run(refused=outcome), KNOWN) == [f"test_a.py::refused {outcome}: take it off the list."]


def test_what_is_listed_as_refused_has_to_be_refused_by_name() -> None:
    [fault] = faults(run(refused=Outcome("failed", "E  assert 1 == 2")), KNOWN)
    assert "failed otherwise: E  assert 1 == 2" in fault


def test_a_listed_test_that_is_gone_is_a_fault() -> None:
    assert faults(FileRun("test_b.py"), KNOWN) == ["test_b.py::other is listed, but there is no such test."]
    assert listed_nowhere(KNOWN, ["test_a.py"]) == ["test_b.py::other is listed, but its file is not run."]


def test_what_is_wrong_beside_the_tests_is_a_fault() -> None:
    assert faults(FileRun("test_c.py", complaints=["it did not end"]), KNOWN) == ["it did not end"]


def test_the_share_is_of_the_tests_that_need_nothing_refused(capsys: pytest.CaptureFixture[str]) -> None:
    good = run(**{f"fine{number}": "passed" for number in range(17)})
    assert summary([good], KNOWN) == []
    assert "1 need what is refused by name. Of the others 100.0% pass" in capsys.readouterr().out
    bad = run(**{f"fine{number}": "passed" for number in range(17)}, one="failed", two="failed")
    assert summary([bad], KNOWN) == ["Only 90.5% pass."]


def test_fewer_passes_than_before_are_a_fault() -> None:
    count = BEFORE["query_async",]
    name = "test_query_async.py"
    enough = FileRun(name, {f"{name}::{number}": Outcome("passed") for number in range(count)})
    assert fewer_than_before([enough], {}) == []
    enough.tests.popitem()
    assert fewer_than_before([enough], {}) == [f"{name}: {count - 1} pass, where {count} did before."]


def test_a_test_that_is_told_of_twice_has_failed_if_it_did_once(tmp_path: Path) -> None:
    lines = [("a", "failed"), ("a", "passed"), ("b", "passed"), ("b", "failed"), ("c", "skipped")]
    written = tmp_path / "outcomes"
    written.write_text("".join(json.dumps({"test": t, "outcome": o, "text": ""}) + "\n" for t, o in lines))
    assert {test: each.outcome for test, each in read(written).items()} == {
        "a": "failed",
        "b": "failed",
        "c": "skipped",
    }


@pytest.mark.parametrize("text", ["test_a.py::a", "[501: x]\ntest_a.py::a\ntest_a.py::a", "[luck: x]\ntest_a.py::a"])
def test_a_list_without_reasons_or_with_a_test_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"reason|twice"):
        read_list(text)


def test_the_list_and_the_counts_of_before_are_of_files_that_are_run() -> None:
    assert listed_nowhere(read_list(LIST.read_text(encoding="utf-8")), FILES) == []
    assert {f"test_{name}.py" for names in BEFORE for name in names} <= set(FILES)
