"""The command that removes runs as a whole."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Final

import typer

from .. import settings
from ..audit import Deletion
from ..events import MAX_REASON, StreamId
from ..rendering.times import TIME, moment
from ..storage.removing import RunRemoval
from .manage import confirm
from .options import Actor, RunNames, Yes, chosen_runs
from .output import Output
from .session import FOUND_WRONG, USAGE, Failure, Session, Workflow, command
from .space import say_given_back

__all__ = ["commands", "delete"]

commands: Final = typer.Typer()


@command(commands, "delete")
async def delete(
    session: Session,
    runs: RunNames = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run, or every run of a workflow.")] = False,
    older_than: Annotated[str | None, typer.Option(help=f"Only runs last written to before {TIME}.")] = None,
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
    async with aclosing(audit.plan_delete(streams, before=moment(older_than, "--older-than"), force=force)) as plans:
        async for plan in plans:
            if told.plan(plan):
                going.append(plan)
    text = f"{len(going):,} {audit.kind.stream}s, {told.events:,} events, {told.size:,} bytes of payload"
    if not execute or not going:
        told.summary()
        session.out.line(f"Would remove {text}." + (" Add --execute to do it." if going else ""))
        return FOUND_WRONG if execute and runs and told.left else 0
    if not yes:
        confirm(session.out, text)
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
    await say_given_back(session.out, audit.store)
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
            if not (plan.goes_on or plan.untold):
                return False
        if not plan.events and (self._named or plan.untold):
            if not (plan.untold and self._execute):
                self._record(plan.stream, "removed before", 0, 0, None)
            untold = ", and nothing tells of it: that is made up for" if plan.untold else ""
            self._out.line(f"{name}: was removed before{untold}")
        if not plan.events:
            return plan.untold
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
