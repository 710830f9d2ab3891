"""`python -m tests.benchmarks.list_memory PEER SUPERSTEPS [FILE]`: the memory that a list of all checkpoints takes.

It prints by how many bytes the list, and whatever is held while it is made, raised the most that the process had taken
before. A process of its own, since only a peak that was never reached before can be seen.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import resource
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from agent_framework import CheckpointStorage, InMemoryCheckpointStorage, WorkflowCheckpoint

from eventckpt import SqliteCheckpointStorage

from .measure import Figure, Sample, at_most, compared
from .states import STATES

__all__ = ["listed"]

WORKFLOW = "chat"


async def listed(supersteps: int = 1_000) -> list[Figure]:
    """`list_checkpoints` of a conversation, beside `InMemoryCheckpointStorage`, which copies each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        async with SqliteCheckpointStorage(path, synchronous="OFF") as storage:
            await _fill(storage.for_run("r"), supersteps)
        ours, theirs = (Sample([_peak(peer, supersteps, path)], _megabytes) for peer in ("eventckpt", "InMemory"))
    what = f"list_checkpoints of {supersteps:,} supersteps, memory"
    return [compared(what, ours, theirs, "InMemoryCheckpointStorage", at_most(1.1))]


def _peak(peer: str, supersteps: int, path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.list_memory", peer, str(supersteps), str(path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


async def _fill(storage: CheckpointStorage, supersteps: int) -> None:
    previous = None
    for state in islice(STATES["messages"](1), supersteps):
        previous = await storage.save(
            WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        )


async def _main(peer: str, supersteps: str, file: str) -> None:
    logging.disable(logging.WARNING)
    if peer == "InMemory":
        storage: CheckpointStorage = InMemoryCheckpointStorage()
        await _fill(storage, int(supersteps))
        print(await _raised_by_list(storage, int(supersteps)))
    else:
        async with SqliteCheckpointStorage(file) as stored:
            print(await _raised_by_list(stored, int(supersteps)))


async def _raised_by_list(storage: CheckpointStorage, supersteps: int) -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already is given back, so that the list has to ask for it
    before = _resident()
    found = await storage.list_checkpoints(workflow_name=WORKFLOW)
    assert len(found) == supersteps
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
