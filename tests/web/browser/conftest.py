"""One browser for the whole session, and the viewer over the hostile store for it to look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from agent_framework import Workflow, WorkflowBuilder

from eventckpt import CheckpointAudit
from eventckpt.web import Answering, create_app

from ...answers.workflows import Clerk, Paid
from ...conftest import cosmos_account
from ...engines import CosmosEngine, Engine, SqliteEngine
from ...storage.removed import audited
from ..answering import TOKEN
from ..hostile_store import TEXTS, hostile_store
from ..serving import served
from ..standing import Projector
from .chromium import launched
from .walking import Walk, walked

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    async with launched() as started:
        yield started


def application() -> Workflow:
    """The workflow of the first of the hostile runs, as far as its name goes."""
    return WorkflowBuilder(start_executor=Clerk(Paid()), name=TEXTS[0][:100]).build()


@asynccontextmanager
async def hostile(engine: Engine) -> AsyncGenerator[str]:
    """The address of a viewer over a store that is hostile in all it holds, with all that a viewer can be given."""
    await hostile_store(engine)
    store = audited(engine)
    async with Answering(engine.storage(), application, token=TOKEN) as answering:
        app = create_app(CheckpointAudit(store), operations=Projector(store), answering=answering)
        async with served(app) as address:
            yield address
    await engine.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """Of the viewer over such a file."""
    async with hostile(SqliteEngine(tmp_path_factory.mktemp("hostile") / "checkpoints.db")) as here:
        yield here


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cosmos_address() -> AsyncGenerator[str]:
    """Of the viewer over such a container."""
    async with cosmos_account() as (endpoint, key), hostile(CosmosEngine(endpoint, key, "hostile")) as here:
        yield here


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def walk(browser: Browser, address: str) -> Walk:
    """Every page of it, and what went wrong on the way."""
    return await walked(browser, address, each=3)
