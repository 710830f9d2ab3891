"""What an event of a session is, in words, and its messages. Nothing of a message is made alive, and what is in it is
shown, and not obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..codec.tree import Tree
from ..events import CheckpointEvent
from ..text import safe
from .trees import leaf_text, tree_lines
from .words import pruned_text

__all__ = ["Said", "message_lines", "roles_text", "said_in", "said_text", "turn_text", "type_text"]


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


def turn_text(event: CheckpointEvent) -> str:
    """What an event of a session says beside its messages."""
    said: list[str] = []
    if (origin := event.forked_from) is not None:
        said.append(f"from seq {origin.seq} of {origin.run_id}")
    if event.turn is not None and event.turn.continues:
        said.append(f"continues {event.turn.continues}")
    if event.cleared is not None:
        said += ["all before is hidden"] if event.type == "tombstone" else []
        said += [f"{name} is hidden up to {seq}" for name, seq in event.cleared.items()]
    return ", ".join([*said, *([pruned_text(event)] if event.pruned else [])])


class Said(NamedTuple):
    """A content of a message, in words."""

    who: str
    """Its role, and its author's name where it has one."""
    does: str
    """What is done beside saying it, such as calling a tool; begins with a space, or is empty."""
    what: Tree
    """Said, or given."""
    kind: Literal["text", "thought", "call", "result", "other"]
    """other: `what` is a word for it, and no more of it is told."""


def said_in(message: Tree) -> list[Said] | None:
    """The contents of a message; None: it has not the shape of one."""
    contents = message.get("contents") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(contents, list):
        return None
    name = f" ({_plain(message.get('author_name'))})" if message.get("author_name") else ""
    who = f"{_plain(message.get('role'))}{name}"
    return [_said(who, content) for content in contents] or [Said(who, "", "(nothing)", "other")]


def said_text(said: Said, *, full: bool) -> str:
    """What a content says, on one line; shortened unless `full`."""
    if said.kind == "other":
        return _plain(said.what)
    if isinstance(said.what, dict) and said.kind in ("call", "result"):
        return ", ".join(f"{safe(name)}={leaf_text(part, full=full)}" for name, part in said.what.items())
    return leaf_text(said.what, full=full)


def message_lines(message: Tree, *, full: bool) -> Iterator[str]:
    """A message: who says it, and each content on a line. What has not the shape of one is shown as it is stored."""
    contents = said_in(message)
    if contents is None:
        yield from tree_lines(message, "message", full=full)
        return
    for said in contents:
        yield f"{said.who}{said.does}: {said_text(said, full=full)}"


def _said(who: str, content: Tree) -> Said:
    if not isinstance(content, dict):
        return Said(who, "", "(nothing)", "other") if content is None else Said(who, "", content, "text")
    match content.get("type"):
        case "text":
            return Said(who, "", content.get("text"), "text")
        case "text_reasoning":
            return Said(who, " thinks", content.get("text"), "thought")
        case "function_call":
            return Said(who, f" calls {_plain(content.get('name'))}", content.get("arguments"), "call")
        case "function_result":
            return Said(who, f" gives for {_plain(content.get('call_id'))}", content.get("result"), "result")
        case kind:
            return Said(who, "", f"({_plain(kind)})", "other")


def _plain(tree: Tree) -> str:
    return safe(tree) if isinstance(tree, str) else leaf_text(tree)
