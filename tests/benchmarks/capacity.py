"""How many saves a run may have on Azure Cosmos DB before its logical partition is full.

A run is one logical partition, and the service lets those hold 20 GB (Cosmos DB documentation, "Service quotas and
default limits"). Counted is the JSON of the items as it is sent. The service counts what it adds to each item too, and
its page counts the index as storage, so that somewhat fewer saves fit than is said here; none was ever filled.

`python -m tests.benchmarks.capacity` prints it alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from agent_framework import Message, WorkflowCheckpoint

from eventckpt import SqliteCheckpointStorage, StreamId
from eventckpt.stores.cosmos.items import items_of

from .measure import Figure, report
from .states import message

__all__ = ["capacity"]

WORKFLOW, RUN = "chat", "r"
LOGICAL_PARTITION: Final = 20 * 10**9
"""Bytes. The page says GB; the smaller reading is the safe one."""


async def capacity(short: int = 300, long: int = 1000, anew: int = 20) -> list[Figure]:
    """Saves until a run is full: three workloads, each measured and then carried on."""
    everything = await stored(conversation(long, keep=long))
    growth = math.log(everything[long - 1] / everything[short - 1]) / math.log(long / short)
    window = await stored(conversation(long, keep=100))
    each_anew = await stored(all_new(anew))
    return [
        figure("a conversation, all messages kept", everything, growth),
        figure("a conversation, the last 100 kept", window, 1.0),
        figure("1 MB of state, all new each time", each_anew, 1.0),
    ]


def figure(what: str, sizes: list[int], growth: float) -> Figure:
    """How long it takes for the bytes to fill the partition, if they go on growing with that power of the saves."""
    saves, total = len(sizes), sizes[-1]
    full = saves * (LOGICAL_PARTITION / total) ** (1 / growth)
    return Figure(f"saves until 20 GB: {what}", f"{_rounded(full):,}", f"{total / 1e6:,.1f} MB after {saves:,}", growth,
                  "printed", True)  # fmt: skip


async def stored(states: Iterator[dict[str, Any]]) -> list[int]:
    """Bytes of all items after each save of a run."""
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        storage, previous = SqliteCheckpointStorage(Path(folder, "run.db"), synchronous="OFF"), None
        for seq, state in enumerate(states, 1):
            checkpoint = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
            previous = await storage.for_run(RUN).save(checkpoint)
            [event] = await storage.store.read(StreamId(WORKFLOW, RUN), seq)
            body, parts = items_of(event)
            added = sum(len(msgspec.json.encode(item)) for item in (body, *parts))
            sizes.append(added + (sizes[-1] if sizes else 0))
        await storage.close()
    return sizes


def conversation(supersteps: int, keep: int) -> Iterator[dict[str, Any]]:
    """Each superstep adds one 80-word message, forgets those before the last `keep`, and changes one small value."""
    rng = random.Random(1)
    messages: list[Message] = []
    for step in range(1, supersteps + 1):
        messages = [*messages, message(rng)][-keep:]
        yield {"_executor_state": {"agent": {"cache": list(messages)}}, "step": step}


def all_new(supersteps: int) -> Iterator[dict[str, Any]]:
    """Each superstep replaces 1 MB that does not compress."""
    rng = random.Random(2)
    for _ in range(supersteps):
        yield {"blob": rng.randbytes(1_000_000)}


def _rounded(count: float) -> int:
    """Two digits: the rest is not known."""
    return int(float(f"{count:.1e}"))


def main() -> int:
    logging.disable(logging.WARNING)
    return 0 if report("Cosmos DB: saves until a run's logical partition is full", asyncio.run(capacity())) else 1


if __name__ == "__main__":
    sys.exit(main())
