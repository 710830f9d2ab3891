"""The viewer over the store of an engine, asked without a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from eventckpt import CheckpointAudit
from eventckpt.audit.listed_from import Where
from eventckpt.stores import AuditStore
from eventckpt.web import create_app

from ..cli.conftest import cli
from ..engines import Engine
from ..storage.removed import audited

__all__ = ["cli", "viewing", "viewing_store"]


@asynccontextmanager
async def viewing(engine: Engine, *, latest: Where = "log", **options: Any) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the viewer over another store object."""
    async with viewing_store(audited(engine), latest=latest, **options) as client:
        yield client


@asynccontextmanager
async def viewing_store(
    store: AuditStore, *, latest: Where = "log", **options: Any
) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the viewer over a store."""
    app = create_app(CheckpointAudit(store, latest=latest), **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
async def viewer(engine: Engine) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with viewing(engine) as client:
        yield client
