"""Containers of a test's own, what is put into them, and how what happens there is held and counted."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosResourceExistsError, CosmosResourceNotFoundError

from eventckpt import CheckpointEvent, EventCheckpointStorage, EventStore, RunCheckpointStorage, StreamId
from eventckpt.chain import digest_of

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from .chains import headers

WORKFLOW = "orders"
MEGABYTES_5 = hashlib.shake_256(b"large").digest(5_000_000)
PARTS_OF_5_MB = 14
Settings = dict[str, Any]


def settings_of(endpoint: str, key: str) -> Settings:
    """A container of its own."""
    name = f"test-{uuid.uuid4()}"
    return {"endpoint": endpoint, "credential": key, "database_name": DATABASE, "container_name": name}


def container_of(client: CosmosClient, settings: Settings) -> ContainerProxy:
    return client.get_database_client(settings["database_name"]).get_container_client(settings["container_name"])


async def create_container(client: CosmosClient, settings: Settings, key: str) -> None:
    """As somebody else would, who waits until a database that was just made is known."""
    database = client.get_database_client(settings["database_name"])
    with suppress(CosmosResourceExistsError):
        await client.create_database(settings["database_name"])
    for _ in range(100):
        with suppress(CosmosResourceNotFoundError):
            await database.create_container(settings["container_name"], PartitionKey(key))
            return
        await asyncio.sleep(0.05)
    pytest.fail("the database does not come to be known")


async def workflow_headers(store: EventStore, name: str = "workflow", *, desc: bool = False) -> list[CheckpointEvent]:
    return [header async for header in store.workflow_headers(name, desc=desc)]


def headers_of(events: list[CheckpointEvent]) -> list[CheckpointEvent]:
    return [event.header() for event in events]


def checkpoint(previous: WorkflowCheckpoint | None = None, /, **fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        workflow_name=fields.pop("workflow_name", WORKFLOW),
        graph_signature_hash="graph",
        previous_checkpoint_id=previous.checkpoint_id if previous else None,
        **fields,
    )


async def saves(storage: EventCheckpointStorage | RunCheckpointStorage, count: int) -> list[WorkflowCheckpoint]:
    """A lineage of `count` checkpoints."""
    made: list[WorkflowCheckpoint] = []
    for step in range(count):
        made.append(checkpoint(made[-1] if made else None, state={"step": step}))
        await storage.save(made[-1])
    return made


async def verified(store: EventStore, stream: StreamId) -> list[CheckpointEvent]:
    """The events of a run, whole: without gaps, each with its own digest, each with that of the one before."""
    listed = await headers(store, stream)
    assert [header.seq for header in listed] == list(range(1, len(listed) + 1))
    events = await store.read(stream, *(header.seq for header in listed))
    assert [digest_of(event) for event in events] == [event.digest for event in events]
    assert [event.previous_digest for event in events[1:]] == [event.digest for event in events[:-1]]
    return events


class Gate:
    """Holds requests of the emulator that a rule matches, and tells when one has come."""

    def __init__(self, emulator: CosmosEmulator, *, applied: bool = False, **match: Any) -> None:
        self.arrived, self.open = asyncio.Event(), asyncio.Event()
        emulator.faults.delay(until=self.open, applied=applied, where=self._arrives, times=1, **match)

    def _arrives(self, _: object) -> bool:
        self.arrived.set()
        return True


def on_request(emulator: CosmosEmulator, kind: str, action: Callable[[], object], *, nth: int = 1) -> None:
    """Do something in the middle of the n-th request of a kind, before the emulator answers it."""
    seen = 0

    def where(_: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == nth:
            action()
        return False

    emulator.faults.delay(kind=kind, where=where)


def asked(emulator: CosmosEmulator) -> dict[str, int]:
    """How many requests of each kind came since the last reset, without the SDK's own looks at the account."""
    return dict(Counter(record.kind for record in emulator.requests if record.kind != "account"))


def payloads(events: list[CheckpointEvent]) -> list[bytes | None]:
    return [event.payload and event.payload.data for event in events]


async def count_parts(items: ContainerProxy) -> int:
    return len([item async for item in items.query_items("SELECT c.id FROM c WHERE c.type = 'part'")])


async def tamper(items: ContainerProxy, name: str, key: str = "workflow|run", **changes: Any) -> None:
    item = dict(await items.read_item(name, key))
    item |= {field: value for field, value in changes.items() if value is not ...}
    for field in [field for field, value in changes.items() if value is ...]:
        del item[field]
    await items.replace_item(name, item)


async def costs(emulator: CosmosEmulator, operation: Any) -> tuple[dict[str, int], float]:
    emulator.reset()
    await operation
    return asked(emulator), emulator.charges.total
