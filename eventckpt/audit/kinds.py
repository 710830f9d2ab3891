"""What a log is of: runs with their checkpoints, or sessions with their turns. A store has one of each, and an event of
the one says nothing in the other.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ..events import CheckpointEvent, EventType

__all__ = ["RUNS", "TURNS", "LogKind", "misplaced"]


class LogKind(NamedTuple):
    """One of the two, and what people call what is in it."""

    name: Literal["runs", "turns"]
    """As the first line of an export says it."""
    types: frozenset[EventType]
    stream: str
    group: str
    """What the name of a stream's workflow is."""
    entry: str
    """What an event holds that has a payload."""
    listing: str
    """The command that lists the streams."""


RUNS: Final = LogKind("runs", frozenset({"checkpoint", "tombstone"}), "run", "workflow", "checkpoint", "eventckpt runs")
TURNS: Final = LogKind(
    "turns", frozenset({"turn", "session", "tombstone"}), "session", "source", "turn", "eventckpt sessions"
)

_WHAT: Final[dict[EventType, str]] = {
    "checkpoint": "is a checkpoint of a run, and lies among sessions",
    "turn": "is a turn of a session, and lies among runs",
    "session": "is what a host keeps of a session, and lies among runs",
}


def misplaced(event: CheckpointEvent, kind: LogKind) -> str:
    """Why an event does not belong where it lies, as the rest of a sentence; empty: it does."""
    if event.type not in kind.types:
        return _WHAT[event.type]
    if event.removal is not None and event.stream.is_run:
        return f"tells of {kind.stream}s that were removed, and lies in a {kind.stream}"
    if event.removal is None and not event.stream.is_run:
        return f"tells of no {kind.stream} that was removed, and lies among the removals"
    if kind is RUNS:
        return "clears a session, and lies among runs" if event.cleared is not None else ""
    is_of_a_run = event.annotation is not None or event.claim is not None
    return "is of a run, by what it says of one, and lies among sessions" if is_of_a_run else ""
