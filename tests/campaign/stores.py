"""The engines as the campaign opens them: with each append announced before it is sent, and noted when it is answered;
and with a removal that can be cut off half way, as by the end of its process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eventckpt import CheckpointEvent, CosmosEventStore, SqliteEventStore, StreamId
from eventckpt.stores import AuditStore

from .book import Take, announcement

__all__ = ["Killed", "Noting", "open_store"]


class Killed(Exception):  # noqa: N818 - no error: an end
    """In place of the end of a process."""


class Noting(AuditStore):
    """What both engines get in addition."""

    take: Take
    name: str
    dies_while_removing: float | None = None
    """The share of a removal after which the process ends; None: it lives."""

    async def append(self, event: CheckpointEvent) -> None:
        self.take(announcement(event, self.name))
        await super().append(event)  # type: ignore[safe-super] - the engine beside this class
        self.take({"what": "answered", "digest": event.digest})

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        share, self.dies_while_removing = self.dies_while_removing, None
        if share is None:
            return await super().remove(stream, seqs)  # type: ignore[safe-super] - likewise
        await super().remove(stream, seqs[: int(share * len(seqs))])  # type: ignore[safe-super] - likewise
        raise Killed


class NotingSqlite(Noting, SqliteEventStore):
    """A SQLite file, noted."""


class NotingCosmos(Noting, CosmosEventStore):
    """A container, noted."""


def open_store(place: str, name: str, take: Take) -> Noting:
    """The store at a place: a path, or the arguments of a `CosmosEventStore` as JSON.

    Args:
        place: where.
        name: of what is as a process of its own.
        take: what gets the entries.
    """
    settings: dict[str, Any] = json.loads(place) if place.startswith("{") else {}
    store: Noting = NotingCosmos(**settings) if settings else NotingSqlite(place, synchronous="NORMAL")
    store.name, store.take = name, take
    return store
