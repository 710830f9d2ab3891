"""The first page of what commands list of a store that has grown, beside a command that asks no store anything."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from eventckpt import CheckpointEvent, CosmosEventStore, RunInfo, SqliteEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import PendingRequest, Summary
from eventckpt.runs import fold
from eventckpt.stores import RunFilter
from eventckpt.stores.conformance import make_event

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .measure import PRINTED, Figure, Sample, at_most, compared

__all__ = ["command", "fill", "first_pages", "of_children", "queries", "seconds"]

_SOME = 500  # runs of a transaction
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


async def command(runs: int = 10_000, events: int = 20, rounds: int = 15) -> list[Figure]:
    """Processor time of whole programs, which take turns."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, runs, events)
        programs = {"ours": ["inbox", "--store", str(path)], "--help": ["--help"], "inbox --help": ["inbox", "--help"]}
        samples = _taking_turns(programs, rounds)
    what = f"eventckpt inbox, {runs:,} runs of {events}, CPU"
    return [
        compared(what, samples["ours"], samples["--help"], "eventckpt --help", at_most(1.5)),
        compared(what, samples["ours"], samples["inbox --help"], "eventckpt inbox --help", PRINTED),
    ]


async def first_pages(runs: int = 10_000, events: int = 20, rounds: int = 15) -> list[Figure]:
    """The same of `runs` and `info`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, runs, events)
        asked = {
            "runs": ["runs"],
            "runs --latest projection": ["runs", "--latest", "projection"],
            "runs --latest projection --status waiting": ["runs", "--latest", "projection", "--status", "waiting"],
            "info": ["info", f"run-{runs // 2:06}"],
        }
        programs = {name: [*words, "--store", str(path)] for name, words in asked.items()}
        samples = _taking_turns({**programs, "--help": ["--help"]}, rounds)
    return [
        compared(
            f"eventckpt {name}, {runs:,} runs of {events}, CPU",
            samples[name],
            samples["--help"],
            "eventckpt --help",
            at_most(1.5),
        )
        for name in asked
    ]


def _taking_turns(programs: dict[str, list[str]], rounds: int) -> dict[str, Sample]:
    """The processor time of each program, by its name."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for words in programs.values():
        seconds(words)  # compiles what is not compiled yet
    order = random.Random(rounds)
    for _ in range(rounds):
        for name in order.sample(list(programs), len(programs)):
            taken[name].append(seconds(programs[name]))
    return {name: Sample(values, lambda seconds: f"{seconds * 1000:.0f} ms") for name, values in taken.items()}


def seconds(words: list[str]) -> float:
    """The processor time of a command in a process of its own."""
    before = of_children()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "eventckpt.cli", *words],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    return of_children() - before


def of_children() -> float:
    """The processor time of all processes that were started here, and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def fill(path: Path, runs: int, events: int) -> None:
    """Fill a file with runs that all wait, and with the projection of them."""
    async with SqliteEventStore(path, synchronous="OFF") as store:
        for first in range(0, runs, _SOME):
            infos: list[RunInfo] = []
            for number in range(first, min(first + _SOME, runs)):
                stream, chain = StreamId("orders", f"run-{number:06}"), list[CheckpointEvent]()
                for seq in range(1, events + 1):
                    event = make_event(stream, seq, previous=chain[-1] if chain else None, data=b"")
                    chain.append(sealed(replace(event, summary=_asking(number), digest="")))
                await store.put(stream, chain)
                infos.append(_folded(chain))
            await store.run_store().put(*infos)


def _folded(chain: list[CheckpointEvent]) -> RunInfo:
    info = fold(chain)
    assert info is not None
    return info


def _asking(number: int) -> Summary:
    question = PendingRequest(
        request_id=f"q-{number}",
        source_executor_id="clerk",
        request_type="app:Approval",
        asked_at=(_BEGUN + timedelta(seconds=number * 7919 % 1_000_003)).isoformat(),
        response_type="builtins:bool",
        prompt=f"May order {number} be paid?",
    )
    return Summary(executor_ids=("clerk",), pending_requests=(question,))


async def queries(documents: tuple[int, ...] = (100, 1_000, 10_000)) -> list[Figure]:
    """How many queries a first page takes, counted by the server."""
    figures: list[Figure] = []
    async with CosmosEmulator() as emulator, CosmosEventStore(**where(emulator)) as store:
        runs, made = store.run_store(), 0
        one = Sample([1.0], lambda count: f"{count:.0f}")
        for count in documents:
            for first in range(made, count, _SOME):
                chains = [
                    sealed(replace(make_event(StreamId("orders", f"run-{number:06}"), 1), summary=_asking(number)))
                    for number in range(first, min(first + _SOME, count))
                ]
                await runs.put(*(_folded([event]) for event in chains))
            made = count
            await runs.page(RunFilter(waiting=True))  # opens, and learns of the partitions
            emulator.reset()
            page = await runs.page(RunFilter(waiting=True))
            assert len(page.runs) == min(count, 100)
            taken = sum(record.kind == "query" and record.status == 200 for record in emulator.requests)
            ours = Sample([float(taken)], lambda number: f"{number:.0f}")
            figures.append(compared(f"inbox of {count:,} documents, queries", ours, one, "one query", at_most(1.0)))
    return figures
