"""What the test server charges and serves in a second: the published rules, one by one, and budgets that run out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey, ThroughputProperties
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_emulator.charges import TABLE, insert, point_read
from tests.cosmos_emulator.indexing import IndexingPolicy

from .sdk import feed, query

PRICES = Switches()
NO_INDEX: Any = {"indexingMode": "none", "automatic": False}
TEN_TERMS = {f"p{n}": n for n in range(9)}  # and the partition key


class Clock:
    """Seconds that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def account(
    switches: Switches = PRICES, clock: Clock | None = None, **options: Any
) -> AsyncIterator[tuple[CosmosEmulator, DatabaseProxy]]:
    """An account with a database; the SDK does not wait as a 429 says, so that the clock of the test decides."""
    emulator = CosmosEmulator(switches=switches, monotonic=clock or Clock(), **options)
    async with emulator, CosmosClient(emulator.endpoint, emulator.key, retry_fixed_interval=1) as client:
        yield emulator, await client.create_database("shop")


def last(emulator: CosmosEmulator, kind: str) -> float:
    return [record for record in emulator.requests if record.kind == kind][-1].charge


def charged(emulator: CosmosEmulator) -> list[tuple[str, int, int]]:
    return [(record.kind, record.status, record.substatus) for record in emulator.requests]


# ---- writes


async def test_the_pages_examples_cost_what_the_page_says() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        item = {"id": "a", "pk": "p", **TEN_TERMS}
        await container.create_item(item)
        assert last(emulator, "create_item") == pytest.approx(4.95 + 0.2 * 10)  # the page: 5.0 + 0.2 × 10 = 7
        await container.replace_item("a", {**item, "p1": "changed", "p2": "changed"})
        assert last(emulator, "replace_item") == pytest.approx(2 * 4.95 + 0.2 * 2 + 0.2 * 2)  # 10.8
        changes = [{"op": "set", "path": f"/p{n}", "value": "again"} for n in (1, 2)]
        await container.patch_item("a", "p", changes)
        assert last(emulator, "patch_item") == pytest.approx(2 * 4.95 + 0.2 * 2 + 0.2 * 2 + 0.4 * 2)  # 11.6
        await container.delete_item("a", "p")
        assert last(emulator, "delete_item") == pytest.approx(4.95 + 0.2 * 10)  # 7


async def test_an_item_that_is_put_back_unchanged_pays_for_no_term() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        item = {"id": "a", "pk": "p", **TEN_TERMS}
        await container.create_item(item)
        await container.upsert_item(item)
        assert last(emulator, "upsert_item") == pytest.approx(2 * 4.95)


async def test_a_replace_deletes_the_old_size_and_inserts_the_new_one() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"), indexing_policy=NO_INDEX)
        small = await container.create_item({"id": "a", "pk": "p"})
        large = await container.replace_item("a", {"id": "a", "pk": "p", "data": "x" * 100_000})
        sizes = [len(json.dumps(dict(each), separators=(",", ":"))) for each in (small, large)]
        both = sum(insert(size, 0) for size in sizes)
        assert last(emulator, "replace_item") == pytest.approx(both, abs=0.01)
        await container.replace_item("a", {"id": "a", "pk": "p"})
        assert last(emulator, "replace_item") == pytest.approx(both, abs=0.01)


@pytest.mark.parametrize(
    ("policy", "terms"),
    [
        pytest.param({"includedPaths": [{"path": "/*"}]}, 2, id="what the item has"),
        pytest.param(
            {"includedPaths": [{"path": "/gone/?"}, {"path": "/n/?"}], "excludedPaths": [{"path": "/*"}]},
            2,
            id="an included path that it lacks",
        ),
        pytest.param(
            {"includedPaths": [{"path": "/gone/*"}], "excludedPaths": [{"path": "/*"}]}, 1, id="a tree that it lacks"
        ),
        pytest.param(
            {
                "includedPaths": [{"path": "/n/?"}],
                "excludedPaths": [{"path": "/*"}],
                "compositeIndexes": [[{"path": "/n"}, {"path": "/gone"}], [{"path": "/here"}, {"path": "/neither"}]],
            },
            3,
            id="a composite index, whatever it lacks",
        ),
        pytest.param({"indexingMode": "none", "automatic": False}, 0, id="no index"),
    ],
)
async def test_each_of_these_is_a_term(policy: dict[str, Any], terms: int) -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"), indexing_policy=policy)
        await container.create_item({"id": "a", "pk": "p", "n": 1})
        assert last(emulator, "create_item") == pytest.approx(4.95 + 0.2 * terms)
        await container.delete_item("a", "p")
        assert last(emulator, "delete_item") == pytest.approx(4.95 + 0.2 * terms)


def test_a_change_of_one_part_of_a_composite_changes_its_term() -> None:
    policy = IndexingPolicy(
        {
            "includedPaths": [{"path": "/a/?"}],
            "excludedPaths": [{"path": "/*"}],
            "compositeIndexes": [[{"path": "/a"}, {"path": "/b"}]],
        }
    )
    before, after = policy.terms({"a": 1, "b": 1}), policy.terms({"a": 1, "b": 2})
    assert (before - after).total() == (after - before).total() == 1
    assert policy.terms({"a": 1, "b": True}) != before, "true is not 1"


async def test_a_composite_through_an_array_has_a_term_for_each_element() -> None:
    policy = IndexingPolicy(
        {"includedPaths": [{"path": "/*"}], "compositeIndexes": [[{"path": "/name"}, {"path": "/kids/[]/age"}]]}
    )
    one, three = ({"name": "n", "kids": [{"age": age} for age in range(count)]} for count in (1, 3))
    assert policy.terms(three).total() - policy.terms(one).total() == 2 * 2


async def test_writes_multiply_with_the_regions_and_reads_do_not() -> None:
    async with account(Switches(regions=3)) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "a", "pk": "p"})
        assert last(emulator, "create_item") == pytest.approx(3 * (4.95 + 0.2))
        await container.read_item("a", "p")
        assert last(emulator, "read_item") == 1.0
        results = await container.execute_item_batch([("read", ("a",)), ("delete", ("a",))], "p")
        assert [result["requestCharge"] for result in results] == [1.0, pytest.approx(3 * (4.95 + 0.2))]
        assert last(emulator, "batch") == pytest.approx(1 + 3 * (4.95 + 0.2))


async def test_a_delete_by_key_costs_what_its_items_cost() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        for number in range(3):
            await container.create_item({"id": str(number), "pk": "p", "n": number})
        await container.delete_all_items_by_partition_key("p")
        assert last(emulator, "delete_items_of_key") == pytest.approx(3 * (4.95 + 2 * 0.2))


# ---- reads and refusals


@pytest.mark.parametrize("level", ["Strong", "BoundedStaleness"])
async def test_reads_that_are_more_than_session_cost_twice(level: str) -> None:
    async with account(Switches(consistency=level)) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "a", "pk": "p"})
        assert last(emulator, "create_item") == pytest.approx(4.95 + 0.2)
        await container.read_item("a", "p")
        assert last(emulator, "read_item") == 2.0
        assert [row async for row in container.query_items("SELECT VALUE COUNT(1) FROM c", partition_key="p")] == [1]
        assert last(emulator, "query") == pytest.approx(2 * 2.8)


async def test_a_request_may_ask_for_less_consistency_and_never_for_more() -> None:
    async with account(Switches(consistency="BoundedStaleness")) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "a", "pk": "p"})
        async with CosmosClient(emulator.endpoint, emulator.key, consistency_level="Eventual") as client:
            await client.get_database_client("shop").get_container_client("one").read_item("a", "p")
        assert last(emulator, "read_item") == 1.0
        async with CosmosClient(emulator.endpoint, emulator.key, consistency_level="Strong") as client:
            error = await refused(client.get_database_client("shop").get_container_client("one").read_item("a", "p"))
        assert error.status_code == 400
        assert "not stronger than the service consistency level" in str(error)


async def test_what_has_not_changed_costs_one_unit_at_any_size() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        item = await container.create_item({"id": "a", "pk": "p", "data": "x" * 500_000})
        assert not await container.read_item("a", "p", etag=item["_etag"], match_condition=MatchConditions.IfModified)
        assert last(emulator, "read_item") == 1.0
        await container.read_item("a", "p")
        size = len(json.dumps(dict(item), separators=(",", ":")))
        assert last(emulator, "read_item") == pytest.approx(point_read(size), abs=0.01)


async def test_a_refusal_costs_one_unit() -> None:
    async with account() as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "a", "pk": "p"})
        for kind, attempt in (
            ("read_item", container.read_item("b", "p")),
            ("create_item", container.create_item({"id": "a", "pk": "p"})),
            ("delete_item", container.delete_item("a", "p", etag="x", match_condition=MatchConditions.IfNotModified)),
            ("create_item", container.create_item({"id": "a b", "pk": "p", "ttl": "soon"})),
        ):
            with pytest.raises(CosmosHttpResponseError):
                await attempt
            assert last(emulator, kind) == 1.0
        with pytest.raises(CosmosBatchOperationError):
            await container.execute_item_batch([("create", ({"id": "a", "pk": "p"},))], "p")
        assert last(emulator, "batch") == 1.0


async def test_without_the_switch_nothing_costs_anything() -> None:
    async with account(Switches(charges=False)) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "a", "pk": "p"})
        results = await container.execute_item_batch([("read", ("a",)), ("upsert", ({"id": "a", "pk": "p"},))], "p")
        assert [result["requestCharge"] for result in results] == [0.0, 0.0]
        assert emulator.charges.total == 0


# ---- budgets


async def until_refused(container: ContainerProxy, item: str, most: int) -> None:
    for number in range(most):
        await container.create_item({**json.loads(item), "id": str(number)}, no_response=True)


async def refused(attempt: Any) -> CosmosHttpResponseError:
    with pytest.raises(CosmosHttpResponseError) as error:
        await attempt
    return error.value


async def test_a_dear_request_is_served_and_the_next_waits_as_long_as_it_is_told() -> None:
    clock = Clock()
    async with account(Switches(throttling=400), clock) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "dear", "pk": "p", "data": "x" * 1_000_000})
        dear = last(emulator, "create_item")
        assert dear > 400
        error = await refused(container.read_item("dear", "p"))
        assert (error.status_code, error.sub_status) == (429, 3200)
        assert "Request rate is large. More Request Units may be needed" in str(error)
        wait = int(error.headers["x-ms-retry-after-ms"])
        assert wait == pytest.approx((dear - 400) / 400 * 1000, abs=2)
        assert last(emulator, "read_item") == 0.38
        clock.now += (wait - 2) / 1000
        assert int((await refused(container.read_item("dear", "p"))).headers["x-ms-retry-after-ms"]) <= 3
        clock.now += 3 / 1000
        await container.read_item("dear", "p")


async def test_a_refused_write_is_not_done() -> None:
    clock = Clock()
    async with account(Switches(throttling=100), clock) as (_, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "dear", "pk": "p", "data": "x" * 600_000})
        assert (await refused(container.create_item({"id": "late", "pk": "p"}))).status_code == 429
        clock.now += 3600
        assert (await refused(container.read_item("late", "p"))).status_code == 404


async def test_a_budget_holds_one_second_however_long_nobody_asked() -> None:
    clock = Clock()
    async with account(Switches(throttling=100), clock) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        clock.now += 3600
        emulator.reset()
        await refused(until_refused(container, '{"pk": "p"}', 100))
        done = [charge for kind, status, charge in ((r.kind, r.status, r.charge) for r in emulator.requests)
                if (kind, status) == ("create_item", 201)]  # fmt: skip
        assert 100 <= sum(done) < 100 + max(done)


async def test_each_physical_partition_has_its_own_budget_and_each_of_a_split_too() -> None:
    clock = Clock()
    async with account(Switches(throttling=100), clock, partitions=4) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        places = {key: emulator.container("shop", "one").locate((key,))[0].id for key in map(str, range(40))}
        hot = "0"
        other = next(key for key, place in places.items() if place != places[hot])
        await container.create_item({"id": "dear", "pk": hot, "data": "x" * 600_000})
        assert (await refused(container.read_item("dear", hot))).status_code == 429
        await container.create_item({"id": "cheap", "pk": other})
        emulator.split("shop", "one", places[hot])
        await container.read_item("dear", hot)


async def test_every_way_to_a_partition_is_throttled() -> None:
    async with account(Switches(throttling=100), Clock()) as (_, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await container.create_item({"id": "dear", "pk": "p", "data": "x" * 600_000})
        for attempt in (
            container.upsert_item({"id": "a", "pk": "p"}),
            container.replace_item("dear", {"id": "dear", "pk": "p"}),
            container.patch_item("dear", "p", [{"op": "set", "path": "/n", "value": 1}]),
            container.delete_item("dear", "p"),
            container.execute_item_batch([("read", ("dear",))], "p"),
            container.delete_all_items_by_partition_key("p"),
            anext(aiter(container.query_items("SELECT * FROM c", partition_key="p"))),
            anext(aiter(container.read_all_items())),
            anext(aiter(container.query_items_change_feed(partition_key="p", start_time="Beginning"))),
        ):
            error = await refused(attempt)
            assert (error.status_code, error.sub_status) == (429, 3200)
        assert (await refused(container.read_item("dear", "p"))).status_code == 429, "nothing has happened to it"


async def test_the_sdk_waits_as_it_is_told_and_all_is_written() -> None:
    emulator = CosmosEmulator(switches=Switches(throttling=400))
    async with emulator, CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("shop")
        container = await database.create_container("one", PartitionKey("/pk"))
        for number in range(4):
            await container.create_item({"id": str(number), "pk": "p", "data": "x" * 600_000}, no_response=True)
        assert (429, 3200) in {(record.status, record.substatus) for record in emulator.requests}
        assert len(list(emulator.container("shop", "one").partitions[0].items())) == 4


async def test_metadata_have_a_budget_of_the_account() -> None:
    clock = Clock()
    async with account(Switches(throttling=10_000), clock) as (_, database):
        container = await database.create_container("one", PartitionKey("/pk"))

        async def read_on() -> None:
            for _ in range(600):
                await container.read()

        error = await refused(read_on())
        assert (error.status_code, error.sub_status) == (429, 3201)
        assert "high rate of metadata requests" in str(error)
        await container.create_item({"id": "a", "pk": "p"})
        clock.now += int(error.headers["x-ms-retry-after-ms"]) / 1000
        await container.read()


async def test_five_hundred_looks_in_five_minutes_are_all_that_there_are() -> None:
    clock = Clock()
    async with account(Switches(throttling=10_000), clock) as (_, database):
        container = await database.create_container("one", PartitionKey("/pk"))

        async def read_on() -> None:
            for _ in range(600):
                clock.now += 0.01  # never beyond 240 RU/s
                await container.read()

        assert (await refused(read_on())).sub_status == 3201


async def test_without_the_switch_nothing_is_throttled() -> None:
    async with account(Switches(serverless=True)) as (_, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        for number in range(12):
            await container.create_item({"id": str(number), "pk": "p", "data": "x" * 1_000_000}, no_response=True)


async def test_a_serverless_partition_serves_no_more_than_5000_units() -> None:
    async with account(Switches(serverless=True, throttling=10_000), Clock()) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        await refused(until_refused(container, json.dumps({"pk": "p", "data": "x" * 1_000_000}), 20))
        assert 5000 <= emulator.charges.by_kind["create_item"] < 6000


# ---- serverless accounts


async def test_a_serverless_account_takes_no_throughput() -> None:
    async with account(Switches(serverless=True)) as (emulator, database):
        container = await database.create_container("one", PartitionKey("/pk"))
        automatic = ThroughputProperties(auto_scale_max_throughput=1000)
        for attempt, words in (
            (
                database.create_container("two", PartitionKey("/pk"), offer_throughput=400),
                "on container is not supported",
            ),
            (database.create_container("two", PartitionKey("/pk"), offer_throughput=automatic), "on container"),
            (container.get_throughput(), "Reading or replacing offers is not supported for serverless accounts"),
            (container.replace_throughput(500), "Reading or replacing offers"),
            (database.get_throughput(), "Reading or replacing offers"),
        ):
            error = await refused(attempt)
            assert (error.status_code, error.sub_status) == (400, None)
            assert words in str(error)
        async with CosmosClient(emulator.endpoint, emulator.key) as client:
            error = await refused(client.create_database("two", offer_throughput=400))
            assert "Setting offer throughput or autopilot on database is not supported" in str(error)


@pytest.fixture
async def container() -> AsyncIterator[ContainerProxy]:
    async with account() as (_, database):
        yield await database.create_container("one", PartitionKey("/pk"), offer_throughput=400)


@pytest.mark.parametrize("throughput", [100, 450, 1_000_100])
async def test_throughput_is_set_in_steps_within_its_bounds(container: ContainerProxy, throughput: int) -> None:
    error = await refused(container.replace_throughput(throughput))
    assert error.status_code == 400
    assert "valid throughput values between 400 and 1000000 inclusive in increments of 100" in str(error)


# ---- the published table, and terms


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
    assert last(emulator, "create_item") == pytest.approx(insert)
    await container.read_item("sized", "p")
    assert last(emulator, "read_item") == pytest.approx(read)
    await container.replace_item("sized", item)
    assert last(emulator, "replace_item") == pytest.approx(2 * insert, abs=0.011)
    await container.delete_item("sized", "p")
    assert last(emulator, "delete_item") == pytest.approx(insert)


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
    assert last(emulator, "patch_item") == pytest.approx(2 * 4.95 + (1 + 2) * 0.2 + 2 * 0.4)


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
