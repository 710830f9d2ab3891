"""Contenders that are processes of their own, and take turns.

So each has its own caches, its own garbage and its own processor time, threads included; and one of them can be an
earlier version of this project.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from .contenders import READY

__all__ = ["Contender", "Turn", "take_turns"]

HERE = Path(__file__).parents[2]


class Turn(NamedTuple):
    """Seconds of one turn."""

    wall: float
    cpu: float


class Contender(NamedTuple):
    """Who does what: a job of `contenders.JOBS`, its arguments, and the folder of the packages that it runs on."""

    name: str
    job: str
    arguments: tuple[str | int, ...]
    folder: Path = HERE

    @asynccontextmanager
    async def started(self) -> AsyncGenerator[asyncio.subprocess.Process, None]:
        """Its process, once it is prepared for its first turn."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.contenders", json.dumps([self.job, *self.arguments]),
            cwd=self.folder, env={**os.environ, "PYTHONPATH": str(self.folder)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await self.answer(process)
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def answer(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"{self.name} ended while it did {self.job} {self.arguments}; its error is above")
        return line

    async def turn(self, process: asyncio.subprocess.Process) -> Turn:
        assert process.stdin is not None
        process.stdin.write(READY)
        return Turn(*json.loads(await self.answer(process)))


async def take_turns(rounds: int, contenders: list[Contender]) -> dict[str, list[Turn]]:
    """The turns of each contender, by its name. Only one runs at a time, each round in another order."""
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    order = random.Random(rounds)
    async with asyncio.TaskGroup() as running:
        # Each in a task of its own, so that all prepare themselves side by side.
        queues = {contender.name: asyncio.Queue[asyncio.Future[Turn] | None]() for contender in contenders}
        prepared = [asyncio.Event() for _ in contenders]
        for contender, ready in zip(contenders, prepared, strict=True):
            running.create_task(_serve(contender, queues[contender.name], ready))
        for ready in prepared:
            await ready.wait()
        for _ in range(rounds):
            for contender in order.sample(contenders, len(contenders)):
                done = asyncio.get_running_loop().create_future()
                queues[contender.name].put_nowait(done)
                turns[contender.name].append(await done)
        for queue in queues.values():
            queue.put_nowait(None)
    return turns


async def _serve(
    contender: Contender, asked: asyncio.Queue[asyncio.Future[Turn] | None], prepared: asyncio.Event
) -> None:
    async with contender.started() as process:
        prepared.set()
        while (done := await asked.get()) is not None:
            done.set_result(await contender.turn(process))
