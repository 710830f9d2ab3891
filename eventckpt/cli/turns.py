"""How the commands say what an event of a session is: in a row of a listing, and with its messages. Nothing of a
message is made alive, and what is in it is shown, and not obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..audit.conversation import messages_of
from ..codec.tree import Tree
from ..events import CheckpointEvent
from .output import Column, Output, leaf_text, safe, tree_lines
from .render import held_fields, kind_style, pruned_text, show_event

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
        _about(event),
        event.actor or "",
    ]


def type_text(event: CheckpointEvent) -> str:
    """What kind of event of a session it is."""
    if event.type == "tombstone":
        if event.closes:
            return "closing record"
        return "prune record" if event.pruned else "clear" if event.cleared is not None else event.type
    if event.forked_from is None:
        return event.type
    return "branch" if event.turn is not None and event.turn.session else "fork"


def roles_text(event: CheckpointEvent) -> str:
    """How many messages of which roles a turn has."""
    return ", ".join(f"{role} {count}" for role, count in event.turn.roles.items()) if event.turn else ""


def _about(event: CheckpointEvent) -> str:
    said: list[str] = []
    if (origin := event.forked_from) is not None:
        said.append(f"from seq {origin.seq} of {origin.run_id}")
    if event.turn is not None and event.turn.continues:
        said.append(f"continues {event.turn.continues}")
    if event.cleared is not None:
        said += ["all before is hidden"] if event.type == "tombstone" else []
        said += [f"{name} is hidden up to {seq}" for name, seq in event.cleared.items()]
    return ", ".join([*said, *([pruned_text(event)] if event.pruned else [])])


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
    if about := _about(event):
        out.line(f"  {type_text(event)}: {about}")
    out.line()
    if event.type != "turn":
        for name, part in tree.items():
            for line in tree_lines(part, name, full=full):
                out.line(line)
    for message in messages_of(tree):
        for line in message_lines(message, full=full):
            out.line(line)


def message_lines(message: Tree, *, full: bool) -> Iterator[str]:
    """A message: who says it, and each content on a line. What has not the shape of one is shown as it is stored."""
    contents = message.get("contents") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(contents, list):
        yield from tree_lines(message, "message", full=full)
        return
    name = f" ({_plain(message.get('author_name'))})" if message.get("author_name") else ""
    who = f"{_plain(message.get('role'))}{name}"
    for content in contents or [None]:
        yield f"{who}{_content_text(content, full=full)}"


def _content_text(content: Tree, *, full: bool) -> str:
    if not isinstance(content, dict):
        return ": (nothing)" if content is None else f": {leaf_text(content, full=full)}"
    match content.get("type"):
        case "text" | "text_reasoning" as kind:
            thinks = " thinks" if kind == "text_reasoning" else ""
            return f"{thinks}: {leaf_text(content.get('text'), full=full)}"
        case "function_call":
            return f" calls {_plain(content.get('name'))}: {_value(content.get('arguments'), full=full)}"
        case "function_result":
            return f" gives for {_plain(content.get('call_id'))}: {_value(content.get('result'), full=full)}"
        case kind:
            return f": ({_plain(kind)})"


def _plain(tree: Tree) -> str:
    return safe(tree) if isinstance(tree, str) else leaf_text(tree)


def _value(tree: Tree, *, full: bool) -> str:
    if isinstance(tree, dict):
        return ", ".join(f"{safe(name)}={leaf_text(part, full=full)}" for name, part in tree.items())
    return leaf_text(tree, full=full)
