"""`eventckpt-projector` as its users run it: commands and workers in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable
from typing import Any

from typer.testing import CliRunner

from eventckpt.location import ENVIRONMENT
from projections.worker import app

from ..engines import CosmosEngine
from .rig import Rig

PATIENCE = 120.0
"""Seconds in which another process does what it is asked, on a machine that does other things, too."""
COMMAND = [sys.executable, "-c", "from projections.worker import app; app(prog_name='eventckpt-projector')"]
_UNSET = dict.fromkeys(ENVIRONMENT, "")
_LOOK = 0.02
"""Seconds between two looks at another process, which has no event to wait for."""


def place(rig: Rig) -> tuple[str, dict[str, str]]:
    """What `--store` takes for this engine, and the environment that goes with it."""
    if isinstance(rig.engine, CosmosEngine):
        settings = rig.engine.settings
        names = {"key": "credential", "database_name": "database_name", "container_name": "container_name"}
        return settings["endpoint"], {f"AZURE_COSMOS_{name.upper()}": settings[key] for name, key in names.items()}
    return str(rig.engine.path), {}


async def started(rig: Rig, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    store, settings = place(rig)
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env={**os.environ, **settings, "EVENTCKPT_STORE": store, "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(rig: Rig, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    process = await started(rig, *arguments, **environment)
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


def invoked(*words: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command in this process; its environment is what is given."""
    root, own = logging.getLogger(), logging.getLogger("eventckpt")
    before = [*root.handlers], root.level, own.level
    try:
        result = CliRunner().invoke(app, words, env={**_UNSET, **environment}, prog_name="eventckpt-projector")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""
        self.lines: list[str] = []
        """What it has said on stderr."""
        self._more = asyncio.Condition()
        self.listening = asyncio.ensure_future(self._listen())

    async def said(self, text: str) -> str:
        """The first line with this text, once it has said it."""
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(lambda: self.listening.done() or any(text in line for line in self.lines))
        return next((line for line in self.lines if text in line), "\n".join(self.lines))

    async def page(self, path: str) -> tuple[int, str]:
        return await page(f"{self.address}{path}")

    async def health(self) -> tuple[int, dict[str, Any]]:
        code, body = await self.page("/healthz")
        return code, json.loads(body)

    async def until(self, path: str, holds: Callable[[int, str], bool]) -> str:
        """The page, once it is as a test waits for."""
        async with asyncio.timeout(PATIENCE):
            while not holds(*(answer := await self.page(path))):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_LOOK)
        return answer[1]

    async def ended(self) -> int:
        """Its exit code, once it has ended and said all."""
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
            await self.listening
        assert self.process.returncode is not None
        return self.process.returncode

    async def terminated(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def killed(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()


@contextlib.asynccontextmanager
async def running(rig: Rig, *options: str, port: str | None = "0", **environment: str) -> AsyncGenerator[Worker, None]:
    """A worker that serves its pages."""
    named = [] if port is None else ["--port", port]
    worker = Worker(await started(rig, "run", *named, *options, **environment))
    try:
        said = await worker.said("serving http")
        address = re.search(r"http://[\d.]+:\d+", said)
        assert address, said
        worker.address = address[0]
        yield worker
    finally:
        if worker.process.returncode is None:
            worker.process.kill()
        await worker.ended()
        await worker.process.communicate()


async def page(address: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def projected(rig: Rig, run: str, seq: int) -> None:
    """Wait until a worker in another process has brought a run so far."""
    async with asyncio.timeout(PATIENCE):
        while getattr(await rig.info(run), "seq", 0) < seq:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(_LOOK)


async def owned(rig: Rig, processor: str = "eventckpt-latest") -> list[str | None]:
    """The owners of all leases, in the order of their ranges."""
    return [lease.owner for lease in await rig.leases(processor)]
