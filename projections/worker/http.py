"""The few pages that a worker serves, such as `/healthz` and `/metrics`. Too little to need a web framework."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from eventckpt.log import logger_of

from .output import USAGE, Failure

__all__ = ["DEFAULT_PORT", "Page", "serving"]

logger: Final = logger_of("eventckpt.projections")

Page: TypeAlias = Callable[[], tuple[int, str, bytes]]
"""Gives status, content type and body."""

DEFAULT_PORT: Final = 9464

_REASONS: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_PATIENCE: Final = 5.0  # seconds for a client to say what it wants


@asynccontextmanager
async def serving(pages: Mapping[str, Page], host: str, port: int | None) -> AsyncGenerator[str, None]:
    """Serve `pages` by path; the address, such as http://127.0.0.1:9464.

    Args:
        pages: what to serve, by path.
        host: a name or an address of this machine.
        port: 0: any that is free; None: 9464, or any that is free where another process has that.

    Raises:
        Failure: it cannot be served there.
    """

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

    server = await _listening(answer, host, port)
    async with server:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{server.sockets[0].getsockname()[1]}"


async def _listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], host: str, port: int | None
) -> asyncio.Server:
    try:
        return await asyncio.start_server(answer, host, DEFAULT_PORT if port is None else port)
    except (OSError, ValueError) as error:  # a ValueError: the host is no name at all
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        if taken and port is None:
            logger.info("Port %d is taken, so that a free one is served", DEFAULT_PORT)
            return await _listening(answer, host, 0)
        if taken:
            raise Failure(
                USAGE,
                f"The port {port} of {host} is taken by another process: give another --port, or 0 for any that is "
                "free.",
            ) from error
        where = DEFAULT_PORT if port is None else port
        why = getattr(error, "strerror", None) or error
        raise Failure(
            USAGE,
            f"Nothing can be served on the port {where} of {host!r} ({why}): --host takes a name or an address of this "
            "machine, --port a port that this user may have.",
        ) from error


def _answer(pages: Mapping[str, Page], request: bytes) -> bytes:
    method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    page = pages.get(rest.partition(" ")[0].partition("?")[0])
    if page is None:
        status, kind, body = 404, "text/plain", f"{' or '.join(pages)}\n".encode()
    elif method != "GET":
        status, kind, body = 405, "text/plain", b"GET\n"
    else:
        status, kind, body = _made(page)
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _made(page: Page) -> tuple[int, str, bytes]:
    """A page that cannot be made is told to who asked, and logged: the others are still served."""
    try:
        return page()
    except Exception:
        logger.exception("A page could not be made")
        return 500, "text/plain", b"This page could not be made; the log says why.\n"
