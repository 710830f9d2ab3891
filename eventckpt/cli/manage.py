"""Commands that change what a store holds: fork, prune, delete."""

from __future__ import annotations

import sys
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from .. import settings
from ..audit import CheckpointAudit, Deletion, Plan
from ..errors import CheckpointConflictError
from ..events import MAX_REASON, StreamId, check_run_id
from ..storage.removing import RunRemoval
from ..text import described
from .options import Actor, CheckpointName, RunNames, Yes, chosen_runs
from .output import Output
from .render import event_fields
from .session import FOUND_WRONG, USAGE, Failure, Session, Workflow, command

__all__ = ["commands", "delete", "fork", "prune"]

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
    older_than: Annotated[
        str | None, typer.Option(help="Only events recorded before this time, or so long ago: 30d, 12h.")
    ] = None,
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
        "before": _before(older_than),
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
        _confirm(session.out, text)
    removed, failed = await _carry_out(session.out, audit, planned)
    session.out.record("summary", {"executed": True, "runs": len(planned), "events": removed, "bytes": size})
    session.out.line(f"Removed {removed:,} events of {len(planned) - failed:,} {audit.kind.stream}s.")
    return FOUND_WRONG if failed else 0


@command(commands, "delete")
async def delete(
    session: Session,
    runs: RunNames = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run, or every run of a workflow.")] = False,
    older_than: Annotated[
        str | None, typer.Option(help="Only runs last written to before this time, or so long ago: 30d, 12h.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also runs that have not ended; with --turns, also what forks rest on.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why, kept on the record of it.")] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Remove; without it, only say what would go.")] = False,
    yes: Yes = False,
    workflow: Workflow = None,
    actor: Actor = None,
) -> int:
    """Remove runs as a whole, and record that. Without --execute, only say what would go. With --turns, sessions with
    their branches.

    Of a run only the record stays that closes it, and no list has it. Runs on hold or claimed stay.
    """
    if bool(runs) == everything:
        raise Failure(USAGE, "Delete what? Give runs, or --all.")
    try:
        settings.text("--reason", reason or "none", longest=MAX_REASON)
    except ValueError as error:
        raise Failure(USAGE, str(error)) from error
    audit = await session.audit(actor=actor, writes=execute)
    streams = await chosen_runs(audit, runs, workflow)
    told, going = _Told(session.out, audit.kind.stream, execute=execute, named=bool(runs)), list[Deletion]()
    async with aclosing(audit.plan_delete(streams, before=_before(older_than), force=force)) as plans:
        async for plan in plans:
            if told.plan(plan):
                going.append(plan)
    text = f"{len(going):,} {audit.kind.stream}s, {told.events:,} events, {told.size:,} bytes of payload"
    if not execute or not going:
        told.summary()
        session.out.line(f"Would remove {text}." + (" Add --execute to do it." if going else ""))
        return FOUND_WRONG if execute and runs and told.left else 0
    if not yes:
        _confirm(session.out, text)
    told.begin()
    try:
        with session.out.progress("events removed") as done:
            async with aclosing(audit.delete(going, reason=reason)) as removals:
                async for removal in removals:
                    told.removal(removal)
                    done(told.events)
    finally:
        told.summary()
    session.out.line(f"Removed {told.events:,} events of {told.runs:,} {audit.kind.stream}s.")
    return FOUND_WRONG if told.failed or (runs and told.left) else 0


class _Told:
    """What is told of a removal of runs, run by run, and counted. Of those that were removed before, only if they were
    `named`."""

    def __init__(self, out: Output, what: str, *, execute: bool, named: bool) -> None:
        self._out, self._what, self._execute, self._named = out, what, execute, named
        self.runs = self.events = self.size = 0
        self.left = 0
        """Runs that are left alone."""
        self.failed = 0
        """Those of them that were not, when it was planned."""

    def plan(self, plan: Deletion) -> bool:
        """Tell what would become of a run; whether it is to be removed."""
        name = f"{self._what} {plan.stream.run_id} of {plan.stream.workflow_name}"
        if plan.refused:
            self.left += 1
            self._record(plan.stream, "refused", 0, 0, plan.refused)
            self._out.line(f"{name}: left alone: {plan.refused}")
            return False
        if not plan.events and self._named:
            self._record(plan.stream, "removed before", 0, 0, None)
            self._out.line(f"{name}: was removed before")
        if not plan.events:
            return False
        self._count(plan.events, plan.stored_size)
        if not self._execute:
            self._record(plan.stream, "would go", plan.events, plan.stored_size, None)
        rest = ", what an earlier removal has left" if plan.goes_on else ""
        self._out.line(f"{name}: {plan.events:,} events, {plan.stored_size:,} bytes{rest}")
        return True

    def begin(self) -> None:
        """From here on, what is counted is what was done."""
        self.runs = self.events = self.size = 0

    def removal(self, removal: RunRemoval) -> None:
        """Tell what became of a run."""
        why = None if removal.refusal is None else removal.refusal.why
        self._record(removal.stream, removal.state, removal.events, removal.stored_size, why)
        if removal.state == "removed":
            self._count(removal.events, removal.stored_size)
        elif removal.refusal is not None:
            self.failed += 1
            self.left += 1
            self._out.line(
                f"{self._what} {removal.stream.run_id} was left alone: {removal.refusal.sentence}", style="red"
            )

    def summary(self) -> None:
        """Tell the counts, as JSON."""
        counts = {"runs": self.runs, "events": self.events, "bytes": self.size, "left": self.left}
        self._out.record("summary", {"executed": self._execute, **counts})

    def _count(self, events: int, size: int) -> None:
        self.runs, self.events, self.size = self.runs + 1, self.events + events, self.size + size

    def _record(self, stream: StreamId, state: str, events: int, size: int, why: str | None) -> None:
        about = {"workflow_name": stream.workflow_name, "run_id": stream.run_id, "state": state}
        self._out.record("deletion", {**about, "events": events, "bytes": size, "why": why})


def _before(text: str | None) -> datetime | None:
    """A time, or how long ago it was."""
    if text is None:
        return None
    units = {"d": "days", "h": "hours", "m": "minutes"}
    try:
        if text[:-1].isdecimal() and text[-1:] in units:
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Failure(
            USAGE, f"--older-than takes 30d, 12h, 90m or a time such as 2026-05-31, not {described(text)}."
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


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


def _confirm(out: Output, what: str) -> None:
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
