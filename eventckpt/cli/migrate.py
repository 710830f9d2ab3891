"""The command that brings runs to what their application has become: migrate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from ..audit import ANY_TYPE, CheckpointAudit, Draft, MigrationPlan
from ..audit.migrate import name_of
from ..errors import CheckpointConflictError
from ..events import StreamId, check_run_id
from ..location import LocationError, load_app
from .compare import difference_fields, print_difference
from .options import Actor, EachRunName, Full
from .session import FOUND_WRONG, STORE, USAGE, Failure, Session, Workflow, command

__all__ = ["commands", "migrate"]

commands: Final = typer.Typer()

_Types = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", help="A type of the application, module:qualname, beside those that it registers. Repeat it."
    ),
]


@command(commands, "migrate", of_runs="a session has no graph that it was saved under; only runs are migrated.")
async def migrate(
    session: Session,
    runs: EachRunName,
    function: Annotated[str, typer.Option("--with", help="What edits each checkpoint, module:function.")],
    new_run: Annotated[
        str | None, typer.Option("--as", help="Begin this new run with the result, instead of going on in the same.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Write; without it, only say what would be.")] = False,
    workflow: Workflow = None,
    allow: _Types = None,
    actor: Actor = None,
    full: Full = False,
) -> int:
    """Edit the last checkpoint of runs, as it is stored, so that they resume in the workflow as it is now. Without
    --execute, only say what would be written.

    Exits with 1 where a run is left alone that is not migrated already.
    """
    if ANY_TYPE in (allow or ()):
        raise Failure(USAGE, "--allow: what is written is decoded, and only types that are named are.")
    edit = _loaded(function)
    if new_run is not None:
        _check_new_run(new_run, runs)
    audit = await session.audit(allow=allow, actor=actor, writes=execute)
    streams = [await audit.run(name, workflow_name=workflow) for name in dict.fromkeys(runs)]
    counts = {"planned": 0, "migrated": 0, "done": 0, "refused": 0}
    for stream in streams:  # one after the other: a plan holds the whole checkpoint
        plan = await audit.plan_migration(stream, edit, name=function, run_id=new_run)
        _report(session, plan, full=full)
        counts[await _outcome(session, audit, plan, execute=execute)] += 1
    session.out.record("summary", {"executed": execute, "runs": len(streams), **counts})
    session.out.line(
        f"{counts['migrated' if execute else 'planned']} of {len(streams)} runs {'are' if execute else 'would be'} "
        f"migrated; {counts['done']} need nothing, {counts['refused']} are left alone."
        + (" Add --execute to do it." if counts["planned"] else "")
    )
    return FOUND_WRONG if counts["refused"] else 0


def _loaded(name: str) -> Callable[[Draft], object]:
    try:
        function = load_app(name)
    except LocationError as error:
        raise Failure(STORE, f"--with: {error}") from error
    try:
        name_of(function, name)
    except (TypeError, ValueError) as error:
        raise Failure(USAGE, f"--with: {error}") from error
    return function


def _check_new_run(new_run: str, runs: list[str]) -> None:
    try:
        check_run_id(new_run)
    except ValueError as error:
        raise Failure(USAGE, f"--as: {error}") from error
    if len(runs) != 1:
        raise Failure(USAGE, "--as begins one new run: give one run to migrate.")


async def _outcome(session: Session, audit: CheckpointAudit, plan: MigrationPlan, *, execute: bool) -> str:
    if plan.refused or plan.event is None:
        return "refused" if plan.refused else "done"
    if not execute:
        return "planned"
    try:
        event = await audit.migrate(plan)
    except CheckpointConflictError as error:
        session.out.record("left_out", {**_run(plan.stream), "reason": str(error)})
        session.out.line(str(error), style="red")
        return "refused"
    session.out.line(f"written: seq {event.seq} of run {event.run_id}; resume from checkpoint {event.checkpoint_id}")
    return "migrated"


def _run(stream: StreamId) -> dict[str, Any]:
    return {"workflow_name": stream.workflow_name, "run_id": stream.run_id}


def _report(session: Session, plan: MigrationPlan, *, full: bool) -> None:
    event, origin = plan.event, plan.origin
    session.out.record(
        "migration",
        {
            **_run(plan.stream),
            "name": plan.name,
            "from": {"seq": origin.seq, "checkpoint_id": origin.checkpoint_id} if origin else None,
            "to": {"run_id": event.run_id, "seq": event.seq, "checkpoint_id": event.checkpoint_id} if event else None,
            "graph_before": origin.graph_signature_hash if origin else None,
            "graph_after": event.graph_signature_hash if event else None,
            "refused": plan.refused or None,
            "done": plan.done or None,
            "differences": list(map(difference_fields, plan.differences)),
        },
    )
    named = f"run {plan.stream.run_id} of {plan.stream.workflow_name}"
    if event is None or origin is None:
        session.out.line(f"{named}: " + (f"left alone: {plan.refused}" if plan.refused else plan.done))
        return
    session.out.line(f"{named}, seq {origin.seq} → seq {event.seq} of run {event.run_id}", style="bold")
    if not session.out.as_json:
        for difference in plan.differences:
            print_difference(session, difference, full=full)
