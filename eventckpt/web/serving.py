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
from starlette.types import ASGIApp

from ..exit_codes import USAGE, Failure
from ..log import logger_of

__all__ = ["DEFAULT_PORT", "listening", "serve"]

DEFAULT_PORT: Final = 8321

_HOST: Final = "127.0.0.1"
_CONNECTIONS: Final = 256
_PATIENCE: Final = 5  # seconds for the answers that are under way, when it ends

logger_of("uvicorn.error")  # its lines may hold what was asked for, and are escaped as ours are


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
        app,
        http="h11",  # refuses a head without a host, with two, or of more than 64 KB
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_PATIENCE,
    )
    await _Server(config).serve([place])
