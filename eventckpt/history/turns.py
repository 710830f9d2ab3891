"""Messages to the payload of a turn, and back.

What is stored of a message is what `Message.to_dict` gives, and its additional properties as they are: the framework
would turn a date in them into text and drop bytes in silence. Everything goes through the codec, under its allow-list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from agent_framework import Content, Message

from .. import delta
from ..chain import flaw_of
from ..codec import MAX_RAW_SIZE, CheckpointCodec
from ..errors import CheckpointDecodeError, CheckpointEncodeError, CheckpointTypeNotAllowedError
from ..events import CheckpointEvent
from ..storage.payloads import Packed
from ..text import safe
from ..threads import off_the_loop

__all__ = ["message_of", "messages_in", "packed"]

_MESSAGES: Final = "messages"
_PROPERTIES: Final = "additional_properties"


async def packed(codec: CheckpointCodec, messages: Sequence[Message]) -> Packed:
    """The payload that holds these messages, which were shown to load again.

    Raises:
        CheckpointTypeNotAllowedError, CheckpointEncodeError: a message cannot be stored; says where in it and why.
    """
    return await off_the_loop(sum(map(_weight, messages)), _packed, codec, messages)


def _packed(codec: CheckpointCodec, messages: Sequence[Message]) -> Packed:
    raw = codec.encode_values({_MESSAGES: [_stored(index, message) for index, message in enumerate(messages)]})
    for index, stored in enumerate(_listed(codec.decode_values(raw))):
        try:
            message_of(stored)
        except CheckpointDecodeError as error:
            raise CheckpointEncodeError(
                f"Message {index} of a turn could not be loaded again, so it is not saved: {error}"
            ) from error
    return Packed.of(delta.encode(raw))


def _stored(index: int, message: Message) -> dict[str, Any]:
    try:
        stored = message.to_dict()
    except (RecursionError, TypeError, ValueError) as error:
        raise CheckpointEncodeError(
            f"Message {index} of a turn cannot be written as a dict, so it is not saved: {safe(error)}"
        ) from error
    _keep_properties(stored, message)
    return stored


def _keep_properties(stored: dict[str, Any], of: Message | Content) -> None:
    """Put the additional properties into what is stored as they are, those of contents in contents too."""
    if of.additional_properties:
        stored[_PROPERTIES] = of.additional_properties
    for name, value in vars(of).items():
        parts = cast("list[object]", value) if isinstance(value, list) else [value]
        kept = cast("object", stored.get(name))
        for part, held in zip(parts, cast("list[object]", kept) if isinstance(kept, list) else [kept], strict=False):
            if isinstance(part, Content) and isinstance(held, dict):
                _keep_properties(cast("dict[str, Any]", held), part)


def _weight(message: Message) -> int:
    """About how many bytes a message has: its texts and data."""
    return sum(len(part) for content in message.contents for part in (content.text, content.uri) if part) + sum(
        len(content.result) for content in message.contents if isinstance(content.result, str)
    )


async def messages_in(codec: CheckpointCodec, event: CheckpointEvent) -> list[Message | CheckpointDecodeError]:
    """The messages of a turn. In place of one that cannot be read, and of all where that is so of the turn, is the
    error that names it: the event was changed or damaged, a later version wrote it, it is no turn, or it holds a type
    that is not on the allow-list.

    Args:
        codec: whose allow-list the values are under.
        event: whole, with its data.
    """
    size = event.payload.raw_size if event.payload else 0
    return await off_the_loop(size, _messages_in, codec, event)


def _messages_in(codec: CheckpointCodec, event: CheckpointEvent) -> list[Message | CheckpointDecodeError]:
    try:
        if (flaw := flaw_of(event)) or event.payload is None:
            raise CheckpointDecodeError(flaw or "it holds nothing")
        stored = _listed(codec.decode_values(delta.restore(event.payload, max_size=MAX_RAW_SIZE)))
    except CheckpointTypeNotAllowedError as error:
        return [error.about(f"{event.named()}: ")]
    except CheckpointDecodeError as error:
        return [CheckpointDecodeError(f"{event.named()} cannot be read: {error}")]
    found: list[Message | CheckpointDecodeError] = []
    for index, each in enumerate(stored):
        try:
            found.append(message_of(each))
        except CheckpointDecodeError as error:
            found.append(CheckpointDecodeError(f"Message {index} of {event.named()} cannot be read: {error}"))
    return found


def _listed(values: Mapping[str, object]) -> list[object]:
    messages = values.get(_MESSAGES)
    if type(messages) is not list:
        raise CheckpointDecodeError("it holds no messages")
    return cast("list[object]", messages)


def message_of(stored: object) -> Message:
    """The message in what is stored of one, whoever wrote that.

    Raises:
        CheckpointDecodeError: it is none; says why.
    """
    if type(stored) is not dict:
        raise CheckpointDecodeError(f"it is a {type(stored).__name__}, and no message")
    try:
        message = Message.from_dict(cast("dict[str, Any]", stored))
        odd = next(_no_texts(message), None)
    except Exception as error:  # whatever the framework's own classes make of hostile values
        raise CheckpointDecodeError(f"it does not fit the installed agent_framework: {safe(error)}") from error
    if odd is not None:
        raise CheckpointDecodeError(f"its {odd} is no text")
    return message


def _no_texts(message: Message) -> Iterator[str]:
    """What the framework has texts for, and takes anything: who reads a session looks things up by them."""
    if not isinstance(message.role, str):  # pyright: ignore[reportUnnecessaryIsInstance] - as below, what was stored
        yield "role"
    for name in ("message_id", "author_name"):
        if not isinstance(getattr(message, name), str | None):
            yield name
    for content in message.contents:
        if not isinstance(content.type, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            yield "content's type"
        for name in ("text", "uri", "call_id", "name"):
            if not isinstance(getattr(content, name), str | None):
                yield f"content's {name}"
