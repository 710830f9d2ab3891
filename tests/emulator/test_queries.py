"""The emulator's queries through the real SDK: rows, their order, pages, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
)

from tests.cosmos_emulator import CosmosEmulator

from .sdk import fill, query


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


@pytest.mark.usefixtures("hurried_sdk")
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
