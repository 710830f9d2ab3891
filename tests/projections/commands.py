"""`eventckpt-projector` as its users run it: commands and workers in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator

from ..engines import CosmosEngine
from .rig import Rig

PATIENCE = 120.0
"""Seconds in which another process does what it is asked, on a machine that does other things, too."""
COMMAND = [sys.executable, "-c", "from projections.worker import app; app(prog_name='eventckpt-projector')"]


def place(rig: Rig) -> tuple[str, dict[str, str]]:
    """What `--store` takes for this engine, and the environment that goes with it."""
    if isinstance(rig.engine, CosmosEngine):
        settings = rig.engine.settings
        names = {"key": "credential", "database_name": "database_name", "container_name": "container_name"}
        return settings["endpoint"], {f"AZURE_COSMOS_{name.upper()}": settings[key] for name, key in names.items()}
    return str(rig.engine.path), {}


async def started(rig: Rig, *arguments: str) -> asyncio.subprocess.Process:
    store, environment = place(rig)
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env={**os.environ, **environment, "EVENTCKPT_STORE": store, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(rig: Rig, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    process = await started(rig, *arguments)
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@contextlib.asynccontextmanager
async def running(rig: Rig, *options: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str], None]:
    """A worker, and the address that it serves."""
    process = await started(rig, "run", "--port", "0", *options)
    try:
        assert process.stderr is not None
        said = (await process.stderr.readline()).decode()
        address = re.search(r"http://[\d.]+:\d+", said)
        assert address, said + (await process.stderr.read()).decode()
        yield process, address[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


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
            await asyncio.sleep(0.02)
