"""A conversation as a page has room for it: who says what, the beginnings of long texts, and what is left out. Links
and markup in messages are text like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from ..audit.conversation import messages_of
from ..codec.tree import Tree
from ..events import CheckpointEvent
from ..rendering.trees import tree_lines
from ..rendering.turns import Said, said_in, said_text
from .room import Room
from .templates import address

__all__ = ["Entry", "Utterance", "filled"]

_LINES: Final = 200  # of what has not the shape of a message
_ROLES: Final = frozenset({"user", "assistant", "system", "tool"})


@dataclass(frozen=True, slots=True)
class Utterance:
    """A content of a message."""

    who: str
    does: str
    kind: str
    role: str
    """That of `who` where it is one of the usual ones, or "other": for its looks."""
    lines: Sequence[str]
    left: int = 0
    """Characters of it that are left out."""


@dataclass(slots=True)
class Entry:
    """A turn, and as much of what it holds as there is room for."""

    event: CheckpointEvent
    """Its header."""
    tree: Mapping[str, Tree] | None = None
    """What it holds; None: it cannot be read."""
    problem: str = ""
    """Why it cannot be read."""
    seen: CheckpointEvent | None = None
    """The header of the checkpoint of a run that has seen it first, where one was found."""
    said: list[Utterance] = field(default_factory=list[Utterance])
    is_whole: bool = True
    """Whether each of its messages is shown, if not all of it."""


def filled(entries: Sequence[Entry], *, longest: int) -> None:
    """Put into turns what they say, until the page is full.

    Args:
        entries: in their order.
        longest: characters of one content.
    """
    room = Room()
    for entry in entries:
        entry.is_whole = room.takes(*map(_address, (entry.event, entry.seen, entry.seen)), entry.problem)
        if entry.tree is None or not entry.is_whole:
            continue
        for utterance in _utterances(entry.tree, longest):
            entry.is_whole = room.takes(utterance.who, utterance.does, *utterance.lines)
            if not entry.is_whole:
                break
            entry.said.append(utterance)


def _address(header: CheckpointEvent | None) -> str:
    """That of an event, or one of its length."""
    return "" if header is None else address("/event", run=header.run_id, workflow=header.workflow_name, seq=header.seq)


def _utterances(tree: Mapping[str, Tree], longest: int) -> Iterator[Utterance]:
    for message in messages_of(tree):
        contents = said_in(message)
        if contents is None:
            yield Utterance("", "", "other", "other", list(islice(tree_lines(message, "message"), _LINES)))
        else:
            yield from (_utterance(said, longest) for said in contents)


def _utterance(said: Said, longest: int) -> Utterance:
    is_text = isinstance(said.what, str) and said.kind != "other"
    text = str(said.what) if is_text else said_text(said, full=False)
    lines = text[:longest].split("\n")
    role = said.who if said.who in _ROLES else "other"
    return Utterance(said.who[:300], said.does[:300], said.kind, role, lines, max(len(text) - longest, 0))
