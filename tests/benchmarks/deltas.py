"""What a superstep costs in bytes and time: three workloads, against `FileCheckpointStorage` and plain snapshots."""

from __future__ import annotations

import base64
import math
import random
import tempfile
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from agent_framework import FileCheckpointStorage, WorkflowCheckpoint

from eventckpt import CheckpointCodec, SqliteCheckpointStorage, StreamId
from eventckpt.delta import encode

from .measure import PRINTED, Bound, Figure, Line, Measured, Plot, Sample, alternately_async, at_least, not_installed
from .peers import PEERS, has_langgraph
from .states import STATES, message

__all__ = ["conversation", "plain_snapshots"]

WORKFLOW = "chat"


class Curve(NamedTuple):
    """Stored bytes after each of some supersteps."""

    steps: list[int]
    ours: list[int]
    file: list[int]

    def at(self, step: int) -> tuple[int, int]:
        index = self.steps.index(step)
        return self.ours[index], self.file[index]


async def conversation(short: int = 300, long: int = 1000) -> Measured:
    """Each superstep adds one 80-word message and changes one other small value."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        curve, last = await _grown(folder, short, long)
        load = await _load_ratio(folder, last, long)
        figures = [_beside_file(curve, short, at_least(75)), _beside_file(curve, long, at_least(180))]
        peers = [Line("FileCheckpointStorage", curve.steps, _megabytes(curve.file))]
        if has_langgraph():
            langgraph = await _langgraph(folder, curve.steps)
            peers.append(Line("LangGraph's AsyncSqliteSaver, plain dicts", curve.steps, _megabytes(langgraph)))
            figures += [_beside_langgraph(curve, n, langgraph[curve.steps.index(n)]) for n in (short, long)]
        else:
            figures += [_beside_langgraph(curve, n, None) for n in (short, long)]
    growth = math.log(curve.at(long)[0] / curve.at(short)[0]) / math.log(long / short)
    grown = Figure(
        f"growth of stored bytes, {short} to {long}", f"n^{growth:.2f}", "n^2", growth, "≤ n^1.6", growth <= 1.6
    )
    ours = Line("eventckpt on SQLite", curve.steps, _megabytes(curve.ours))
    x = "supersteps, one 80-word message each"
    return Measured([*figures, grown, load], Plot("stored-bytes", x, "stored, MB", [*peers, ours]))


async def _grown(folder: Path, short: int, long: int) -> tuple[Curve, WorkflowCheckpoint]:
    """What both stores take as the conversation grows, and its last checkpoint."""
    rng = random.Random(1)
    messages = [message(rng) for _ in range(long)]
    curve = Curve([], [], [])
    ours = SqliteCheckpointStorage(folder / "ours.db", synchronous="OFF")
    file = FileCheckpointStorage(folder / "file")
    written, previous, last = 0, None, WorkflowCheckpoint(WORKFLOW, "graph")
    for step in range(1, long + 1):
        state = {"_executor_state": {"agent": {"cache": messages[:step]}}, "step": step}
        last = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        previous = await ours.for_run("r").save(last)
        await file.save(last)
        written += _taken_away(folder / "file" / f"{previous}.json")
        if _is_noted(step, short, long):
            await ours.close()  # merges the write-ahead log into the file
            curve.steps.append(step)
            curve.ours.append(_bytes(folder / "ours.db"))
            curve.file.append(written)
            ours = SqliteCheckpointStorage(folder / "ours.db", synchronous="OFF")
            await ours.for_run("r").load(previous)
    await ours.close()
    return curve, last


def _is_noted(step: int, short: int, long: int) -> bool:
    return step % (long // 20) == 0 or step == short


async def _langgraph(folder: Path, steps: list[int]) -> list[int]:
    """What LangGraph's saver has stored of the same conversation after so many supersteps, in plain dicts."""
    states, sizes = STATES["dicts"](1), []
    for begun, ended in pairwise([0, *steps]):
        async with PEERS["LangGraph"](folder) as saves:
            save = saves("r")
            for state in islice(states, ended - begun):
                await save(WorkflowCheckpoint(WORKFLOW, "graph", state=state))
        sizes.append(_bytes(folder / "langgraph.db"))
    return sizes


def _beside_file(curve: Curve, step: int, bound: Bound) -> Figure:
    ours, file = curve.at(step)
    what, theirs, ratio = f"stored bytes, {step} supersteps", f"{_size(file)} FileCheckpointStorage", file / ours
    return Figure(what, _size(ours), theirs, ratio, bound.text, bound.holds(ratio))


def _beside_langgraph(curve: Curve, step: int, theirs: int | None) -> Figure:
    what, ours, who = f"stored bytes, {step} supersteps", curve.at(step)[0], "LangGraph's AsyncSqliteSaver"
    if theirs is None:
        return not_installed(what, Sample([ours], lambda size: _size(int(size))), who)
    return Figure(what, _size(ours), f"{_size(theirs)} {who}, plain dicts", theirs / ours, PRINTED.text, met=True)


async def _load_ratio(folder: Path, last: WorkflowCheckpoint, seq: int) -> Figure:
    """Loading the end of the long run against loading the same checkpoint stored alone; nothing cached."""
    alone = SqliteCheckpointStorage(folder / "alone.db", cache_bytes=0)
    await alone.for_run("r").save(last)
    run = SqliteCheckpointStorage(folder / "ours.db", cache_bytes=0)
    [event] = await run.store.read(StreamId(WORKFLOW, "r"), seq)
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


def _tool_results(steps: int) -> Iterator[dict[str, Any]]:
    """Each superstep adds 20 KB of incompressible text to the state."""
    rng = random.Random(2)
    results: list[str] = []
    for _ in range(steps):
        results.append(base64.b64encode(rng.randbytes(15_000)).decode())
        yield {"results": list(results)}


def _rewrite(steps: int) -> Iterator[dict[str, Any]]:
    """Each superstep replaces half of a 200 KB state at random."""
    rng = random.Random(3)
    blocks = [rng.randbytes(1_000) for _ in range(200)]
    for _ in range(steps):
        for index in rng.sample(range(200), 100):
            blocks[index] = rng.randbytes(1_000)
        yield {"blocks": list(blocks)}


async def plain_snapshots(steps: int = 100) -> list[Figure]:
    """The workloads where deltas gain little: never more than 1.1 × the bytes of snapshots alone."""
    codec = CheckpointCodec()
    figures: list[Figure] = []
    for name, states in (("tool results", _tool_results(steps)), ("rewrite", _rewrite(steps * 3 // 5))):
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


def _bytes(file: Path) -> int:
    return file.stat().st_size


def _taken_away(file: Path) -> int:
    """The size of a file, which is all that matters of it: 1,000 of them would fill the disk."""
    size = _bytes(file)
    file.unlink()
    return size


def _size(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


def _megabytes(sizes: list[int]) -> list[float]:
    return [size / 1e6 for size in sizes]
