"""As whom a store on Cosmos DB asks: keys, tokens, and what they may not do; and that none of it is shown."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import threading
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eventckpt import CheckpointStoreError, CosmosCheckpointStorage, CosmosEventStore
from eventckpt.errors import StoreReadOnlyError, StoreUnavailableError
from eventckpt.stores.conformance import make_event
from eventckpt.threads import in_thread

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM, append_chain
from .cosmos_stores import Settings, checkpoint


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


class HangingCredential(SyncCredential):
    """As one that runs a command which waits for somebody."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__()
        self._over = over

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        token = super().get_token(*scopes, **options)
        self._over.wait()
        return token


async def test_credentials_that_hang_take_no_thread_from_those_that_save_and_each_one_only_one_of_its_own(
    settings: Settings,
) -> None:
    over = threading.Event()
    hanging = [HangingCredential(over) for _ in range(8)]
    identified = [{**settings, "endpoint": "https://127.0.0.1:1/", "credential": each} for each in hanging]
    stores = [CosmosEventStore(**each, timeout=0.2) for each in identified]
    try:
        for _ in range(2):
            reads = [store.read(STREAM, 1) for store in stores]
            failures = await asyncio.gather(*reads, return_exceptions=True)
            assert {type(each) for each in failures} == {StoreUnavailableError}
        assert [len(each.threads) for each in hanging] == [1] * len(hanging)
        assert await asyncio.wait_for(in_thread(len, "some"), 60) == 4
    finally:
        over.set()
        for store in stores:
            await store.close()


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
