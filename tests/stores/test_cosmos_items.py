"""What an event is in Cosmos DB: its item, its key and its data."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from azure.cosmos.aio import ContainerProxy

from eventckpt import CheckpointStoreError, CosmosEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import REMOVALS, Summary
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import partition_key_of

from .chains import STREAM, append_chain
from .cosmos_stores import headers_of, verified, workflow_headers


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's, above 1 MB; no item that fits comes near
async def test_a_header_that_is_too_large_is_named_as_such(store: CosmosEventStore) -> None:
    keys = tuple(f"{number:06}{'x' * 94}" for number in range(25_000))
    event = sealed(msgspec.structs.replace(make_event(STREAM, 1), summary=Summary(state_keys=keys)))
    with pytest.raises(CheckpointStoreError, match="too large"):
        await store.append(event)
    await append_chain(store, 1)


async def test_an_item_is_the_event_its_key_and_its_data(store: CosmosEventStore, items: ContainerProxy) -> None:
    first, second = await append_chain(store, 2, data=b"\x00\xff state")
    item = await items.read_item("000000000002", partition_key_of(STREAM))
    own = {name: value for name, value in item.items() if not name.startswith("_")}
    expected = json.loads(msgspec.json.encode(second.header()))
    data = base64.b64encode(b"\x00\xff state").decode()
    assert own == {**expected, "id": "000000000002", "stream": "workflow|run", "data": data}
    assert own["previous_digest"] == first.digest


@pytest.mark.parametrize(
    "stream",
    [
        StreamId("a/b\\c?d#e|f", "g/h\\i?j#k|l"),
        StreamId("工作流 🚀", "🚀 " * 100),
        StreamId("w" * 255, "🚀" * 255),
        StreamId("🚀" * 255, "🚀" * 254 + "🛰"),
    ],
    ids=["separators", "emoji", "long run", "long both"],
)
async def test_any_name_makes_a_key_that_the_service_takes(
    store: CosmosEventStore, items: ContainerProxy, stream: StreamId
) -> None:
    events = await append_chain(store, 2, stream=stream)
    assert await verified(store, stream) == events
    assert await workflow_headers(store, stream.workflow_name) == headers_of(events)
    key = partition_key_of(stream)
    assert len(key.encode()) <= 2048
    assert (await items.read_item("000000000001", key))["run_id"] == stream.run_id


def test_names_that_differ_never_make_one_key() -> None:
    long = "🚀" * 255
    streams = [
        *(StreamId(long, long[:-1] + last) for last in "🚀🛰x"),
        *(StreamId(long[:-1] + last, long) for last in "🛰x"),
        StreamId("a|b", "c"),
        StreamId("a", "b|c"),
        StreamId("a%7Cb", "c"),
        StreamId("a", "b%7Cc"),
    ]
    keys = {partition_key_of(stream) for stream in streams}
    assert len(keys) == len(streams)
    assert partition_key_of(StreamId("orders", "order-42")) == "orders|order-42"
    cut = partition_key_of(StreamId("w" * 1900, long))
    workflow_name, run_id = cut.split("|")
    assert partition_key_of(StreamId(workflow_name, run_id)) != cut


@pytest.mark.parametrize(
    "workflow", ["orders", "", "a|", "|", "🚀" * 255, *("w" * length for length in (1_934, 1_999, 2_000, 9_000))]
)
def test_the_key_of_a_stream_of_removals_is_told_from_that_of_any_run(workflow: str) -> None:
    key = partition_key_of(StreamId(workflow, REMOVALS))
    assert key.endswith("|")
    assert len(key) <= 2_000
    assert key != partition_key_of(StreamId(workflow + "x", REMOVALS))
    for run_id in ("|", "a|", "%7C", " ", "*", "\n", "🚀" * 255, "r" * 255):
        assert not partition_key_of(StreamId(workflow, run_id)).endswith("|")
