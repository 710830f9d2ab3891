"""Servers of samples/web_service in processes of their own, and the payment provider that they ask."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from eventckpt import CheckpointEvent, StreamId

from .engines import Engine
from .paying_service import PROVIDER
from .projections.commands import PATIENCE, Worker, place
from .projections.rig import Rig
from .test_samples import SAMPLES

LIND = {"X-User": "ms-lind"}
LIMITS = ("--limit-concurrency", "200", "--timeout-graceful-shutdown", "20")
LOOK = 0.02
"""Seconds between two looks at another process, which has no event to wait for."""


class Provider:
    """Pays once for each id, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.paid: dict[str, int] = {}
        self.refuses = False
        self.open = asyncio.Event()
        self.open.set()
        self._more = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refund = (await reader.readline()).decode().strip()
        async with self._more:
            self.asked.append(refund)
            self._more.notify_all()
        gone = asyncio.ensure_future(reader.read())
        held = asyncio.ensure_future(self.open.wait())
        await asyncio.wait({gone, held}, return_when=asyncio.FIRST_COMPLETED)
        if held.done() and not self.refuses:
            self.paid[refund] = self.paid.get(refund, 0) + 1
            writer.write(b"paid\n")
        for each in (gone, held):
            each.cancel()
        writer.close()

    async def was_asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(lambda: len(self.asked) >= times)


class Server(Worker):
    """The service in a process of its own."""

    client: httpx.AsyncClient

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, headers=LIND, **options)

    async def start(self, run_id: str | None = None, *, euros: int = 180, customer: str = "c-17") -> httpx.Response:
        named = {} if run_id is None else {"id": run_id}
        return await self.client.post("/runs", json={"customer": customer, "euros": euros, **named}, headers=LIND)

    async def becomes(self, path: str, holds: Callable[[Any], bool], **options: Any) -> Any:
        """What the service says, once it is as a test waits for."""
        async with asyncio.timeout(PATIENCE):
            while not holds(found := (await self.get(path, **options)).json()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(LOOK)
        return found

    async def asked(self, *, times: int = 1, **which: str) -> list[dict[str, Any]]:
        """The inbox, once so many questions are in it."""
        page = await self.becomes("/questions", lambda page: len(page["questions"]) == times, params=which)
        return page["questions"]

    async def stands(self, run_id: str, status: str) -> dict[str, Any]:
        """The run, once it stands so."""
        return await self.becomes(f"/runs/{run_id}", lambda run: run.get("status") == status)

    async def heard(self, question: dict[str, Any]) -> httpx.Response:
        """An answer, given until the server has room for it."""
        async with asyncio.timeout(PATIENCE):
            while (said := await self.answer(question)).status_code == 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(LOOK)
        return said

    async def answer(self, question: dict[str, Any], body: object = True, user: str = "mr-okafor") -> httpx.Response:
        path = f"/runs/{question['run']}/answers/{question['request']}"
        return await self.client.post(path, json=body, headers=[(b"X-User", user.encode())])


@asynccontextmanager
async def served(
    engine: Engine, provider: Provider, *, ttl: float = 60, patience: float = 5, most: int = 100
) -> AsyncGenerator[Server]:
    """A server over the engine's store, which a test may kill."""
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    store, settings = place(Rig(engine))
    python_path = os.pathsep.join([str(SAMPLES), str(SAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        "EVENTCKPT_STORE": store,
        "PYTHONPATH": python_path,
        PROVIDER: str(listening.sockets[0].getsockname()[1]),
        "ttl": str(ttl),
        "patience": str(patience),
        "most": str(most),
    }
    command = ("uvicorn", "--factory", "tests.paying_service:create_app", "--port", "0", *LIMITS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env={**os.environ, **settings, **environment}, stderr=asyncio.subprocess.PIPE
    )
    server = Server(process)
    try:
        said = await server.said("running on")
        address = re.search(r"http://[\d.]+:\d+", said)
        assert address, said
        server.address = address[0]
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as server.client, listening:
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await server.ended()
    assert not any("Traceback" in line for line in server.lines), (
        "nothing that a client does is an error of the service"
    )


@contextmanager
def locked(file: Path) -> Generator[None]:
    """Somebody else writes to the file for long."""
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        yield


async def sent(server: Server, *, length: int, begins: bytes) -> bytes:
    """All that is said to a client that begins a body, and only waits then, until it is no longer listened to."""
    address = httpx.URL(server.address)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST /runs HTTP/1.1\r\nHost: here\r\nX-User: slow\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + begins)
    async with asyncio.timeout(PATIENCE):
        said = await reader.read()
    writer.close()
    return said


async def statuses(server: Server, path: str, bodies: list[bytes]) -> dict[bytes, int]:
    return {body: (await server.client.post(path, content=body, headers=LIND)).status_code for body in bodies}


async def events(engine: Engine, run_id: str) -> list[CheckpointEvent]:
    """The run's log."""
    return [header async for header in engine.open().headers(StreamId("refund", run_id))]
