"""The emulator's items, one by one and in batches: what the real SDK writes and reads, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from tests.cosmos_emulator import CosmosEmulator
from tests.cosmos_emulator.clock import Clock

from .sdk import LARGE_BODIES, feed, fill, ids, last, query


async def test_an_item_is_created_read_replaced_patched_and_deleted(one: ContainerProxy) -> None:
    created = await one.create_item({"id": "a", "pk": "p", "n": 1})
    assert {"_rid", "_self", "_etag", "_ts"} <= created.keys()
    assert "_lsn" not in created
    with pytest.raises(CosmosResourceExistsError):
        await one.create_item({"id": "a", "pk": "p"})
    await one.create_item({"id": "a", "pk": "other"})
    replaced = await one.replace_item("a", {"id": "a", "pk": "p", "n": 2})
    assert replaced["_rid"] == created["_rid"]
    assert replaced["_etag"] != created["_etag"]
    operations = [
        {"op": "add", "path": "/tags", "value": ["x"]},
        {"op": "add", "path": "/tags/-", "value": "y"},
        {"op": "incr", "path": "/n", "value": 5},
        {"op": "remove", "path": "/tags/0"},
    ]
    assert (await one.patch_item("a", "p", operations))["tags"] == ["y"]
    assert (await one.read_item("a", "p"))["n"] == 7
    with pytest.raises(CosmosAccessConditionFailedError):
        await one.patch_item("a", "p", operations, filter_predicate="from c where c.n = 1")
    await one.delete_item("a", "p")
    with pytest.raises(CosmosResourceNotFoundError):
        await one.read_item("a", "p")
    with pytest.raises(CosmosResourceNotFoundError):
        await one.replace_item("a", {"id": "a", "pk": "p"})
    assert (await one.upsert_item({"id": "a", "pk": "p"}))["id"] == "a"


async def test_etags_guard_writes_and_spare_reads(one: ContainerProxy) -> None:
    first = await one.create_item({"id": "a", "pk": "p", "n": 1})
    second = await one.replace_item(
        "a", {"id": "a", "pk": "p", "n": 2}, etag=first["_etag"], match_condition=MatchConditions.IfNotModified
    )
    stale = {"etag": first["_etag"], "match_condition": MatchConditions.IfNotModified}
    for write in (
        one.replace_item("a", {"id": "a", "pk": "p"}, **stale),
        one.upsert_item({"id": "a", "pk": "p"}, **stale),
        one.patch_item("a", "p", [{"op": "set", "path": "/n", "value": 3}], **stale),
        one.delete_item("a", "p", **stale),
    ):
        with pytest.raises(CosmosAccessConditionFailedError):
            await write
    unchanged = await one.read_item("a", "p", etag=second["_etag"], match_condition=MatchConditions.IfModified)
    assert not unchanged
    assert unchanged.get_response_headers()["x-ms-request-charge"] == "1"
    assert await one.read_item("a", "p", etag=first["_etag"], match_condition=MatchConditions.IfModified)


@LARGE_BODIES
@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"pk": "p"}, 400),
        ({"id": "x" * 1024, "pk": "p"}, 400),
        ({"id": "n", "pk": "p" * 2049}, 400),
        ({"id": "n", "pk": "p", "ttl": 0}, 400),
        ({"id": "n", "pk": "p", "deep": json.loads("[" * 130 + "]" * 130)}, 400),
        ({"id": "n", "pk": "p", "data": "x" * (2 * 1024 * 1024)}, 413),
    ],
    ids=["no id", "long id", "long key", "ttl 0", "deep", "2 MB"],
)
async def test_what_the_service_refuses_is_refused(one: ContainerProxy, item: dict[str, Any], status: int) -> None:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await one.create_item(item)
    assert refused.value.status_code == status


async def test_the_key_of_the_request_and_of_the_item_must_agree(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await one.create_item({"id": "a", "pk": "p"})
    with pytest.raises(CosmosBatchOperationError) as refused:
        await one.execute_item_batch([("create", ({"id": "b", "pk": "other"},))], "p")
    assert refused.value.status_code == 400
    assert refused.value.operation_responses[0]["subStatusCode"] == 1001


async def test_no_response_saves_the_body(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    assert not await one.create_item({"id": "a", "pk": "p"}, no_response=True)
    assert last(emulator, "create_item").response_bytes == 0


async def test_integers_lose_digits_beyond_a_double_as_in_the_service(one: ContainerProxy) -> None:
    await one.create_item({"id": "a", "pk": "p", "n": 2**53 + 1, "f": 0.1, "text": "żółć 🎈"})
    item = await one.read_item("a", "p")
    assert (item["n"], item["f"], item["text"]) == (2**53, 0.1, "żółć 🎈")


async def test_time_to_live_ends_items_lazily(client: CosmosClient, clock: Clock) -> None:
    database = await client.create_database("shop")
    container = await database.create_container("locks", PartitionKey("/id"), default_ttl=60)
    for name, own in (("default", {}), ("short", {"ttl": 10}), ("never", {"ttl": -1})):
        await container.create_item({"id": name, **own})
    clock.now += 11
    assert sorted(await query(container, "SELECT VALUE c.id FROM c")) == ["default", "never"]
    await container.upsert_item({"id": "default"})  # a write begins the time anew
    clock.now += 59
    assert (await container.read_item("default", "default"))["id"] == "default"
    clock.now += 1
    with pytest.raises(CosmosResourceNotFoundError):
        await container.read_item("default", "default")
    await container.create_item({"id": "short"})
    assert ids((await feed(container, start_time="Beginning"))[0]) == ["never", "short"]


async def test_hierarchical_keys_are_read_by_prefix(client: CosmosClient, emulator: CosmosEmulator) -> None:
    database = await client.create_database("shop")
    container = await database.create_container("many", PartitionKey(["/tenant", "/user"], kind="MultiHash"))
    for tenant in "abc":
        for user in range(5):
            await container.create_item({"id": f"{tenant}{user}", "tenant": tenant, "user": user})
    assert (await container.read_item("b3", ["b", 3]))["user"] == 3
    rows = await query(container, "SELECT VALUE c.id FROM c", partition_key=["b"])
    assert sorted(rows) == [f"b{user}" for user in range(5)]


async def test_read_items_reads_many(many: ContainerProxy) -> None:
    items = await fill(many)
    found = await many.read_items([(item["id"], item["pk"]) for item in items])
    assert ids(found) == ids(items)


# Batches


async def test_a_batch_is_one_transaction(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    partition = emulator.container("shop", "one").partitions[0]
    before = partition.lsn
    await one.create_item({"id": "old", "pk": "p", "n": 1})
    results = await one.execute_item_batch(
        [
            ("create", ({"id": "new", "pk": "p"},)),
            ("upsert", ({"id": "more", "pk": "p"},)),
            ("replace", ("old", {"id": "old", "pk": "p", "n": 2})),
            ("patch", ("new", [{"op": "set", "path": "/n", "value": 3}])),
            ("read", ("old",)),
            ("delete", ("more",)),
        ],
        "p",
    )
    assert [result["statusCode"] for result in results] == [201, 201, 200, 200, 200, 204]
    assert results[4]["resourceBody"]["n"] == 2
    assert partition.lsn == before + 2
    items, _ = await feed(one, start_time="Beginning")
    assert {item["_lsn"] for item in items} == {before + 2}


async def test_a_failed_batch_leaves_nothing(one: ContainerProxy) -> None:
    await one.create_item({"id": "old", "pk": "p"})
    batch = [("create", ({"id": "new", "pk": "p"},)), ("create", ({"id": "old", "pk": "p"},)), ("read", ("old",))]
    with pytest.raises(CosmosBatchOperationError) as failed:
        await one.execute_item_batch(batch, "p")
    assert failed.value.error_index == 1
    assert [result["statusCode"] for result in failed.value.operation_responses] == [424, 409, 424]
    assert await query(one, "SELECT VALUE c.id FROM c") == ["old"]


@LARGE_BODIES
@pytest.mark.parametrize(
    ("operations", "status"),
    [
        ([("create", ({"id": f"i{n}", "pk": "p"},)) for n in range(101)], 400),
        ([("create", ({"id": f"i{n}", "pk": "p", "data": "x" * 1_200_000},)) for n in range(2)], 413),
    ],
    ids=["101 operations", "over 2 MB"],
)
async def test_batches_have_limits(one: ContainerProxy, operations: list[Any], status: int) -> None:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await one.execute_item_batch(operations, "p")
    assert refused.value.status_code == status
