"""A retention policy over a store of many runs, all of which go: the pass beside its plan, and its memory."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.audit import Retention, RetentionPolicy, RetentionRule
from eventckpt.chain import sealed
from eventckpt.events import Summary
from eventckpt.stores.conformance import make_event

from .measure import Figure, Sample, at_most, compared

__all__ = ["passes"]

_WORKFLOW = "orders"
_DONE = Summary(executor_ids=("clerk",))
_LONG_AGO = (datetime.now(UTC) - timedelta(days=60)).isoformat()


async def passes(runs: int = 10_000, events: int = 20, rounds: int = 3) -> list[Figure]:
    """Processor time of a whole pass, which plans too, beside the plan alone, over the same store before it."""
    plans: list[float] = []
    whole: list[float] = []
    for _ in range(rounds):
        planned, taken, _ = await _measured(runs, events)
        plans.append(planned)
        whole.append(taken)
    few, many = runs // 4, runs
    _, _, of_few = await _measured(few, events, traced=True)
    _, _, of_many = await _measured(many, events, traced=True)
    what = f"retention removes {runs:,} runs of {events}, CPU"
    memory = f"memory of a pass over {many:,} runs, peak"
    return [
        compared(what, Sample(whole, _s), Sample(plans, _s), "the plan alone", at_most(2.0)),
        compared(memory, Sample([of_many], _mb), Sample([of_few], _mb), f"over {few:,} runs", at_most(1.2)),
    ]


async def _measured(runs: int, events: int, *, traced: bool = False) -> tuple[float, float, float]:
    """Processor seconds of a plan and of a whole pass, and the bytes that the pass held at most."""
    rule = RetentionRule(name="old orders", workflow=_WORKFLOW, remove_after=timedelta(days=30))
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db"), synchronous="OFF") as store:
            await _fill(store, runs, events)
            retention = Retention(store, RetentionPolicy([rule]))
            started = time.process_time()
            assert len([None async for plan in retention.plan() if plan.does == "remove"]) == runs
            planned = time.process_time() - started
            if traced:
                tracemalloc.start()
            started = time.process_time()
            report = await retention.carry_out()
            taken = time.process_time() - started
            peak = tracemalloc.get_traced_memory()[1] if traced else 0
            tracemalloc.stop()
            assert report.total.removed == runs
    return planned, taken, peak


async def _fill(store: SqliteEventStore, runs: int, events: int) -> None:
    for number in range(runs):
        stream, chain = StreamId(_WORKFLOW, f"run-{number:06}"), list[CheckpointEvent]()
        for seq in range(1, events + 1):
            event = make_event(stream, seq, previous=chain[-1] if chain else None, data=b"x" * 500)
            chain.append(sealed(replace(event, summary=_DONE, recorded_at=_LONG_AGO, digest="")))
        await store.put(stream, chain)


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _mb(size: float) -> str:
    return f"{size / 1_000_000:.1f} MB"
