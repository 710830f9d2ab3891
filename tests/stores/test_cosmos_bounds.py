"""What one operation of the Cosmos DB engine may use: seconds in all, requests side by side, and requests for what the
store knows already."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest

from eventckpt import CheckpointEvent, CosmosCheckpointStorage, CosmosEventStore, StoreUnavailableError, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos.query import together
from eventckpt.stores.cosmos.requests import AT_ONCE, ask, each_by_itself, operation

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .cosmos_operations import INFO, STREAM, fill, hurry

LARGE = hashlib.shake_256(b"large").digest(4_000_000)
PARTS = 11


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


@pytest.fixture
async def store(emulator: CosmosEmulator) -> AsyncGenerator[CosmosEventStore, None]:
    """Opened, all three containers, with one of everything in them."""
    await fill(emulator)
    async with CosmosEventStore(**where(emulator)) as opened:
        await opened.read(STREAM, 1)
        await opened.run_store().get(STREAM)
        await opened.document_store().read("lease")
        yield opened


# Seconds


async def test_the_timeout_is_how_long_an_operation_waits_for_the_service(emulator: CosmosEmulator) -> None:
    """The same fault, which lasts for some answers: with the time for them it goes unnoticed, with less it is told."""
    await fill(emulator)
    for timeout, is_told in ((30.0, False), (1.5, True)):
        async with CosmosEventStore(**where(emulator), timeout=timeout) as store:
            await store.read(STREAM, 1)
            with emulator.faults.respond(
                449, headers={"x-ms-retry-after-ms": "800"}, kind="read_item", times=2
            ) as rule:
                if is_told:
                    with pytest.raises(StoreUnavailableError, match="449"):
                        await store.read(STREAM, 1)
                else:
                    assert len(await store.read(STREAM, 1)) == 1
                    assert rule.hits == 2


async def test_the_storage_hands_the_timeout_on(emulator: CosmosEmulator) -> None:
    """With the time that there is by itself, it would go unnoticed."""
    async with CosmosCheckpointStorage(**where(emulator), timeout=20) as storage:
        await storage.list_checkpoint_ids(workflow_name="workflow")
        with (
            emulator.faults.respond(449, headers={"x-ms-retry-after-ms": "25000"}, kind="query", times=1),
            pytest.raises(StoreUnavailableError, match="449"),
        ):
            await storage.list_checkpoint_ids(workflow_name="workflow")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "30", None, True])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    place = {"endpoint": "https://x", "credential": "a2V5", "database_name": "d", "container_name": "c"}
    with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
        CosmosEventStore(**place, timeout=timeout)


async def test_all_requests_of_an_operation_have_its_seconds_together() -> None:
    """The first one leaves the others none: with a time for each, they would be answered."""
    with operation(0.2):
        with pytest.raises(StoreUnavailableError):
            await ask(asyncio.Event().wait, "container 'c'")
        for _ in range(5):
            with pytest.raises(StoreUnavailableError):
                await ask(_soon, "container 'c'")
    assert await ask(_soon, "container 'c'") == "answer"


async def _soon() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "answer"


async def test_an_operation_within_another_is_a_part_of_it() -> None:
    never = asyncio.Event()
    with operation(0.05), operation(1_000.0), pytest.raises(StoreUnavailableError):
        await ask(never.wait, "container 'c'")


async def test_of_as_many_requests_as_there_is_data_each_has_the_time_of_an_operation() -> None:
    """So that a long prune is not ended for being long."""
    never = asyncio.Event()
    with operation(0.1):
        with pytest.raises(StoreUnavailableError):
            await ask(never.wait, "container 'c'")
        with pytest.raises(StoreUnavailableError):
            await ask(_soon, "container 'c'")
        with each_by_itself():
            assert await ask(_soon, "container 'c'") == "answer"
        many = AT_ONCE + 1
        assert await together(*(partial(ask, _soon, "container 'c'") for _ in range(many))) == ["answer"] * many
    with operation(0.1, many=True):
        with pytest.raises(StoreUnavailableError):
            await ask(never.wait, "container 'c'")
        assert await ask(_soon, "container 'c'") == "answer"


async def test_a_prune_that_is_throttled_throughout_goes_on_to_its_end(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events: list[CheckpointEvent] = []
    stream = StreamId("workflow", "long")
    for seq in range(1, 14):
        events.append(make_event(stream, seq, previous=events[-1] if events else None))
        await store.append(events[-1])
    hurry(store, 1.5)
    seen: set[str] = set()

    def first_time(call: Any) -> bool:
        found = call.path not in seen
        seen.add(call.path)
        return found

    with emulator.faults.respond(
        449, headers={"x-ms-retry-after-ms": "900"}, kind="replace_item", where=first_time
    ) as rule:
        assert await store.remove(stream, range(1, 13)) == 12  # 12 waits of 0.9 s, 8 side by side: 1.8 s
        assert rule.hits == 12


# Requests side by side


async def test_steps_within_steps_send_no_more_requests_side_by_side() -> None:
    going, most = 0, 0

    async def request() -> None:
        nonlocal going, most
        going += 1
        most = max(most, going)
        for _ in range(5):
            await asyncio.sleep(0)
        going -= 1

    def steps(depth: int) -> Any:
        if not depth:
            return partial(ask, request, "container 'c'")
        return partial(together, *(steps(depth - 1) for _ in range(6)))

    with operation(30.0):
        await steps(3)()
    assert most == AT_ONCE


async def test_reads_of_large_events_side_by_side_send_no_more_requests_than_one(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    """Two events of eleven parts each, found at once."""
    events = [make_event(StreamId("large", "run"), 1, data=LARGE)]
    events.append(make_event(StreamId("large", "run"), 2, previous=events[0], data=LARGE[::-1]))
    for event in events:
        await store.append(event)
    held, most, release = 0, 0, asyncio.Event()
    full = asyncio.Event()

    def arrives(_: object) -> bool:
        nonlocal held, most
        held += 1
        most = max(most, held)
        if held == AT_ONCE:
            full.set()
        return True

    with emulator.faults.delay(kind="read_item", where=arrives, until=release, path="part-"):
        reading = asyncio.create_task(store.read(StreamId("large", "run"), 1, 2))
        await full.wait()
        await store.run_store().get(STREAM)  # any other request that was sent has arrived by now
        assert held == AT_ONCE < PARTS
        release.set()
        assert [len(event.payload.data) for event in await reading if event.payload] == [len(LARGE)] * 2


# What is known already


async def test_a_run_store_that_is_asked_for_again_asks_the_service_for_nothing_that_it_knows(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    emulator.reset()
    for _ in range(5):
        assert await store.run_store().get(STREAM) == {STREAM: INFO}
    assert [record.kind for record in emulator.requests] == ["read_item"] * 5
    assert store.run_store() is store.run_store()
    assert store.run_store("other") is store.run_store("other")
    assert store.run_store("other") is not store.run_store()


async def test_a_projection_that_is_put_in_use_through_one_run_store_is_seen_by_the_others_soon(
    store: CosmosEventStore,
) -> None:
    assert await store.run_store().get(STREAM) == {STREAM: INFO}
    await store.run_store("other").activate("other")
    assert await store.run_store().get(STREAM) == {}
    await store.run_store("other").activate("latest")
    assert await store.run_store().get(STREAM) == {STREAM: INFO}


async def test_run_stores_of_any_number_of_names_are_not_all_remembered(store: CosmosEventStore) -> None:
    first = store.run_store("0")
    for number in range(1, 100):
        store.run_store(str(number))
    assert store.run_store("0") is not first
