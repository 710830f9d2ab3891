"""How the commands say what an event of a session is: in a row of a listing, and with its messages. Nothing of a
message is made alive, and what is in it is shown, and not obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..audit.conversation import messages_of
from ..codec.tree import Tree
from ..events import CheckpointEvent
from ..rendering.fields import held_fields
from ..rendering.trees import tree_lines
from ..rendering.turns import message_lines, roles_text, turn_text, type_text
from .output import Column, Output
from .render import kind_style, show_event

__all__ = ["TURN_COLUMNS", "message_lines", "roles_text", "show_held", "turn_row", "type_text"]

TURN_COLUMNS: Final = [
    Column("seq", right=True),
    Column("recorded", holds="time"),
    Column("type", style=kind_style),
    Column("turn", holds="id"),
    Column("messages", holds="text", rank=1),
    Column("stored", right=True, rank=4),
    Column("about", holds="text", rank=2),
    Column("actor", holds="text", rank=3),
]


def turn_row(event: CheckpointEvent) -> list[str]:
    """An event of a session in the cells of `TURN_COLUMNS`."""
    return [
        str(event.seq),
        event.recorded_at,
        type_text(event),
        event.checkpoint_id,
        roles_text(event),
        f"{event.payload.stored_size:,}" if event.payload else "",
        turn_text(event),
        event.actor or "",
    ]


def show_held(out: Output, event: CheckpointEvent, tree: dict[str, Tree], *, full: bool) -> None:
    """What an event holds, of whichever type it is."""
    if event.type in ("turn", "session"):
        out.record("turn" if event.type == "turn" else "state", held_fields(event, tree))
        _show_turn(out, event, tree, full=full)
    else:
        show_event(out, event, tree, full=full)


def _show_turn(out: Output, event: CheckpointEvent, tree: Mapping[str, Tree], *, full: bool) -> None:
    """A turn: first what its header says, then its messages; or what a host keeps of a session."""
    if out.as_json:
        return
    out.line(f"{event.type} {event.checkpoint_id}", style="bold")
    out.line(f"  seq {event.seq} of session {event.run_id}, source {event.workflow_name}")
    out.line(f"  {roles_text(event) or 'no messages'}, recorded {out.time(event.recorded_at)}")
    if event.actor:
        out.line(f"  written by {event.actor}")
    if about := turn_text(event):
        out.line(f"  {type_text(event)}: {about}")
    out.line()
    if event.type != "turn":
        for name, part in tree.items():
            for line in tree_lines(part, name, full=full):
                out.line(line)
    for message in messages_of(tree):
        for line in message_lines(message, full=full):
            out.line(line)
