"""Chat history that goes back with the checkpoint: the framework's `HistoryProvider` over an event store.

A session is a stream of turns, beside the runs. What a lineage has seen is in `session.state[source_id]`, which travels
inside the agent's checkpoint: so a workflow that goes back to an older checkpoint shows the model its own past, and
what it says then goes to a branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from agent_framework import HistoryProvider, Message

from .. import settings
from ..closing import close_after
from ..codec import CheckpointCodec
from ..errors import CheckpointDecodeError
from ..events import MAX_RUN_ID, MAX_SEQ, CheckpointEvent, StreamId, check_run_id
from ..log import logger_of
from ..stores import AuditStore
from . import sessions
from .listing import ids_of
from .messages import StoredMessage
from .past import Past, read, read_seen
from .saving import Dedupe, OnConflict, Saver
from .snapshots import is_reserved
from .state import Standing
from .transcript import newest
from .turns import messages_in

__all__ = ["Dedupe", "EventHistoryProvider", "OnConflict", "OnUnreadable"]

logger: Final = logger_of("eventckpt")

OnUnreadable: TypeAlias = Literal["raise", "skip"]


class EventHistoryProvider(HistoryProvider):
    """Chat history of agents as events in `store`, beside the runs that it keeps.

    Args:
        store: the engine, such as `storage.store`. It is not closed with the provider.
        source_id: whose history this is: providers with the same one share their sessions. 1 to 255 characters; those
            that begin with "eventckpt:" are this package's own.
        load_messages, store_outputs, store_inputs, store_context_messages, store_context_from: see
            `agent_framework.HistoryProvider`.
        skip_excluded: leave out, on load, messages whose `additional_properties["_excluded"]` is true.
        max_messages: how many of the newest messages a load gives at most; a tool's result is never among them without
            its call. None: all.
        actor: who writes, kept on each turn.
        on_conflict: what a save does when another writer has continued the session behind what this lineage has seen
            (its `state` carried a seq): "branch" goes on in a branch, which nobody else sees, "append" goes behind what
            is there, "raise" raises `SessionConflictError`. A turn that was begun without a seq goes behind what is
            there, unless what was read for it was erased since.
        dedupe: which messages are known already, and are not saved again: "ids", those whose id the lineage has;
            "replay", besides, those of a transcript that a client without ids sends again, by their content, for which
            each save reads the session; "off", none.
        on_unreadable: what a load does with a stored message that cannot be read: "raise" an error that names it, or
            "skip" it, with a warning.
        allowed_checkpoint_types: application types that a message may hold in its additional properties; as for
            `EventCheckpointStorage`.

    Raises:
        TypeError, ValueError: an argument is not of the form above.
        CheckpointStoreError: the engine keeps no sessions.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "event_history"

    def __init__(
        self,
        store: AuditStore,
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        load_messages: bool = True,
        store_outputs: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        skip_excluded: bool = False,
        max_messages: int | None = None,
        actor: str | None = None,
        on_conflict: OnConflict = "branch",
        dedupe: Dedupe = "ids",
        on_unreadable: OnUnreadable = "raise",
        allowed_checkpoint_types: Iterable[str] | None = None,
    ) -> None:
        settings.instance("store", store, AuditStore, what="an AuditStore")
        settings.text("source_id", source_id, longest=MAX_RUN_ID)
        if is_reserved(source_id):
            raise ValueError(f"source_id begins as those of eventckpt's own do, which are reserved: {source_id!r}.")
        settings.flag("skip_excluded", skip_excluded)
        if max_messages is not None:
            settings.whole_number("max_messages", max_messages, least=1)
        if actor is not None:
            settings.text("actor", actor)
        settings.choice("on_conflict", on_conflict, "branch", "append", "raise")
        settings.choice("dedupe", dedupe, "ids", "replay", "off")
        settings.choice("on_unreadable", on_unreadable, "raise", "skip")
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_outputs=store_outputs,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
        )
        self.skip_excluded = skip_excluded
        self.max_messages = max_messages
        self.actor = actor
        self._store = store.sessions()
        self._skips = on_unreadable == "skip"
        self._codec = CheckpointCodec(allowed_checkpoint_types, storage_name=type(self).__name__)
        self._saver = Saver(self._store, self._codec, on_conflict=on_conflict, dedupe=dedupe, actor=actor)

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """The messages of a session that a lineage has seen.

        Args:
            session_id: the session, or one of its branches. 1 to 255 characters.
            state: the provider's own part of `AgentSession.state`. Where it carries a seq, the turns up to it are
                given; else the newest ones, and the state carries the seq afterwards.

        Raises:
            ValueError, TypeError: `session_id` is empty or names no session; `state` is none of a provider's.
            CheckpointTypeNotAllowedError, CheckpointDecodeError: a message cannot be read, and `on_unreadable` is
                "raise"; names the turn and the message.
            StoreUnavailableError: the store does not have yet what the state says was seen.
            CheckpointStoreError: the engine failed.
        """
        standing = Standing(self._session(session_id), state)
        wanted = None if self.skip_excluded else self.max_messages
        past = await read_seen(self._store, standing.stream, standing.reads_to, wanted=wanted)
        found = await self._readable(past, past.turns)
        self._saver.remember(past, found)
        if standing.reads_to is None:
            standing.begin(past.head.seq)
        elif standing.seq != past.head.seq:
            standing.found(past.head.seq)
        messages = [message for _, message in found if not (self.skip_excluded and _is_excluded(message))]
        return messages if self.max_messages is None else newest(messages, self.max_messages)

    async def save_messages(
        self, session_id: str | None, messages: Sequence[Message], *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Append messages to a session as one turn. When this returns, it is durable.

        Messages without an id are given one, in place: so the same messages, saved again, are the same turn.

        Args:
            session_id: the session, or one of its branches.
            messages: what one run of the agent, or one call of the model, added.
            state: as for `get_messages`; says afterwards where the lineage stands. Where it carries a seq, the turn
                goes right behind that; else behind the newest.

        Raises:
            ValueError, TypeError: as for `get_messages`.
            CheckpointTypeNotAllowedError, CheckpointEncodeError: a message holds what cannot be stored and loaded
                again; says what and where. Nothing was saved.
            SessionConflictError: another writer has continued the session, and `on_conflict` is "raise".
            CheckpointStoreError: the engine failed; nothing half-written is left.
        """
        session = self._session(session_id)
        standing = Standing(session, state)
        for message in messages:
            settings.instance("messages", message, Message, what="a list of Message")
        if messages:
            await self._saver.save(session, messages, standing)

    async def messages(
        self, session_id: str, *, before_seq: int | None = None, limit: int | None = None
    ) -> list[StoredMessage]:
        """A page of a session's messages, with where each lies: for who shows a long conversation from its end.

        Args:
            session_id: the session, or one of its branches.
            before_seq: only of turns before this one, such as the `seq` of the first message of the page behind; 0 and
                below is what the session was forked from.
            limit: about how many: the newest whole turns that have so many messages, at least one turn. None: all.

        Raises: what `get_messages` does.
        """
        if limit is not None:
            settings.whole_number("limit", limit, least=1)
        upto = None
        if before_seq is not None:
            settings.whole_number("before_seq", before_seq, least=-MAX_SEQ)
            upto = before_seq - 1
        past = await read(self._store, self._session(session_id), upto=upto, wanted=limit)
        return [
            StoredMessage.of(event, message, event.seq + past.shifts[event.run_id])
            for event, message in await self._readable(past, _whole(past, limit))
        ]

    async def clear(self, session_id: str | None) -> None:
        """Hide all messages of a session, for every lineage and in all of its branches. The log keeps them.

        Raises:
            ValueError, TypeError: as for `get_messages`.
            CheckpointStoreError: the engine failed.
        """
        for stream in await sessions.clear(self._store, self._session(session_id), actor=self.actor):
            self._saver.forget(stream)

    async def fork(self, session_id: str, new_id: str, *, upto_seq: int | None = None) -> None:
        """Begin a session that goes on from a turn of another one. What either is told from then on is its own.

        Args:
            session_id: the session, or one of its branches.
            new_id: the new one.
            upto_seq: the last event that it shares; None: all.

        Raises:
            ValueError, TypeError: as for `get_messages`; there is no such seq.
            RunNotFoundError: there is no such session.
            SessionConflictError: `new_id` is a session already.
        """
        if upto_seq is not None:
            settings.whole_number("upto_seq", upto_seq, least=1)
        await sessions.fork(
            self._store, self._codec, self._session(session_id), self._session(new_id), upto_seq, actor=self.actor
        )

    async def erase(self, session_id: str) -> int:
        """Remove a session and its branches for good; how many events were removed. What stays of each stream is a
        record that it was removed, and of all of them one event that tells so. A session that was forked off loses what
        it shares. What saves next without having read since meets a conflict; see `on_conflict`.

        Raises:
            ValueError, TypeError: as for `get_messages`.
            RunNotRemovedError: one of these is on hold, damaged, or written to all the time; do it again then.
            CheckpointStoreError: the engine failed; do it again.
        """
        removals = await sessions.erase(self._store, self._session(session_id), actor=self.actor)
        for removal in removals:
            self._saver.forget(removal.stream)
        return sum(removal.events for removal in removals)

    async def list_sessions(self) -> list[str]:
        """The ids of the sessions of this `source_id` that hold a turn, sorted: without branches, and without what was
        cleared or erased."""
        return await ids_of(self._store, self.source_id)

    async def close(self) -> None:
        """Let go of what this provider opened; what was passed in stays open. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)

    def _session(self, session_id: str | None) -> StreamId:
        if not session_id:
            raise ValueError(
                f"session_id is {session_id!r}: without the id of a session its history could not be found again. "
                "Give the agent a session (AgentSession(session_id=...))."
            )
        return StreamId(self.source_id, check_run_id(session_id))

    async def _readable(self, past: Past, turns: Sequence[CheckpointEvent]) -> list[tuple[CheckpointEvent, Message]]:
        found: list[tuple[CheckpointEvent, Message]] = []
        for flaw in past.flaws:
            self._skip(flaw)
        begun = {turn.checkpoint_id for turn in past.turns}
        for turn in turns:
            messages = await self._messages(turn)
            if turn.turn is not None and turn.turn.continues not in (None, *begun):
                messages = newest(messages, len(messages))  # what it continues was cleared or removed, calls and all
            found += [(turn, message) for message in messages]
        return found

    async def _messages(self, turn: CheckpointEvent) -> list[Message]:
        found: list[Message] = []
        for each in await messages_in(self._codec, turn):
            if isinstance(each, Message):
                found.append(each)
            else:
                self._skip(each)
        return found

    def _skip(self, error: CheckpointDecodeError) -> None:
        if not self._skips:
            raise error
        logger.warning("%s It was skipped.", error)


def _is_excluded(message: Message) -> bool:
    return bool(message.additional_properties.get("_excluded", False))


def _whole(past: Past, limit: int | None) -> list[CheckpointEvent]:
    """The newest turns of a page that has enough, the one that was too much left out, if others stay. The page before
    ends at the seq of the first one: so a turn is not cut off whose later parts lie behind that."""
    turns, start = past.turns, None
    if limit is None:
        return turns
    left, may_start = limit, _may_start(turns)
    for index in range(len(turns) - 1, -1, -1):
        of = turns[index].turn
        left -= of.messages if of else 0
        if left < 0 and start is not None:
            return turns[start:]
        if may_start[index] and left < limit:  # a page has messages
            start = index
    return turns


def _may_start(turns: Sequence[CheckpointEvent]) -> list[bool]:
    """Of each turn, whether all before it lie before it in the log, too."""
    found: list[bool] = []
    begun: set[str] = set()
    last: dict[StreamId, int] = {}
    for turn in turns:
        is_part = turn.turn is not None and turn.turn.continues in begun
        found.append(not is_part and last.get(turn.stream, 0) < turn.seq)
        begun.add(turn.checkpoint_id)
        last[turn.stream] = max(turn.seq, last.get(turn.stream, 0))
    return found
