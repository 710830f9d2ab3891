"""What a superstep costs in bytes and time: three workloads, against `FileCheckpointStorage` and plain snapshots."""

from __future__ import annotations

import base64
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from agent_framework import FileCheckpointStorage, WorkflowCheckpoint

from eventckpt import CheckpointCodec, SqliteCheckpointStorage, StreamId
from eventckpt.delta import encode

from .main_job import message
from .measure import Figure, alternately_async

__all__ = ["Curve", "conversation", "plain_snapshots", "plot"]

WORKFLOW = "chat"


class Curve(NamedTuple):
    """Stored bytes after each of some supersteps."""

    steps: list[int]
    ours: list[int]
    file: list[int]


async def conversation(short: int = 300, long: int = 1000) -> tuple[list[Figure], Curve]:
    """Each superstep adds one 80-word message and changes one other small value."""
    rng = random.Random(1)
    messages = [message(rng) for _ in range(long)]
    curve = Curve([], [], [])
    save_times: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        ours = SqliteCheckpointStorage(Path(folder, "ours.db"), synchronous="OFF")
        file = FileCheckpointStorage(Path(folder, "file"))
        written, previous, last = 0, None, WorkflowCheckpoint(WORKFLOW, "graph")
        for step in range(1, long + 1):
            state = {"_executor_state": {"agent": {"cache": messages[:step]}}, "step": step}
            last = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
            started = time.perf_counter()
            previous = await ours.for_run("r").save(last)
            between = time.perf_counter()
            await file.save(last)
            if step > long - 20:
                save_times[0].append(between - started)
                save_times[1].append(time.perf_counter() - between)
            written += _taken_away(Path(folder, "file", f"{previous}.json"))
            if step % (long // 20) == 0 or step == short:
                await ours.close()  # merges the write-ahead log into the file
                curve.steps.append(step)
                curve.ours.append(_bytes(Path(folder, "ours.db")))
                curve.file.append(written)
                ours = SqliteCheckpointStorage(Path(folder, "ours.db"), synchronous="OFF")
                await ours.for_run("r").load(previous)
        await ours.close()
        load = await _load_ratio(folder, last)
    at = dict(zip(curve.steps, zip(curve.ours, curve.file, strict=True), strict=True))
    growth = math.log(at[long][0] / at[short][0]) / math.log(long / short)
    save_ours, save_file = (statistics.median(times) for times in save_times)
    figures = [
        Figure(f"stored bytes, {n} supersteps", _size(at[n][0]), f"{_size(at[n][1])} File", at[n][1] / at[n][0],
               f"≥ {bound} ×", at[n][1] / at[n][0] >= bound)
        for n, bound in ((short, 40), (long, 80))
    ]  # fmt: skip
    return [
        *figures,
        Figure(f"growth of stored bytes, {short} to {long}", f"n^{growth:.2f}", "n^2", growth, "≤ n^1.6",
               growth <= 1.6),
        load,
        Figure(f"save at {long}, no fsync", f"{save_ours * 1000:.1f} ms", f"{save_file * 1000:.1f} ms File",
               save_ours / save_file, "≤ 1 ×", save_ours <= save_file),
    ], curve  # fmt: skip


async def _load_ratio(folder: str, last: WorkflowCheckpoint) -> Figure:
    """Loading the end of the long run against loading the same checkpoint stored alone; nothing cached."""
    alone = SqliteCheckpointStorage(Path(folder, "alone.db"), cache_bytes=0)
    await alone.for_run("r").save(last)
    run = SqliteCheckpointStorage(Path(folder, "ours.db"), cache_bytes=0)
    [event] = await run.store.read(StreamId(WORKFLOW, "r"), 1000)
    assert event.payload is not None
    assert event.payload.base_seq is not None, "the last event has to be a delta for this to mean anything"
    in_run, by_itself = await alternately_async(
        15, lambda: run.load(last.checkpoint_id), lambda: alone.load(last.checkpoint_id)
    )
    await run.close()
    await alone.close()
    ratio = in_run / by_itself
    return Figure("load the last checkpoint", f"{in_run * 1000:.1f} ms", f"{by_itself * 1000:.1f} ms alone", ratio,
                  "≤ 1.5 ×", ratio <= 1.5)  # fmt: skip


def _tool_results(steps: int = 100) -> Iterator[dict[str, Any]]:
    """Each superstep adds 20 KB of incompressible text to the state."""
    rng = random.Random(2)
    results: list[str] = []
    for _ in range(steps):
        results.append(base64.b64encode(rng.randbytes(15_000)).decode())
        yield {"results": list(results)}


def _rewrite(steps: int = 60) -> Iterator[dict[str, Any]]:
    """Each superstep replaces half of a 200 KB state at random."""
    rng = random.Random(3)
    blocks = [rng.randbytes(1_000) for _ in range(200)]
    for _ in range(steps):
        for index in rng.sample(range(200), 100):
            blocks[index] = rng.randbytes(1_000)
        yield {"blocks": list(blocks)}


async def plain_snapshots() -> list[Figure]:
    """The workloads where deltas gain little: never more than 1.1 × the bytes of snapshots alone."""
    codec = CheckpointCodec()
    figures: list[Figure] = []
    for name, states in (("tool results", _tool_results()), ("rewrite", _rewrite())):
        with tempfile.TemporaryDirectory() as folder:
            storage, previous, plain = SqliteCheckpointStorage(Path(folder, "ours.db"), synchronous="OFF"), None, 0
            worst = 0.0
            ours = 0
            for seq, state in enumerate(states, 1):
                checkpoint = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
                previous = await storage.for_run("r").save(checkpoint)
                [event] = await storage.store.read(StreamId(WORKFLOW, "r"), seq)
                assert event.payload is not None
                ours += event.payload.stored_size
                plain += encode(codec.encode(checkpoint)).stored_size
                worst = max(worst, ours / plain)
            await storage.close()
        figures.append(
            Figure(f"{name}: payload bytes", _size(ours), f"{_size(plain)} snapshots", worst, "≤ 1.1 × at any step",
                   worst <= 1.1)
        )  # fmt: skip
    return figures


def plot(curve: Curve, path: Path) -> None:
    """Draw the curve of the conversation workload."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "eventckpt"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(curve.steps, [size / 1e6 for size in curve.file], label="FileCheckpointStorage", color="#b03a2e")
    axes.plot(curve.steps, [size / 1e6 for size in curve.ours], label="eventckpt on SQLite", color="#1f618d")
    axes.set(xlabel="supersteps, one 80-word message each", ylabel="stored, MB", yscale="log", xlim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _bytes(file: Path) -> int:
    return file.stat().st_size


def _taken_away(file: Path) -> int:
    """The size of a file, which is all that matters of it: 1,000 of them would fill the disk."""
    size = _bytes(file)
    file.unlink()
    return size


def _size(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
