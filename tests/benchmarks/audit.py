"""What it costs to ask a large store: 10,000 runs of 20 events, and two checkpoints of 1,000 messages."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, SqliteCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event

from .measure import Figure, alternately, alternately_async
from .states import message

__all__ = ["commands", "diffs"]

EVENTS = 20
WORKFLOWS = 7
_SOON = 0.100  # seconds that a first page may take beyond an empty command
_RATE = 20_000  # events a second


async def commands(runs: int = 10_000, rounds: int = 7) -> list[Figure]:
    """The listings as a person waits for them, in processes of their own; and `verify --all`."""
    with tempfile.TemporaryDirectory() as folder:
        full, empty = Path(folder, "full.db"), Path(folder, "empty.db")
        async with SqliteEventStore(full, synchronous="OFF") as store, SqliteEventStore(empty) as nothing:
            await nothing.find("nothing")
            await _fill(store, runs)
            rate = await _verified(store)
        listed = [_command("runs", empty), _command("runs", full), _command("history", full, f"run-{runs // 2}")]
        bare, first, history = alternately(rounds, *listed)
    return [
        _figure(f"runs, first page of {runs:,} runs", first, bare),
        _figure(f"history of one of {runs:,} runs", history, bare),
        Figure(
            f"verify --all, {runs * EVENTS:,} events",
            f"{rate:,.0f}/s",
            f"{_RATE:,}/s",
            rate / _RATE,
            "at least 1.0",
            rate >= _RATE,
        ),
    ]


async def diffs(size: int = 1_000, rounds: int = 15) -> list[Figure]:
    """A deep diff against loading both."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteCheckpointStorage(Path(folder, "two.db")) as storage:
            rng = random.Random(1)
            messages = [message(rng) for _ in range(size)]
            first = WorkflowCheckpoint("chat", "g", state={"history": messages})
            others = [*messages[: size - 2], *(message(rng) for _ in range(3))]
            second = WorkflowCheckpoint(
                "chat", "g", previous_checkpoint_id=first.checkpoint_id, state={"history": others}
            )
            for checkpoint in (first, second):
                await storage.for_run("r").save(checkpoint)
            assert isinstance(storage.store, SqliteEventStore)
            audit = CheckpointAudit(storage.store)

            async def load() -> None:
                for checkpoint in (first, second):
                    await storage.load(checkpoint.checkpoint_id)

            async def diff() -> None:
                before, after = [await audit.event(each.checkpoint_id) for each in (first, second)]
                assert len(await audit.diff(before, after)) >= 3

            loaded, compared = await alternately_async(rounds, load, diff)
    ratio = compared / loaded
    return [
        Figure(
            f"diff of two checkpoints of {size:,} messages",
            f"{compared * 1000:.0f} ms",
            f"load both {loaded * 1000:.0f} ms",
            ratio,
            "at most 2.0",
            ratio <= 2,
        )
    ]


async def _fill(store: SqliteEventStore, runs: int) -> None:
    data = os.urandom(600)
    for number in range(runs):
        stream = StreamId(f"workflow-{number % WORKFLOWS}", f"run-{number}")
        events: list[CheckpointEvent] = []
        for seq in range(1, EVENTS + 1):
            events.append(make_event(stream, seq, previous=events[-1] if events else None, data=data))
        await store.put(stream, events)


async def _verified(store: SqliteEventStore) -> float:
    """Events that `verify --all` checks in a second."""
    started, events = time.perf_counter(), 0
    async for verdict in CheckpointAudit(store).verify_all():
        events += verdict.events
    return events / (time.perf_counter() - started)


def _command(name: str, path: Path, *words: str) -> Callable[[], object]:
    def run() -> None:
        subprocess.run(
            [sys.executable, "-m", "eventckpt.cli", name, *words, "--store", str(path)], check=True, capture_output=True
        )

    return run


def _figure(what: str, ours: float, bare: float) -> Figure:
    more = ours - bare
    return Figure(
        what,
        f"{ours * 1000:.0f} ms",
        f"of an empty store {bare * 1000:.0f} ms",
        ours / bare,
        f"at most {_SOON * 1000:.0f} ms more",
        more <= _SOON,
    )
