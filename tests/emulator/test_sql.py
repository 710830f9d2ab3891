"""The emulator's SQL: groups, plans, subqueries, index metrics, and the answers that are easily got wrong."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.cosmos_emulator import CosmosEmulator
from tests.emulator.cosmos_wire import Answer, send

ITEMS: list[dict[str, Any]] = [
    {"id": "1", "pk": "a", "team": "red", "n": 1, "size": {"w": 1}},
    {"id": "2", "pk": "b", "team": "red", "n": 2, "size": {"w": 1}},
    {"id": "3", "pk": "c", "team": "blue", "n": 3, "size": {"w": 2}},
    {"id": "4", "pk": "d", "team": "blue", "n": "x", "size": {"w": 2}},
    {"id": "5", "pk": "e", "n": 5},
    {"id": "6", "pk": "f", "team": None, "n": 6},
    {"id": "7", "pk": "g", "team": "red", "n": 7, "size": {"w": 1}},
]
FEATURES = (
    "NonValueAggregate,Aggregate,Distinct,MultipleOrderBy,OffsetAndLimit,OrderBy,Top,CompositeAggregate,GroupBy,"
    "MultipleAggregates"
)
"""What JavaScript's client says that it can merge."""


@pytest.fixture
async def emulator() -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(partitions={"many": 4}) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: CosmosEmulator) -> AsyncIterator[CosmosClient]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        yield client


async def filled(client: CosmosClient, name: str, items: list[dict[str, Any]], **settings: Any) -> ContainerProxy:
    database = await client.create_database_if_not_exists("shop")
    container = await database.create_container(name, PartitionKey("/pk"), **settings)
    for item in items:
        await container.create_item(item)
    return container


@pytest.fixture
async def one(client: CosmosClient) -> ContainerProxy:
    """Everything in one logical partition."""
    return await filled(client, "one", [{**item, "pk": "p"} for item in ITEMS])


@pytest.fixture
async def many(client: CosmosClient) -> ContainerProxy:
    """The same over four physical partitions."""
    return await filled(client, "many", ITEMS)


async def rows(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    """In the one logical partition, unless told otherwise."""
    options.setdefault("partition_key", "p")
    return [row async for row in container.query_items(text, **options)]


def as_set(found: list[Any]) -> list[str]:
    """Rows without their order, which groups do not have."""
    return sorted(json.dumps(row, sort_keys=True) for row in found)


async def refusal(container: ContainerProxy, text: str, **options: Any) -> CosmosHttpResponseError:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await rows(container, text, **options)
    return refused.value


# ---- a client that merges, as those do whose source we read


async def ask(emulator: CosmosEmulator, text: str, headers: dict[str, str], container: str = "many") -> Answer:
    asked = {"x-ms-documentdb-isquery": "true", "x-ms-documentdb-query-enablecrosspartition": "true", **headers}
    return await send(emulator, "POST", f"dbs/shop/colls/{container}/docs", {"query": text}, asked)


async def plan(emulator: CosmosEmulator, text: str, features: str = FEATURES) -> Answer:
    asked = {"x-ms-cosmos-is-query-plan-request": "true", "x-ms-cosmos-supported-query-features": features}
    return await ask(emulator, text, asked)


async def of_ranges(emulator: CosmosEmulator, text: str) -> list[Any]:
    """The rewritten query of a plan, run on every range, a few rows to a page."""
    info = (await plan(emulator, text)).json["queryInfo"]
    found: list[Any] = []
    for range_id in emulator.ranges("shop", "many"):
        headers = {"x-ms-documentdb-partitionkeyrangeid": range_id, "x-ms-max-item-count": "1"}
        while True:
            page = await ask(emulator, info["rewrittenQuery"] or text, headers)
            found += page.json["Documents"]
            if "x-ms-continuation" not in page.headers:
                break
            headers["x-ms-continuation"] = page.headers["x-ms-continuation"]
    return found


def merged(parts: list[Any], types: dict[str, str | None]) -> list[Any]:
    groups: dict[str, dict[str, Any]] = {}
    for part in parts:
        group = groups.setdefault(json.dumps(part.get("groupByItems"), sort_keys=True), {})
        for name, value in part["payload"].items():
            if types[name] is None:
                group[name] = value
            elif types[name] in {"Count", "Sum"}:
                group[name] = group.get(name, 0) + value.get("item", 0)
            elif types[name] == "Average":
                before = group.get(name, (0, 0))
                group[name] = (before[0] + value["item"].get("sum", 0), before[1] + value["item"]["count"])
            elif value["item2"]["count"]:
                pick = {"Min": min, "Max": max}[str(types[name])]
                found = value["item2"][str(types[name]).lower()]
                group[name] = pick(group.get(name, found), found)
    return list(groups.values())


# ---- groups


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT c.team FROM c GROUP BY c.team", [{"team": "red"}, {"team": "blue"}, {"team": None}, {}]),
        ("SELECT VALUE c.team FROM c GROUP BY c.team", ["red", "blue", None]),
        (
            "SELECT c.team, COUNT(1) AS n, SUM(c.n) AS sum, MIN(c.n) AS low, MAX(c.n) AS high, AVG(c.n) AS mean FROM c "
            "GROUP BY c.team",
            [
                {"team": "red", "n": 3, "sum": 10, "low": 1, "high": 7, "mean": 10 / 3},
                {"team": "blue", "n": 2, "low": 3, "high": "x"},  # a text has no sum
                {"team": None, "n": 1, "sum": 6, "low": 6, "high": 6, "mean": 6},
                {"n": 1, "sum": 5, "low": 5, "high": 5, "mean": 5},
            ],
        ),
        ("SELECT VALUE COUNT(1) FROM c WHERE c.team != null GROUP BY c.team", [3, 2]),
        ("SELECT c.size, COUNT(1) AS n FROM c WHERE c.n < 4 GROUP BY c.size", [{"size": {"w": 1}, "n": 2},
         {"size": {"w": 2}, "n": 1}]),
        ("SELECT c.size.w AS w, c.team, COUNT(c.n) AS n FROM c WHERE IS_DEFINED(c.size) GROUP BY c.size.w, c.team",
         [{"w": 1, "team": "red", "n": 3}, {"w": 2, "team": "blue", "n": 2}]),
        ("SELECT UPPER(c.team) AS t, SUM(c.n * 2) AS s, 'x' AS x FROM c WHERE c.team = 'red' GROUP BY UPPER(c.team)",
         [{"t": "RED", "s": 20, "x": "x"}]),
        ("SELECT {t: c.team} AS o FROM c WHERE c.n = 1 GROUP BY c.team", [{"o": {"t": "red"}}]),
        ("SELECT COUNT(1) AS n FROM c WHERE c.n > 100 GROUP BY c.team", []),
        ("SELECT COUNT(1) AS n, MAX(c.n) AS high FROM c WHERE c.n > 100", [{"n": 0}]),
        ("SELECT DISTINCT COUNT(1) AS n FROM c GROUP BY c.team", [{"n": 3}, {"n": 2}, {"n": 1}]),
        ("SELECT VALUE s.w FROM c JOIN s IN c.sizes GROUP BY s.w", []),
    ],
)  # fmt: skip
async def test_rows_are_grouped_within_a_partition_key(one: ContainerProxy, text: str, expected: list[Any]) -> None:
    assert as_set(await rows(one, text)) == as_set(expected)


async def test_groups_are_cut_after_grouping_and_come_in_pages(one: ContainerProxy) -> None:
    text = "SELECT c.team, COUNT(1) AS n FROM c GROUP BY c.team"
    everything = await rows(one, text)
    assert await rows(one, f"{text} OFFSET 1 LIMIT 2") == everything[1:3]
    pages = one.query_items(text, partition_key="p", max_item_count=1).by_page()
    assert [[row async for row in page] async for page in pages] == [[row] for row in everything]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM c GROUP BY c.team", "'SELECT \\*' is not allowed with GROUP BY"),
        ("SELECT c.team FROM c GROUP BY c.team ORDER BY c.team", "'ORDER BY' is not supported in presence of GROUP BY"),
        ("SELECT c.team, c.n FROM c GROUP BY c.team", "Property reference 'c.n' is invalid in the select list"),
        ("SELECT c.n, COUNT(1) AS n2 FROM c", "Property reference 'c.n' is invalid in the select list"),
        ("SELECT COUNT(1) + 5 FROM c", "Compositions of aggregates"),
        ("SELECT VALUE {n: COUNT(1)} FROM c", "Compositions of aggregates"),
        ("SELECT VALUE AVG(SUM(c.n)) FROM c", "Cannot perform an aggregate function on an expression"),
        ("SELECT COUNT(1) AS n FROM c GROUP BY 1", "must contain a property reference"),
        ("SELECT COUNT(1) AS n FROM c GROUP BY SUM(c.n)", "only allowed in the SELECT clause"),
        ("SELECT c.n AS a, c.team AS a FROM c", "specified more than once"),
        ("SELECT c.team FROM c GROUP c.team", "Syntax error"),
    ],
)
async def test_groups_that_the_service_refuses(one: ContainerProxy, text: str, message: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match=message) as refused:
        await rows(one, text)
    assert refused.value.status_code == 400


async def test_a_plan_lets_a_client_merge_the_groups_of_all_ranges(
    emulator: CosmosEmulator, many: ContainerProxy
) -> None:
    text = (
        "SELECT c.team, COUNT(1) AS n, SUM(c.n) AS s, MIN(c.n) AS low, MAX(c.n) AS high, AVG(c.n) AS mean FROM c "
        "WHERE IS_NUMBER(c.n) GROUP BY c.team"
    )
    info = (await plan(emulator, text)).json["queryInfo"]
    assert info["groupByExpressions"] == ["c.team"]
    assert info["groupByAliases"] == ["team", "n", "s", "low", "high", "mean"]
    assert info["aggregates"] == []
    types = {"team": None, "n": "Count", "s": "Sum", "low": "Min", "high": "Max", "mean": "Average"}
    assert info["groupByAliasToAggregateType"] == types
    parts = await of_ranges(emulator, text)
    assert len(parts) > 4  # a group is in several ranges
    assert as_set(merged(parts, types)) == as_set(
        [
            {"team": "red", "n": 3, "s": 10, "low": 1, "high": 7, "mean": (10, 3)},
            {"team": "blue", "n": 1, "s": 3, "low": 3, "high": 3, "mean": (3, 1)},
            {"team": None, "n": 1, "s": 6, "low": 6, "high": 6, "mean": (6, 1)},
            {"n": 1, "s": 5, "low": 5, "high": 5, "mean": (5, 1)},
        ]
    )


async def test_plans_have_the_service_s_words(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    grouped = "SELECT c.id FROM c GROUP BY c.id"
    valued = "SELECT VALUE COUNT(1) FROM c GROUP BY c.team"
    single = "SELECT TOP 5 VALUE MIN(c.n) FROM c"
    several = "SELECT COUNT(1), MAX(c.n) AS high FROM c"
    infos = [(await plan(emulator, text)).json["queryInfo"] for text in (grouped, valued, single, several)]
    assert infos[0]["groupByAliasToAggregateType"] == {"id": None}
    assert infos[0]["rewrittenQuery"] == (
        'SELECT [{"item": c.id}] AS groupByItems, {"id": c.id} AS payload FROM c GROUP BY c.id'
    )
    assert (infos[1]["aggregates"], infos[1]["groupByAliases"], infos[1]["hasSelectValue"]) == (["Count"], [], True)
    assert infos[1]["rewrittenQuery"] == (
        'SELECT [{"item": c.team}] AS groupByItems, [{"item": COUNT(1)}] AS payload FROM c GROUP BY c.team'
    )
    assert (infos[2]["top"], infos[2]["aggregates"]) == (5, ["Min"])
    assert infos[2]["rewrittenQuery"] == (
        'SELECT VALUE [{"item": MIN(c.n), "item2": {"min": MIN(c.n), "count": COUNT(c.n)}}] FROM c'
    )
    assert infos[3]["groupByAliasToAggregateType"] == {"$1": "Count", "high": "Max"}
    ordered = (await plan(emulator, "SELECT * FROM c WHERE c.n > 1 ORDER BY c.n")).json["queryInfo"]
    assert ordered["rewrittenQuery"] == (
        'SELECT c._rid AS _rid, [{"item": c.n}] AS orderByItems, c AS payload FROM c '
        "WHERE ((c.n > 1) AND {documentdb-formattableorderbyquery-filter}) ORDER BY c.n ASC"
    )


async def test_a_client_is_refused_what_it_cannot_merge(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    text = "SELECT c.team, COUNT(1) AS n, MAX(c.n) AS high FROM c GROUP BY c.team"
    answer = await plan(emulator, text, "Aggregate,Distinct,OrderBy")
    assert answer.status == 400
    assert answer.json["message"].endswith("GroupBy MultipleAggregates NonValueAggregate")
    assert (await plan(emulator, "SELECT VALUE COUNT(1) FROM c", "")).status == 400
    # azure-cosmos for Python has no groups over several partitions
    assert "Cross partition query only supports" in str(await refusal(many, text, partition_key=None))
    plain = await refusal(many, "SELECT c.team FROM c GROUP BY c.team", partition_key=None)
    assert "does not support: GroupBy" in str(plain)


async def test_the_gateway_s_refusal_carries_the_plan(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    answer = await ask(emulator, "SELECT * FROM c ORDER BY c.n", {})
    assert (answer.status, answer.substatus) == (400, 1004)
    assert json.loads(answer.json["additionalErrorInfo"])["queryInfo"]["orderBy"] == ["Ascending"]
    grouped = await ask(emulator, "SELECT COUNT(1) AS n FROM c", {})
    assert (grouped.status, grouped.substatus) == (400, 0)
    disabled = {"x-ms-documentdb-query-enablecrosspartition": "false"}
    assert "required but disabled" in (await ask(emulator, "SELECT * FROM c ORDER BY c.n", disabled)).json["message"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT VALUE MIN(c.n) FROM c WHERE IS_NUMBER(c.n)", [1]),
        ("SELECT DISTINCT VALUE COUNT(1) FROM c", [7]),
        ("SELECT VALUE COUNT(1) FROM c OFFSET 0 LIMIT 1", [7]),
        ("SELECT VALUE COUNT(1) FROM c OFFSET 1 LIMIT 1", []),
        ("SELECT TOP 0 VALUE COUNT(1) FROM c", []),
    ],
)
async def test_an_aggregate_over_all_ranges_is_made_distinct_and_cut_by_the_client(
    many: ContainerProxy, text: str, expected: list[Any]
) -> None:
    assert await rows(many, text, partition_key=None) == expected


async def test_a_group_by_has_at_most_21_aggregates(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    columns = ", ".join(f"SUM(c.n{n}) AS s{n}" for n in range(22))
    answer = await plan(emulator, f"SELECT {columns} FROM c GROUP BY c.team")
    assert (answer.status, "at most 21" in answer.json["message"]) == (400, True)


# ---- metrics


async def metrics(container: ContainerProxy, text: str) -> tuple[Any, dict[str, str]]:
    """What the client makes of the index metrics, and the query metrics."""
    await rows(container, text, populate_index_metrics=True, populate_query_metrics=True)
    headers = container.client_connection.last_response_headers
    figures = dict(each.split("=") for each in headers["x-ms-documentdb-query-metrics"].split(";"))
    return headers.get("x-ms-cosmos-index-utilization"), figures


def specs(entries: list[Any]) -> list[Any]:
    return [entry.get("IndexSpec") or entry["IndexSpecs"] for entry in entries]


@pytest.mark.parametrize(
    ("filter_and_order", "used", "potential", "composite"),
    [
        ("c.team = 'red' AND c.n > 0", ["/team/?", "/n/?"], [], [["/team ASC", "/n ASC"]]),
        ("c.team = 'red' OR c.n > 0", ["/team/?", "/n/?"], [], []),
        ("c.size.w = 1", [], ["/size/w/?"], []),
        ("STARTSWITH(c.team, 'r') ORDER BY c.n DESC", ["/team/?", "/n/?"], [], []),
        ("c.team = 'red' ORDER BY c.n DESC", ["/team/?", "/n/?"], [], [["/team ASC", "/n DESC"]]),
        ("NOT IS_DEFINED(c.nothing) AND c.n IN (1, 2)", ["/nothing/?", "/n/?"], [], []),
        ("UPPER(c.team) = 'RED'", [], [], []),
        ("c.n + 1 = 2", [], [], []),
    ],
)
async def test_index_metrics_go_by_the_query_and_the_policy(
    client: CosmosClient, filter_and_order: str, used: Any, potential: Any, composite: Any
) -> None:
    policy = {"includedPaths": [{"path": "/*"}], "excludedPaths": [{"path": "/size/*"}]}
    items = [{**item, "pk": "p"} for item in ITEMS]
    one = await filled(client, "one", items, indexing_policy=policy)
    found, figures = await metrics(one, f"SELECT * FROM c WHERE {filter_and_order}")
    assert specs(found["UtilizedSingleIndexes"]) == used
    assert specs(found["PotentialSingleIndexes"]) == potential
    assert specs(found["PotentialCompositeIndexes"]) == composite
    assert found["UtilizedCompositeIndexes"] == []
    assert float(figures["indexUtilizationRatio"]) == (1 if used else 0)
    assert float(figures["totalExecutionTimeInMs"]) >= 0


async def test_a_composite_index_is_used_in_its_order_and_the_opposite(client: CosmosClient) -> None:
    composites = [[{"path": "/team"}, {"path": "/n", "order": "descending"}]]
    policy = {"includedPaths": [{"path": "/*"}], "compositeIndexes": composites}
    one = await filled(client, "one", [{**item, "pk": "p"} for item in ITEMS], indexing_policy=policy)
    for order in ("c.team ASC, c.n DESC", "c.team DESC, c.n ASC"):
        found, _ = await metrics(one, f"SELECT * FROM c ORDER BY {order}")
        assert len(found["UtilizedCompositeIndexes"]) == 1
        assert found["PotentialCompositeIndexes"] == found["UtilizedSingleIndexes"] == []


async def test_without_a_row_there_are_no_index_metrics(one: ContainerProxy) -> None:
    assert (await metrics(one, "SELECT * FROM c WHERE c.n = 100"))[0] is None


async def test_metrics_that_are_not_there_are_refused_by_name(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    advice = {"x-ms-cosmos-populatequeryadvice": "true"}
    assert (await ask(emulator, "SELECT * FROM c", advice)).status == 501


async def test_index_metrics_have_a_second_form(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    asked = {"x-ms-cosmos-populateindexmetrics-V2": "true", "x-ms-documentdb-partitionkey": '["p"]'}
    answer = await ask(emulator, "SELECT * FROM c WHERE c.team = 'red' AND c.n > 0", asked, "one")
    assert json.loads(unquote(answer.headers["x-ms-cosmos-index-utilization"])) == {
        "UtilizedIndexes": {"SingleIndexes": [{"IndexSpec": "/team/?"}, {"IndexSpec": "/n/?"}]},
        "PotentialIndexes": {
            "SingleIndexes": [],
            "CompositeIndexes": [{"IndexSpecs": ["/team ASC", "/n ASC"], "IndexImpactScore": "High"}],
        },
    }


# ---- subqueries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT VALUE c.id FROM c WHERE EXISTS(SELECT VALUE t FROM t IN c.tags WHERE t.n > 1)", ["a"]),
        ("SELECT VALUE EXISTS(SELECT VALUE undefined) FROM c WHERE c.id = 'a'", [False]),
        ("SELECT VALUE EXISTS(SELECT undefined) FROM c WHERE c.id = 'a'", [True]),
        ("SELECT VALUE ARRAY(SELECT VALUE t.name FROM t IN c.tags) FROM c", [["x", "y"], ["x"], []]),
        ("SELECT c.id, (SELECT VALUE COUNT(1) FROM t IN c.tags) AS n FROM c WHERE c.id = 'a'", [{"id": "a", "n": 2}]),
        ("SELECT (SELECT COUNT(1) AS n, SUM(t.n) AS s FROM t IN c.tags) AS d FROM c WHERE c.id = 'a'",
         [{"d": {"n": 2, "s": 3}}]),
        ("SELECT VALUE (SELECT c.id WHERE c.id = 'b').id FROM c", ["b"]),
        ("SELECT VALUE (SELECT VALUE CONCAT('ID-', c.id)) FROM c WHERE c.id = 'a'", ["ID-a"]),
        ("SELECT VALUE t.name FROM c JOIN (SELECT VALUE t FROM t IN c.tags WHERE t.n > 1) AS t", ["y"]),
        ("SELECT VALUE COUNT(1) FROM c JOIN (SELECT VALUE t FROM t IN c.tags) JOIN u IN c.tags", [5]),
        ("SELECT VALUE [c.id, m.unit] FROM c JOIN m IN (SELECT VALUE [{unit: 'g', id: 'a'}]) WHERE m.id = c.id",
         [["a", "g"]]),
        ("SELECT VALUE s.n FROM c JOIN (SELECT VALUE {n: COUNT(1)} FROM t IN c.tags) s", None),
        ("SELECT VALUE s.n FROM c JOIN (SELECT COUNT(1) AS n FROM t IN c.tags) s WHERE s.n > 0", [2, 1]),
        ("SELECT VALUE ARRAY(SELECT DISTINCT VALUE t.n > 0 FROM t IN c.tags) FROM c WHERE c.id = 'a'", [[True]]),
        ("SELECT VALUE ARRAY(SELECT TOP 1 VALUE t.n FROM t IN c.tags) FROM c WHERE c.id = 'a'", [[1]]),
    ],
)  # fmt: skip
async def test_subqueries_see_the_row_around_them(client: CosmosClient, text: str, expected: Any) -> None:
    items = [
        {"id": "a", "pk": "p", "tags": [{"name": "x", "n": 1}, {"name": "y", "n": 2}]},
        {"id": "b", "pk": "p", "tags": [{"name": "x", "n": 1}]},
        {"id": "c", "pk": "p"},
    ]
    one = await filled(client, "one", items)
    if expected is None:
        assert "Compositions of aggregates" in str(await refusal(one, text))
    else:
        assert await rows(one, text) == expected


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("SELECT (SELECT VALUE t FROM t IN c.list) AS x FROM c", 400),  # more than one value
        ("SELECT (SELECT VALUE c FROM other) AS x FROM c", 501),  # the container again
        ("SELECT * FROM (SELECT VALUE c FROM c) AS c", 501),
        ("SELECT * FROM c WHERE c.n IN (SELECT VALUE t FROM t IN c.list)", 501),
        ("SELECT * FROM c WHERE EXISTS(SELECT VALUE x.y)", 400),  # no such name
        ("SELECT SUM((SELECT VALUE 1)) AS s FROM c", 400),
    ],
)
async def test_subqueries_that_are_refused(client: CosmosClient, text: str, status: int) -> None:
    one = await filled(client, "one", [{"id": "a", "pk": "p", "n": 1, "list": [1, 2]}])
    assert (await refusal(one, text)).status_code == status


# ---- answers that are easily got wrong


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("c.missing ? 1 : 2", []),  # as other operators, undefined where its operand is
        ("c.n ? 1 : 2", [2]),
        ("c.yes ? 1 : 2", [1]),
        ("[c.n, c.missing]", [[1, None]]),
        ("{a: c.n, b: c.missing}", [{"a": 1}]),
        ("@unnamed", []),
        ("IS_DEFINED(@unnamed)", [False]),
        ("0x1F", [31]),
        ("7 % 4", [3]),
        ("-7 % 4", [-3]),
        ("1 / 3", [1 / 3]),
        ("c.text LIKE '%20^%%' ESCAPE '^'", [True]),
        ("c.text LIKE '%20!%' ESCAPE '!'", [False]),
        ("c.text LIKE '%20[%]%'", [True]),
        ("c.text LIKE '[^a-c]%'", [True]),
        ("c.text LIKE '[\\\\d]%'", [False]),  # a set of two characters, not of digits
        ("c.text LIKE '[z-a]%'", [False]),
        ("c.text LIKE '%]%'", [False]),
        ("c.text NOT LIKE '%40%'", [True]),
        ("c.missing LIKE '%'", []),
        ("STARTSWITH(c.text, 'SAVE')", [False]),
        ("STARTSWITH(c.text, 'SAVE', true)", [True]),
        ("CONTAINS(c.text, c.missing)", []),
        ("ARRAY_CONTAINS(c.list, {a: 1}, true)", [True]),
        ("ARRAY_CONTAINS(c.list, {a: 1})", [False]),
        ("ARRAY_CONTAINS(c.list, 1.0)", [True]),
        ("c.n = '1'", []),
        ("c.n != '1'", []),
        ("c.n != null", [True]),
        ("c.missing != null", []),
        ("NOT (c.n = '1')", []),
        ("c.n IN ('1', 2)", []),
        ("c.n IN ('1', 1)", [True]),
        ("c.n NOT IN (2, 3)", [True]),
        ("{a: 1} = {a: 1}", [True]),
        ("{a: 1} != {a: 2}", []),
        ("c.n < '1'", []),
        ("c.list < c.list", []),
        ("NOT c.missing", []),
        ("c.missing AND false", [False]),
        ("c.missing OR true", [True]),
        ("c.missing OR false", []),
        ("c.missing = c.missing", []),
        ("null = null", [True]),
        ("true = 1", []),
        ("c.n BETWEEN 0 AND 'x'", []),
        ("c.missing IN (1)", []),
        ("c.none ?? 1", [None]),
        ("IS_NULL(c.missing)", [False]),
        ("c.big * c.big", []),  # beyond a double
        ("TRIM(c.list)", []),
        ("STRINGEQUALS('ß', 'SS', true)", [False]),
        ("INDEX_OF('abcabc', 'a', 1)", [3]),
    ],
)
async def test_expressions(client: CosmosClient, expression: str, expected: list[Any]) -> None:
    item = {
        "id": "a", "pk": "p", "n": 1, "yes": True, "none": None, "text": "save 20% now", "list": [{"a": 1, "b": 2}, 1],
        "big": 1.5e300,
    }  # fmt: skip
    one = await filled(client, "one", [item])
    assert await rows(one, f"SELECT VALUE {expression} FROM c") == expected


@pytest.mark.parametrize(
    ("text", "substatus"),
    [
        ("SELECT VALUE 1 / 0 FROM c", 4001),
        ("SELECT VALUE c.n % 0 FROM c", 4001),
        ("SELECT * FROM c /* all */", 0),
        ("SELECT * FROM c;", 0),
        ("SELECT VALUE t FROM c JOIN t IN c.tags ORDER BY t.n", 0),
        ("SELECT VALUE t FROM t IN c.tags ORDER BY t", 0),
        ("SELECT VALUE c.id FROM c WHERE c.id LIKE 'a' ESCAPE 'ab'", 0),
    ],
)
async def test_queries_that_the_service_refuses(one: ContainerProxy, text: str, substatus: int) -> None:
    error = await refusal(one, text)
    assert (error.status_code, error.sub_status or 0) == (400, substatus)


async def test_a_query_is_known_by_its_content_type(emulator: CosmosEmulator, many: ContainerProxy) -> None:
    place, crossing = "dbs/shop/colls/many/docs", {"x-ms-documentdb-query-enablecrosspartition": "true"}
    typed = {"Content-Type": "application/query+json", **crossing}
    assert (await send(emulator, "POST", place, {"query": "SELECT * FROM c"}, typed)).status == 200
    plain = {"Content-Type": "application/sql", **crossing}
    assert (await send(emulator, "POST", place, b"SELECT * FROM c", plain)).status == 501


@pytest.mark.usefixtures("hurried_sdk")
@pytest.mark.parametrize("text", ["c.n << 1", "c.n >>> 1", "c.n >> 1", "c.n ^ 1", "TRIM(c.team, 'r')", "COUNTIF(c.n)"])
async def test_what_is_not_there_is_named(one: ContainerProxy, text: str) -> None:
    assert (await refusal(one, f"SELECT VALUE {text} FROM c")).status_code == 501


async def test_items_without_what_they_are_ordered_by_need_an_index_that_names_it(client: CosmosClient) -> None:
    items = [{"id": "a", "pk": "p", "n": 1}, {"id": "b", "pk": "p"}]
    plain = await filled(client, "plain", items)
    named = {"includedPaths": [{"path": "/*"}, {"path": "/n/?"}]}
    explicit = await filled(client, "explicit", items, indexing_policy=named)
    text = "SELECT VALUE c.id FROM c ORDER BY c.n"
    assert await rows(plain, text) == ["a"]
    assert await rows(explicit, text) == ["b", "a"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"query": "SELECT * FROM c", "parameters": [{"name": "n", "value": 1}]}, {}),
        ({"query": "SELECT * FROM c", "parameters": [{"name": "@n"}, {"name": "@n"}]}, {}),
        ({"query": "SELECT * FROM c", "parameters": {"@n": 1}}, {}),
        ({"query": "SELECT * FROM c", "parameters": [7]}, {}),
        ({"query": 7}, {}),
        ([], {}),
        ({"query": "SELECT * FROM c"}, {"x-ms-continuation": "nonsense"}),
        ({"query": "SELECT * FROM c"}, {"x-ms-continuation": "W10="}),
        ({"query": "SELECT * FROM c"}, {"x-ms-continuation": "WyIiLCJGRiIsW1sidmFsdWUiLCJhIl0sWyJ2YWx1ZSIsMV1dXQ=="}),
        ({"query": "SELECT * FROM c ORDER BY c.n"}, {"x-ms-continuation": "WyIiLCJGRiIsW1sidmFsdWUiLDFdXV0="}),
        ({"query": "SELECT TOP @n * FROM c", "parameters": [{"name": "@n", "value": "1"}]}, {}),
        ({"query": "SELECT * FROM c OFFSET -1 LIMIT 1"}, {}),
        ({"query": "SELECT VALUE '\\ud800x\\u12' FROM c"}, {}),
    ],
)
async def test_malformed_queries_are_bad_requests(
    emulator: CosmosEmulator, many: ContainerProxy, body: Any, headers: dict[str, str]
) -> None:
    asked = {"x-ms-documentdb-isquery": "true", "x-ms-documentdb-partitionkeyrangeid": "0", **headers}
    assert (await send(emulator, "POST", "dbs/shop/colls/many/docs", body, asked)).status == 400


@pytest.mark.parametrize("text", ["(" * 3000 + "1" + ")" * 3000, " OR ".join(["c.n = 1"] * 3000), "-" * 1 + "[" * 5000])
async def test_a_query_nested_beyond_measure_is_refused_by_name(
    emulator: CosmosEmulator, many: ContainerProxy, text: str
) -> None:
    answer = await ask(emulator, f"SELECT VALUE {text} FROM c", {})
    assert (answer.status, "nested" in answer.json["message"]) == (501, True)


async def test_an_escape_that_is_no_character_is_refused_whatever_it_is(one: ContainerProxy) -> None:
    for escape in ("c.size", "['a']", "'ab'", "c.nothing", "1"):
        with pytest.raises(CosmosHttpResponseError, match="ESCAPE of a LIKE is one character") as error:
            await rows(one, f"SELECT * FROM c WHERE c.team LIKE 'x' ESCAPE {escape}", partition_key="p")
        assert error.value.status_code == 400


async def test_a_sum_beyond_the_range_of_doubles_is_undefined(client: CosmosClient) -> None:
    numbers = [17 * 10**307, 17 * 10**307, 0.5]
    big = await filled(client, "big", [{"id": str(n), "pk": "p", "n": number} for n, number in enumerate(numbers)])
    for name in ("SUM", "AVG"):
        assert await rows(big, f"SELECT VALUE {name}(c.n) FROM c", partition_key="p") == []
    assert await rows(big, "SELECT VALUE SUM(c.n) FROM c WHERE c.n < 1", partition_key="p") == [0.5]


JOINS = "SELECT VALUE 1 FROM c " + " ".join(f"JOIN x{number} IN c.list" for number in range(11))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (JOINS, "more than 10 JOIN"),
        ("SELECT VALUE 1 FROM c JOIN a IN c.list JOIN a IN c.list", "The input alias 'a'"),
        ("SELECT VALUE c FROM c JOIN c IN c.list", "The input alias 'c'"),
        ("SELECT VALUE EXISTS(SELECT VALUE 1 FROM y IN c.list JOIN y IN c.list) FROM c", "The input alias 'y'"),
        ("SELECT * FROM c WHERE c.n IN ()", "incorrect syntax near '\\)'"),
        ("SELECT * FROM c WHERE c.n NOT IN ( )", "incorrect syntax near '\\)'"),
    ],
)
async def test_inputs_and_lists_that_the_service_refuses(
    emulator: CosmosEmulator, many: ContainerProxy, query: str, words: str
) -> None:
    with pytest.raises(CosmosHttpResponseError, match=words) as error:
        await rows(many, query, partition_key="p")
    assert error.value.status_code == 400
    assert (await plan(emulator, query)).status == 400
    assert await rows(many, JOINS.rpartition("JOIN")[0], partition_key="p") == []


# ---- what one request may take


async def test_lists_over_the_levels_of_a_key_are_all_partitions_beyond_a_thousand_keys(
    emulator: CosmosEmulator, client: CosmosClient
) -> None:
    database = await client.create_database("shop")
    levels = PartitionKey(["/a", "/b", "/c"], kind="MultiHash")
    container = await database.create_container("many", levels)
    await container.create_item({"id": "1", "a": 39, "b": 39, "c": 39})
    query = "SELECT VALUE c.id FROM c WHERE c.a IN ({0}) AND c.b IN ({0}) AND c.c IN ({0})"
    few, lots = (query.format(",".join(map(str, range(40 - count, 40)))) for count in (2, 40))
    for text, status in ((few, 200), (lots, 400)):
        alone = await ask(emulator, text, {"x-ms-documentdb-query-enablecrosspartition": "false"})
        assert alone.status == status
    begun = time.process_time()
    assert [row async for row in container.query_items(few)] == ["1"]
    assert [row async for row in container.query_items(lots)] == ["1"]
    assert time.process_time() - begun < 2


EXPLOSIVE = [
    "SELECT VALUE COUNT(1) FROM c JOIN x IN c.l WHERE "
    "EXISTS(SELECT VALUE 1 FROM y IN c.l JOIN z IN c.l JOIN w IN c.l WHERE w < 0)",
    "SELECT VALUE COUNT(1) FROM c JOIN x IN c.l JOIN y IN c.l JOIN z IN c.l JOIN w IN c.l",
    "SELECT VALUE LENGTH(REPLACE(c.s, 'a', REPLACE(c.s, 'a', 'aaaaaaaaaa'))) FROM c JOIN x IN c.l JOIN y IN c.l",
]


@pytest.mark.parametrize("query", EXPLOSIVE)
async def test_a_request_that_multiplies_without_end_times_out(
    emulator: CosmosEmulator, client: CosmosClient, query: str
) -> None:
    wide = await filled(client, "wide", [{"id": "1", "pk": "p", "l": list(range(40)), "s": "a" * 200}])
    answer = await ask(emulator, query, {"x-ms-documentdb-partitionkey": '["p"]'}, container="wide")
    assert answer.status == 408
    assert await rows(wide, "SELECT VALUE c.id FROM c", partition_key="p") == ["1"]


@pytest.mark.parametrize(
    "value",
    [
        "LENGTH(REPLACE(REPLACE(REPLACE(c.s, 'a', c.s), 'a', c.s), 'a', c.s))",
        f"LENGTH(CONCAT({', '.join(['c.s'] * 11)}))",
        "LENGTH(" + " || ".join(["c.s"] * 11) + ")",
        f"[{', '.join(['c.s'] * 21)}]",
        f"ARRAY_LENGTH([{', '.join(['c.s'] * 21)}])",
    ],
)
async def test_a_query_makes_no_value_beyond_what_an_item_or_a_page_holds(client: CosmosClient, value: str) -> None:
    wide = await filled(client, "wide", [{"id": "1", "pk": "p", "s": "a" * 200_000}])
    with pytest.raises(CosmosHttpResponseError, match="A query makes a") as error:
        await rows(wide, f"SELECT VALUE {value} FROM c", partition_key="p")
    assert error.value.status_code == 400
