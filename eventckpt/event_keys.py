"""What tells which checkpoint an event holds or deletes, and no more: what very many events are listed by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .events import CheckpointEvent, EventType, Pruned

__all__ = ["EventKey", "EventKeys"]


class EventKey(NamedTuple):
    """What tells which checkpoint an event holds or deletes, and no more."""

    run_id: str
    seq: int
    type: EventType
    checkpoint_id: str
    place: int
    """Grows along the listing that it comes from."""
    record: CheckpointEvent | None = None
    """The header of an event that records a removal; None: it records none."""

    @property
    def pruned(self) -> tuple[Pruned, ...]:
        """As of the event."""
        return () if self.record is None else self.record.pruned

    @classmethod
    def of(cls, header: CheckpointEvent, place: int) -> EventKey:
        """That of an event whose header was read."""
        record = header if header.pruned else None
        return cls(header.run_id, header.seq, header.type, header.checkpoint_id, place, record)


class EventKeys(NamedTuple):
    """The keys of some events, at least one, field by field: so very many are gone through without a look at each."""

    run_ids: Sequence[str]
    seqs: Sequence[int]
    types: Sequence[EventType]
    checkpoint_ids: Sequence[str]
    places: Sequence[int]
    records: Sequence[CheckpointEvent | None]

    @classmethod
    def of(cls, keys: Sequence[EventKey]) -> EventKeys:
        """Those of keys that were made one by one."""
        return cls(*zip(*keys, strict=True))

    def each(self) -> Iterator[EventKey]:
        """One key after the other."""
        return map(EventKey, *self)
