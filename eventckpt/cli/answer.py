"""The command that answers what a run asks, and goes on with it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from agent_framework import WorkflowCheckpointException

from .. import settings
from ..answers import answer_from_json
from ..audit import ANY_TYPE, CheckpointAudit
from ..errors import CheckpointTypeNotAllowedError, RequestNotPendingError, ResponseTypeError, RunClaimedError
from ..events import RunInfo, StreamId
from ..exit_codes import exit_code
from ..storage import EventCheckpointStorage
from ..storage.claiming import LONGEST_CLAIM
from ..text import cell, described, safe
from .options import Actor, App, RunName, built
from .render import fields_of, standing
from .session import FOUND_WRONG, USAGE, Failure, Session, command

__all__ = ["answer", "commands"]

commands: Final = typer.Typer()

_SHORT: Final = 40  # characters of what was probably meant as text


@command(commands, "answer", of_runs="a session asks nothing; only runs do.", as_json="--json-output")
async def answer(
    session: Session,
    run: RunName,
    request: Annotated[str, typer.Argument(help="The id of the request, as `history` shows it.")],
    response: Annotated[str, typer.Option("--json", help="The answer, as JSON; - reads it from standard input.")],
    app: App,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="The answer to another request as well, REQUEST=JSON. Repeat it."),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            help="Seconds to wait where somebody else has the run; at least its ttl, where that one may be dead.", min=0
        ),
    ] = 0.0,
    ttl: Annotated[float, typer.Option(help="Seconds after which others may take the run from a dead process.")] = 60.0,
    actor: Actor = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A type that the application's storages allow, module:qualname. Repeat it."),
    ] = None,
) -> int:
    """Answer what a run asks, and run its workflow, as the application builds it, from there on.

    The answer is checked against the type that the request asks for. Nothing is done where it is of another one, where
    the request is answered already, or where somebody else has the run. Exits with 1 where the workflow fails.
    """
    if ANY_TYPE in (allow or ()):
        raise Failure(USAGE, "--allow: no application allows all types; name those that its storages allow.")
    responses = _responses(request, response, also or ())
    _check(run, responses, ttl, wait)
    workflow = await built(app)
    audit = await session.audit(allow=allow, actor=actor, writes=True)
    stream = await audit.run(run, workflow_name=workflow.name)
    storage = EventCheckpointStorage(audit.store, allowed_checkpoint_types=allow, actor=actor)
    try:
        await answer_from_json(storage, stream.run_id, responses, workflow=workflow, ttl=ttl, wait=wait, recording=True)
    except (KeyboardInterrupt, RequestNotPendingError, ResponseTypeError, RunClaimedError):
        raise
    except BaseException as error:  # an executor may raise any
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise await _failure(error, audit, stream, responses) from error
    try:
        _report(session, stream, list(responses), await audit.info(stream))
        session.out.flush()
    except Failure as error:
        raise Failure(error.code, f"The answer was given. {error}") from error
    return 0


def _check(run: str, responses: dict[str, Any], ttl: float, wait: float) -> None:
    """Whether the command line is right, before anything is opened."""
    try:
        settings.text("The run's id", run)
        for request_id in responses:
            settings.text("A request's id", request_id)
        settings.number("--ttl", ttl, most=LONGEST_CLAIM)
        settings.number("--wait", wait, most=LONGEST_CLAIM, zero=True)
    except ValueError as error:
        raise Failure(USAGE, str(error)) from error


async def _failure(
    error: BaseException, audit: CheckpointAudit, stream: StreamId, responses: dict[str, Any]
) -> BaseException:
    """What ends the command where the workflow did not go on to its end: it says whether the answer is on record."""
    text = f"The workflow failed: {type(error).__name__}: {safe(error) or '-'}"
    if isinstance(error, WorkflowCheckpointException):
        text = str(error)
    if isinstance(error, CheckpointTypeNotAllowedError):
        text += f" Here that is --allow {error.type_key}."
    try:
        info = await audit.info(stream)
    except WorkflowCheckpointException:
        info = None
    if info is not None and not any(each.request_id in responses for each in info.pending_requests):
        text += f"{'' if text.endswith('.') else '.'} The answer is on record, and the run is {info.status}."
    return Failure(exit_code(error) or FOUND_WRONG, text)


def _responses(request: str, response: str, also: Sequence[str]) -> dict[str, Any]:
    """The answers that were given, by the request."""
    given = {request: _parsed(_read() if response == "-" else response, "--json")}
    for text in also:
        other, equals, value = text.partition("=")
        if not equals:
            raise Failure(USAGE, f"--also takes REQUEST=JSON, not {described(text)}.")
        if other in given:
            raise Failure(USAGE, f"--also: request {described(other)} is answered twice.")
        given[other] = _parsed(value, "--also")
    return given


def _read() -> str:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, where it was closed
        raise Failure(USAGE, "--json -: standard input is closed.")
    try:
        return sys.stdin.read()
    except (OSError, ValueError) as error:
        raise Failure(USAGE, f"--json -: standard input cannot be read: {safe(error)}.") from error


def _parsed(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = f"; text is quoted: '{json.dumps(text)}'" if len(text) < _SHORT else ""
        raise Failure(USAGE, f"{option} takes JSON, and {described(text)} is none ({safe(error)}{hint}).") from error


def _report(session: Session, stream: StreamId, answered: list[str], info: RunInfo | None) -> None:
    status, asked = (info.status, info.pending_requests) if info is not None else ("open", ())
    session.out.record(
        "answered",
        {
            "workflow_name": stream.workflow_name,
            "run_id": stream.run_id,
            "requests": answered,
            "status": status,
            "pending_requests": [fields_of(each) for each in asked],
        },
    )
    session.out.line(f"Answered. Run {cell(stream.run_id)} of {cell(stream.workflow_name)}: {standing(status, asked)}")
    for each in asked:
        what = f" ({cell(each.response_type)})" if each.response_type else ""
        session.out.line(f"    {cell(each.request_id)}{what}: {cell(each.prompt or each.request_type)}")
