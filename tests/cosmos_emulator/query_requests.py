"""What a query request asks for, and the plan that says how a client merges what several ranges answer."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection
from typing import Any

from .errors import CROSS_PARTITION_QUERY_NOT_SERVABLE, CosmosError, bad_request
from .partition_keys import FULL_MAX, FULL_MIN
from .queries import LONGEST_QUERY
from .routes import Call
from .settings import objects
from .sql import (
    ALL_FEATURES,
    Query,
    aggregates_columns,
    needs_client_merge,
    parse_query,
    partition_keys_in_filter,
    query_info,
)
from .storage import Container

_MOST_KEYS = 1000
"""Whole keys that a filter may name, by its lists for each level, before all partitions are asked: the SDKs read many
items by lists of this length."""


def read_query(call: Call) -> Query:
    text = query_text(call)
    if len(text.encode()) > LONGEST_QUERY:
        raise bad_request(f"The SQL query text exceeded the maximum limit of {LONGEST_QUERY} bytes.")
    return parse_query(text)


def query_text(call: Call) -> str:
    """The text of a query; "" where a feed is listed."""
    text = call.document.get("query") if call.method == "POST" else ""
    if not isinstance(text, str):
        raise bad_request("A query needs its text.")
    return text


def read_parameters(call: Call) -> dict[str, Any]:
    """The values by name; one that is named without a value is undefined, like one that is not named at all."""
    given = objects(call.document.get("parameters") if call.method == "POST" else None, "The parameters of a query")
    names = [each.get("name") for each in given]
    if not all(isinstance(name, str) and name.startswith("@") for name in names):
        raise bad_request("Parameter names should be in the format of symbol '@' followed by a valid identifier.")
    if len(set(names)) < len(names):
        raise bad_request("Specified duplicate parameter name.")
    return {each["name"]: each["value"] for each in given if "value" in each}


def key_ranges(container: Container, query: Query, parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Where rows of the query can be: everywhere, or at the whole keys that its filter names."""
    definition = container.definition
    levels = [partition_keys_in_filter(query, path, parameters) for path in definition.parts]
    if any(level is None or any(isinstance(key, dict | list) for key in level) for level in levels):
        return [(FULL_MIN, FULL_MAX)]
    if math.prod(len(level or ()) for level in levels) > _MOST_KEYS:
        return [(FULL_MIN, FULL_MAX)]
    return sorted(map(definition.effective_range, itertools.product(*filter(None, levels))))


def query_plan(
    container: Container, query: Query, parameters: dict[str, Any], features: Collection[str]
) -> dict[str, Any]:
    ranges = [
        {"min": low, "max": high, "isMinInclusive": True, "isMaxInclusive": False}
        for low, high in key_ranges(container, query, parameters)
    ]
    info = query_info(query, parameters, features)
    return {"partitionedQueryExecutionInfoVersion": 2, "queryInfo": info, "queryRanges": ranges}


def check_crossing(call: Call) -> None:
    """Whether a request may go to all partitions: only if it says so."""
    if not call.flag("x-ms-documentdb-query-enablecrosspartition"):
        raise bad_request(
            "Cross partition query is required but disabled. Please set "
            "x-ms-documentdb-query-enablecrosspartition to true, or specify x-ms-documentdb-partitionkey."
        )


def check_servable(container: Container, query: Query, parameters: dict[str, Any]) -> None:
    """The gateway's refusals of what only a client can merge: with the plan, or in words that clients know."""
    if aggregates_columns(query):
        raise bad_request("Cross partition query only supports 'VALUE <AggregateFunc>' for aggregates.")
    if needs_client_merge(query):
        raise CosmosError(
            400,
            "The provided cross partition query can not be directly served by the gateway. This is a first chance "
            "(internal) exception that all newer clients will know how to handle gracefully.",
            substatus=CROSS_PARTITION_QUERY_NOT_SERVABLE,
            details={"additionalErrorInfo": json.dumps(query_plan(container, query, parameters, ALL_FEATURES))},
        )
