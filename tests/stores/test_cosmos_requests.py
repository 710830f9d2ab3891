"""What the Cosmos DB engine makes of each answer that the service may give: each is told for what it is, sent again
where that may help, and never taken for another one's cause."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eventckpt import CosmosEventStore, StreamId
from eventckpt.errors import (
    CheckpointStoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import container, requests
from eventckpt.stores.cosmos.requests import REFUSALS, Refusal

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE
from .cosmos_operations import hurry

STREAM = StreamId("workflow", "run")
EVENT = make_event(STREAM, 1)
OTHER = None
"""Stands for any sub-status that the table does not name."""

Operation = Callable[[CosmosEventStore], Awaitable[Any]]


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    async with CosmosEmulator() as running:
        yield running


@pytest.fixture
async def store(emulator: CosmosEmulator) -> AsyncGenerator[CosmosEventStore, None]:
    """With one event, and opened."""
    async with opened(emulator) as store:
        await store.append(EVENT)
        yield store


def opened(emulator: CosmosEmulator, name: str = "events", **options: Any) -> CosmosEventStore:
    place = {"endpoint": emulator.endpoint, "database_name": COSMOS_DATABASE, "container_name": name}
    return CosmosEventStore(**place, credential=emulator.key, **options)


async def append(store: CosmosEventStore) -> None:
    await store.append(EVENT)  # once more: it is there already, and that is fine


async def read(store: CosmosEventStore) -> Any:
    return await store.read(STREAM, 1)


async def list_headers(store: CosmosEventStore) -> Any:
    return [header async for header in store.headers(STREAM)]


async def write_a_lease(store: CosmosEventStore) -> Any:
    return await store.document_store().create({"id": "lease"})


OPERATIONS: dict[str, tuple[Operation, str]] = {
    "append": (append, "create_item"),
    "read": (read, "read_item"),
    "list": (list_headers, "query"),
    "lease": (write_a_lease, "create_item"),
}


def meaning(status: int, substatus: int) -> Refusal | None:
    return REFUSALS.get((status, substatus)) or REFUSALS.get((status, None))


def is_an_answer(operation: str, status: int, substatus: int) -> bool:
    """Whether it is no refusal, but what was asked for."""
    match status:
        case 404:
            return substatus == 0 and operation in {"read", "lease"}
        case 409:
            return operation in {"append", "lease"}
        case 412:
            return operation == "lease"
        case _:
            return False


ROWS = [(status, substatus if substatus is not None else 0) for status, substatus in REFUSALS]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("status", "substatus"), ROWS)
async def test_a_refusal_is_told_for_what_it_is(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    status: int,
    substatus: int,
) -> None:
    if is_an_answer(operation, status, substatus):
        return
    monkeypatch.setattr(container, "SETTLING", 0.0)
    use, kind = OPERATIONS[operation]
    refusal = meaning(status, substatus)
    assert refusal is not None
    if refusal.passes:  # else it is told at once, however long that takes on a busy machine
        hurry(store, 0.4)
    with emulator.faults.respond(status, substatus=substatus, kind=kind) as rule:
        with pytest.raises(CheckpointStoreError) as caught:
            await use(store)
        assert rule.hits >= 1
    assert type(caught.value) is refusal.error
    said = str(caught.value)
    assert "container 'events" in said.lower()
    assert COSMOS_DATABASE in said
    if "gave no answer" not in said and (status, substatus) != (404, 1003):  # those say so in words of their own
        assert f"{status}/{substatus}" in said if substatus else re.search(rf"\b{status}\b", said)
        assert refusal.advice in said
    await use(store)  # it was the service's, not ours to keep


@pytest.mark.usefixtures("hurried_sdk")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("status", "substatus"), [row for row in ROWS if (found := meaning(*row)) and found.passes])
async def test_a_refusal_that_passes_is_not_heard_of(
    emulator: CosmosEmulator, store: CosmosEventStore, operation: str, status: int, substatus: int
) -> None:
    if is_an_answer(operation, status, substatus):
        return
    use, kind = OPERATIONS[operation]
    with emulator.faults.respond(status, substatus=substatus, kind=kind, times=2) as rule:
        await use(store)
        assert rule.hits == 2


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    status=st.sampled_from(
        [400, 401, 403, 404, 405, 408, 410, 413, 423, 424, 428, 429, 449, 451, 500, 501, 502, 503, 504]
    ),
    substatus=st.one_of(st.integers(0, 22_000), st.sampled_from([key[1] or 0 for key in REFUSALS])),
)
def test_no_sub_status_is_told_as_another_ones_cause(status: int, substatus: int) -> None:
    """The sub-status alone decides between the rows of a status; what the table does not name is told by its status."""
    from azure.cosmos.exceptions import CosmosHttpResponseError

    error = CosmosHttpResponseError(status_code=status, message="words", sub_status=substatus)
    refusal = requests.refusal_of(error)
    named = [key for key in REFUSALS if key[0] == status and key[1] == substatus]
    if named:
        assert refusal is REFUSALS[named[0]]
    else:
        assert refusal in (REFUSALS.get((status, OTHER)), requests._OTHER)
    told = requests.translated(error, "container 'c'")
    assert type(told) is refusal.error
    others = {row.advice for row in REFUSALS.values() if row.advice and row.advice != refusal.advice}
    assert not any(advice in str(told) and advice not in refusal.advice for advice in others)


@pytest.mark.parametrize(
    ("status", "substatus", "error", "words"),
    [
        (403, 1014, StoreFullError, "20 GB.*eventckpt fork"),
        (403, 5300, StoreReadOnlyError, "Identities read and write items.*account key"),
        (404, 1003, StoreFormatError, "does not exist.*az cosmosdb sql container create"),
        (429, 3200, StoreUnavailableError, "Raise the throughput"),
        (429, 3201, StoreUnavailableError, "keep one storage for many runs"),
        (429, 3212, StoreUnavailableError, "bucket.*raise that share"),
        (404, 1002, StoreUnavailableError, "No replica has come as far"),
        (410, 1007, StoreUnavailableError, "being split"),
    ],
)
async def test_each_cause_has_its_own_advice(
    emulator: CosmosEmulator,
    store: CosmosEventStore,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    substatus: int,
    error: type[CheckpointStoreError],
    words: str,
) -> None:
    hurry(store, 0.3)
    monkeypatch.setattr(container, "SETTLING", 0.0)
    pause = 1 if status == 429 else None
    with (
        emulator.faults.respond(status, substatus=substatus, retry_after_ms=pause, kind="read_item"),
        pytest.raises(error, match=words),
    ):
        await read(store)


async def test_a_missing_container_passes_just_after_opening(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    """Another gateway may not have heard of a container that was just made."""
    with emulator.faults.respond(404, substatus=1003, kind="read_item", times=3) as rule:
        assert len(await read(store)) == 1
        assert rule.hits == 3


@pytest.mark.parametrize("kind", ["create_item", "read_item", "query"])
async def test_a_service_that_never_answers_is_told_of_in_bounded_time(
    emulator: CosmosEmulator, store: CosmosEventStore, kind: str
) -> None:
    hurry(store, 0.3)
    use = {found: operation for operation, found in reversed(OPERATIONS.values())}[kind]
    never, began = asyncio.Event(), time.monotonic()
    with emulator.faults.delay(until=never, kind=kind):
        with pytest.raises(StoreUnavailableError, match="gave no answer"):
            await use(store)
        assert time.monotonic() - began < 20
        never.set()


async def test_a_refusal_that_the_sdk_repeats_for_minutes_is_told_of_in_bounded_time(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    """The SDK asks again for two minutes after 403/3."""
    hurry(store, 1.5)
    began = time.monotonic()
    with (
        emulator.faults.respond(403, substatus=3, kind="create_item"),
        pytest.raises(StoreUnavailableError, match=r"403/3 \(write forbidden\).*Another region"),
    ):
        await append(store)
    assert time.monotonic() - began < 60


async def test_throttling_that_outlasts_the_time_is_told_as_throttling(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    """The SDK waits as long as it is told to, and tells nobody."""
    hurry(store, 1.0)
    with (
        emulator.faults.respond(429, substatus=3200, retry_after_ms=400, kind="create_item"),
        pytest.raises(StoreUnavailableError, match=r"429/3200.*Raise the throughput"),
    ):
        await append(store)


async def test_callers_that_wait_for_the_same_opening_hear_of_its_failure_together(
    emulator: CosmosEmulator,
) -> None:
    async with opened(emulator, timeout=0.4) as store:
        never = asyncio.Event()
        with emulator.faults.delay(until=never) as rule:
            results = await asyncio.gather(*(read(store) for _ in range(10)), return_exceptions=True)
            assert rule.hits == 1, "each opens it anew"
            never.set()
        assert [type(result) for result in results] == [StoreUnavailableError] * 10
        hurry(store, 30.0)  # no more
        assert await read(store) == []


async def test_a_cause_that_is_known_is_not_replaced_by_that_of_a_look_at_the_container(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    hurry(store, 1.5)
    with (
        emulator.faults.respond(404, substatus=1002, kind="read_item"),
        emulator.faults.respond(429, substatus=3201, kind="read_container"),
        pytest.raises(StoreUnavailableError, match="404/1002"),
    ):
        await read(store)


async def test_a_document_whose_answer_was_lost_is_written_once_and_counts_as_ours(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    documents = store.document_store()
    await documents.create({"id": "first"})
    with emulator.faults.respond(408, applied=True, kind="create_item", times=1):
        created = await documents.create({"id": "lease", "owner": "me"})
    assert created is not None
    with emulator.faults.respond(408, applied=True, kind="replace_item", times=1):
        replaced = await documents.replace({"id": "lease", "owner": "you"}, created["_etag"])
    assert replaced is not None
    assert await documents.replace({"id": "lease", "owner": "they"}, created["_etag"]) is None
    assert await documents.create({"id": "lease", "owner": "they"}) is None
    with emulator.faults.respond(408, applied=True, kind="delete_item", times=1):
        assert await documents.delete("lease", replaced["_etag"])


class _Senseless(CosmosEmulator):
    """Answers one kind of request in a form that the service never uses."""

    kind, body, times = "", b"", 0

    def _respond(self, call: Any, reply: Any) -> Any:
        if call.kind == self.kind and self.times:
            self.times -= 1
            reply.status, reply.body = 200, self.body
        return super()._respond(call, reply)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"5", b'"x"', b"[5]", b'{"Documents":null}', b'{"Documents":[5]}']
)
@pytest.mark.parametrize("operation", ["read", "list"])
async def test_an_answer_that_makes_no_sense_is_an_error_of_ours_and_one_of_them_passes(
    operation: str, body: bytes
) -> None:
    use, kind = OPERATIONS[operation]
    async with _Senseless() as emulator, opened(emulator) as store:
        await append(store)
        emulator.kind, emulator.body, emulator.times = kind, body, 1
        assert len(await use(store)) == 1
        emulator.times = 1_000
        with pytest.raises(CheckpointStoreError):
            await use(store)
        emulator.times = 0
        assert len(await use(store)) == 1


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"Documents":5}'])
async def test_a_page_of_the_feed_that_makes_no_sense_is_not_its_end(body: bytes) -> None:
    async with _Senseless() as emulator, opened(emulator) as store:
        await append(store)
        feed = store.change_feed()
        [everything] = await feed.ranges()
        emulator.kind, emulator.body, emulator.times = "change_feed", body, 1
        page = await feed.read(everything, None, start="beginning", limit=10)
        assert [event.seq for event in page.events] == [1]
        emulator.times = 1_000
        with pytest.raises(CheckpointStoreError):
            await feed.read(everything, None, start="beginning", limit=10)


@pytest.mark.parametrize("odd", [None, 5, "x", [5], [[5]], {}, {"paths": "/stream", "version": "2"}])
@pytest.mark.parametrize("setting", ["partitionKey", "indexingPolicy", "compositeIndexes", "includedPaths", "_rid"])
async def test_a_container_of_odd_settings_is_named_by_doctor_and_opened_or_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, setting: str, odd: object
) -> None:
    monkeypatch.setattr(container, "SETTLING", 0.0)  # the sessions' container, which is read as well, never comes to be
    async with _Senseless() as emulator, opened(emulator) as store:
        await append(store)
        settings = emulator.container(COSMOS_DATABASE, "events").document
        policy = settings["indexingPolicy"]
        within = {"compositeIndexes", "includedPaths"} & {setting}
        changed = {"indexingPolicy": {**policy, setting: odd}} if within else {setting: odd}
        body = json.dumps({**settings, **changed}).encode()
        async with opened(emulator) as other:
            emulator.kind, emulator.body, emulator.times = "read_container", body, 1_000
            checks = await other.checks()
            assert checks
            assert setting != "partitionKey" or not all(check.ok for check in checks)
            refused = setting in {"partitionKey", "_rid"}
            with pytest.raises(CheckpointStoreError, match="events") if refused else nullcontext():
                assert len(await read(other)) == 1


async def test_a_key_that_the_service_repeats_is_not_repeated_by_us(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    with (
        emulator.faults.respond(403, kind="read_item", message=f"AccountKey={emulator.key}"),
        pytest.raises(StoreReadOnlyError) as caught,
    ):
        await read(store)
    assert emulator.key not in str(caught.value)


@pytest.mark.parametrize("wish", ["9" * 5000, "-1", "1e9", "²", "", "soon"])
async def test_a_pause_that_is_no_number_is_not_waited_for(
    emulator: CosmosEmulator, store: CosmosEventStore, wish: str
) -> None:
    headers = {"x-ms-retry-after-ms": wish}
    try:
        headers["x-ms-retry-after-ms"].encode("latin-1")
    except UnicodeEncodeError:
        return
    with emulator.faults.respond(449, headers=headers, kind="create_item", times=1):
        await append(store)


class _Fickle:
    """A credential that fails so often, then gives tokens."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        if self.failures:
            self.failures -= 1
            raise ClientAuthenticationError("the way to the identity is down")
        return AccessToken("token", 4_000_000_000)


async def test_a_token_that_fails_once_is_asked_for_again() -> None:
    attempts = _Fickle(2)
    assert (await requests.ask(lambda: attempts.get_token(), "container 'c'")).token == "token"


async def test_a_credential_that_gives_no_token_is_told_of_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "TOKEN_PATIENCE", 0.1)
    attempts = _Fickle(1_000)
    with pytest.raises(StoreReadOnlyError, match="gives no token for container 'c'"):
        await requests.ask(lambda: attempts.get_token(), "container 'c'")
