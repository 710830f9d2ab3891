"""A retention policy over a store of many runs, all of which go: the pass beside its plan, and its memory."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.audit import Retention, RetentionPolicy, RetentionRule
from eventckpt.chain import sealed
from eventckpt.events import Summary
from eventckpt.stores import Space
from eventckpt.stores.conformance import make_event

from .measure import Bound, Figure, Sample, at_most, compared

__all__ = ["passes"]

_WORKFLOW = "orders"
_DONE = Summary(executor_ids=("clerk",))
_LONG_AGO, _BEFORE = ((datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (60, 1))


async def passes(runs: int = 10_000, events: int = 20, rounds: int = 2) -> list[Figure]:
    """Processor time of a whole pass, which plans too, beside the plan alone, over the same store before it; and the
    memory of a pass, beside one over fewer runs."""
    daily = [await _measured(runs, events, every=30) for _ in range(rounds)]
    whole = [await _measured(runs, events) for _ in range(rounds)]
    few = runs // 4
    of_few, of_many = [(await _measured(count, events, traced=True)).peak for count in (few, runs)]
    return [
        _beside_plan(f"a day's pass over {runs:,} runs of {events}, CPU", daily, at_most(2.0)),
        _beside_plan(f"a pass that removes {runs:,} runs of {events}, CPU", whole, at_most(2.0)),
        compared(
            f"giving back the room of {runs:,} runs, which ends that pass, CPU",
            Sample([each.giving for each in whole], _s),
            Sample([each.plan for each in whole], _s),
            "the plan alone",
        ),
        compared(
            f"a pass that removes {runs:,} runs, memory",
            Sample([of_many], _mb),
            Sample([of_few], _mb),
            f"{few:,} runs",
            at_most(2.0),
        ),
    ]


class _Taken(NamedTuple):
    plan: float
    """Processor seconds."""
    whole: float
    """Of the pass, but for `giving`."""
    giving: float
    """Of what gives the room back, page by page: `space` measures it."""
    peak: float
    """Bytes that the pass held at most; 0: not traced."""


class _Store(SqliteEventStore):
    """A store that says how long it took to give its room back."""

    giving = 0.0

    async def give_back(self) -> Space | None:
        started = time.process_time()
        space = await super().give_back()
        self.giving = time.process_time() - started
        return space


def _beside_plan(what: str, taken: list[_Taken], bound: Bound) -> Figure:
    whole, plan = Sample([each.whole for each in taken], _s), Sample([each.plan for each in taken], _s)
    return compared(what, whole, plan, "the plan alone", bound)


async def _measured(runs: int, events: int, *, every: int = 1, traced: bool = False) -> _Taken:
    """A plan and a pass over a new store, in which one run of `every` so many is old."""
    rule = RetentionRule(name="old orders", workflow=_WORKFLOW, remove_after=timedelta(days=30))
    with tempfile.TemporaryDirectory() as folder:
        async with _Store(Path(folder, "events.db"), synchronous="OFF") as store:
            await _fill(store, runs, events, every)
            retention = Retention(store, RetentionPolicy([rule]))
            started = time.process_time()
            planned = sum([plan.does == "remove" async for plan in retention.plan()])
            plan = time.process_time() - started
            if traced:
                tracemalloc.start()
            started = time.process_time()
            report = await retention.carry_out()
            whole = time.process_time() - started - store.giving
            peak = tracemalloc.get_traced_memory()[1] if traced else 0
            tracemalloc.stop()
            assert report.total.removed == planned == len(range(0, runs, every))
    return _Taken(plan, whole, store.giving, peak)


async def _fill(store: SqliteEventStore, runs: int, events: int, every: int) -> None:
    for number in range(runs):
        stream, chain = StreamId(_WORKFLOW, f"run-{number:06}"), list[CheckpointEvent]()
        for seq in range(1, events + 1):
            event = make_event(stream, seq, previous=chain[-1] if chain else None, data=b"x" * 500)
            recorded_at = _BEFORE if number % every else _LONG_AGO
            chain.append(sealed(replace(event, summary=_DONE, recorded_at=recorded_at, digest="")))
        await store.put(stream, chain)


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _mb(size: float) -> str:
    return f"{size / 1_000_000:.1f} MB"
