"""A viewer on a port, as a browser asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from ..projections.commands import PATIENCE

__all__ = ["served"]


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None))
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(None)
        self.listens.set()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncGenerator[str, None]:
    """The address at which an application is asked, until the block ends.

    With `answering_viewer(engine, pay)` around it, questions are answered there: `served(viewers.app)`, and `TOKEN`
    signs in (`tests.web.answering`).
    """
    server = _Server(app)
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(PATIENCE):
        await server.listens.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving
