"""How the commands say what an event, a run or a checkpoint is: in a line, in a row of a listing, as JSON."""

from __future__ import annotations

from typing import Any, Final

from ..events import (
    CheckpointEvent,
    Migration,
    RunInfo,
)
from ..rendering.event_row import EventRow
from ..rendering.fields import held_fields
from ..rendering.trees import tree_lines
from ..rendering.words import said_text, standing_of, waits_text
from ..traceparent import trace_id_in
from .output import Column, Output

__all__ = [
    "EVENT_COLUMNS",
    "RUN_COLUMNS",
    "event_row",
    "kind_style",
    "run_row",
    "show_event",
    "status_style",
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


def _graph_change(event: CheckpointEvent, migration: Migration) -> str:
    before, after = migration.graph_before, event.graph_signature_hash
    return "" if before == after else f", graph {before[:_HASH]} → {after[:_HASH]}"


def run_row(info: RunInfo) -> list[str]:
    """A run in the cells of `RUN_COLUMNS`."""
    return [
        info.run_id,
        info.workflow_name,
        said_text(info, info.status),
        str(info.checkpoints + info.tombstones),
        str(info.iteration_count),
        f"{info.stored_size:,}",
        info.recorded_at,
        info.actor or "",
        waits_text(info),
    ]


def event_row(event: CheckpointEvent) -> list[str]:
    """An event in the cells of `EVENT_COLUMNS`."""
    return list(EventRow.of(event))
