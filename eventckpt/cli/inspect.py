"""Commands that look: runs, history, show, at, lineage, tail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import typer

from ..audit import CheckpointAudit, Filter, Listed
from ..audit.conversation import holds_snapshots
from ..audit.kinds import TURNS, LogKind
from ..audit.lineage import walk
from ..audit.part_of_run import PartOfRun
from ..events import CheckpointEvent, RunInfo, StreamId
from ..rendering.cursor import history_place, is_token, place_in, runs_listing, token_after, token_of
from ..rendering.fields import count_fields, event_fields, node_fields, run_fields
from ..rendering.filters import filter_of
from ..rendering.lineage import node_text
from ..rendering.times import TIME, moment
from ..rendering.turns import roles_text, type_text
from ..rendering.words import about_text, not_gone_yet, removed_text, standing_of, stream_text
from . import completion
from .cursor import After, say_more
from .following import followed
from .options import CheckpointName, Full, RunName, Upcast, upcasters_in
from .output import Listing, Output
from .render import EVENT_COLUMNS, RUN_COLUMNS, event_row, run_row
from .session import USAGE, Allow, Failure, Session, Workflow, command
from .sessions import Looked, latest_of, list_sessions, say_late
from .turns import TURN_COLUMNS, show_held, turn_row

__all__ = ["at", "commands", "history", "lineage", "runs", "show", "tail"]

commands: Final = typer.Typer()

_DEEP = 40  # branches of branches that are still drawn further right


@command(commands, "runs")
async def runs(
    session: Session,
    workflow: Workflow = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only running, waiting, open, done, failed or cancelled ones; several with commas. idle: done or open."
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only runs with this tag, name=value. Repeat it.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only runs written to since {TIME}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only runs last written to before {TIME}.")] = None,
    pending: Annotated[bool, typer.Option(help="Only runs that wait for an answer.")] = False,
    request: Annotated[
        str | None, typer.Option(help="Only runs that wait for a request whose id, type or executor begins so.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only runs last written to by this actor.")] = None,
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    after: Annotated[
        str | None, typer.Option(help="Go on where a listing ended: the token that it gave, or a run.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    latest: Looked = "log",
) -> None:
    """List runs, the last written to first. With --turns, as `sessions`."""
    if session.turns:
        session.not_of_turns(status=status, since=since, until=until, pending=pending, request=request)
        session.not_of_turns(actor=actor, count=count, tag=tag)
        await list_sessions(session, workflow, "", limit, latest, after)
        return
    which = filter_of(
        workflow=workflow,
        status=status,
        tags=tag or (),
        since=since,
        until=until,
        pending=pending,
        request=request,
        actor=actor,
    )
    audit = await session.audit(latest=latest_of(latest))
    behind = await _behind(audit, after, runs_listing(audit.latest), workflow)
    if count:
        counts = await audit.counts(which, after=behind)
        session.out.record("count", count_fields(counts))
        session.out.line(str(counts.all))
        say_late(session.out, audit)
    else:
        await _list_runs(session.out, audit, which, behind, limit)


async def _list_runs(
    out: Output, audit: CheckpointAudit, which: Filter, behind: StreamId | Listed | None, limit: int
) -> None:
    listing, found, more = Listing(out, "run", RUN_COLUMNS), 0, ""
    last: RunInfo | None = None
    async with aclosing(audit.runs(which, after=behind)) as infos:
        async for info in infos:
            if last is not None and limit and found == limit:
                more = token_of(runs_listing(audit.latest), Listed.of(last))
                break
            found, last = found + 1, info
            listing.add(run_fields(info), run_row(info))
    listing.flush()
    say_late(out, audit)
    if more:
        say_more(out, more)
    elif not found:
        out.nothing("No runs fit." if behind is None else "No more runs fit.")


async def _behind(
    audit: CheckpointAudit, after: str | None, listing: str, workflow: str | None
) -> StreamId | Listed | None:
    """What runs are listed behind: where a token stands, or a run as it is now."""
    if after is None or is_token(after):
        return place_in(after, listing, Listed)
    return await audit.run(after, workflow_name=workflow)


@command(commands, "history")
async def history(
    session: Session,
    run: RunName,
    workflow: Workflow = None,
    newest: Annotated[int, typer.Option("--last", help="Only so many of the newest; 0 for all.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 0,
    after: After = None,
) -> None:
    """List every event of a run: what was in flight, who wrote it, who answered which request. With --turns: which
    messages, where it branched, and what was cleared."""
    if newest and (limit or after is not None):
        raise Failure(USAGE, "Give --last, or --limit and --after: the one begins at the end, the others lead to it.")
    audit = await session.audit()
    stream = await audit.run(run, workflow_name=workflow)
    place = history_place(after, stream)
    part = PartOfRun(audit.store, stream, newest=newest, gt=0 if place is None else place.seq, limit=limit)
    columns, row = (TURN_COLUMNS, turn_row) if session.turns else (EVENT_COLUMNS, event_row)
    listing = Listing(session.out, "event", columns)
    async with aclosing(part.headers()) as headers:
        async for header in headers:
            listing.add(event_fields(header), row(header))
    listing.flush()
    if part.has_more:
        say_more(session.out, token_after(stream, part.last_seq))
    elif place is not None and not part.last_seq:
        session.out.nothing(f"The {audit.kind.stream} has no more events.")
    if part.is_closed:
        await _say_removed(session.out, audit, stream)
    elif count := part.not_gone_yet:
        session.out.note(not_gone_yet(stream, count, audit.kind.stream))


@command(commands, "show")
async def show(
    session: Session,
    checkpoint: CheckpointName,
    workflow: Workflow = None,
    allow: Allow = None,
    upcast: Upcast = None,
    full: Full = False,
) -> None:
    """Show a checkpoint's state, or a turn's messages. Types that are not allowed are named and measured, never
    decoded."""
    audit = await session.audit(allow=allow, upcasters=upcasters_in(upcast))
    event = await audit.event(checkpoint, workflow_name=workflow)
    show_held(session.out, event, await audit.tree(event, upcast=bool(upcast)), full=full)


@command(commands, "at")
async def at(
    session: Session,
    run: RunName,
    workflow: Workflow = None,
    seq: Annotated[int | None, typer.Option(help="As of this event.")] = None,
    time: Annotated[str | None, typer.Option(help=f"As of {TIME}.")] = None,
    iteration: Annotated[int | None, typer.Option(help="As of this superstep.")] = None,
    allow: Allow = None,
    upcast: Upcast = None,
    full: Full = False,
) -> None:
    """Show the state that a run had at a point: the last checkpoint up to then. With --turns, the conversation."""
    session.not_of_turns(iteration=iteration)
    if sum(point is not None for point in (seq, time, iteration)) > 1:
        raise Failure(USAGE, "Give one of --seq, --time and --iteration.")
    audit = await session.audit(allow=allow, upcasters=upcasters_in(upcast))
    stream = await audit.run(run, workflow_name=workflow)
    if session.turns and not await holds_snapshots(audit.store, stream):
        turns = audit.conversation(stream, seq=seq, time=moment(time, "--time"))
        if not await _show_each(session.out, audit, turns, upcast=bool(upcast), full=full):
            await _say_removed(session.out, audit, stream)
        return
    event = await audit.at(stream, seq=seq, time=moment(time, "--time"), iteration=iteration)
    show_held(session.out, event, await audit.tree(event, upcast=bool(upcast)), full=full)


@command(commands, "lineage")
async def lineage(
    session: Session,
    run: RunName,
    workflow: Workflow = None,
    forks: Annotated[bool, typer.Option(help="Also look for runs that forked from it.")] = True,
) -> None:
    """Draw the tree of a run's checkpoints: branches, forks, and the runs they went to."""
    audit = await session.audit()
    stream = await audit.run(run, workflow_name=workflow)
    roots = await audit.lineage(stream, forks=forks)
    await _origin_line(session.out, audit, stream)
    if not roots:
        await _say_removed(session.out, audit, stream)
    for depth, branch, node in walk(roots):
        session.out.record("node", node_fields(depth, branch, node))
        indent = "   " * min(depth, _DEEP)
        session.out.line(f"{indent}{'└─ ' if branch else ''}{node_text(node, audit.kind)}")
        for fork in node.forks:
            session.out.line(f"{indent}   ╲ {audit.kind.stream} {fork.run_id} begins here")


@command(commands, "tail")
async def tail(
    session: Session,
    run: Annotated[
        list[str] | None,
        typer.Option(help="Only this run, by id or the beginning of one. Repeat it.", autocompletion=completion.runs),
    ] = None,
    workflow: Annotated[
        list[str] | None,
        typer.Option(
            "--workflow",
            "-w",
            help="Only runs of this workflow. Repeat it; with --run, one, which the run is of.",
            autocompletion=completion.workflows,
        ),
    ] = None,
    last: Annotated[int, typer.Option("--last", help="Begin with so many of the newest events.", min=0)] = 10,
    limit: Annotated[int, typer.Option(help="End after so many events; 0 for never.", min=0)] = 0,
    poll: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 0.5,
) -> None:
    """Follow events as they are committed, of all runs or of some, until interrupted."""
    if run and len(workflow or ()) > 1:
        raise Failure(USAGE, "--run takes one --workflow, which the runs are of.")
    audit = await session.audit()
    of = workflow[0] if run and workflow else None
    streams = {await audit.run(name, workflow_name=of) for name in run or ()}
    seen = 0
    async with aclosing(followed(audit.store, streams, workflow or (), last=last, poll=poll)) as headers:
        async for header in headers:
            out = session.out
            out.record("event", event_fields(header))
            out.brief(
                f"{out.time(header.recorded_at)}  {_named(out, header.stream)}  seq {header.seq}  "
                f"{_what_came(header, audit.kind)}" + (f"  by {header.actor}" if header.actor else "")
            )
            seen += 1
            if seen == limit:
                return


async def _show_each(
    out: Output, audit: CheckpointAudit, turns: AsyncGenerator[CheckpointEvent, None], *, upcast: bool, full: bool
) -> int:
    """Turns, one held at a time; how many there were."""
    shown = 0
    async with aclosing(turns):
        async for turn in turns:
            if shown:
                out.line()
            show_held(out, turn, await audit.tree(turn, upcast=upcast), full=full)
            shown += 1
    if not shown:
        out.nothing("The session held no turn at that point.")
    return shown


async def _say_removed(out: Output, audit: CheckpointAudit, stream: StreamId) -> None:
    """Say of a run, or of a session, of which nothing was shown, that it was removed as a whole, if it was."""
    if (gone := await audit.removed(stream)) is not None:
        out.note(removed_text(gone, audit.kind.stream, head_seq=gone.seq, time=out.time))


async def _origin_line(out: Output, audit: CheckpointAudit, stream: StreamId) -> None:
    info = await audit.info(stream)
    origin = info.forked_from if info else None
    if origin is None:
        return
    kind = audit.kind
    out.line(f"forked from seq {origin.seq} of {kind.stream} {origin.run_id}, {kind.entry} {origin.checkpoint_id}")
    gone = await audit.removed(StreamId(origin.workflow_name, origin.run_id))
    if gone is not None and gone.seq > origin.seq:
        out.line(f"  which was removed {out.time(gone.recorded_at)}{f' by {gone.actor}' if gone.actor else ''}")


def _named(out: Output, stream: StreamId) -> str:
    """A stream, in a line that is brief."""
    if not stream.is_run:
        return stream_text(stream, "")
    return f"{out.name(stream.run_id)} of {out.name(stream.workflow_name)}"


def _what_came(header: CheckpointEvent, kind: LogKind) -> str:
    if kind is TURNS and header.removal is None:
        return f"{type_text(header)}  {roles_text(header)}".rstrip()
    if not header.checkpoint_id:
        return f"{header.what}  {about_text(header)}".rstrip()
    return f"{header.type}  iteration {header.iteration_count}{standing_of(header, before='  ')}"
