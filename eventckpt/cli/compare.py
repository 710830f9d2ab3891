"""Commands that compare: diff, changes, replay."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Final

import typer

from ..audit import CheckpointAudit
from ..audit.conversation import Point, holds_snapshots
from ..audit.diff import Difference, Kind
from ..audit.paths import near_paths
from ..errors import CheckpointNotFoundError
from ..events import CheckpointEvent, StreamId
from ..rendering.compared import compared_lines, compared_name, counts_of, stretch, two_events
from ..rendering.fields import difference_fields, event_fields, run_fields
from ..rendering.trees import leaf_text, plain_tree, tree_lines
from ..rendering.turns import message_lines, roles_text
from ..rendering.words import standing, status_of_run
from ..text import described, safe
from . import completion
from .options import Full, RunName, Upcast, upcasters_in
from .output import Output
from .session import FOUND_WRONG, Allow, Session, Workflow, command

__all__ = ["changes", "commands", "diff", "difference_fields", "print_difference", "replay"]

commands: Final = typer.Typer()

_SIGNS: Final[dict[Kind, str]] = {"added": "+", "removed": "-", "changed": "~"}
_STYLES: Final[dict[Kind, str]] = {"added": "green", "removed": "red", "changed": "yellow"}


@command(commands, "diff")
async def diff(
    session: Session,
    names: Annotated[
        list[str],
        typer.Argument(
            help="One or two checkpoints (ids or RUN@SEQ) or runs; or a run with --seq.",
            autocompletion=completion.checkpoints,
        ),
    ],
    seq: Annotated[str | None, typer.Option(help="The events of a run to compare, as FIRST..LAST.")] = None,
    workflow: Workflow = None,
    allow: Allow = None,
    upcast: Upcast = None,
    full: Full = False,
) -> None:
    """Show what differs between two checkpoints, by path; of one, from the one that it follows; of a run, between
    that one and its last; of two runs, between their last ones. With --upcast and one checkpoint: what that changes in
    it. With --turns: which messages the session held at the one point and not at the other."""
    audit = await session.audit(allow=allow, upcasters=upcasters_in(upcast))
    if session.turns and (points := await _two_points(audit, names, seq, workflow)) is not None:
        session.not_of_turns(upcast=upcast or None)
        await _diff_turns(session.out, audit, *points, full=full)
        return
    if upcast and len(names) == 1 and seq is None:
        before = after = await audit.event(names[0], workflow_name=workflow)
        found = await audit.diff(before, after, upcast="after")
    else:
        before, after = await two_events(audit, names, seq, workflow)
        found = await audit.diff(before, after, upcast=bool(upcast))
    if session.out.as_json:
        for kind, fields in compared_lines(before, after, found):
            session.out.record(kind, fields)
        return
    session.out.line(f"{compared_name(before)} → {compared_name(after)}", style="bold")
    for difference in found:
        print_difference(session, difference, full=full)
    session.out.line(", ".join(f"{count} {kind}" for kind, count in counts_of(found).items()))


@command(commands, "changes")
async def changes(
    session: Session,
    run: RunName,
    path: Annotated[
        str, typer.Option("--path", help="Where the value is: state.total, /state/total, $.state['total'].")
    ],
    workflow: Workflow = None,
    allow: Allow = None,
    upcast: Upcast = None,
) -> None:
    """Say at which superstep a value changed, and to what."""
    audit = await session.audit(allow=allow, upcasters=upcasters_in(upcast))
    stream = await audit.run(run, workflow_name=workflow)
    found = False
    async with aclosing(audit.changes(stream, path, upcast=bool(upcast))) as each:
        async for change in each:
            found = True
            session.out.record(
                "change",
                {
                    "event": event_fields(change.event),
                    "path": path,
                    "existed": change.existed,
                    "before": plain_tree(change.before),
                    "exists": change.exists,
                    "after": plain_tree(change.after),
                },
            )
            value = leaf_text(change.after) if change.exists else "(gone)"
            session.out.line(f"seq {change.event.seq}{_superstep(change.event)}: {value}")
    if not found:
        session.out.nothing(await _nothing_at(audit, stream, path, upcast=bool(upcast)))


@command(commands, "replay")
async def replay(
    session: Session,
    run: RunName,
    workflow: Workflow = None,
    until: Annotated[int | None, typer.Option(help="Stop after this seq.")] = None,
) -> int:
    """Fold a run from its first event, rebuild each state, and compare it with what is stored."""
    audit = await session.audit()
    stream = await audit.run(run, workflow_name=workflow)
    wrong = newer = steps = 0
    async with aclosing(audit.replay(stream, until=until)) as each:
        async for step in each:
            steps += 1
            newer += step.newer
            wrong += bool(step.problem) and not step.newer
            info = step.info
            session.out.record(
                "step",
                {
                    "event": event_fields(step.event),
                    "run": run_fields(info),
                    "problem": step.problem or None,
                    "newer": step.newer,
                },
            )
            state = f"superstep {info.iteration_count}, {standing(status_of_run(info), info.pending_requests)}"
            if session.turns:
                state = f"{step.event.type}, {roles_text(step.event)}" if step.event.turn else step.event.type
            if step.newer:
                session.out.line(f"seq {step.event.seq}: NEWER: {step.problem}")
            else:
                said = f"  WRONG: {step.problem}" if step.problem else ""
                session.out.line(f"seq {step.event.seq}: {state}{said}")
    session.out.record("summary", {"steps": steps, "wrong": wrong, "newer": newer})
    session.out.line(
        f"{steps} events replayed; {wrong or 'none'} of them disagree with what is stored."
        + (f" {newer} need a newer version of eventckpt, and this one cannot judge them." if newer else "")
    )
    return FOUND_WRONG if wrong or newer else 0


async def _nothing_at(audit: CheckpointAudit, stream: StreamId, path: str, *, upcast: bool) -> str:
    """What is said where no state of a run has a path: which ones of the last state come close."""
    said = f"Nothing is ever at {described(path)}."
    try:
        last = await audit.at(stream)
    except CheckpointNotFoundError as error:
        return f"{said} {error}"
    near = near_paths(await audit.tree(last, upcast=upcast), path)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`eventckpt show` prints the paths that there are."
    return f"{said} {hint}"


def _superstep(event: CheckpointEvent) -> str:
    return f", superstep {event.iteration_count}" if event.type == "checkpoint" else ""


async def _two_points(
    audit: CheckpointAudit, names: list[str], seq: str | None, workflow: str | None
) -> tuple[Point, Point] | None:
    """The points of two sessions that are to be compared; None: what is named is what a host keeps of one."""
    if seq is not None:
        stream, first, last = await stretch(audit, names, seq, workflow)
        return None if await holds_snapshots(audit.store, stream) else (Point(stream, first), Point(stream, last))
    before, after = await two_events(audit, names, None, workflow)
    if "session" in (before.type, after.type):
        return None
    return Point(before.stream, before.seq), Point(after.stream, after.seq)


async def _diff_turns(out: Output, audit: CheckpointAudit, before: Point, after: Point, *, full: bool) -> None:
    counts = {"added": 0, "removed": 0}  # a message is there, or it is not
    out.line(f"{_point_text(before)} → {_point_text(after)}", style="bold")
    async with aclosing(audit.diff_turns(before, after)) as found:
        async for difference in found:
            counts[difference.kind] += 1
            out.record("difference", difference_fields(difference))
            message = difference.after if difference.kind == "added" else difference.before
            for line in message_lines(message, full=full):
                out.line(f"{_SIGNS[difference.kind]} {line}", style=_STYLES[difference.kind])
    out.record("summary", {"before": None, "after": None, **counts, "changed": 0})
    out.line(", ".join(f"{count} {kind}" for kind, count in counts.items()))


def _point_text(point: Point) -> str:
    return f"seq {point.seq} of session {point.stream.run_id}"


def print_difference(session: Session, difference: Difference, *, full: bool) -> None:
    """A difference as text."""
    sign, style = _SIGNS[difference.kind], _STYLES[difference.kind]
    path = safe(difference.path)
    if difference.kind == "changed":
        values = f"{leaf_text(difference.before, full=full)} → {leaf_text(difference.after, full=full)}"
        session.out.line(f"{sign} {path}: {values}", style=style)
        return
    part = difference.after if difference.kind == "added" else difference.before
    for index, line in enumerate(tree_lines(part, path, full=full)):
        session.out.line(f"{sign if index == 0 else ' '} {line}", style=style)
