"""Servers that claim a run: each a storage over a store of its own, with a clock of its own, as if a process."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from eventckpt import CheckpointEvent, EventCheckpointStorage, EventStore, RunCheckpointStorage, RunClaim

from ..engines import Engine
from ..projections.driven_clock import DrivenClock
from .checkpoints import WORKFLOW, checkpoint, history

RUN = "r"


class DrivenStorage(EventCheckpointStorage):
    """Claims are measured by a clock that a test drives."""

    def __init__(self, store: EventStore, clock: DrivenClock, **options: Any) -> None:
        self.clock = clock
        super().__init__(store, **options)


class Server:
    """Its clock stands still until a test lets time pass: so long it is frozen."""

    def __init__(self, engine: Engine, name: str, store: EventStore | None = None, **options: Any) -> None:
        self.engine = engine
        self.name = name
        self.clock = DrivenClock()
        self.storage = DrivenStorage(store or engine.open(), self.clock, actor=name, **options)

    def run(self, **options: Any) -> RunCheckpointStorage:
        self.engine.settle()
        return self.storage.for_run(RUN, workflow_name=WORKFLOW, **options)

    async def resumed(self) -> RunCheckpointStorage:
        """A handle that has read where the run stands."""
        run = self.run()
        await run.get_latest(workflow_name=WORKFLOW)
        return run


class Holding:
    """A body that holds a claim, in a task of its own, until it is told to end."""

    def __init__(self, run: RunCheckpointStorage, **options: Any) -> None:
        self.run = run
        self.was_cancelled = False
        self.claim: RunClaim
        self._options = options
        self._entered, self._over = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        async with self.run.claim(**self._options) as self.claim:
            self._entered.set()
            try:
                await self._over.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise

    async def entered(self) -> Self:
        """Once it has the claim; what it was refused with is raised."""
        waiting = asyncio.create_task(self._entered.wait())
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._entered.is_set():
            await self._task
        return self

    def cancel(self) -> None:
        self._task.cancel()

    async def ended(self) -> BaseException | None:
        """What it ends with, once it is told to."""
        self._over.set()
        [error] = await asyncio.gather(self._task, return_exceptions=True)
        return error


async def held(run: RunCheckpointStorage, **options: Any) -> Holding:
    return await Holding(run, **options).entered()


async def begun(engine: Engine) -> None:
    """A run with one checkpoint, "root"."""
    await engine.storage().for_run(RUN).save(checkpoint(checkpoint_id="root"))


async def log_of(engine: Engine, run_id: str = RUN) -> list[CheckpointEvent]:
    engine.settle()
    return await history(engine.open(), run_id)


async def saved_in(engine: Engine, run_id: str = RUN) -> list[tuple[str, int | None]]:
    """The checkpoints of a run, each with the epoch of the claim that it was saved under."""
    return [(each.checkpoint_id, each.claim) for each in await log_of(engine, run_id) if each.type == "checkpoint"]
