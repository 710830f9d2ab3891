"""Commands that look: runs, history, show, at, lineage, tail."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
import typer

from ..audit import Filter, Latest
from ..audit.lineage import walk
from ..events import CheckpointEvent, PendingRequest, RunInfo, RunStatus, StreamId
from ..removals import Removals
from ..runs import status as status_of
from .check import not_gone_yet
from .output import Column, Listing, Output, plain_tree, safe, tree_lines
from .session import USAGE, Allow, Failure, Session, Workflow, command, moment

__all__ = ["event_fields", "register", "show_event", "standing"]

_RUN = typer.Argument(help="A run's id, or the beginning of one.")
_CHECKPOINT = typer.Argument(help="A checkpoint's id, the beginning of one, or RUN@SEQ.")
_STATUSES: dict[str, RunStatus] = {
    "running": "running",
    "waiting": "waiting",
    "done": "done",
    "open": "open",
    "idle": "idle",
}
_DEEP = 40  # branches of branches that are still drawn further right
_LATEST: dict[str, Latest] = {"log": "log", "projection": "projection"}

_RUN_COLUMNS = [
    Column("run"),
    Column("workflow"),
    Column("status"),
    Column("events", right=True),
    Column("iteration", right=True),
    Column("stored", right=True),
    Column("last written"),
    Column("actor"),
    Column("waits for"),
]
_EVENT_COLUMNS = [
    Column("seq", right=True),
    Column("recorded"),
    Column("type"),
    Column("iteration", right=True),
    Column("checkpoint"),
    Column("messages"),
    Column("pending"),
    Column("answered"),
    Column("raw", right=True),
    Column("stored", right=True),
    Column("as"),
    Column("actor"),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""

    @command(app, "runs")
    async def runs(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        workflow: Workflow = None,
        status: Annotated[
            str | None, typer.Option(help="Only running, waiting, done or open ones; idle: done or open.")
        ] = None,
        since: Annotated[str | None, typer.Option(help="Only runs written to at this time or later.")] = None,
        until: Annotated[str | None, typer.Option(help="Only runs last written to before this time.")] = None,
        pending: Annotated[bool, typer.Option(help="Only runs that wait for an answer.")] = False,
        request: Annotated[
            str | None, typer.Option(help="Only runs that wait for a request whose id, type or executor begins so.")
        ] = None,
        actor: Annotated[str | None, typer.Option(help="Only runs last written to by this actor.")] = None,
        limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
        after: Annotated[str | None, typer.Option(help="Go on behind this run of the listing.")] = None,
        count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
        latest: Annotated[
            str, typer.Option(help="Where to look: in the log, or in the projection, quicker and maybe late.")
        ] = "log",
    ) -> None:
        """List runs, the last written to first."""
        if status is not None and status not in _STATUSES:
            raise Failure(USAGE, f"--status is {', '.join(_STATUSES)}, not {status!r}.")
        if latest not in _LATEST:
            raise Failure(USAGE, f"--latest is {' or '.join(_LATEST)}, not {latest!r}.")
        which = Filter(
            workflow_name=workflow,
            status=_STATUSES[status] if status else None,
            since=moment(since, "--since"),
            until=moment(until, "--until"),
            request=request if request is not None else ("" if pending else None),
            actor=actor,
        )
        audit = await session.audit(latest=_LATEST[latest])
        behind = await audit.run(after, workflow_name=workflow) if after is not None else None
        listing, found, more, last = Listing(session.out, "run", _RUN_COLUMNS), 0, False, ""
        async with aclosing(audit.runs(which, after=behind)) as infos:
            async for info in infos:
                if limit and found == limit and not count:
                    more = True
                    break
                found += 1
                if not count:
                    listing.add(msgspec.structs.asdict(info), _run_row(info))
                    last = info.run_id
        listing.flush()
        if count:
            session.out.record("count", {"runs": found})
            session.out.line(str(found))
        elif more:
            session.out.record("more", {"after": last})
            session.out.note(f"There are more: --after {last}, or --limit 0 for all.")
        elif not found:
            session.out.note("No runs fit." if behind is None else "No more runs fit.")

    @command(app, "history")
    async def history(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        run: Annotated[str, _RUN],
        workflow: Workflow = None,
        newest: Annotated[int, typer.Option("--last", help="Only so many of the newest; 0 for all.", min=0)] = 0,
    ) -> None:
        """List every event of a run: what was in flight, who wrote it, who answered which request."""
        audit = await session.audit()
        stream = await audit.run(run, workflow_name=workflow)
        listing, removals = Listing(session.out, "event", _EVENT_COLUMNS), Removals()
        seqs: list[int] = []

        def show(header: CheckpointEvent) -> None:
            removals.add(header)
            seqs.append(header.seq)
            listing.add(event_fields(header), _event_row(header))

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
            async for header in audit.history(stream):
                show(header)
        listing.flush()
        if removals and (count := sum(map(removals.covers, seqs))):
            session.out.note(not_gone_yet(stream, count))

    @command(app, "show")
    async def show(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        checkpoint: Annotated[str, _CHECKPOINT],
        workflow: Workflow = None,
        allow: Allow = None,
        full: Annotated[bool, typer.Option("--full", help="Do not shorten anything.")] = False,
    ) -> None:
        """Show a checkpoint's state. Types that are not allowed are named and measured, never decoded."""
        audit = await session.audit(allow=allow)
        event = await audit.event(checkpoint, workflow_name=workflow)
        show_event(session.out, event, await audit.tree(event), full=full)

    @command(app, "at")
    async def at(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        run: Annotated[str, _RUN],
        workflow: Workflow = None,
        seq: Annotated[int | None, typer.Option(help="As of this event.")] = None,
        time: Annotated[str | None, typer.Option(help="As of this time.")] = None,
        iteration: Annotated[int | None, typer.Option(help="As of this superstep.")] = None,
        allow: Allow = None,
        full: Annotated[bool, typer.Option("--full", help="Do not shorten anything.")] = False,
    ) -> None:
        """Show the state that a run had at a point: the last checkpoint up to then."""
        if sum(point is not None for point in (seq, time, iteration)) > 1:
            raise Failure(USAGE, "Give one of --seq, --time and --iteration.")
        audit = await session.audit(allow=allow)
        stream = await audit.run(run, workflow_name=workflow)
        event = await audit.at(stream, seq=seq, time=moment(time, "--time"), iteration=iteration)
        show_event(session.out, event, await audit.tree(event), full=full)

    @command(app, "lineage")
    async def lineage(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        run: Annotated[str, _RUN],
        workflow: Workflow = None,
        forks: Annotated[bool, typer.Option(help="Also look for runs that forked from it.")] = True,
    ) -> None:
        """Draw the tree of a run's checkpoints: branches, forks, and the runs they went to."""
        audit = await session.audit()
        stream = await audit.run(run, workflow_name=workflow)
        roots = await audit.lineage(stream, forks=forks)
        await _origin_line(session, stream)
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
            session.out.line(f"{indent}{'└─ ' if branch else ''}{_node_text(node.checkpoint_id, node.event)}")
            for fork in node.forks:
                session.out.line(f"{indent}   ╲ run {fork.run_id} begins here")

    @command(app, "tail")
    async def tail(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        last: Annotated[int, typer.Option("--last", help="Begin with so many of the newest events.", min=0)] = 10,
        limit: Annotated[int, typer.Option(help="End after so many events; 0 for never.", min=0)] = 0,
        poll: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 0.5,
    ) -> None:
        """Follow the events of all runs as they are committed, until interrupted."""
        audit = await session.audit()
        seen = 0
        async with aclosing(audit.store.follow(last=last, poll=poll)) as headers:
            async for header in headers:
                session.out.record("event", event_fields(header))
                session.out.line(
                    f"{_time(header.recorded_at)}  {header.run_id} of {header.workflow_name}  seq {header.seq}  "
                    f"{header.type}  iteration {header.iteration_count}{_standing_of(header, before='  ')}"
                    + (f"  by {header.actor}" if header.actor else "")
                )
                seen += 1
                if seen == limit:
                    return


def show_event(out: Output, event: CheckpointEvent, tree: dict[str, Any], *, full: bool) -> None:
    """A checkpoint: first what its header says, then its state."""
    out.record("checkpoint", {**event_fields(event), "tree": {key: plain_tree(part) for key, part in tree.items()}})
    if out.as_json:
        return
    out.line(f"checkpoint {event.checkpoint_id}", style="bold")
    out.line(f"  seq {event.seq} of run {event.run_id}, workflow {event.workflow_name}")
    out.line(f"  superstep {event.iteration_count}{_standing_of(event)}, recorded {_time(event.recorded_at)}")
    if event.actor:
        out.line(f"  written by {event.actor}")
    for name in ("messages", "pending_request_info_events", "state", "metadata"):
        out.line()
        for line in tree_lines(tree.get(name), name, full=full):
            out.line(line)


def event_fields(event: CheckpointEvent) -> dict[str, Any]:
    """The header of an event as JSON. What is deleted says nothing of how the run stands."""
    return msgspec.structs.asdict(event.header()) | {
        "status": status_of(event) if event.type == "checkpoint" else None,
    }


def standing(status: RunStatus, asked: Sequence[PendingRequest]) -> str:
    """How a run stands, in words: one that is running may have questions, too."""
    if status == "waiting":
        return f"waiting for {len(asked)}"
    return f"{status}, waits for {len(asked)}" if asked else status


def _standing_of(event: CheckpointEvent, before: str = ", ") -> str:
    if event.type == "tombstone":
        return ""
    return before + standing(status_of(event), event.summary.pending_requests)


async def _origin_line(session: Session, stream: StreamId) -> None:
    audit = await session.audit()
    info = await audit.info(stream)
    origin = info.forked_from if info else None
    if origin is not None:
        session.out.line(f"forked from seq {origin.seq} of run {origin.run_id}, checkpoint {origin.checkpoint_id}")


def _fork_fields(fork: CheckpointEvent) -> dict[str, Any]:
    return {"workflow_name": fork.workflow_name, "run_id": fork.run_id, "checkpoint_id": fork.checkpoint_id}


def _node_text(checkpoint_id: str, event: CheckpointEvent | None) -> str:
    if event is None:
        return f"{checkpoint_id} (not in this run)"
    if event.type == "tombstone":
        return f"{checkpoint_id} (deleted at seq {event.seq})"
    return f"{checkpoint_id}  seq {event.seq}, superstep {event.iteration_count}{_standing_of(event)}"


def _run_row(info: RunInfo) -> list[str]:
    waits = ", ".join(f"{asked.source_executor_id}: {asked.request_type}" for asked in info.pending_requests)
    return [
        info.run_id,
        info.workflow_name,
        info.status,
        str(info.checkpoints + info.tombstones),
        str(info.iteration_count),
        f"{info.stored_size:,}",
        _time(info.recorded_at),
        info.actor or "",
        waits,
    ]


def _event_row(event: CheckpointEvent) -> list[str]:
    summary, payload = event.summary, event.payload
    messages = ", ".join(f"{source} {count}" for source, count in summary.messages.items() if count)
    stored_as = "" if payload is None else "snapshot" if payload.base_seq is None else f"delta on {payload.base_seq}"
    return [
        str(event.seq),
        _time(event.recorded_at),
        "prune record" if event.pruned else event.type,
        str(event.iteration_count),
        event.checkpoint_id,
        messages,
        ", ".join(f"{asked.request_id} from {asked.source_executor_id}" for asked in summary.pending_requests),
        ", ".join(summary.answered_requests),
        f"{payload.raw_size:,}" if payload else "",
        f"{payload.stored_size:,}" if payload else "",
        stored_as or _pruned_text(event),
        event.actor or "",
    ]


def _pruned_text(event: CheckpointEvent) -> str:
    return ", ".join(f"gone: {removed.first} to {removed.last}" for removed in event.pruned)


def _time(text: str) -> str:
    """To the second, as stored: with its own offset."""
    return safe(text[:19].replace("T", " "))
