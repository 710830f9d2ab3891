"""Large checkpoints are decoded beside the event loop, at save and at load, and a save promises no less for it.

What says so is a type whose decoding waits until the event loop has run: on the loop, it would wait for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointEncodeError, EventCheckpointStorage, StreamId
from eventckpt.threads import LARGE as MANY

from ..engines import Engine

WORKFLOW = "orders"
LARGE = "x" * (2 * MANY)
PATIENCE = 30.0


@dataclass
class Slow:
    """Its decoding tells the loop that it began, and goes on once it is let."""

    number: int

    loop: ClassVar[asyncio.AbstractEventLoop | None] = None
    began: ClassVar[asyncio.Event]
    may_end: ClassVar[threading.Event]

    def __setstate__(self, state: dict[str, Any]) -> None:
        if Slow.loop is not None:
            Slow.loop.call_soon_threadsafe(Slow.began.set)
            assert Slow.may_end.wait(PATIENCE), "the event loop stood still while a checkpoint was decoded"
        vars(self).update(state)


@dataclass
class Fragile:
    """Can be taken apart, but not put together again."""

    number: int

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise RuntimeError("no longer")


@pytest.fixture(autouse=True)
def nothing_is_slow() -> Generator[None, None, None]:
    Slow.loop = None
    yield
    Slow.loop = None


def make_slow() -> None:
    Slow.loop, Slow.began, Slow.may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()


async def let_it_end() -> None:
    """Once a decoding has begun: the loop gets here only if that is not on the loop."""
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    Slow.may_end.set()


def storage_of(engine: Engine) -> EventCheckpointStorage:
    return engine.storage(allowed_checkpoint_types=[f"{__name__}:{name}" for name in ("Slow", "Fragile")])


def large(previous: WorkflowCheckpoint | None = None, **state: Any) -> WorkflowCheckpoint:
    return checkpoint(previous, slow=Slow(1), text=LARGE, **state)


def checkpoint(previous: WorkflowCheckpoint | None = None, **state: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        WORKFLOW, "graph", previous_checkpoint_id=previous.checkpoint_id if previous else None, state=state
    )


async def log_of(storage: EventCheckpointStorage, run_id: str) -> list[str]:
    return [header.checkpoint_id async for header in storage.store.headers(StreamId(WORKFLOW, run_id))]


async def test_the_loop_goes_on_while_a_large_checkpoint_is_proved_at_save(engine: Engine) -> None:
    storage = storage_of(engine)
    make_slow()
    saved = large()
    await asyncio.gather(storage.save(saved), let_it_end())
    assert await storage.load(saved.checkpoint_id) == saved


@pytest.mark.parametrize("read", ["load", "get_latest", "list_checkpoints"])
async def test_the_loop_goes_on_while_a_large_checkpoint_is_read(engine: Engine, read: str) -> None:
    storage = storage_of(engine)
    await storage.save(saved := large())
    reads: dict[str, Any] = {
        "load": lambda: storage.load(saved.checkpoint_id),
        "get_latest": lambda: storage.get_latest(workflow_name=WORKFLOW),
        "list_checkpoints": lambda: storage.list_checkpoints(workflow_name=WORKFLOW),
    }
    make_slow()
    found, _ = await asyncio.gather(reads[read](), let_it_end())
    assert found == ([saved] if read == "list_checkpoints" else saved)


async def test_what_is_stored_is_what_the_checkpoint_was_when_its_save_was_called(engine: Engine) -> None:
    storage = storage_of(engine)
    make_slow()
    saved = large(count=1)
    name = saved.checkpoint_id
    saving = asyncio.ensure_future(storage.save(saved))
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    saved.state["count"], saved.checkpoint_id, saved.workflow_name, saved.iteration_count = 2, "other", "other", 9
    Slow.may_end.set()
    assert await saving == name
    found = await storage.load(name)
    assert (found.state["count"], found.workflow_name, found.iteration_count) == (1, WORKFLOW, 0)


async def test_a_save_that_is_cancelled_while_it_is_proved_writes_nothing(engine: Engine) -> None:
    storage = storage_of(engine)
    run = storage.for_run("r")
    make_slow()
    saving = asyncio.ensure_future(run.save(saved := large()))
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    Slow.may_end.set()
    assert await log_of(storage, "r") == []
    await run.save(saved)
    assert await log_of(storage, "r") == [saved.checkpoint_id]


async def test_steps_side_by_side_stay_in_one_run_whichever_is_proved_first(engine: Engine) -> None:
    storage = storage_of(engine)
    run = storage.for_run("r")
    await run.save(root := checkpoint())
    make_slow()
    slow, quick = large(root), checkpoint(root)
    saving = asyncio.ensure_future(run.save(slow))
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    await run.save(quick)
    Slow.may_end.set()
    await saving
    assert await log_of(storage, "r") == [root.checkpoint_id, quick.checkpoint_id, slow.checkpoint_id]
    assert run.forked_to is None


@pytest.mark.parametrize("start", ["resumed", "begun"])
async def test_another_execution_that_commits_meanwhile_is_a_conflict_all_the_same(engine: Engine, start: str) -> None:
    """A save that takes long must not see what others committed after it was called, and go on behind them."""
    storage = storage_of(engine)
    runs = [storage.for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    root = checkpoint() if start == "resumed" else None
    if root is not None:
        await storage.for_run("r").save(root)
        for run in runs:
            await run.load(root.checkpoint_id)
    make_slow()
    slow, quick = large(root), checkpoint(root)
    saving = asyncio.ensure_future(runs[0].save(slow))
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    await runs[1].save(quick)
    Slow.may_end.set()
    await saving
    assert (await log_of(storage, "r"))[-1] == quick.checkpoint_id
    assert await log_of(storage, f"r~{slow.checkpoint_id[:8]}") == [slow.checkpoint_id]


@pytest.mark.parametrize("read", ["load", "get_latest"])
async def test_a_slow_read_forgets_no_save_that_was_committed_meanwhile(engine: Engine, read: str) -> None:
    storage = storage_of(engine)
    run = storage.for_run("r", workflow_name=WORKFLOW)
    await run.save(first := large())
    make_slow()
    reading = asyncio.ensure_future(
        run.load(first.checkpoint_id) if read == "load" else run.get_latest(workflow_name=WORKFLOW)
    )
    await asyncio.wait_for(Slow.began.wait(), PATIENCE)
    await run.save(second := checkpoint(first))
    Slow.may_end.set()
    assert await reading == first
    await run.save(again := checkpoint())
    names = [each.checkpoint_id for each in (first, second, again)]
    assert await log_of(storage, "r") == names


async def test_a_refused_save_takes_nothing_from_the_execution_that_is_resumed_beside_it(engine: Engine) -> None:
    storage = storage_of(engine)
    await storage.for_run("r").save(root := checkpoint())
    runs = [storage.for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    for run in runs:
        await run.load(root.checkpoint_id)
    with pytest.raises(CheckpointEncodeError, match="not loaded again"):
        await runs[0].save(checkpoint(root, refused=Fragile(1)))
    first, second = checkpoint(root), checkpoint(root)
    await runs[0].save(first)
    await runs[1].save(second)
    assert await log_of(storage, "r") == [root.checkpoint_id, first.checkpoint_id]
    assert await log_of(storage, f"r~{second.checkpoint_id[:8]}") == [second.checkpoint_id]
