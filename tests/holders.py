"""Processes that hold a claim, and are killed or frozen in the middle of what they do."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from eventckpt import CosmosEventStore, EventStore, SqliteEventStore

from .engines import CosmosEngine, Engine, SqliteEngine

PATIENCE: Final = 120
"""Seconds for which nothing is waited longer: on a machine that does other things, too."""
TTL: Final = 4.0
"""Seconds for which such a process holds a claim without a sign of life."""


class Holder:
    """A process that says line by line where it is, and stops there until it is told to go on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().strip()

    def goes_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on, as far as it may."""
        self.goes_on()
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def started(module: str, engine: Engine, *arguments: str) -> AsyncGenerator[Holder, None]:
    """A process that runs a module, which is told where the store is and whatever else there is to say."""
    assert isinstance(engine, (SqliteEngine, CosmosEngine))
    where = str(engine.path) if isinstance(engine, SqliteEngine) else engine.settings
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, json.dumps(where), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Holder(process)
    try:
        yield made
    finally:
        await made.kill()


def opened(where: str) -> EventStore:
    """In such a process: the store that it was told of."""
    place = json.loads(where)
    return SqliteEventStore(place) if isinstance(place, str) else CosmosEventStore(**place)


def says(line: str) -> None:
    """In such a process."""
    print(line, flush=True)


def is_told() -> str:
    """In such a process: wait, and let nothing else go on meanwhile."""
    return sys.stdin.readline()
