"""How the commands say what an event, a run or a checkpoint is: in a line, in a row of a listing, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from ..audit import Problem
from ..audit.removed import Removed
from ..codec.tree import Tree
from ..events import (
    REMOVALS,
    Annotation,
    CheckpointEvent,
    Migration,
    Payload,
    PendingRequest,
    Removal,
    RunInfo,
    StreamId,
)
from ..runs import status as status_of
from ..text import cell
from ..traceparent import trace_id_in
from .output import Column, Output, plain_tree, tree_lines

__all__ = [
    "EVENT_COLUMNS",
    "RUN_COLUMNS",
    "about_text",
    "event_fields",
    "event_row",
    "fields_of",
    "held_fields",
    "kind_style",
    "not_gone_yet",
    "problem_text",
    "pruned_text",
    "removal_text",
    "removed_fields",
    "removed_text",
    "run_fields",
    "run_row",
    "said_text",
    "show_event",
    "standing",
    "standing_of",
    "status_of_run",
    "status_style",
    "stream_text",
    "tag_texts",
    "what_of",
]

_STATUS_STYLES: Final = {
    "running": "cyan",
    "waiting": "yellow",
    "done": "green",
    "failed": "red",
    "cancelled": "magenta",
}


def status_style(text: str) -> str:
    """The style of a text that begins with how a run stands."""
    return _STATUS_STYLES.get(text.partition(" ")[0].rstrip(","), "")


def kind_style(text: str) -> str:
    """The style of what kind of event something is: what holds no state steps back."""
    return "" if text in ("checkpoint", "migration", "turn", "session") else "dim"


RUN_COLUMNS: Final = [
    Column("run", holds="id"),
    Column("workflow", holds="text", rank=2),
    Column("status", holds="text", style=status_style),
    Column("events", right=True, rank=3),
    Column("iteration", right=True, rank=5),
    Column("stored", right=True, rank=6),
    Column("last written", holds="time"),
    Column("actor", holds="text", rank=4),
    Column("waits for", holds="text", rank=1),
]
EVENT_COLUMNS: Final = [
    Column("seq", right=True),
    Column("recorded", holds="time"),
    Column("type", style=kind_style),
    Column("iteration", right=True, rank=5),
    Column("checkpoint", holds="id"),
    Column("messages", holds="text", rank=3),
    Column("pending", holds="text", rank=1),
    Column("answered", holds="text", rank=6),
    Column("raw", right=True, rank=8),
    Column("stored", right=True, rank=7),
    Column("as", holds="text", rank=2),
    Column("actor", holds="text", rank=4),
    Column("claim", right=True, wide=True),
    Column("trace", wide=True),
]


_HASH: Final = 12  # digits of a graph's hash that are shown
_NAMED: Final = 3  # of the runs that were removed at once


def show_event(out: Output, event: CheckpointEvent, tree: dict[str, Any], *, full: bool) -> None:
    """A checkpoint: first what its header says, then its state."""
    out.record("checkpoint", held_fields(event, tree))
    if out.as_json:
        return
    out.line(f"checkpoint {event.checkpoint_id}", style="bold")
    out.line(f"  seq {event.seq} of run {event.run_id}, workflow {event.workflow_name}")
    out.line(f"  superstep {event.iteration_count}{standing_of(event)}, recorded {out.time(event.recorded_at)}")
    if event.actor:
        out.line(f"  written by {event.actor}")
    if trace_id := trace_id_in(event.traceparent):
        out.line(f"  in trace {trace_id}")
    if event.migration is not None:
        out.line(f"  made by the migration {event.migration.name}{_graph_change(event, event.migration)}")
    for name in ("messages", "pending_request_info_events", "state", "metadata"):
        out.line()
        for line in tree_lines(tree.get(name), name, full=full):
            out.line(line)


def held_fields(event: CheckpointEvent, tree: Mapping[str, Tree]) -> dict[str, Any]:
    """An event with what it holds, as JSON."""
    return {**event_fields(event), "tree": {key: plain_tree(part) for key, part in tree.items()}}


def _graph_change(event: CheckpointEvent, migration: Migration) -> str:
    before, after = migration.graph_before, event.graph_signature_hash
    return "" if before == after else f", graph {before[:_HASH]} → {after[:_HASH]}"


def event_fields(event: CheckpointEvent) -> dict[str, Any]:
    """The header of an event as JSON, and in a word what it is. What is deleted says nothing of how the run stands."""
    return fields_of(event.header()) | {
        "what": what_of(event),
        "status": status_of(event) if event.type == "checkpoint" else None,
        "trace_id": trace_id_in(event.traceparent),
    }


def fields_of(value: Any) -> Any:
    """A record as JSON has it, and all in it: with each of its fields, also where it says nothing. The data of a
    payload is no part of it."""
    if isinstance(value, msgspec.Struct):
        without = "data" if isinstance(value, Payload) else ""
        return {name: fields_of(getattr(value, name)) for name in value.__struct_fields__ if name != without}
    if isinstance(value, tuple):
        return list(map(fields_of, cast("tuple[object, ...]", value)))
    return value


def standing(status: str, asked: Sequence[PendingRequest]) -> str:
    """How a run stands, in words: one that is running may have questions, too."""
    if status == "waiting":
        return f"waiting for {len(asked)}"
    return f"{status}, waits for {len(asked)}" if asked else status


def standing_of(event: CheckpointEvent, before: str = ", ") -> str:
    """How the run stood after this event, behind `before`; nothing of a deletion."""
    if event.type == "tombstone":
        return ""
    return before + standing(status_of(event), event.summary.pending_requests)


def run_fields(info: RunInfo) -> dict[str, Any]:
    """A run as JSON."""
    return fields_of(info) | {"status": status_of_run(info), "trace_id": trace_id_in(info.traceparent)}


def status_of_run(info: RunInfo) -> str:
    """How a run stands; one of which nothing counts any more does not."""
    return "removed" if info.is_emptied else info.status


def run_row(info: RunInfo) -> list[str]:
    """A run in the cells of `RUN_COLUMNS`."""
    waits = ", ".join(f"{asked.source_executor_id}: {asked.request_type}" for asked in info.pending_requests)
    return [
        info.run_id,
        info.workflow_name,
        said_text(info, info.status),
        str(info.checkpoints + info.tombstones),
        str(info.iteration_count),
        f"{info.stored_size:,}",
        info.recorded_at,
        info.actor or "",
        waits,
    ]


def event_row(event: CheckpointEvent) -> list[str]:
    """An event in the cells of `EVENT_COLUMNS`."""
    summary, payload = event.summary, event.payload
    messages = ", ".join(f"{source} {count}" for source, count in summary.messages.items() if count)
    stored_as = (
        "" if payload is None else " on ".join(["delta", *map(str, payload.bases)] if payload.bases else ["snapshot"])
    )
    return [
        str(event.seq),
        event.recorded_at,
        what_of(event),
        str(event.iteration_count),
        event.checkpoint_id,
        messages,
        ", ".join(f"{asked.request_id} from {asked.source_executor_id}" for asked in summary.pending_requests),
        ", ".join(summary.answered_requests),
        f"{payload.raw_size:,}" if payload else "",
        f"{payload.stored_size:,}" if payload else "",
        stored_as or about_text(event),
        event.actor or "",
        "" if event.claim is None else str(event.claim),
        trace_id_in(event.traceparent) or "",
    ]


def what_of(event: CheckpointEvent) -> str:
    """What kind of event of a run it is."""
    if event.is_claim:
        return "claim"
    if event.is_annotation:
        return "annotation"
    if event.removal is not None:
        return "removal"
    if event.closes:
        return "closing record"
    return "prune record" if event.is_removal else "migration" if event.migration else event.type


def about_text(event: CheckpointEvent) -> str:
    """What an event that holds no checkpoint says."""
    if event.is_annotation and event.annotation is not None:
        return said_text(event.annotation) or "no tags, not on hold"
    if event.removal is not None:
        return removal_text(event.removal)
    return pruned_text(event) if event.is_removal else ""


def said_text(said: Annotation | RunInfo, status: str = "") -> str:
    """What was said about a run: how it ended, or how it stands, and why; its tags, a hold."""
    head = status or said.outcome or ""
    reason = [said.reason] if said.reason else []
    rest = ", ".join([*reason, *tag_texts(said.tags), *(["on hold"] if said.hold else [])])
    return f"{head} ({rest})" if head and rest else head or rest


def pruned_text(event: CheckpointEvent) -> str:
    """What a record of a removal says is gone."""
    return ", ".join(f"gone: {removed.first} to {removed.last}" for removed in event.pruned)


def removal_text(removal: Removal) -> str:
    """What a removal of runs tells: which, why, and where they are."""
    some = ", ".join(run.run_id for run in removal.runs[:_NAMED])
    more = f" and {len(removal.runs) - _NAMED:,} more" if len(removal.runs) > _NAMED else ""
    return f"gone: {some}{more}{_why_text(removal)}"


def removed_text(out: Output, removed: Removed, what: str, *, head_seq: int) -> str:
    """What is said of a run, or of a session (`what`), that was removed as a whole, and has a head at `head_seq`."""
    by = f" by {removed.actor}" if removed.actor else ""
    text = f"{stream_text(removed.stream, what)} was removed {out.time(removed.recorded_at)}{by}{_why_text(removed)}"
    is_begun = head_seq > removed.seq
    if removed.left:
        text += f". {removed.left:,} events of it are still there: delete the {what} again to finish that"
    elif not removed.told_at:
        text += f", of which {stream_text(StreamId(removed.stream.workflow_name, REMOVALS), what)} do not tell"
    return f"{text}. It was begun again at seq {removed.seq + 1}" if is_begun else text


def removed_fields(removed: Removed) -> dict[str, Any]:
    """The same as JSON, of a run that is named beside it."""
    return {name: value for name, value in removed._asdict().items() if name != "stream"}


def _why_text(of: Removal | Removed) -> str:
    why = f", {of.reason}" if of.reason else ""
    return f"{why}, kept in {of.archive}" if of.archive else why


def stream_text(stream: StreamId, what: str) -> str:
    """A run, or another log (`what`), as a line names it; or what tells of those that were removed."""
    if not stream.is_run:
        return f"the removals of {cell(stream.workflow_name)}"
    return f"{what} {cell(stream.run_id)} of {cell(stream.workflow_name)}"


def problem_text(stream: StreamId, problem: Problem, what: str) -> str:
    """What is wrong with a stream, as a line says it."""
    return f"{stream_text(stream, what)}, seq {problem.seq}: {problem.why.upper()}: {problem.detail}"


def tag_texts(tags: Mapping[str, str]) -> list[str]:
    """Tags as they are given."""
    return [f"{name}={value}" for name, value in tags.items()]


def not_gone_yet(stream: StreamId, count: int, what: str) -> str:
    """What is said of a run, or of another stream (`what`), whose prune was cut off."""
    return (
        f"{what} {stream.run_id} of {stream.workflow_name}: {count:,} events are recorded as removed and still there; "
        f"they count no more, and the next prune of the {what} removes them"
    )
