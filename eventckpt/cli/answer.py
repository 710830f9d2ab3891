"""The command that answers what a run asks, and goes on with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import typer
from agent_framework import WorkflowCheckpointException

from ..answers import answer_from_json
from ..audit import ANY_TYPE
from ..events import RunInfo, StreamId
from ..storage import EventCheckpointStorage
from ..text import cell, described, safe
from .options import Actor, App, RunName, built
from .render import standing
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
    if ttl <= 0:
        raise Failure(USAGE, f"--ttl is a number of seconds, more than 0, not {ttl}.")
    responses = _responses(request, response, also or ())
    workflow = await built(app)
    audit = await session.audit(allow=allow, actor=actor, writes=True)
    stream = await audit.run(run, workflow_name=workflow.name)
    storage = EventCheckpointStorage(audit.store, allowed_checkpoint_types=allow, actor=actor)
    try:
        await answer_from_json(storage, stream.run_id, responses, workflow=workflow, ttl=ttl, wait=wait)
    except WorkflowCheckpointException:
        raise
    except Exception as error:
        raise Failure(FOUND_WRONG, f"The workflow failed: {type(error).__name__}: {safe(error)}") from error
    _report(session, stream, list(responses), await audit.info(stream))
    return 0


def _responses(request: str, response: str, also: Sequence[str]) -> dict[str, Any]:
    """The answers that were given, by the request."""
    given = {request: _parsed(sys.stdin.read() if response == "-" else response, "--json")}
    for text in also:
        other, equals, value = text.partition("=")
        if not equals:
            raise Failure(USAGE, f"--also takes REQUEST=JSON, not {described(text)}.")
        if other in given:
            raise Failure(USAGE, f"--also: request {described(other)} is answered twice.")
        given[other] = _parsed(value, "--also")
    if not all(map(str.strip, given)):
        raise Failure(USAGE, "A request has an id, and a blank one was given.")
    return given


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
            "pending_requests": [msgspec.structs.asdict(each) for each in asked],
        },
    )
    session.out.line(f"Answered. Run {cell(stream.run_id)} of {cell(stream.workflow_name)}: {standing(status, asked)}")
    for each in asked:
        what = f" ({cell(each.response_type)})" if each.response_type else ""
        session.out.line(f"    {cell(each.request_id)}{what}: {cell(each.prompt or each.request_type)}")
