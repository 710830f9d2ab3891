"""The viewer's server: who says nothing, takes nothing or does not end keeps nobody out, and nobody's log is filled."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from eventckpt.web import serving
from eventckpt.web.guard import Guard
from eventckpt.web.serving import listening, serve

from ..projections.commands import PATIENCE
from .test_guard import HEADERS

ASKED = b"GET /runs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LATE = [b"", b"GET", ASKED, b"POST /runs HTTP/1.1\r\nHost"]
HERE = Guard(PlainTextResponse("here"))


@asynccontextmanager
async def serving_at(app: ASGIApp) -> AsyncGenerator[int, None]:
    """The port of a server, which is ended by a signal at the end."""
    with listening(0) as place:
        port: int = place.getsockname()[1]
        task = asyncio.create_task(serve(app, place))
        try:
            await said(port, ASKED + b"Connection: close\r\n\r\n")
            yield port
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await task


async def said(port: int, *parts: bytes) -> bytes:
    """All that is said until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(PATIENCE):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""


@pytest.mark.parametrize("head", LATE, ids=ascii)
async def test_a_head_that_does_not_come_whole_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(serving, "_HEAD", 0.05)
    async with serving_at(HERE) as port:
        assert await said(port, head) == b""
        whole = ASKED + b"\r\n"
        assert (await said(port, whole, head)).endswith(b"here"), "nor does one that comes after another"


async def test_an_answer_that_takes_its_time_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_HEAD", 0.2)
    at: int | None = None

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if at is not None:
            assert await said(at, b"") == b"", "another that came later, and says nothing, has had its time"
        await HERE(scope, receive, send)

    async with serving_at(slow) as port:
        at = port
        assert (await said(port, ASKED + b"Connection: close\r\n\r\n")).endswith(b"here")


async def test_who_comes_when_all_connections_are_taken_is_told_to_come_again_as_a_page_would_say_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "_CONNECTIONS", 3)
    async with serving_at(HERE) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        head, _, body = (await said(port, ASKED + b"\r\n")).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert first.startswith("HTTP/1.1 503")
        assert int(headers["retry-after"]) > 0
        assert HEADERS.items() <= headers.items()
        assert b"try again" in body
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while not (await said(port, ASKED + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200"):
                pass


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c", b"x"])
async def test_an_upgrade_leaves_no_line_in_the_log(upgrade: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving_at(HERE) as port:
        head = ASKED + b"Connection: upgrade, close\r\nUpgrade: " + upgrade + b"\r\n\r\n"
        assert (await said(port, head)).startswith(b"HTTP/1.1 400" if upgrade == b"websocket" else b"HTTP/1.1 200")
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.INFO] == []


async def test_what_is_made_still_when_it_ends_is_told_so_and_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "_PATIENCE", 0)
    begun = asyncio.Semaphore(0)

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/endless":
            begun.release()
            await asyncio.Future()
        await HERE(scope, receive, send)

    async with asyncio.TaskGroup() as group:
        async with serving_at(endless) as port:
            request = ASKED.replace(b"/runs", b"/endless") + b"\r\n"
            waiting = [group.create_task(said(port, request)) for _ in range(3)]
            for _ in waiting:
                await begun.acquire()
        assert [(await each)[:12] for each in waiting] == [b"HTTP/1.1 503"] * 3
    assert [each for each in caplog.records if each.exc_info is not None] == []
    assert "Traceback" not in caplog.text
