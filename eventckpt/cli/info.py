"""The command that says what one run amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import typer

from ..errors import RunNotFoundError
from ..events import PendingRequest, RunInfo
from ..traceparent import trace_id_in
from .options import RunName
from .output import Output
from .render import run_fields, said_text, standing
from .session import Session, Workflow, command

__all__ = ["commands", "info"]

commands: Final = typer.Typer()

_WIDTH: Final = 14  # of the names before what they are of


@command(commands, "info", of_runs="what a session amounts to is listed by `eventckpt sessions`.")
async def info(session: Session, run: RunName, workflow: Workflow = None) -> None:
    """Say how a run stands: its status and questions, its last checkpoint, what was said about it, and the trace in
    which that checkpoint was written."""
    audit = await session.audit()
    stream = await audit.run(run, workflow_name=workflow)
    found = await audit.info(stream)
    if found is None:
        raise RunNotFoundError(f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was removed meanwhile.")
    session.out.record("run", run_fields(found))
    session.out.line(f"run {found.run_id} of {found.workflow_name}", style="bold")
    for name, text in _said(session.out, found):
        session.out.line(f"  {name:<{_WIDTH}}{text}")


def _said(out: Output, info: RunInfo) -> Iterator[tuple[str, str]]:
    """What there is to say, each with its name."""
    pending = info.pending_requests if info.waiting_since else ()
    yield "status", standing(info.status, pending)
    for asked in pending:
        yield "waits for", _question(out, asked)
    if said := said_text(info):
        yield "annotations", said
    if info.checkpoint_id is not None:
        yield "checkpoint", f"{info.checkpoint_id}, seq {info.checkpoint_seq}, superstep {info.iteration_count}"
    if trace_id := trace_id_in(info.traceparent):
        yield "trace", trace_id
    removed = f", {info.removed:,} removed" if info.removed else ""
    yield "events", f"{info.checkpoints:,} of checkpoints, {info.tombstones:,} others{removed}"
    yield "stored", f"{info.stored_size:,} bytes"
    yield "began", out.time(info.started_at)
    if (origin := info.forked_from) is not None:
        yield "forked from", f"seq {origin.seq} of run {origin.run_id}"
    yield "last written", out.time(info.recorded_at) + (f" by {info.actor}" if info.actor else "")


def _question(out: Output, asked: PendingRequest) -> str:
    since = f", since {out.time(asked.asked_at)}" if asked.asked_at else ""
    return f"{asked.request_id} from {asked.source_executor_id}{since}: {asked.prompt or asked.request_type}"
