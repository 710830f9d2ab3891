"""`python -m tests.benchmarks.loop_hold`: for how long a save and a load hold the event loop in one piece.

What counts is the processor time of the longest callback of the loop, which other programs on the machine hardly
disturb: whatever else waits in the loop waits for that long. It is set against what the framework itself does on the
loop before each save, a deep copy of the state, and against what has to be done with the bytes somewhere, one SHA-256
and one compression.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import random
import statistics
import tempfile
import time
from asyncio.events import Handle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agent_framework import WorkflowCheckpoint

from eventckpt import CosmosCheckpointStorage, EventCheckpointStorage, SqliteCheckpointStorage
from eventckpt.delta import encode

from .cosmos_server import emulator_process
from .measure import Figure, at_most, report
from .states import message

__all__ = ["figures", "longest_callback", "longest_holds"]

_ROUNDS = 7


class State(NamedTuple):
    """What a checkpoint holds: by and by more messages, or each time something else."""

    name: str
    of_round: Callable[[int], dict[str, Any]]
    bound: float
    """Of the longest callback of a save, against its floor."""
    is_bytes: bool
    """Whether the floor is a SHA-256 and a compression of the same bytes; else it is a deep copy of the state."""


def states(text: int = 20_000_000, data: int = 5_000_000, messages: int = 1_000) -> list[State]:
    """The three states of the table: what they hold, and what a save of each is held to."""
    rng = random.Random(1)
    chat = [message(rng) for _ in range(messages + _ROUNDS)]
    words = ["what", "an", "agent", "says", "to", "another", "one"]
    return [
        State(
            f"{messages:,} messages",
            lambda turn: {"_executor_state": {"agent": {"cache": chat[: messages + turn]}}},
            0.7,
            is_bytes=False,
        ),
        State(f"{data // 10**6} MB of bytes", lambda _: {"data": rng.randbytes(data)}, 0.1, is_bytes=True),
        State(
            f"{text // 10**6} MB of text",
            lambda _: {"text": " ".join(rng.choices(words, k=text // 5))},
            0.1,
            is_bytes=True,
        ),
    ]


@contextmanager
def longest_callback() -> Iterator[list[float]]:
    """Notes the processor seconds of each callback of the event loops of this thread, in the list that it gives."""
    taken: list[float] = []
    run = Handle._run

    def timed(handle: Handle) -> None:
        started = time.thread_time()
        try:
            run(handle)
        finally:
            taken.append(time.thread_time() - started)

    Handle._run = timed
    try:
        yield taken
    finally:
        Handle._run = run


async def _held(storage: EventCheckpointStorage, state: State) -> tuple[float, float]:
    """Medians of the longest callback of a save, and of a load by somebody who has nothing in memory."""
    saves: list[float] = []
    run, previous = storage.for_run(f"run of {state.name}"), None
    for turn in range(_ROUNDS):
        checkpoint = WorkflowCheckpoint("w", "g", previous_checkpoint_id=previous, state=state.of_round(turn))
        with longest_callback() as taken:
            previous = await asyncio.create_task(run.save(checkpoint))
        saves.append(max(taken))
    loads: list[float] = []
    for _ in range(_ROUNDS):
        with longest_callback() as taken:
            await asyncio.create_task(EventCheckpointStorage(storage.store).load(previous or ""))
        loads.append(max(taken))
    return statistics.median(saves), statistics.median(loads)


def _floor(state: State) -> float:
    """Median processor seconds of what a save is compared with."""
    value = state.of_round(0)
    raw = next((each for each in value.values() if isinstance(each, bytes | str)), b"")
    raw = raw.encode() if isinstance(raw, str) else raw
    taken: list[float] = []
    for _ in range(_ROUNDS):
        started = time.thread_time()
        if state.is_bytes:
            hashlib.sha256(raw).digest()
            encode(raw)
        else:
            copy.deepcopy(value)
        taken.append(time.thread_time() - started)
    return statistics.median(taken)


async def figures(storage: EventCheckpointStorage, engine: str, *states: State) -> list[Figure]:
    """The saves, and the loads, of each state."""
    found: list[Figure] = []
    for state in states:
        floor, held = _floor(state), await _held(storage, state)
        against = "SHA-256 and zstd" if state.is_bytes else "deepcopy"
        for what, seconds, bound in zip(("save", "load"), held, (state.bound, 2 * state.bound), strict=True):
            found.append(
                Figure(
                    f"{engine}, {state.name}: longest hold in a {what}",
                    f"{seconds * 1000:.2f} ms",
                    f"{floor * 1000:.2f} ms ({against})",
                    seconds / floor,
                    at_most(bound).text,
                    seconds <= bound * floor,
                )
            )
    return found


async def longest_holds(text: int = 20_000_000, data: int = 5_000_000, messages: int = 1_000) -> list[Figure]:
    """Each state on each engine; the Cosmos DB is the suite's, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteCheckpointStorage(Path(folder, "c.db")) as storage:
            found = await figures(storage, "SQLite", *states(text, data, messages))
    async with (
        emulator_process() as (endpoint, key),
        CosmosCheckpointStorage(endpoint=endpoint, credential=key, database_name="d", container_name="c") as storage,
    ):
        return found + await figures(storage, "Cosmos DB", *states(text, data, messages))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    report("Longest hold of the event loop", asyncio.run(longest_holds()))
