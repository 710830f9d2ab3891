"""The samples, run as a user runs them: another Python process, judged by what it prints and returns."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from eventckpt import SqliteEventStore, StreamId

from .conftest import cosmos_account

pytestmark = pytest.mark.slow  # a process for each sample

SAMPLES = Path(__file__).parent.parent / "samples"


def run(name: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SAMPLES / name, *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def output(name: str, *options: str | Path) -> str:
    """What the sample prints, if it ends well and has nothing to complain about."""
    ended = run(name, *options)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def section(text: str, title: str) -> list[str]:
    """The lines under a title, moved back to the left."""
    found = re.search(rf"^{re.escape(title)}.*\n((?:  .*\n)*)", text, re.MULTILINE)
    assert found, f"no {title!r} in:\n{text}"
    return [line[2:] for line in found[1].splitlines()]


def columns(lines: list[str]) -> list[list[str]]:
    """A printed table's rows, without the heads."""
    return [re.split(r"\s{2,}", line.strip()) for line in lines[1:]]


@pytest.fixture(scope="module")
def quickstart() -> str:
    return output("quickstart.py")


@pytest.fixture(scope="module")
def human_in_the_loop() -> str:
    return output("human_in_the_loop.py")


def test_the_quickstart_goes_on_in_another_process_where_the_first_was_killed(quickstart: str) -> None:
    assert section(quickstart, "THE FIRST PROCESS")[-3:] == [
        "reader done",
        "analyst done",
        "planner begins, and the process dies of SIGKILL",
    ]
    assert section(quickstart, "THE SECOND PROCESS") == [
        "resumes from seq 3, superstep 2, by the first process",
        "planner done",
        "reviewer done",
        "editor done",
    ]


def test_the_quickstart_shows_the_log_of_both_processes(quickstart: str) -> None:
    rows = columns(section(quickstart, "THE LOG OF THE RUN"))

    assert [(row[0], row[2], row[3], row[4], row[8]) for row in rows] == [
        ("1", "checkpoint", "0", "internal:reader", "first process"),
        ("2", "checkpoint", "1", "reader", "first process"),
        ("3", "checkpoint", "2", "analyst", "first process"),
        ("4", "checkpoint", "3", "planner", "second process"),
        ("5", "checkpoint", "4", "reviewer", "second process"),
        ("6", "checkpoint", "5", "none", "second process"),
    ]
    assert all(0 < int(stored) < int(raw) for raw, stored in (row[5:7] for row in rows))


def test_the_quickstart_shows_what_the_projector_made_of_the_log(quickstart: str) -> None:
    [run] = section(quickstart, "THE PROJECTION")
    assert re.fullmatch(r"incident-4471: done, at seq 6, 6 checkpoints, \d+ bytes", run)


def test_the_quickstart_ends_with_the_review_of_the_report(quickstart: str) -> None:
    result = section(quickstart, "THE RESULT")
    assert result[:2] == [
        "Incident 4471: card payments refused on the night of 11 June",
        "98 minutes, from 02:10 to 03:48",
    ]
    assert [line[:2] for line in result[2::2]] == ["1.", "2.", "3."]
    assert [line.strip().partition(":")[0] for line in result[3::2]] == ["gateway team", "platform team", "help desk"]
    assert [line[:3] for line in section(quickstart, "CHECKED")] == ["yes"] * 4


def test_the_quickstart_ends_with_the_address_of_its_run_and_what_serves_it(quickstart: str) -> None:
    assert section(quickstart, "IN A BROWSER") == [
        "make demo WEB=1 shows this run at http://127.0.0.1:8321/run?run=incident-4471&workflow=incident-review"
    ]
    makefile = (SAMPLES.parent / "Makefile").read_text(encoding="utf-8")
    assert "samples/quickstart.py $(if $(WEB),--web)" in makefile


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_quickstart_shows_its_run_in_a_browser_until_it_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, SAMPLES / "quickstart.py", "--web"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=env) as sample:
        try:
            assert sample.stdout is not None
            found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in sample.stdout)))
            assert "incident-4471" in httpx.get(f"{found[0]}runs", timeout=60).text
        finally:
            sample.send_signal(number)
        _, complaints = sample.communicate(timeout=60)
    assert (sample.returncode, complaints) == (0, "")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{found[0]}runs")


async def test_the_quickstart_keeps_its_store_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kept.db"
    output("quickstart.py", "--store", path)

    async with SqliteEventStore(path) as store:
        log = [header async for header in store.headers(StreamId("incident-review", "incident-4471"))]
    assert [header.seq for header in log] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "name",
    ["quickstart.py", "human_in_the_loop.py", "parallel_runs.py", "functional_workflow.py", "chat_with_history.py"],
)
def test_a_sample_does_not_touch_a_store_that_exists_already(name: str, tmp_path: Path) -> None:
    path = tmp_path / "yours.db"
    path.write_bytes(b"yours")

    refused = run(name, "--store", path)

    assert refused.returncode == 2
    assert "exists already" in refused.stderr
    assert path.read_bytes() == b"yours"


def test_a_question_outlives_the_process_that_asked_it(human_in_the_loop: str) -> None:
    assert section(human_in_the_loop, "THE FIRST PROCESS") == [
        "the workflow is IDLE_WITH_PENDING_REQUESTS; this process ends"
    ]
    assert section(human_in_the_loop, "NO PROCESS RUNS") == [
        "clerk waits for an answer to a human_in_the_loop:Approval"
    ]
    assert section(human_in_the_loop, "THE SECOND PROCESS") == [
        "clerk asks: may Ms Brandt get 180 euros?",
        "the answer is yes",
        "the workflow is IDLE: paid 180 euros to Ms Brandt",
    ]


def test_the_log_tells_when_the_question_was_pending_and_who_wrote_the_answer(human_in_the_loop: str) -> None:
    heads, *lines = section(human_in_the_loop, "THE LOG OF THE RUN")

    cells = [[line[heads.index(head) :].split("  ")[0].strip() for head in ("pending", "answered")] for line in lines]
    request = cells[1][0]
    assert re.fullmatch(r"[0-9a-f]{8}", request)
    assert cells == [["", ""], [request, ""], ["", request], ["", ""], ["", ""]]
    assert [line.endswith("Mr Okafor") for line in lines] == [False, False, True, True, True]


def test_the_answer_decides_what_the_workflow_does() -> None:
    assert section(output("human_in_the_loop.py", "--refuse"), "THE SECOND PROCESS")[-2:] == [
        "the answer is no",
        "the workflow is IDLE: refused 180 euros to Ms Brandt",
    ]


def test_twenty_parallel_runs_each_get_their_own_latest() -> None:
    printed = output("parallel_runs.py")

    assert "gave its own checkpoint to 20 of 20 runs" in printed
    assert re.search(r"unbound: .* gives that of order-\d\d: right for 1 run$", printed, re.MULTILINE)
    assert [line[:3] for line in section(printed, "CHECKED")] == ["yes"] * 3


def test_a_functional_workflow_does_not_repeat_its_finished_steps() -> None:
    printed = output("functional_workflow.py")

    assert section(printed, "THE FIRST PROCESS") == [
        "read runs",
        "count runs",
        "rank begins, and the process dies of SIGKILL",
    ]
    second = section(printed, "THE SECOND PROCESS")
    assert second[:2] == ["rank runs", "tell runs"]
    assert re.fullmatch(r"the result: (\d+ words of \d letters(, |$)){3}", second[2])
    assert [row[0] for row in columns(section(printed, "THE LOG OF THE RUN"))] == ["1", "2", "3", "4", "5"]


def test_a_conversation_goes_back_with_its_workflow() -> None:
    printed = output("chat_with_history.py")

    assert section(printed, "BACK TO THE CHECKPOINT") == [
        "you: In the south.",
        "assistant: Then Genoa. By train?   (the model was shown 3 messages)",
    ]
    first = ["A weekend by the sea, please.", "North or south?"]
    assert section(printed, "THE BRANCH TO THE SOUTH") == [*first, "In the south.", "Then Genoa. By train?"]
    assert section(printed, "THE BRANCH TO THE NORTH")[:3] == [*first, "In the north."]
    assert [line[:3] for line in section(printed, "CHECKED")] == ["yes"] * 4


@pytest.mark.parametrize(
    "name", ["human_in_the_loop.py", "parallel_runs.py", "functional_workflow.py", "chat_with_history.py"]
)
async def test_the_samples_run_on_cosmos_db_too(name: str) -> None:
    async with cosmos_account() as (endpoint, key):
        names = {"KEY": key, "DATABASE_NAME": "samples", "CONTAINER_NAME": f"sample-{uuid4()}"}
        sample = await asyncio.create_subprocess_exec(
            sys.executable,
            SAMPLES / name,
            "--store",
            endpoint,
            env={**os.environ, **{f"AZURE_COSMOS_{name}": value for name, value in names.items()}},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complaints = await sample.communicate()
    assert (sample.returncode, complaints.decode()) == (0, ""), printed.decode()
    checked = section(printed.decode(), "CHECKED")
    assert checked
    assert all(line.startswith("yes") for line in checked)


def test_stored_text_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SAMPLES)
    printing = importlib.import_module("printing")

    assert printing.plain("é\x1b[31m\u202e\n\x7f") == r"é\x1b[31m\u202e\n\x7f"
    assert "\x1b" not in printing.table(["head"], [["\x1b[2J"]])
    assert printing.indented("one\x07\ntwo") == "  one\\x07\n  two"
