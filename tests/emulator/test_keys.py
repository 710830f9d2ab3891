"""The emulator's partition keys of version 1, and what a logical partition holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import (
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_emulator.clock import Clock
from tests.cosmos_emulator.partition_keys import PREFIX_BYTES, PartitionKeyDefinition

COMMON = "orders|" + "x" * (PREFIX_BYTES - 7)
FIRST, SECOND = COMMON + "|run-1", COMMON + "|run-2"
VERSION_1 = PartitionKey("/pk", version=1)
VERSION_2 = PartitionKey("/pk")
LIMIT = 4000


@pytest.fixture
def switches() -> Switches:
    return Switches(logical_partition_bytes=LIMIT)


@pytest.fixture
async def emulator(clock: Clock, switches: Switches) -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 4}, clock=clock, switches=switches) as emulator:
        yield emulator


@pytest.fixture
async def database(emulator: CosmosEmulator) -> AsyncIterator[DatabaseProxy]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield await client.create_database("shop")


@pytest.fixture
async def old(database: DatabaseProxy) -> ContainerProxy:
    """A container with a partition key of version 1."""
    return await database.create_container("old", VERSION_1)


@pytest.fixture
async def new(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container("new", VERSION_2)


async def names(container: ContainerProxy, query: str = "SELECT * FROM c", **options: Any) -> list[str]:
    return sorted([item["id"] async for item in container.query_items(query, **options)])


# ---- version 1


def definition(**values: Any) -> PartitionKeyDefinition:
    return PartitionKeyDefinition.parse({"paths": ["/pk"], "kind": "Hash", **values})


def test_a_definition_without_a_version_has_version_1() -> None:
    assert definition().logical_key((FIRST,)) == definition().logical_key((SECOND,))
    assert definition(version=1).effective_key((FIRST,)) == definition().effective_key((SECOND,))
    assert definition(version=2).logical_key((FIRST,)) != definition(version=2).logical_key((SECOND,))


@pytest.mark.parametrize(
    ("first", "second"), [("é" * 50 + "ab", "é" * 50 + "ac"), ("€" * 33 + "aab", "€" * 33 + "aac")]
)
def test_bytes_count_and_not_characters(first: str, second: str) -> None:
    assert definition().logical_key((first,)) == definition().logical_key((second,))
    assert definition().effective_key((first,)) == definition().effective_key((second,))


def test_what_differs_within_the_first_101_bytes_is_two_keys() -> None:
    keys = {definition().logical_key(("x" * 100 + last,)) for last in "abc"}
    assert len(keys) == 3
    assert definition().logical_key((1,)) == definition().logical_key((1.0,)) != definition().logical_key(("1",))


async def test_two_keys_with_one_beginning_share_their_ids(old: ContainerProxy) -> None:
    await old.create_item({"id": "a", "pk": FIRST, "run": 1})
    with pytest.raises(CosmosResourceExistsError):
        await old.create_item({"id": "a", "pk": SECOND, "run": 2})
    assert (await old.read_item("a", SECOND))["run"] == 1
    await old.upsert_item({"id": "a", "pk": SECOND, "run": 2})
    assert (await old.read_item("a", FIRST))["run"] == 2
    await old.delete_item("a", FIRST)
    with pytest.raises(CosmosResourceNotFoundError):
        await old.read_item("a", SECOND)


async def test_a_query_by_key_returns_both(old: ContainerProxy) -> None:
    await old.create_item({"id": "a", "pk": FIRST})
    await old.create_item({"id": "b", "pk": SECOND})
    assert await names(old, partition_key=FIRST) == ["a", "b"]
    assert await names(old, f"SELECT * FROM c WHERE c.pk = '{FIRST}'") == ["a"]
    feed = old.query_items_change_feed(start_time="Beginning", partition_key=SECOND)
    assert [item["id"] async for item in feed] == ["a", "b"]


async def test_a_batch_writes_into_the_partition_of_both(old: ContainerProxy) -> None:
    await old.create_item({"id": "a", "pk": FIRST})
    with pytest.raises(CosmosBatchOperationError) as error:
        await old.execute_item_batch([("create", ({"id": "a", "pk": SECOND},))], SECOND)
    assert error.value.status_code == 409


async def test_the_key_of_the_request_must_still_be_that_of_the_item(old: ContainerProxy) -> None:
    with pytest.raises(CosmosBatchOperationError) as error:
        await old.execute_item_batch([("create", ({"id": "a", "pk": FIRST},))], SECOND)
    assert error.value.status_code == 400


async def test_a_unique_key_holds_over_both(database: DatabaseProxy) -> None:
    unique = {"uniqueKeys": [{"paths": ["/name"]}]}
    old = await database.create_container("unique", VERSION_1, unique_key_policy=unique)
    await old.create_item({"id": "a", "pk": FIRST, "name": "n"})
    with pytest.raises(CosmosResourceExistsError):
        await old.create_item({"id": "b", "pk": SECOND, "name": "n"})


async def test_keys_of_version_2_are_kept_apart(new: ContainerProxy) -> None:
    await new.create_item({"id": "a", "pk": FIRST})
    await new.create_item({"id": "a", "pk": SECOND})
    assert await names(new, partition_key=FIRST) == ["a"]


@pytest.mark.parametrize("switches", [Switches(key_versions=False)])
async def test_without_the_rule_keys_of_version_1_are_kept_apart(old: ContainerProxy) -> None:
    await old.create_item({"id": "a", "pk": FIRST})
    await old.create_item({"id": "a", "pk": SECOND})


@pytest.mark.parametrize("version", [0, 3, "2", None, [], True])
async def test_a_version_that_is_not_there_is_refused(database: DatabaseProxy, version: Any) -> None:
    with pytest.raises(CosmosHttpResponseError) as error:
        await database.create_container("odd", PartitionKey("/pk", version=version))
    assert error.value.status_code == 400


async def test_keys_of_version_1_are_spread_and_split(emulator: CosmosEmulator, database: DatabaseProxy) -> None:
    many = await database.create_container("many", VERSION_1)
    for n in range(60):
        await many.create_item({"id": f"i{n}", "pk": f"p{n}"})
    counts = [len(list(each.items())) for each in emulator.container("shop", "many").partitions]
    assert all(5 < count < 30 for count in counts)
    children = emulator.split("shop", "many", "1")
    partitions = {each.id: each for each in emulator.container("shop", "many").partitions}
    assert all(list(partitions[child].items()) for child in children)
    assert len(await names(many)) == 60
    for n in range(60):
        assert await many.read_item(f"i{n}", f"p{n}")
        assert await names(many, partition_key=f"p{n}") == [f"i{n}"]


# ---- the size of a logical partition


def item(name: str, key: str = "p", size: int = 1000) -> dict[str, Any]:
    return {"id": name, "pk": key, "value": "x" * size}


async def refused(attempt: Any) -> None:
    with pytest.raises(CosmosHttpResponseError, match="Partition key reached maximum size of") as error:
        await attempt
    assert (error.value.status_code, error.value.sub_status) == (403, 1014)


async def test_a_full_logical_partition_takes_nothing_more(new: ContainerProxy) -> None:
    for name in "abc":
        await new.create_item(item(name))
    await refused(new.create_item(item("d")))
    await refused(new.upsert_item(item("d")))
    await refused(new.replace_item("a", item("a", size=2500)))
    await refused(new.patch_item("a", "p", [{"op": "set", "path": "/more", "value": "x" * 1500}]))
    assert await names(new, partition_key="p") == ["a", "b", "c"]
    await new.create_item(item("d", "q"))  # another one has room


async def test_what_makes_it_no_larger_is_taken(new: ContainerProxy) -> None:
    for name in "abc":
        await new.create_item(item(name))
    await new.upsert_item(item("a", size=900))
    await new.replace_item("a", item("a", size=900))
    await new.delete_item("a", "p")
    await new.create_item(item("d"))
    await refused(new.create_item(item("e")))


async def test_what_is_too_large_already_may_shrink(emulator: CosmosEmulator, new: ContainerProxy) -> None:
    for name in "abc":
        await new.create_item(item(name))
    emulator.container("shop", "new").logical_partition_bytes = 1000
    await new.replace_item("a", item("a", size=500))
    await new.delete_item("b", "p")
    await refused(new.replace_item("a", item("a", size=600)))


async def test_a_batch_that_would_not_fit_leaves_nothing(new: ContainerProxy) -> None:
    with pytest.raises(CosmosBatchOperationError) as error:
        await new.execute_item_batch([("create", (item(name),)) for name in "abcdef"], "p")
    responses = error.value.operation_responses
    assert [each["statusCode"] for each in responses] == [424, 424, 424, 403, 424, 424]
    assert responses[3]["subStatusCode"] == 1014
    assert await names(new, partition_key="p") == []


async def test_a_batch_that_first_makes_room_fits(new: ContainerProxy) -> None:
    for name in "abc":
        await new.create_item(item(name))
    await new.execute_item_batch([("delete", ("a",)), ("create", (item("d"),))], "p")
    assert await names(new, partition_key="p") == ["b", "c", "d"]


async def test_what_expires_makes_room(database: DatabaseProxy, clock: Clock) -> None:
    brief = await database.create_container("brief", VERSION_2, default_ttl=5)
    for name in "abc":
        await brief.create_item(item(name))
    await refused(brief.create_item(item("d")))
    clock.now += 6
    await brief.create_item(item("d"))


async def test_a_split_gives_no_room_to_a_logical_partition(emulator: CosmosEmulator, new: ContainerProxy) -> None:
    for name in "abc":
        await new.create_item(item(name))
    emulator.split("shop", "new")
    await refused(new.create_item(item("d")))


async def test_keys_of_version_1_fill_one_partition_together(old: ContainerProxy) -> None:
    await old.create_item(item("a", FIRST, 800))
    await old.create_item(item("b", FIRST, 800))
    await old.create_item(item("c", SECOND, 800))
    await refused(old.create_item(item("d", SECOND, 800)))


@pytest.mark.parametrize("switches", [Switches(sizes=False, logical_partition_bytes=LIMIT)])
async def test_without_the_rule_there_is_no_limit(new: ContainerProxy) -> None:
    for name in "abcdef":
        await new.create_item(item(name))


@pytest.mark.parametrize("switches", [Switches()])
async def test_the_limit_is_20_gb(emulator: CosmosEmulator, new: ContainerProxy) -> None:
    assert emulator.container("shop", "new").logical_partition_bytes == 20 * 1024**3
    emulator.container("shop", "new").logical_partition_bytes = 0
    with pytest.raises(CosmosHttpResponseError, match="Partition key reached maximum size of 0 GB"):
        await new.create_item(item("a"))
