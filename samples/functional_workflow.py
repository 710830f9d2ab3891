"""A workflow written as a plain async function: every finished step is a checkpoint.

Shows: the framework's functional workflows (`@workflow` and `@step`, which it calls experimental) on a bound run. The
process dies inside the third step; another calls the function again, and the framework takes what the finished steps
returned from the checkpoint.

Run it:   python samples/functional_workflow.py [--store PATH|ENDPOINT]
You see:  which steps ran in which process, the log, and the result. The exit code is 0 only if no finished step ran
          again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from agent_framework import step, workflow
from place import Place, is_taken, open_storage, place
from printing import plain, print_in_turns, table, verdict

from eventckpt import CheckpointEvent, StreamId

warnings.filterwarnings("ignore", r"\[FUNCTIONAL_WORKFLOWS\]", FutureWarning)  # said in the docstring instead

NAME = "word-lengths"
RUN_ID = "incident-4471"
REPORT = Path(__file__).parent / "data" / "incident-report.txt"
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL; there, SIGTERM kills as surely
PROCESS, JOURNAL = "SAMPLE_PROCESS", "SAMPLE_JOURNAL"


@step
async def read(path: str) -> list[str]:
    text = await asyncio.to_thread(Path(path).read_text, encoding="utf-8")
    ran("read")
    return text.split()


@step
async def count(words: list[str]) -> list[tuple[int, int]]:
    """Each length of a word, and how many words have it."""
    ran("count")
    return list(Counter(map(len, words)).items())


@step
async def rank(counts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most frequent lengths first."""
    if os.environ[PROCESS] == "first":
        print(f"  rank begins, and the process dies of {KILL.name}")
        os.kill(os.getpid(), KILL)
    ran("rank")
    return sorted(counts, key=lambda entry: -entry[1])


@step
async def tell(ranking: list[tuple[int, int]]) -> str:
    ran("tell")
    return ", ".join(f"{number} words of {length} letters" for length, number in ranking[:3])


@workflow(name=NAME)
async def word_lengths(path: str) -> str:
    words = await read(path)
    counts = await count(words)
    ranking = await rank(counts)
    return await tell(ranking)


def ran(name: str) -> None:
    """Evidence apart from the store: which process finished which step."""
    print(f"  {name} runs")
    with Path(os.environ[JOURNAL]).open("a", encoding="utf-8") as journal:
        journal.write(f"{os.environ[PROCESS]} {name}\n")


async def work(path: Place) -> None:
    """Go on with the run from its latest checkpoint or, where there is none, begin it."""
    async with open_storage(path, actor=os.environ[PROCESS]) as storage:
        run = storage.for_run(RUN_ID)
        latest = await run.get_latest(workflow_name=NAME)
        instance = word_lengths.build(checkpoint_storage=run)
        result = await (instance.run(checkpoint_id=latest.checkpoint_id) if latest else instance.run(str(REPORT)))
        print(f"  the result: {plain(result.get_outputs()[0])}")


def demonstrate(path: Place, journal: Path) -> bool:
    def start(process: str) -> int:
        print(f"\nTHE {process.upper()} PROCESS")
        environment = {**os.environ, PROCESS: process, JOURNAL: str(journal)}
        return subprocess.run([sys.executable, __file__, "--store", path], env=environment, check=False).returncode

    journal.touch()
    print(f"A workflow of four steps counts words of a report, as run {RUN_ID!r}.")
    exit_codes = [start("first"), start("second")]
    log = asyncio.run(look(path))
    print(f"\nTHE LOG OF THE RUN, read without decoding any state\n{render(log)}")
    return verdict(
        {
            "the first process was killed, the second ended well": [abs(code) for code in exit_codes] == [KILL, 0],
            "each step ran once, two before the kill and two after": journal.read_text(encoding="utf-8").splitlines()
            == ["first read", "first count", "second rank", "second tell"],
            "the log has one event for each step and one for the end": [event.actor for event in log]
            == ["first", "first", "second", "second", "second"],
        }
    )


async def look(path: Place) -> list[CheckpointEvent]:
    async with open_storage(path) as storage:
        return [header async for header in storage.store.headers(StreamId(NAME, RUN_ID))]


def render(log: list[CheckpointEvent]) -> str:
    return table(
        ["seq", "time", "raw", "stored", "written by"],
        [
            [
                event.seq,
                event.timestamp[11:23],
                event.payload.raw_size if event.payload else "",
                event.payload.stored_size if event.payload else "",
                f"{event.actor} process",
            ]
            for event in log
        ],
        right="seq raw stored",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A workflow written as a function: every finished step is kept.")
    parser.add_argument("--store", type=place, help="a path or a Cosmos DB endpoint; default: a temporary folder")
    args = parser.parse_args()
    print_in_turns()
    if PROCESS in os.environ:
        asyncio.run(work(args.store))
        return 0
    if is_taken(args.store):
        parser.error(f"{plain(str(args.store))} exists already; this demonstration begins with an empty store")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if demonstrate(args.store or Path(folder, "words.db"), Path(folder, "journal.txt")) else 1


if __name__ == "__main__":
    sys.exit(main())
