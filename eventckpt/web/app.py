"""The viewer as an ASGI application: which address is which page, and what whoever asks gets of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..audit import CheckpointAudit
from ..exit_codes import STORE, USAGE, Failure
from ..log import logger_of
from ..rendering.fields import line_of
from ..threads import in_thread
from .access import Session
from .answering import Answering
from .forms import FORM_TOKEN, OwnForms, said_elsewhere, sent_by, session_id_of
from .guard import Guard
from .page import MAX_BYTES, Line, Page, SeeOther, Sent
from .pages import compare, conversations, event, inbox, operations, run, runs, sign_in, whole_run
from .problems import AGAIN, problem, refusal
from .query import Query
from .templates import address, environment
from .viewer import Operations, Viewer

__all__ = ["create_app"]

logger: Final = logger_of("eventckpt.web")

Handler: TypeAlias = Callable[[Viewer, Query], Awaitable[Page]]
FormHandler: TypeAlias = Callable[[Viewer, Sent], Awaitable[Page | SeeOther]]

PAGES: Final[Mapping[str, Handler]] = {
    "/compare": compare.compare,
    "/event": event.event,
    "/runs": runs.runs,
    "/run": run.run,
    "/run/history": run.history,
    "/run/lineage": whole_run.lineage,
    "/run/verify": whole_run.verify,
    "/runs/counts": runs.counts,
    "/inbox": inbox.inbox,
    "/inbox/question": inbox.question,
    "/conversations": conversations.conversations,
    "/conversation": conversations.conversation,
    "/conversation/events": conversations.conversation_events,
    "/turn": conversations.turn,
    "/operations": operations.operations,
    "/operations/checks": operations.checks,
    "/operations/types": operations.types,
    "/sign-in": sign_in.sign_in,
}
"""By its path, what each page is made by."""
FORMS: Final[Mapping[str, FormHandler]] = {
    "/inbox/question": inbox.answered,
    "/sign-in": sign_in.signed_in,
    "/sign-out": sign_in.signed_out,
}
"""By its path, what acts on each form."""
_OF_NO_SESSION: Final = frozenset({"/sign-in"})
_NAMES: Final = (
    ("Runs", "/runs"),
    ("Inbox", "/inbox"),
    ("Conversations", "/conversations"),
    ("Compare", "/compare"),
    ("Operations", "/operations"),
)
_STATIC: Final = Path(__file__).parent / "static"
_FORMATS: Final = ("html", "jsonl")
_AT_ONCE: Final = 32
"""Pages that are made at a time."""
_PATIENCE: Final = 60.0
"""Seconds for which a page is made at most: longer than a store waits for others."""
_NO_FORMAT: Final = f"format is {' or '.join(_FORMATS)}"
_TOO_LONG: Final = (
    "These lines are longer than a page may be: ask for fewer with limit=…, or ask the command `eventckpt … --json`."
)


def create_app(
    audit: CheckpointAudit,
    *,
    operations: Operations | None = None,
    answering: Answering | None = None,
    hosts: Collection[str] = (),
    renew: Callable[[], Awaitable[CheckpointAudit]] | None = None,
) -> Starlette:
    """The viewer over a store, to be run by an ASGI server, or mounted in an application of one's own. It changes
    nothing but by what `answering` gives, and does not close the store.

    Args:
        audit: of runs. What it may show of values (`allowed_checkpoint_types`), and where it lists runs from
            (`latest`), hold for the pages too.
        operations: how the projector stands, for the page about it.
        answering: what answers for those who sign in, entered already; None: nobody may do more than look.
        hosts: names by which the viewer may be asked beside those of this machine, as a `Host` header has them:
            needed where a proxy on this machine passes on the names that others ask for.
        renew: gives the audit of another store object, where the file or container under this one was replaced, as a
            backup that is restored does; None: the pages say that it was, until the application is made anew.
    """
    answers = _Answers(Viewer(audit, operations=operations, answering=answering, renew=renew))

    async def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/runs", status_code=307)

    return Starlette(
        routes=[
            Route("/", home, methods=["GET"]),
            *(Route(path, partial(answers.page, handler), methods=["GET"]) for path, handler in PAGES.items()),
            *(
                Route(path, partial(answers.form, handler, path not in _OF_NO_SESSION), methods=["POST"])
                for path, handler in FORMS.items()
                if answering is not None
            ),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Guard, hosts=hosts), Middleware(OwnForms, is_answering=answering is not None)],
        exception_handlers={HTTPException: answers.refused},
    )


class _Answers:
    """What the pages are to whoever asks for them: HTML, or lines, or what went wrong."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._templates = environment()
        self._under_way = 0

    async def page(self, handler: Handler, request: Request) -> Response:
        """The page that a handler gives, which has a time for it, and so many beside it."""
        asked = Query(())
        try:
            asked = Query.of(request.scope["query_string"], self._session(request))
            if asked.text("format") not in (None, *_FORMATS):
                raise Failure(USAGE, f"{_NO_FORMAT}.")
            if self._under_way >= _AT_ONCE:
                raise Failure(STORE, f"{_AT_ONCE} pages are being made already; this one is asked for again by itself.")
            self._under_way += 1
            try:
                async with asyncio.timeout(_PATIENCE):
                    page = await self._viewer.looked(partial(handler, self._viewer, asked))
                    return await self._said(request, page, asked)
            finally:
                self._under_way -= 1
        except TimeoutError:
            page = problem(503, f"This page was not made in {_PATIENCE:.0f} seconds; it is asked for again by itself.")
        except Exception as error:
            page = refusal(error, _path(request), asked) or self._failed(request)
        return await self._as_html(request, page, asked)

    async def form(self, handler: FormHandler, of_session: bool, request: Request) -> Response:
        """The page that follows a form, or the one that says why nothing was done."""
        asked = Query(())
        try:
            asked = Query.of(request.scope["query_string"], self._session(request))
            done = await handler(self._viewer, await sent_by(request, asked, of_session=of_session))
        except Exception as error:
            done = refusal(error, _path(request), asked) or self._failed(request)
        if isinstance(done, SeeOther):
            return said_elsewhere(request, done)
        return await self._as_html(request, done, asked)

    def _session(self, request: Request) -> Session | None:
        answering = self._viewer.answering
        return answering.access.session(session_id_of(request)) if answering is not None else None

    async def refused(self, request: Request, error: Exception) -> Response:
        """What the router refuses."""
        error = cast("HTTPException", error)  # which it is registered for
        said = "There is no such page here." if error.status_code == 404 else "This page is not asked for like that."
        answer = await self._as_html(request, problem(error.status_code, said), Query(()))
        answer.headers.update(error.headers or {})
        return answer

    def _failed(self, request: Request) -> Page:
        logger.exception("The page %s failed", request.scope["path"])
        return problem(500, "Something went wrong in the viewer; its log says what.")

    async def _said(self, request: Request, page: Page, asked: Query) -> Response:
        if asked.text("format") != "jsonl":
            return await self._as_html(request, page, asked)
        if page.lines is None:
            raise Failure(USAGE, "This page has no lines.")
        return Response(await in_thread(_as_lines, page.lines()), page.status, media_type="application/x-ndjson")

    async def _as_html(self, request: Request, page: Page, asked: Query) -> Response:
        again = page.retry_after or (AGAIN if page.status == 503 else None)
        headers = {} if again is None else {"retry-after": str(again)}
        text = await in_thread(self._rendered, page, request.scope.get("root_path", ""), _path(request), asked)
        return HTMLResponse(text, page.status, headers)

    def _rendered(self, page: Page, root: str, path: str, asked: Query) -> str:
        def at(where: str, /, **query: object) -> str:
            return address(root + where, **query)

        values: dict[str, Any] = {
            "again": None,
            **page.values,
            "title": page.title,
            "now": self._viewer.now(),
            "at": at,
        }
        is_answering = self._viewer.answering is not None
        values |= {"signed_in": asked.session, "form_field": FORM_TOKEN, "is_answering": is_answering}
        as_lines = at(path, **{**asked.parts, "format": "jsonl"}) if page.lines is not None else None
        values |= {"pages": _NAMES, "path": path, "as_lines": as_lines, "here": at(path, **asked.parts)}
        values["listed_from"] = self._viewer.audit.latest
        return self._templates.get_template(page.template).render(values)


def _path(request: Request) -> str:
    """The path of a page, below where the viewer is mounted."""
    return cast("str", request.scope["path"]).removeprefix(request.scope.get("root_path", ""))


def _as_lines(lines: Iterable[Line]) -> bytes:
    said: list[str] = []
    size = 0
    for kind, fields in lines:
        said.append(line_of(kind, fields) + "\n")
        size += len(said[-1])
        if size > MAX_BYTES:
            raise Failure(USAGE, _TOO_LONG)
    return "".join(said).encode()
