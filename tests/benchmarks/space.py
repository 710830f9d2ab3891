"""The room that a SQLite file gives back to the disk once most of what was in it is removed."""
# ruff: noqa: ASYNC240 - nothing else runs in the loop meanwhile

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.space import rewrite

from .measure import PRINTED, Bound, Figure, Sample, at_most, compared

__all__ = ["given_back"]


async def given_back(runs: int = 1_000, each: int = 200, kept: int = 39) -> list[Figure]:
    """The file of so many runs, of each of which only the last events are kept, beside what it was, and beside what
    VACUUM makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder, "store.db"), Path(folder, "copy.db")
        streams = [StreamId("chat", f"run-{number:06}") for number in range(runs)]
        chosen = random.Random(1)
        async with SqliteEventStore(path, synchronous="OFF") as store:
            for stream in streams:
                await store.put(stream, _events(stream, each, chosen))
        full = path.stat().st_size
        async with SqliteEventStore(path, synchronous="OFF") as store:
            for stream in streams:
                await store.remove(stream, range(1, each - kept + 1))
        shutil.copyfile(path, copy)
        async with SqliteEventStore(path) as store:
            ours = await _seconds(store.give_back)
        began = time.perf_counter()
        vacuumed = rewrite(copy).after
        theirs = time.perf_counter() - began
        size = path.stat().st_size
    what = f"file of {runs * each:,} events, {runs * (each - kept):,} of them removed"
    return [
        _sizes(f"{what}: size", size, full, "before", at_most(0.35)),
        _sizes(f"{what}: size, beside VACUUM", size, vacuumed, "compact --rewrite"),
        compared(f"{what}: give back", Sample([ours], _s), Sample([theirs], _s), "compact --rewrite"),
    ]


def _events(stream: StreamId, count: int, chosen: random.Random) -> list[CheckpointEvent]:
    """Events of up to 3 KB that do not compress."""
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        data = chosen.randbytes(chosen.choice([300, 800, 3_000]))
        events.append(make_event(stream, seq, previous=events[-1] if events else None, data=data))
    return events


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def _sizes(what: str, ours: int, theirs: int, who: str, bound: Bound = PRINTED) -> Figure:
    return compared(what, Sample([ours], _mb), Sample([theirs], _mb), who, bound)


def _mb(size: float) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s"
