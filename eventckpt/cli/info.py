"""The command that says what one run, or one session, amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import typer

from ..audit import CheckpointAudit
from ..audit.glance import Glance, glance_at
from ..errors import RunNotFoundError
from ..events import RunInfo
from ..history.listing import SessionInfo, sessions_of
from ..rendering.about_run import (
    counts_of,
    fork_text,
    how_to_answer,
    lines_of_last,
    lines_of_run,
    question_text,
    said_of_run,
    standing_of_run,
    waits_for,
)
from ..rendering.fields import run_fields
from ..rendering.words import removed_text
from .options import RunName
from .output import Listing, Output
from .render import EVENT_COLUMNS, event_row
from .session import Session, Workflow, command
from .turns import TURN_COLUMNS, turn_row

__all__ = ["commands", "info"]

commands: Final = typer.Typer()

_WIDTH: Final = 14  # of the names before what they are of
_LAST: Final = 5  # events that are shown
_SHOWN: Final = 10  # questions, and forks, that are shown as text


@command(commands, "info")
async def info(session: Session, run: RunName, workflow: Workflow = None) -> None:
    """Say how a run stands: its status, its questions and how to answer them, its size, where it forked from and which
    runs forked from it, what was said about it, who has claimed it, and its last events. With --turns, of a session."""
    audit = await session.audit()
    stream = await audit.run(run, workflow_name=workflow)
    found = await glance_at(audit.store, stream, events=_LAST)
    if found is None:
        what, group = audit.kind.stream, audit.kind.group
        raise RunNotFoundError(
            f"{what.capitalize()} {stream.run_id!r} of {group} {stream.workflow_name!r} was removed meanwhile."
        )
    out = session.out
    if session.turns:
        await _show_session(out, audit, found)
    else:
        _show_run(out, found)
    gone = await audit.removed(stream) if found.info.removed else None
    if gone is not None:
        out.line(removed_text(gone, audit.kind.stream, head_seq=found.info.seq, time=out.time))
    if out.as_json:
        for kind, fields in lines_of_last(gone, found.last):
            out.record(kind, fields)
        return
    columns, row = (TURN_COLUMNS, turn_row) if session.turns else (EVENT_COLUMNS, event_row)
    out.line()
    listing = Listing(out, "event", columns)
    for event in found.last:
        listing.add({}, row(event))
    listing.flush()


def _show_run(out: Output, found: Glance) -> None:
    info = found.info
    for kind, fields in lines_of_run(found):
        out.record(kind, fields)
    out.line(f"run {info.run_id} of {info.workflow_name}", style="bold")
    for name, text in _said(out, found):
        out.line(f"  {name:<{_WIDTH}}{text}")


def _said(out: Output, found: Glance) -> Iterator[tuple[str, str]]:
    """What there is to say of a run, each with its name."""
    info = found.info
    pending = waits_for(info)
    yield "status", standing_of_run(info) + (": nothing of it counts any more" if info.is_emptied else "")
    for asked in pending[:_SHOWN]:
        yield "waits for", question_text(info, asked, out.time)
        yield "answer with", how_to_answer(info.stream, asked)
    if len(pending) > _SHOWN:
        yield "waits for", f"{len(pending) - _SHOWN:,} more: --json has them all"
    yield from said_of_run(found, out.time)
    for fork in found.forks[:_SHOWN]:
        yield "forked to", fork_text(fork)
    if len(found.forks) > _SHOWN:
        yield "forked to", f"{len(found.forks) - _SHOWN:,} more: `eventckpt lineage` has them all"


async def _show_session(out: Output, audit: CheckpointAudit, found: Glance) -> None:
    """A session, or a branch of one: what it amounts to, as `sessions` lists it, and its own stream."""
    info = found.info
    name = info.session or info.run_id
    counted = await sessions_of(audit.store, info.workflow_name, latest="log", prefix=name, counted=True)
    listed = next((each for each in counted if each.session_id == name), None)
    out.record("run", run_fields(info))
    if listed is not None:
        out.record("session", listed._asdict())
    out.line(f"session {info.run_id} of {info.workflow_name}", style="bold")
    for what, text in _said_of_session(out, info, listed):
        out.line(f"  {what:<{_WIDTH}}{text}")


def _said_of_session(out: Output, info: RunInfo, listed: SessionInfo | None) -> Iterator[tuple[str, str]]:
    if info.session is not None:
        yield "branch of", info.session
    if listed is not None:
        yield "turns", f"{listed.turns:,} with those of {listed.branches:,} branches"
    yield from counts_of(info, out.time, "turns")
    if (origin := info.forked_from) is not None:
        yield "forked from", f"seq {origin.seq} of session {origin.run_id}"
