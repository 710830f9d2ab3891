"""The emulator, driven by the real SDK: what it serves, what it refuses, what it charges, and how it fails on order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.cosmos import CosmosClient as SyncCosmosClient
from azure.cosmos import PartitionKey, ThroughputProperties
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from tests.cosmos_emulator import CosmosEmulator
from tests.cosmos_emulator.charges import TABLE
from tests.cosmos_emulator.clock import Clock
from tests.cosmos_emulator.indexing import IndexingPolicy

LARGE_BODIES = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, beyond 1 MB
NO_INDEX = {"indexingMode": "none", "automatic": False}


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


async def fill(container: ContainerProxy, count: int = 20, keys: int = 7) -> list[dict[str, Any]]:
    items = [{"id": f"i{n:03}", "pk": f"p{n % keys}", "n": n, "even": n % 2 == 0} for n in range(count)]
    for item in items:
        await container.create_item(item, no_response=True)
    return items


async def query(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    values = options.pop("values", {})
    parameters = [{"name": f"@{name}", "value": value} for name, value in values.items()]
    return [row async for row in container.query_items(text, parameters=parameters, **options)]


async def feed(container: ContainerProxy, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """What the change feed has now, and the continuation to go on from."""
    pages = container.query_items_change_feed(**options).by_page()
    items = [item async for page in pages async for item in page]
    return items, container.client_connection.last_response_headers["etag"]


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def last(emulator: CosmosEmulator, kind: str) -> Any:
    return [record for record in emulator.requests if record.kind == kind][-1]


# ---- account, databases, containers


async def test_databases_and_containers_are_created_once_and_found_until_deleted(client: CosmosClient) -> None:
    database = await client.create_database("shop")
    with pytest.raises(CosmosResourceExistsError):
        await client.create_database("shop")
    await database.create_container("events", PartitionKey("/pk"), default_ttl=60)
    with pytest.raises(CosmosResourceExistsError):
        await database.create_container("events", PartitionKey("/pk"))
    assert [each["id"] async for each in client.list_databases()] == ["shop"]
    assert [each["id"] async for each in database.list_containers()] == ["events"]
    found = database.query_containers(
        "SELECT * FROM c WHERE c.id = @id", parameters=[{"name": "@id", "value": "events"}]
    )
    assert [each["defaultTtl"] async for each in found] == [60]
    await database.delete_container("events")
    with pytest.raises(CosmosResourceNotFoundError):
        await database.get_container_client("events").read()
    await client.delete_database("shop")
    with pytest.raises(CosmosResourceNotFoundError):
        await database.read()


async def test_indexing_policy_is_kept_and_completed(client: CosmosClient) -> None:
    database = await client.create_database("shop")
    policy = {
        "includedPaths": [{"path": "/seq/?"}],
        "excludedPaths": [{"path": "/*"}],
        "compositeIndexes": [[{"path": "/a"}, {"path": "/b", "order": "descending"}]],
    }
    container = await database.create_container("events", PartitionKey("/pk"), indexing_policy=policy)
    stored = (await container.read())["indexingPolicy"]
    assert stored["indexingMode"] == "consistent"
    assert stored["includedPaths"] == policy["includedPaths"]
    assert stored["compositeIndexes"][0][0] == {"path": "/a", "order": "ascending"}


async def test_throughput_decides_the_partitions_and_more_throughput_splits_them(
    client: CosmosClient, emulator: CosmosEmulator
) -> None:
    database = await client.create_database("shop")
    container = await database.create_container("big", PartitionKey("/pk"), offer_throughput=11_000)
    assert len(emulator.ranges("shop", "big")) == 2
    assert (await container.get_throughput()).offer_throughput == 11_000
    await container.replace_throughput(40_000)
    assert len(emulator.ranges("shop", "big")) == 4
    automatic = await database.create_container(
        "auto", PartitionKey("/pk"), offer_throughput=ThroughputProperties(auto_scale_max_throughput=4000)
    )
    assert (await automatic.get_throughput()).auto_scale_max_throughput == 4000


async def test_a_wrong_key_is_refused(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    wrong = "d3Jvbmc" + emulator.key[7:]
    client = CosmosClient(emulator.endpoint, wrong)
    with pytest.raises(CosmosHttpResponseError) as refused:
        await client.__aenter__()
    await client.close()  # a client that could not be entered still has a session
    assert refused.value.status_code == 401
    async with aiohttp.ClientSession() as session, session.get(emulator.endpoint + "dbs/shop") as response:
        assert response.status == 401


async def test_the_sync_client_is_served_too(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await fill(many)

    def work() -> list[int]:
        with SyncCosmosClient(emulator.endpoint, emulator.key) as client:
            container = client.get_database_client("shop").get_container_client("many")
            container.upsert_item({"id": "sync", "pk": "p", "n": 100})
            return list(
                container.query_items("SELECT VALUE c.n FROM c ORDER BY c.n DESC", enable_cross_partition_query=True)
            )

    assert (await asyncio.to_thread(work))[:3] == [100, 19, 18]


# ---- items


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


# ---- batches


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


# ---- queries


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT VALUE c.n FROM c WHERE c.n < 3", [0, 1, 2]),
        ("SELECT VALUE c.n FROM c WHERE NOT (c.n >= 3 OR c.even)", [1]),
        ("SELECT VALUE c.n FROM c WHERE c.n IN (2, 3, 99) AND c.id != 'i003'", [2]),
        ("SELECT VALUE c.n FROM c WHERE c.n BETWEEN 2 AND 4", [2, 3, 4]),
        ("SELECT VALUE c.n FROM c WHERE c.n NOT BETWEEN 1 AND 18", [0, 19]),
        ("SELECT VALUE c.n FROM c WHERE c.id LIKE '%00_' AND c.n % 3 = 0", [0, 3, 6, 9]),
        ("SELECT VALUE c.id FROM c WHERE STARTSWITH(c.id, 'I00', true) AND c.n > 7", ["i008", "i009"]),
        ("SELECT VALUE c.n FROM c WHERE CONTAINS(c.id, '01') AND ENDSWITH(c.id, '11')", [11]),
        ("SELECT VALUE c.n FROM c WHERE IS_DEFINED(c.missing) OR IS_NULL(c.n)", []),
        ("SELECT VALUE UPPER(c.id) FROM c WHERE LENGTH(c.id) = 4 AND LOWER(c.pk) = 'p0' AND c.n < 1", ["I000"]),
        ("SELECT VALUE c.n * 2 + 1 FROM c WHERE c.n < 2", [1, 3]),
        ("SELECT c.id, c.n AS number, {half: c.n / 2} AS more FROM c WHERE c.n = 3",
         [{"id": "i003", "number": 3, "more": {"half": 1.5}}]),
        ("SELECT c['n'], c.n + 1 FROM c WHERE c.n = 1", [{"n": 1, "$1": 2}]),
        ("SELECT VALUE [c.n, c.missing, c.even] FROM c WHERE c.n = 1", [[1, None, False]]),
        ("SELECT TOP 2 VALUE c.n FROM c", [0, 1]),
        ("SELECT DISTINCT VALUE c.even FROM c", [True, False]),
        ("SELECT VALUE c.n FROM c ORDER BY c.n DESC OFFSET 1 LIMIT 2", [18, 17]),
        ("SELECT VALUE COUNT(1) FROM c", [20]),
        ("SELECT COUNT(1) AS count, MAX(c.n) AS high FROM c WHERE c.even", [{"count": 10, "high": 18}]),
        ("SELECT VALUE AVG(c.n) FROM c", [9.5]),
        ("SELECT VALUE c.n = 1 ? 'one' : 'other' FROM c WHERE c.n < 2", ["other", "one"]),
        ("SELECT VALUE c.missing ?? 'none' FROM c WHERE c.n = 0", ["none"]),
        ("SELECT VALUE c.n FROM c WHERE c.n = '1' -- of another type", []),
        ("SELECT VALUE c.n FROM c WHERE c.n != '1' AND c.n < 1", []),
        ("SELECT VALUE c.n FROM c WHERE c.n != null AND c.n < 1", [0]),
    ],
)  # fmt: skip
async def test_sql_within_one_partition_key(one: ContainerProxy, text: str, rows: list[Any]) -> None:
    await fill(one, keys=1)
    assert await query(one, text, partition_key="p0") == rows


async def test_arrays_are_searched_and_joined(one: ContainerProxy) -> None:
    await one.create_item(
        {"id": "a", "pk": "p", "tags": [{"name": "x", "n": 1}, {"name": "y", "n": 2}], "plain": [1, 2]}
    )

    async def values(text: str) -> list[Any]:
        return await query(one, text, partition_key="p")

    assert await values("SELECT VALUE t.name FROM c JOIN t IN c.tags WHERE t.n > 1") == ["y"]
    assert await values("SELECT VALUE t.n FROM t IN c.tags") == [1, 2]
    assert await values("SELECT VALUE c.tags[1].name FROM c") == ["y"]
    assert await values("SELECT VALUE c.id FROM c WHERE ARRAY_CONTAINS(c.plain, 2)") == ["a"]
    assert await values("SELECT VALUE c.id FROM c WHERE ARRAY_CONTAINS(c.tags, {name: 'x'}, true)") == ["a"]
    assert await values("SELECT VALUE c.id FROM c WHERE ARRAY_CONTAINS(c.tags, {name: 'x'})") == []


async def test_values_of_all_types_have_one_order(one: ContainerProxy) -> None:
    for place, value in enumerate(["b", "a", 2, 1, True, False, None]):
        await one.create_item({"id": str(place), "pk": "p", "v": value})
    await one.create_item({"id": "undefined", "pk": "p"})  # left out: no index names the path
    rows = await query(one, "SELECT VALUE c.id FROM c ORDER BY c.v", partition_key="p")
    assert rows == ["6", "5", "4", "3", "2", "1", "0"]
    assert await query(one, "SELECT VALUE c.id FROM c ORDER BY c.v DESC", partition_key="p") == rows[::-1]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT VALUE c.n FROM c WHERE c.n >= @low ORDER BY c.n", [17, 18, 19]),
        ("SELECT VALUE c.n FROM c ORDER BY c.n DESC OFFSET 2 LIMIT 3", [17, 16, 15]),
        ("SELECT TOP 2 c.n FROM c ORDER BY c.n", [{"n": 0}, {"n": 1}]),
        ("SELECT VALUE COUNT(1) FROM c", [20]),
        ("SELECT VALUE SUM(c.n) FROM c", [190]),
        ("SELECT VALUE MIN(c.n) FROM c WHERE c.n >= @low", [17]),
        ("SELECT VALUE MAX(c.n) FROM c WHERE c.even", [18]),
        ("SELECT VALUE AVG(c.n) FROM c", [9.5]),
        ("SELECT DISTINCT VALUE c.even FROM c ORDER BY c.even", [False, True]),
    ],
)
async def test_sql_over_all_partitions(many: ContainerProxy, text: str, rows: list[Any]) -> None:
    await fill(many)
    assert await query(many, text, values={"low": 17}) == rows


async def test_pages_follow_each_other_by_continuation(many: ContainerProxy) -> None:
    await fill(many, count=30)
    seen: list[int] = []
    token = None
    for _ in range(30):
        pages: Any = many.query_items("SELECT VALUE c.n FROM c", max_item_count=4).by_page(token)
        page = [row async for row in await anext(pages)]
        assert len(page) <= 4
        seen += page
        token = pages.continuation_token
        if token is None:
            break
    assert sorted(seen) == list(range(30))


async def test_a_page_is_neither_repeated_nor_shifted_by_writes_in_between(one: ContainerProxy) -> None:
    await fill(one, count=10, keys=1)
    text = "SELECT VALUE c.n FROM c ORDER BY c.n"
    pages = one.query_items(text, partition_key="p0", max_item_count=5).by_page()
    first = [row async for row in await anext(pages)]
    await one.create_item({"id": "early", "pk": "p0", "n": -1})
    await one.delete_item("i000", "p0")
    rest = [row async for page in pages async for row in page]
    assert first + rest == list(range(10))


async def test_a_filter_on_the_partition_key_asks_one_partition(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await fill(many)
    emulator.reset()
    assert len(await query(many, "SELECT * FROM c WHERE c.pk = 'p1' AND c.n > 0")) == 3
    assert emulator.charges.requests_by_kind["query"] == 1
    emulator.reset()
    assert len(await query(many, "SELECT * FROM c WHERE c.n > 0")) == 19
    assert emulator.charges.requests_by_kind["query"] == 4


async def test_an_order_needs_its_index(client: CosmosClient) -> None:
    database = await client.create_database("shop")
    composite = [[{"path": "/name"}, {"path": "/n", "order": "descending"}]]
    policy = {"includedPaths": [{"path": "/n/?"}], "excludedPaths": [{"path": "/*"}], "compositeIndexes": composite}
    container = await database.create_container("many", PartitionKey("/pk"), indexing_policy=policy)
    for n in range(8):
        await container.create_item({"id": str(n), "pk": str(n), "name": "ab"[n % 2], "n": n})
    rows = await query(container, "SELECT VALUE c.n FROM c ORDER BY c.name ASC, c.n DESC")
    assert rows == [6, 4, 2, 0, 7, 5, 3, 1]
    assert await query(container, "SELECT VALUE c.n FROM c ORDER BY c.name DESC, c.n ASC") == rows[::-1]
    assert (await query(container, "SELECT VALUE c.n FROM c ORDER BY c.n DESC"))[0] == 7
    for order in ("c.name", "c.n, c.name", "c.name, c.n"):
        with pytest.raises(CosmosHttpResponseError) as refused:
            await query(container, f"SELECT * FROM c ORDER BY {order}")
        assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("SELECT * FROM c WHERE EXISTS(SELECT VALUE t FROM t IN c.tags ORDER BY t.n)", "ORDER BY"),
        ("SELECT VALUE udf.tax(c.n) FROM c", "user-defined functions"),
        ("SELECT * FROM c WHERE ST_DISTANCE(c.a, c.b) < 1", "ST_DISTANCE"),
        ("SELECT * FROM (SELECT * FROM c)", "subqueries"),
        ("SELECT VALUE c.n & 1 FROM c", "bitwise"),
        ("SELECT * FROM c ORDER BY c.n + 1", "ORDER BY"),
    ],
)
async def test_unsupported_sql_is_refused_by_name(one: ContainerProxy, text: str, feature: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match="does not support") as refused:
        await query(one, text, partition_key="p")
    assert refused.value.status_code == 501
    assert feature in str(refused.value)


@pytest.mark.parametrize(
    "text", ["SELEC * FROM c", "SELECT c.value FROM c", "SELECT * FROM c WHERE", "SELECT x.n FROM c"]
)
async def test_wrong_sql_is_a_bad_request(one: ContainerProxy, text: str) -> None:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await query(one, text, partition_key="p")
    assert refused.value.status_code == 400


async def test_stored_procedures_are_refused(one: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError, match="sprocs") as refused:
        await one.scripts.create_stored_procedure({"id": "s", "body": "function () {}"})
    assert refused.value.status_code == 501


# ---- ranges, splits, merges


async def test_ranges_are_read_until_not_modified(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    ranges = [each async for each in many.read_feed_ranges()]
    assert len(ranges) == 4
    reads = [record.status for record in emulator.requests if record.kind == "read_ranges"]
    assert reads == [200, 304]
    emulator.split("shop", "many", "1")
    assert len([each async for each in many.read_feed_ranges(force_refresh=True)]) == 5


async def test_queries_survive_a_split(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await fill(one)
    assert len(await query(one, "SELECT * FROM c ORDER BY c.n")) == 20
    assert {record.kind for record in emulator.requests} >= {"query", "query_plan", "read_ranges"}
    children = emulator.split("shop", "one", "0")
    assert children == emulator.ranges("shop", "one") == ["1", "2"]
    partitions = emulator.container("shop", "one").partitions
    assert all(any(partition.items()) for partition in partitions)
    assert await query(one, "SELECT VALUE c.n FROM c ORDER BY c.n") == list(range(20))
    assert (await one.read_item("i003", "p3"))["n"] == 3
    gone = [record for record in emulator.requests if record.status == 410]
    assert {record.substatus for record in gone} == {1002}


async def test_only_neighbours_merge(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    await fill(many)
    with pytest.raises(Exception, match="not neighbours"):
        emulator.merge("shop", "many", "0", "2")
    assert emulator.merge("shop", "many", "0", "1") == "4"
    assert sorted(await query(many, "SELECT VALUE c.n FROM c")) == list(range(20))


async def test_the_admin_route_splits_and_merges(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    place = "database=shop&container=many"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{emulator.endpoint}_emulator/split?{place}&range=0") as response:
            assert (await response.json())["ranges"] == ["4", "5", "1", "2", "3"]
        async with session.post(f"{emulator.endpoint}_emulator/merge?{place}&ranges=4,5") as response:
            assert (await response.json())["ranges"] == ["6", "1", "2", "3"]
        async with session.get(f"{emulator.endpoint}_emulator/charges") as response:
            assert (await response.json())["total"] == emulator.charges.total


# ---- change feed


async def test_the_feed_shows_each_item_once_in_the_order_of_its_last_write(
    emulator: CosmosEmulator, one: ContainerProxy
) -> None:
    before = emulator.container("shop", "one").partitions[0].lsn
    for name in "abc":
        await one.create_item({"id": name, "pk": "p"})
    await one.upsert_item({"id": "a", "pk": "p", "again": True})
    await one.delete_item("b", "p")
    items, token = await feed(one, start_time="Beginning")
    assert [(item["id"], item["_lsn"]) for item in items] == [("c", before + 3), ("a", before + 4)]
    assert (await feed(one, continuation=token))[0] == []
    await one.create_item({"id": "d", "pk": "p"})
    assert ids((await feed(one, continuation=token))[0]) == ["d"]


async def test_the_feed_can_begin_now_or_at_a_time(one: ContainerProxy, clock: Clock) -> None:
    await one.create_item({"id": "early", "pk": "p"})
    nothing, token = await feed(one, start_time="Now")
    clock.now += 100
    await one.create_item({"id": "late", "pk": "p"})
    assert nothing == []
    assert ids((await feed(one, continuation=token))[0]) == ["late"]
    at = datetime.fromtimestamp(clock.now - 50, UTC)
    assert ids((await feed(one, start_time=at))[0]) == ["late"]


async def test_the_feed_comes_in_pages_that_never_cut_a_transaction(one: ContainerProxy) -> None:
    await one.execute_item_batch([("create", ({"id": f"b{n}", "pk": "p"},)) for n in range(5)], "p")
    await one.create_item({"id": "single", "pk": "p"})
    pages = one.query_items_change_feed(start_time="Beginning", max_item_count=2).by_page()
    sizes = [len([item async for item in page]) async for page in pages]
    assert sizes == [5, 1]


async def test_the_feed_of_a_range_and_of_a_key(many: ContainerProxy) -> None:
    items = await fill(many)
    ranges = [each async for each in many.read_feed_ranges()]
    by_range = [ids((await feed(many, feed_range=each, start_time="Beginning"))[0]) for each in ranges]
    assert sorted(name for names in by_range for name in names) == ids(items)
    by_key, _ = await feed(many, partition_key="p3", start_time="Beginning")
    assert [item["n"] for item in by_key] == [3, 10, 17]


async def test_an_empty_feed_answers_304_with_an_etag(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    etags: list[str] = []
    feed_of = one.query_items_change_feed(
        start_time="Beginning", response_hook=lambda headers, _: etags.append(headers["etag"])
    )
    assert [item async for item in feed_of] == []
    assert last(emulator, "change_feed").status == 304
    assert etags[0] == f'"{emulator.container("shop", "one").partitions[0].lsn}"'


async def test_a_reader_goes_on_after_a_split_and_a_merge(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await fill(one, count=10)
    (whole,) = [each async for each in one.read_feed_ranges()]
    seen, token = await feed(one, feed_range=whole, start_time="Beginning")
    children = emulator.split("shop", "one", "0")
    for n in range(10, 30):
        await one.create_item({"id": f"i{n:03}", "pk": f"p{n % 7}", "n": n})
    after_split, token = await feed(one, continuation=token)
    assert sorted(ids(seen + after_split)) == [f"i{n:03}" for n in range(30)]
    emulator.merge("shop", "one", *children)
    await one.create_item({"id": "i030", "pk": "p0"})
    after_merge, _ = await feed(one, continuation=token)
    assert ids(after_merge) == ["i030"]


async def test_versions_and_deletes_are_kept_only_where_asked_for(one: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError, match="keeps no versions") as refused:
        await feed(one, mode="AllVersionsAndDeletes")
    assert refused.value.status_code == 400


# ---- charges


@pytest.mark.parametrize(("size", "read", "insert"), TABLE[:-1])
async def test_charges_are_the_published_ones(
    emulator: CosmosEmulator, client: CosmosClient, size: int, read: float, insert: float
) -> None:
    database = await client.create_database("shop")
    container = await database.create_container("plain", PartitionKey("/pk"), indexing_policy=NO_INDEX)
    empty = await container.create_item({"id": "probe", "pk": "p", "data": ""})
    padding = size - len(json.dumps(dict(empty), separators=(",", ":")))
    item = {"id": "sized", "pk": "p", "data": "x" * padding}
    await container.create_item(item)
    assert last(emulator, "create_item").charge == pytest.approx(insert)
    await container.read_item("sized", "p")
    assert last(emulator, "read_item").charge == pytest.approx(read)
    await container.replace_item("sized", item)
    assert last(emulator, "replace_item").charge == pytest.approx(2 * insert, abs=0.011)
    await container.delete_item("sized", "p")
    assert last(emulator, "delete_item").charge == pytest.approx(insert)


async def test_terms_queries_and_feeds_are_charged(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    created = await many.create_item({"id": "a", "pk": "p", "n": 1, "tags": ["x", "y"], "deep": {"er": 1}})
    assert float(created.get_response_headers()["x-ms-request-charge"]) == pytest.approx(4.95 + 5 * 0.2)
    emulator.reset()
    await query(many, "SELECT VALUE COUNT(1) FROM c")
    assert emulator.charges.total == pytest.approx(4 * 2.8)
    emulator.reset()
    await feed(many, start_time="Beginning")
    calls = emulator.charges.requests_by_kind["change_feed"]
    assert emulator.charges.total == pytest.approx(2 * calls + 1)
    await many.patch_item("a", "p", [{"op": "set", "path": "/n", "value": 2}, {"op": "add", "path": "/m", "value": 1}])
    assert last(emulator, "patch_item").charge == pytest.approx(2 * 4.95 + (1 + 2) * 0.2 + 2 * 0.4)


def test_terms_follow_the_most_exact_path() -> None:
    policy = IndexingPolicy(
        {
            "includedPaths": [{"path": "/seq/?"}, {"path": "/data/kept/*"}],
            "excludedPaths": [{"path": "/*"}, {"path": "/data/*"}],
            "compositeIndexes": [[{"path": "/a"}, {"path": "/b"}]],
        }
    )
    body = {"id": "1", "seq": 1, "other": 2, "data": {"x": 1, "kept": {"y": 1, "z": [1, 2]}}, "_ts": 3}
    assert policy.terms(body).total() == 1 + 3 + 1
    assert IndexingPolicy(None).terms(body).total() == 6
    assert not IndexingPolicy(NO_INDEX).terms(body)


# ---- faults


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


# ---- as a process


def test_the_process_prints_its_endpoint_and_stops_on_a_signal() -> None:
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cosmos_emulator", "--port", "0"], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint.startswith("http://127.0.0.1:")
        process.terminate()
        assert process.wait(10) == 0
