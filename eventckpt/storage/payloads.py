"""Payloads between raw bytes and events: which snapshot a delta is written against, and where a load finds it.

The raw bytes of the snapshots in use are cached, bounded in bytes. A miss costs one read of the snapshot; a load
and a save leave behind what the next save will need.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final, NamedTuple

from .. import delta
from ..chain import flaw_of
from ..codec import MAX_RAW_SIZE
from ..delta import Base
from ..errors import CheckpointDecodeError
from ..events import CheckpointEvent, Payload, StreamId
from ..log import logger_of
from ..stores import EventStore
from ..threads import off_the_loop

__all__ = ["BaseCache", "Packed", "Payloads"]

logger: Final = logger_of("eventckpt")


class Packed(NamedTuple):
    """A payload on its way into an event."""

    payload: Payload
    data_digest: bytes
    """The SHA-256 of its data, taken in the thread that compressed it: the digest of the event needs it, once it is
    known where the event goes."""


class BaseCache:
    """The snapshots used last, as long as their raw bytes add up to `size` at most."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._bases: OrderedDict[tuple[StreamId, int], Base] = OrderedDict()

    def get(self, stream: StreamId, seq: int) -> Base | None:
        base = self._bases.get((stream, seq))
        if base is not None:
            self._bases.move_to_end((stream, seq))
        return base

    def put(self, stream: StreamId, base: Base) -> None:
        if len(base.raw) > self._size or self.get(stream, base.seq) is not None:
            return
        self._bases[stream, base.seq] = base
        self._used += len(base.raw)
        while self._used > self._size:
            _, dropped = self._bases.popitem(last=False)
            self._used -= len(dropped.raw)


class Payloads:
    """Makes payloads for a store, and reads them back."""

    def __init__(self, store: EventStore, cache: BaseCache) -> None:
        self._store = store
        self._cache = cache

    async def encode(self, raw: bytes, stream: StreamId, seq: int = 0, rests_on: Payload | None = None) -> Packed:
        """A payload for the next event of `stream`.

        Args:
            raw: the encoded checkpoint.
            stream: where the event will go.
            seq: the seq of the event in `stream` that the lineage's last checkpoint is in.
            rests_on: that event's payload; None: nothing in `stream` to rest on, write a snapshot.
        """
        base, since_base = None, 0
        if rests_on is not None:
            base = await self._base_to_write(stream, seq if rests_on.base_seq is None else rests_on.base_seq)
            since_base = rests_on.since_base
        return await off_the_loop(len(raw), _packed, raw, base, since_base)

    def note(self, event: CheckpointEvent, raw: bytes) -> Base | None:
        """Note that `event` holds `raw`; where it is a snapshot, the base for deltas that follow."""
        payload = event.payload
        if payload is None or payload.base_seq is not None:
            return None
        base = Base(event.seq, raw, payload.stored_size)
        self._cache.put(event.stream, base)
        return base

    async def read(self, event: CheckpointEvent, held: Base | None = None) -> tuple[bytes, Base]:
        """The raw bytes in `event`, which is given whole, and the snapshot that they rest on.

        Args:
            event: a checkpoint event with its payload's data.
            held: a snapshot of the same stream that the caller happens to have.

        Raises:
            CheckpointDecodeError: the event, or the snapshot it needs, is damaged, changed or missing.
        """
        payload = await _checked(event)
        if payload.base_seq is None:
            raw = await off_the_loop(payload.raw_size, delta.restore, payload, max_size=MAX_RAW_SIZE)
            return raw, self.note(event, raw) or Base(event.seq, raw, payload.stored_size)
        base = held if held and held.seq == payload.base_seq else await self._base(event.stream, payload.base_seq)
        raw = await off_the_loop(payload.raw_size, delta.restore, payload, base=base.raw, max_size=MAX_RAW_SIZE)
        return raw, base

    async def _base(self, stream: StreamId, seq: int) -> Base:
        cached = self._cache.get(stream, seq)
        if cached is not None:
            return cached
        events = await self._store.read(stream, seq)
        try:
            if not events:
                raise CheckpointDecodeError("that event is missing")
            if events[0].payload is not None and events[0].payload.base_seq is not None:
                raise CheckpointDecodeError("that event is not a snapshot")
            _, base = await self.read(events[0])
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"it is a delta against seq {seq} of its run, and {error}") from error
        return base

    async def _base_to_write(self, stream: StreamId, seq: int) -> Base | None:
        """A snapshot that cannot be read is a reason to write a new one, not to lose this checkpoint too."""
        try:
            return await self._base(stream, seq)
        except CheckpointDecodeError as error:
            logger.warning(
                "Run %r of workflow %r goes on with a new snapshot, since seq %d cannot serve as base: %s",
                stream.run_id,
                stream.workflow_name,
                seq,
                error,
            )
            return None


def _packed(raw: bytes, base: Base | None, since_base: int) -> Packed:
    payload = delta.encode(raw, base, since_base=since_base)
    return Packed(payload, sha256(payload.data).digest())


async def _checked(event: CheckpointEvent) -> Payload:
    flaw = await off_the_loop(len(event.payload.data) if event.payload else 0, flaw_of, event)
    if flaw or event.payload is None:
        raise CheckpointDecodeError(flaw or "it is a tombstone, which holds no state")
    return event.payload
