"""Deltas of large states that have nothing in common are tried less and less often, and soon again once they do.

Which saves tried one is seen in what they wrote: a state that hardly differs from the one before becomes a delta where
one was tried, and a snapshot where not.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import EventCheckpointStorage, RunCheckpointStorage

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint, history

LARGE, SMALL = 70_000, 2_000
LONGEST = 16
KNOWN = random.Random(0).randbytes(2_000)

Storage = EventCheckpointStorage | RunCheckpointStorage


async def save_all(storage: Storage, states: list[dict[str, Any]], after: WorkflowCheckpoint | None = None) -> str:
    """Save a lineage with these states; the id of its last checkpoint."""
    for state in states:
        after = checkpoint(after, state=state)
        await storage.save(after)
    assert after is not None
    return after.checkpoint_id


def noise(count: int, size: int = LARGE) -> list[dict[str, Any]]:
    """States that have nothing in common."""
    rng = random.Random(count)
    return [{"noise": rng.randbytes(size)} for _ in range(count)]


def alike(state: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """States that hardly differ from `state`, and from each other."""
    return [{**state, "step": step} for step in range(count)]


async def kinds(storage: EventCheckpointStorage, run_id: str) -> str:
    """What a run's events are: d, a delta that is small, or s, a snapshot or as good as one."""
    events = await history(storage.store, run_id)
    return "".join(
        "d" if event.payload and 8 * event.payload.stored_size < event.payload.raw_size else "s" for event in events
    )


def next_attempt(after: int) -> int:
    """The save that tries a delta next, after so many of random bytes: 2, 4, 8, 16, 32, and then each sixteenth."""
    attempt = 2
    while attempt <= after:
        attempt += min(attempt, LONGEST)
    return attempt


@pytest.mark.parametrize("is_bound", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 33, 48])
async def test_each_attempt_in_vain_doubles_the_pause_to_the_next_up_to_a_bound(
    engine: Engine, count: int, is_bound: bool
) -> None:
    storage, states = engine.storage(), noise(count)
    states += alike(states[-1], LONGEST + 2)
    first = checkpoint(state=states[0])
    bound = storage.for_run(first.checkpoint_id) if is_bound else storage
    await bound.save(first)
    await save_all(bound, states[1:], after=first)
    attempt = next_attempt(count)
    assert attempt - count <= min(count, LONGEST)
    assert await kinds(storage, first.checkpoint_id) == "s" * (attempt - 1) + "d" * (len(states) - attempt + 1)


async def test_once_a_delta_pays_the_next_one_is_tried_at_once(engine: Engine) -> None:
    storage, states = engine.storage(), noise(5)
    states += alike(states[-1], 5) + noise(2)
    states += alike(states[-1], 4)
    await save_all(storage.for_run("r"), states)
    # The pause ends with save 8, whose delta pays: it is as at first again. The first state of noise takes the place of
    # one delta of many; the attempt of the second is in vain, and the next save makes none.
    assert await kinds(storage, "r") == "s" * 7 + "ddd" + "ss" + "sddd"


async def test_a_small_state_is_always_tried(engine: Engine) -> None:
    storage, states = engine.storage(), noise(20, SMALL)
    await save_all(storage.for_run("r"), states + alike(states[-1], 6))
    assert (await kinds(storage, "r")).endswith("dddd")


async def test_a_delta_that_saves_next_to_nothing_was_tried_in_vain(engine: Engine) -> None:
    storage, states = engine.storage(), [{**state, "known": KNOWN} for state in noise(5)]
    await save_all(storage.for_run("r"), states + alike(states[-1], 4))
    first_delta = (await history(storage.store, "r"))[1]
    assert first_delta.payload is not None
    assert first_delta.payload.base_seq == 1
    assert await kinds(storage, "r") == "sssss" + "ss" + "dd"


async def test_a_state_that_outgrew_its_snapshot_is_tried_with_the_next_save(engine: Engine) -> None:
    storage = engine.storage()
    states = [{"question": "?"}, *noise(1)]
    await save_all(storage.for_run("r"), states + alike(states[-1], 3))
    assert await kinds(storage, "r") == "ssddd"


async def test_a_process_that_knows_nothing_of_the_attempts_makes_one(engine: Engine) -> None:
    states = noise(4)
    last = await save_all(engine.storage().for_run("r"), states)
    other = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await save_all(other, alike(states[-1], 1), after=await other.load(last))
    assert await kinds(engine.storage(), "r") == "ssssd"
