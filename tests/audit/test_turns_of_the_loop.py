"""What goes through a long run leaves the event loop to others, also where nothing that it waits for does: on an engine
that never waits, and on one that reads a thousand events at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventckpt import CheckpointAudit, EventCheckpointStorage, StreamId

from ..memory_engine import Data, MemoryEventStore
from ..storage.checkpoints import WORKFLOW, chain_of

EVENTS = 1_000
PER_TURN = 100
RUN = StreamId(WORKFLOW, "long")


async def exhausted(found: AsyncIterator[Any]) -> int:
    return sum([1 async for _ in found])


async def verified(audit: CheckpointAudit) -> int:
    return (await audit.verify(RUN, decode=True)).events


async def drawn(audit: CheckpointAudit) -> int:
    return len(await audit.lineage(RUN))


WALKS: dict[str, tuple[Callable[[CheckpointAudit], Awaitable[int]], int]] = {
    "each state is read to verify it": (verified, EVENTS // PER_TURN),
    "each state is decoded": (lambda audit: exhausted(audit.states(RUN)), EVENTS // PER_TURN),
    "changes of a value": (lambda audit: exhausted(audit.changes(RUN, "iteration_count")), EVENTS // PER_TURN),
    "a replay": (lambda audit: exhausted(audit.replay(RUN)), EVENTS // PER_TURN),
    "the tree of its checkpoints": (drawn, 1),  # which is made in a thread
}


@pytest.mark.parametrize(("walk", "least"), WALKS.values(), ids=WALKS)
async def test_a_walk_through_a_long_run_gives_the_event_loop_its_turns(
    walk: Callable[[CheckpointAudit], Awaitable[int]], least: int
) -> None:
    store = MemoryEventStore(Data())
    run = EventCheckpointStorage(store).for_run(RUN.run_id, workflow_name=RUN.workflow_name)
    await chain_of(run, EVENTS)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    met = await walk(CheckpointAudit(store))
    waiting.cancel()
    assert met > 0
    assert turns >= least
