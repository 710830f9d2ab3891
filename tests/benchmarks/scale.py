"""What it costs to ask for the end of a long run, for the ids of a workflow, for a whole store, and for all states of a
run. Processor time: the disk is not what is compared."""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from agent_framework import CheckpointStorage, InMemoryCheckpointStorage, WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    EventCheckpointStorage,
    SqliteCheckpointStorage,
    SqliteEventStore,
    StreamId,
)
from eventckpt.audit import Filter
from eventckpt.chain import digest_of, sealed
from eventckpt.runs import fold
from eventckpt.testing.events import make_event
from projections import compare

from .main_job import message
from .measure import Figure

__all__ = ["ids", "latest", "listing_memory", "whole_store"]

WORKFLOW = "scale"
STEPS, RUNS, LISTED_RUNS, EVENTS = 2_000, 100_000, 20_000, 3
_TOGETHER = 500
"""Runs that one transaction writes."""

_Asked = Callable[[], Awaitable[object]]


async def latest(steps: int = STEPS, runs: int = LISTED_RUNS) -> list[Figure]:
    """`get_latest` at the end of a long run, and over many runs, against `load` by id."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteCheckpointStorage(Path(folder, "latest.db"), synchronous="OFF") as storage:
            bound, last = storage.for_run("long", workflow_name=WORKFLOW), None
            for step in range(steps):
                last = await bound.save(_checkpoint(WORKFLOW, step, last))
            newest = ""
            for step in range(runs):
                newest = await storage.save(_checkpoint("many", step, None))
            figures = [
                _ratio("get_latest", f"bound, {steps:,} supersteps", await _both(bound, WORKFLOW, last or "")),
                _ratio("get_latest", f"unbound, {runs:,} runs", await _both(storage, "many", newest)),
            ]
    return figures


async def _both(storage: CheckpointStorage, workflow: str, last: str) -> list[float]:
    return await _cpu(301, lambda: storage.get_latest(workflow_name=workflow), lambda: storage.load(last))


async def ids(runs: int = LISTED_RUNS) -> list[Figure]:
    """`list_checkpoint_ids` against the bare SELECT of the same columns, in processor time and in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ids.db")
        async with SqliteEventStore(path, synchronous="OFF") as store:
            await _fill(store, runs, workflows=1)
            storage, bare = EventCheckpointStorage(store), sqlite3.connect(path)

            async def select() -> list[object]:
                return bare.execute(
                    "SELECT run_id, seq, type, checkpoint_id, position FROM events WHERE workflow_name = ?"
                    " ORDER BY position",
                    ("workflow-0",),
                ).fetchall()

            async def listed() -> list[str]:
                return await storage.list_checkpoint_ids(workflow_name="workflow-0")

            ours, theirs = await _cpu(7, listed, select)
            held, rows = await _peak(listed), await _peak(select)
            bare.close()
    return [
        _ratio("list ids", f"{runs * EVENTS:,}", [ours, theirs], "the bare SELECT"),
        Figure("list ids: peak memory", _mb(held), f"{_mb(rows)} the bare SELECT", held / rows, "≤ 1 ×",
               held <= rows),
    ]  # fmt: skip


async def whole_store(runs: int = RUNS, rounds: int = 3) -> list[Figure]:
    """What goes through every event of a store, against what cannot be left out of it: decoding the headers and, for
    `verify`, the digests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.db")
        async with SqliteEventStore(path, synchronous="OFF") as store:
            await _fill(store, runs, workflows=7)
            audit, bare = CheckpointAudit(store), sqlite3.connect(path)

            async def floor() -> None:
                _decode(bare, digests=True)

            async def decoded() -> None:
                _decode(bare, digests=False)

            contenders: dict[str, _Asked] = {
                "verify --all": lambda: _count(audit.verify_all()),
                "runs --count": lambda: _count(audit.runs()),
                "runs --pending": lambda: _count(audit.runs(Filter(request=""))),
                "prune --all, the plan": lambda: _count(audit.plan_prune(keep=1)),
                "projector compare": lambda: _count(compare(store, store.change_feed(), store.run_store())),
            }
            least, decoding, *taken = await _cpu(rounds, floor, decoded, *contenders.values())
            bare.close()
    verified = taken[0]
    without = verified - (least - decoding)
    share, each = least / verified, 1e6 / (runs * EVENTS)
    figures = [
        Figure("verify --all, runs of 3 events", f"{verified * each:.1f} µs an event",
               f"{least * each:.1f} µs decode and digest", share, "≥ 0.25 ×", share >= 0.25)
    ]  # fmt: skip
    for name, seconds in list(zip(contenders, taken, strict=True))[1:]:
        ratio = seconds / without
        figures.append(
            Figure(f"{name}, {runs:,} runs of 3 events", f"{seconds:.1f} s", f"verify without digests {without:.1f} s",
                   ratio, "≤ 2 ×", ratio <= 2)
        )  # fmt: skip
    return figures


async def listing_memory(steps: int = 1_000) -> list[Figure]:
    """`list_checkpoints` of a conversation against the list that `InMemoryCheckpointStorage` gives of it."""
    rng = random.Random(1)
    messages = [message(rng) for _ in range(steps)]
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.db")
        async with SqliteCheckpointStorage(path, synchronous="OFF") as storage:
            await _converse(storage.for_run("r"), messages)
        async with SqliteCheckpointStorage(path) as storage:
            peaks.append(await _peak(lambda: storage.for_run("r").list_checkpoints(workflow_name=WORKFLOW)))
    memory = InMemoryCheckpointStorage()
    await _converse(memory, messages)
    peaks.append(await _peak(lambda: memory.list_checkpoints(workflow_name=WORKFLOW)))
    ratio = peaks[0] / peaks[1]
    return [
        Figure(f"list_checkpoints of {steps:,} supersteps: peak", _mb(peaks[0]), f"{_mb(peaks[1])} InMemory", ratio,
               "≤ 1.1 ×", ratio <= 1.1)
    ]  # fmt: skip


async def _converse(storage: CheckpointStorage, messages: Sequence[object]) -> None:
    previous = None
    for step in range(1, len(messages) + 1):
        state = {"_executor_state": {"agent": {"cache": messages[:step]}}, "step": step}
        previous = await storage.save(
            WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        )


def _checkpoint(workflow: str, step: int, previous: str | None) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(workflow, "graph", previous_checkpoint_id=previous, state={"step": step})


async def _fill(store: SqliteEventStore, runs: int, *, workflows: int) -> None:
    """Runs of three snapshots, and the documents of the projection."""
    for start in range(0, runs, _TOGETHER):
        logs = [
            _log(StreamId(f"workflow-{number % workflows}", f"run-{number}"))
            for number in range(start, min(runs, start + _TOGETHER))
        ]
        for log in logs:
            await store.put(log[0].stream, log)
        await store.run_store().put(*filter(None, map(fold, logs)))


def _log(stream: StreamId) -> list[CheckpointEvent]:
    events: list[CheckpointEvent] = []
    for seq in range(1, EVENTS + 1):
        event = make_event(stream, seq, previous=events[-1] if events else None, data=_DATA)
        assert event.payload is not None
        snapshot = msgspec.structs.replace(event.payload, base_seq=None, since_base=0)
        events.append(sealed(msgspec.structs.replace(event, payload=snapshot)))
    return events


def _decode(bare: sqlite3.Connection, *, digests: bool) -> None:
    decoder = msgspec.msgpack.Decoder(CheckpointEvent)
    for (header,) in bare.execute("SELECT header FROM events"):
        event = decoder.decode(header)
        if digests:
            digest_of(event)


async def _count(each: AsyncIterator[object]) -> int:
    return sum([1 async for _ in each])


async def _cpu(rounds: int, *contenders: _Asked) -> list[float]:
    """Median seconds of processor time of each contender, all threads together. They take turns in random order."""
    times: list[list[float]] = [[] for _ in contenders]
    order = random.Random(rounds)
    for _ in range(rounds):
        for turn in order.sample(range(len(contenders)), len(contenders)):
            started = time.process_time()
            await contenders[turn]()
            times[turn].append(time.process_time() - started)
    return [statistics.median(taken) for taken in times]


async def _peak(asked: _Asked) -> int:
    """Bytes that were in use at once, beyond those before."""
    tracemalloc.start()
    try:
        kept = await asked()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


def _ratio(what: str, of: str, times: list[float], against: str = "load by id") -> Figure:
    ours, theirs = times
    return Figure(f"{what}: {of}", f"{ours * 1e3:.2f} ms", f"{theirs * 1e3:.2f} ms {against}", ours / theirs, "≤ 1.6 ×",
                  ours <= 1.6 * theirs)  # fmt: skip


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


_DATA = os.urandom(600)
