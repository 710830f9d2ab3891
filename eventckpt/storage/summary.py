"""What an event says of its checkpoint to those who must not decode it.

A summary is total: whatever is in a checkpoint, there is one, and it is small. Computing it never refuses a save, so
what does not have the framework's shape counts for nothing here, and names are cut before they are too much for a
header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

import agent_framework
import msgspec
from agent_framework import WorkflowCheckpoint

from ..events import NO_SUMMARY, PendingRequest, Summary
from .plain_text import MAX_NAME, is_class, key_of, text_of
from .questions import prompt_of, response_type_of

__all__ = ["MAX_NAME", "MAX_SIZE", "MAX_STATE_KEYS", "answering", "check_answers", "summarize"]

MAX_STATE_KEYS: Final = 100
"""How many state keys a header lists, so that a state with very many does not make every event large."""
MAX_SIZE: Final = 1_500_000
"""Bytes of all names in a header together, as JSON. An item of Cosmos DB holds 2 MB, and a header has no parts."""

_MAX_ANSWERS: Final = 100_000  # bytes of the ids that were named beside what a checkpoint tells, as JSON

_AROUND: Final = 30  # bytes of JSON around a name: quotes, the key, a count
_ESCAPED: Final = 12  # bytes that one character may take
_dict: Any = dict
_list_type: Any = list


def summarize(checkpoint: WorkflowCheckpoint, *, asked_at: str = "") -> Summary:
    """The summary of `checkpoint`. Runs code of the framework's own classes only, and none of what they hold; and what
    describes questions, of a checkpoint that is saved.

    Args:
        asked_at: of a checkpoint that is saved, when; its questions count as asked then.
    """
    state = [(text_of(key), held) for key, held in _items(_read(checkpoint, "state"))]
    messages = [(text_of(source), _list(held)) for source, held in _items(_read(checkpoint, "messages"))]
    pending = _items(_read(checkpoint, "pending_request_info_events"))
    executors = [text_of(name) for key, held in state if key == "_executor_state" for name, _ in _items(held)]
    keys = sorted(key for key, _ in state if not key.startswith("_"))
    room = _Room(MAX_SIZE)  # for what tells how the run stands first
    asked = [(*request, event) for key, event in pending if room.holds(*(request := _request(key, event)), asked_at)]
    counts = _counts(messages, room)
    answered = tuple(room.of(_answered(messages)))
    executor_ids = tuple(room.of(sorted(executors)))
    state_keys = tuple(room.of(keys[:MAX_STATE_KEYS]))
    summary = Summary(
        executor_ids=executor_ids,
        messages=counts,
        pending_requests=tuple(_pending(*request, asked_at, room) for request in asked),
        answered_requests=answered,
        state_keys=state_keys,
        more_state_keys=len(keys) - len(state_keys),
    )
    return NO_SUMMARY if summary == NO_SUMMARY else summary  # which is stored by leaving it out, that one alone


def answering(summary: Summary, request_ids: Iterable[str]) -> Summary:
    """A summary that lists these requests as answered, too."""
    answered = tuple(dict.fromkeys((*summary.answered_requests, *request_ids)))
    if answered == summary.answered_requests:
        return summary
    return msgspec.structs.replace(summary, answered_requests=answered)


def check_answers(request_ids: Iterable[str]) -> None:
    """Whether there is room in a header for these.

    Raises:
        ValueError: there is not.
    """
    if not _Room(_MAX_ANSWERS).holds(*request_ids):
        raise ValueError(
            f"The ids of the answered requests have more than {_MAX_ANSWERS:,} bytes: name those of one save at a time."
        )


class _Room:
    """How many bytes of names still go into a header. What comes after it was full is left out."""

    def __init__(self, size: int) -> None:
        self._left = size

    def holds(self, *texts: str) -> bool:
        for text in texts:
            self._left -= _size(text)
        return self._left >= 0

    def of(self, texts: Iterable[str]) -> Iterator[str]:
        return (text for text in texts if self.holds(text))


def _size(text: str) -> int:
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    return _AROUND + (len(text) if plain else _ESCAPED * len(text))


def _counts(messages: list[tuple[str, list[object]]], room: _Room) -> dict[str, int]:
    counts: dict[str, int] = {}
    for source, held in sorted(messages, key=lambda pair: pair[0]):
        if source in counts or room.holds(source):
            counts[source] = counts.get(source, 0) + len(held)
    return counts


def _request(key: object, event: object) -> tuple[str, str, str]:
    source, kind = _property(event, "source_executor_id"), _property(event, "request_type")
    return text_of(key), text_of(source), key_of(kind) if is_class(kind) else text_of(kind)


def _pending(request_id: str, source: str, kind: str, event: object, asked_at: str, room: _Room) -> PendingRequest:
    """A question, with what it says to people where there is room for that after all else."""
    response_type = response_type_of(_property(event, "response_type"))
    prompt = prompt_of(_property(event, "data")) if asked_at else None
    if not room.holds(response_type, prompt or ""):
        response_type, prompt = "", None
    return PendingRequest(
        request_id=request_id,
        source_executor_id=source,
        request_type=kind,
        asked_at=asked_at,
        response_type=response_type,
        prompt=prompt,
    )


def _answered(messages: list[tuple[str, list[object]]]) -> Iterator[str]:
    for _, held in messages:
        for message in held:
            if _is_a(message, "WorkflowMessage"):
                request = _read(message, "original_request_info_event")
                if request is not None:
                    yield text_of(_property(request, "request_id"))


def _property(event: object, name: str) -> object:
    """A property of a request event; empty where the framework raises because such an event is incomplete."""
    found = _read(event, name) if _is_a(event, "WorkflowEvent") else None
    return "" if found is None else found


def _is_a(value: object, name: str) -> bool:
    """Whether a value is of a class of the framework. Asked for by its name when there is a value to ask about: with
    this class come the framework's agents and tools, which a save may do without."""
    return issubclass(type(value), _class(name))


@cache
def _class(name: str) -> type[Any]:
    return getattr(agent_framework, name)


def _read(value: object, name: str) -> object:
    """An attribute; None where reading it fails."""
    try:
        return getattr(value, name)
    except Exception:
        return None


# What follows goes by the real type of a value, and by the methods of the built-in one: `isinstance`, `len`, `str` and
# iteration would ask the value.


def _items(value: object) -> list[tuple[object, object]]:
    return list(_dict.items(value)) if issubclass(type(value), dict) else []


def _list(value: object) -> list[object]:
    return _list_type.copy(value) if issubclass(type(value), list) else []
