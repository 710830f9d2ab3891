"""What goes on the wire for an event of any size: the same item, of which a large one is not made on the event loop."""

from __future__ import annotations

import asyncio
import base64
import string
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from azure.cosmos.aio import ContainerProxy

from eventckpt import CosmosEventStore, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.threads import LARGE, in_thread

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM
from .cosmos_stores import MEGABYTES_5, PARTS_OF_5_MB, asked, payloads, tamper

_SIZES = [0, 1, 2, 3, LARGE - 1, LARGE, 300_000]


@asynccontextmanager
async def _no_thread_is_free() -> AsyncGenerator[None, None]:
    over = threading.Event()
    working = [asyncio.create_task(in_thread(over.wait)) for _ in range(10)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*working)


@pytest.mark.parametrize("size", _SIZES)
async def test_an_item_is_the_same_on_whichever_way_it_was_made(
    size: int, store: CosmosEventStore, items: ContainerProxy
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5[:size])
    await store.append(event)
    item = await items.read_item("000000000001", "workflow|run")
    assert item["data"] == base64.b64encode(MEGABYTES_5[:size]).decode()
    assert item["summary"]["state_keys"] == ["count", "größe"]
    assert (item["stream"], item["digest"]) == ("workflow|run", event.digest)
    assert await store.read(STREAM, 1) == [event]


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("status", [429, 449, 503])
async def test_what_is_sent_again_is_the_same_again(
    size: int, status: int, emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5[:size])
    emulator.faults.respond(status, kind="create_item", times=2)
    await store.append(event)
    assert asked(emulator)["create_item"] > 2
    assert await store.read(STREAM, 1) == [event]


@pytest.mark.parametrize("size", [LARGE, 300_000, len(MEGABYTES_5)])
async def test_a_large_item_is_made_in_a_thread_of_our_own_and_a_small_one_waits_for_none(
    size: int, emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    small, large = make_event(STREAM, 1), make_event(StreamId("workflow", "large"), 1, data=MEGABYTES_5[:size])
    async with _no_thread_is_free():
        appending = asyncio.create_task(store.append(large))
        await store.append(small)
        assert await store.read(STREAM, 1) == [small]
        assert asked(emulator)["create_item"] == 1
        assert not appending.done()
    await appending
    assert asked(emulator).get("upsert_item", 0) in (0, PARTS_OF_5_MB)
    async with _no_thread_is_free():
        reading = asyncio.create_task(store.read(large.stream, 1))
        assert await store.read(STREAM, 1) == [small]
        assert not reading.done()
    assert payloads(await reading) == payloads([large])


async def test_what_is_cancelled_while_its_item_is_made_is_not_sent(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    await store.append(make_event(STREAM, 1))
    async with _no_thread_is_free():
        appending = asyncio.create_task(store.append(make_event(STREAM, 2, data=MEGABYTES_5)))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
    assert await store.read(STREAM, 2) == []
    assert asked(emulator)["create_item"] == 1


@pytest.mark.parametrize("size", [1, 2, 4, 5, 300_001])
async def test_of_the_texts_that_decode_to_the_same_data_only_the_one_that_was_written_counts(
    size: int, store: CosmosEventStore, items: ContainerProxy
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5[:size])
    await store.append(event)
    text = base64.b64encode(MEGABYTES_5[:size]).decode()
    last = text.rstrip("=")[-1]
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    other = text.replace(f"{last}=", f"{digits[digits.index(last) + 1]}=")
    assert base64.b64decode(other) == MEGABYTES_5[:size]
    await tamper(items, "000000000001", data=other)
    assert payloads(await store.read(STREAM, 1)) == [b""]
