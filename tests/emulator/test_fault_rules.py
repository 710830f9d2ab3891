"""Faults on order: which requests they hit, how often, and whether the work was done before."""

from __future__ import annotations

import asyncio
import time

import pytest
from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
    CosmosResourceExistsError,
)

from tests.cosmos_emulator import CosmosEmulator

from .sdk import feed, ids, query


async def test_throttling_is_waited_out_and_reported(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    rule = emulator.faults.respond(429, substatus=3200, retry_after_ms=5, kind="create_item", times=2)
    await one.create_item({"id": "a", "pk": "p"})
    assert (rule.calls, rule.hits) == (3, 2)
    assert [record.status for record in emulator.requests if record.kind == "create_item"] == [429, 429, 201]
    with emulator.faults.respond(429, retry_after_ms=1, container="one"), pytest.raises(CosmosHttpResponseError) as hit:
        await one.read_item("a", "p")
    assert hit.value.status_code == 429
    assert (await one.read_item("a", "p"))["id"] == "a"


async def test_any_status_can_be_injected(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await one.create_item({"id": "a", "pk": "p"})
    with emulator.faults.respond(449, method="PUT"), pytest.raises(CosmosHttpResponseError) as hit:
        await one.replace_item("a", {"id": "a", "pk": "p"})
    assert hit.value.status_code == 449
    rule = emulator.faults.respond(410, substatus=1002, kind="change_feed", nth=1)
    assert ids((await feed(one, start_time="Beginning"))[0]) == ["a"]
    assert rule.hits == 1


async def test_an_ambiguous_answer_comes_after_the_write(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    with emulator.faults.respond(408, applied=True, kind="create_item"), pytest.raises(CosmosHttpResponseError):
        await one.create_item({"id": "a", "pk": "p"})
    assert (await one.read_item("a", "p"))["id"] == "a"


async def test_a_connection_dropped_before_the_write_is_retried(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    rule = emulator.faults.drop(kind="create_item", times=1)
    await one.create_item({"id": "a", "pk": "p"})
    assert rule.hits == 1


async def test_a_connection_dropped_after_the_write_makes_the_retry_conflict(
    emulator: CosmosEmulator, one: ContainerProxy
) -> None:
    emulator.faults.drop(applied=True, kind="create_item", times=1)
    with pytest.raises(CosmosResourceExistsError):  # the SDK sends a create again after a lost connection
        await one.create_item({"id": "a", "pk": "p"})
    assert [record.status for record in emulator.requests if record.kind == "create_item"] == [0, 409]
    with emulator.faults.drop(kind="read_item"), pytest.raises(AzureError):
        await one.read_item("a", "p", retry_total=0)


async def test_a_request_can_be_held(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    go = asyncio.Event()
    rule = emulator.faults.delay(until=go, kind="create_item", where=lambda call: b'"held"' in call.body)
    held = asyncio.ensure_future(one.create_item({"id": "held", "pk": "p"}))
    await one.create_item({"id": "free", "pk": "p"})
    assert await query(one, "SELECT VALUE c.id FROM c") == ["free"]
    go.set()
    await held
    assert rule.hits == 1
    emulator.faults.delay(0.05, kind="read_item")
    started = time.monotonic()
    await one.read_item("held", "p")
    assert time.monotonic() - started >= 0.05


async def test_a_rate_is_drawn_from_a_seed(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    async def failures(seed: int) -> list[str]:
        failed: list[str] = []
        with emulator.faults.respond(400, kind="upsert_item", rate=0.3, seed=seed):
            for n in range(40):
                try:
                    await one.upsert_item({"id": str(n), "pk": "p"})
                except CosmosHttpResponseError:
                    failed.append(str(n))
        return failed

    first = await failures(1)
    assert 4 <= len(first) <= 20
    assert await failures(1) == first
    assert await failures(2) != first
