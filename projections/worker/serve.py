"""The worker itself: it serves what it shows, projects until it is told to stop, and outlives its store."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from eventckpt import settings
from eventckpt.errors import StoreFullError, StoreLockedError, StoreUnavailableError
from eventckpt.log import logger_of

from ..clock import SYSTEM_CLOCK, Clock
from ..options import ProcessorOptions
from ..projector import Projector
from ..tasks import first
from .health import Health, Terms
from .http import serving
from .metrics import registry
from .opening import engine_of
from .output import say
from .scaler import ScalerLeases
from .watched import Watch, watched

__all__ = ["ServeOptions", "outlasting", "serve"]

logger: Final = logger_of("eventckpt.projections")

_FIRST_PAUSE: Final = 1.0
"""Seconds before the next attempt to begin; twice as long each time, up to:"""
_LONGEST_PAUSE: Final = 30.0
_OUTAGES: Final = (StoreUnavailableError, StoreLockedError, StoreFullError)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a worker shows itself. All times in seconds.

    Raises:
        TypeError, ValueError: a setting is of the wrong form.
    """

    host: str
    port: int | None
    max_poll_age: float
    max_stall: float
    scaler_name: str | None

    def __post_init__(self) -> None:
        settings.text("host", self.host)
        settings.number("max_poll_age", self.max_poll_age)
        settings.number("max_stall", self.max_stall)
        if self.scaler_name is not None:
            ScalerLeases.check_name(self.scaler_name)


async def serve(store: str | None, options: ProcessorOptions, about: ServeOptions) -> None:
    """Project until SIGTERM or SIGINT.

    Raises:
        Failure: a setting is of the wrong form, or nothing can be served on that port.
        CheckpointStoreError: the store fails in a way that no later attempt mends.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as resources:
        opened = await resources.enter_async_context(engine_of(store, create=True))
        engine, watches = watched(opened, SYSTEM_CLOCK)
        projector = Projector(engine, options)
        health = Health(projector, watches, Terms(about.max_poll_age, about.max_stall), SYSTEM_CLOCK)
        metrics = registry(projector, health)
        pages = {
            "/livez": lambda: _page(*health.alive()),
            "/healthz": lambda: _page(*health.ready()),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(metrics)),
        }
        address = await resources.enter_async_context(serving(pages, about.host, about.port))
        say(f"serving {address}/livez, /healthz and /metrics")
        if about.scaler_name is not None:
            shown = ScalerLeases(opened, projector, about.scaler_name, options.worker, SYSTEM_CLOCK)
            await resources.enter_async_context(shown.kept())
        await outlasting(projector, stop, watches[0], SYSTEM_CLOCK)


async def outlasting(projector: Projector, stop: asyncio.Event, watch: Watch, clock: Clock) -> None:
    """Run the projector, begin again where the store did not serve, and end only when told to, or with an error that
    lasts: settings, rights, another file."""
    pause = _FIRST_PAUSE
    while not stop.is_set():
        began = clock.monotonic()
        try:
            await projector.run(stop)
        except _OUTAGES as error:
            pause = _FIRST_PAUSE if clock.monotonic() - began > 2 * _LONGEST_PAUSE else pause
            watch.failed(error, began)
            logger.warning("The store does not serve; this worker begins again in %g s: %s", pause, error)
            await first(stop.wait(), clock.sleep(pause))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _page(well: bool, said: dict[str, Any]) -> tuple[int, str, bytes]:
    return (200 if well else 503), "application/json", json.dumps(said).encode()
