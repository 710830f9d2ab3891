"""A run gone through once more: folded event by event, with each state rebuilt and held against its header."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from ..chain import flaw_of, is_newer
from ..errors import CheckpointDecodeError, CheckpointNotFoundError
from ..events import CheckpointEvent, RunInfo, StreamId
from ..runs import Folding
from ..stores import AuditStore
from ..stores.walks import removals_of
from .states import States
from .verify import identity_flaw

__all__ = ["Replayed", "replay_run"]


class Replayed(NamedTuple):
    """One step of a replay."""

    event: CheckpointEvent
    """The header of the event."""
    info: RunInfo
    """What the run amounts to after it."""
    problem: str
    """What is wrong with the event or its state; empty: nothing."""
    newer: bool = False
    """Whether that is only that a newer version wrote the event, or a base that it needs: this one cannot judge it,
    and `info` lacks what it says."""


async def replay_run(
    store: AuditStore, states: States, stream: StreamId, until: int | None
) -> AsyncGenerator[Replayed, None]:
    """Fold a run from its first event up to seq `until`; see `CheckpointAudit.replay`."""
    folding = Folding()
    removals = await removals_of(store, stream)
    beyond: set[int] = set()  # seqs of events that a newer version wrote
    async with aclosing(store.events(stream, lte=until)) as events:
        async for event in events:  # gaps are pruned or missing, which verify tells apart
            if removals.covers(event.seq):
                continue
            header = event.header()
            newer = is_newer(event) or (event.payload is not None and not beyond.isdisjoint(event.payload.bases))
            if is_newer(event):
                beyond.add(event.seq)
            try:
                problem = flaw_of(event) if is_newer(event) else await _problem(states, event)
            except CheckpointNotFoundError:
                continue  # removed since it was read
            yield Replayed(header, folding.add(header), problem, newer=newer and bool(problem))


async def _problem(states: States, event: CheckpointEvent) -> str:
    if event.type == "tombstone":
        return ""
    try:
        tree = await states.tree(event)
    except CheckpointDecodeError as error:
        return str(error)
    return identity_flaw(event, tree)
