"""A good request of every kind, and how it is spoiled: body, header, path, verb, signature."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Final

from tests.emulator.cosmos_wire import Request

DEEP: Final = b"[" * 50_000
KEY: Final = {"x-ms-documentdb-partitionkey": '["p"]'}
QUERY: Final = {"x-ms-documentdb-isquery": "true", "Content-Type": "application/query+json"}
ITEM: Final = {"id": "i", "pk": "p", "n": 1, "list": [1, "two", None], "deep": {"er": True}}
CONTAINER: Final = {
    "id": "c",
    "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2},
    "indexingPolicy": {
        "includedPaths": [{"path": "/*"}],
        "excludedPaths": [{"path": "/data/?"}],
        "compositeIndexes": [[{"path": "/n", "order": "ascending"}, {"path": "/pk", "order": "descending"}]],
    },
    "defaultTtl": 1000,
    "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/u"]}]},
    "conflictResolutionPolicy": {"mode": "LastWriterWins", "conflictResolutionPath": "/_ts"},
}
SQL: Final = {
    "query": "SELECT TOP 5 c.id, c.n FROM c WHERE c.n >= @n AND c.pk LIKE 'p%' ORDER BY c.n",
    "parameters": [{"name": "@n", "value": 0}],
}
PATCH: Final = {"condition": "from c where c.n > 0", "operations": [{"op": "incr", "path": "/n", "value": 1}]}
BATCH: Final = [
    {"operationType": "Upsert", "resourceBody": {"id": "b", "pk": "p", "u": 2, "n": 1}},
    {"operationType": "Patch", "id": "b", "resourceBody": PATCH, "ifMatch": "*"},
    {"operationType": "Read", "id": "b"},
    {"operationType": "Delete", "id": "b"},
]
DOCS: Final = "/dbs/d/colls/c/docs"
FEED: Final = {"A-IM": "Incremental feed", "x-ms-documentdb-partitionkeyrangeid": "0"}


def good(method: str, path: str, body: Any = None, **headers: str) -> Request:
    return Request(method, path, headers, b"" if body is None else json.dumps(body).encode())


PLAN = {"x-ms-cosmos-is-query-plan-request": "true", "x-ms-cosmos-supported-query-features": "OrderBy,Top"}
GOOD: Final = (
    good("GET", "/"),
    good("POST", "/dbs", {"id": "other"}, **{"x-ms-offer-throughput": "400"}),
    good("GET", "/dbs"),
    good("POST", "/dbs", SQL, **QUERY),
    good("GET", "/dbs/d"),
    good("DELETE", "/dbs/other"),
    good("POST", "/dbs/d/colls", {**CONTAINER, "id": "other"}),
    good("GET", "/dbs/d/colls"),
    good("POST", "/dbs/d/colls", SQL, **QUERY),
    good("GET", "/dbs/d/colls/c", **{"x-ms-documentdb-populatequotainfo": "true"}),
    good("PUT", "/dbs/d/colls/c", CONTAINER, **{"If-Match": "*"}),
    good("DELETE", "/dbs/d/colls/other"),
    good("GET", "/dbs/d/colls/c/pkranges", **{"If-None-Match": '"1"'}),
    good("POST", DOCS, {**ITEM, "id": "new", "u": 1}, **KEY),
    good("POST", DOCS, ITEM, **KEY, **{"x-ms-documentdb-is-upsert": "true"}),
    good("GET", f"{DOCS}/i", **KEY, **{"If-None-Match": '"etag"'}),
    good("PUT", f"{DOCS}/i", ITEM, **KEY, **{"If-Match": "*"}),
    good("PATCH", f"{DOCS}/i", PATCH, **KEY),
    good("DELETE", f"{DOCS}/new", **KEY),
    good("POST", DOCS, BATCH, **KEY, **{"x-ms-cosmos-is-batch-request": "true", "x-ms-cosmos-batch-atomic": "true"}),
    good("POST", DOCS, SQL, **KEY, **QUERY),
    good("POST", DOCS, SQL, **QUERY, **{"x-ms-documentdb-partitionkeyrangeid": "0", "x-ms-max-item-count": "1"}),
    good("POST", DOCS, {"query": "SELECT * FROM c"}, **QUERY, **{"x-ms-documentdb-query-enablecrosspartition": "true"}),
    good("POST", DOCS, SQL, **QUERY, **PLAN),
    good("GET", DOCS, **{"x-ms-max-item-count": "10"}),
    good("GET", DOCS, **FEED, **{"If-None-Match": '"0"'}),
    good("GET", DOCS, **FEED, **{"If-Modified-Since": formatdate(0, usegmt=True)}),
    good(
        "GET",
        DOCS,
        **FEED,
        **{"x-ms-read-key-type": "EffectivePartitionKeyRange", "x-ms-start-epk": "", "x-ms-end-epk": "1FFF"},
    ),
    good("POST", "/dbs/d/colls/c/operations/partitionkeydelete", **{"x-ms-documentdb-partitionkey": '["q"]'}),
    good("GET", "/offers"),
    good("POST", "/offers", {"query": "SELECT * FROM root r"}, **QUERY),
    good("PUT", "/offers/none", {"content": {"offerThroughput": 400}}),
    good("GET", "/dbs/d/colls/c/conflicts"),
    good("POST", "/dbs/d/colls/c/conflicts", SQL, **QUERY),
)


# ---- spoiling


VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**53 + 1, 10**300, "", " ", "/", "/*", "/a/?", "\ud800", "\x00", "é" * 3,
    "x" * 3000,
    "SELECT", "SELECT * FROM c", "SELECT * FROM", "SELECT 1e999 FROM c", "SELECT VALUE (" + "(" * 3000,
    "SELECT * FROM c WHERE 'a' LIKE '[z-a]'",
    "SELECT VALUE 1e308 * 10 / c.n FROM c", f"SELECT VALUE {'9' * 5000} FROM c", "SELECT '\\", "from c where", [],
    {}, [[]], [{}], [None], ["/pk"], {"path": 1},
    {"a": {"b": []}}, [1, "x", {}], {"name": []}, "ascending", "Hash", "MultiHash", "Range", "none", "consistent",
)  # fmt: skip
BODIES: Final = (
    b"", b"{", b"[]", b"{}", b"null", b"1", b'"x"', b"nonsense", b"\xff\xfe\x00", b'{"id": "\xed\xa0\x80"}', DEEP,
    b'{"a":' * 20_000,
    b'{"id": "\\ud800"}', b'{"id": 1e999}', b'{"id": ' + b"9" * 5000 + b"}", b'{"id": ' + b"9" * 400 + b"}",
    b'{"id": NaN}', b"\xef\xbb\xbf{}",
    '{"id": "a"}'.encode("utf-16"), b'{"id": "a", "id": 5}', b"\x00" * 10, b'{"id": "a"} trailing',
    b"[" + b"1," * 100_000 + b"1]",
)  # fmt: skip
TOKENS: Final = tuple(
    base64.b64encode(raw).decode()
    for raw in (b"", b"x", b"null", b"[]", b"{}", b'["","",""]', b'["","","FF",[]]', b'["","","FF",[["value",1]]]',
    b"\xff", DEEP[:3000])
)  # fmt: skip
HEADER_VALUES: Final[Mapping[str, tuple[str | bytes, ...]]] = {
    "x-ms-documentdb-partitionkey": (
        "", "x", "{}", "[", "[[1]]", '[{"a": 1}]', "[1, 2]", "[NaN]", "[1e999]", "[" + "9" * 400 + "]",
        '["\\ud800"]', "null", '"p"', "[{}]",
        "[" * 3000, b'["\xff"]', '["' + "k" * 3000 + '"]', "[true]", "[null]", "[]",
    ),
    "x-ms-max-item-count": ("", "abc", "0", "-2", "1.5", "9" * 30, "1_0", "\u0661", "-1", " 5", "+5"),
    "x-ms-continuation": ("", "x", "é", *TOKENS),
    "If-Match": ("", "x", '"', b"\xff\xfe", "é", "W/x"),
    "If-None-Match": ("", "x", '"x"', '"-5"', '"1_0"', '"' + "9" * 40 + '"', "*", b"\xff", "é", '"\u0661"'),
    "If-Modified-Since": ("", "yesterday", "Thu, 99 Foo 2020", "Mon, 01 Jan 0001 00:00:00 GMT",
    "Mon, 01 Jan 9999 00:00:00 -2359", b"\xff", "0"),
    "x-ms-documentdb-partitionkeyrangeid": ("", "99", "-1", "0,1", "é", "c,0", "0" * 3000),
    "x-ms-read-key-type": ("", "x", "EffectivePartitionKeyRange"),
    "x-ms-start-epk": ("", "FF", "xyz", "é", "1" * 3000, "fa"),
    "x-ms-end-epk": ("", "00", "xyz", "é", "FFFF"),
    "x-ms-offer-throughput": ("", "abc", "-1", "0", "399", "450", "1e3", "9" * 5000, "400.5",
    "\u0661\u0660\u0660\u0660"),
    "x-ms-cosmos-offer-autopilot-settings": (
        "", "x", "[]", "null", "{}", '{"maxThroughput": "x"}', '{"maxThroughput": 1e999}',
        '{"maxThroughput": true}', '{"maxThroughput": 5}', "[" * 3000,
    ),
    "x-ms-consistency-level": ("", "Strong", "Weak", "é"),
    "x-ms-cosmos-priority-level": ("", "Middle", "Low"),
    "x-ms-cosmos-throughput-bucket": ("", "0", "six", "3"),
    "x-ms-session-token": ("", "x", "0:", "0:-1#", "0:-1#x", "0:-1#999999", "0:-1#" + "9" * 5000, "é", ",,,",
    "7:0#1#2=3"),
    "x-ms-activity-id": ("", "x", b"\xff\xfe", "é", "a" * 500),
    "x-ms-date": ("", "x", "é", formatdate(0, usegmt=True), b"\xff"),
    "authorization": ("", "x", "type=master", "type%3Dmaster%26ver%3D1.0%26sig%3D%FF", "type=aad&ver=1.0&sig=x",
    b"type=master&sig=\xff\xfe", "Bearer x"),
    "A-IM": ("", "x", "Full-Fidelity Feed", "Incremental feed", "é"),
    "x-ms-cosmos-intended-collection-rid": ("x", "é"),
    "x-ms-documentdb-isquery": ("true", "x"),
    "x-ms-cosmos-is-batch-request": ("true", "x"),
    "x-ms-cosmos-is-query-plan-request": ("true",),
    "x-ms-documentdb-is-upsert": ("true",),
    "Prefer": ("", "return=minimal", "x"),
    "Content-Type": ("text/plain", "application/query+json", "x"),
    "Content-Encoding": ("gzip", "deflate", "x"),
    "x-ms-indexing-directive": ("Exclude", "x"),
    "x-ms-documentdb-query-enablecrosspartition": ("true", "x"),
}  # fmt: skip
SEGMENTS: Final = (
    "%00", "%FF%FE", "%ED%A0%80", "%", "%zz", "%2F", "..", "x" * 2000, "%C3%A9", "%20", "dbs", "docs", "sprocs",
    "operations", "offers",
    "pkranges", "attachments", "partitionkeydelete", "conflicts", "%0D%0Ax-injected:1", "none",
)  # fmt: skip
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "MERGE")


def spoiled_json(chance: random.Random, value: Any) -> Any:
    """The value with one place of it replaced, left out or repeated."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(list(value))
        if chance.random() < 0.2:
            return {key: part for key, part in value.items() if key != name}
        return {**value, name: spoiled_json(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        index = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value * chance.choice((0, 2, 60))
        return [*value[:index], spoiled_json(chance, value[index]), *value[index + 1 :]]
    return chance.choice(VALUES)


def spoiled(chance: random.Random, request: Request) -> Request:
    part = chance.choice(("json", "json", "json", "body", "header", "header", "header", "path", "method", "cut"))
    match part:
        case "json" if (content := _content(request)) is not None:
            return replace(request, body=json.dumps(spoiled_json(chance, content)).encode())
        case "body":
            return replace(request, body=chance.choice(BODIES))
        case "cut" if request.body:
            return replace(request, body=request.body[: chance.randrange(len(request.body))])
        case "path":
            segments = request.path.split("/")
            place = chance.randrange(1, len(segments) + 1)
            return replace(request, path="/".join([*segments[:place], chance.choice(SEGMENTS), *segments[place + 1 :]]))
        case "method":
            return replace(request, method=chance.choice(METHODS))
        case _:
            name = chance.choice(list(HEADER_VALUES))
            return replace(request, headers={**request.headers, name: chance.choice(HEADER_VALUES[name])})


def _content(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):  # spoiled before
        return None
