"""An emulator of each test's own, and containers of one and of four physical partitions, through the real SDK.

The emulator's own tests are left out of `make test-fast`: they are about how the service answers. What the engine needs
of that fails in the engine's tests, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient

from tests.cosmos_emulator import CosmosEmulator
from tests.cosmos_emulator.clock import Clock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
async def emulator(clock: Clock) -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 4}, clock=clock) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: CosmosEmulator) -> AsyncIterator[CosmosClient]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield client


@pytest.fixture
async def one(client: CosmosClient) -> ContainerProxy:
    """A container of one physical partition."""
    database = await client.create_database_if_not_exists("shop")
    return await database.create_container("one", PartitionKey("/pk"))


@pytest.fixture
async def many(client: CosmosClient) -> ContainerProxy:
    """A container of four physical partitions."""
    database = await client.create_database_if_not_exists("shop")
    return await database.create_container("many", PartitionKey("/pk"))
