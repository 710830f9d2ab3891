"""`python -m tests.cosmos_emulator --port 8081`: the emulator as a process of its own, until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from .auth import EMULATOR_KEY
from .server import CosmosEmulator, serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cosmos_emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8081, help="0 for any free port")
    parser.add_argument("--key", default=EMULATOR_KEY, help="the account key; the well-known emulator key by default")
    parser.add_argument("--partitions", type=int, default=1, help="physical partitions of a new container")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        parser.error(f"The port {arguments.port} is not a number from 0 to 65535.")
    try:
        emulator = CosmosEmulator(port=arguments.port, key=arguments.key, partitions=arguments.partitions)
        asyncio.run(_run(emulator))
    except (ValueError, OSError) as refused:  # a key, a switch, a port that another process has
        print(f"{parser.prog}: {refused}", file=sys.stderr)
        sys.exit(2)


async def _run(emulator: CosmosEmulator) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await serve(emulator, stopped)


main()
