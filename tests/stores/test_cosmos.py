"""The Cosmos DB engine through the real SDK: the conformance suite, and what is its own: keys, items, parts, opening,
identities, costs, faults.

Where a test needs no more than an account, it runs on the one that `EVENTCKPT_TEST_COSMOS_ENDPOINT` names.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import logging
import os
import ssl
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import SecretString, WorkflowCheckpoint
from agent_framework.exceptions import SettingNotFoundError
from azure.core.credentials import AccessToken
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosResourceExistsError, CosmosResourceNotFoundError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eventckpt import (
    CheckpointDecodeError,
    CheckpointEvent,
    CheckpointStoreError,
    CosmosCheckpointStorage,
    CosmosEventStore,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    StreamId,
)
from eventckpt.chain import digest_of, sealed
from eventckpt.errors import StoreFormatError, StoreReadOnlyError, StoreUnavailableError, StreamConflict
from eventckpt.events import Summary
from eventckpt.stores.conformance import EventStoreConformance, make_event
from eventckpt.stores.cosmos import INDEXING_POLICY, PARTITION_KEY, container, partition_key_of, requests

from ..conftest import cosmos_account
from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from ..engines import catch_up
from .cosmos_operations import hurry

STREAM = StreamId("workflow", "run")
WORKFLOW = "orders"
MEGABYTES_5 = hashlib.shake_256(b"large").digest(5_000_000)
PARTS_OF_5_MB = 14

Settings = dict[str, Any]


@pytest.fixture
async def account() -> AsyncGenerator[tuple[str, str], None]:
    async with cosmos_account() as found:
        yield found


@pytest.fixture
async def emulator() -> AsyncGenerator[CosmosEmulator, None]:
    if os.environ.get("EVENTCKPT_TEST_COSMOS_ENDPOINT"):
        pytest.skip("needs what only the emulator of these tests can do: count requests, inject faults, split")
    async with CosmosEmulator() as running:
        yield running


def settings_of(endpoint: str, key: str) -> Settings:
    """A container of its own."""
    name = f"test-{uuid.uuid4()}"
    return {"endpoint": endpoint, "credential": key, "database_name": DATABASE, "container_name": name}


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    """On the emulator, where the test asks for it; else on any account."""
    if "emulator" in request.fixturenames:
        running: CosmosEmulator = request.getfixturevalue("emulator")
        return settings_of(running.endpoint, running.key)
    return settings_of(*request.getfixturevalue("account"))


@pytest.fixture
async def store(settings: Settings) -> AsyncGenerator[CosmosEventStore, None]:
    async with CosmosEventStore(**settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings) -> AsyncGenerator[CosmosClient, None]:
    """The SDK itself, for a look behind the store and for changes that it would not make, each a moment later."""

    def a_moment_later(_: Any) -> None:
        catch_up(settings["endpoint"])

    hooks = {"raw_request_hook": a_moment_later, "raw_response_hook": a_moment_later}
    async with CosmosClient(settings["endpoint"], settings["credential"], **hooks) as opened:
        yield opened


@pytest.fixture
def items(client: CosmosClient, settings: Settings) -> ContainerProxy:
    return container_of(client, settings)


def container_of(client: CosmosClient, settings: Settings) -> ContainerProxy:
    return client.get_database_client(settings["database_name"]).get_container_client(settings["container_name"])


async def create_container(client: CosmosClient, settings: Settings, key: str) -> None:
    """As somebody else would, who waits until a database that was just made is known."""
    database = client.get_database_client(settings["database_name"])
    with suppress(CosmosResourceExistsError):
        await client.create_database(settings["database_name"])
    for _ in range(100):
        with suppress(CosmosResourceNotFoundError):
            await database.create_container(settings["container_name"], PartitionKey(key))
            return
        await asyncio.sleep(0.05)
    pytest.fail("the database does not come to be known")


async def append_chain(
    store: EventStore, count: int, *, stream: StreamId = STREAM, data: bytes = b"state"
) -> list[CheckpointEvent]:
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        events.append(make_event(stream, seq, previous=events[-1] if events else None, data=data))
        await store.append(events[-1])
    return events


async def headers(store: EventStore, stream: StreamId = STREAM, **bounds: Any) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream, **bounds)]


async def workflow_headers(store: EventStore, name: str = "workflow", *, desc: bool = False) -> list[CheckpointEvent]:
    return [header async for header in store.workflow_headers(name, desc=desc)]


def headers_of(events: list[CheckpointEvent]) -> list[CheckpointEvent]:
    return [event.header() for event in events]


def checkpoint(previous: WorkflowCheckpoint | None = None, /, **fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        workflow_name=fields.pop("workflow_name", WORKFLOW),
        graph_signature_hash="graph",
        previous_checkpoint_id=previous.checkpoint_id if previous else None,
        **fields,
    )


async def saves(storage: EventCheckpointStorage | RunCheckpointStorage, count: int) -> list[WorkflowCheckpoint]:
    """A lineage of `count` checkpoints."""
    made: list[WorkflowCheckpoint] = []
    for step in range(count):
        made.append(checkpoint(made[-1] if made else None, state={"step": step}))
        await storage.save(made[-1])
    return made


async def verified(store: EventStore, stream: StreamId) -> list[CheckpointEvent]:
    """The events of a run, whole: without gaps, each with its own digest, each with that of the one before."""
    listed = await headers(store, stream)
    assert [header.seq for header in listed] == list(range(1, len(listed) + 1))
    events = await store.read(stream, *(header.seq for header in listed))
    assert [digest_of(event) for event in events] == [event.digest for event in events]
    assert [event.previous_digest for event in events[1:]] == [event.digest for event in events[:-1]]
    return events


class Gate:
    """Holds requests of the emulator that a rule matches, and tells when one has come."""

    def __init__(self, emulator: CosmosEmulator, *, applied: bool = False, **match: Any) -> None:
        self.arrived, self.open = asyncio.Event(), asyncio.Event()
        emulator.faults.delay(until=self.open, applied=applied, where=self._arrives, times=1, **match)

    def _arrives(self, _: object) -> bool:
        self.arrived.set()
        return True


def on_request(emulator: CosmosEmulator, kind: str, action: Callable[[], object], *, nth: int = 1) -> None:
    """Do something in the middle of the n-th request of a kind, before the emulator answers it."""
    seen = 0

    def where(_: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == nth:
            action()
        return False

    emulator.faults.delay(kind=kind, where=where)


def asked(emulator: CosmosEmulator) -> dict[str, int]:
    """How many requests of each kind came since the last reset, without the SDK's own looks at the account."""
    return dict(Counter(record.kind for record in emulator.requests if record.kind != "account"))


# The suite of all engines


class TestCosmosConformance(EventStoreConformance):
    """One request for each append has a price: the engine compares an event with what is stored at its seq, and with
    nothing else. What an engine that reads the head would refuse is accepted here; `verify` finds it."""

    @pytest.fixture(autouse=True)
    async def one_container(self, account: tuple[str, str]) -> AsyncGenerator[None, None]:
        self.settings = settings_of(*account)
        async with AsyncExitStack() as self.opened:
            yield

    async def open_store(self) -> EventStore:
        return await self.opened.enter_async_context(CosmosEventStore(**self.settings))

    async def settle(self) -> None:
        catch_up(self.settings["endpoint"])

    async def test_a_gap_is_a_conflict_that_tells_the_head(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, 2)
        beyond = make_event(STREAM, 4, previous=events[-1])
        await store.append(beyond)
        assert await headers(store) == headers_of([*events, beyond])
        with pytest.raises(StreamConflict) as conflict:
            await store.append(make_event(STREAM, 4, previous=events[-1], data=b"other"))
        assert conflict.value.head == beyond.header()

    async def test_a_stream_without_events_conflicts_with_any_seq_but_one(self) -> None:
        store = await self.open_store()
        second = make_event(STREAM, 2, previous=make_event(STREAM, 1))
        await store.append(second)
        assert await headers(store) == [second.header()]

    async def test_another_previous_digest_than_the_heads_is_a_conflict(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, 2)
        stranger = make_event(STREAM, 3, previous=events[0])
        await store.append(stranger)
        assert await store.read(STREAM, 3) == [stranger]


# Ways in


async def test_a_store_takes_an_endpoint_and_a_key(settings: Settings) -> None:
    for credential in (settings["credential"], SecretString(settings["credential"])):
        async with CosmosEventStore(**{**settings, "credential": credential}) as store:
            event = make_event(StreamId("workflow", type(credential).__name__), 1)
            await store.append(event)
            assert await store.read(event.stream, 1) == [event]


async def test_a_store_takes_its_settings_from_the_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    async with CosmosEventStore() as store:
        assert await store.read(STREAM, 1) == []
    monkeypatch.setenv("AZURE_COSMOS_CONTAINER_NAME", "not this one")
    async with CosmosEventStore(container_name=settings["container_name"]) as store:
        await append_chain(store, 1)
    async with CosmosEventStore(**settings) as store:
        assert len(await headers(store)) == 1


async def test_a_store_takes_its_settings_from_a_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in variables(settings):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "settings.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables(settings).items()), encoding="utf-16")
    async with CosmosCheckpointStorage(env_file_path=str(file), env_file_encoding="utf-16") as storage:
        [saved] = await saves(storage, 1)
        assert await storage.load(saved.checkpoint_id) == saved


def variables(settings: Settings) -> dict[str, str]:
    return {
        "AZURE_COSMOS_ENDPOINT": settings["endpoint"],
        "AZURE_COSMOS_KEY": settings["credential"],
        "AZURE_COSMOS_DATABASE_NAME": settings["database_name"],
        "AZURE_COSMOS_CONTAINER_NAME": settings["container_name"],
    }


@pytest.mark.parametrize("missing", ["endpoint", "credential", "database_name", "container_name"])
def test_a_setting_that_is_given_nowhere_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"endpoint": "https://x", "credential": "a2V5", "database_name": "d", "container_name": "c"}
    for name in variables(settings):
        monkeypatch.delenv(name, raising=False)
    del settings[missing]
    with pytest.raises(SettingNotFoundError, match={"credential": "key"}.get(missing, missing)):
        CosmosEventStore(**settings)


async def test_a_client_that_is_given_is_used_and_left_open(client: CosmosClient, settings: Settings) -> None:
    names = {name: settings[name] for name in ("database_name", "container_name")}
    async with CosmosCheckpointStorage(cosmos_client=client, **names) as storage:
        [saved] = await saves(storage, 1)
    async with CosmosCheckpointStorage(cosmos_client=client, **names) as storage:
        assert await storage.load(saved.checkpoint_id) == saved
    assert [each["id"] async for each in client.query_databases("SELECT * FROM c")]


async def test_a_container_that_is_given_is_used_and_left_open(
    client: CosmosClient, items: ContainerProxy, settings: Settings
) -> None:
    await create_container(client, settings, "/stream")
    async with CosmosCheckpointStorage(container_client=items) as storage:
        saved = await saves(storage, 2)
        assert await storage.get_latest(workflow_name=WORKFLOW) == saved[-1]  # whatever its indexing policy
    async with CosmosCheckpointStorage(container_client=items) as storage:
        assert await storage.list_checkpoints(workflow_name=WORKFLOW) == saved
    assert await items.read()


async def test_a_container_that_is_given_is_never_created(items: ContainerProxy, settings: Settings) -> None:
    async with CosmosEventStore(container_client=items) as store:
        with pytest.raises(StoreFormatError, match="does not exist"):
            await store.append(make_event(STREAM, 1))
    with pytest.raises(CosmosResourceNotFoundError):
        await items.read()


async def test_close_closes_what_the_store_made(settings: Settings) -> None:
    def sessions() -> list[Any]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each).__name__ == "ClientSession" and not each.closed]

    before = len(sessions())
    store = CosmosEventStore(**settings)
    await append_chain(store, 1)
    assert len(sessions()) == before + 1
    await store.close()
    assert len(sessions()) == before
    with pytest.raises(CheckpointStoreError, match="closed"):
        await store.read(STREAM, 1)


async def test_a_store_can_be_made_where_no_event_loop_runs(settings: Settings) -> None:
    async with await asyncio.to_thread(lambda: CosmosEventStore(**settings)) as store:
        assert await store.read(STREAM, 1) == []


async def test_a_store_tells_that_it_belongs_to_another_event_loop(store: CosmosEventStore) -> None:
    await append_chain(store, 1)
    with pytest.raises(CheckpointStoreError, match=r"another event loop.*asyncio\.run"):
        await asyncio.to_thread(lambda: asyncio.run(store.read(STREAM, 1)))
    assert len(await store.read(STREAM, 1)) == 1


# Identities


class SyncCredential:
    """As those of `azure.identity`: blocks while it asks for a token."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.threads.append(threading.get_ident())
        self.scopes += scopes
        return AccessToken("the-token", int(time.time()) + 3600)

    def close(self) -> None: ...


class AsyncCredential(SyncCredential):
    """As those of `azure.identity.aio`."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        await asyncio.sleep(0)
        return super().get_token(*scopes, **options)

    async def close(self) -> None: ...

    async def __aenter__(self) -> AsyncCredential:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


class WrappedCredential(AsyncCredential):
    """Async behind a plain function, as a decorator may leave it."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        return super().get_token(*scopes, **options)


@pytest.mark.parametrize("kind", [SyncCredential, AsyncCredential, WrappedCredential])
async def test_token_credentials_are_asked_and_a_sync_one_off_the_event_loop(
    emulator: CosmosEmulator, settings: Settings, tmp_path: Path, kind: type[SyncCredential]
) -> None:
    credential: Any = kind()
    async with (
        secure(emulator, tmp_path) as endpoint,
        CosmosEventStore(**{**settings, "endpoint": endpoint, "credential": credential}) as store,
    ):
        # The emulator has no directory to check tokens with and refuses them all.
        with pytest.raises(StoreReadOnlyError, match="An identity must be of the account's tenant"):
            await store.append(make_event(STREAM, 1))
    assert credential.scopes
    assert (threading.get_ident() in credential.threads) == (kind is not SyncCredential)
    assert {record.headers["Authorization"] for record in emulator.requests} == {"type=aad&ver=1.0&sig=the-token"}


@asynccontextmanager
async def secure(emulator: CosmosEmulator, folder: Path) -> AsyncGenerator[str, None]:
    """The emulator behind TLS: tokens are sent over nothing less."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    port = int(emulator.endpoint.rstrip("/").rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, outer), pipe(inner, writer), return_exceptions=True)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_credential_that_gives_no_token_is_told_from_a_service_that_is_down(
    settings: Settings, emulator: CosmosEmulator, tmp_path: Path
) -> None:
    from azure.identity import CredentialUnavailableError

    class Nobody(AsyncCredential):
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            raise CredentialUnavailableError("nobody is logged in here")

    async with (
        secure(emulator, tmp_path) as endpoint,
        CosmosEventStore(**{**settings, "endpoint": endpoint, "credential": Nobody()}) as store,
    ):
        with pytest.raises(StoreReadOnlyError, match="nobody is logged in here"):
            await store.read(STREAM, 1)


async def test_a_wrong_key_is_named_as_such(settings: Settings) -> None:
    wrong = base64.b64encode(b"another key altogether").decode()
    async with CosmosEventStore(**{**settings, "credential": wrong}) as store:
        with pytest.raises(StoreReadOnlyError, match=r"refused the identity.*A key must be the account's own"):
            await store.append(make_event(STREAM, 1))


async def test_an_identity_that_may_not_write_can_read_and_is_told_its_role(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 1)
    emulator.faults.respond(403, kind="create_item")
    with pytest.raises(StoreReadOnlyError, match="Built-in Data Contributor"):
        await store.append(make_event(STREAM, 2, previous=events[0]))
    assert await store.read(STREAM, 1) == events


async def test_no_secret_shows_in_a_text_of_the_store(
    emulator: CosmosEmulator, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    for status, kind in ((403, "create_item"), (429, "create_item"), (400, "create_item"), (401, "read_container")):
        storage = CosmosCheckpointStorage(**settings, timeout=1.0)
        with emulator.faults.respond(status, kind=kind), pytest.raises(CheckpointStoreError) as error:
            await storage.save(checkpoint())
        texts += [
            repr(storage),
            repr(storage.store),
            repr(vars(storage.store)),
            *traceback.format_exception(error.value),
        ]
        await storage.close()
    assert settings["credential"] not in caplog.text + "".join(texts)


async def test_requests_say_what_sent_them(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    await append_chain(store, 1)
    assert all("eventckpt/0." in record.headers["User-Agent"] for record in emulator.requests)


# Opening


async def test_database_and_container_are_created_once_as_the_engine_needs_them(
    emulator: CosmosEmulator, settings: Settings, client: CosmosClient
) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(CosmosEventStore(**settings)) for _ in range(5)]
        events = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(5)]
        await asyncio.gather(*(store.append(event) for store, event in zip(stores, events, strict=True)))
        emulator.catch_up()
        for event in events:
            assert await stores[0].read(event.stream, 1) == [event]
    created = [record.kind for record in emulator.requests if record.status == 201]
    assert Counter(created) == {"create_database": 1, "create_container": 1, "create_item": 5}
    properties = await container_of(client, settings).read()
    assert properties["partitionKey"]["paths"] == [PARTITION_KEY]
    stored = properties["indexingPolicy"]
    assert {name: stored[name] for name in INDEXING_POLICY} == INDEXING_POLICY


async def test_a_container_that_is_there_is_opened_with_one_request(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    emulator.reset()
    async with CosmosEventStore(**settings) as other:
        await asyncio.gather(*(other.read(STREAM, 1) for _ in range(5)))
    assert asked(emulator) == {"read_container": 1, "read_item": 5}


async def test_a_container_with_another_partition_key_is_refused(client: CosmosClient, settings: Settings) -> None:
    await create_container(client, settings, "/workflow_name")
    async with CosmosEventStore(**settings) as store:
        with pytest.raises(StoreFormatError, match=r"partitioned by \['/workflow_name'\], events need '/stream'"):
            await store.append(make_event(STREAM, 1))
    assert [item async for item in container_of(client, settings).read_all_items()] == []


@pytest.mark.parametrize("kind", ["create_database", "create_container"])
async def test_who_may_not_create_the_container_is_told_how_it_is_done(
    emulator: CosmosEmulator, settings: Settings, kind: str
) -> None:
    emulator.faults.respond(403, kind=kind)
    async with CosmosEventStore(**settings) as store:
        with pytest.raises(StoreFormatError) as error:
            await store.append(make_event(STREAM, 1))
        message = str(error.value)
        for part in (
            "az cosmosdb sql database create",
            "az cosmosdb sql container create",
            f"--name {settings['container_name']}",
            f"--database-name {DATABASE}",
            "--partition-key-path /stream",
        ):
            assert part in message
        assert json.loads(message.partition("--idx '")[2].rstrip("'")) == INDEXING_POLICY
        emulator.faults.clear()
        await append_chain(store, 1)  # done by somebody, or allowed now: the same store goes on


async def test_a_container_that_was_deleted_under_the_store_is_named_missing(
    store: CosmosEventStore, client: CosmosClient, settings: Settings
) -> None:
    hurry(store, 0.5)
    await append_chain(store, 1)
    await client.get_database_client(settings["database_name"]).delete_container(settings["container_name"])
    for use in (store.append(make_event(STREAM, 1)), headers(store)):
        with pytest.raises(StoreFormatError, match="does not exist"):
            await use


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's, above 1 MB; no item that fits comes near
async def test_a_header_that_is_too_large_is_named_as_such(store: CosmosEventStore) -> None:
    keys = tuple(f"{number:06}{'x' * 94}" for number in range(25_000))
    event = sealed(msgspec.structs.replace(make_event(STREAM, 1), summary=Summary(state_keys=keys)))
    with pytest.raises(CheckpointStoreError, match="too large"):
        await store.append(event)
    await append_chain(store, 1)


# Items


async def test_an_item_is_the_event_its_key_and_its_data(store: CosmosEventStore, items: ContainerProxy) -> None:
    first, second = await append_chain(store, 2, data=b"\x00\xff state")
    item = await items.read_item("000000000002", partition_key_of(STREAM))
    own = {name: value for name, value in item.items() if not name.startswith("_")}
    expected = json.loads(msgspec.json.encode(second.header()))
    data = base64.b64encode(b"\x00\xff state").decode()
    assert own == {**expected, "id": "000000000002", "stream": "workflow|run", "data": data}
    assert own["previous_digest"] == first.digest


@pytest.mark.parametrize(
    "stream",
    [
        StreamId("a/b\\c?d#e|f", "g/h\\i?j#k|l"),
        StreamId("工作流 🚀", "🚀 " * 100),
        StreamId("w" * 255, "🚀" * 255),
        StreamId("🚀" * 255, "🚀" * 254 + "🛰"),
    ],
    ids=["separators", "emoji", "long run", "long both"],
)
async def test_any_name_makes_a_key_that_the_service_takes(
    store: CosmosEventStore, items: ContainerProxy, stream: StreamId
) -> None:
    events = await append_chain(store, 2, stream=stream)
    assert await verified(store, stream) == events
    assert await workflow_headers(store, stream.workflow_name) == headers_of(events)
    key = partition_key_of(stream)
    assert len(key.encode()) <= 2048
    assert (await items.read_item("000000000001", key))["run_id"] == stream.run_id


def test_names_that_differ_never_make_one_key() -> None:
    long = "🚀" * 255
    streams = [
        *(StreamId(long, long[:-1] + last) for last in "🚀🛰x"),
        *(StreamId(long[:-1] + last, long) for last in "🛰x"),
        StreamId("a|b", "c"),
        StreamId("a", "b|c"),
        StreamId("a%7Cb", "c"),
        StreamId("a", "b%7Cc"),
    ]
    keys = {partition_key_of(stream) for stream in streams}
    assert len(keys) == len(streams)
    assert partition_key_of(StreamId("orders", "order-42")) == "orders|order-42"
    cut = partition_key_of(StreamId("w" * 1900, long))
    workflow_name, run_id = cut.split("|")
    assert partition_key_of(StreamId(workflow_name, run_id)) != cut


# Parts


async def test_a_large_payload_lies_in_parts_beside_its_event(
    emulator: CosmosEmulator, store: CosmosEventStore, items: ContainerProxy
) -> None:
    [event] = await append_chain(store, 1, data=MEGABYTES_5)
    found = [item async for item in items.query_items("SELECT * FROM c", partition_key=partition_key_of(STREAM))]
    parts = [item for item in found if item["type"] == "part"]
    [item] = [item for item in found if item["type"] == "checkpoint"]
    assert len(parts) == PARTS_OF_5_MB
    assert (item["data"], set(item["payload"]["parts"])) == ("", {part["id"] for part in parts})
    for part in parts:
        assert part["id"] == f"part-{hashlib.sha256(base64.b64decode(part['data'])).hexdigest()}"
    kinds = [record.kind for record in emulator.requests if record.kind in {"upsert_item", "create_item"}]
    assert kinds == ["upsert_item"] * PARTS_OF_5_MB + ["create_item"], "the event is the commit point"
    [read] = await store.read(STREAM, 1)
    assert read.payload is not None
    assert read.payload.data == MEGABYTES_5
    assert digest_of(read) == event.digest == read.digest


async def test_listings_pass_over_parts_and_never_transfer_data(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 2, data=MEGABYTES_5)
    emulator.reset()
    for listed in (
        await headers(store),
        await headers(store, desc=True),
        await workflow_headers(store),
        await workflow_headers(store, desc=True),
    ):
        assert [(header.seq, header.digest) for header in sorted(listed, key=lambda header: header.seq)] == [
            (event.seq, event.digest) for event in events
        ]
    with pytest.raises(StreamConflict):
        await store.append(make_event(STREAM, 1, data=b"other"))
    assert max(record.response_bytes for record in emulator.requests) < 10_000  # two headers with the names of 14 parts


async def test_a_crash_between_parts_and_event_leaves_nothing_to_see(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore, items: ContainerProxy
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5)
    with emulator.faults.respond(400, kind="create_item"), pytest.raises(CheckpointStoreError):
        await store.append(event)
    assert await count_parts(items) == PARTS_OF_5_MB
    async with CosmosEventStore(**settings) as other:
        assert await headers(other) == []
        assert await workflow_headers(other) == await workflow_headers(other, desc=True) == []
        assert await other.find(event.checkpoint_id) is None
        small = make_event(STREAM, 1)
        await other.append(small)
        assert await verified(other, STREAM) == [small]


async def test_orphaned_parts_are_found_and_removed_and_no_others(
    emulator: CosmosEmulator, store: CosmosEventStore, items: ContainerProxy
) -> None:
    kept = await append_chain(store, 1, data=MEGABYTES_5)
    another = await append_chain(store, 1, data=MEGABYTES_5, stream=StreamId("workflow", "another"))
    with emulator.faults.respond(400, kind="create_item"):
        for number in range(2):  # in a run with events, and in one without
            lost = make_event(
                StreamId("workflow", ["run", "lost"][number]), 2, data=MEGABYTES_5[1_000_000 * number + 1 :]
            )
            with pytest.raises(CheckpointStoreError):
                await store.append(lost)
    total = await count_parts(items)
    assert await store.remove_orphaned_parts() == 0, "they are young"
    removed = await store.remove_orphaned_parts(older_than=0)
    assert removed == total - 2 * PARTS_OF_5_MB
    assert await store.remove_orphaned_parts(older_than=0) == 0
    assert await count_parts(items) == 2 * PARTS_OF_5_MB
    assert payloads(await store.read(STREAM, 1)) == payloads(kept)
    assert payloads(await store.read(StreamId("workflow", "another"), 1)) == payloads(another)


def payloads(events: list[CheckpointEvent]) -> list[bytes | None]:
    return [event.payload and event.payload.data for event in events]


async def count_parts(items: ContainerProxy) -> int:
    return len([item async for item in items.query_items("SELECT c.id FROM c WHERE c.type = 'part'")])


async def test_a_save_that_needs_an_old_part_keeps_it_from_being_collected(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    event = make_event(STREAM, 1, data=MEGABYTES_5[:1_000_000])
    with emulator.faults.respond(400, kind="create_item"), pytest.raises(CheckpointStoreError):
        await store.append(event)
    gate = Gate(emulator, kind="delete_item")
    collecting = asyncio.create_task(store.remove_orphaned_parts(older_than=0))
    await gate.arrived.wait()  # it has seen that no event needs the parts; one of three is about to go
    async with CosmosEventStore(**settings) as other:
        with emulator.faults.delay(until=gate.open, kind="delete_item"):
            await other.append(event)
    gate.open.set()
    await collecting
    assert payloads(await store.read(STREAM, 1)) == payloads([event])


async def test_parts_of_a_run_with_a_damaged_event_are_kept(
    store: CosmosEventStore, items: ContainerProxy, caplog: pytest.LogCaptureFixture
) -> None:
    await append_chain(store, 1, data=MEGABYTES_5)
    await tamper(items, "000000000001", payload={"encoding": "zstd", "parts": "none"})
    assert await store.remove_orphaned_parts(older_than=0) == 0
    assert "the header of seq 1 is damaged" in caplog.text


async def test_a_missing_part_fails_its_own_checkpoint_only(settings: Settings, items: ContainerProxy) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        [small] = await saves(run, 1)
        large = checkpoint(small, state={"noise": MEGABYTES_5[:2_000_000]})
        await run.save(large)
        [other] = await saves(storage.for_run("other"), 1)
    [name, *_] = (await items.read_item("000000000002", "orders|r"))["payload"]["parts"]
    await items.delete_item(name, "orders|r")
    async with CosmosCheckpointStorage(**settings) as storage:
        with pytest.raises(CheckpointDecodeError, match="digest"):
            await storage.load(large.checkpoint_id)
        assert await storage.load(small.checkpoint_id) == small
        assert await storage.load(other.checkpoint_id) == other


# Items that somebody has changed


async def tamper(items: ContainerProxy, name: str, key: str = "workflow|run", **changes: Any) -> None:
    item = dict(await items.read_item(name, key))
    item |= {field: value for field, value in changes.items() if value is not ...}
    for field in [field for field, value in changes.items() if value is ...]:
        del item[field]
    await items.replace_item(name, item)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "not base64!"},
        {"data": 17},
        {"data": ...},
        {"data": ""},
        {"payload": "text"},
        {"payload": {"encoding": "zstd"}},
        {"payload": None},
        {"seq": "2"},
        {"seq": 1},
        {"seq": 7},
        {"seq": ...},
        {"type": "part"},
        {"type": 5},
        {"run_id": "other"},
        {"run_id": 7},
        {"workflow_name": ...},
        {"timestamp": None},
        {"timestamp": 1},
        {"timestamp": "9999"},
        {"digest": None},
        {"previous_digest": "0"},
        {"summary": []},
        {"schema": "2"},
        {"checkpoint_version": "1.1"},
    ],
    ids=lambda changes: "-".join(f"{name}-{value!r}"[:30] for name, value in changes.items()),
)
async def test_a_changed_item_fails_its_own_checkpoint_and_hides_no_other(
    settings: Settings, items: ContainerProxy, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        mine = await saves(storage.for_run("r"), 3)
        others = await saves(storage.for_run("other"), 2)
    await tamper(items, "000000000002", "orders|r", **changes)
    async with CosmosCheckpointStorage(**settings) as storage:
        run, other = storage.for_run("r"), storage.for_run("other")
        assert await other.list_checkpoints(workflow_name=WORKFLOW) == others
        assert await other.get_latest(workflow_name=WORKFLOW) == others[-1]
        assert [header.seq for header in await headers(storage.store, StreamId(WORKFLOW, "r"))] == [1, 2, 3]
        left = await run.list_checkpoints(workflow_name=WORKFLOW)
        assert left == [mine[0], mine[2]]
        assert "cannot be loaded" in caplog.text
        with pytest.raises(CheckpointDecodeError):
            await run.load(mine[1].checkpoint_id)
        assert await run.get_latest(workflow_name=WORKFLOW) == mine[2]
        following = checkpoint(mine[2])
        await run.save(following)
        assert await run.get_latest(workflow_name=WORKFLOW) == following
        assert [each.checkpoint_id for each in await storage.list_checkpoints(workflow_name=WORKFLOW)] != []


@pytest.mark.parametrize("changes", [{"timestamp": 5}, {"timestamp": ...}, {"seq": "x"}, {"payload": 1}], ids=str)
async def test_a_changed_newest_item_never_gives_way_to_an_older_one(
    settings: Settings, items: ContainerProxy, changes: dict[str, Any]
) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        mine = await saves(storage.for_run("r"), 2)
    await tamper(items, "000000000002", "orders|r", **changes)
    async with CosmosCheckpointStorage(**settings, on_conflict="raise") as storage:
        for reader in (storage, storage.for_run("r")):
            with pytest.raises(CheckpointDecodeError):
                await reader.get_latest(workflow_name=WORKFLOW)
        assert await storage.delete(mine[1].checkpoint_id)
        assert await storage.get_latest(workflow_name=WORKFLOW) == mine[0]


async def test_a_part_list_that_names_no_parts_reads_nothing_else(
    store: CosmosEventStore, items: ContainerProxy
) -> None:
    await append_chain(store, 2, data=MEGABYTES_5[:1_000_000])
    payload = (await items.read_item("000000000002", "workflow|run"))["payload"]
    await tamper(items, "000000000002", payload={**payload, "parts": ["000000000001", "../x", ""]})
    [event] = await store.read(STREAM, 2)
    assert payloads([event]) == [b""]
    assert digest_of(event) != event.digest


# What it costs: requests, and request units by the service's price list


async def costs(emulator: CosmosEmulator, operation: Any) -> tuple[dict[str, int], float]:
    emulator.reset()
    await operation
    return asked(emulator), emulator.charges.total


async def test_a_save_is_one_request_and_a_load_at_most_three(
    emulator: CosmosEmulator, settings: Settings, store: CosmosEventStore
) -> None:
    run = EventCheckpointStorage(store).for_run("r")
    history = [{"role": "user", "text": hashlib.sha256(b"%d" % number).hexdigest()} for number in range(1000)]
    first = checkpoint(state={"history": history})
    await run.save(first)
    second = checkpoint(first, state={"history": [*history, {"role": "user", "text": "and one more"}]})
    requests, charge = await costs(emulator, run.save(second))
    assert requests == {"create_item": 1}
    assert charge <= 8  # 6.47: an item of under 2 KB
    await saves(EventCheckpointStorage(store).for_run("other"), 3)

    async with CosmosEventStore(**settings) as other:
        await other.read(STREAM, 1)  # opens
        bound = EventCheckpointStorage(other).for_run("r", workflow_name=WORKFLOW)
        requests, charge = await costs(emulator, bound.load(second.checkpoint_id))
        assert requests == {"query": 2, "read_item": 1}  # the newest event of the id, the head, and the delta's base
        assert charge <= 10  # 9.14
        requests, charge = await costs(emulator, bound.load(second.checkpoint_id))
        assert requests == {"query": 2}
        assert charge <= 6.5  # 5.78
        requests, charge = await costs(emulator, bound.get_latest(workflow_name=WORKFLOW))
        assert requests == {"query": 1, "read_item": 1}
        assert charge <= 4.5  # 3.89
        requests, charge = await costs(emulator, bound.list_checkpoint_ids(workflow_name=WORKFLOW))
        assert requests == {"query": 1}
        assert charge <= 7.5  # 6.61: a listing pays for the items whose headers it selects
        unbound = EventCheckpointStorage(other)
        requests, charge = await costs(emulator, unbound.load(first.checkpoint_id))
        assert requests == {"query": 2, "read_item": 1}  # the id's event, that event whole, the head
        assert charge <= 14  # 12.77: the first snapshot is 50 KB
        requests, charge = await costs(emulator, unbound.list_checkpoint_ids(workflow_name=WORKFLOW))
        assert requests == {"query": 1}
        assert charge <= 7.5  # 6.87
        requests, charge = await costs(emulator, unbound.get_latest(workflow_name=WORKFLOW))
        # The SDK asks for a plan of how to sort over partitions, and the first time for the partitions themselves.
        assert requests == {"query": 3, "query_plan": 1, "read_ranges": 2, "read_item": 2}
        assert charge <= 13  # 11.67
        requests, charge = await costs(emulator, unbound.get_latest(workflow_name=WORKFLOW))
        assert requests == {"query": 3, "query_plan": 1, "read_item": 1}


async def test_a_listing_is_one_request_for_each_page(
    emulator: CosmosEmulator, store: CosmosEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 10)
    run = EventCheckpointStorage(store).for_run("r")
    saved = await saves(run, 35)
    emulator.reset()
    assert await run.list_checkpoint_ids(workflow_name=WORKFLOW) == [each.checkpoint_id for each in saved]
    assert asked(emulator) == {"query": 4}


async def test_a_conflict_costs_a_look_at_what_is_there(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    await append_chain(store, 3)
    emulator.reset()
    with pytest.raises(StreamConflict):
        await store.append(make_event(STREAM, 2, data=b"other"))
    assert asked(emulator) == {"create_item": 1, "read_item": 1, "query": 1}
    assert emulator.charges.total <= 5.5  # 4.91
    emulator.reset()
    await store.append((await store.read(STREAM, 2))[0])
    assert asked(emulator) == {"create_item": 1, "read_item": 2}


async def test_the_newest_of_a_workflow_is_found_without_reading_the_rest(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    storage = EventCheckpointStorage(store)
    for number in range(30):
        last = await saves(storage.for_run(f"run {number}"), 10)
    emulator.reset()
    assert await storage.get_latest(workflow_name=WORKFLOW) == last[-1]
    assert sum(asked(emulator).values()) <= 8  # of 30 runs with 10 checkpoints each
    assert emulator.charges.total <= 13  # 11.18
    assert max(record.response_bytes for record in emulator.requests) < 10_000  # 6,100: ten headers


# Faults


def every_fault(emulator: CosmosEmulator, share: float, **match: Any) -> None:
    """A share of all requests fail, in each way that one can."""
    faults = emulator.faults
    match = {**match, "rate": share / 8}
    faults.respond(429, retry_after_ms=5, seed=1, **match)
    faults.respond(429, seed=2, **match)
    faults.respond(503, seed=3, **match)
    faults.respond(408, seed=4, **match)
    faults.respond(449, seed=5, **match)
    faults.respond(408, applied=True, seed=6, **match)
    faults.drop(seed=7, **match)
    faults.drop(applied=True, seed=8, **match)


async def test_with_a_fifth_of_all_requests_failing_no_save_is_lost_or_doubled(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(CosmosCheckpointStorage(**settings)) for _ in range(4)]
        every_fault(emulator, 0.2)
        saved = await asyncio.gather(*(saves(storages[n % 4].for_run(f"r{n}"), 100) for n in range(20)))
    failed = sum(rule.hits for rule in emulator.faults)
    assert failed > 0.15 * len(emulator.requests)
    emulator.faults.clear()
    async with CosmosEventStore(**settings) as store:
        for number, lineage in enumerate(saved):
            events = await verified(store, StreamId(WORKFLOW, f"r{number}"))
            assert [event.checkpoint_id for event in events] == [each.checkpoint_id for each in lineage]
        assert len(await workflow_headers(store, WORKFLOW)) == 2000, "no save ended in a fork"


async def test_with_a_fifth_of_all_requests_failing_every_read_is_right(
    emulator: CosmosEmulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings._NEWEST", 7)
    async with CosmosEventStore(**settings) as store:
        await append_chain(store, 1, stream=StreamId("another", "run"))
        emulator.split(DATABASE, settings["container_name"])
        chains = [await append_chain(store, 12, stream=StreamId("workflow", f"run {n}")) for n in range(6)]
        everything = headers_of([event for chain in chains for event in chain])
        large = make_event(StreamId("large", "run"), 1, data=MEGABYTES_5)
        await store.append(large)
        every_fault(emulator, 0.2)

        async def read_everything() -> None:
            assert await workflow_headers(store) == everything
            assert await workflow_headers(store, desc=True) == everything[::-1]
            for chain in chains:
                assert await headers(store, chain[0].stream) == headers_of(chain)
                assert await headers(store, chain[0].stream, desc=True) == headers_of(chain)[::-1]
                assert await store.read(chain[0].stream, 1, 5, 12) == [chain[0], chain[4], chain[11]]
                located = await store.find(chain[6].checkpoint_id)
                assert located == (chain[6], chain[-1].header())
            assert payloads(await store.read(large.stream, 1)) == payloads([large])

        await asyncio.gather(*(read_everything() for _ in range(5)))


async def test_races_between_two_writers_under_faults_have_one_winner_and_one_fork_each(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(CosmosCheckpointStorage(**settings)) for _ in range(2)]
        every_fault(emulator, 0.2, kind="create_item")

        async def race(number: int) -> tuple[str, list[WorkflowCheckpoint]]:
            run_id = f"race {number}"
            [root] = await saves(writers[0].for_run(run_id), 1)
            emulator.catch_up()
            await writers[1].for_run(run_id, workflow_name=WORKFLOW).load(root.checkpoint_id)
            rivals = [checkpoint(root, state={"writer": each}) for each in range(2)]
            await asyncio.gather(
                *(writer.for_run(run_id).save(each) for writer, each in zip(writers, rivals, strict=True))
            )
            return run_id, rivals

        races = await asyncio.gather(*map(race, range(100)))
    emulator.faults.clear()
    async with CosmosEventStore(**settings) as store:
        for run_id, rivals in races:
            [_, winner] = await verified(store, StreamId(WORKFLOW, run_id))
            [loser] = [each for each in rivals if each.checkpoint_id != winner.checkpoint_id]
            [fork] = await verified(store, StreamId(WORKFLOW, f"{run_id}~{loser.checkpoint_id[:8]}"))
            assert fork.checkpoint_id == loser.checkpoint_id
            assert fork.forked_from is not None
        assert len(await workflow_headers(store, WORKFLOW)) == 300


@pytest.mark.parametrize("status", [None, 408, 503])
async def test_an_append_whose_answer_was_lost_is_no_conflict(
    emulator: CosmosEmulator, store: CosmosEventStore, status: int | None
) -> None:
    events = await append_chain(store, 1)
    match: dict[str, Any] = {"kind": "create_item", "times": 1, "applied": True}
    rule = emulator.faults.drop(**match) if status is None else emulator.faults.respond(status, **match)
    events.append(make_event(STREAM, 2, previous=events[0]))
    await store.append(events[1])
    assert rule.hits == 1
    assert await verified(store, STREAM) == events


async def test_an_append_whose_answer_was_lost_waits_for_a_replica_that_lags_behind(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    await append_chain(store, 1)
    emulator.faults.drop(kind="create_item", times=1, applied=True)
    emulator.faults.respond(404, kind="read_item", times=1)
    emulator.faults.respond(404, substatus=1002, kind="read_item", times=3)
    second = make_event(STREAM, 2)
    await store.append(second)
    assert await store.read(STREAM, 2) == [second]


async def test_a_replica_that_lags_behind_is_not_taken_for_an_empty_run(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 1)
    emulator.faults.respond(404, substatus=1002, kind="read_item", times=4)
    assert await store.read(STREAM, 1) == events


@pytest.mark.parametrize("status", [408, 429, 449, 503])
async def test_a_service_that_stays_away_is_reported_in_bounded_time(
    emulator: CosmosEmulator, store: CosmosEventStore, status: int
) -> None:
    hurry(store, 1.5)
    events = await append_chain(store, 1)
    with emulator.faults.respond(status), pytest.raises(StoreUnavailableError, match=rf"{status}.*again is safe"):
        await store.append(make_event(STREAM, 2, previous=events[0]))
    await store.append(make_event(STREAM, 2, previous=events[0]))


async def test_the_service_decides_how_long_a_throttled_request_waits(
    emulator: CosmosEmulator, store: CosmosEventStore
) -> None:
    events = await append_chain(store, 1)
    emulator.faults.respond(449, headers={"x-ms-retry-after-ms": "300"}, kind="create_item", times=1)
    began = time.monotonic()
    await store.append(make_event(STREAM, 2, previous=events[0]))
    assert time.monotonic() - began >= 0.3
    hurry(store, 1.0)
    emulator.faults.respond(449, headers={"x-ms-retry-after-ms": "60000"}, kind="create_item")
    with pytest.raises(StoreUnavailableError):  # at once: what would come after the wait is past all patience
        await store.append(make_event(STREAM, 3, previous=events[0]))


@pytest.mark.parametrize("change", ["split", "merge"])
@pytest.mark.parametrize("nth", [1, 2, 4])
async def test_a_partition_that_changes_in_the_middle_of_a_listing_loses_and_doubles_nothing(
    emulator: CosmosEmulator, settings: Settings, monkeypatch: pytest.MonkeyPatch, change: str, nth: int
) -> None:
    monkeypatch.setattr(container, "PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings._NEWEST", 7)
    place = (DATABASE, settings["container_name"])
    async with CosmosEventStore(**settings) as store:
        await append_chain(store, 1, stream=StreamId("another", "run"))
        if change == "merge":
            emulator.split(*place)
        chains = [await append_chain(store, 10, stream=StreamId("workflow", f"run {n}")) for n in range(6)]
        everything = headers_of([event for chain in chains for event in chain])

        def move() -> None:
            if change == "split":
                emulator.split(*place, emulator.ranges(*place)[0])
            elif len(ranges := emulator.ranges(*place)) > 1:
                emulator.merge(*place, *ranges[:2])

        for listing, expected in (
            (lambda: headers(store, chains[0][0].stream), headers_of(chains[0])),
            (lambda: headers(store, chains[0][0].stream, desc=True), headers_of(chains[0])[::-1]),
            (lambda: workflow_headers(store, desc=True), everything[::-1]),
            (lambda: workflow_headers(store), everything),
        )[: 3 if change == "merge" else 4]:  # over a merge, the emulator cannot continue a query that sorts nothing
            on_request(emulator, "query", move, nth=nth)
            assert await listing() == expected
            emulator.faults.clear()
            if change == "merge":
                emulator.split(*place, emulator.ranges(*place)[0])


async def test_a_partition_that_splits_in_the_middle_of_a_load_or_an_append_goes_unnoticed(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    place = (DATABASE, settings["container_name"])

    def split() -> None:
        emulator.split(*place, emulator.ranges(*place)[-1])

    async with CosmosCheckpointStorage(**settings) as storage:
        saved = await saves(storage.for_run("r"), 3)
    for kind in ("query", "read_item"):
        async with CosmosCheckpointStorage(**settings) as storage:
            on_request(emulator, kind, split)
            for each in saved:
                assert await storage.load(each.checkpoint_id) == each
            emulator.faults.clear()
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        assert await run.get_latest(workflow_name=WORKFLOW) == saved[-1]
        on_request(emulator, "create_item", split)
        saved.append(checkpoint(saved[-1]))
        await run.save(saved[-1])
        events = await verified(storage.store, StreamId(WORKFLOW, "r"))
        assert [event.checkpoint_id for event in events] == [each.checkpoint_id for each in saved]
    assert len(emulator.ranges(*place)) == 4


async def test_clocks_that_disagree_change_neither_the_order_of_a_run_nor_what_is_newest() -> None:
    async with CosmosEmulator(clock=lambda: 1_800_000_000.0) as emulator:  # every write in one second
        settings = settings_of(emulator.endpoint, emulator.key)
        async with CosmosEventStore(**settings) as one, CosmosEventStore(**settings) as other:
            events: list[CheckpointEvent] = []
            for seq, moment in enumerate(("2031", "2021", "2021", "2035", "1999", "2035"), 1):
                event = make_event(STREAM, seq, previous=events[-1] if events else None, checkpoint_id=f"c{seq % 2}")
                event = sealed(msgspec.structs.replace(event, timestamp=moment, recorded_at=moment))
                await (one, other)[seq % 2].append(event)
                events.append(event)
            elsewhere = make_event(StreamId("workflow", "elsewhere"), 1)
            elsewhere = sealed(msgspec.structs.replace(elsewhere, timestamp="2033"))
            await one.append(elsewhere)
            emulator.catch_up()
            for store in (one, other):
                assert await headers(store) == headers_of(events)
                assert await headers(store, desc=True) == headers_of(events)[::-1]
                both = await workflow_headers(store)
                assert [header for header in both if header.stream == STREAM] == headers_of(events)
                assert await workflow_headers(store, desc=True) == both[::-1]
                for stream in (None, STREAM):
                    assert await store.find("c0", stream=stream) == (events[5], events[5].header())
                    assert await store.find("c1", stream=stream) == (events[4], events[5].header())


@pytest.mark.parametrize(
    "match",
    [
        {"kind": "account"},
        {"kind": "read_container"},
        {"kind": "create_database"},
        {"kind": "create_container", "applied": True},
        {"kind": "upsert_item"},
        {"kind": "upsert_item", "applied": True},
        {"kind": "create_item"},
        {"kind": "create_item", "applied": True},
    ],
    ids=str,
)
async def test_a_save_that_is_cancelled_leaves_a_store_that_works(
    emulator: CosmosEmulator, settings: Settings, match: dict[str, Any]
) -> None:
    gate = Gate(emulator, **match)
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        first = checkpoint(state={"noise": MEGABYTES_5[:1_000_000]})
        saving = asyncio.create_task(run.save(first))
        await gate.arrived.wait()
        if match.get("applied"):
            await applied(emulator, settings, match["kind"])
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        gate.open.set()
        second = checkpoint(first, state={"step": 2})
        for each in (first, second):
            await run.save(each)
        events = await verified(storage.store, StreamId(WORKFLOW, "r"))
        assert [event.checkpoint_id for event in events] == [first.checkpoint_id, second.checkpoint_id]
        assert await run.list_checkpoints(workflow_name=WORKFLOW) == [first, second]
    async with CosmosEventStore(**settings) as store:
        assert len(await workflow_headers(store, WORKFLOW)) == 2


async def applied(emulator: CosmosEmulator, settings: Settings, kind: str) -> None:
    """Until the held request has done its work."""
    while kind != "create_container":
        stored = emulator.container(DATABASE, settings["container_name"]).partitions[0].items()
        if {"upsert_item": "part", "create_item": "checkpoint"}[kind] in {item.body["type"] for item in stored}:
            return
        await asyncio.sleep(0)


async def test_a_cancelled_read_leaves_nothing_behind(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    [event] = await append_chain(store, 1, data=MEGABYTES_5)
    gate = Gate(emulator, kind="read_item")
    reading = asyncio.create_task(store.read(STREAM, 1))
    await gate.arrived.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.open.set()
    assert payloads(await store.read(STREAM, 1)) == payloads([event])


async def test_a_listing_that_is_left_early_does_not_hold_up_close(settings: Settings) -> None:
    store = CosmosEventStore(**settings)
    events = await append_chain(store, 3)
    listing, descending = store.headers(STREAM), store.workflow_headers("workflow", desc=True)
    assert await anext(listing) == events[0].header()
    assert await anext(descending) == events[2].header()
    await store.close()
    await listing.aclose()
    await descending.aclose()


async def test_close_waits_for_a_large_append_to_end(emulator: CosmosEmulator, settings: Settings) -> None:
    store = CosmosEventStore(**settings)
    await append_chain(store, 1, stream=StreamId("workflow", "other"))
    gate = Gate(emulator, kind="upsert_item")
    event = make_event(STREAM, 1, data=MEGABYTES_5)
    appending = asyncio.create_task(store.append(event))
    await gate.arrived.wait()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(CheckpointStoreError, match="closed"):
        await store.read(STREAM, 1)
    gate.open.set()
    await asyncio.gather(appending, closing)
    async with CosmosEventStore(**settings) as other:
        assert payloads(await other.read(STREAM, 1)) == payloads([event])


async def test_one_operation_sends_few_requests_at_a_time(emulator: CosmosEmulator, store: CosmosEventStore) -> None:
    await append_chain(store, 1)
    arrived = 0
    full, release = asyncio.Event(), asyncio.Event()

    def arrives(_: object) -> bool:
        nonlocal arrived
        arrived += 1
        if arrived == requests.AT_ONCE:
            full.set()
        return True

    emulator.faults.delay(kind="upsert_item", where=arrives, until=release)
    appending = asyncio.create_task(store.append(make_event(STREAM, 2, data=MEGABYTES_5)))
    await full.wait()
    await store.read(STREAM, 1)  # any other request that was sent has arrived by now
    assert arrived == requests.AT_ONCE < PARTS_OF_5_MB
    release.set()
    await appending
    assert arrived == PARTS_OF_5_MB
