"""A message as it lies in the log."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from agent_framework import Message

from ..events import CheckpointEvent

__all__ = ["StoredMessage"]


_PLACE: Final = ("seq", "run_id", "stream_seq", "turn_id", "actor", "recorded_at")


class StoredMessage(Message):
    """A message, and the turn that it lies in. `to_dict` gives the message alone."""

    DEFAULT_EXCLUDE: ClassVar[set[str]] = {*Message.DEFAULT_EXCLUDE, *_PLACE}

    seq: int
    """That of the turn in the session that was asked for; of what that goes on from, 0 and below."""
    run_id: str
    """The stream that it lies in: the session or, of a branch or a fork, one of those that it goes on from."""
    stream_seq: int
    """The seq of the turn there."""
    turn_id: str
    actor: str | None
    """Who wrote the turn."""
    recorded_at: str
    """When, in ISO 8601, UTC."""

    @classmethod
    def of(cls, event: CheckpointEvent, message: Message, seq: int) -> Self:
        """`message`, which lies in `event`, whose turn has this seq in the session."""
        made = cls(
            message.role,
            message.contents,
            author_name=message.author_name,
            message_id=message.message_id,
            additional_properties=message.additional_properties,
            raw_representation=message.raw_representation,
        )
        made.seq, made.run_id, made.stream_seq, made.turn_id = seq, event.run_id, event.seq, event.checkpoint_id
        made.actor, made.recorded_at = event.actor, event.recorded_at
        return made

    @classmethod
    def _get_type_identifier(cls, value: object = None) -> str:
        return Message._get_type_identifier()  # pyright: ignore[reportPrivateUsage] - what its `to_dict` writes
