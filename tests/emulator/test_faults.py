"""Faults by name: the status, sub-status and words of the service, as the SDK hands them on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from azure.cosmos import PartitionKey, http_constants
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.cosmos_emulator import NAMED_FAULTS, CosmosEmulator
from tests.emulator.bad_requests import DOCS, ITEM, KEY
from tests.emulator.cosmos_wire import Wire

CODES = {name: value for name, value in vars(http_constants.SubStatusCodes).items() if isinstance(value, int)}


@pytest.fixture
async def emulator() -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator() as emulator:
        yield emulator


@pytest.fixture
async def container(emulator: CosmosEmulator) -> AsyncIterator[ContainerProxy]:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("d")
        yield await database.create_container("c", PartitionKey("/pk"))


@pytest.mark.parametrize("name", sorted(NAMED_FAULTS))
async def test_a_named_fault_is_answered_as_the_service_does(emulator: CosmosEmulator, name: str) -> None:
    wire, fault = Wire(emulator), NAMED_FAULTS[name]
    with emulator.faults.respond(name=name) as rule:
        answer = await wire.ask("GET", f"{DOCS}/i", **KEY)
    assert rule.hits == 1
    assert (answer.status, answer.substatus, answer.message) == (fault.status, fault.substatus, fault.message)
    assert answer.headers.get("x-ms-substatus") == (str(fault.substatus) if fault.substatus else None)
    assert ("x-ms-retry-after-ms" in answer.headers) == (fault.status in {429, 449})
    assert emulator.requests[-1].substatus == fault.substatus
    assert (await wire.ask("GET", "/")).status == 200


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("partition_key_mismatch", 400, "PARTITION_KEY_MISMATCH"),
        ("write_forbidden", 403, "WRITE_FORBIDDEN"),
        ("account_not_found", 403, "DATABASE_ACCOUNT_NOT_FOUND"),
        ("identity_cannot_create", 403, "AAD_REQUEST_NOT_AUTHORIZED"),
        ("read_session_not_available", 404, "READ_SESSION_NOTAVAILABLE"),
        ("owner_not_found", 404, "OWNER_RESOURCE_NOT_FOUND"),
        ("container_create_in_progress", 404, "CONTAINER_CREATE_IN_PROGRESS"),
        ("name_cache_stale", 410, "NAME_CACHE_IS_STALE"),
        ("range_gone", 410, "PARTITION_KEY_RANGE_GONE"),
        ("completing_split", 410, "COMPLETING_SPLIT"),
        ("completing_migration", 410, "COMPLETING_PARTITION_MIGRATION"),
        ("region_out_of_capacity", 503, "INSUFFICIENT_BINDABLE_PARTITIONS"),
    ],
)
def test_the_sdk_knows_the_code_by_the_same_meaning(name: str, status: int, code: str) -> None:
    assert (NAMED_FAULTS[name].status, NAMED_FAULTS[name].substatus) == (status, CODES[code])


async def test_the_session_that_is_not_there_is_told_of_its_container(emulator: CosmosEmulator) -> None:
    emulator.faults.respond(name="read_session_not_available", times=1)
    answer = await Wire(emulator).ask("GET", f"{DOCS}/i", **KEY)
    assert answer.headers["x-ms-alt-content-path"] == "dbs/d/colls/c"


async def test_a_named_fault_takes_another_wait_and_comes_after_the_work_too(
    emulator: CosmosEmulator, container: ContainerProxy
) -> None:
    emulator.faults.respond(name="throttled", retry_after_ms=1, times=2, kind="read_item")
    emulator.faults.respond(name="timeout", applied=True, times=1, kind="create_item")
    with pytest.raises(CosmosHttpResponseError) as error:
        await container.create_item(dict(ITEM))
    assert error.value.status_code == 408
    assert (await container.read_item("i", "p"))["n"] == ITEM["n"]
    waits = [record.status for record in emulator.requests if record.kind == "read_item"]
    assert waits == [429, 429, 200]


async def test_a_fault_has_a_name_that_there_is_or_a_status(emulator: CosmosEmulator) -> None:
    with pytest.raises(KeyError):
        emulator.faults.respond(name="unheard_of")
    with pytest.raises(TypeError, match="status or its name"):
        emulator.faults.respond()


async def test_an_account_with_merge_enabled_serves_no_python_sdk(
    emulator: CosmosEmulator, container: ContainerProxy
) -> None:
    emulator.faults.respond(name="merge_enabled", where=lambda call: "azsdk-python" in call.headers["User-Agent"])
    with pytest.raises(CosmosHttpResponseError, match="merge") as error:
        await container.read_item("i", "p")
    assert error.value.status_code == 400
