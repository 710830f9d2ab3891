"""Prunes that stop half way, without one that is killed: what a prune would record is taken from a copy of the run."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from eventckpt import CheckpointAudit, CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.stores import AuditStore, head_of


class Foreseen(NamedTuple):
    """What a prune of a run would do first, and what then."""

    record: CheckpointEvent
    seqs: tuple[int, ...]


async def foreseen(store: AuditStore, stream: StreamId, *, keep: int) -> Foreseen:
    """What a prune of this run, as it is now, would append and remove; nothing is changed."""
    with TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder) / "copy.db") as copy:
            await copy.put(stream, [event async for event in store.events(stream)])
            audit = CheckpointAudit(copy)
            [plan] = [plan async for plan in audit.plan_prune([stream], keep=keep, force=True)]
            await audit.prune(plan)
            record = await head_of(copy, stream)
            assert record is not None
            return Foreseen(record, plan.seqs)
