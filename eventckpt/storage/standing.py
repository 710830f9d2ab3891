"""How a run stands for whoever is to write about it: its head, what was said about it, and what is recorded as removed.

The newest event without checkpoint id tells all of that, in one request: each repeats what the one before said. Only
0.1.0 wrote records that do not.
"""

from __future__ import annotations

from typing import NamedTuple

from ..chain import flaw_of, is_newer
from ..errors import StoreCorruptError, StoreFormatError
from ..events import Annotation, CheckpointEvent, Pruned, StreamId
from ..runs import carried, fold
from ..stores import EventStore, head_of
from ..stores.walks import headers_of
from .memory import EMPTY, Head

__all__ = ["Standing", "standing_of"]


class Standing(NamedTuple):
    """What an event without checkpoint id has to repeat."""

    head: Head
    said: Annotation | None = None
    """Tags and hold are in force. So is an outcome, unless a checkpoint came after the event that says it."""
    said_at: int = 0
    """The seq of that event."""
    pruned: tuple[Pruned, ...] = ()


async def standing_of(store: EventStore, stream: StreamId, seen: Head = EMPTY) -> Standing | None:
    """How a run stands; None: it has no events.

    Args:
        store: the engine.
        stream: the run.
        seen: the last event that was seen of it: not looked for again where nothing was said.

    Raises:
        StoreCorruptError, StoreFormatError: what was said cannot be read.
        CheckpointStoreError: the engine failed.
    """
    located = await store.find("", stream=stream)
    if located is None:
        last = None if seen.seq else await head_of(store, stream)
        head = Head.of(last) if last is not None else seen
        return Standing(head) if head.seq else None
    event = located.event
    if flaw := flaw_of(event):
        raise _unreadable(event, flaw)
    said = event.annotation
    if said is None and event.is_removal:
        said = carried(fold(await headers_of(store, stream)))
    return Standing(max(seen, Head.of(located.head)), said, event.seq, event.pruned)


def _unreadable(event: CheckpointEvent, flaw: str) -> StoreCorruptError | StoreFormatError:
    return (StoreFormatError if is_newer(event) else StoreCorruptError)(
        f"What was said about run {event.run_id!r} of workflow {event.workflow_name!r} cannot be read at seq "
        f"{event.seq}: {flaw}. Nothing was written; `eventckpt verify` tells more."
    )
