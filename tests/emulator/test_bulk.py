"""The emulator's bulk form of a batch, and patches as JavaScript's client sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.emulator.cosmos_wire import Answer, send

ITEMS = "dbs/shop/colls/many/docs"
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, beyond 1 MB


@pytest.fixture
async def emulator() -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 2}) as emulator:
        yield emulator


@pytest.fixture
async def many(emulator: CosmosEmulator) -> AsyncIterator[ContainerProxy]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("shop")
        yield await database.create_container("many", PartitionKey("/pk"))


def operation(kind: str, identifier: str, key: str = "a", body: Any = None, **more: Any) -> dict[str, Any]:
    named: dict[str, Any] = {"operationType": kind, "partitionKey": json.dumps([key]), **more}
    if kind in {"Create", "Upsert"}:
        return {**named, "resourceBody": {"id": identifier, "pk": key, **(body or {})}}
    return {**named, "id": identifier, **({} if body is None else {"resourceBody": body})}


async def bulk(emulator: CosmosEmulator, operations: Any, range_id: str = "0", **headers: str) -> Answer:
    asked = {
        "x-ms-cosmos-is-batch-request": "true",
        "x-ms-cosmos-batch-atomic": "false",
        "x-ms-documentdb-partitionkeyrangeid": range_id,
        "x-ms-cosmos-batch-continue-on-error": "true",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return await send(emulator, "POST", ITEMS, operations, asked)


def codes(answer: Answer) -> list[int]:
    return [each["statusCode"] for each in answer.json]


def keys_of(emulator: CosmosEmulator, range_id: str, count: int = 3) -> list[str]:
    """Partition keys that live in a range."""
    container = emulator.container("shop", "many")
    partition = container.partition(range_id)
    names = (f"k{n}" for n in range(1000))
    found = (name for name in names if partition.holds(container.definition.effective_key((name,))))
    return [name for name, _ in zip(found, range(count), strict=False)]


async def test_each_operation_of_a_bulk_request_is_for_itself(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    first, second, third = keys_of(emulator, "0")
    answer = await bulk(
        emulator,
        [
            operation("Create", "1", first, {"n": 1}),
            operation("Create", "1", first),  # is there
            operation("Create", "1", second),
            operation("Read", "1", second),
            operation("Read", "2", second),  # is not
            operation("Replace", "1", first, {"id": "1", "pk": first, "n": 2}, ifMatch='"old"'),
            operation("Patch", "1", first, [{"op": "incr", "path": "/n", "value": 5}]),
            operation("Patch", "1", first, {"operations": [{"op": "set", "path": "/m", "value": 1}]}),
            operation("Upsert", "2", third),
            operation("Delete", "1", second),
        ],
    )
    assert answer.status == 207
    assert codes(answer) == [201, 409, 201, 200, 404, 412, 200, 200, 201, 204]
    assert answer.json[3]["resourceBody"]["id"] == "1"
    assert answer.json[0]["eTag"] == answer.json[0]["resourceBody"]["_etag"]
    assert float(answer.headers["x-ms-request-charge"]) == pytest.approx(sum(e["requestCharge"] for e in answer.json))
    item = await many.read_item("1", first)
    assert (item["n"], item["m"]) == (6, 1)
    assert [row["id"] async for row in many.query_items("SELECT * FROM c", partition_key=second)] == []


async def test_all_that_went_well_is_200_and_can_be_told_without_bodies(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    (key,) = keys_of(emulator, "1", 1)
    answer = await bulk(emulator, [operation("Create", "1", key)], "1", Prefer="return=minimal")
    assert (answer.status, codes(answer), "resourceBody" in answer.json[0]) == (200, [201], False)
    assert answer.headers["x-ms-documentdb-partitionkeyrangeid"] == "1"


async def test_after_a_failure_the_rest_depends_on_it_unless_told_to_go_on(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    first, second, _ = keys_of(emulator, "0")
    operations = [operation("Create", "1", first), operation("Delete", "2", first), operation("Create", "1", second)]
    answer = await bulk(emulator, operations, x_ms_cosmos_batch_continue_on_error="false")
    assert (answer.status, codes(answer)) == (207, [201, 404, 424])
    assert [row["id"] async for row in many.query_items("SELECT * FROM c", partition_key=second)] == []
    assert (await many.read_item("1", first))["id"] == "1"


async def test_a_failed_operation_leaves_nothing_behind(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    (key,) = keys_of(emulator, "0", 1)
    operations = [
        operation("Create", "1", key),
        operation("Replace", "1", key, {"id": "2", "pk": key, "ttl": "soon"}),  # renamed, and then not valid
        operation("Read", "1", key),
    ]
    answer = await bulk(emulator, operations)
    assert codes(answer) == [201, 400, 200]
    assert (await many.read_item("1", key))["id"] == "1"


@pytest.mark.parametrize("atomic", ["true", "false"])
async def test_what_comes_and_goes_within_a_batch_is_nothing_to_a_replica_that_lags(atomic: str) -> None:
    async with CosmosEmulator(switches=Switches(lag=1.0, lag_seconds=60)) as emulator:
        emulator.provision("shop", "many", "/pk")
        written = [operation("Create", "x"), operation("Delete", "x"), operation("Create", "y")]
        key = {"x-ms-documentdb-partitionkey": '["a"]'} if atomic == "true" else {}
        for operations in (written[:2], written):
            answer = await bulk(emulator, operations, **{"x-ms-cosmos-batch-atomic": atomic, **key})
            assert (answer.status, codes(answer)) == (200, [201, 204, 201][: len(operations)])
        listed = await send(emulator, "GET", ITEMS, headers={"x-ms-documentdb-partitionkey": '["a"]'})
        assert listed.json["Documents"] == []


async def test_a_bulk_request_is_one_place_in_the_feed(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    first, second, third = keys_of(emulator, "0")
    await bulk(emulator, [operation("Create", "1", key) for key in (first, second, third)])
    pages = many.query_items_change_feed(start_time="Beginning", max_item_count=1).by_page()
    found = [[item["_lsn"] async for item in page] async for page in pages]
    [page] = [page for page in found if page]
    assert page == [page[0]] * 3


@LARGE
async def test_an_item_beyond_2_mb_is_refused_by_itself(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    (key,) = keys_of(emulator, "0", 1)
    half = "x" * (1024 * 1024)
    await many.create_item({"id": "1", "pk": key, "text": half})
    larger = operation("Patch", "1", key, {"operations": [{"op": "add", "path": "/more", "value": half}]})
    assert codes(await bulk(emulator, [larger, operation("Create", "2", key)])) == [413, 201]


@LARGE
@pytest.mark.parametrize("atomic", ["true", "false"])
async def test_a_batch_of_more_than_2_mb_is_refused_whole(
    emulator: CosmosEmulator, many: ContainerProxy, atomic: str
) -> None:
    (key,) = keys_of(emulator, "0", 1)
    header = {"x-ms-documentdb-partitionkey": json.dumps([key]), "x-ms-cosmos-batch-atomic": atomic}
    text = "x" * (700 * 1024)
    for count, status in ((3, 413), (2, 200)):
        operations = [operation("Create", str(number), key, {"text": text}) for number in range(count)]
        answer = await bulk(emulator, operations, Prefer="return=minimal", **header)
        assert answer.status == status
        assert len([item async for item in many.read_all_items()]) == (0 if status == 413 else count)


@LARGE
async def test_what_finds_no_room_in_an_answer_of_4_mb_is_413_with_its_own_substatus(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    (key,) = keys_of(emulator, "0", 1)
    for name in ("1", "2"):
        await many.create_item({"id": name, "pk": key, "text": "x" * (1500 * 1024)})
    reads = [operation("Read", name, key) for name in ("1", "2", "1")]
    answer = await bulk(emulator, [*reads, operation("Create", "3", key)])
    assert codes(answer) == [200, 200, 413, 201]
    assert answer.json[2]["subStatusCode"] == 3402

    atomic = {"x-ms-documentdb-partitionkey": json.dumps([key]), "x-ms-cosmos-batch-atomic": "true"}
    answer = await bulk(emulator, [operation("Create", "4", key), *reads], **atomic)
    assert (answer.status, codes(answer)) == (207, [424, 424, 424, 413])
    changes = [operation("Upsert", name, key) for name in ("1", "2", "1", "4")]
    assert codes(await bulk(emulator, changes, Prefer="return=minimal", **atomic)) == [200, 200, 200, 201]


async def test_a_range_that_split_is_gone_for_all_and_a_key_of_another_range_for_itself(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    here, elsewhere = keys_of(emulator, "0", 1) + keys_of(emulator, "1", 1)
    answer = await bulk(emulator, [operation("Create", "1", here), operation("Create", "1", elsewhere)])
    assert codes(answer) == [201, 410]
    assert answer.json[1]["subStatusCode"] == 1002
    emulator.split("shop", "many", "0")
    gone = await bulk(emulator, [operation("Read", "1", here)])
    assert (gone.status, gone.substatus) == (410, 1002)


@pytest.mark.parametrize(
    ("operations", "status"),
    [
        ([], 400),
        ({"operationType": "Create"}, 400),
        ([1], 400),
        ([operation("Create", str(n)) for n in range(101)], 400),
        (b"[", 400),
    ],
)
async def test_bulk_requests_that_are_none(
    emulator: CosmosEmulator, many: ContainerProxy, operations: Any, status: int
) -> None:
    assert (await bulk(emulator, operations)).status == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"operationType": "Create", "partitionKey": '["{key}"]'},
        {"operationType": "Create", "partitionKey": '["{key}"]', "resourceBody": [1]},
        {"operationType": "Replace", "partitionKey": '["{key}"]', "resourceBody": {"id": "1", "pk": "{key}"}},
        {"operationType": "Delete", "partitionKey": '["{key}"]', "id": 7},
        {"operationType": "Patch", "partitionKey": '["{key}"]', "id": "1", "resourceBody": "set"},
        {"operationType": "Explode", "partitionKey": '["{key}"]', "id": "1"},
        {"operationType": "Read", "partitionKey": 7, "id": "1"},
        {"operationType": "Read", "partitionKey": "{", "id": "1"},
        {"operationType": "Read", "id": "1"},
    ],
)
async def test_an_operation_that_is_none_is_refused_by_itself(
    emulator: CosmosEmulator, many: ContainerProxy, wrong: Any
) -> None:
    (key,) = keys_of(emulator, "0", 1)
    sent = json.loads(json.dumps(wrong).replace("{key}", key))
    assert codes(await bulk(emulator, [operation("Create", "1", key), sent])) == [201, 400]


async def test_a_batch_that_is_not_atomic_takes_the_key_of_the_request(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    asked = {
        "x-ms-cosmos-is-batch-request": "true",
        "x-ms-cosmos-batch-atomic": "false",
        "x-ms-cosmos-batch-continue-on-error": "true",
    }
    operations = [{"operationType": "Create", "resourceBody": {"id": name, "pk": "a"}} for name in ("1", "1", "2")]
    keyed = {**asked, "x-ms-documentdb-partitionkey": '["a"]'}
    assert codes(await send(emulator, "POST", ITEMS, operations, keyed)) == [201, 409, 201]
    nowhere = await send(emulator, "POST", ITEMS, operations, asked)
    assert (nowhere.status, "partitionkeyrangeid" in nowhere.json["message"]) == (400, True)


# ---- patches


async def patch(emulator: CosmosEmulator, body: Any) -> Answer:
    return await send(emulator, "PATCH", f"{ITEMS}/1", body, {"x-ms-documentdb-partitionkey": '["a"]'})


async def test_a_patch_is_its_operations_or_an_object_with_them(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await many.create_item({"id": "1", "pk": "a", "n": 1})
    assert (await patch(emulator, [{"op": "incr", "path": "/n", "value": 1}])).json["n"] == 2
    conditional = {"condition": "from c where c.n = 2", "operations": [{"op": "set", "path": "/n", "value": 9}]}
    assert (await patch(emulator, conditional)).json["n"] == 9
    assert (await patch(emulator, conditional)).status == 412


@pytest.mark.parametrize(
    "body",
    [
        "set",
        7,
        [],
        {},
        [7],
        {"operations": {}},
        {"operations": [{"op": "set", "path": "/n", "value": 1}], "condition": 7},
        {"operations": [{"op": "set", "path": "/n", "value": 1}], "condition": "from c where exists(select 1)"},
        {"operations": [{"op": "set", "path": "/n", "value": 1}], "condition": "from c where count(c.n) > 1"},
        [{"op": "set", "path": "/n", "value": 1}] * 11,
        [{"op": "set", "path": "/list/²", "value": 1}],
        [{"op": "set", "path": 7, "value": 1}],
        [{"op": "set"}],
        [{"op": "incr", "path": "/big", "value": 1e308}],
        [{"op": "move", "from": "/pk", "path": "/n"}],
        [{"op": "move", "from": "/id", "path": "/n"}],
        [{"op": "move", "path": "/n"}],
        b"",
    ],
)
async def test_patches_that_are_none(emulator: CosmosEmulator, many: ContainerProxy, body: Any) -> None:
    before = await many.create_item({"id": "1", "pk": "a", "n": 1, "list": [1], "big": 1.7e308})
    assert (await patch(emulator, body)).status == 400
    assert await many.read_item("1", "a") == before


async def test_a_patch_cannot_move_an_item_by_replacing_what_holds_its_key(emulator: CosmosEmulator) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("shop")
        nested = await database.create_container("many", PartitionKey("/at/pk"))
        await nested.create_item({"id": "1", "at": {"pk": "a"}})
        answer = await patch(emulator, [{"op": "set", "path": "/at", "value": {"pk": "b"}}])
        assert (answer.status, answer.substatus) == (400, 1001)
