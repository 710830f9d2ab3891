"""Commands that look: runs, history, show, at, lineage, tail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
import typer

from ..audit import CheckpointAudit, Filter, Listed
from ..audit.kinds import TURNS, LogKind
from ..audit.lineage import Node, walk
from ..audit.preflight import UNFINISHED
from ..audit.resolve import shown
from ..events import CheckpointEvent, RunInfo, RunStatus, StreamId
from ..removals import Removals
from ..runs import ENDED
from . import completion
from .cursor import After, is_token, place_in, say_more, token_of
from .following import followed
from .options import CheckpointName, Full, RunName, Upcast, statuses_in, tags_in, upcasters_in
from .output import Listing, Output
from .render import (
    EVENT_COLUMNS,
    RUN_COLUMNS,
    about_text,
    event_fields,
    event_row,
    not_gone_yet,
    removed_text,
    run_fields,
    run_row,
    standing_of,
    stream_text,
    what_of,
)
from .session import USAGE, Allow, Failure, Session, Workflow, command
from .sessions import latest_of, list_sessions
from .times import TIME, moment
from .turns import TURN_COLUMNS, roles_text, show_held, turn_row, type_text

__all__ = ["at", "commands", "history", "holds_snapshots", "lineage", "runs", "show", "tail"]

commands: Final = typer.Typer()

_STATUSES: Final[tuple[RunStatus, ...]] = (*UNFINISHED, *ENDED, "idle")
_HISTORY: Final = "eventckpt history"
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
    latest: Annotated[
        str, typer.Option(help="Where to look: in the log, or in the projection, quicker and maybe late.")
    ] = "log",
) -> None:
    """List runs, the last written to first. With --turns, as `sessions`."""
    if session.turns:
        session.not_of_turns(status=status, since=since, until=until, pending=pending, request=request)
        session.not_of_turns(actor=actor, count=count, tag=tag)
        await list_sessions(session, workflow, "", limit, latest, after)
        return
    which = Filter(
        workflow_name=workflow,
        status=statuses_in(status, _STATUSES) if status is not None else None,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        request=request if request is not None else ("" if pending else None),
        actor=actor,
        tags=tags_in(tag),
    )
    where = latest_of(latest)
    name = "eventckpt runs" if where == "log" else "eventckpt runs --latest projection"
    audit = await session.audit(latest=where)
    behind = await _behind(audit, after, name, workflow)
    listing, found, more = Listing(session.out, "run", RUN_COLUMNS), 0, ""
    last: RunInfo | None = None
    async with aclosing(audit.runs(which, after=behind)) as infos:
        async for info in infos:
            if last is not None and limit and found == limit and not count:
                more = token_of(name, Listed.of(last))
                break
            found, last = found + 1, info
            if not count:
                listing.add(run_fields(info), run_row(info))
    listing.flush()
    _end(session.out, found, more, is_counted=count, is_first=behind is None)


def _end(out: Output, found: int, more: str, *, is_counted: bool, is_first: bool) -> None:
    """What is said behind a listing of runs: how many there are, how to go on, or that there was nothing."""
    if is_counted:
        out.record("count", {"runs": found})
        out.line(str(found))
    elif more:
        say_more(out, more)
    elif not found:
        out.nothing("No runs fit." if is_first else "No more runs fit.")


async def _behind(
    audit: CheckpointAudit, after: str | None, listing: str, workflow: str | None
) -> StreamId | Listed | None:
    """What runs are listed behind: where a token stands, or a run as it is now."""
    if after is None or is_token(after):
        return place_in(after, listing, Listed)
    return await audit.run(after, workflow_name=workflow)


class _Reached(msgspec.Struct, frozen=True):
    """How far a run was listed."""

    workflow_name: str
    run_id: str
    seq: int

    @property
    def stream(self) -> StreamId:
        return StreamId(self.workflow_name, self.run_id)


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
    place = place_in(after, _HISTORY, _Reached)
    if place is not None and place.stream != stream:
        raise Failure(USAGE, f"--after: that token is of the history of {shown(place.stream)}, not of {shown(stream)}.")
    columns, row = (TURN_COLUMNS, turn_row) if session.turns else (EVENT_COLUMNS, event_row)
    listing, removals = Listing(session.out, "event", columns), Removals()
    seqs: list[int] = []
    is_closed = is_more = False

    def show(header: CheckpointEvent) -> None:
        nonlocal is_closed
        is_closed = header.closes
        removals.add(header)
        seqs.append(header.seq)
        listing.add(event_fields(header), row(header))

    if newest:
        headers: list[CheckpointEvent] = []
        async with aclosing(audit.history(stream, desc=True)) as backwards:
            async for header in backwards:
                headers.append(header)
                if len(headers) == newest:
                    break
        for header in reversed(headers):
            show(header)
    else:
        async with aclosing(audit.store.headers(stream, gt=0 if place is None else place.seq)) as forwards:
            async for header in forwards:
                if limit and len(seqs) == limit:
                    is_more = True
                    break
                show(header)
    listing.flush()
    if is_more:
        say_more(session.out, token_of(_HISTORY, _Reached(stream.workflow_name, stream.run_id, seqs[-1])))
    elif place is not None and not seqs:
        session.out.nothing(f"The {audit.kind.stream} has no more events.")
    if is_closed:
        await _say_removed(session.out, audit, stream)
    elif removals and (count := sum(map(removals.covers, seqs))):
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
    if session.turns and not await holds_snapshots(audit, stream):
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
        session.out.record(
            "node",
            {
                "checkpoint_id": node.checkpoint_id,
                "depth": depth,
                "branch": branch,
                "event": event_fields(node.event) if node.event else None,
                "children": [child.checkpoint_id for child in node.children],
                "forks": [_fork_fields(fork) for fork in node.forks],
            },
        )
        indent = "   " * min(depth, _DEEP)
        session.out.line(f"{indent}{'└─ ' if branch else ''}{_node_text(node, audit.kind)}")
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
        out.note(removed_text(out, gone, audit.kind.stream, head_seq=gone.seq))


async def holds_snapshots(audit: CheckpointAudit, stream: StreamId) -> bool:
    """Whether a stream among sessions is what a host keeps of one, of which each event is the whole."""
    async with aclosing(audit.history(stream)) as headers:
        async for header in headers:
            if header.type != "tombstone":
                return header.type == "session"
    return False


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
        return f"{what_of(header)}  {about_text(header)}".rstrip()
    return f"{header.type}  iteration {header.iteration_count}{standing_of(header, before='  ')}"


def _fork_fields(fork: CheckpointEvent) -> dict[str, Any]:
    return {"workflow_name": fork.workflow_name, "run_id": fork.run_id, "checkpoint_id": fork.checkpoint_id}


def _node_text(node: Node, kind: LogKind) -> str:
    checkpoint_id, event = node.checkpoint_id, node.event
    if event is None:
        return f"{checkpoint_id} (not in this {kind.stream})"
    if event.type == "tombstone":
        return f"{checkpoint_id} (deleted at seq {event.seq})"
    if event.type != "checkpoint":
        return f"{checkpoint_id}  seq {event.seq}{', '.join(['', roles_text(event)]) if event.turn else ''}"
    made = f", made by the migration {event.migration.name}" if event.migration else ""
    return f"{checkpoint_id}  seq {event.seq}, superstep {event.iteration_count}{standing_of(event)}{made}"
