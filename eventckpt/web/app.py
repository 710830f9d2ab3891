"""The viewer as an ASGI application: what whoever asks for a page gets of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..audit import CheckpointAudit
from ..exit_codes import USAGE, Failure
from ..log import logger_of
from ..threads import in_thread, stop_if_dropped
from .access import RefusedError, Session
from .addresses import FORMS, NAMES, PAGES, REFUSED, FormHandler, Shown
from .answering import Answering
from .forms import ELSEWHERE, FORM_TOKEN, OwnForms, said_elsewhere, sent_by, session_id_of
from .guard import Guard, asked_name
from .page import Page, SeeOther, as_shown
from .places import Places, Scales, made_for
from .problems import AGAIN, problem, refusal
from .query import Query
from .standing import Operations
from .templates import address, environment
from .viewer import Viewer

__all__ = ["create_app"]

logger: Final = logger_of("eventckpt.web")

_ON_THE_LOOP: Final = frozenset({"problem.html", "sign_in.html"})
"""Templates that are rendered at once, whatever else is made: they show a few texts."""
_OF_NO_SESSION: Final = frozenset({"/sign-in"})
_STATIC: Final = Path(__file__).parent / "static"
_FORMATS: Final = ("html", "jsonl")
_PATIENCE: Final = 60.0
"""Seconds for which a page is made at most: longer than a store waits for others."""
_TOO_LATE: Final = f"This was not made in {_PATIENCE:.0f} seconds. A command has as long as it takes (docs/viewer.md)."
_NO_FORMAT: Final = f"format is {' or '.join(_FORMATS)}"
_TOO_LONG: Final = "These lines are longer than an answer may be: ask for fewer with limit=…, or ask"


def create_app(
    audit: CheckpointAudit,
    *,
    operations: Operations | None = None,
    answering: Answering | None = None,
    answers_at: str | None = None,
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
        answers_at: the one name of this machine by which answers are given, such as `something-secret.localhost`, where
            this machine has other servers: a browser sends what it keeps for a name to each of its ports. None: every
            name by which the viewer may be asked.
        hosts: names by which the viewer may be asked beside those of this machine, as a `Host` header has them:
            needed where a proxy on this machine passes on the names that others ask for.
        renew: gives the audit of another store object, where the file or container under this one was replaced, as a
            backup that is restored does; None: the pages say that it was, until the application is made anew.
    """
    viewer = Viewer(audit, operations=operations, answering=answering, renew=renew, paths=PAGES.keys())
    answers = _Answers(viewer, answers_at)
    own = [answers_at] if answers_at is not None else []

    async def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/runs", status_code=307)

    return Starlette(
        routes=[
            Route("/", home, methods=["GET"]),
            *(Route(path, partial(answers.page, shown), methods=["GET"]) for path, shown in PAGES.items()),
            *(
                Route(path, partial(answers.form, handler, path not in _OF_NO_SESSION), methods=["POST"])
                for path, handler in FORMS.items()
                if answering is not None
            ),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(Guard, hosts=[*hosts, *own]),
            Middleware(OwnForms, is_answering=answering is not None, at=answers_at),
        ],
        exception_handlers={HTTPException: answers.refused},
    )


class _Answers:
    """What the pages are to whoever asks for them: HTML, or lines, or what went wrong."""

    def __init__(self, viewer: Viewer, answers_at: str | None) -> None:
        self._viewer = viewer
        self._answers_at = answers_at
        self._templates = environment()
        scales = Scales()
        self._small, self._large = Places("pages", scales, threads=2), Places("large pages", scales, threads=2)
        self._forms = Places("forms", scales)

    async def page(self, shown: Shown, request: Request) -> Response:
        """The page that a handler gives."""

        async def make(asked: Query) -> Response:
            if asked.text("format") not in (None, *_FORMATS):
                raise Failure(USAGE, f"{_NO_FORMAT}.")
            asked.check((*shown.takes, "format"))
            if _path(request) in _OF_NO_SESSION and not self._is_answered_at(request):
                raise RefusedError(403, ELSEWHERE)
            page = await self._viewer.looked(partial(shown.handler, self._viewer, asked), shown.listed)
            return await self._said(request, page, asked)

        places = self._small if shown.is_small else self._large

        async def made(asked: Query) -> Response:
            return await made_for(request, places.working(partial(make, asked)), seconds=_PATIENCE)

        return await self._made(request, made)

    async def form(self, handler: FormHandler, of_session: bool, request: Request) -> Response:
        """The page that follows a form, or the one that says why nothing was done."""

        async def make(asked: Query) -> Response:
            try:
                sent = await sent_by(request, asked, of_session=of_session)
            except RefusedError as error:
                if (refused := REFUSED.get(_path(request))) is None:
                    raise
                return await self._as_html(request, await refused(self._viewer, asked, error), asked)
            done = await handler(self._viewer, sent)
            if isinstance(done, SeeOther):
                return said_elsewhere(request, done)
            return await self._as_html(request, done, asked)

        async def made(asked: Query) -> Response:
            async with asyncio.timeout(_PATIENCE):
                return await self._forms.working(partial(make, asked))

        return await self._made(request, made)

    async def _made(self, request: Request, make: Callable[[Query], Awaitable[Response]]) -> Response:
        """What `make` gives, which has a time for it, or the page that says why there is none."""
        asked = Query(())
        try:
            asked = Query.of(request.scope["query_string"], self._session(request))
            return await make(asked)
        except ClientDisconnect:
            return Response(status_code=503)  # which nobody gets
        except TimeoutError:
            page = problem(503, _TOO_LATE, is_passing=False)
        except Exception as error:
            page = refusal(error, _path(request), asked) or self._failed(request)
        return (await self._as_lines(page) if _wants_lines(asked) else None) or await self._as_html(
            request, page, asked
        )

    def _session(self, request: Request) -> Session | None:
        answering = self._viewer.answering
        if answering is None or not self._is_answered_at(request):
            return None
        return answering.access.session(session_id_of(request))

    def _is_answered_at(self, request: Request) -> bool:
        return self._answers_at in (None, asked_name(request.scope))

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
        if not _wants_lines(asked):
            return await self._as_html(request, page, asked)
        if page.lines is None:
            raise Failure(USAGE, "This page has no lines.")
        lines = await self._as_lines(page)
        if lines is None:
            raise Failure(USAGE, f"{_TOO_LONG} `{as_shown(page.command or ('eventckpt', '…', '--json'))}`.")
        return lines

    async def _as_lines(self, page: Page) -> Response | None:
        """The lines of a page; None: they are longer than an answer may be."""
        text = await in_thread(page.as_lines)
        return None if text is None else Response(text, page.status, _headers(page), "application/x-ndjson")

    async def _as_html(self, request: Request, page: Page, asked: Query) -> Response:
        render = partial(self._rendered, page, request.scope.get("root_path", ""), _path(request), asked)
        text = render() if page.template in _ON_THE_LOOP else await in_thread(render)
        return HTMLResponse(text, page.status, _headers(page))

    def _rendered(self, page: Page, root: str, path: str, asked: Query) -> str:
        def at(where: str, /, **query: object) -> str:
            return address(root + where, **query)

        values: dict[str, Any] = {
            "every": None,
            "has_fields": False,
            "problem": None,
            "wrong": None,
            **page.values,
            "title": page.title,
            "now": self._viewer.now(),
            "at": at,
        }
        is_answering = self._viewer.answering is not None
        values |= {"signed_in": asked.session, "form_field": FORM_TOKEN, "is_answering": is_answering}
        as_lines = at(path, **{**asked.parts, "format": "jsonl"}) if _has_lines(page) else None
        values["lines_command"] = as_shown(page.command) if page.lines is not None and as_lines is None else None
        values |= {"pages": NAMES, "path": path, "as_lines": as_lines, "here": at(path, **asked.parts)}
        listed = PAGES[path].listed if page.status == 200 and path in PAGES else None
        values["listed_from"] = listed(self._viewer).latest if listed is not None else None
        return "".join(_while_waited_for(self._templates.get_template(page.template).generate(values)))


def _headers(page: Page) -> dict[str, str]:
    return {"retry-after": str(AGAIN)} if page.status == 503 else {}


def _wants_lines(asked: Query) -> bool:
    return asked.parts.get("format", [])[-1:] == ["jsonl"]


def _has_lines(page: Page) -> bool:
    """Whether whoever asks for the lines of a page gets them. Those of a page without a command are few."""
    if not page.command:
        return page.status < 400 and page.lines is not None
    try:
        return page.status < 400 and page.as_lines() is not None
    except Failure:  # what they are made of cannot be read, which the page says
        return False


def _path(request: Request) -> str:
    """The path of a page, below where the viewer is mounted."""
    return cast("str", request.scope["path"]).removeprefix(request.scope.get("root_path", ""))


def _while_waited_for(texts: Iterable[str]) -> Generator[str, None, None]:
    for text in texts:
        stop_if_dropped()
        yield text
