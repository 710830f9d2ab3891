"""The command that says what one run, or one session, amounts to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import typer

from ..audit import CheckpointAudit
from ..audit.glance import Fork, Glance, glance_at
from ..errors import RunNotFoundError
from ..events import PendingRequest, RunInfo, StreamId
from ..history.listing import SessionInfo, sessions_of
from ..storage.claiming import Holder
from ..traceparent import trace_id_in
from .options import RunName
from .output import Listing, Output
from .render import (
    EVENT_COLUMNS,
    event_fields,
    event_row,
    removed_fields,
    removed_text,
    run_fields,
    said_text,
    standing,
    status_of_run,
)
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
        out.record("removed", msgspec.structs.asdict(stream) | removed_fields(gone))
        out.line(removed_text(out, gone, audit.kind.stream, head_seq=found.info.seq))
    if out.as_json:
        for event in found.last:
            out.record("event", event_fields(event))
        return
    columns, row = (TURN_COLUMNS, turn_row) if session.turns else (EVENT_COLUMNS, event_row)
    out.line()
    listing = Listing(out, "event", columns)
    for event in found.last:
        listing.add({}, row(event))
    listing.flush()


def _show_run(out: Output, found: Glance) -> None:
    info = found.info
    out.record("run", run_fields(info))
    if found.holder is not None:
        out.record("claim", msgspec.structs.asdict(info.stream) | _claim_fields(found.holder))
    for fork in found.forks:
        out.record("fork", msgspec.structs.asdict(fork.stream) | {"forked_from": fork.origin})
    out.line(f"run {info.run_id} of {info.workflow_name}", style="bold")
    for name, text in _said(out, found):
        out.line(f"  {name:<{_WIDTH}}{text}")


def _said(out: Output, found: Glance) -> Iterator[tuple[str, str]]:
    """What there is to say of a run, each with its name."""
    info = found.info
    pending = info.pending_requests if info.waiting_since else ()
    more = ": nothing of it counts any more" if info.is_emptied else ""
    yield "status", standing(status_of_run(info), pending) + more
    for asked in pending[:_SHOWN]:
        yield "waits for", _question(out, info, asked)
        yield "answer with", _how_to_answer(info.stream, asked)
    if len(pending) > _SHOWN:
        yield "waits for", f"{len(pending) - _SHOWN:,} more: --json has them all"
    if said := said_text(info):
        yield "annotations", said
    if found.holder is not None:
        yield "claim", found.holder.named()
    if info.checkpoint_id is not None:
        yield "checkpoint", f"{info.checkpoint_id}, seq {info.checkpoint_seq}, superstep {info.iteration_count}"
    if trace_id := trace_id_in(info.traceparent):
        yield "trace", trace_id
    yield from _counts(out, info)
    if (origin := info.forked_from) is not None:
        yield "forked from", f"seq {origin.seq} of run {origin.run_id}"
    for fork in found.forks[:_SHOWN]:
        yield "forked to", _fork_text(fork)
    if len(found.forks) > _SHOWN:
        yield "forked to", f"{len(found.forks) - _SHOWN:,} more: `eventckpt lineage` has them all"


def _counts(out: Output, info: RunInfo, entries: str = "checkpoints") -> Iterator[tuple[str, str]]:
    """How much there is of a stream, and from when to when."""
    removed = f", {info.removed:,} removed" if info.removed else ""
    yield "events", f"{info.checkpoints:,} of {entries}, {info.tombstones:,} others{removed}"
    yield "stored", f"{info.stored_size:,} bytes"
    yield "began", out.time(info.started_at)
    yield "last written", out.time(info.recorded_at) + (f" by {info.actor}" if info.actor else "")


def _question(out: Output, info: RunInfo, asked: PendingRequest) -> str:
    since = out.time(info.asked_at(asked))
    return f"{asked.request_id} from {asked.source_executor_id}, asked {since}: {asked.prompt or asked.request_type}"


def _how_to_answer(stream: StreamId, asked: PendingRequest) -> str:
    """The command that answers a question, to be copied: so nothing stored means anything to a shell in it."""
    names = [stream.run_id, asked.request_id]
    words, how = " ".join(map(_quoted, names)), "--json ANSWER --app MODULE:CALLABLE"
    of_type = f"  (JSON of {asked.response_type})" if asked.response_type else ""
    looks_like_an_option = any(name.startswith("-") for name in names)
    return f"eventckpt answer {f'{how} -- {words}' if looks_like_an_option else f'{words} {how}'}{of_type}"


def _quoted(word: str) -> str:
    """A word that a shell gives back as it is; what cannot be printed is spelled out, as bash and zsh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_spelled, word))}'"


def _spelled(mark: str) -> str:
    if mark in "\\'":
        return f"\\{mark}"
    if mark.isprintable():
        return mark
    number = ord(mark)
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _fork_text(fork: Fork) -> str:
    return f"run {fork.stream.run_id} at seq {fork.origin.seq}"


def _claim_fields(holder: Holder) -> dict[str, Any]:
    return {"owner": holder.owner, "expires_at": holder.expires_at, "ttl": holder.ttl}


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
    yield from _counts(out, info, "turns")
    if (origin := info.forked_from) is not None:
        yield "forked from", f"seq {origin.seq} of session {origin.run_id}"
