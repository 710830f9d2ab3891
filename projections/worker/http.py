"""The two pages that a worker serves: `/healthz` and `/metrics`. Too little to need a web framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

__all__ = ["Page", "serving"]

Page: TypeAlias = Callable[[], tuple[int, str, bytes]]
"""Gives status, content type and body."""

_REASONS: Final = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_PATIENCE: Final = 5.0  # seconds for a client to say what it wants


@asynccontextmanager
async def serving(pages: Mapping[str, Page], host: str, port: int) -> AsyncGenerator[int, None]:
    """Serve `pages` by path; the port, where any was asked for with 0."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(pages, request))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            pass  # whoever it was did not speak HTTP, or went away
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _answer(pages: Mapping[str, Page], request: bytes) -> bytes:
    method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    page = pages.get(rest.partition(" ")[0].partition("?")[0])
    if page is None:
        status, kind, body = 404, "text/plain", b"/healthz or /metrics\n"
    elif method != "GET":
        status, kind, body = 405, "text/plain", b"GET\n"
    else:
        status, kind, body = page()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
