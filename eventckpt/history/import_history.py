"""Conversations out of another store into sessions of this one, turn by turn. Doing so again changes nothing.

What a session holds is compared with its source message by message, by their ids. Where the one begins with the other,
what is missing is added behind; where both went on by themselves since, the session is left as it is, and named.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from agent_framework import HistoryProvider, Message

from ..errors import CheckpointConflictError, CheckpointDecodeError, CheckpointEncodeError
from ..text import safe
from .other_stores import HistorySource, OldMessage, OldSession, Unreadable

__all__ = ["ImportedHistory", "LeftOutOfHistory", "import_history"]

_TOLD: Final = 100  # of what was left out
_ANSWERS: Final = frozenset({"assistant", "tool"})
_MESSAGES: Final = 1000  # of a turn
_BYTES: Final = 16 * 1024 * 1024  # of a turn of several messages


class LeftOutOfHistory(NamedTuple):
    """A message that could not be taken over, or a session that was left as it is."""

    source_id: str
    session_id: str
    name: str
    """Which message, or where it is; empty: the session."""
    why: str


class ImportedHistory(NamedTuple):
    """What became of an import of conversations."""

    sessions: int
    messages: int
    """Those that were read; of a session that was left as it is, up to where that showed."""
    added: int
    """Of those, how many were not there yet."""
    left_out: tuple[LeftOutOfHistory, ...]
    """The first 100 that were."""
    left_out_count: int


async def import_history(source: HistorySource, history: Callable[[str], HistoryProvider]) -> ImportedHistory:
    """Take all conversations of a source over. In memory are one turn of it, and what its session holds here already.

    A turn ends with the last answer before what is no answer: an answer is a message of the role assistant or tool. One
    of more than 1,000 messages or 16 MiB is kept as several.

    Args:
        source: where from.
        history: the provider of a `source_id`, which saves what it is given; another writer's turn must be an error.

    Raises:
        CheckpointStoreError: a store failed. What was saved is kept, and importing again goes on.
    """
    work = _Import(source, history)
    async with aclosing(source.sessions()) as sessions:
        async for session in sessions:
            if isinstance(session, Unreadable):
                work.leave_out(OldSession("", ""), session.name, session.why)
            else:
                await work.take(session)
    return work.imported()


class _Import:
    """The sessions of a source, one after the other."""

    def __init__(self, source: HistorySource, history: Callable[[str], HistoryProvider]) -> None:
        self._source = source
        self._history = history
        self._sessions = self._messages = self._added = 0
        self._left_out: list[LeftOutOfHistory] = []
        self._left_out_count = 0

    async def take(self, session: OldSession) -> None:
        self._sessions += 1
        try:
            await self._take(session)
        except (CheckpointConflictError, CheckpointEncodeError, CheckpointDecodeError, TypeError, ValueError) as error:
            self.leave_out(session, "", safe(error))

    async def _take(self, session: OldSession) -> None:
        writer = _Writer(self._history(session.source_id), session.session_id)
        there = await writer.begin()
        async with aclosing(self._source.messages(session)) as entries:
            async for entry in entries:
                if isinstance(entry, Unreadable):
                    self.leave_out(session, entry.name, entry.why)
                    continue
                self._messages += 1
                if not there:
                    self._added += await writer.take(entry)
                elif there.pop() != entry.message.message_id:
                    self.leave_out(
                        session, "", f"it went on in both stores: this one has another message at {entry.name}"
                    )
                    return
        self._added += await writer.save()

    def leave_out(self, session: OldSession, name: str, why: str) -> None:
        self._left_out_count += 1
        if len(self._left_out) < _TOLD:
            self._left_out.append(LeftOutOfHistory(session.source_id, session.session_id, name, why))

    def imported(self) -> ImportedHistory:
        return ImportedHistory(self._sessions, self._messages, self._added, tuple(self._left_out), self._left_out_count)


class _Writer:
    """One session of this store, and the turn that will be saved next."""

    def __init__(self, history: HistoryProvider, session_id: str) -> None:
        self._history = history
        self._session_id = session_id
        self._state: dict[str, Any] = {}
        self._turn: list[Message] = []
        self._size = 0

    async def begin(self) -> list[str | None]:
        """The ids of the messages that are there, the first one last.

        Raises:
            ValueError: there were some, and they were cleared or erased: what was let go of does not come back.
        """
        state: dict[str, Any] = {}
        messages = await self._history.get_messages(self._session_id, state=state)
        seq = state.get("seq", 0)
        if seq and not messages:
            raise ValueError("it was cleared or erased here, and is left so")
        self._state["seq"] = seq  # so that a turn goes right behind what was read, or nowhere
        return [message.message_id for message in reversed(messages)]

    async def take(self, found: OldMessage) -> int:
        """One message more. How many were saved for it to have room: those of the turn before."""
        saved = 0
        if self._turn and (
            (self._turn[-1].role in _ANSWERS and found.message.role not in _ANSWERS)
            or len(self._turn) == _MESSAGES
            or self._size + found.size > _BYTES
        ):
            saved = await self.save()
        self._turn.append(found.message)
        self._size += found.size
        return saved

    async def save(self) -> int:
        """Save the turn; how many messages it has."""
        turn, self._turn, self._size = self._turn, [], 0
        if turn:
            await self._history.save_messages(self._session_id, turn, state=self._state)
        return len(turn)
