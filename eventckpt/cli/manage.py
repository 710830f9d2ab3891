"""Commands that change what a store holds: fork, prune, delete."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Annotated, Any, Final

import typer

from ..audit import CheckpointAudit, Plan
from ..errors import CheckpointConflictError
from ..events import check_run_id
from ..rendering.fields import event_fields
from ..rendering.times import TIME, moment
from .options import Actor, CheckpointName, RunNames, Yes, chosen_runs
from .output import Output
from .session import FOUND_WRONG, USAGE, Failure, Session, Workflow, command
from .space import say_given_back

__all__ = ["commands", "confirm", "fork", "prune"]

commands: Final = typer.Typer()


@command(commands, "fork", of_runs="a fork of a session copies nothing: EventHistoryProvider.fork begins one.")
async def fork(
    session: Session,
    checkpoint: CheckpointName,
    run: Annotated[str, typer.Option("--as", help="The id of the new run.")],
    workflow: Workflow = None,
    actor: Actor = None,
) -> None:
    """Begin a new run with a copy of a checkpoint; resume it with the framework, bound to the new run."""
    audit = await session.audit(actor=actor, writes=True)
    origin = await audit.event(checkpoint, workflow_name=workflow)
    try:
        check_run_id(run)
    except ValueError as error:
        raise Failure(USAGE, f"--as: {error}") from error
    event = await audit.fork(origin, run)
    session.out.record("event", event_fields(event))
    session.out.line(
        f"run {event.run_id} of {event.workflow_name} begins at seq {origin.seq} of run {origin.run_id}; "
        f"resume it from checkpoint {event.checkpoint_id}"
    )


@command(commands, "prune")
async def prune(
    session: Session,
    runs: RunNames = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run, or every run of a workflow.")] = False,
    keep: Annotated[int | None, typer.Option(help="How many live checkpoints of each run stay.", min=0)] = None,
    older_than: Annotated[str | None, typer.Option(help=f"Only events recorded before {TIME}.")] = None,
    finished: Annotated[bool, typer.Option("--finished", help="Only runs that are done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also runs that wait for an answer.")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Remove; without it, only say what would go.")] = False,
    yes: Yes = False,
    workflow: Workflow = None,
    actor: Actor = None,
) -> int:
    """Remove old events of runs, and record what was removed. Without --execute, only say what would go. With --turns,
    of sessions: what branches and forks rest on stays."""
    session.not_of_turns(finished=finished, force=force)
    if bool(runs) == everything:
        raise Failure(USAGE, "Prune what? Give runs, or --all.")
    if keep is None and older_than is None:
        raise Failure(USAGE, "Give --keep, --older-than, or both: what is to stay?")
    audit = await session.audit(actor=actor, writes=execute)
    streams = await chosen_runs(audit, runs, workflow)
    options: dict[str, Any] = {
        "keep": 1 if keep is None else keep,
        "before": moment(older_than, "--older-than"),
        "only_finished": finished,
        "force": force,
    }
    planned: list[Plan] = []
    count = events = size = 0
    async with aclosing(audit.plan_prune(streams, **options)) as plans:
        async for plan in plans:
            _report_plan(session.out, plan, audit.kind.stream)
            if plan.seqs or plan.unmarked:
                count, events, size = count + 1, events + len(plan.seqs), size + plan.stored_size
                if execute:
                    planned.append(plan)
    text = f"{events:,} events of {count:,} {audit.kind.stream}s, {size:,} bytes of payload"
    if not planned:
        session.out.record("summary", {"executed": False, "runs": count, "events": events, "bytes": size})
        session.out.line(f"Would remove {text}." + (" Add --execute to do it." if count else ""))
        return 0
    if not yes:
        confirm(session.out, text)
    removed, failed = await _carry_out(session.out, audit, planned)
    session.out.record("summary", {"executed": True, "runs": len(planned), "events": removed, "bytes": size})
    session.out.line(f"Removed {removed:,} events of {len(planned) - failed:,} {audit.kind.stream}s.")
    await say_given_back(session.out, audit.store)
    return FOUND_WRONG if failed else 0


def _report_plan(out: Output, plan: Plan, what: str) -> None:
    if not plan.seqs and not plan.refused and not plan.unmarked:
        return
    out.record(
        "plan",
        {
            "workflow_name": plan.stream.workflow_name,
            "run_id": plan.stream.run_id,
            "seqs": plan.seqs,
            "bytes": plan.stored_size,
            "kept": plan.kept,
            "refused": plan.refused or None,
            "unmarked": plan.unmarked,
        },
    )
    name = f"{what} {plan.stream.run_id} of {plan.stream.workflow_name}"
    if plan.refused:
        out.line(f"{name}: left alone: {plan.refused}")
    if plan.seqs:
        out.line(f"{name}: {len(plan.seqs):,} events, {plan.stored_size:,} bytes; {plan.kept:,} stay")
    if plan.unmarked:
        out.line(f"{name}: {len(plan.unmarked):,} seqs of events removed earlier are to be closed to old writers")


def confirm(out: Output, what: str) -> None:
    if not sys.stdin.isatty() or out.as_json:
        raise Failure(USAGE, f"This removes {what} for good. Add --yes to do it without being asked.")
    typer.confirm(f"Remove {what} for good?", abort=True)


async def _carry_out(out: Output, audit: CheckpointAudit, plans: list[Plan]) -> tuple[int, int]:
    removed = failed = 0
    with out.progress("events removed") as done:
        for plan in plans:
            try:
                removed += await audit.prune(plan)
            except CheckpointConflictError as error:
                failed += 1
                out.line(str(error), style="red")
            done(removed)
    return removed, failed
