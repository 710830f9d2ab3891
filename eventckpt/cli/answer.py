"""The command that answers what a run asks, and goes on with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from .. import settings
from ..answers.programs import built, carried_out, json_in
from ..audit import ANY_TYPE
from ..events import RunInfo, StreamId
from ..rendering.fields import fields_of
from ..rendering.words import standing
from ..storage import EventCheckpointStorage
from ..storage.claiming import LONGEST_CLAIM
from ..text import cell, described, safe
from .options import Actor, App, RunName
from .session import USAGE, Failure, Session, command

__all__ = ["answer", "commands"]

commands: Final = typer.Typer()


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
    await carried_out(storage, stream, responses, workflow=workflow, actor=actor, ttl=ttl, wait=wait)
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


def _responses(request: str, response: str, also: Sequence[str]) -> dict[str, Any]:
    """The answers that were given, by the request."""
    given = {request: json_in(_read() if response == "-" else response, "--json")}
    for text in also:
        other, equals, value = text.partition("=")
        if not equals:
            raise Failure(USAGE, f"--also takes REQUEST=JSON, not {described(text)}.")
        if other in given:
            raise Failure(USAGE, f"--also: request {described(other)} is answered twice.")
        given[other] = json_in(value, "--also")
    return given


def _read() -> str:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, where it was closed
        raise Failure(USAGE, "--json -: standard input is closed.")
    try:
        return sys.stdin.read()
    except (OSError, ValueError) as error:
        raise Failure(USAGE, f"--json -: standard input cannot be read: {safe(error)}.") from error


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
