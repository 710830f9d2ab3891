"""The viewer's server: on this machine only, and ended by a signal."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..exit_codes import USAGE, Failure
from ..log import logger_of
from .guard import Guard

__all__ = ["DEFAULT_PORT", "listening", "serve"]

DEFAULT_PORT: Final = 8321

_HOST: Final = "127.0.0.1"
_CONNECTIONS: Final = 256
_HEAD: Final = 10.0  # seconds for the whole head of a request, and for an answer to be taken
_PATIENCE: Final = 5  # seconds for the answers that are under way, when it ends

logger_of("uvicorn.error")  # its lines may hold what was asked for, and are escaped as ours are


class _Protocol(H11Protocol):
    """A connection that says nothing in time, or takes nothing, is closed: it would keep others out. Nor is any other
    protocol begun on it, for which uvicorn has advice in its log."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            self.app = _FULL
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def on_response_complete(self) -> None:
        """An answer is written, as far as it goes: what comes next has its time again."""
        super().on_response_complete()
        self._await()

    def _await(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(_HEAD, self._end_if_late)

    def _end_if_late(self) -> None:
        is_answering = bool(self.cycle) and not self.cycle.response_complete  # there is none before the first request
        if not is_answering or self.transport.is_closing():
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        return False


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    said = PlainTextResponse(
        "More connections are open than this viewer takes: try again shortly.\n",
        503,
        {"retry-after": str(_PATIENCE), "connection": "close"},
    )
    await said(scope, receive, send)


_FULL: Final = Guard(_full)


class _Ending:
    """What is asked still when the server ends is told so. uvicorn cancels it, and would log that as an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if not begun:
                await PlainTextResponse("This viewer has ended.\n", 503, {"connection": "close"})(scope, receive, send)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Ends at a signal, and the program with it: uvicorn would send itself the signal again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def listening(port: int | None) -> socket.socket:
    """A socket of this machine, at which nobody else can ask.

    Args:
        port: 0: any that is free; None: 8321, or any that is free where another process has that.

    Raises:
        Failure: the port is another process's, or may not be had.
    """
    try:
        return socket.create_server((_HOST, DEFAULT_PORT if port is None else port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        if taken and port is None:
            return listening(0)
        if taken:
            said = f"The port {port} is taken by another process: give another --port, or 0 for any that is free."
        else:
            said = (
                f"Nothing can be served on the port {port} ({error.strerror}): give a --port that this user may have."
            )
        raise Failure(USAGE, said) from error


async def serve(app: ASGIApp, place: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; what is asked for by then is still answered.

    Args:
        app: the viewer.
        place: see `listening`; it is closed.
    """
    config = uvicorn.Config(
        _Ending(app),
        http=_Protocol,  # refuses a head without a host, with two, or of more than 64 KB
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    await _Server(config).serve([place])
