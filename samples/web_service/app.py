"""The service's HTTP: what clients may ask, and what each error is to them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Final, TypeVar
from uuid import uuid4

import msgspec
from agent_framework import WorkflowCheckpointException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from eventckpt import RunInfo
from eventckpt.errors import (
    CheckpointStoreError,
    ClaimLostError,
    RequestNotPendingError,
    ResponseTypeError,
    RunClaimedError,
    RunNotFoundError,
    StoreUnavailableError,
)
from eventckpt.stores import ForeignPageError

from .runs import BusyError, IdTakenError, Runs, Settings, open_runs
from .workflows import Refund

__all__ = ["create_app"]

logger: Final = logging.getLogger("web_service")

MOST_BYTES: Final = 16 * 1024
"""Of a body."""
MOST_QUESTIONS: Final = 100
"""Runs of a page."""
RUN_ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Without `~`, which is in the names of forks."""

T = TypeVar("T")


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """The body that starts a run."""

    customer: Annotated[str, msgspec.Meta(pattern=r"\S", max_length=100)]
    euros: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    id: Annotated[str, msgspec.Meta(pattern=rf"\A{RUN_ID}\Z")] | None = None


def create_app(settings: Settings | None = None) -> Starlette:
    """The service, to be run by an ASGI server such as uvicorn. Everything that it opens is closed when that ends."""
    used = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, object]]:
        async with open_runs(used) as runs:
            yield {"runs": runs, "settings": used}

    routes = [
        Route("/runs", start, methods=["POST"]),
        Route("/runs/{run_id}", run, methods=["GET"]),
        Route("/runs/{run_id}/answers/{request_id}", answered, methods=["POST"]),
        Route("/questions", questions, methods=["GET"]),
        Route("/healthz", health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers=REFUSALS, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


# Routes


async def start(request: Request) -> Response:
    """Start a run: 201, or 200 where there is one of this id for the same refund."""
    user = user_of(request)
    asked = parsed(await body_of(request), Start)
    refund = Refund(asked.id or uuid4().hex, asked.customer, asked.euros)
    try:
        info, is_new = await in_time(request, runs_of(request).start(refund, user=user))
    except CheckpointStoreError:
        return refused(503, "whether it was begun is not known; try again, by this id", id=refund.id)
    return said(201 if is_new else 200, shown(info), Location=f"/runs/{refund.id}")


async def run(request: Request) -> Response:
    """How a run stands, by the log."""
    user_of(request)
    return said(200, await standing(request))


async def answered(request: Request) -> Response:
    """Answer a question: 200 where the run has come to its end or to its next question; 202 where the answer is on
    record, and the run goes on still."""
    user = user_of(request)
    response = parsed(await body_of(request), object)
    run_id, request_id = run_id_of(request), request.path_params["request_id"]
    if not request_id.strip():
        raise HTTPException(404, "there is no such request")
    runs = runs_of(request)
    is_over = await runs.answer(run_id, request_id, response, user=user)
    if is_over:
        return said(200, await standing(request))
    with suppress(StoreUnavailableError):
        if await in_time(request, runs.is_answered(run_id, request_id, user)):
            return said(202, await standing(request))
    raise HTTPException(503, "the answer is not on record as far as is known, and may still come to be; try again")


async def questions(request: Request) -> Response:
    """Who waits, longest first: `?customer=` for those of one, `?limit=` and `?after=` for a page."""
    user_of(request)
    given = request.query_params
    limit = given.get("limit", "50")
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MOST_QUESTIONS:
        raise HTTPException(400, f"limit is a number from 1 to {MOST_QUESTIONS}")
    customer = given.get("customer")
    if customer is not None and not 1 <= len(customer.strip()) <= 100:
        raise HTTPException(400, "customer names one")
    asked = runs_of(request).waiting(customer=customer, after=given.get("after"), limit=int(limit))
    page = await in_time(request, asked)
    return said(200, {"questions": [each for info in page.runs for each in asked_by(info)], "after": page.after})


async def health(request: Request) -> Response:
    """Whether the service does its work: for who starts it anew where it does not."""
    return said(200 if runs_of(request).is_well else 503, {})


async def standing(request: Request) -> dict[str, object]:
    run_id, runs = run_id_of(request), runs_of(request)
    info = await in_time(request, runs.info(run_id))
    if info is None:
        raise HTTPException(404, "there is no such run")
    return {**shown(info), "result": await in_time(request, runs.result(run_id))}


# What clients send


def user_of(request: Request) -> str:
    """Who asks. PUT REAL AUTHENTICATION HERE: anybody can send this header. What comes of it is kept in the log."""
    try:
        user = request.headers.get("x-user", "").encode("latin-1").decode("utf-8").strip()  # ASGI tells it in latin-1
    except UnicodeDecodeError:
        raise HTTPException(400, "the header X-User is text in UTF-8") from None
    if not 1 <= len(user) <= 100:
        raise HTTPException(401, "the header X-User says who asks")
    return user


def runs_of(request: Request) -> Runs:
    return request.state.runs


def run_id_of(request: Request) -> str:
    run_id = request.path_params["run_id"]
    if not re.fullmatch(RUN_ID, run_id):
        raise HTTPException(404, "there is no such run")
    return run_id


async def body_of(request: Request) -> bytes:
    """The body, unless it is too large or takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(request.state.settings.patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"a body has at most {MOST_BYTES} bytes", {"Connection": "close"})
    except TimeoutError:
        raise HTTPException(408, "the body did not come in time", {"Connection": "close"}) from None
    return bytes(body)


def parsed(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, str(error)) from None


async def in_time(request: Request, work: Awaitable[T]) -> T:
    """What is asked of the store, unless it takes longer than a client is to wait.

    Raises:
        StoreUnavailableError: it does.
    """
    try:
        async with asyncio.timeout(request.state.settings.patience):
            return await work
    except TimeoutError:
        raise StoreUnavailableError("The store did not answer in time.") from None


# What they get


def said(status: int, body: object, **headers: str) -> Response:
    return Response(
        msgspec.json.encode(body, enc_hook=str),
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        "application/json",
    )


def shown(info: RunInfo) -> dict[str, object]:
    """How a run stands."""
    return {
        "id": info.run_id,
        "status": info.status,
        "reason": info.reason,
        "tags": info.tags,
        "questions": asked_by(info),
    }


def asked_by(info: RunInfo) -> list[dict[str, object]]:
    return [
        {
            "run": info.run_id,
            "request": each.request_id,
            "text": each.prompt,
            "answer": each.response_type,
            "asked_at": each.asked_at,
            "customer": info.tags.get("customer"),
        }
        for each in info.pending_requests
    ]


def refused(status: int, text: str, **more: object) -> Response:
    retry = {"Retry_After": "1"} if status in (423, 503) else {}
    return said(status, {"error": text, **more}, **retry)


async def by_http(_: Request, error: HTTPException) -> Response:
    response = refused(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def not_pending(_: Request, error: RequestNotPendingError) -> Response:
    """409 says what the first answer was; 410, that the question counts no more; 404, that there never was one."""
    if error.answer is None:
        return refused({"unknown": 404, "expired": 410}.get(error.state, 409), f"the request is {error.state}")
    first = error.answer
    return refused(
        409, "answered already", first={"by": first.actor, "at": first.recorded_at, "answer": first.response}
    )


async def claimed(_: Request, error: RunClaimedError) -> Response:
    return refused(423, "another server goes on with this run; try again", until=error.expires_at)


async def lost(_: Request, error: ClaimLostError) -> Response:
    return refused(503, "another server goes on with this run; ask how it stands")


async def unknown(_: Request, error: RunNotFoundError) -> Response:
    return refused(404, "there is no such run")


async def taken(_: Request, error: IdTakenError) -> Response:
    return refused(409, "that id is another refund's")


async def unfit(_: Request, error: ResponseTypeError | ForeignPageError) -> Response:
    return refused(400, str(error))


async def busy(_: Request, error: BusyError) -> Response:
    return refused(503, "too many runs go on here; nothing was done; try again")


async def unusable(request: Request, error: WorkflowCheckpointException) -> Response:
    """Such as a run of another graph, or a state that is not to be read: another server's version may do."""
    logger.warning("%s: %s: %s", request.url.path, type(error).__name__, error)
    return refused(503, "this version of the service cannot go on with the run as it is stored")


async def unavailable(_: Request, error: CheckpointStoreError) -> Response:
    """Without what it says: paths and endpoints are nobody's but the operator's."""
    return refused(503, "the store does not answer; try again")


async def gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


REFUSALS: Final[dict[Any, Any]] = {
    HTTPException: by_http,
    RequestNotPendingError: not_pending,
    ResponseTypeError: unfit,
    ForeignPageError: unfit,
    RunClaimedError: claimed,
    ClaimLostError: lost,
    RunNotFoundError: unknown,
    IdTakenError: taken,
    CheckpointStoreError: unavailable,
    WorkflowCheckpointException: unusable,
    BusyError: busy,
    ClientDisconnect: gone,
}
