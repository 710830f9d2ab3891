"""The way to the service: by a proxy where one is set, and else without a thread for each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

import aiohttp
import pytest
from aiohttp import web

from eventckpt import CosmosEventStore
from eventckpt.runs import fold
from eventckpt.stores.change_feed import EVERYTHING

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM, append_chain
from .cosmos_stores import Settings

_BEHIND_THE_PROXY = "http://account.invalid/"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for scheme in getproxies_environment():
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


class _Proxy:
    """Forwards to the emulator what it is asked for, wherever that is said to be."""

    def __init__(self, emulator: CosmosEmulator) -> None:
        self._emulator = emulator
        self.asked: list[str] = []

    async def start(self) -> str:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._forward))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _forward(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(str(request.url.origin()))
        there = self._emulator.endpoint.rstrip("/") + request.rel_url.raw_path_qs
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        body = await request.read()
        async with self._session.request(request.method, there, headers=headers, data=body or None) as answer:
            known = {
                name: value for name, value in answer.headers.items() if name.lower().startswith(("x-ms-", "etag"))
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=known)


@pytest.fixture
async def proxy(emulator: CosmosEmulator) -> AsyncGenerator[tuple[_Proxy, str], None]:
    made = _Proxy(emulator)
    address = await made.start()
    yield made, address
    await made.stop()


class _Counting(ThreadPoolExecutor):
    """The executor of a loop; says what it was asked to do."""

    def __init__(self) -> None:
        super().__init__(max_workers=2)
        self.jobs: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(repr((fn, args)))
        return super().submit(fn, *args, **kwargs)


async def _use(store: CosmosEventStore) -> None:
    """All containers of a store, by reads and by writes."""
    events = await append_chain(store, 2)
    assert await store.read(STREAM, 1, 2) == events
    assert (await store.change_feed().read(EVERYTHING, None, start="beginning", limit=10)).events
    document = fold(events)
    assert document is not None
    assert await store.run_store("latest").put(document) == 1
    assert await store.document_store().create({"id": "lease"}) is not None


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
async def test_where_a_proxy_is_set_every_request_goes_by_it(
    name: str, settings: Settings, proxy: tuple[_Proxy, str], emulator: CosmosEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarding, address = proxy
    monkeypatch.setenv(name, address)
    async with CosmosEventStore(**{**settings, "endpoint": _BEHIND_THE_PROXY}) as store:
        await _use(store)
    assert len(forwarding.asked) == len(emulator.requests)
    assert _BEHIND_THE_PROXY.rstrip("/") in forwarding.asked


async def test_what_no_proxy_names_is_asked_without_one(
    settings: Settings, proxy: tuple[_Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarding, address = proxy
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with CosmosEventStore(**settings) as store:
        await _use(store)
    assert forwarding.asked == []


@pytest.mark.parametrize("other", [{}, {"https_proxy": "http://127.0.0.1:1"}, {"ALL_PROXY": "http://127.0.0.1:1"}])
async def test_where_none_is_set_for_the_endpoint_no_request_takes_a_thread_of_the_loop(
    other: dict[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch, emulator: CosmosEmulator
) -> None:
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    executor = _Counting()
    asyncio.get_running_loop().set_default_executor(executor)
    async with CosmosEventStore(**settings) as store:
        await _use(store)
    assert emulator.requests
    assert executor.jobs == []


async def test_a_netrc_with_a_password_for_the_account_is_in_nobodys_way(
    settings: Settings, emulator: CosmosEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login somebody password something")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    async with CosmosEventStore(**settings) as store:
        await _use(store)
    assert all(not record.headers["Authorization"].startswith("Basic") for record in emulator.requests)
