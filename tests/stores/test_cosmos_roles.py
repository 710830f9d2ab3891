"""The least roles that docs/roles lists: each is enough for its program, and each of its actions is needed.

| program | events | `-projections` | `-leases` |
|---|---|---|---|
| saves and loads | workflows | | |
| looks, verifies, exports | Cosmos DB Built-in Data Reader | the same, for `latest="projection"` | |
| prunes, imports, doctor | maintenance | | |
| removes by a policy | maintenance | | projector-leases |
| the projector, `run` and `rebuild` | projector-events | projector-projections | projector-leases |
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointEvent, CosmosEventStore, StreamId
from eventckpt.audit import CheckpointAudit, RetentionPolicy, RetentionRule
from eventckpt.chain import sealed
from eventckpt.clock import SYSTEM_CLOCK
from eventckpt.errors import StoreReadOnlyError, StreamConflict
from eventckpt.runs import fold
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos import INDEXING_POLICY
from projections import LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector
from projections.worker.retention import RetentionPasses

from ..cosmos_emulator.roles import (
    CONTRIBUTOR,
    CREATE,
    DELETE,
    EXECUTE_QUERY,
    READ,
    READ_CHANGE_FEED,
    READ_METADATA,
    READER,
    REPLACE,
    UPSERT,
    Role,
)
from ..cosmos_emulator.routes import Call
from .identities import DATABASE, EVENTS, LEASES, PROJECTIONS, ROLES, IdentityAccount, identity_account, role

pytestmark = pytest.mark.slow  # every operation in every role

STREAM = StreamId("workflow", "run")
WORKFLOW = "orders"
LARGE = hashlib.shake_256(b"large").digest(600_000)

PROJECTOR: Final = {EVENTS: "projector-events", PROJECTIONS: "projector-projections", LEASES: "projector-leases"}


@pytest.fixture
async def account() -> AsyncGenerator[IdentityAccount, None]:
    async with identity_account() as made:
        yield made


def checkpoint(step: int, previous: WorkflowCheckpoint | None = None, **state: Any) -> WorkflowCheckpoint:
    before = None if previous is None else previous.checkpoint_id
    return WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=before, state={"step": step, **state})


async def owner(account: IdentityAccount) -> CosmosEventStore:
    """A store that may do everything, for what has to be there beforehand."""
    return await account.store(account.principal(dict.fromkeys((EVENTS, PROJECTIONS, LEASES), CONTRIBUTOR)))


async def two_events(account: IdentityAccount) -> None:
    """A run of two snapshots, the second in parts."""
    store = await owner(account)
    first = snapshot(make_event(STREAM, 1))
    await store.append(first)
    await store.append(snapshot(make_event(STREAM, 2, previous=first, data=LARGE)))


def snapshot(event: CheckpointEvent) -> CheckpointEvent:
    assert event.payload is not None
    return sealed(msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, base_seq=None)))


# Each role is enough, and nothing of it is left over


async def test_the_role_of_workflows_is_enough_and_used_up(account: IdentityAccount) -> None:
    given = role("workflows")
    principal = account.principal({EVENTS: given})
    storage = await account.storage(principal)
    run = storage.for_run("order-42")
    first = checkpoint(1)
    second = checkpoint(2, first, large=LARGE)
    for each in (first, second):
        await run.save(each)
    again = await account.storage(principal)  # without what the first one remembers
    assert await again.load(second.checkpoint_id) == second
    assert await again.for_run("order-42").load(first.checkpoint_id) == first
    assert await again.get_latest(workflow_name=WORKFLOW) == second
    assert await again.list_checkpoint_ids(workflow_name=WORKFLOW) == [first.checkpoint_id, second.checkpoint_id]
    await again.save(checkpoint(3, first))  # a fork
    assert await again.delete(second.checkpoint_id)
    assert account.identity.actions_used(principal, EVENTS) == given.actions


async def test_the_role_of_workflows_is_enough_for_sessions_and_used_up_without_a_right_to_runs(
    account: IdentityAccount,
) -> None:
    container = f"{EVENTS}-sessions"
    account.emulator.provision(DATABASE, container, "/stream", indexingPolicy=INDEXING_POLICY)
    given = role("workflows")
    principal = account.principal({container: given})
    store = (await account.store(principal)).sessions()
    first = snapshot(make_event(STREAM, 1))
    await store.append(first)
    await store.append(snapshot(make_event(STREAM, 2, previous=first, data=LARGE)))
    again = (await account.store(principal)).sessions()
    assert [event.seq async for event in again.newest(STREAM)] == [2, 1]
    assert [run_id async for run_id in again.run_ids(STREAM.workflow_name)] == [STREAM.run_id]
    assert (await again.read(STREAM, 1))[0].digest == first.digest
    assert account.identity.actions_used(principal, container) == given.actions


async def test_the_role_of_maintenance_is_enough_and_used_up(account: IdentityAccount) -> None:
    await two_events(account)
    given = role("maintenance")
    principal = account.principal({EVENTS: given})
    store = await account.store(principal)
    audit = CheckpointAudit(store)
    lines = [line async for line in audit.export()]
    [plan] = [each async for each in audit.plan_prune(keep=1, force=True)]
    assert await audit.prune(plan) == 1
    assert all(check.ok for check in await audit.checks())
    await store.remove_orphaned_parts(older_than=0)
    other = await account.store(principal)
    await other.remove(STREAM, [1, 2])
    await CheckpointAudit(other).import_lines(lines)
    assert [event.seq async for event in other.headers(STREAM)] == [3], "an import puts nothing back"
    assert account.identity.actions_used(principal, EVENTS) == given.actions


async def test_the_role_of_a_reader_is_enough_for_audits_and_used_up(account: IdentityAccount) -> None:
    await two_events(account)
    projection = LatestProjection(await owner(account))
    await projection.apply([event async for event in (await owner(account)).headers(STREAM)])
    principal = account.principal({EVENTS: READER, PROJECTIONS: READER})
    audit = CheckpointAudit(await account.store(principal), latest="projection")
    assert [run.stream async for run in audit.runs()] == [STREAM]
    assert all([verdict.ok async for verdict in audit.verify_all(projection=True)])
    assert await audit.event("run@2")
    store = await account.store(principal)
    [headers] = [[event async for event in store.headers(STREAM)]]
    assert (await store.runs().newest(STREAM.workflow_name)) == fold(headers)
    assert account.identity.actions_used(principal, EVENTS) == READER.actions
    assert account.identity.actions_used(principal, PROJECTIONS) == READER.actions


async def test_the_roles_of_the_projector_are_enough_and_used_up(account: IdentityAccount) -> None:
    await two_events(account)
    principal = account.principal({container: role(name) for container, name in PROJECTOR.items()})
    store = await account.store(principal)
    await projected(account, store, until=2)
    writer = await owner(account)
    [*_, last] = await writer.read(STREAM, 2)
    await writer.append(make_event(STREAM, 3, previous=last))
    await projected(account, store, until=3)
    projector = Projector(open_engine(store), ProcessorOptions(worker="one", poll_interval=0.05))
    for _ in range(3):  # the third time there is one to clear that is not in use
        await projector.rebuild(lambda *_: None)
    assert [each async for each in compare(store, open_engine(store).feed, store.runs())] == []
    for container, name in PROJECTOR.items():
        assert account.identity.actions_used(principal, container) == role(name).actions, container
    assert not [record for record in account.emulator.requests if record.status in (401, 403)]


async def test_the_role_of_maintenance_and_that_of_leases_are_enough_for_retention(account: IdentityAccount) -> None:
    await two_events(account)
    await (await owner(account)).append(snapshot(make_event(StreamId(STREAM.workflow_name, "another"), 1)))
    principal = account.principal({EVENTS: role("maintenance"), LEASES: role("projector-leases")})
    store = await account.store(principal)
    every = ("running", "waiting", "open", "done", "failed", "cancelled")
    rule = RetentionRule(name="all", workflow="*", remove_after=timedelta(), status=every, unfinished=True)
    passes = RetentionPasses(
        store,
        store.document_store(),
        RetentionPolicy([rule]),
        every=3600.0,
        options=ProcessorOptions(worker="one"),
        clock=SYSTEM_CLOCK,
    )
    stop = asyncio.Event()

    def has_removed(call: Call) -> bool:
        if call.document.get("Retention", {}).get("succeeded_at"):
            stop.set()
        return False

    async def working() -> None:
        await stop.wait()

    with account.emulator.faults.delay(kind="replace_item", container=LEASES, where=has_removed):
        async with asyncio.timeout(120):
            await passes.beside(working(), stop)
    assert (passes.passes, passes.done.total.removed) == (1, 2)
    assert not [record for record in account.emulator.requests if record.status in (401, 403)]


async def projected(account: IdentityAccount, store: CosmosEventStore, *, until: int) -> None:
    """Runs the projector until it has written the run's document for a seq."""
    stop = asyncio.Event()

    def is_it(call: Call) -> bool:
        if call.document["seq"] >= until:
            stop.set()
        return False

    projector = Projector(open_engine(store), ProcessorOptions(worker="one", poll_interval=0.05))
    written = {"kind": {"create_item", "replace_item"}, "container": PROJECTIONS}
    with account.emulator.faults.delay(**written, where=is_it):
        async with asyncio.timeout(120):
            await projector.run(stop)
    assert (await store.runs().get(STREAM))[STREAM].seq == until


# Without any one of its actions, an operation of its program fails

Operation = Callable[[CosmosEventStore], Awaitable[object]]


async def opens(store: CosmosEventStore) -> None:
    await store.container()


async def saves(store: CosmosEventStore) -> None:
    await store.append(make_event(StreamId("workflow", "another run"), 1))


async def saves_parts(store: CosmosEventStore) -> None:
    await store.append(make_event(StreamId("workflow", "another run"), 1, data=LARGE))


async def loads(store: CosmosEventStore) -> None:
    assert await store.read(STREAM, 1)


async def lists(store: CosmosEventStore) -> None:
    assert [event async for event in store.headers(STREAM)]


async def prunes(store: CosmosEventStore) -> None:
    assert await store.remove(STREAM, [1])


async def removes_parts(store: CosmosEventStore) -> None:
    with pytest.raises(StreamConflict):
        await store.append(make_event(STREAM, 1, data=LARGE + b"other"))
    assert await store.remove_orphaned_parts(older_than=0)


async def follows_the_feed(store: CosmosEventStore) -> None:
    feed = open_engine(store).feed
    for each in await feed.ranges():
        await feed.read(each, None, start="beginning", limit=10)


async def info_of(store: CosmosEventStore, count: int = 2) -> Any:
    return fold([event async for event in store.headers(STREAM, lte=count)])


async def creates_a_document(store: CosmosEventStore) -> None:
    assert await store.runs("latest").put(await info_of(store, 1))


async def writes_a_document_on(store: CosmosEventStore) -> None:
    runs = store.runs("latest")
    assert await runs.put(await info_of(store, 1))
    assert await runs.put(await info_of(store, 2))


async def reads_a_document(store: CosmosEventStore) -> None:
    await store.runs("latest").get(STREAM)


async def clears_a_projection(store: CosmosEventStore) -> None:
    await creates_a_document(store)
    await store.runs("latest").clear()


async def compares(store: CosmosEventStore) -> None:
    [each async for each in store.runs("latest").all()]


async def leases_are_created(store: CosmosEventStore) -> None:
    assert await open_engine(store).documents.create({"id": "lease"})


async def leases_are_renewed(store: CosmosEventStore) -> None:
    documents = open_engine(store).documents
    created = await documents.create({"id": "lease"})
    assert created
    assert await documents.replace(created, created["_etag"])


async def leases_are_read(store: CosmosEventStore) -> None:
    await open_engine(store).documents.read("lease")


async def leases_are_listed(store: CosmosEventStore) -> None:
    await open_engine(store).documents.list_documents("")


async def leases_are_given_up(store: CosmosEventStore) -> None:
    documents = open_engine(store).documents
    created = await documents.create({"id": "lease"})
    assert created
    assert await documents.delete("lease", created["_etag"])


MINIMAL: Final[dict[str, tuple[str, dict[str, Operation]]]] = {
    "workflows": (
        EVENTS,
        {
            READ_METADATA: opens,
            CREATE: saves,
            UPSERT: saves_parts,
            READ: loads,
            EXECUTE_QUERY: lists,
            READ_CHANGE_FEED: lists,
        },
    ),
    "maintenance": (
        EVENTS,
        {
            READ_METADATA: opens,
            CREATE: saves,
            UPSERT: saves_parts,
            READ: loads,
            REPLACE: prunes,
            DELETE: removes_parts,
            EXECUTE_QUERY: lists,
            READ_CHANGE_FEED: lists,
        },
    ),
    "projector-events": (
        EVENTS,
        {READ_METADATA: opens, EXECUTE_QUERY: lists, READ_CHANGE_FEED: follows_the_feed},
    ),
    "projector-projections": (
        PROJECTIONS,
        {
            READ_METADATA: reads_a_document,
            CREATE: creates_a_document,
            READ: reads_a_document,
            REPLACE: writes_a_document_on,
            DELETE: clears_a_projection,
            EXECUTE_QUERY: compares,
            READ_CHANGE_FEED: compares,
        },
    ),
    "projector-leases": (
        LEASES,
        {
            READ_METADATA: leases_are_read,
            CREATE: leases_are_created,
            READ: leases_are_read,
            REPLACE: leases_are_renewed,
            DELETE: leases_are_given_up,
            EXECUTE_QUERY: leases_are_listed,
            READ_CHANGE_FEED: leases_are_listed,
        },
    ),
}
DROPS = [(name, action) for name, (_, operations) in MINIMAL.items() for action in operations]


def test_every_role_and_every_action_of_it_has_an_operation() -> None:
    assert sorted(MINIMAL) == sorted(path.stem for path in ROLES.glob("*.json"))
    for name, (_, operations) in MINIMAL.items():
        assert set(operations) == role(name).actions


@pytest.mark.parametrize(("name", "action"), DROPS, ids=[f"{name}, {each.rpartition('/')[2]}" for name, each in DROPS])
async def test_a_role_without_one_of_its_actions_is_too_little(
    account: IdentityAccount, name: str, action: str
) -> None:
    await two_events(account)
    container, operations = MINIMAL[name]
    beside: dict[str, Role] = {each: role(file) for each, file in PROJECTOR.items()}
    with_all = account.principal({**beside, container: role(name)})
    without = account.principal({**beside, container: role(name).without(action)})
    with pytest.raises(StoreReadOnlyError) as error:
        await operations[action](await account.store(without))
    refusals = [record for record in account.emulator.requests if record.status == 403]
    assert {(record.substatus, record.path.split("/")[4]) for record in refusals} == {(5301, container)}
    assert "Built-in Data Contributor" in str(error.value)
    for document in ("lease", "latest"):
        await forget(account, document)
    await operations[action](await account.store(with_all))


@pytest.mark.parametrize(("name", "action"), DROPS, ids=[f"{name}, {each.rpartition('/')[2]}" for name, each in DROPS])
async def test_whoever_lacks_a_right_is_told_which_and_where(account: IdentityAccount, name: str, action: str) -> None:
    await two_events(account)
    container, operations = MINIMAL[name]
    beside: dict[str, Role] = {each: role(file) for each, file in PROJECTOR.items()}
    without = account.principal({**beside, container: role(name).without(action)})
    with pytest.raises(StoreReadOnlyError) as error:
        await operations[action](await account.store(without))
    assert action in str(error.value)
    assert container in str(error.value)


async def forget(account: IdentityAccount, document: str) -> None:
    """Takes away what an operation left that was refused half way."""
    store = await owner(account)
    if document == "latest":
        await store.runs("latest").clear()
        return
    documents = open_engine(store).documents
    if (found := await documents.read(document)) is not None:
        assert await documents.delete(document, found["_etag"])


def test_roles_are_such_as_the_command_line_takes() -> None:
    for path in ROLES.glob("*.json"):
        definition = json.loads(path.read_text(encoding="utf-8"))
        assert set(definition) == {"RoleName", "Type", "AssignableScopes", "Permissions"}
        assert definition["AssignableScopes"] == ["/"]
