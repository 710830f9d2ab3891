"""Stores on Cosmos DB. Where a test needs no more than an account, it runs on the one that
`EVENTCKPT_TEST_COSMOS_ENDPOINT` names."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CosmosEventStore

from ..conftest import cosmos_account
from ..cosmos_emulator import CosmosEmulator
from ..engines import catch_up
from .cosmos_stores import Settings, container_of, settings_of


@pytest.fixture
async def account() -> AsyncGenerator[tuple[str, str], None]:
    async with cosmos_account() as found:
        yield found


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    if os.environ.get("EVENTCKPT_TEST_COSMOS_ENDPOINT"):
        pytest.skip("needs what only the emulator of these tests can do: count requests, inject faults, split")
    async with CosmosEmulator() as running:
        yield running


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    """On the emulator, where the test asks for it; else on any account."""
    if "emulator" in request.fixturenames:
        running: CosmosEmulator = request.getfixturevalue("emulator")
        return settings_of(running.endpoint, running.key)
    return settings_of(*request.getfixturevalue("account"))


@pytest.fixture
async def store(settings: Settings) -> AsyncGenerator[CosmosEventStore, None]:
    async with CosmosEventStore(**settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings) -> AsyncGenerator[CosmosClient, None]:
    """The SDK itself, for a look behind the store and for changes that it would not make, each a moment later."""

    def a_moment_later(_: Any) -> None:
        catch_up(settings["endpoint"])

    hooks = {"raw_request_hook": a_moment_later, "raw_response_hook": a_moment_later}
    async with CosmosClient(settings["endpoint"], settings["credential"], **hooks) as opened:
        yield opened


@pytest.fixture
def items(client: CosmosClient, settings: Settings) -> ContainerProxy:
    return container_of(client, settings)
