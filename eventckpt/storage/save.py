"""The save path: from a checkpoint to its event in the log.

A save commits only at the seq right after the head that its execution last saw. That one rule keeps two workers that
resume the same checkpoint from interleaving, and it needs no read before the write: the engine's conflict tells when
what was seen is out of date.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from agent_framework import WorkflowCheckpoint

from ..codec import CheckpointCodec, Encoded
from ..errors import (
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    ClaimLostError,
    StoreLockedError,
    StoreUnavailableError,
    StreamConflict,
)
from ..events import CheckpointEvent, StreamId
from ..log import logger_of
from ..stores import EventStore, FoundEvent
from ..stores.walks import counts
from ..text import safe
from ..threads import off_the_loop
from . import telemetry
from .annotations import Change, annotate
from .claiming import Claims, Holder
from .claims import RunClaim
from .compose import event_at, header_of, tombstone_after
from .conflict import Diverged, Repeated, answer_to, append_behind, conflict_error, holds, is_removed, reason
from .memory import EMPTY, Bound, Execution, Head, Memory, Tip
from .payloads import Packed, Payloads
from .placement import Place, Placement, continues, forks
from .questions import asked_since
from .summary import answering

__all__ = ["OnConflict", "Outcome", "Saved", "Writer"]

logger: Final = logger_of("eventckpt")

OnConflict: TypeAlias = Literal["fork", "raise"]
Outcome: TypeAlias = Literal["saved", "repeated", "forked"]


_TAKEN: Final = "somebody else has taken it since"


class Saved(NamedTuple):
    """What became of a checkpoint."""

    outcome: Outcome
    event: CheckpointEvent
    """Where it is: the event that holds it."""


class _Save(NamedTuple):
    """A checkpoint on its way into the log."""

    draft: CheckpointEvent
    """Its header, without a place."""
    raw: bytes
    execution: Execution
    bound: Bound | None

    @property
    def claim(self) -> RunClaim | None:
        """The claim that is held through the handle."""
        return self.bound.claim if self.bound is not None else None


class Writer:
    """Turns checkpoints into events and appends them."""

    def __init__(
        self,
        store: EventStore,
        codec: CheckpointCodec,
        memory: Memory,
        payloads: Payloads,
        claims: Claims,
        *,
        on_conflict: OnConflict,
        actor: str | None,
    ) -> None:
        self._store = store
        self._codec = codec
        self._memory = memory
        self._payloads = payloads
        self._claims = claims
        self._on_conflict = on_conflict
        self._actor = actor
        self._placement = Placement(store, memory)

    def actor_of(self, bound: Bound | None) -> str | None:
        """Who writes through a handle."""
        return self._actor if bound is None or bound.actor is None else bound.actor

    def check(self, checkpoint: WorkflowCheckpoint) -> None:
        """See `RunCheckpointStorage.check`."""
        self._codec.encode(checkpoint)

    async def save(
        self, checkpoint: WorkflowCheckpoint, bound: Bound | None, *, traceparent: str | None = None
    ) -> Saved:
        """Append `checkpoint` to the run that `bound` is of, or to the one that its lineage leads to; an event that is
        written says which span wrote it."""
        # Everything that reads the live state happens before the first await: the workflow may go on changing it.
        draft = header_of(checkpoint, self.actor_of(bound), traceparent=traceparent)
        raw = await self._loadable(draft, self._codec.encode_in_pieces(checkpoint))
        execution, elsewhere = await self._placement.execution_of(draft, bound)
        if bound is not None:
            bound.goes_on(execution)
        outage = execution.outage
        async with execution.turn:
            if execution.outage is not None and execution.outage is not outage:
                raise _not_tried(draft, execution.outage)
            answers = tuple(bound.answers) if bound is not None else ()
            if answers:
                draft = msgspec.structs.replace(draft, summary=answering(draft.summary, answers))
            save = _Save(draft, raw, execution, bound)
            if save.claim is not None:
                save.claim.check()
            try:
                place = await self._placement.place(draft, execution, bound, elsewhere)
                asked = asked_since(save.draft, place.own, place.parent)
                saved = await self._save(save._replace(draft=asked), place)
            except (StoreUnavailableError, StoreLockedError) as error:
                execution.outage = error
                raise
        if bound is None:
            self._memory.saved(draft.workflow_name, draft.checkpoint_id, execution)
        else:
            bound.answers = {each: None for each in bound.answers if each not in answers}
        return saved

    async def _save(self, save: _Save, place: Place) -> Saved:
        packed = await self._packed(save, place)
        there = await self._present(save, place)
        if there is not None and holds(there.event, packed.payload) and await counts(self._store, there):
            self._memory.has_answer(there.event)
            if there.event.seq == place.head.seq + 1:  # an earlier try, or as good as one
                save.execution.caught_up(there.event.stream, Head.of(there.event))
            self._memory.note(Tip.of(there.event, Head.of(there.head)))
            return Saved("repeated", there.event)
        epoch = save.bound.epoch(place.stream) if save.bound is not None else 0
        seen = epoch
        while True:
            if place.head.claim > seen:  # mostly there is none
                seen = place.head.claim
                if (holder := await self._met(save, place)) is not None:
                    return await self._diverged(save, place, packed, holder)
            elif place.head.claim < epoch < place.head.seq:  # what came last was saved without a claim
                await self._check_since(save, place, epoch)
            event = event_at(save.draft, place.stream, place.head, packed, place.forked_from, epoch or None)
            self._memory.sends(event)
            save.execution.sends(event)
            try:
                await self._store.append(event)
            except StreamConflict as conflict:
                self._memory.has_answer(event)
                answer = await answer_to(self._store, place, event, save.execution, self._memory)
                if isinstance(answer, Diverged):
                    if save.claim is not None and 0 < epoch < answer.claim:
                        raise _lost(save.claim, place, conflict.head) from conflict
                    return await self._diverged(save, place, packed, conflict, was_removed=answer.was_removed)
                if isinstance(answer, Repeated):
                    self._memory.has_answer(answer.event)
                    save.execution.caught_up(place.stream, Head.of(answer.event))
                    self._note(answer.event, save)
                    return Saved("repeated", answer.event)
                save.execution.caught_up(place.stream, answer.head)
                place = place.after(answer.head)
                if is_removed(packed.payload.bases, answer.pruned):
                    packed = await self._payloads.encode(save.raw, place.stream)
            else:
                self._memory.has_answer(event)
                save.execution.wrote(event)
                self._note(event, save)
                telemetry.stored.add(packed.payload.stored_size)
                if event.seq == 1 and event.forked_from is None and event.previous_checkpoint_id is not None:
                    _warn_of_its_parent(event)
                return Saved("saved", event)

    async def _met(self, save: _Save, place: Place) -> Holder | None:
        """Who has the claim that was in force at the head of a run, and is not the one that this save is made under;
        None: it was given back, or left.

        Raises:
            ClaimLostError: it was taken after the one that this save is made under.
        """
        if save.claim is not None and save.claim.stream == place.stream:
            raise _lost(save.claim, place, None)
        return await self._claims.holder(place.stream)

    async def _check_since(self, save: _Save, place: Place, epoch: int) -> None:
        """What was saved without a claim hides whether one was taken before it: the events since that of our own tell.

        Raises:
            ClaimLostError: one was, or may have been: some of them are removed.
        """
        since = [header async for header in self._store.headers(place.stream, gt=epoch)]
        is_whole = [header.seq for header in since[:1]] == [epoch + 1] and len(since) == since[-1].seq - epoch
        if save.claim is not None and (not is_whole or any((header.claim or 0) > epoch for header in since)):
            raise _lost(save.claim, place, None)

    async def _packed(self, save: _Save, place: Place) -> Packed:
        """A delta against what the lineage's last event rests on, if that is known to be there still; a snapshot."""
        base, attempts = place.rests_on, save.execution.attempts
        if base is None or base.payload is None or not attempts.is_due(len(save.raw)):
            return await self._payloads.encode(save.raw, place.stream)
        packed = await self._payloads.encode(save.raw, place.stream, base.seq, base.payload)
        attempts.made(packed.payload, base.payload)
        is_doubtful = base.seq < save.execution.read_to or place.own is not None
        if is_doubtful and await self._is_pruned(packed.payload.bases, place.stream):
            return await self._payloads.encode(save.raw, place.stream)
        return packed

    async def _present(self, save: _Save, place: Place) -> FoundEvent | None:
        """The newest event of this checkpoint in its run, if it was met before or may be there all the same: before the
        end of what was read, or, where something was forgotten, before the end of what is known. It is not before the
        checkpoint that it follows."""
        if place.own is not None:
            return await self._store.find(save.draft.checkpoint_id, stream=place.own.stream)
        parent = place.rests_on
        looked_through = place.head.seq if self._memory.has_forgotten else save.execution.read_to
        if not looked_through or (parent is not None and parent.seq >= looked_through):
            return None
        return await self._store.find(save.draft.checkpoint_id, stream=place.stream)

    async def _is_pruned(self, bases: tuple[int, ...], stream: StreamId) -> bool:
        """Whether a base that is remembered is recorded as removed. What is recorded may still be there, or be shown by
        a replica that lags: it is the record that counts."""
        record = await self._store.find("", stream=stream) if bases else None
        return record is not None and is_removed(bases, record.event.pruned)

    async def delete(self, located: FoundEvent | None, bound: Bound | None) -> bool:
        """Append a tombstone for a live checkpoint; False where there is none. Never a conflict: it follows
        whatever the head is.

        Raises:
            StoreCorruptError: nothing can follow the head, as the store itself tells it.
        """
        if located is None:
            return False
        deleted, actor = located.event, self.actor_of(bound)
        epoch = bound.epoch(deleted.stream) if bound is not None else 0

        async def after(head: Head) -> CheckpointEvent | None:
            if head.seq > located.head.seq and not await self._is_there(deleted):
                return None
            return tombstone_after(deleted, head._replace(claim=max(head.claim, epoch)), actor)

        tombstone = await append_behind(self._store, Head.of(located.head), after)
        if tombstone is None:
            return False
        self._memory.forget(tombstone)
        for execution in self._affected(tombstone, bound):
            execution.deleted(tombstone)
        return True

    async def _is_there(self, event: CheckpointEvent) -> bool:
        """Whether the checkpoint in an event counts by now: the run may have been removed, or begun again since."""
        there = await self._store.find(event.checkpoint_id, stream=event.stream)
        return there is not None and there.event.type == "checkpoint" and await counts(self._store, there)

    async def annotate(
        self, change: Change, execution: Execution, bound: Bound, *, as_holder: bool = False
    ) -> CheckpointEvent:
        """Say something about the run that the saves of an execution go to; see `annotations.annotate`.

        Args:
            change, execution, bound: what is said, of what and through which handle.
            as_holder: whether it is said of what was done under the claim that is held, if one is.

        Raises:
            ClaimLostError: as the holder only: another has taken the claim since.
        """
        head, actor = execution.head or EMPTY, self.actor_of(bound)
        claim = bound.claim if as_holder and bound.epoch(execution.stream) else None

        def check(head: Head) -> None:
            if claim is not None and head.claim > claim.epoch:
                raise claim.lose(_TAKEN)

        event = await annotate(self._store, execution.stream, change, head=head, actor=actor, check=check)
        execution.deleted(event)
        return event

    def _affected(self, tombstone: CheckpointEvent, bound: Bound | None) -> tuple[Execution, ...]:
        if bound is not None:
            return (bound.execution(tombstone.workflow_name),)
        there = self._memory.executions(tombstone.workflow_name, tombstone.checkpoint_id)
        return (there.current, *there.newcomers) if there is not None else ()

    async def _loadable(self, draft: CheckpointEvent, encoded: Encoded) -> bytes:
        """The raw bytes: what could not be loaded must not be acknowledged. `FileCheckpointStorage` checks the same."""
        try:
            await off_the_loop(len(encoded.raw), self._codec.prove, encoded)
        except CheckpointTypeNotAllowedError:
            raise
        except CheckpointDecodeError as error:
            raise CheckpointEncodeError(
                f"Checkpoint {safe(draft.checkpoint_id)} could be stored, but not loaded again: {safe(error)}"
            ) from error
        return encoded.raw

    async def _diverged(
        self, save: _Save, place: Place, packed: Packed, why: StreamConflict | Holder, *, was_removed: bool = False
    ) -> Saved:
        """Another writer took the run, has the claim on it or removed it: go on in a run of our own, or say so."""
        draft = save.draft
        conflict, holder = (why, None) if isinstance(why, StreamConflict) else (None, why)
        head = conflict.head if conflict is not None else None
        if self._on_conflict == "raise":
            raise conflict_error(
                place, head, draft.checkpoint_id, forks=False, holder=holder, was_removed=was_removed
            ) from conflict
        began = await self._begun(save.execution)
        if began is not None:  # by a save before this one, which never heard of it
            save.execution.diverted_to(began)
            if began.checkpoint_id == draft.checkpoint_id and holds(began, packed.payload):
                self._note(began, save)
                return Saved("forked", began)
            return await self._save(save, continues(began.stream, Head.of(began), place.parent))
        for fork in forks(place, draft.checkpoint_id):
            packed = await self._payloads.encode(save.raw, fork.stream)
            event = event_at(draft, fork.stream, fork.head, packed, fork.forked_from)
            save.execution.began = event.header()
            try:
                await self._store.append(event)
            except StreamConflict:
                answer = await answer_to(self._store, fork, event, save.execution, self._memory)
                if not isinstance(answer, Repeated):
                    continue  # another checkpoint whose id begins alike
                event = answer.event
            save.execution.diverted_to(event)
            self._note(event, save)
            telemetry.stored.add(packed.payload.stored_size)
            logger.warning(
                "Run %r of workflow %r %s; checkpoint %s goes on as run %r.",
                place.stream.run_id,
                place.stream.workflow_name,
                reason(place, holder, was_removed=was_removed),
                draft.checkpoint_id,
                fork.stream.run_id,
            )
            return Saved("forked", event)
        save.execution.began = None
        raise conflict_error(place, head, draft.checkpoint_id, forks=True, holder=holder, was_removed=was_removed)

    async def _begun(self, execution: Execution) -> CheckpointEvent | None:
        """The first event of a fork that an earlier save of this execution has begun, if it is there."""
        began = execution.began
        if began is None:
            return None
        headers = [header async for header in self._store.headers(began.stream, lte=began.seq)]
        execution.began = None
        return began if [header.digest for header in headers] == [began.digest] else None

    def _note(self, event: CheckpointEvent, save: _Save) -> None:
        self._memory.note(Tip.of(event))
        self._payloads.wrote(event, save.raw)


def _lost(claim: RunClaim, place: Place, head: CheckpointEvent | None) -> ClaimLostError:
    return claim.lose(_TAKEN, expected_seq=place.head.seq + 1, head=head)


def _warn_of_its_parent(event: CheckpointEvent) -> None:
    logger.warning(
        "Checkpoint %s of workflow %r follows %s, which is not in this store; its run begins here.",
        event.checkpoint_id,
        event.workflow_name,
        event.previous_checkpoint_id,
    )


def _not_tried(draft: CheckpointEvent, outage: CheckpointStoreError) -> CheckpointStoreError:
    return type(outage)(
        f"Checkpoint {safe(draft.checkpoint_id)} of workflow {draft.workflow_name!r} was not saved: the save before it "
        f"through the same storage found the store out of reach. Trying again is safe. {safe(outage)}"
    )
