"""A message as it lies in the log."""

from __future__ import annotations

from typing import ClassVar, Self

from agent_framework import Message

from ..events import CheckpointEvent

__all__ = ["StoredMessage"]


class StoredMessage(Message):
    """A message, and the turn that it lies in. `to_dict` gives the message alone."""

    DEFAULT_EXCLUDE: ClassVar[set[str]] = {*Message.DEFAULT_EXCLUDE, "seq", "turn_id", "run_id", "actor", "recorded_at"}

    seq: int
    """That of the turn, in its stream."""
    run_id: str
    """The stream: the session or, in a branch, whichever of those that it goes on from."""
    turn_id: str
    actor: str | None
    """Who wrote the turn."""
    recorded_at: str
    """When, in ISO 8601, UTC."""

    @classmethod
    def of(cls, event: CheckpointEvent, message: Message) -> Self:
        """`message`, which lies in `event`."""
        made = cls(
            message.role,
            message.contents,
            author_name=message.author_name,
            message_id=message.message_id,
            additional_properties=message.additional_properties,
            raw_representation=message.raw_representation,
        )
        made.seq, made.run_id, made.turn_id = event.seq, event.run_id, event.checkpoint_id
        made.actor, made.recorded_at = event.actor, event.recorded_at
        return made

    @classmethod
    def _get_type_identifier(cls, value: object = None) -> str:
        return Message._get_type_identifier()  # pyright: ignore[reportPrivateUsage] - what its `to_dict` writes
