"""The save path: where a checkpoint belongs, its event, and what to do when another writer was faster.

A save commits only at the seq right after the head that its own lineage last saw. That one rule keeps two workers
that resume the same checkpoint from interleaving, and it needs no read before the write: the engine's conflict
tells when the memory of the head is out of date.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from agent_framework import WorkflowCheckpoint

from ..codec import CheckpointCodec
from ..errors import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
    StreamConflict,
)
from ..events import MAX_RUN_ID, CheckpointEvent, ForkPoint, Payload, Pruned, StreamId
from ..log import logger_of
from ..stores import EventStore, Located
from ..text import described, safe
from . import telemetry
from .compose import event_at, header_of, tombstone_after
from .lineage import Head, Memory, Tip
from .payloads import Payloads, off_the_loop

__all__ = ["OnConflict", "Outcome", "Writer"]

logger = logger_of("eventckpt")

OnConflict: TypeAlias = Literal["fork", "raise"]
Outcome: TypeAlias = Literal["saved", "repeated", "forked"]

_NOTHING_SEEN: Final = Head(0, "")


class _Place(NamedTuple):
    """Where the next event goes: right after `head` in `stream`."""

    stream: StreamId
    head: Head
    """Of a fork that has no event yet: seq 0 and the digest of the event it forks from."""
    parent: Tip | None = None
    """The lineage's last checkpoint, wherever it lies."""
    forked_from: ForkPoint | None = None
    """For the first event of a run that continues another run's checkpoint."""
    rests_on: Tip | None = None
    """The checkpoint that most of this one's state is likely to be equal to."""
    known: bool = False
    """Whether this checkpoint id was saved or loaded here before."""
    diverted_from: StreamId | None = None
    strand: int = 0

    def after(self, head: Head) -> _Place:
        return self._replace(head=head, forked_from=None)


class _Moved(NamedTuple):
    """A stream that went on without another writer: deletions, removals, and what we wrote ourselves."""

    head: Head
    pruned: tuple[Pruned, ...]

    def removed(self, seq: int | None) -> bool:
        """Whether the event at `seq`, a remembered base, was removed."""
        return seq is not None and any(removed.first <= seq <= removed.last for removed in self.pruned)


class Writer:
    """Turns checkpoints into events and appends them."""

    def __init__(
        self,
        store: EventStore,
        codec: CheckpointCodec,
        memory: Memory,
        payloads: Payloads,
        *,
        on_conflict: OnConflict,
        actor: str | None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._memory = memory
        self._payloads = payloads
        self._on_conflict = on_conflict
        self._actor = actor

    async def save(self, checkpoint: WorkflowCheckpoint, run_id: str | None, strand: int | None = None) -> Outcome:
        """Append `checkpoint` to its run, `run_id` or the one that its lineage leads to; `strand` is that of first
        checkpoints (see `Memory`)."""
        # Everything that reads the live state happens before the first await: the workflow may go on changing it.
        draft = header_of(checkpoint, self._actor)
        raw = self._codec.encode(checkpoint)
        # The place follows from what is known now, not from what other saves commit while this one is proved.
        place = await self._place(draft, run_id)
        _check_name(place.stream, draft.checkpoint_id)
        await self._prove(draft, raw)
        place = place._replace(strand=self._memory.strand_after(draft.previous_checkpoint_id, strand))
        base = place.rests_on if place.rests_on and place.rests_on.stream == place.stream else None
        payload = await self._payloads.encode(
            raw, place.stream, base.point.seq if base else 0, base.payload if base else None
        )
        if place.known and await self._is_there(draft.checkpoint_id, place.stream, payload):
            return "repeated"
        if place.known and await self._is_gone(payload.base_seq, place.stream):
            payload = await self._payloads.encode(raw, place.stream)
        while True:
            event = event_at(draft, place.stream, place.head, payload, place.forked_from)
            self._memory.writing(event, place.strand)
            try:
                await self._store.append(event)
            except StreamConflict as conflict:
                moved = await self._after(place, event)
                if isinstance(moved, CheckpointEvent):
                    self._memory.saved(moved, place.strand, diverted_from=place.diverted_from)
                    return "repeated"
                if moved is None:
                    return await self._diverged(draft, place, raw, conflict)
                place = place.after(moved.head)
                if moved.removed(payload.base_seq):
                    payload = await self._payloads.encode(raw, place.stream)
            else:
                self._committed(event, place, raw)
                return "saved"

    async def _is_there(self, checkpoint_id: str, stream: StreamId, payload: Payload) -> bool:
        located = await self._store.find(checkpoint_id, stream=stream)
        return located is not None and _holds(located.event, payload)

    async def _is_gone(self, base_seq: int | None, stream: StreamId) -> bool:
        """Whether a base that is remembered was pruned meanwhile."""
        if base_seq is None:
            return False
        return not [header async for header in self._store.headers(stream, gt=base_seq - 1, lte=base_seq)]

    async def delete(self, located: Located | None) -> bool:
        """Append a tombstone for a live checkpoint; False where there is none. Never a conflict: it follows
        whatever the head is."""
        if located is None:
            return False
        head = Head.of(located.head)
        while True:
            tombstone = tombstone_after(located.event, head, self._actor)
            try:
                await self._store.append(tombstone)
            except StreamConflict as conflict:
                if conflict.head is None:
                    return False  # the whole run was removed in the meantime
                head = Head.of(conflict.head)
            else:
                before = self._memory.head(tombstone.stream)
                self._memory.read(tombstone, Head.of(tombstone), before=before, to_go_on=False)
                return True

    async def _prove(self, draft: CheckpointEvent, raw: bytes) -> None:
        """What could not be loaded must not be acknowledged. `FileCheckpointStorage` checks the same at save."""
        try:
            await off_the_loop(len(raw), self._codec.decode, raw)
        except CheckpointTypeNotAllowedError:
            raise
        except CheckpointDecodeError as error:
            raise CheckpointEncodeError(
                f"Checkpoint {safe(draft.checkpoint_id)} could be stored, but not loaded again: {safe(error)}"
            ) from error

    async def _place(self, draft: CheckpointEvent, run_id: str | None) -> _Place:
        bound = StreamId(draft.workflow_name, run_id) if run_id is not None else None
        own = self._memory.tip(draft.checkpoint_id)
        parent = await self._parent(draft, bound)
        if own is not None and (bound is None or own.belongs_to(bound)):
            # Superseding what this storage wrote itself is no divergence, whatever it wrote since.
            head = self._memory.head(own.stream) or own.head
            return _Place(own.stream, head, parent, rests_on=own, known=True, diverted_from=own.diverted_from)
        if parent is not None and (
            parent.belongs_to(bound) if bound else parent.stream.workflow_name == draft.workflow_name
        ):
            return _Place(parent.stream, parent.head, parent, rests_on=parent, diverted_from=parent.diverted_from)
        stream = bound or StreamId(draft.workflow_name, draft.checkpoint_id)
        fork = self._memory.fork_of(stream) if parent is None else None
        if fork is not None:  # a start that found the run taken, and one more: both belong to the same fork
            return _Place(fork, self._memory.head(fork) or _NOTHING_SEEN, diverted_from=stream)
        head = self._memory.head(stream)
        if head is not None or parent is None:
            return _Place(stream, head or _NOTHING_SEEN, parent)
        return _Place(stream, Head(0, parent.digest), parent, forked_from=parent.point)

    async def _parent(self, draft: CheckpointEvent, bound: StreamId | None) -> Tip | None:
        """The lineage's last checkpoint. One that this process has not met saw nothing after itself."""
        parent_id = draft.previous_checkpoint_id
        if parent_id is None:
            return None
        tip = self._memory.tip(parent_id)
        if tip is not None:
            return tip
        located = await self._store.find(parent_id, stream=bound) if bound else None
        located = located or await self._store.find(parent_id)
        if located is None:
            logger.warning(
                "Checkpoint %s of workflow %r follows %s, which is not in this store; its run begins here.",
                draft.checkpoint_id,
                draft.workflow_name,
                parent_id,
            )
            return None
        return Tip.of(located.event, Head.of(located.event))

    async def _after(self, place: _Place, event: CheckpointEvent) -> CheckpointEvent | _Moved | None:
        """Why an append found its seq taken.

        The event itself, if this checkpoint is there already with the same content (an earlier try that was cut
        off, or another process saving it again); where to try again, if what came in between are deletions and
        checkpoints of the same execution, whose steps ran side by side; None, if another writer's did.
        """
        since = [header async for header in self._store.headers(place.stream, gt=place.head.seq)]
        if not since:
            return None
        moved = _Moved(Head.of(since[-1]), tuple(removed for header in since for removed in header.pruned))
        for header in reversed(since):
            if header.checkpoint_id == event.checkpoint_id:
                return header if event.payload and _holds(header, event.payload) else moved
        ours = all(header.type == "tombstone" or self._memory.wrote(header, place.strand) for header in since)
        return moved if ours else None

    async def _diverged(self, draft: CheckpointEvent, place: _Place, raw: bytes, conflict: StreamConflict) -> Outcome:
        """Another writer took the run: go on in a run of our own, or say so."""
        run_id, wanted = place.stream.run_id, place.head.seq + 1
        if self._on_conflict == "raise":
            raise _conflict_error(
                place.stream, wanted, conflict.head, f"checkpoint {safe(draft.checkpoint_id)} was not saved"
            ) from conflict
        parent = place.parent
        point = parent.point if parent else ForkPoint(
            workflow_name=place.stream.workflow_name, run_id=run_id, seq=0, checkpoint_id=None
        )  # fmt: skip
        diverted = place._replace(
            head=Head(0, parent.digest if parent else ""),
            forked_from=point,
            diverted_from=place.diverted_from or place.stream,
        )
        for mark in (draft.checkpoint_id[:8], draft.checkpoint_id):
            fork = StreamId(place.stream.workflow_name, f"{run_id[: MAX_RUN_ID - 1 - len(mark)]}~{mark}")
            forked = diverted._replace(stream=fork)
            event = event_at(draft, fork, forked.head, await self._payloads.encode(raw, fork), forked.forked_from)
            try:
                await self._store.append(event)
            except StreamConflict:
                existing = await self._after(forked, event)
                if not isinstance(existing, CheckpointEvent):
                    continue  # another checkpoint whose id begins alike
                event = existing
            self._committed(event, forked, raw)
            logger.warning(
                "Run %r of workflow %r %s; checkpoint %s goes on as run %r.",
                run_id,
                place.stream.workflow_name,
                "was continued by another writer"
                if parent
                else "has events that this storage has not read (get_latest or load first, to continue it)",
                draft.checkpoint_id,
                fork.run_id,
            )
            return "forked"
        raise _conflict_error(place.stream, wanted, conflict.head, "every name for a fork of it is taken")

    def _committed(self, event: CheckpointEvent, place: _Place, raw: bytes) -> None:
        self._memory.saved(event, place.strand, diverted_from=place.diverted_from)
        self._payloads.keep(event, raw)
        telemetry.stored.add(event.payload.stored_size if event.payload else 0)


def _check_name(stream: StreamId, checkpoint_id: str) -> None:
    """A run of its own takes its name from its first checkpoint, which as such may be of any length."""
    if len(stream.run_id) > MAX_RUN_ID:
        raise CheckpointEncodeError(
            f"A checkpoint's checkpoint_id must have 1 to {MAX_RUN_ID} characters to name the run that it begins, and "
            f"has {len(checkpoint_id):,}: {described(checkpoint_id)}. Nothing was saved: give it a shorter id, or save "
            "through for_run, where the run has a name of its own."
        )


def _holds(event: CheckpointEvent, payload: Payload) -> bool:
    """Whether `event` is a checkpoint of the same content, however it is stored."""
    return event.payload is not None and event.payload.raw_sha256 == payload.raw_sha256


def _conflict_error(stream: StreamId, seq: int, head: CheckpointEvent | None, what: str) -> CheckpointConflictError:
    at = f"its head is seq {head.seq}, checkpoint {safe(head.checkpoint_id)}" if head else "its head is unknown"
    return CheckpointConflictError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was continued by another writer: seq {seq} is "
        f"taken, {at}; {what}. Load the newest checkpoint and go on from there, or use on_conflict='fork'.",
        stream=stream,
        expected_seq=seq,
        head=head,
    )
