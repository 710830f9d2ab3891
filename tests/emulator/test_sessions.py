"""The emulator's sessions: tokens obeyed, replicas that lag, resources that appear late, feed pages that come empty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import Any

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError, CosmosResourceNotFoundError

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_emulator.auth import authorization
from tests.cosmos_emulator.clock import Clock
from tests.cosmos_emulator.sessions import BLOCK, parse_session


@pytest.fixture
def switches() -> Switches:
    return Switches()


LAGGING = Switches(lag=1.0, lag_seconds=5.0)


@pytest.fixture
async def emulator(clock: Clock, switches: Switches) -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 4}, clock=clock, monotonic=clock, switches=switches) as emulator:
        yield emulator


@pytest.fixture
async def database(client: CosmosClient) -> DatabaseProxy:
    return await client.create_database("shop")


@pytest.fixture
async def one(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container("one", PartitionKey("/pk"))


@pytest.fixture
async def other(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container("other", PartitionKey("/pk"))


@pytest.fixture
async def many(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container("many", PartitionKey("/pk"))


@pytest.fixture
async def stranger(emulator: CosmosEmulator) -> AsyncIterator[DatabaseProxy]:
    """The database through a client that has written nothing, so that its reads bring no token."""
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield client.get_database_client("shop")


async def written(container: ContainerProxy, name: str = "a", key: str = "p", **values: Any) -> str:
    """Writes an item; the session token of the answer."""
    answer = await container.upsert_item({"id": name, "pk": key, **values})
    return answer.get_response_headers()["x-ms-session-token"]


async def names(container: ContainerProxy, query: str = "SELECT * FROM c", **options: Any) -> list[str]:
    return sorted([item["id"] async for item in container.query_items(query, **options)])


def lsn_of(token: str) -> int:
    return int(token.rpartition("#")[2])


def status(error: pytest.ExceptionInfo[Any]) -> tuple[int, int]:
    return error.value.status_code, error.value.sub_status or 0


# ---- session tokens


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        ("0:-1#7", {"0": 7}),
        ("0:7", {"0": 7}),
        ("0:1#7#2=6#3=5", {"0": 7}),
        ("0:-1#7,12:-1#9", {"0": 7, "12": 9}),
        ("0:-1#7,0:-1#9", {"0": 9}),
        ("0:0#209#3=-1", {"0": 209}),
    ],
)
def test_a_token_is_read_in_every_form(token: str, seen: dict[str, int]) -> None:
    assert parse_session(token) == seen


@pytest.mark.parametrize(
    "token",
    [
        *(
            "garbage",
            "0",
            "0:",
            ":-1#7",
            "0:-1#",
            "0:x#7",
            "0:-1#7,",
            ",",
            "0:-1#7#2",
            "0:-1#7#a=b",
            "0:-1#٣",
            "0:-1#7:1",
        ),
        "0:" + "9" * 5000,
    ],
)
async def test_a_malformed_token_is_a_bad_request(one: ContainerProxy, token: str) -> None:
    await written(one)
    for read in (one.read_item("a", "p", session_token=token), names(one, partition_key="p", session_token=token)):
        with pytest.raises(CosmosHttpResponseError, match=r"The session token provided '.*' is invalid") as error:
            await read
        assert error.value.status_code == 400


async def test_a_token_ahead_of_the_partition_is_refused(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    token = await written(one)
    ahead = f"0:-1#{lsn_of(token) + 1}"
    assert (await one.read_item("a", "p", session_token=token))["id"] == "a"
    with pytest.raises(CosmosResourceNotFoundError, match="read session is not available") as error:
        await one.read_item("a", "p", session_token=ahead)
    assert status(error) == (404, 1002)
    assert error.value.headers["x-ms-alt-content-path"] == "dbs/shop/colls/one"
    with pytest.raises(CosmosResourceNotFoundError) as error:
        await names(one, partition_key="p", session_token=ahead)
    assert status(error) == (404, 1002)


async def test_answers_about_items_tell_which_container_of_that_name_it_is(
    emulator: CosmosEmulator, database: DatabaseProxy, one: ContainerProxy
) -> None:
    told: list[str] = []

    def hook(headers: Mapping[str, Any], *_: Any) -> None:
        told.append(headers["x-ms-content-path"])

    async def ask(container: ContainerProxy) -> None:
        await container.create_item({"id": "a", "pk": "p"}, response_hook=hook)
        await container.read_item("a", "p", response_hook=hook)
        await names(container, partition_key="p", response_hook=hook)
        with pytest.raises(CosmosResourceNotFoundError) as error:
            await container.read_item("nobody", "p")
        told.append(error.value.headers["x-ms-content-path"])

    await ask(one)
    old = emulator.container("shop", "one").rid
    await database.delete_container("one")
    await ask(await database.create_container("one", PartitionKey("/pk")))
    assert told == [old] * 4 + [emulator.container("shop", "one").rid] * 4
    assert told[0] != told[-1]


async def test_the_token_of_another_container_is_refused_whichever_is_further(
    one: ContainerProxy, other: ContainerProxy
) -> None:
    first, second = await written(one), await written(other)
    assert abs(lsn_of(first) - lsn_of(second)) > BLOCK // 2
    for container, foreign in ((one, second), (other, first)):
        with pytest.raises(CosmosResourceNotFoundError) as error:
            await container.read_item("a", "p", session_token=foreign)
        assert status(error) == (404, 1002)


async def test_the_token_of_a_range_that_never_was_is_refused(one: ContainerProxy) -> None:
    token = await written(one)
    for foreign in (f"7:-1#{lsn_of(token)}", f"{token},7:-1#1", f"00:-1#{lsn_of(token)}"):
        with pytest.raises(CosmosResourceNotFoundError) as error:
            await one.read_item("a", "p", session_token=foreign)
        assert status(error) == (404, 1002)


async def test_a_token_of_the_container_that_had_this_name_is_refused(
    database: DatabaseProxy, one: ContainerProxy
) -> None:
    for n in range(3):
        token = await written(one, str(n))
    await database.delete_container("one")
    again = await database.create_container("one", PartitionKey("/pk"))
    await again.create_item({"id": "a", "pk": "p"})
    with pytest.raises(CosmosResourceNotFoundError) as error:
        await again.read_item("a", "p", session_token=token)
    assert status(error) == (404, 1002)


async def test_only_the_token_of_the_partition_that_serves_counts(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    tokens = {key: await written(many, key=key) for key in "abcdefgh"}
    ranges = {key: token.partition(":")[0] for key, token in tokens.items()}
    key, elsewhere = next((one, two) for one in ranges for two in ranges if ranges[one] != ranges[two])
    ahead = f"{ranges[elsewhere]}:-1#{lsn_of(tokens[elsewhere]) + 1000}"
    assert await many.read_item("a", key, session_token=f"{tokens[key]},{ahead}")
    assert await names(many, partition_key=key, session_token=f"{tokens[key]},{ahead}")
    with pytest.raises(CosmosResourceNotFoundError) as error:
        await many.read_item("a", elsewhere, session_token=f"{tokens[key]},{ahead}")
    assert status(error) == (404, 1002)


async def test_a_token_from_before_a_split_counts_for_the_children(
    emulator: CosmosEmulator, one: ContainerProxy
) -> None:
    token = await written(one)
    children = emulator.split("shop", "one")
    assert await one.read_item("a", "p", session_token=token)
    assert await one.read_item("a", "p", session_token=",".join(f"{child}:{token[2:]}" for child in children))
    with pytest.raises(CosmosResourceNotFoundError) as error:
        await one.read_item("a", "p", session_token=f"0:-1#{lsn_of(token) + 1}")
    assert status(error) == (404, 1002)


async def test_batches_and_feeds_obey_tokens_as_well(one: ContainerProxy) -> None:
    ahead = f"0:-1#{lsn_of(await written(one)) + 1}"
    with pytest.raises(CosmosHttpResponseError) as error:
        await one.execute_item_batch([("read", ("a",))], "p", session_token=ahead)
    assert status(error) == (404, 1002)
    with pytest.raises(CosmosHttpResponseError) as error:
        [item async for item in one.query_items_change_feed(start_time="Beginning", session_token=ahead)]
    assert status(error) == (404, 1002)


async def test_the_sdk_reads_what_it_wrote_over_a_split(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    for n in range(20):
        await many.create_item({"id": "a", "pk": f"p{n}"})
    emulator.split("shop", "many", "1")
    emulator.split("shop", "many", emulator.ranges("shop", "many")[1])
    emulator.reset()
    for n in range(20):
        await many.create_item({"id": "b", "pk": f"p{n}"})
        assert await many.read_item("a", f"p{n}")
        assert await names(many, partition_key=f"p{n}") == ["a", "b"]
    assert len(await names(many, "SELECT * FROM c ORDER BY c.pk")) == 40
    assert not [each for each in emulator.requests if each.substatus == 1002]
    assert emulator.reads_without_session() == []


async def test_what_the_sdk_takes_for_one_session_of_two_containers_is_refused(
    emulator: CosmosEmulator, one: ContainerProxy, other: ContainerProxy
) -> None:
    """The trap: an answer without a body, to the first request in a container, files its token under no container."""
    await one.create_item({"id": "a", "pk": "p"}, no_response=True)
    await other.create_item({"id": "a", "pk": "p"}, no_response=True)
    with pytest.raises(CosmosResourceNotFoundError) as error:
        await other.read_item("a", "p")
    assert status(error) == (404, 1002)
    refused = [each for each in emulator.requests if each.kind == "read_item"]
    assert [each.substatus for each in refused] == [1002, 1002]
    assert all(each.session_token for each in refused)
    assert emulator.reads_without_session() == refused


async def test_a_refusal_brings_the_token_of_what_it_tells(one: ContainerProxy) -> None:
    token = await written(one)
    etag = {"etag": '"other"', "match_condition": MatchConditions.IfNotModified}
    for attempt in (
        one.create_item({"id": "a", "pk": "p"}),
        one.read_item("b", "p"),
        one.replace_item("a", {"id": "a", "pk": "p"}, **etag),
    ):
        with pytest.raises(CosmosHttpResponseError) as error:
            await attempt
        assert error.value.headers["x-ms-session-token"] == token


async def test_without_the_rule_a_token_is_not_compared(clock: Clock) -> None:
    async with (
        CosmosEmulator(switches=Switches(sessions=False)) as emulator,
        CosmosClient(emulator.endpoint, emulator.key) as client,
    ):
        database = await client.create_database("shop")
        one = await database.create_container("one", PartitionKey("/pk"))
        assert await written(one) == "0:-1#1"
        assert await one.read_item("a", "p", session_token="7:-1#99")
        assert await one.read_item("a", "p", session_token="garbage")


async def test_reads_that_brought_no_session_are_listed(
    emulator: CosmosEmulator, one: ContainerProxy, other: ContainerProxy, stranger: DatabaseProxy
) -> None:
    await names(one, partition_key="p")  # before any write: nothing to miss
    await written(one)
    await one.read_item("a", "p")
    await names(other, partition_key="p")  # nothing was written there
    assert emulator.reads_without_session() == []
    await stranger.get_container_client("one").read_item("a", "p")
    assert [each.kind for each in emulator.reads_without_session()] == ["read_item"]
    emulator.reset()
    assert emulator.reads_without_session() == []


# ---- replicas that lag


@pytest.mark.parametrize("switches", [LAGGING])
class TestLag:
    async def test_who_wrote_reads_what_it_wrote(
        self, emulator: CosmosEmulator, one: ContainerProxy, clock: Clock
    ) -> None:
        for n in range(5):
            await written(one, "a", n=n)
            assert (await one.read_item("a", "p"))["n"] == n
            assert await names(one, f"SELECT * FROM c WHERE c.n = {n}", partition_key="p") == ["a"]

    async def test_others_read_what_was_there_before(
        self, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        await written(one, "a", n=1)
        with pytest.raises(CosmosResourceNotFoundError) as error:
            await container.read_item("a", "p")
        assert status(error) == (404, 0)
        clock.now += 6
        await written(one, "a", n=2)
        await written(one, "b")
        await one.delete_item("b", "p")
        await written(one, "c")
        assert (await container.read_item("a", "p"))["n"] == 1

    async def test_a_client_does_not_go_back_behind_what_it_has_seen(
        self, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        first = await written(one, "a", n=1)
        await written(one, "a", n=2)
        await written(one, "a", n=3)
        assert (await container.read_item("a", "p", session_token=first))["n"] == 1
        headers: dict[str, str] = {}
        await container.read_item("a", "p", session_token=first, response_hook=lambda got, _: headers.update(got))
        assert headers["x-ms-session-token"] == first
        assert headers["lsn"] == str(lsn_of(first))

    async def test_a_replica_catches_up(self, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock) -> None:
        container = stranger.get_container_client("one")
        await written(one, "a", n=1)
        clock.now += 3
        await written(one, "a", n=2)
        clock.now += 3
        assert (await container.read_item("a", "p"))["n"] == 1
        clock.now += 3
        assert (await container.read_item("a", "p"))["n"] == 2

    async def test_queries_see_the_values_of_that_moment(
        self, many: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("many")
        for n in range(12):
            await written(many, f"i{n:02}", f"p{n}", n=n)
        clock.now += 6
        await written(many, "i00", "p0", n=100)
        await many.delete_item("i01", "p1")
        await written(many, "new", "p2", n=50)
        assert await names(container, "SELECT * FROM c WHERE c.n < 2") == ["i00", "i01"]
        assert await names(container, "SELECT * FROM c WHERE c.n >= 50") == []
        assert [n async for n in container.query_items("SELECT VALUE COUNT(1) FROM c")] == [12]
        ordered = [item["id"] async for item in container.query_items("SELECT * FROM c ORDER BY c.n DESC")]
        assert ordered == [f"i{n:02}" for n in reversed(range(12))]
        assert len([item async for item in container.read_all_items()]) == 12
        items = await container.read_items([("i00", "p0"), ("i01", "p1"), ("new", "p2")])
        assert sorted((item["id"], item["n"]) for item in items) == [("i00", 0), ("i01", 1)]
        assert await names(many, "SELECT * FROM c WHERE c.n >= 50") == ["i00", "new"]  # with tokens

    async def test_a_conditional_read_compares_with_the_replica(
        self, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        old = await one.upsert_item({"id": "a", "pk": "p", "n": 1})
        clock.now += 6
        new = await one.upsert_item({"id": "a", "pk": "p", "n": 2})
        changed = {"match_condition": MatchConditions.IfModified}
        assert not await container.read_item("a", "p", etag=old["_etag"], **changed)  # 304: as it was
        assert (await container.read_item("a", "p", etag=new["_etag"], **changed))["n"] == 1
        assert not await one.read_item("a", "p", etag=new["_etag"], **changed)

    async def test_what_has_expired_has_expired_on_every_replica(
        self, database: DatabaseProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        brief = await database.create_container("brief", PartitionKey("/pk"), default_ttl=6)
        container = stranger.get_container_client("brief")
        token = await written(brief, "a", n=1)
        clock.now += 4
        assert (await container.read_item("a", "p", session_token=token))["n"] == 1
        await written(brief, "a", n=2)
        clock.now += 2.5  # the first version is past its end, the second is not
        assert await names(container, partition_key="p", session_token=token) == []
        assert await names(brief, partition_key="p") == ["a"]
        await database.replace_container("brief", PartitionKey("/pk"), default_ttl=60)
        assert (await container.read_item("a", "p", session_token=token))["n"] == 1

    async def test_a_child_lags_behind_a_split(
        self, emulator: CosmosEmulator, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        for n in range(8):
            await written(one, "a", f"p{n}", n=1)
        clock.now += 6
        for n in range(8):
            await written(one, "a", f"p{n}", n=2)
        emulator.split("shop", "one")
        await written(one, "b", "p0")
        for n in range(8):
            assert (await container.read_item("a", f"p{n}"))["n"] == 1
            assert (await one.read_item("a", f"p{n}"))["n"] == 2
        assert await names(container, partition_key="p0") == ["a"]
        clock.now += 6
        assert await names(container, partition_key="p0") == ["a", "b"]

    async def test_nothing_is_skipped_in_the_feed_of_replicas(
        self, emulator: CosmosEmulator, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        seen: dict[str, int] = {}
        token = None
        for n in range(40):
            await written(one, f"i{n % 9}", f"p{n % 9 % 4}", n=n)
            clock.now += n % 4
            if n == 20:
                emulator.split("shop", "one")
            if n % 3 == 0 and n < 20:
                token = await _follow(container, token, seen)
        clock.now += 60
        token = await _follow(container, token if emulator.ranges("shop", "one") == ["0"] else None, seen)
        assert seen == {f"i{k}": max(n for n in range(40) if n % 9 == k) for k in range(9)}

    async def test_the_feed_ends_where_the_replica_ends(
        self, emulator: CosmosEmulator, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        first = await written(one, "a", n=1)
        await written(one, "b", n=1)
        clock.now += 6
        await written(one, "a", n=2)
        items, headers = await _page(container, start_time="Beginning")
        assert [(item["id"], item["n"]) for item in items] == [("a", 1), ("b", 1)]
        assert headers["etag"] == f'"{lsn_of(first) + 1}"'
        assert headers["x-ms-session-token"] == f"0:-1#{lsn_of(first) + 1}"
        items, _ = await _page(one, start_time="Beginning")  # a client with a session
        assert [(item["id"], item["n"]) for item in items] == [("b", 1), ("a", 2)]

    async def test_a_reader_of_the_feed_who_is_further_than_the_replica_stays_there(
        self, emulator: CosmosEmulator, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        await written(one)
        token = await written(one, "b")
        pages = one.query_items_change_feed(start_time="Beginning").by_page()
        assert [item["id"] for item in [each async for each in await anext(pages)]] == ["a", "b"]
        items, headers = await _page(stranger.get_container_client("one"), continuation=pages.continuation_token)
        assert items == []
        assert headers["etag"] == f'"{lsn_of(token)}"'

    async def test_a_transaction_is_seen_whole_and_in_its_order(
        self, one: ContainerProxy, stranger: DatabaseProxy, clock: Clock
    ) -> None:
        container = stranger.get_container_client("one")
        await one.execute_item_batch([("upsert", ({"id": name, "pk": "p", "n": 1},)) for name in "dbca"], "p")
        clock.now += 6
        await written(one, "b", n=2)
        items, _ = await _page(container, start_time="Beginning")
        assert [(item["id"], item["n"]) for item in items] == [(name, 1) for name in "dbca"]


async def test_the_share_of_reads_that_lag_is_drawn_with_a_seed(clock: Clock) -> None:
    async def stale(seed: int) -> list[bool]:
        switches = Switches(lag=0.3, lag_seconds=5.0, seed=seed)
        async with (
            CosmosEmulator(clock=clock, monotonic=clock, switches=switches) as emulator,
            CosmosClient(emulator.endpoint, emulator.key) as client,
            CosmosClient(emulator.endpoint, emulator.key, consistency_level="Eventual") as reader,
        ):
            one = await (await client.create_database("shop")).create_container("one", PartitionKey("/pk"))
            await written(one, "a", n=1)
            clock.now += 6
            await written(one, "a", n=2)
            other = reader.get_database_client("shop").get_container_client("one")
            return [(await other.read_item("a", "p"))["n"] == 1 for _ in range(60)]

    first = await stale(1)
    assert 8 <= sum(first) <= 28
    assert await stale(1) == first != await stale(2)


async def test_without_lag_nothing_of_the_past_is_kept(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await written(one)
    assert emulator.container("shop", "one").partitions[0].history is None


@pytest.mark.parametrize("switches", [LAGGING])
async def test_of_the_past_no_more_is_kept_than_replicas_lag(
    emulator: CosmosEmulator, one: ContainerProxy, clock: Clock
) -> None:
    for n in range(50):
        await written(one, "a", n=n)
        clock.now += 1
    history = emulator.container("shop", "one").partitions[0].history
    assert history is not None
    assert len(list(history.items())) <= 6


# ---- late resources


@pytest.mark.parametrize("switches", [Switches(late=2.0)])
class TestLateness:
    async def test_a_database_is_there_a_while_after_it_was_created(self, client: CosmosClient, clock: Clock) -> None:
        database = await client.create_database("shop")
        for attempt in (database.read, lambda: database.create_container("one", PartitionKey("/pk"))):
            with pytest.raises(CosmosResourceNotFoundError) as error:
                await attempt()
            assert status(error) == (404, 1003)
        assert [each["id"] async for each in client.list_databases()] == []
        with pytest.raises(CosmosResourceExistsError):
            await client.create_database("shop")
        clock.now += 2
        assert (await database.read())["id"] == "shop"
        assert [each["id"] async for each in client.list_databases()] == ["shop"]

    async def test_a_container_and_its_offer_are_there_a_while_after(
        self, client: CosmosClient, clock: Clock, emulator: CosmosEmulator
    ) -> None:
        database = await client.create_database("shop")
        clock.now += 2
        one = await database.create_container("one", PartitionKey("/pk"))
        for attempt in (
            one.read,
            lambda: one.create_item({"id": "a", "pk": "p"}),
            lambda: one.read_item("a", "p"),
            lambda: names(one),
            lambda: database.delete_container("one"),
        ):
            with pytest.raises(CosmosResourceNotFoundError) as error:
                await attempt()
            assert status(error) == (404, 1003)
        assert [each["id"] async for each in database.list_containers()] == []
        assert [each async for each in database.query_containers("SELECT * FROM c")] == []
        with pytest.raises(CosmosResourceExistsError):
            await database.create_container("one", PartitionKey("/pk"))
        assert emulator.container("shop", "one").partitions  # behind the protocol it is there
        clock.now += 2
        await one.create_item({"id": "a", "pk": "p"})
        assert (await one.get_throughput()).offer_throughput == 400

    async def test_an_offer_that_is_late_is_not_listed(self, client: CosmosClient, clock: Clock) -> None:
        database = await client.create_database("shop")
        clock.now += 2
        one = await database.create_container("one", PartitionKey("/pk"), offer_throughput=500)
        clock.now += 1.5
        with pytest.raises(CosmosHttpResponseError):
            await one.get_throughput()
        clock.now += 0.5
        assert (await one.get_throughput()).offer_throughput == 500

    async def test_a_container_that_is_made_anew_is_late_again(self, client: CosmosClient, clock: Clock) -> None:
        database = await client.create_database("shop")
        clock.now += 2
        await database.create_container("one", PartitionKey("/pk"))
        clock.now += 2
        await database.delete_container("one")
        one = await database.create_container("one", PartitionKey("/pk"))
        with pytest.raises(CosmosResourceNotFoundError) as error:
            await one.read()
        assert status(error) == (404, 1003)
        clock.now += 2
        assert await one.read()


# ---- empty pages of the feed


@pytest.mark.parametrize("seed", range(5))
async def test_empty_pages_come_with_200_and_skip_nothing(clock: Clock, seed: int) -> None:
    async with (
        CosmosEmulator(switches=Switches(empty_pages=1.0, seed=seed)) as emulator,
        CosmosClient(emulator.endpoint, emulator.key) as client,
    ):
        one = await (await client.create_database("shop")).create_container("one", PartitionKey("/pk"))
        for n in range(10):
            await written(one, f"i{n}")
        seen: list[str] = []
        statuses: list[int] = []
        etag: str | None = None
        while 304 not in statuses:
            code, etag, page = await _raw_page(emulator, etag)
            statuses.append(code)
            seen += page
    assert seen == [f"i{n}" for n in range(10)]
    assert statuses == [200] * (4 * 4) + [304]  # three empty ones in a row before each page of three


async def test_an_empty_page_of_a_read_from_a_time_leaves_behind_what_is_older(clock: Clock) -> None:
    async with (
        CosmosEmulator(clock=clock, switches=Switches(empty_pages=1.0)) as emulator,
        CosmosClient(emulator.endpoint, emulator.key) as client,
    ):
        one = await (await client.create_database("shop")).create_container("one", PartitionKey("/pk"))
        await written(one, "old")
        clock.now += 100
        await written(one, "new")
        _, etag, page = await _raw_page(emulator, "*", since=clock.now - 50)
        assert page == []
        while not page:
            _, etag, page = await _raw_page(emulator, etag)
    assert page == ["new"]


@pytest.mark.parametrize("switches", [Switches(empty_pages=1.0)])
async def test_the_etag_of_an_empty_page_never_passes_an_item(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    token = await written(one)
    for n in range(10):
        await written(one, f"i{n}")
    for _ in range(3):
        items, headers = await _page(one, start_time="Beginning")
        assert items == []
        assert int(headers["etag"].strip('"')) < lsn_of(token)
        assert emulator.requests[-1].status == 200
    items, _ = await _page(one, start_time="Beginning")
    assert len(items) == 11


async def test_empty_pages_are_a_share_drawn_with_a_seed(clock: Clock) -> None:
    async with (
        CosmosEmulator(switches=Switches(empty_pages=0.3, seed=3)) as emulator,
        CosmosClient(emulator.endpoint, emulator.key) as client,
    ):
        one = await (await client.create_database("shop")).create_container("one", PartitionKey("/pk"))
        await written(one)
        pages = [len((await _page(one, start_time="Beginning"))[0]) for _ in range(60)]
    assert 8 <= pages.count(0) <= 28


# ---- shared


async def _page(container: ContainerProxy, **scope: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One page of the feed, with the headers of its answer."""
    headers: dict[str, str] = {}

    def note(got: Any, _: object) -> None:
        headers.clear()
        headers.update({name.lower(): value for name, value in got.items()})

    pages = container.query_items_change_feed(**scope, response_hook=note).by_page()
    page = await anext(pages, None)
    return ([item async for item in page] if page is not None else []), headers


async def _raw_page(
    emulator: CosmosEmulator, etag: str | None, since: float | None = None
) -> tuple[int, str, list[str]]:
    """One page of the feed by plain HTTP, since the SDK keeps the etag of an empty one to itself: status, etag, ids."""
    date = formatdate(usegmt=True)
    headers = {
        "authorization": authorization(emulator.key, "GET", "docs", "dbs/shop/colls/one", date),
        "x-ms-date": date,
        "A-IM": "Incremental feed",
        "x-ms-max-item-count": "3",
        "x-ms-documentdb-partitionkeyrangeid": "0",
    }
    headers |= {"If-None-Match": etag} if etag else {}
    headers |= {"If-Modified-Since": formatdate(since, usegmt=True)} if since else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{emulator.endpoint}dbs/shop/colls/one/docs", headers=headers) as answer,
    ):
        documents = (await answer.json())["Documents"] if answer.status == 200 else []
        return answer.status, answer.headers["etag"], [item["id"] for item in documents]


async def _follow(container: ContainerProxy, token: str | None, seen: dict[str, int]) -> str | None:
    """Reads the feed to its end from a continuation."""
    scope: dict[str, Any] = {"continuation": token} if token else {"start_time": "Beginning"}
    pages = container.query_items_change_feed(**scope, max_item_count=2).by_page()
    async for page in pages:
        async for item in page:
            seen[item["id"]] = max(item["n"], seen.get(item["id"], 0))
    return pages.continuation_token
