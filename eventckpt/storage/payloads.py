"""Payloads between raw bytes and events: which base a delta is written against, and where a load finds it.

Of each run in use, the base that its next delta will rest on is cached as it is stored, bounded in bytes; of those used
last also the raw bytes. A miss costs one read of the base and of what that rests on; a load and a save leave behind
what the next save will need.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from .. import delta
from ..chain import flaw_of
from ..codec import MAX_RAW_SIZE
from ..delta import MAX_BASES, Base
from ..errors import CheckpointDecodeError
from ..events import CheckpointEvent, Payload, StreamId
from ..log import logger_of
from ..lru import Lru
from ..stores import EventStore
from ..threads import off_the_loop

__all__ = ["BaseCache", "Packed", "Payloads"]

logger: Final = logger_of("eventckpt")


_AROUND: Final = 500  # bytes that an entry takes beside those of its base
_STAYS: Final = 8
"""Of so many bases that had to be read, one is no guest."""


class Packed(NamedTuple):
    """A payload on its way into an event."""

    payload: Payload
    data_digest: bytes
    """The SHA-256 of its data, taken in the thread that compressed it: the digest of the event needs it, once it is
    known where the event goes."""

    @classmethod
    def of(cls, payload: Payload) -> Packed:
        return cls(payload, sha256(payload.data).digest())


class BaseCache:
    """Of the runs in use, the base used last and the snapshot below it, in `size` bytes at most.

    Three quarters are for payloads as they are stored, a fraction of the raw bytes, so that many runs fit; the rest is
    for raw bytes, so that the runs that are used most need not be decompressed for each save. What had to be read is a
    guest (`Lru.put`): so runs that are saved to in turn, and are more than fit, do not all miss each time. One in a few
    stays, in place of a run that is over.
    """

    def __init__(self, size: int) -> None:
        self._raw: Lru[tuple[StreamId, int], Base] = Lru(size // 4, _raw_size)
        self._stored: Lru[StreamId, Mapping[int, Payload]] = Lru(size - size // 4, _stored_size)
        self._guests = 0

    def base(self, stream: StreamId, seq: int) -> Base | None:
        """The base with its raw bytes, if these are here."""
        base = self._raw.get((stream, seq))
        if base is not None:
            self._stored.get(stream)  # is in use, too
        return base

    def stored(self, stream: StreamId) -> Mapping[int, Payload]:
        """By their seqs, the payloads of a base and of the snapshot below it, if they are here."""
        return self._stored.get(stream) or {}

    def put(self, stream: StreamId, base: Base, payload: Payload, *, is_new: bool) -> None:
        """Keep a base, in place of the run's last one.

        Args:
            stream: its run.
            base: with its raw bytes.
            payload: if it is without its data, as a header has it, only the raw bytes are kept.
            is_new: whether it was just written; it was read otherwise.
        """
        known = self._stored.peek(stream)
        if payload.data and (known is None or base.seq not in known):
            below = {seq: known[seq] for seq in payload.bases if seq in known} if known else {}
            self._stored.put(stream, {**below, base.seq: payload}, is_guest=known is not None or self._is_guest(is_new))
            for seq in (known or {}).keys() - below.keys():
                self._raw.pop((stream, seq))
        if self._raw.peek((stream, base.seq)) is None:
            self._raw.put((stream, base.seq), base, is_guest=not is_new)

    def _is_guest(self, is_new: bool) -> bool:
        self._guests += not is_new
        return not is_new and self._guests % _STAYS != 0


class Payloads:
    """Makes payloads for a store, and reads them back."""

    def __init__(self, store: EventStore, cache: BaseCache) -> None:
        self._store = store
        self._cache = cache

    async def encode(self, raw: bytes, stream: StreamId, seq: int = 0, rests_on: Payload | None = None) -> Packed:
        """A payload for the next event of `stream`: a delta against the nearest base with which that pays.

        Args:
            raw: the encoded checkpoint.
            stream: where the event will go.
            seq: the seq of the event in `stream` that the lineage's last checkpoint is in.
            rests_on: that event's payload; None: nothing in `stream` to rest on, write a snapshot.
        """
        bases, since_base = _candidates(seq, rests_on)
        held: tuple[Base, ...] = ()
        for at in range(len(bases)):
            held = await self._bases_to_write(stream, bases[at:], held)
            if not held:
                break
            packed = await off_the_loop(len(raw), _packed_against, raw, held[0], since_base)
            if packed is not None:
                return packed
            since_base = held[0].since_base
        return await off_the_loop(len(raw), _packed_alone, raw)

    def wrote(self, event: CheckpointEvent, raw: bytes) -> None:
        """Note that `event`, which holds `raw`, was written: as a rule the next delta rests on it."""
        if event.payload is not None and _can_be_base(event.payload):
            self._noted(event.stream, event.seq, event.payload, raw, is_new=True)

    async def read(self, event: CheckpointEvent, held: tuple[Base, ...] = ()) -> tuple[bytes, tuple[Base, ...]]:
        """The raw bytes in `event`, which is given whole, and the bases that an event after it may rest on.

        Args:
            event: a checkpoint event with its payload's data.
            held: bases of the same stream that the caller happens to have.

        Raises:
            CheckpointDecodeError: the event, or a base that it needs, is damaged, changed or missing.
        """
        payload = await _checked(event)
        if payload.bases and max(payload.bases) >= event.seq:
            raise CheckpointDecodeError(f"it is a delta against seq {max(payload.bases)}, which is not before it")
        bases = await self._bases(event.stream, payload.bases, held)
        raw = await _restored(payload, bases)
        if _can_be_base(payload):
            bases = (self._noted(event.stream, event.seq, payload, raw), *bases)
        return raw, bases

    async def _bases(self, stream: StreamId, seqs: tuple[int, ...], held: tuple[Base, ...]) -> tuple[Base, ...]:
        """The base at the first of `seqs`, and those that it rests on, as far as they were needed or are held.

        Args:
            stream: their run.
            seqs: a base and what it rests on, as an event names them: see `Payload.bases`.
            held: what the caller has of them.

        Raises:
            CheckpointDecodeError: one of them is missing, damaged, or rests on something else.
        """
        if not seqs:
            return ()
        nearest = self._at_hand(stream, seqs, held)
        if nearest is not None:
            return (nearest, *(base for base in held if base.seq in seqs[1:]))
        stored = self._cache.stored(stream)
        missing = [
            seq for at, seq in enumerate(seqs) if seq not in stored and not self._at_hand(stream, seqs[at:], held)
        ]
        events = {event.seq: event for event in await self._store.read(stream, *missing)} if missing else {}
        bases: tuple[Base, ...] = ()
        for at in reversed(range(len(seqs))):
            base = self._at_hand(stream, seqs[at:], held)
            if base is None:
                try:
                    payload = stored.get(seqs[at]) or await _checked(events.get(seqs[at]))
                    base = await self._restored_base(stream, seqs[at:], payload, bases)
                except CheckpointDecodeError as error:
                    what = " of its run, which rests on seq ".join(str(seq) for seq in seqs[: at + 1])
                    raise CheckpointDecodeError(f"it is a delta against seq {what} of its run, and {error}") from error
            bases = (base, *bases)
        return bases

    def _at_hand(self, stream: StreamId, seqs: tuple[int, ...], held: tuple[Base, ...]) -> Base | None:
        """The base at the first of `seqs` with its raw bytes, if it need not be read. One that rests on something else
        than is said is not given: to read it tells why."""
        base = next((base for base in held if base.seq == seqs[0]), None) or self._cache.base(stream, seqs[0])
        return base if base is not None and base.seqs == seqs else None

    async def _restored_base(
        self, stream: StreamId, seqs: tuple[int, ...], payload: Payload, bases: tuple[Base, ...]
    ) -> Base:
        if payload.bases != seqs[1:]:
            wanted = f"a delta against seq {seqs[1]}" if len(seqs) > 1 else "a snapshot"
            raise CheckpointDecodeError(f"that event is not {wanted}")
        return self._noted(stream, seqs[0], payload, await _restored(payload, bases))

    def _noted(self, stream: StreamId, seq: int, payload: Payload, raw: bytes, *, is_new: bool = False) -> Base:
        """The base that an event is, which is kept for the next that rests on it."""
        base = Base(seq, raw, payload.stored_size, payload.since_base, next(iter(payload.bases), None))
        self._cache.put(stream, base, payload, is_new=is_new)
        return base

    async def _bases_to_write(
        self, stream: StreamId, seqs: tuple[int, ...], held: tuple[Base, ...]
    ) -> tuple[Base, ...]:
        """A base that cannot be read is a reason to write a snapshot, not to lose this checkpoint too."""
        try:
            return await self._bases(stream, seqs, held)
        except CheckpointDecodeError as error:
            logger.warning(
                "Run %r of workflow %r goes on with a new snapshot, since seq %d cannot serve as base: %s",
                stream.run_id,
                stream.workflow_name,
                seqs[0],
                error,
            )
            return ()


def _candidates(seq: int, rests_on: Payload | None) -> tuple[tuple[int, ...], int]:
    """The seqs that the payload behind another one may rest on, nearest first, and the stored bytes of the deltas
    against the nearest: the other one's event, or its base where that one cannot be a base itself."""
    if rests_on is None:
        return (), 0
    if _can_be_base(rests_on):
        return (seq, *rests_on.bases), 0
    return rests_on.bases, rests_on.since_base


def _can_be_base(payload: Payload) -> bool:
    return len(payload.bases) < MAX_BASES


async def _restored(payload: Payload, bases: tuple[Base, ...]) -> bytes:
    base = bases[0].raw if bases else None
    return await off_the_loop(payload.raw_size, delta.restore, payload, base=base, max_size=MAX_RAW_SIZE)


def _packed_against(raw: bytes, base: Base, since_base: int) -> Packed | None:
    payload = delta.against(raw, base, since_base=since_base)
    return Packed.of(payload) if payload is not None else None


def _packed_alone(raw: bytes) -> Packed:
    return Packed.of(delta.encode(raw))


async def _checked(event: CheckpointEvent | None) -> Payload:
    if event is None:
        raise CheckpointDecodeError("that event is missing")
    flaw = await off_the_loop(len(event.payload.data) if event.payload else 0, flaw_of, event)
    if flaw or event.payload is None:
        raise CheckpointDecodeError(flaw or event.without_state())
    return event.payload


def _raw_size(base: Base) -> int:
    return _AROUND + len(base.raw)


def _stored_size(payloads: Mapping[int, Payload]) -> int:
    return sum(_AROUND + len(payload.data) for payload in payloads.values())
