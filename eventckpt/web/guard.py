"""What stands before every page: who may ask by which name, and what a browser may do with the answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..log import logger_of

__all__ = ["Guard", "asked_name"]

logger: Final = logger_of("eventckpt.web")

_LONGEST: Final = 32_768  # bytes of a path and its query
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:\[\]@/\\]+?)\.?(?P<port>:[0-9]{1,5})?", re.ASCII)
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_DOOR: Final = HTMLResponse(
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>eventckpt</title><h1>A link from another site</h1>'
    '<p>It leads to a page of this viewer: <a href="">open it</a>.</p></html>\n'
)
"""What a link from elsewhere leads to at first, whichever page it names: by how long a page takes, and when a window
with it is cut off from its opener, that other site would be told what is in the store."""


class Guard:
    """Refuses whoever asks a viewer on this machine by another machine's name, as a page does that had its own name
    rebound to this address, and what is asked for behind a person's back; shows whoever follows a link of another site
    where it leads before anything is looked for; and tells browsers to run,
    frame and fetch nothing but the viewer's own files. What fails behind it is said without saying why.

    Args:
        app: what is guarded.
        hosts: names beside those of this machine by which the viewer may be asked, as the `Host` header has them.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        try:
            await (self._refused(scope) or self._app)(scope, receive, guarded)
        except Exception:
            logger.exception("The answer to %s failed", scope["path"])
            if not begun:
                await PlainTextResponse("Something went wrong.\n", 500)(scope, receive, guarded)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if not self._is_ours(scope, headers.getlist("host")):
            return PlainTextResponse("This host is not known here.\n", 421)
        if _is_behind_a_back(headers):
            return PlainTextResponse("This is shown to nobody but who opens it.\n", 403)
        if _is_from_elsewhere(headers):
            return _DOOR
        if headers.get("upgrade", "").strip().lower() == "websocket":
            return PlainTextResponse("Nothing here is a socket.\n", 400, {"connection": "close"})
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > _LONGEST:
            return PlainTextResponse(f"An address has up to {_LONGEST:,} bytes.\n", 414)
        if scope["method"] in ("GET", "HEAD") and _has_a_body(headers):
            return PlainTextResponse("Looking takes no body.\n", 400, {"connection": "close"})
        return None

    def _is_ours(self, scope: Scope, asked: list[str]) -> bool:
        server = scope.get("server")
        if server is not None and not _is_loopback(server[0]):
            return True  # whoever serves it to others has its own names
        host = _HOST.fullmatch(asked[0].lower()) if len(asked) == 1 else None
        if host is None:
            return False
        name, port = host["name"], host["port"] or ""
        return name == "localhost" or _is_loopback(name.strip("[]")) or bool({name, name + port} & self._hosts)


def asked_name(scope: Scope) -> str | None:
    """The host by whose name is asked, without its port; None: it is none, or there are several."""
    hosts = Headers(scope=scope).getlist("host")
    host = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    return host["name"] if host is not None else None


def _is_loopback(name: str) -> bool:
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_behind_a_back(headers: Headers) -> bool:
    """Whether nobody opened a page that is to be seen: a page of elsewhere that fetches or frames it could not read
    the answer, but would have the store searched; and one that is fetched beforehand nobody may ever open."""
    if "sec-purpose" in headers or headers.get("purpose") == "prefetch" or headers.get("x-moz") == "prefetch":
        return True
    is_opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return _is_from_elsewhere(headers) and not is_opened


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site leads here."""
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _has_a_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0 ") != ""
