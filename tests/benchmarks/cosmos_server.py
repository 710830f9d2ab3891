"""The suite's Cosmos DB in a process of its own, so that its work is not counted with the client's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..cosmos_emulator import EMULATOR_KEY

__all__ = ["emulator_process"]


@asynccontextmanager
async def emulator_process() -> AsyncGenerator[tuple[str, str], None]:
    """Its endpoint and its key."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cosmos_emulator", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip(), EMULATOR_KEY
    finally:
        process.terminate()
        await process.communicate()
