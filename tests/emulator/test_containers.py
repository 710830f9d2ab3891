"""The emulator's containers: which definitions the service refuses, and what stays as it was made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.cosmos_emulator import CosmosEmulator
from tests.emulator.bad_requests import CONTAINER
from tests.emulator.cosmos_wire import Answer, send

DATABASE: Final = "dbs/d"
PLAIN: Final[dict[str, Any]] = {"id": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}}


@pytest.fixture
async def emulator() -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator() as emulator:
        assert (await send(emulator, "POST", "dbs", {"id": "d"})).status == 201
        yield emulator


async def create(emulator: CosmosEmulator, **settings: Any) -> Answer:
    return await send(emulator, "POST", f"{DATABASE}/colls", {**PLAIN, **settings})


async def replace(emulator: CosmosEmulator, body: dict[str, Any]) -> Answer:
    return await send(emulator, "PUT", f"{DATABASE}/colls/c", body)


def key(*paths: str, **settings: Any) -> dict[str, Any]:
    return {"partitionKey": {"paths": list(paths), "kind": "Hash", "version": 2, **settings}}


def composite(count: int) -> dict[str, Any]:
    return {"indexingPolicy": {"compositeIndexes": [[{"path": f"/p{number}"} for number in range(count)]]}}


@pytest.mark.parametrize(
    "policy",
    [None, {}, {"uniqueKeys": []}, {"uniqueKeys": [{"paths": ["/v"]}]}, {"uniqueKeys": [{"paths": ["/u"]}] * 2}],
)
async def test_unique_keys_cannot_be_changed_nor_left_out(emulator: CosmosEmulator, policy: Any) -> None:
    assert (await create(emulator, uniqueKeyPolicy={"uniqueKeys": [{"paths": ["/u"]}]})).status == 201
    answer = await replace(emulator, {**PLAIN, "uniqueKeyPolicy": policy})
    assert answer.status == 403
    assert answer.json["message"].startswith("The unique index cannot be modified. To change the unique index, remove")
    same = {**PLAIN, "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/u"]}]}, "defaultTtl": 5}
    assert (await replace(emulator, same)).status == 200


@pytest.mark.parametrize(
    "change", [key("/pk", version=1), key("/other"), key("/pk", kind="MultiHash"), {"partitionKey": {"paths": ["/pk"]}}]
)
async def test_the_partition_key_cannot_be_changed_in_its_version_either(
    emulator: CosmosEmulator, change: dict[str, Any]
) -> None:
    assert (await create(emulator)).status == 201
    answer = await replace(emulator, {**PLAIN, **change})
    assert (answer.status, answer.json["message"]) == (400, "Document collection partition key cannot be changed")


async def test_a_container_without_an_index_has_no_time_to_live(emulator: CosmosEmulator) -> None:
    none = {"indexingPolicy": {"indexingMode": "none", "automatic": False}}
    words = "Indexing mode value cannot be 'none' when 'defaultTtl' is specified in the collection"
    assert (await create(emulator, **none, defaultTtl=5)).json["message"] == words
    assert (await create(emulator, **none)).status == 201
    answer = await replace(emulator, {**PLAIN, **none, "defaultTtl": 5})
    assert (answer.status, answer.json["message"]) == (400, words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (key("/a", "/b", kind="MultiHash", version=1), "Invalid version for Hash kind MultiHash."),
        ({"partitionKey": {"paths": ["/a", "/b"], "kind": "MultiHash"}}, "Invalid version for Hash kind MultiHash."),
        (key("/a/*"), "name more or less than one property"),
        (key("/a/?"), "name more or less than one property"),
        (key("/a/[]"), "name more or less than one property"),
        (key("/a/"), "name more or less than one property"),
        (key("/a//b"), "name more or less than one property"),
        (composite(9), "at most 8 paths"),
        ({"indexingPolicy": {"indexingMode": "lazy"}}, "Lazy indexing"),
    ],
)
async def test_definitions_that_the_service_refuses(
    emulator: CosmosEmulator, settings: dict[str, Any], words: str
) -> None:
    answer = await create(emulator, **settings)
    assert answer.status == 400
    assert words in answer.json["message"]


@pytest.mark.parametrize("settings", [composite(8), key("/a/b"), key('/"a*"/"?"'), CONTAINER])
async def test_definitions_at_the_limits_are_taken(emulator: CosmosEmulator, settings: dict[str, Any]) -> None:
    assert (await create(emulator, **settings)).status == 201


async def test_an_offer_is_not_migrated_by_its_body_alone(emulator: CosmosEmulator) -> None:
    autoscale = {"x-ms-cosmos-offer-autopilot-settings": '{"maxThroughput":1000}'}
    assert (await create(emulator)).status == 201
    other = await send(emulator, "POST", f"{DATABASE}/colls", {**PLAIN, "id": "auto"}, autoscale)
    assert other.status == 201
    manual, automatic = (await send(emulator, "GET", "offers")).json["Offers"]
    for offer, content in (
        (manual, {"offerAutopilotSettings": {"maxThroughput": 4000}}),
        (automatic, {"offerThroughput": 500, "offerAutopilotSettings": None}),
    ):
        answer = await send(emulator, "PUT", f"offers/{offer['_rid']}", {**offer, "content": content})
        assert (answer.status, answer.json["message"]) == (501, "The emulator does not support migrating an offer.")
    changed = {**manual, "content": {"offerThroughput": 500}}
    assert (await send(emulator, "PUT", f"offers/{manual['_rid']}", changed)).status == 200
