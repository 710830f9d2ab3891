"""What browsers send: forms, cookies, and from which page. Whatever is no read has to come from a page of the viewer
itself, and from somebody who signed in; nothing is a read that changes something."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import RefusedError, Session
from .guard import asked_name
from .page import SeeOther, Sent
from .query import Query

__all__ = ["ELSEWHERE", "FORM_TOKEN", "OwnForms", "said_elsewhere", "sent_by", "session_id_of"]

FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
"""The field that each form has for somebody who signed in."""

ELSEWHERE: Final = "Answers are given at the address that this viewer printed when it began, and at no other."
"""Which is not told here: whoever knows it can be sent the cookie of who signed in."""

_MOST_BYTES: Final = 64 * 1024
_MOST_FIELDS: Final = 200  # answers of before among them
_PATIENCE: Final = 10.0  # seconds for a body
_READS: Final = frozenset({"GET", "HEAD"})


class OwnForms:
    """Refuses what is no read, unless a page of the viewer itself sent it; where nobody may do more than look, all of
    it.

    Args:
        app: what is guarded.
        is_answering: whether anybody may do more than look.
        at: by which name of this machine alone; None: by each.
    """

    def __init__(self, app: ASGIApp, *, is_answering: bool, at: str | None = None) -> None:
        self._app = app
        self._is_answering = is_answering
        self._at = at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READS:
            said = "" if self._is_answering else "This viewer only looks.\n"
            if self._is_answering and not _is_of_own_page(Request(scope)):
                said = "This did not come from a page of this viewer. Nothing was done.\n"
            elif self._is_answering and self._at not in (None, asked_name(scope)):
                said = f"{ELSEWHERE} Nothing was done.\n"
            if said:
                await PlainTextResponse(said, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_of_own_page(request: Request) -> bool:
    """Whether a browser says so. A page that gives no referrer has the origin "null" when it sends a form, and then the
    other header says it, which browsers send to https and to this machine."""
    origin, fetched = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin not in (None, "null", own) or fetched not in (None, "same-origin"):
        return False
    return origin == own or fetched == "same-origin"


async def sent_by(request: Request, asked: Query, *, of_session: bool) -> Sent:
    """The form that was sent.

    Args:
        request: how it came.
        asked: the query of the address that it was sent to, and whose session sent it.
        of_session: whether it takes a session, and what only the forms of that have.

    Raises:
        RefusedError: it is none, is too large, or does not come; or is not of this session.
    """
    fields = await _fields_of(request)
    if of_session:
        _refuse_forged(asked.session, fields)
    return Sent(asked, fields, session_id_of(request) or "")


async def _fields_of(request: Request) -> dict[str, str]:
    """The fields of a form; of one that is sent several times, the last."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "A form is sent as application/x-www-form-urlencoded. Nothing was done.")
    body = await _body_of(request)
    try:
        return dict(
            parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=bool(body),
                encoding="utf-8",
                errors="strict",
                max_num_fields=_MOST_FIELDS,
            )
        )
    except ValueError:
        raise RefusedError(400, "This is no form that a page of this viewer sends. Nothing was done.") from None


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise RefusedError(413, f"An answer takes up to {_MOST_BYTES:,} bytes. Nothing was done.")
    except ClientDisconnect:
        raise RefusedError(400, "The form did not come whole. Nothing was done.") from None
    except TimeoutError:
        raise RefusedError(408, "The form did not come in time. Nothing was done.") from None
    return bytes(body)


def _refuse_forged(session: Session | None, fields: Mapping[str, str]) -> None:
    """Refuse a form that this session was not given."""
    if session is None:
        raise RefusedError(403, "You are not signed in, or no longer. Nothing was done.", fields=fields)
    given = fields.get(FORM_TOKEN, "").encode()
    if not hmac.compare_digest(given, session.form_token.encode()):
        said = f"This form is of another session: you are signed in as {session.actor!r} by now. Nothing was done."
        raise RefusedError(403, said, fields=fields)


def session_id_of(request: Request) -> str | None:
    """The id of the session that a browser has."""
    return request.cookies.get(_cookie(request.scope))


def said_elsewhere(request: Request, done: SeeOther) -> Response:
    """The answer to a form that was acted on."""
    root: str = request.scope.get("root_path", "")
    response = RedirectResponse(quote(root) + done.where, status_code=303)
    if done.session_id is not None:
        response.set_cookie(
            _cookie(request.scope),
            done.session_id,
            max_age=None if done.session_id else 0,
            path=quote(root) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return response


def _cookie(scope: Scope) -> str:
    """The name of the cookie: cookies of a host are those of all its ports, and of several viewers none is another's.
    The prefixes have a browser see to it that only this host can have set it, over TLS."""
    host = Headers(scope=scope).get("host", "")
    port = host.rpartition(":")[2]
    name = f"eventckpt-{port}" if port.isdigit() else "eventckpt"
    if scope["scheme"] != "https":
        return name
    return f"__Secure-{name}" if scope.get("root_path") else f"__Host-{name}"
