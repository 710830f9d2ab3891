"""Lists of messages: which of those that come in are new, and which of those that are there are shown."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

import msgspec
from agent_framework import Message

__all__ = ["behind", "give_ids", "ids_of", "newest", "open_calls"]

_OURS: Final = "eventckpt-"
"""Begins the id of a message that had none."""


def give_ids(messages: Sequence[Message]) -> None:
    """Give each message that has none an id, in place: so it is the same message when its save is tried again."""
    for message in messages:
        if message.message_id is None:
            message.message_id = f"{_OURS}{uuid.uuid4().hex}"


def ids_of(messages: Sequence[Message]) -> list[str]:
    """The ids that messages have."""
    return [message.message_id for message in messages if message.message_id is not None]


def open_calls(messages: Sequence[Message]) -> set[str]:
    """The calls of tools among these messages that have no result there yet."""
    calls: set[str] = set()
    for content in (content for message in messages for content in message.contents):
        if content.call_id and content.type == "function_call" and not content.informational_only:
            calls.add(content.call_id)
        elif content.call_id and content.type == "function_result":
            calls.discard(content.call_id)
    return calls


def newest(messages: list[Message], most: int) -> list[Message]:
    """The last messages, `most` of them or fewer: no result of a tool is among them whose call is not."""
    start = max(0, len(messages) - most)
    called: set[str] = set()
    for index in range(start, len(messages)):
        for content in messages[index].contents:
            if content.type == "function_call" and content.call_id:
                called.add(content.call_id)
            elif content.type == "function_result" and content.call_id and content.call_id not in called:
                start = index + 1
                called.clear()
    return messages[start:]


def behind(existing: Sequence[Message], incoming: Sequence[Message]) -> Sequence[Message]:
    """What of a transcript that a client sends again is behind what is there: the rule of the framework's own providers
    (`filter_new_messages`, agent-framework-core 1.23), by which an id counts, or else the content."""
    have, come = [_identity(each) for each in existing], [_identity(each) for each in incoming]
    if not have:
        return incoming
    # A single question without an id may well be asked again; what is longer than that is a repetition.
    is_question = existing[-1].role == "user" and have[-1][0] == "content"
    for start in range(len(come) - len(have) + 1):
        if come[start : start + len(have)] == have and not (start == 0 and len(have) == 1 and is_question):
            return incoming[start + len(have) :]
    for overlap in range(min(len(have), len(come)), 0, -1):
        if have[-overlap:] == come[:overlap] and not (overlap == 1 and is_question):
            return incoming[overlap:]
    return incoming


def _identity(message: Message) -> tuple[str, str]:
    name = message.message_id
    if name is not None and not name.startswith(_OURS):
        return "id", name
    contents = msgspec.json.encode([content.to_dict() for content in message.contents], order="sorted", enc_hook=str)
    return "content", f"{message.role} {contents.decode()}"
