"""Who may ask the viewer for what, and what a browser may do with the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from eventckpt import CheckpointAudit, SqliteEventStore
from eventckpt.web import create_app
from eventckpt.web.guard import Guard

from .html import read

Ask = Callable[..., Awaitable[httpx.Response]]

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("s3cret")


async def asked_of(
    app: ASGIApp, path: str = "/", *, method: str = "GET", server: tuple[str, int] = ("127.0.0.1", 8321), **how: Any
) -> tuple[int, dict[str, str], bytes]:
    """What an ASGI application says to headers as they come over the wire."""
    headers: Sequence[tuple[bytes, bytes]] = how.pop("headers", [(b"host", b"127.0.0.1:8321")])
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": how.pop("query", b""),
        "headers": list(headers),
        "server": server,
        "scheme": "http",
    }
    said: list[dict[str, Any]] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    begun = said[0]
    answered = {name.decode(): value.decode() for name, value in begun["headers"]}
    return begun["status"], answered, b"".join(each.get("body", b"") for each in said[1:])


async def status_for(*hosts: str, server: tuple[str, int] = ("127.0.0.1", 8321), known: Sequence[str] = ()) -> int:
    guard = Guard(PlainTextResponse("here"), hosts=known)
    headers = [(b"host", host.encode("utf-8", "surrogateescape")) for host in hosts]
    return (await asked_of(guard, headers=headers, server=server))[0]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient, None]:
    """The viewer over a file without runs."""
    async with SqliteEventStore(tmp_path / "events.db") as store:
        transport = httpx.ASGITransport(create_app(CheckpointAudit(store)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as made:
            yield made


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8321",
        "127.8.8.8",
        "localhost",
        "LocalHost:1",
        "localhost.",
        "localhost.:80",
        "[::1]",
        "[::1]:8321",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]:9",
    ],
)
async def test_this_machine_is_asked_by_each_of_its_names(host: str) -> None:
    assert await status_for(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "[::1",
        "::1",
        "[::2]",
        "[::1]evil",
        "0.0.0.0",
        "127.0.0.1:x",
        "127.0.0.1:123456",
        "localhost..",
        "10.0.0.1",
        "127.0.0.1 ",
        "127.0.0.1, evil.example",
        "127.0.0.1:80:80",
        "0x7f.1",
        "2130706433",
        "[127.0.0.1]evil",
        "localhost\x00",
        "ｌocalhost",
        "127.0.0.１",
    ],
)
async def test_whoever_asks_by_another_name_is_refused(host: str) -> None:
    assert await status_for(host) == 421


async def test_a_request_has_one_host() -> None:
    assert await status_for() == 421
    assert await status_for("127.0.0.1", "127.0.0.1") == 421
    assert await status_for("127.0.0.1", "evil.example") == 421


async def test_further_names_are_those_that_were_given_with_or_without_a_port() -> None:
    known = ["Ops.Example", "other.example:8443"]
    assert await status_for("ops.example", known=known) == await status_for("ops.example.:80", known=known) == 200
    assert await status_for("other.example:8443", known=known) == 200
    assert await status_for("other.example", known=known) == await status_for("x.ops.example", known=known) == 421


async def test_a_server_that_others_reach_has_names_of_its_own() -> None:
    assert await status_for("shop.example", server=("10.1.2.3", 80)) == 200
    assert await status_for("shop.example", server=("::ffff:127.0.0.1", 80)) == 421


@given(st.text() | st.from_regex(r"(127\.0\.0\.1|localhost|\[::1\])[^\n]{1,30}", fullmatch=True))
async def test_no_host_that_names_another_machine_is_taken_for_this_one(host: str) -> None:
    """What a browser makes of a name that passes is this machine."""
    if await status_for(host.encode("utf-8", "replace").decode()) == 200:
        name = httpx.URL(f"http://{host}/").host.rstrip(".")
        assert name in ("localhost", "::1") or name.startswith(("127.", "::ffff:127.", "::ffff:7f"))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs", 200),
        ("/", 307),
        ("/static/style.css", 200),
        ("/static/none", 404),
        ("/static/%00", 404),
        ("/static/..%2fapp.py", 404),
        ("/static", 307),
        ("/static/", 404),
        ("/none", 404),
        ("/runs?limit=x", 400),
        ("/%F0%9F%92%A9<script>", 404),
        ("/runs/", 307),
    ],
)
async def test_every_answer_tells_browsers_to_run_frame_and_fetch_nothing_of_others(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert HEADERS.items() <= dict(answer.headers).items()
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert "<script>" not in answer.text
    assert answer.headers.get("location", "/").startswith(("/", "http://127.0.0.1:8321/"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
@pytest.mark.parametrize("path", ["/runs", "/", "/static/style.css"])
async def test_nothing_but_looking_is_asked_for(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 403
    assert HEADERS.items() <= dict(answer.headers).items()


async def test_a_head_is_that_of_the_page(client: httpx.AsyncClient) -> None:
    head, page = await client.head("/runs"), await client.get("/runs")
    assert (head.status_code, head.headers) == (200, page.headers)


@pytest.mark.parametrize("headers", [{"content-length": "3"}, {"transfer-encoding": "chunked"}], ids=str)
async def test_looking_takes_no_body(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.request("GET", "/runs", headers=headers, content=b"abc")).status_code == 400


async def test_an_address_has_an_end(client: httpx.AsyncClient) -> None:
    assert (await client.get("/runs", params={"run": "x" * 40_000})).status_code == 414
    assert (await client.get("/" + "x" * 40_000)).status_code == 414


@pytest.mark.parametrize(
    ("fetch", "status"),
    [
        ({}, 200),
        ({"site": "none", "mode": "navigate", "dest": "document"}, 200),
        ({"site": "same-origin", "mode": "cors", "dest": "empty"}, 200),
        ({"site": "cross-site", "mode": "navigate", "dest": "iframe"}, 403),
        ({"site": "cross-site", "mode": "no-cors", "dest": "image"}, 403),
        ({"site": "same-site", "mode": "cors", "dest": "empty"}, 403),
        ({"site": "cross-site"}, 403),
    ],
    ids=str,
)
async def test_what_a_page_of_elsewhere_fetches_or_frames_is_not_shown(
    client: httpx.AsyncClient, fetch: dict[str, str], status: int
) -> None:
    headers = {f"sec-fetch-{name}": value for name, value in fetch.items()}
    answer = await client.get("/runs", headers=headers)
    assert answer.status_code == status
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("site", ["none", "same-origin", "same-site", "cross-site"])
@pytest.mark.parametrize(
    "purpose",
    [
        {"sec-purpose": "prefetch"},
        {"sec-purpose": "prefetch;prerender"},
        {"sec-purpose": "prefetch;anonymous-client-ip"},
        {"purpose": "prefetch"},
        {"x-moz": "prefetch"},
    ],
    ids=str,
)
async def test_what_is_fetched_before_anybody_opens_it_is_not_shown(
    client: httpx.AsyncClient, purpose: dict[str, str], site: str
) -> None:
    navigates = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await client.get("/runs", headers={**navigates, **purpose})).status_code == 403


async def never_asked(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("what is behind the guard was asked")


@pytest.mark.parametrize("site", ["same-site", "cross-site", "of-tomorrow"])
async def test_a_link_from_elsewhere_leads_to_the_same_few_words_whatever_it_names_and_one_further_on(
    site: str,
) -> None:
    navigates = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    headers = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in navigates.items())]
    said = [
        await asked_of(Guard(never_asked), path, query=query, headers=headers)
        for path, query in [("/runs", b""), ("/event", b"event=a"), ("//evil.example", b"x=<b>"), ("/none", b"")]
    ]
    assert all(each == said[0] for each in said)
    status, answered, body = said[0]
    assert (status, HEADERS.items() <= answered.items()) == (200, True)
    [link] = read(body.decode()).all("a")
    assert link.attributes["href"] == "", "the address itself"


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket"])
async def test_no_socket_is_opened(client: httpx.AsyncClient, upgrade: str) -> None:
    headers = {"connection": "upgrade", "upgrade": upgrade}
    assert (await client.get("/runs", headers=headers)).status_code == 400


async def test_what_fails_behind_it_is_logged_once_and_said_without_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, headers, body = await asked_of(Guard(_fails), "/\x1b[31m")
    assert status == 500
    assert HEADERS.items() <= headers.items()
    assert b"s3cret" not in body
    [record] = caplog.records
    assert record.exc_info is not None
    assert "\x1b" not in record.getMessage()
