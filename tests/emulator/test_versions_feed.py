"""The emulator's change feed of all versions and deletes, through the real SDK and by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.cosmos_emulator import CosmosEmulator
from tests.cosmos_emulator.clock import Clock
from tests.emulator.cosmos_wire import Answer, send

MODE: Any = "AllVersionsAndDeletes"
KEPT = {"retentionDuration": 10}
ITEMS = "dbs/shop/colls/one/docs"


@pytest.fixture
async def emulator(clock: Clock) -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 3}, clock=clock) as emulator:
        yield emulator


@pytest.fixture
async def shop(emulator: CosmosEmulator) -> AsyncIterator[DatabaseProxy]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield await client.create_database("shop")


@pytest.fixture
async def one(shop: DatabaseProxy) -> ContainerProxy:
    return await shop.create_container("one", PartitionKey("/pk"), change_feed_policy=KEPT, default_ttl=-1)


async def feed(container: ContainerProxy, **options: Any) -> tuple[list[Any], str]:
    """What there is, and the continuation to go on from."""
    pages = container.query_items_change_feed(**options).by_page()
    found = [item async for page in pages async for item in page]
    return found, container.client_connection.last_response_headers["etag"]


async def by_hand(emulator: CosmosEmulator, **headers: str) -> Answer:
    asked = {
        "A-IM": "Full-Fidelity Feed",
        "x-ms-cosmos-changefeed-wire-format-version": "2021-09-15",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return await send(emulator, "GET", ITEMS, None, asked)


def told(entries: list[Any]) -> list[tuple[str, str]]:
    """What happened to which item."""
    return [(each["metadata"]["operationType"], each.get("current", each["metadata"]).get("id")) for each in entries]


async def test_every_version_and_every_delete_is_told_in_order(
    emulator: CosmosEmulator, one: ContainerProxy, clock: Clock
) -> None:
    await one.create_item({"id": "before", "pk": "p"})
    nothing, token = await feed(one, mode=MODE)
    assert nothing == []
    await one.create_item({"id": "a", "pk": "p", "n": 1})
    lsn = emulator.container("shop", "one").partitions[0].lsn
    clock.now += 5
    await one.upsert_item({"id": "a", "pk": "p", "n": 2})
    await one.patch_item("a", "p", [{"op": "incr", "path": "/n", "value": 1}])
    await one.delete_item("a", "p")
    found, _ = await feed(one, continuation=token)
    assert told(found) == [("create", "a"), ("replace", "a"), ("replace", "a"), ("delete", "a")]
    assert [each["current"]["n"] for each in found[:3]] == [1, 2, 3]
    assert found[0]["metadata"] == {"operationType": "create", "lsn": lsn, "crts": 1_700_000_000}
    assert found[1]["metadata"] == {
        "operationType": "replace", "lsn": lsn + 1, "crts": 1_700_000_005, "previousImageLSN": lsn
    }  # fmt: skip
    assert found[3] == {
        "metadata": {
            "operationType": "delete",
            "lsn": lsn + 3,
            "crts": 1_700_000_005,
            "previousImageLSN": lsn + 2,
            "id": "a",
            "partitionKey": {"pk": "p"},
        }
    }
    latest, _ = await feed(one, start_time="Beginning")
    assert [item["id"] for item in latest] == ["before"]


async def test_what_is_over_time_is_told_as_such(one: ContainerProxy, clock: Clock) -> None:
    _, token = await feed(one, mode=MODE)
    await one.create_item({"id": "a", "pk": "p", "ttl": 10})
    clock.now += 11
    found, _ = await feed(one, continuation=token)
    assert told(found) == [("create", "a"), ("delete", "a")]
    assert found[1]["metadata"]["timeToLiveExpired"] is True
    assert found[1]["metadata"]["lsn"] > found[1]["metadata"]["previousImageLSN"]


async def test_a_transaction_is_told_as_one_and_never_cut(one: ContainerProxy) -> None:
    _, token = await feed(one, mode=MODE)
    await one.execute_item_batch([("create", ({"id": name, "pk": "p"},)) for name in "abc"], "p")
    await one.create_item({"id": "d", "pk": "p"})
    pages = one.query_items_change_feed(continuation=token, max_item_count=1).by_page()
    found = [told([each async for each in page]) for page in [page async for page in pages]]
    assert [len(page) for page in found if page] == [3, 1]


async def test_nothing_is_lost_over_a_split(emulator: CosmosEmulator, shop: DatabaseProxy) -> None:
    many = await shop.create_container("many", PartitionKey("/pk"), change_feed_policy=KEPT)
    tokens = [(await feed(many, mode=MODE, feed_range=each))[1] async for each in many.read_feed_ranges()]
    names = [f"i{n}" for n in range(30)]
    for name in names:
        await many.create_item({"id": name, "pk": name})
        await many.delete_item(name, name)
    emulator.split("shop", "many", "1")
    found: list[Any] = []
    for token in tokens:
        found += (await feed(many, continuation=token))[0]
    assert sorted(told(found)) == sorted((kind, name) for kind in ("create", "delete") for name in names)
    with pytest.raises(Exception, match="not merged"):
        emulator.merge("shop", "many", "3", "4")


async def test_one_key_has_its_own_feed(one: ContainerProxy) -> None:
    _, token = await feed(one, mode=MODE, partition_key="p")
    for key in "pqp":
        await one.upsert_item({"id": "a", "pk": key})
    found, _ = await feed(one, continuation=token, partition_key="p")
    assert [(kind, each["current"]["pk"]) for (kind, _), each in zip(told(found), found, strict=True)] == [
        ("create", "p"),
        ("replace", "p"),
    ]


async def test_only_what_is_kept_can_be_read(
    emulator: CosmosEmulator, shop: DatabaseProxy, one: ContainerProxy, clock: Clock
) -> None:
    _, token = await feed(one, mode=MODE)
    await one.create_item({"id": "a", "pk": "p"})
    clock.now += 601
    await one.create_item({"id": "b", "pk": "p"})
    with pytest.raises(CosmosHttpResponseError, match="within the retention period") as refused:
        await feed(one, continuation=token)
    assert refused.value.status_code == 400
    await shop.replace_container("one", PartitionKey("/pk"), default_ttl=-1)  # without the policy
    assert (await by_hand(emulator, If_None_Match="*")).status == 400


async def test_it_begins_when_the_policy_is_set(emulator: CosmosEmulator, shop: DatabaseProxy) -> None:
    one = await shop.create_container("one", PartitionKey("/pk"))
    await one.create_item({"id": "a", "pk": "p"})
    lsn = emulator.container("shop", "one").partitions[0].lsn
    settings = await one.read()
    body = {**settings, "changeFeedPolicy": KEPT}
    assert (await send(emulator, "PUT", "dbs/shop/colls/one", body)).status == 200
    assert (await by_hand(emulator, If_None_Match=f'"{lsn - 1}"')).status == 400  # before it kept anything
    assert (await by_hand(emulator, If_None_Match=f'"{lsn}"')).status == 304


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),  # from the beginning
        ({"If_Modified_Since": "Mon, 01 Jan 2024 00:00:00 GMT"}, 400),
        ({"If_None_Match": '"abc"'}, 400),
        ({"If_None_Match": '"²"'}, 400),
        ({"If_None_Match": "*", "x_ms_cosmos_changefeed_wire_format_version": ""}, 501),
        ({"If_None_Match": "*", "A_IM": "Other feed"}, 501),
        ({"If_None_Match": "*"}, 304),
    ],
)
async def test_where_reading_may_begin(
    emulator: CosmosEmulator, one: ContainerProxy, headers: dict[str, str], status: int
) -> None:
    await one.create_item({"id": "a", "pk": "p"})
    assert (await by_hand(emulator, **headers)).status == status


@pytest.mark.parametrize("policy", [{"retentionDuration": "long"}, {"retentionDuration": -1}, {"keep": 1}, [1]])
async def test_a_policy_names_minutes(emulator: CosmosEmulator, shop: DatabaseProxy, policy: Any) -> None:
    body = {"id": "two", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}, "changeFeedPolicy": policy}
    assert (await send(emulator, "POST", "dbs/shop/colls", body)).status == 400


async def test_what_is_older_than_the_retention_is_not_kept_though_nobody_reads(
    emulator: CosmosEmulator, clock: Clock, one: ContainerProxy
) -> None:
    versions = emulator.container("shop", "one").partitions[0].versions
    assert versions is not None
    _, begin = await feed(one, mode=MODE)
    for number in range(30):
        clock.now += 60
        await one.upsert_item({"id": "a", "pk": "p", "n": number})
    assert versions.kept <= 11  # ten minutes, and the write of this one
    with pytest.raises(CosmosHttpResponseError, match="within the retention period"):
        await feed(one, mode=MODE, continuation=begin)


async def test_a_page_begins_where_the_last_one_ended_whatever_is_kept(
    emulator: CosmosEmulator, one: ContainerProxy
) -> None:
    _, begin = await feed(one, mode=MODE)
    for number in range(7):
        await one.upsert_item({"id": "a", "pk": "p", "n": number})
    found, later = await feed(one, mode=MODE, continuation=begin)
    assert [each["current"]["n"] for each in found] == list(range(7))
    await one.upsert_item({"id": "a", "pk": "p", "n": 7})
    found, _ = await feed(one, mode=MODE, continuation=later)
    assert [each["current"]["n"] for each in found] == [7]
