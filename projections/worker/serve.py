"""The worker itself: it serves what it shows, and projects until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from eventckpt import settings
from eventckpt.audit import RetentionPolicy
from eventckpt.clock import SYSTEM_CLOCK
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..options import ProcessorOptions
from ..projector import Projector
from .health import Health, Terms
from .http import serving
from .metrics import registry
from .opening import engine_of
from .output import say
from .retention import RetentionPasses
from .scaler import ScalerLeases

__all__ = ["ServeOptions", "serve"]


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How a worker shows itself, and how long it waits for its store. All times in seconds.

    Raises:
        TypeError, ValueError: a setting is of the wrong form.
    """

    host: str
    port: int | None
    max_poll_age: float
    max_stall: float
    scaler_name: str | None
    store_timeout: float
    turns: bool = False
    retention: RetentionPolicy | None = None
    """What is removed beside the projection; None: nothing is."""
    retention_every: float = 86_400.0

    def __post_init__(self) -> None:
        settings.text("host", self.host)
        settings.number("max_poll_age", self.max_poll_age)
        settings.number("max_stall", self.max_stall)
        settings.number("store_timeout", self.store_timeout)
        if self.scaler_name is not None:
            ScalerLeases.check_name(self.scaler_name)
        settings.number("retention_every", self.retention_every)
        if self.turns and self.retention is not None:
            raise ValueError("--retention is for runs and sessions alike: give it to the workers without --turns.")


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
        engine = await resources.enter_async_context(
            engine_of(store, create=True, patience=about.store_timeout, turns=about.turns)
        )
        projector = Projector(engine, options)
        retention = _retention(engine, options, about)
        health = Health(projector, Terms(about.max_poll_age, about.max_stall), SYSTEM_CLOCK, retention)
        metrics = registry(projector, health, retention)
        pages = {
            "/livez": lambda: _page(*health.alive()),
            "/healthz": lambda: _page(*health.ready()),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(metrics)),
        }
        address = await resources.enter_async_context(serving(pages, about.host, about.port))
        say(f"serving {address}/livez, /healthz and /metrics")
        working = projector.run(stop)
        if about.scaler_name is not None:
            copies = ScalerLeases(engine, projector, about.scaler_name, options.worker, SYSTEM_CLOCK)
            working = copies.copy_during(working)
        await (working if retention is None else retention.beside(working, stop))


def _retention(engine: Engine, options: ProcessorOptions, about: ServeOptions) -> RetentionPasses | None:
    if about.retention is None:
        return None
    store = settings.instance("store", engine.store, AuditStore, what="an AuditStore")
    return RetentionPasses(
        store, engine.documents, about.retention, every=about.retention_every, options=options, clock=SYSTEM_CLOCK
    )


def _page(well: bool, said: dict[str, Any]) -> tuple[int, str, bytes]:
    return (200 if well else 503), "application/json", json.dumps(said).encode()
