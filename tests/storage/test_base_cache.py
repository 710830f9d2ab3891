"""The bases in memory: many runs fit, since they are kept as they are stored, and more than fit do not all miss."""

from __future__ import annotations

import random

import pytest
from agent_framework import WorkflowCheckpoint
from hypothesis import given
from hypothesis import strategies as st

from eventckpt import EventCheckpointStorage, StreamId
from eventckpt.delta import Base, encode
from eventckpt.storage.payloads import BaseCache

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .test_delta import CountingReads

SIZE = 8_000
"""Bytes of what a run holds and does not change."""


class Runs:
    """Runs that are saved to through one storage, and the reads that this took."""

    def __init__(self, engine: Engine, cache_bytes: int) -> None:
        self.counting = CountingReads(engine)
        self._storage = EventCheckpointStorage(self.counting.store, cache_bytes=cache_bytes)
        self._rng = random.Random(17)
        self._last: dict[str, WorkflowCheckpoint] = {}

    async def save(self, run_id: str, *, compressible: bool = False) -> None:
        last = self._last.get(run_id)
        noise = "word " * (SIZE // 5) if compressible else self._rng.randbytes(SIZE)
        state = (last.state if last else {"noise": noise}) | {"step": self._rng.random()}
        self._last[run_id] = checkpoint(last, state=state)
        await self._storage.for_run(run_id).save(self._last[run_id])

    async def resume(self, others: Runs) -> None:
        """Go on with the runs of another process."""
        for run_id, last in others._last.items():
            self._last[run_id] = await self._storage.for_run(run_id).load(last.checkpoint_id)

    async def rounds(self, count: int, runs: int, *, compressible: bool = False) -> int:
        """The reads that saves to so many runs in turn took."""
        self.counting.reads.clear()
        for _ in range(count):
            for run in range(runs):
                await self.save(f"run-{run}", compressible=compressible)
        return len(self.counting.reads)


def room_for(bases: int) -> int:
    """Bytes in which so many bases of 8 KB fit as they are stored, with what an entry takes beside them."""
    return int(bases * (SIZE + 2_000) / 0.75)


async def test_runs_that_fit_are_never_read(engine: Engine) -> None:
    assert await Runs(engine, room_for(10)).rounds(6, runs=10) == 0


async def test_a_quarter_more_runs_than_fit_read_for_about_a_quarter_of_their_saves(engine: Engine) -> None:
    """Of 10 runs of which 8 fit, a cache that forgets what was used least would always have forgotten the next one."""
    runs = Runs(engine, room_for(8))
    await runs.rounds(2, runs=10)
    assert 0 < await runs.rounds(8, runs=10) <= 80 * 0.4


async def test_runs_fit_by_what_they_take_compressed(engine: Engine) -> None:
    """Where their raw bytes are three times what the cache may hold."""
    assert await Runs(engine, 6 * SIZE).rounds(3, runs=20, compressible=True) == 0


async def test_a_run_that_goes_on_finds_room_among_those_that_are_over(engine: Engine) -> None:
    runs = Runs(engine, room_for(8))
    for run in range(50):
        await runs.save(f"over-{run}")
    runs.counting.reads.clear()
    for _ in range(20):
        await runs.save("one")
        await runs.save("another")
    assert len(runs.counting.reads) == 0


async def test_runs_that_were_loaded_find_room_among_those_that_are_over(engine: Engine) -> None:
    runs, others = Runs(engine, room_for(8)), Runs(engine, room_for(8))
    await others.rounds(1, runs=2)
    for run in range(50):
        await runs.save(f"over-{run}")
    await runs.resume(others)
    await runs.rounds(10, runs=2)
    assert await runs.rounds(10, runs=2) == 0


async def test_a_save_that_was_there_already_is_rested_on(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Of which the store tells the header only; there is no room for the raw bytes here."""
    first = checkpoint(state={"noise": random.Random(1).randbytes(SIZE)})
    await engine.storage().for_run("r").save(first)
    run = EventCheckpointStorage(engine.open(), cache_bytes=2 * SIZE).for_run("r")
    await run.save(first)
    last = first
    for step in range(3):
        last = checkpoint(last, state=first.state | {"step": step})
        await run.save(last)
    headers = [header async for header in engine.open().headers(StreamId(WORKFLOW, "r"))]
    assert [header.payload.bases[-1:] for header in headers if header.payload] == [(), (1,), (1,), (1,)]
    assert caplog.text == ""
    assert await run.load(last.checkpoint_id) == last


async def test_without_room_each_save_reads(engine: Engine) -> None:
    runs = Runs(engine, 0)
    await runs.rounds(1, runs=2)
    assert await runs.rounds(3, runs=2) == 6


puts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(0, 400), st.booleans(), st.booleans()), max_size=40
)


@given(puts, st.integers(0, 3_000))
def test_whatever_is_put_in_raw_and_stored_bytes_stay_within_the_size(
    what: list[tuple[int, int, int, bool, bool]], size: int
) -> None:
    cache, streams, rng = BaseCache(size), [StreamId("w", str(run)) for run in range(6)], random.Random(size)
    for run, seq, length, is_new, is_delta in what:
        raw = rng.randbytes(length)
        base = Base(seq, raw, length) if is_delta and length >= 8 and seq > 1 else None
        payload = encode(raw, base._replace(seq=1, stored_size=1 << 20) if base else None)
        cache.put(streams[run], Base(seq, raw, payload.stored_size, 0, *payload.bases), payload, is_new=is_new)
        raws = [base for stream in streams for seq in range(1, 7) if (base := cache.base(stream, seq))]
        stored = [payload for stream in streams for payload in cache.stored(stream).values()]
        assert sum(len(base.raw) for base in raws) + sum(len(payload.data) for payload in stored) <= size
