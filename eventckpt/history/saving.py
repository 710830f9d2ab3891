"""Where the messages of a turn go, and what it means that another event is there already.

One append, without a look before it, where it is known what the lineage stands at. Who finds the place taken looks at
what came between: the same turn, then it was saved already; only clearings and records of removals, then it goes behind
them; another writer's turn, then a branch begins, or the turn goes behind it, or it is an error.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple, TypeAlias

from agent_framework import Message

from ..chain import sealed
from ..codec import CheckpointCodec
from ..errors import CheckpointStoreError, SessionConflictError, StreamConflict
from ..events import SCHEMA_OF_SESSIONS, CheckpointEvent, ForkPoint, Payload, StreamId, Turn
from ..removals import Removals
from ..storage.compose import now
from ..storage.payloads import Packed
from ..stores import AuditStore, head_of
from .branches import BRANCH_MARK, begin_of_branches, session_of
from .memory import Known, Memory
from .past import Head, Past, read_seen
from .state import Standing
from .transcript import behind, give_ids, ids_of, open_calls
from .turns import messages_in, packed

__all__ = ["Dedupe", "OnConflict", "Place", "Saver", "turn_at"]

OnConflict: TypeAlias = Literal["branch", "append", "raise"]
Dedupe: TypeAlias = Literal["ids", "replay", "off"]

_TRIES: Final = 100
"""Conflicts that one save answers: each means that somebody else has saved."""
_LOOK: Final = 100
"""Messages whose ids are looked at first: who sends a transcript again sends the newest of it, too."""


class Place(NamedTuple):
    """Where an event goes: behind a head or, with `forked_from`, at the beginning of a stream."""

    stream: StreamId
    head: Head
    forked_from: ForkPoint | None = None
    session: str | None = None
    """Of the beginning of a branch: the session that it is a branch of."""
    hidden: dict[str, int] | None = None
    """Of the beginning of another session: what is hidden of what it goes on from."""

    @property
    def seq(self) -> int:
        return 1 if self.forked_from else self.head.seq + 1

    @classmethod
    def behind(cls, head: Head) -> Place:
        return cls(head.stream, head)

    @classmethod
    def fork(
        cls, stream: StreamId, head: Head, *, session: str | None = None, hidden: dict[str, int] | None = None
    ) -> Place:
        """The beginning of a stream that goes on from `head`, which is in another one."""
        point = ForkPoint(
            workflow_name=head.stream.workflow_name,
            run_id=head.stream.run_id,
            seq=head.seq,
            checkpoint_id=head.turn_id,
        )
        return cls(stream, head, point, session, hidden)


def turn_at(
    place: Place, turn: Packed, messages: Sequence[Message], *, actor: str | None, continues: str | None = None
) -> CheckpointEvent:
    """The event of a turn.

    Args:
        place: where it goes.
        turn: its payload, as `packed` gives it.
        messages: what that holds.
        actor: who writes it.
        continues: the turn that it is a later part of.
    """
    moment = now()
    return sealed(
        CheckpointEvent(
            type="turn",
            workflow_name=place.stream.workflow_name,
            run_id=place.stream.run_id,
            seq=place.seq,
            checkpoint_id=uuid.uuid4().hex,
            previous_checkpoint_id=place.head.turn_id,
            timestamp=moment,
            recorded_at=moment,
            actor=actor,
            payload=turn.payload,
            turn=Turn(
                roles=dict(Counter(str(message.role) for message in messages)),
                continues=continues,
                session=place.session,
            ),
            forked_from=place.forked_from,
            cleared=place.hidden,
            previous_digest=place.head.digest,
            schema=SCHEMA_OF_SESSIONS,
        ),
        turn.data_digest,
    )


class Saver:
    """Saves turns of the sessions in one store, and knows what it has read and written of them.

    Args:
        store: of sessions.
        codec: for the messages.
        on_conflict, dedupe, actor: see `EventHistoryProvider`.
    """

    def __init__(
        self, store: AuditStore, codec: CheckpointCodec, *, on_conflict: OnConflict, dedupe: Dedupe, actor: str | None
    ) -> None:
        self._store = store
        self._codec = codec
        self._memory = Memory()
        self._on_conflict = on_conflict
        self._dedupe = dedupe
        self._actor = actor

    async def save(self, session: StreamId, messages: Sequence[Message], standing: Standing) -> None:
        """Append what is new of `messages` behind what the lineage has seen. Raises what `save_messages` does."""
        place = Place.behind(await self._head(standing, messages))
        new = await self._new(place.head, messages)
        for _ in range(_TRIES):
            if not new:
                return
            give_ids(new)
            turn = await packed(self._codec, new)
            payload = turn.payload
            if place.head.seq == 0 and place.stream != session and place.forked_from is None:
                place = await self._branch(session, Place.behind(Head(session)), payload)  # the lineage's was erased
            event = turn_at(place, turn, new, actor=self._actor, continues=standing.turn)
            conflict = await self._append(place, event)
            saved = event if conflict is None else _same(conflict, payload)
            if conflict is None or saved is not None:
                self._went_on(standing, place.head, saved or event, new)
                return
            place = await self._next(session, place, conflict, standing, payload)
            if place.forked_from is None:
                new = await self._new(place.head, messages)
        raise CheckpointStoreError(
            f"Session {session.run_id!r} (source {session.workflow_name!r}) was written to {_TRIES} times while one "
            f"turn was to go behind seq {place.head.seq}; it was not saved. Try again."
        )

    def remember(self, past: Past, messages: Sequence[tuple[CheckpointEvent, Message]]) -> None:
        """A lineage was read.

        Args:
            past: what the read gave.
            messages: those in it, each with its event.
        """
        stream, seq = past.head.stream, past.head.seq
        known = Known(seq if past.is_whole else -1)
        known.heads.put(seq, past.head)
        for event, message in messages:
            known.add(event.seq if event.stream == stream else 0, ids_of([message]))
        self._memory.put(stream, known)

    def forget(self, stream: StreamId) -> None:
        """What is known of a stream holds no more."""
        self._memory.forget(stream)

    async def _head(self, standing: Standing, messages: Sequence[Message]) -> Head:
        """What the lineage stands at; asked for where that is not known."""
        known = self._memory.of(standing.stream)
        if standing.seq is not None:
            head = known.heads.get(standing.seq) if known else None
            return head or await self._look(standing.stream, standing.seq)
        last = await head_of(self._store, standing.stream)
        head = Head(standing.stream) if last is None else Head.of(last)
        if known is not None and known.heads.get(head.seq) == head:
            return head
        if head.seq and self._dedupe == "ids" and ids_of(messages):
            return await self._look(standing.stream, None)
        self._memory.forget(standing.stream)  # it is of another time
        return head

    async def _look(self, stream: StreamId, upto: int | None, wanted: int | None = _LOOK) -> Head:
        past = await read_seen(self._store, stream, upto, wanted=wanted)
        self.remember(past, await self._messages(past))
        return past.head

    async def _messages(self, past: Past) -> list[tuple[CheckpointEvent, Message]]:
        """The messages that can be read; what cannot, nobody sends again."""
        return [
            (turn, each)
            for turn in past.turns
            for each in await messages_in(self._codec, turn)
            if isinstance(each, Message)
        ]

    async def _new(self, head: Head, messages: Sequence[Message]) -> Sequence[Message]:
        """Those of the messages that the lineage does not have yet."""
        if self._dedupe == "off":
            return messages
        if self._dedupe == "replay":
            past = await read_seen(self._store, head.stream, head.seq)
            existing = [message for _, message in await self._messages(past)]
            known = Known()
            known.add(head.seq, ids_of(existing))
            return _unknown(behind(existing, messages), known, head.seq)
        known = self._memory.of(head.stream) or Known()
        new = _unknown(messages, known, head.seq)
        if len(new) < len(messages) and known.whole_to < head.seq:  # a transcript that is sent again
            await self._look(head.stream, head.seq, None)
            new = _unknown(messages, self._memory.of(head.stream) or known, head.seq)
        return new

    async def _append(self, place: Place, event: CheckpointEvent) -> list[CheckpointEvent] | None:
        """What lies behind the place already, whole, the newest first; None: the event is there now."""
        try:
            await self._store.append(event)
        except StreamConflict:
            since: list[CheckpointEvent] = []
            async with aclosing(self._store.newest(place.stream)) as events:
                async for each in events:
                    if each.seq < place.seq:
                        break
                    since.append(each)
            return since
        return None

    async def _next(
        self,
        session: StreamId,
        place: Place,
        conflict: Sequence[CheckpointEvent],
        standing: Standing,
        payload: Payload,
    ) -> Place:
        """Where a turn goes whose place is taken by others."""
        if place.forked_from is None and standing.follows():
            return Place.behind(await self._head(standing, ()))
        was_erased = place.forked_from is None and _was_erased(conflict, standing)
        if was_erased and self._on_conflict == "branch":
            return await self._branch(session, Place.behind(Head(session)), payload)
        cleared = next((event for event in conflict if event.type == "tombstone" and event.cleared is not None), None)
        if cleared is not None and place.forked_from is None:  # nothing is left that the lineage has seen
            self._memory.forget(place.stream)
            return Place.behind(Head.of(cleared))
        # Of a turn that is under way two may go on, each from its copy of one state.
        appends = standing.appends and not any(_continues(event, standing.turn) for event in conflict)
        goes_behind = not was_erased and (appends or all(event.type == "tombstone" for event in conflict))
        if place.forked_from is None and (goes_behind or self._on_conflict == "append"):
            head = await self._look(place.stream, None)  # both may bring the same messages
            is_erased = place.stream != session and Removals(conflict).covers(1)  # of a branch, no prune takes that
            return Place.behind(Head(place.stream) if is_erased else head)
        if self._on_conflict == "raise":
            head = conflict[0].header() if conflict else None
            raise SessionConflictError(
                f"Session {session.run_id!r} (source {session.workflow_name!r}) was "
                f"{'erased' if was_erased else 'continued by another writer'}: seq "
                f"{place.seq} is taken, its head is seq {head.seq if head else 0}; the turn was not saved. Read the "
                "session again and go on from there, or use on_conflict='branch' or 'append'.",
                stream=place.stream,
                expected_seq=place.seq,
                head=head,
            )
        return await self._branch(session, place, payload)

    async def _branch(self, session: StreamId, place: Place, payload: Payload) -> Place:
        """The branch that a turn begins: by its content, so that the same turn, saved again, is in the same one. Where
        the name is taken by another, the next one is named behind that. A branch of a branch is one of the session."""
        what = f"{place.stream.run_id}\0{place.head.seq}\0{payload.raw_sha256}"
        mark = hashlib.sha256(what.encode()).hexdigest()[:BRANCH_MARK]
        of = await session_of(self._store, session)
        name = f"{begin_of_branches(of.run_id)}{mark}"
        return Place.fork(StreamId(session.workflow_name, name), place.head, session=of.run_id)

    def _went_on(self, standing: Standing, before: Head, event: CheckpointEvent, messages: Sequence[Message]) -> None:
        self._memory.went_on(Head.of(event), ids_of(messages), before=before)
        turn = standing.turn or event.checkpoint_id
        standing.saved(event.stream, event.seq, turn if open_calls(messages) else None)


def _same(conflict: Sequence[CheckpointEvent], payload: Payload) -> CheckpointEvent | None:
    """The event among these that holds the same turn: it was saved before."""
    return next((each for each in conflict if each.payload and each.payload.raw_sha256 == payload.raw_sha256), None)


def _was_erased(conflict: Sequence[CheckpointEvent], standing: Standing) -> bool:
    """Whether what a lineage has seen, or read for a turn without a seq, was removed as a whole since, and not cleared
    behind that: whoever has seen what was cleared goes on behind it."""
    seen = standing.seq or 0
    last = next((event for event in conflict if event.closes or event.cleared is not None), None)
    return seen > 0 and last is not None and last.closes and last.seq > seen


def _continues(event: CheckpointEvent, turn: str | None) -> bool:
    return turn is not None and event.turn is not None and event.turn.continues == turn


def _unknown(messages: Sequence[Message], known: Known, seq: int) -> list[Message]:
    """Each message once, without those that are known. A stream of updates with one id becomes several messages with
    it, such as a call, its result and an answer: these are not one."""
    seen: dict[str, list[Message]] = {}
    new: list[Message] = []
    for message in messages:
        name = message.message_id
        if name is None:
            new.append(message)
        elif not known.has(name, seq):
            others = seen.setdefault(name, [])
            if not any(_is_same(message, other) for other in others):
                new.append(message)
            others.append(message)
    return new


def _is_same(one: Message, other: Message) -> bool:
    return one is other or one.to_dict() == other.to_dict()
