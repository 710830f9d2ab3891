"""The Cosmos DB engine as an identity: over TLS, with tokens that end, and rights that are narrower than a key's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointEvent, CosmosEventStore, EventStore, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.errors import CheckpointStoreError, StoreFormatError, StoreReadOnlyError
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import AuditStoreConformance, make_event
from eventckpt.stores.cosmos import INDEXING_POLICY
from eventckpt.stores.cosmos.documents import LEASE_INDEXING
from eventckpt.stores.cosmos.query import PAGE
from eventckpt.stores.cosmos.runs import PROJECTION_INDEXING
from projections import open_engine

from ..cosmos_emulator.clock import Clock
from ..cosmos_emulator.roles import CONTRIBUTOR, CREATE, READ_METADATA, READER
from ..emulator.sdk import checks_of_the_account
from . import test_cosmos_conformance
from .identities import DATABASE, EVENTS, LEASES, PROJECTIONS, IdentityAccount, identity_account, role

pytestmark = pytest.mark.slow  # the conformance suites once more, over TLS and with tokens

STREAM = StreamId("workflow", "run")
WORKFLOW = "orders"
IN_TWO_PARTS = hashlib.shake_256(b"large").digest(600_000)
HOUR = 3600


@pytest.fixture
def clock(sdk_clock: Clock) -> Clock:
    return sdk_clock


@pytest.fixture
async def account(clock: Clock) -> AsyncGenerator[IdentityAccount, None]:
    async with identity_account(clock=clock) as made:
        yield made


def checkpoint(step: int, **fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(WORKFLOW, "graph", state={"step": step}, **fields)


def before(account: IdentityAccount, kind: str, action: Callable[[], object]) -> None:
    """Do something once when a request of a kind has come, and before its token is looked at."""
    once = [action]

    def where(_: object) -> bool:
        if once:
            once.pop()()
        return False

    account.emulator.faults.delay(kind=kind, where=where)


def refused(account: IdentityAccount) -> set[int]:
    return {record.status for record in account.emulator.requests if record.status in (401, 403)}


async def stored_whole(store: CosmosEventStore, event: CheckpointEvent) -> bool:
    """Whether the event is there with all of its data, in whatever parts."""
    [found] = await store.read(event.stream, event.seq)
    assert event.payload is not None
    return found.digest == event.digest and found.payload is not None and found.payload.data == event.payload.data


# The suites of all engines, over TLS


class TestAsAnIdentityWithTheRoleThatTheDocsName(test_cosmos_conformance.TestCosmosConformance):
    """With an async credential, and the built-in contributor on the container of events alone."""

    @pytest.fixture(autouse=True)
    async def one_container(self) -> AsyncGenerator[None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        async with identity_account(EVENTS) as self.identities:
            self.principal = self.identities.principal({EVENTS: CONTRIBUTOR})
            yield

    async def open_store(self) -> EventStore:
        return await self.identities.store(self.principal)

    async def settle(self) -> None:
        self.identities.emulator.catch_up()


class TestAsAnIdentityWithTheLeastRole(AuditStoreConformance):
    """With a sync credential, and no right that docs/roles does not list."""

    copies = PAGE + 100

    @pytest.fixture(autouse=True)
    async def one_container(self) -> AsyncGenerator[None, None]:
        async with identity_account(EVENTS) as self.identities:
            self.principal = self.identities.principal({EVENTS: role("maintenance")})
            yield

    async def open_store(self) -> AuditStore:
        return await self.identities.store(self.principal, sync=True)

    async def settle(self) -> None:
        self.identities.emulator.catch_up()


# Tokens


@pytest.mark.parametrize("sync", [True, False])
async def test_a_token_is_asked_for_once_an_hour_and_never_on_the_event_loop(
    account: IdentityAccount, clock: Clock, sync: bool
) -> None:
    threads: list[int] = []
    settings = account.settings(account.principal({EVENTS: role("workflows")}), sync=sync)
    credential = settings["credential"] if sync else settings["credential"].inner
    ask = credential.get_token

    def noted(*scopes: str, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return ask(*scopes, **options)

    credential.get_token = noted
    async with CosmosEventStore(**settings) as store:
        previous = None
        for hour in range(3):
            for minute in range(3):
                event = make_event(STREAM, 3 * hour + minute + 1, previous=previous)
                await store.append(event)
                previous = event
            await checks_of_the_account()
            clock.now += HOUR
        assert len([header async for header in store.headers(STREAM)]) == 9
    assert len(threads) == 4
    assert (threading.get_ident() in threads) == (not sync)


async def test_a_token_that_ends_between_the_parts_and_the_event_is_replaced_in_time(
    account: IdentityAccount, clock: Clock
) -> None:
    store = await account.store(account.principal({EVENTS: role("workflows")}))
    event = make_event(STREAM, 1, data=IN_TWO_PARTS)
    parts, done, go_on = 0, asyncio.Event(), asyncio.Event()

    def is_last(_: object) -> bool:
        nonlocal parts
        parts += 1
        if parts == 2:
            done.set()
        return parts == 2

    account.emulator.faults.delay(until=go_on, applied=True, kind="upsert_item", where=is_last)
    append = asyncio.create_task(store.append(event))
    await done.wait()
    await checks_of_the_account()
    tokens = len(account.identity.directory.minted)
    clock.now += HOUR
    go_on.set()
    await append
    assert await stored_whole(store, event)
    assert (parts, len(account.identity.directory.minted)) == (2, tokens + 1)
    assert not refused(account)


@pytest.mark.parametrize("kind", ["read_container", "upsert_item", "create_item", "query"])
async def test_a_token_that_ends_on_the_way_is_replaced_and_the_request_sent_again(
    account: IdentityAccount, clock: Clock, kind: str
) -> None:
    """The client took it to hold: its clock goes behind, or the request was under way for long."""
    store = await account.store(account.principal({EVENTS: role("workflows")}))
    before(account, kind, lambda: setattr(clock, "now", clock.now + HOUR))
    event = make_event(STREAM, 1, data=IN_TWO_PARTS)
    await store.append(event)
    assert [header.digest async for header in store.headers(STREAM)] == [event.digest]
    assert await stored_whole(store, event)
    assert refused(account) == {401}


async def test_a_token_that_is_revoked_in_the_middle_of_a_save_is_replaced(account: IdentityAccount) -> None:
    store = await account.store(account.principal({EVENTS: role("workflows")}))
    before(account, "create_item", account.identity.revoke)
    event = make_event(STREAM, 1, data=IN_TWO_PARTS)
    await store.append(event)
    assert await stored_whole(store, event)


async def reads_a_document(store: CosmosEventStore) -> None:
    await store.runs("latest").get(STREAM)


async def lists_leases(store: CosmosEventStore) -> None:
    await open_engine(store).documents.list_documents("")


async def reads_the_feed(store: CosmosEventStore) -> None:
    feed = open_engine(store).feed
    [whole] = await feed.ranges()
    await feed.read(whole, None, start="beginning", limit=10)


@pytest.mark.parametrize(
    ("kind", "use"), [("read_item", reads_a_document), ("query", lists_leases), ("change_feed", reads_the_feed)]
)
async def test_a_token_of_the_projector_that_ends_on_the_way_is_replaced(
    account: IdentityAccount, clock: Clock, kind: str, use: Callable[[CosmosEventStore], Awaitable[None]]
) -> None:
    store = await account.store(account.principal(dict.fromkeys((EVENTS, PROJECTIONS, LEASES), CONTRIBUTOR)))
    before(account, kind, lambda: setattr(clock, "now", clock.now + HOUR))
    await use(store)
    assert refused(account) == {401}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"audience": "https://management.azure.com"}, "intended for"),
        ({"tenant": "another"}, "issued by the authority"),
        ({"lifetime": 0}, "has been expired since"),
    ],
)
async def test_a_token_that_never_counts_is_told_in_the_services_words_and_soon(
    account: IdentityAccount, options: dict[str, Any], words: str
) -> None:
    store = await account.store(account.principal({EVENTS: role("workflows")}), **options)
    with pytest.raises(StoreReadOnlyError, match=words) as error:
        await store.append(make_event(STREAM, 1))
    assert "role assignment create" not in str(error.value)  # a role would not help
    assert len(account.emulator.requests) < 20


async def test_a_key_where_keys_are_switched_off_is_told_as_that(account: IdentityAccount) -> None:
    settings = {**account.settings("nobody"), "credential": account.emulator.key}
    async with CosmosEventStore(**settings) as store:
        with pytest.raises(StoreReadOnlyError, match="Local Authorization is disabled") as error:
            await store.append(make_event(STREAM, 1))
    assert "role assignment create" not in str(error.value)  # a key has no role


async def test_no_token_shows_in_an_error_or_a_log(
    account: IdentityAccount, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    principal = account.principal({EVENTS: READER})
    store = await account.store(principal)
    texts: list[str] = []
    for prepare in (lambda: None, account.identity.revoke, lambda: account.identity.unassign(principal)):
        prepare()
        with pytest.raises(StoreReadOnlyError) as error:
            await store.append(make_event(STREAM, 1))
        texts += [*traceback.format_exception(error.value), repr(store), repr(vars(store))]
    said = caplog.text + "".join(texts)
    assert account.identity.directory.minted
    assert [token for token in account.identity.directory.minted if token in said] == []


# Rights


async def test_a_reader_can_look_at_everything_and_is_told_which_role_saving_needs(account: IdentityAccount) -> None:
    writer = await account.storage(account.principal({EVENTS: role("workflows")}))
    saved = [checkpoint(1), checkpoint(2)]
    saved[1].previous_checkpoint_id = saved[0].checkpoint_id
    for each in saved:
        await writer.save(each)
    principal = account.principal({EVENTS: READER})
    reader = await account.storage(principal)
    assert await reader.get_latest(workflow_name=WORKFLOW) == saved[1]
    assert await reader.load(saved[0].checkpoint_id) == saved[0]
    assert await reader.list_checkpoints(workflow_name=WORKFLOW) == saved
    audit = CheckpointAudit(await account.store(principal))
    [run] = [each async for each in audit.runs()]
    assert (await audit.verify(run.stream)).ok
    assert [event.seq async for event in audit.history(run.stream)] == [1, 2]
    with pytest.raises(StoreReadOnlyError, match="Cosmos DB Built-in Data Contributor") as error:
        await reader.save(checkpoint(3, previous_checkpoint_id=saved[1].checkpoint_id))
    assert CREATE in str(error.value)
    assert f"colls/{EVENTS}" in str(error.value)


async def test_somebody_without_any_role_is_told_so(account: IdentityAccount) -> None:
    store = await account.store(account.principal({}))
    with pytest.raises(StoreReadOnlyError, match="role assignment create") as error:
        await store.append(make_event(STREAM, 1))
    assert READ_METADATA in str(error.value)


async def test_a_role_that_is_assigned_later_is_enough_without_a_new_store(account: IdentityAccount) -> None:
    principal = account.principal({EVENTS: READER})
    store = await account.store(principal)
    first = make_event(STREAM, 1)
    with pytest.raises(StoreReadOnlyError):
        await store.append(first)
    account.identity.assign(principal, role("workflows"), f"/dbs/{DATABASE}/colls/{EVENTS}")
    await store.append(first)
    account.identity.unassign(principal)
    with pytest.raises(StoreReadOnlyError):
        await store.append(make_event(STREAM, 2, previous=first))


async def test_the_doctor_tells_a_reader_what_is_missing_and_what_holds(account: IdentityAccount) -> None:
    checks = await (await account.store(account.principal({EVENTS: READER}))).checks()
    assert {check.name: check.ok for check in checks if check.name != "access"} == {
        "partition key": True,
        "partition key version": True,
        "indexes": True,
        "composite index": True,
        "index size": True,
        "expiry": True,
        "consistency": True,
        "reading": True,
        "sessions": True,
    }
    [access] = [check for check in checks if check.name == "access"]
    assert not access.ok
    assert "items/upsert" in f"{access.detail}{access.advice}"


# What an identity cannot create


def the_command(message: str, container: str, key: str, policy: dict[str, Any]) -> None:
    for part in (
        "az cosmosdb sql container create",
        f"--name {container}",
        f"--database-name {DATABASE}",
        f"--partition-key-path {key}",
    ):
        assert part in message
    assert json.loads(message.partition("--idx '")[2].partition("'")[0]) == policy


def not_a_matter_of_roles(message: str) -> None:
    """No role allows to create: whoever is told of one would go on looking for it."""
    assert "cannot create" in message
    assert "role assignment create" not in message
    assert "Built-in Data Contributor" not in message


async def test_missing_events_are_told_with_the_command_that_creates_them(clock: Clock) -> None:
    async with identity_account(PROJECTIONS, clock=clock) as account:
        principal = account.principal({})
        account.identity.assign(principal, CONTRIBUTOR)  # however much it may
        store = await account.store(principal)
        with pytest.raises(StoreFormatError) as error:
            await store.append(make_event(STREAM, 1))
        the_command(str(error.value), EVENTS, "/stream", INDEXING_POLICY)
        not_a_matter_of_roles(str(error.value))


async def test_a_missing_database_is_told_with_the_command_that_creates_it(clock: Clock) -> None:
    async with identity_account(clock=clock) as account:
        principal = account.principal({})
        account.identity.assign(principal, CONTRIBUTOR)
        settings = {**account.settings(principal), "database_name": "nowhere"}
        async with CosmosEventStore(**settings) as store:
            with pytest.raises(StoreFormatError, match="az cosmosdb sql database create") as error:
                await store.append(make_event(STREAM, 1))
        not_a_matter_of_roles(str(error.value))


async def test_missing_projections_are_told_with_the_command_that_creates_them(clock: Clock) -> None:
    async with identity_account(EVENTS, clock=clock) as account:
        store = await account.store(account.principal(dict.fromkeys((EVENTS, PROJECTIONS, LEASES), CONTRIBUTOR)))
        with pytest.raises(CheckpointStoreError) as error:
            await store.runs().get(STREAM)
        the_command(str(error.value), PROJECTIONS, "/stream", PROJECTION_INDEXING)
        not_a_matter_of_roles(str(error.value))
        assert isinstance(error.value, StoreFormatError)


async def test_missing_leases_are_told_with_the_command_that_creates_them(clock: Clock) -> None:
    async with identity_account(EVENTS, PROJECTIONS, clock=clock) as account:
        store = await account.store(account.principal(dict.fromkeys((EVENTS, PROJECTIONS, LEASES), CONTRIBUTOR)))
        with pytest.raises(CheckpointStoreError) as error:
            await open_engine(store).documents.list_documents("")
        the_command(str(error.value), LEASES, "/id", LEASE_INDEXING)
        not_a_matter_of_roles(str(error.value))
        assert isinstance(error.value, StoreFormatError)


async def test_a_missing_container_is_found_as_soon_as_somebody_has_made_it(clock: Clock) -> None:
    async with identity_account(PROJECTIONS, clock=clock) as account:
        store = await account.store(account.principal({EVENTS: CONTRIBUTOR}))
        with pytest.raises(StoreFormatError):
            await store.append(make_event(STREAM, 1))
        account.emulator.provision(DATABASE, EVENTS, "/stream", indexingPolicy=INDEXING_POLICY)
        await store.append(make_event(STREAM, 1))


async def test_an_identity_sends_no_token_over_http(account: IdentityAccount) -> None:
    settings = account.settings("somebody")
    with pytest.raises(ValueError, match="https"):
        CosmosEventStore(**{**settings, "endpoint": settings["endpoint"].replace("https", "http")})
