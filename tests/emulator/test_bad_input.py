"""Malformed requests: each gets the service's status in the service's form, never a traceback, never a hang.

A generator takes a good request of every kind and spoils a part of it (`bad_requests`). Beside it are the cases by
name, with the answer that each must get.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Final
from urllib.parse import quote

import pytest

from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_emulator.refusals import ASKING_HEADERS, CONTAINER_FEATURES, INDEX_FEATURES
from tests.emulator.bad_requests import (
    CONTAINER,
    DEEP,
    DOCS,
    FEED,
    GOOD,
    HEADER_VALUES,
    ITEM,
    KEY,
    QUERY,
    good,
    spoiled,
)
from tests.emulator.cosmos_wire import LONGEST_ANSWER, Answer, Request, Wire

AUTOSCALE: Final = "x-ms-cosmos-offer-autopilot-settings"
STATUSES: Final = frozenset(
    {200, 201, 204, 207, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 424, 429, 449, 501}
)


@asynccontextmanager
async def filled(switches: Switches = Switches()) -> AsyncIterator[Wire]:  # noqa: B008  (it is frozen)
    async with CosmosEmulator(switches=switches, partitions={"c": 2}) as emulator:
        wire = Wire(emulator)
        for path, body in (("/dbs", {"id": "d"}), ("/dbs/d/colls", CONTAINER), ("/dbs/d/colls/c/docs", ITEM)):
            made = await wire.ask("POST", path, body, **KEY)
            assert made.status == 201, made
        yield wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with filled() as wire:
        yield wire


def check(request: Request, answer: Answer) -> None:
    what = f"{request} was answered {answer.status} {answer.body[:300]!r}"
    assert answer.status in STATUSES, what
    assert {"x-ms-activity-id", "x-ms-request-charge"} <= answer.headers.keys(), what
    assert "x-injected" not in answer.headers, what
    if answer.status < 400 or request.method == "HEAD":
        assert not answer.body or json.loads(answer.body) is not None
        return
    content = json.loads(answer.body)
    assert content.keys() == {"code", "message"}, what
    assert isinstance(content["message"], str), what
    assert answer.substatus >= 0


async def restored(wire: Wire) -> None:
    """What an earlier request may have deleted is there again."""
    await wire.ask("POST", "/dbs", {"id": "d"})
    await wire.ask("POST", "/dbs/d/colls", CONTAINER)
    await wire.ask("POST", DOCS, ITEM, **KEY)


@pytest.mark.parametrize("seed", range(6))
async def test_every_spoiled_request_gets_an_answer_in_the_services_form(seed: int) -> None:
    chance = random.Random(seed)
    async with filled() as wire:
        for number in range(400):
            if number % 20 == 0:
                await restored(wire)
            request = chance.choice(GOOD)
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                request = spoiled(chance, request)
            sent = request.signed()
            check(sent, await wire.send(sent))
            assert not wire.emulator.failures, sent


async def test_the_requests_that_are_spoiled_are_good(wire: Wire) -> None:
    for request in GOOD:
        answer = await wire.send(request.signed())
        check(request, answer)
        expected = {404} if request.path == "/offers/none" else {200, 201, 204, 304, 400}
        assert answer.status in expected, (request, answer)
        if answer.status == 400:  # an ORDER BY over databases needs an index that they have not
            assert request.path in {"/dbs", "/dbs/d/colls", "/dbs/d/colls/c/conflicts"} or answer.substatus == 1004


_VOCABULARY = """
SELECT * FROM c WHERE ORDER BY c.n c.data c.list c.deep c.pk JOIN x IN c.list TOP DISTINCT VALUE OFFSET LIMIT
AND OR NOT BETWEEN LIKE ?? ? : || + - * / % = != < >= ( ) [ ] { } , . @n @x AS ASC DESC GROUP
COUNT( SUM( AVG( MIN( CONCAT( SUBSTRING( LEFT( ROUND( FLOOR( ABS( REPLACE( ARRAY_CONTAINS( LIKE( EXISTS(
1 0 -1 1e308 1e999 9007199254740993 .5 null true undefined 'a' '%' '[z-a]' "\\u00e9" '\\ud800' -- /* ; é
"""
WORDS: Final = (*_VOCABULARY.split(), "9" * 400)


@pytest.mark.parametrize("seed", range(3))
async def test_every_spoiled_query_gets_an_answer_in_the_services_form(wire: Wire, seed: int) -> None:
    chance = random.Random(seed)
    await wire.ask("POST", DOCS, {"id": "large", "pk": "p", "u": 5, "n": 1e308, "data": "a" * 5000}, **KEY)
    beginnings = ("SELECT * FROM c WHERE", "SELECT VALUE", "SELECT", "SELECT c.n, SUM(c.n) FROM c JOIN x IN c.list")
    for _ in range(400):
        words = chance.choices(WORDS, k=chance.randrange(1, 12))
        text = " ".join((chance.choice(beginnings), *words, *chance.choice(((), ("FROM c",)))))
        body = {"query": text, "parameters": [{"name": "@n", "value": chance.choice((1, "x", None, [1], 1e308))}]}
        sent = good("POST", DOCS, body, **chance.choice((KEY, {})), **QUERY).signed()
        check(sent, await wire.send(sent))
        assert not wire.emulator.failures, sent


# ---- by name


async def test_a_defect_is_answered_recorded_and_raised_at_the_end() -> None:
    emulator = CosmosEmulator()
    await emulator.start()

    def defective(call: object) -> bool:
        raise ZeroDivisionError("a defect")

    emulator.faults.respond(503, where=defective)
    answer = await Wire(emulator).ask("GET", "/dbs")
    assert (answer.status, answer.code) == (500, "InternalServerError")
    with pytest.raises(ExceptionGroup) as raised:
        await emulator.stop()
    assert raised.group_contains(ZeroDivisionError, match="a defect")
    await emulator.stop()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"", "must be a JSON object"),
        (DEEP, "not valid JSON"),
        (b"\xff\xfe", "not valid UTF-8"),
        (json.dumps(ITEM).encode("utf-16"), "not valid UTF-8"),
        (b'{"id": "a", "pk": "p", "text": "\\ud83d"}', "lone surrogate"),
        (b'{"id": "a", "pk": "p", "n": 1e400}', "not valid JSON"),
        (b'{"id": "a", "pk": "p", "n": ' + b"9" * 400 + b"}", "not valid JSON"),
        (b'{"id": "a", "pk": "p", "n": NaN}', "not valid JSON"),
        (b'{"id": "a", "pk": "p", "deep": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper"),
        (b'{"id": "a", "pk": "p", "ttl": 2147483648}', "ttl"),
        (b'{"id": "a", "pk": "p", "ttl": true}', "ttl"),
        (b'{"id": 5, "pk": "p"}', "id"),
        (b'{"pk": "p"}', "'id; '"),
    ],
)
async def test_a_body_that_is_no_item_is_a_bad_request(wire: Wire, body: bytes, words: str) -> None:
    answer = await wire.ask("POST", DOCS, body, **KEY)
    assert (answer.status, answer.code, answer.substatus) == (400, "BadRequest", 0)
    assert words in answer.message


async def test_too_large_is_413_whatever_its_size(wire: Wire) -> None:
    for size in (2 * 1024 * 1024 + 1, 3 * 1024 * 1024, 65 * 1024 * 1024):
        answer = await wire.ask("POST", DOCS, b'{"id": "a", "pk": "p", "d": "%b"}' % (b"x" * size), **KEY)
        assert (answer.status, answer.code) == (413, "RequestEntityTooLarge")
        assert "Request size is too large" in answer.message


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_defect(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    noticed = asyncio.Event()
    monkeypatch.setattr(wire.emulator, "_record", lambda call, reply: noticed.set())
    request = Request("POST", DOCS, KEY, b"x" * 100).signed().encoded()[:-50]
    if chunked:
        request = request.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked")[:-50] + b"9\r\nabc"
    _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(request)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(LONGEST_ANSWER):
        await noticed.wait()
    assert wire.emulator.failures == []
    assert (await wire.ask("GET", "/dbs/d")).status == 200


@pytest.mark.parametrize("etag", ['"²"', '"' + "9" * 5000 + '"', '"-1"', '"x"'])
async def test_an_etag_that_is_no_place_is_a_bad_request(wire: Wire, etag: str) -> None:
    settings = {**CONTAINER, "id": "kept", "changeFeedPolicy": {"retentionDuration": 5}}
    assert (await wire.ask("POST", "/dbs/d/colls", settings)).status == 201
    versions = {"A-IM": "Full-Fidelity Feed", "x-ms-cosmos-changefeed-wire-format-version": "2021-09-15"}
    for path, headers in (
        ("/dbs/d/colls/c/pkranges", {}),
        (DOCS, FEED),
        ("/dbs/d/colls/kept/docs", {**FEED, **versions}),
    ):
        answer = await wire.ask("GET", path, None, **{**headers, "If-None-Match": etag})
        assert answer.status == 400, (path, answer)


async def test_chunks_that_are_none_are_a_bad_request(wire: Wire) -> None:
    broken = Request("POST", DOCS, {**KEY, "Transfer-Encoding": "chunked"}, b"nonsense\r\n\r\n")
    assert (await wire.send(broken.signed())).status == 400


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"authorization": None}, 401, "Required Header authorization is missing"),
        ({"authorization": "type=master&ver=1.0&sig=x"}, 401, "signature"),
        ({"authorization": b"type=master&ver=1.0&sig=\xff"}, 401, "signature"),
        ({"authorization": "type=other&ver=1.0&sig=x"}, 401, "type"),
        ({"x-ms-date": None}, 401, "signature"),
        ({"x-ms-date": "yesterday"}, 401, "signature"),
    ],
)
async def test_a_wrong_signature_is_unauthorized(
    wire: Wire, changes: dict[str, str | bytes | None], status: int, words: str
) -> None:
    request = Request("GET", "/dbs").signed()
    headers = {name: value for name, value in {**request.headers, **changes}.items() if value is not None}
    answer = await wire.send(Request("GET", "/dbs", headers))
    assert answer.status == status
    assert words in answer.message


async def test_a_signature_holds_for_15_minutes(wire: Wire) -> None:
    now = time.time()
    for seconds, status in ((-1000, 403), (-800, 200), (800, 200), (1000, 403)):
        request = Request("GET", "/dbs").signed(formatdate(now + seconds, usegmt=True))
        assert (await wire.send(request)).status == status, seconds
    assert (await wire.send(Request("GET", "/dbs").signed("no date"))).status == 401


@pytest.mark.parametrize(
    ("header", "value"),
    [(name, value) for name in ("x-ms-offer-throughput", AUTOSCALE) for value in HEADER_VALUES[name]],
)
async def test_throughput_that_is_no_number_in_its_bounds_is_a_bad_request(
    wire: Wire, header: str, value: str | bytes
) -> None:
    body = json.dumps({**CONTAINER, "id": "new"}).encode()
    for path in ("/dbs", "/dbs/d/colls"):
        answer = await wire.send(Request("POST", path, {header: value}, body).signed())
        assert (answer.status, answer.substatus) == (400, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"partitionKey": None},
        {"partitionKey": []},
        {"partitionKey": "/pk"},
        {"partitionKey": {"paths": "/pk"}},
        {"partitionKey": {"paths": [1]}},
        {"partitionKey": {"paths": ["pk"]}},
        {"partitionKey": {"paths": ["/a", "/b"]}},
        {"partitionKey": {"paths": ["/pk"], "kind": "Sideways"}},
        {"partitionKey": {"paths": ["/pk"], "kind": ["Hash"]}},
        {"partitionKey": {"paths": ["/pk"], "version": 3}},
        {"partitionKey": {"paths": ["/pk"], "version": "2"}},
        {"indexingPolicy": "all"},
        {"indexingPolicy": {"indexingMode": "eager"}},
        {"indexingPolicy": {"automatic": "yes"}},
        {"indexingPolicy": {"includedPaths": {"path": "/*"}}},
        {"indexingPolicy": {"includedPaths": ["/*"]}},
        {"indexingPolicy": {"includedPaths": [{"path": 5}]}},
        {"indexingPolicy": {"includedPaths": [{"path": "/a"}, {"path": "/*"}]}},
        {"indexingPolicy": {"includedPaths": [{"path": "/a/?"}]}},
        {"indexingPolicy": {"compositeIndexes": [{"path": "/a"}]}},
        {"indexingPolicy": {"compositeIndexes": [[{"path": "/a"}]]}},
        {"indexingPolicy": {"compositeIndexes": [[{"path": "/a"}, {"path": "/b", "order": "up"}]]}},
        {"uniqueKeyPolicy": []},
        {"uniqueKeyPolicy": {"uniqueKeys": [{"paths": []}]}},
        {"uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/a"]}] * 11}},
        {"conflictResolutionPolicy": "mine"},
        {"defaultTtl": 0},
        {"defaultTtl": True},
        {"defaultTtl": "1"},
        {"defaultTtl": 2**31},
        {"id": None},
        {"id": "a/b"},
        {"id": ["x"]},
    ],
)
async def test_settings_of_a_wrong_shape_are_a_bad_request(wire: Wire, change: dict[str, object]) -> None:
    answer = await wire.ask("POST", "/dbs/d/colls", {**CONTAINER, "id": "new", **change})
    assert (answer.status, answer.substatus) == (400, 0), answer
    if "id" not in change:
        answer = await wire.ask("PUT", "/dbs/d/colls/c", {**CONTAINER, **change})
        assert answer.status == 400, answer
    assert (await wire.ask("GET", "/dbs/d/colls/c")).status == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *(("query", {"query": query}) for query in (None, 5, [], "", "SELECT", "SELECT * FROM c -- " + "x" * 524_288)),
        *(("query", {"query": "SELECT * FROM c", "parameters": value}) for value in ("@a", {"a": 1}, [1], [{}])),
        ("query", {"query": "SELECT * FROM c", "parameters": [{"name": 5}]}),
        *(("batch", value) for value in ({}, [], None, [1], [{}], ["Create"], [{"operationType": "Bulk"}])),
        *(("patch", {"operations": value}) for value in (None, {}, [], [1], [{}], [{"op": "set"}], [{"path": "/a"}])),
        ("patch", {"operations": [{"op": "set", "path": "/a", "value": 1}] * 11}),
        ("patch", {"operations": [{"op": "incr", "path": "/a", "value": "x"}]}),
        ("patch", {"operations": [{"op": "set", "path": "/list/\u0661", "value": 1}]}),
        ("patch", {"condition": ["where"], "operations": [{"op": "set", "path": "/a", "value": 1}]}),
        ("offer", {"content": 5}),
        ("offer", {"content": {"offerThroughput": "400"}}),
        ("offer", {"content": {"offerThroughput": 401}}),
        ("offer", {"content": {"offerAutopilotSettings": {"maxThroughput": "x"}}}),
        ("offer", {}),
    ],
)
async def test_a_content_of_a_wrong_shape_is_a_bad_request(wire: Wire, kind: str, body: object) -> None:
    offer = json.loads((await wire.ask("GET", "/offers")).body)["Offers"][0]["_rid"]
    method, path, headers = {
        "query": ("POST", DOCS, {**QUERY, **KEY}),
        "batch": ("POST", DOCS, {"x-ms-cosmos-is-batch-request": "true", **KEY}),
        "patch": ("PATCH", f"{DOCS}/i", KEY),
        "offer": ("PUT", f"/offers/{offer}", {}),
    }[kind]
    answer = await wire.ask(method, path, body, **headers)
    if answer.status == 207:  # one operation of a batch is wrong
        assert [part["statusCode"] for part in json.loads(answer.body)] == [400]
        return
    assert (answer.status, answer.substatus) == (400, 0), answer


async def test_a_continuation_belongs_to_its_query_and_its_container(wire: Wire) -> None:
    await wire.ask("POST", "/dbs/d/colls", {**CONTAINER, "id": "other"})
    for number in range(3):
        await wire.ask("POST", DOCS, {"id": f"n{number}", "pk": "p", "u": 10 + number}, **KEY)
    text, page = {"query": "SELECT * FROM c"}, {**QUERY, **KEY, "x-ms-max-item-count": "1"}
    token = (await wire.ask("POST", DOCS, text, **page)).headers["x-ms-continuation"]
    again = {**page, "x-ms-continuation": token}
    assert (await wire.ask("POST", DOCS, text, **again)).status == 200
    for path, query in ((DOCS, {"query": "SELECT c.id FROM c"}), ("/dbs/d/colls/other/docs", text)):
        answer = await wire.ask("POST", path, query, **again)
        assert (answer.status, answer.substatus) == (400, 0)
        assert "continuation token specified in the request is malformed" in answer.message
    for wrong in (*filter(None, HEADER_VALUES["x-ms-continuation"]), token[:-4], token[4:], token.swapcase()):
        sent = Request("POST", DOCS, {**page, "x-ms-continuation": wrong}, json.dumps(text).encode()).signed()
        assert (await wire.send(sent)).status == 400, wrong


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 400),
        ("/dbs/d/nothing", "GET", 400),
        ("/dbs", "PUT", 405),
        ("/dbs/d", "PATCH", 405),
        ("/dbs/d/colls/c", "POST", 405),
        (DOCS, "DELETE", 405),
        (f"{DOCS}/i", "POST", 405),
        ("/dbs/none", "GET", 404),
        ("/dbs/d/colls/none", "GET", 404),
        ("/dbs/d/colls/none/docs/i", "GET", 404),
    ],
)
async def test_what_is_nowhere_is_said_to_be_nowhere(wire: Wire, path: str, method: str, status: int) -> None:
    assert (await wire.ask(method, path, **KEY)).status == status


async def test_an_id_is_found_however_it_is_escaped(wire: Wire) -> None:
    for name in ("é%+ &", "a\nb", "100%", "'\"<>"):
        made = await wire.ask("POST", DOCS, {"id": name, "pk": "p", "u": name}, **KEY)
        assert made.status == 201, made
        assert json.loads((await wire.ask("GET", f"{DOCS}/{quote(name)}", **KEY)).body)["id"] == name


# ---- what the server cannot do


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ("/dbs/d/colls/c/sprocs", "stored procedures"),
        ("/dbs/d/colls/c/sprocs/s", "stored procedures"),
        ("/dbs/d/colls/c/triggers", "triggers"),
        ("/dbs/d/colls/c/udfs/u", "user-defined functions"),
        ("/dbs/d/users", "users"),
        ("/dbs/d/users/u/permissions", "users"),
        ("/dbs/d/clientencryptionkeys", "client encryption keys"),
        (f"{DOCS}/i/attachments", "attachments"),
        ("/media/m", "attachments"),
        ("/addresses", "direct mode"),
        ("/dbs/d/colls/c/operations/truncate", "operation"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_paths_that_it_has_not_are_refused_by_name(wire: Wire, path: str, method: str, feature: str) -> None:
    answer = await wire.ask(method, path, {"id": "x"}, **KEY)
    if "operations" in path and method != "POST":
        assert answer.status in {405, 501}
        return
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert feature in answer.message


@pytest.mark.parametrize("header", sorted(ASKING_HEADERS))
async def test_headers_that_ask_for_more_are_refused_by_name_unless_they_say_no(wire: Wire, header: str) -> None:
    answer = await wire.ask("POST", DOCS, {**ITEM, "id": "new", "u": 7}, **KEY, **{header: "x"})
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert ASKING_HEADERS[header] in answer.message
    answer = await wire.ask("POST", DOCS, {**ITEM, "id": "new", "u": 7}, **KEY, **{header: "False"})
    assert answer.status == 201


async def test_without_the_switch_such_headers_are_passed_over() -> None:
    async with filled(Switches(refusals=False)) as wire:
        headers = {**KEY, **dict.fromkeys(ASKING_HEADERS, "x")}
        assert (await wire.ask("POST", DOCS, {**ITEM, "id": "new", "u": 7}, **headers)).status == 201
        assert (await wire.ask("GET", "/dbs/d/colls/c/sprocs")).status == 501


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("name", "place"),
    [(name, None) for name in sorted(CONTAINER_FEATURES)]
    + [(name, "indexingPolicy") for name in sorted(INDEX_FEATURES)],
)
async def test_settings_that_ask_for_more_are_refused_by_name(
    wire: Wire, name: str, place: str | None, method: str
) -> None:
    asked = {name: [{"path": "/v"}]}
    new = "new" if method == "POST" else "c"
    body = {**CONTAINER, "id": new, **(asked if place is None else {place: {**CONTAINER["indexingPolicy"], **asked}})}
    answer = await wire.ask(method, "/dbs/d/colls" if method == "POST" else "/dbs/d/colls/c", body)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert name in answer.message


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ({"path": "/where/?", "indexes": [{"kind": "Spatial", "dataType": "Point"}]}, "spatial indexes"),
        ({"path": "/events/[]/{name, category}/?"}, "tuple indexes"),
    ],
)
async def test_index_paths_that_ask_for_more_are_refused_by_name(
    wire: Wire, path: dict[str, object], feature: str
) -> None:
    policy = {"includedPaths": [{"path": "/*"}, path]}
    answer = await wire.ask("POST", "/dbs/d/colls", {**CONTAINER, "id": "new", "indexingPolicy": policy})
    assert answer.status == 501
    assert feature in answer.message


@pytest.mark.parametrize("header", ["x-ms-cosmos-priority-level", "x-ms-cosmos-throughput-bucket"])
async def test_priorities_and_buckets_are_valid_ones(wire: Wire, header: str) -> None:
    *wrong, right = HEADER_VALUES[header]
    for value in wrong:
        assert (await wire.ask("GET", f"{DOCS}/i", **KEY, **{header: str(value)})).status == 400
    assert (await wire.ask("GET", f"{DOCS}/i", **KEY, **{header: str(right)})).status == 200
