"""What the contenders save, by name: endless states of a run, one for each superstep."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent_framework import Message

__all__ = ["STATES", "message", "text"]

WORDS = ("the", "of", "and", "to", "in", "is", "that", "it", "for", "was", "on", "are", "as", "with", "his", "they")


def text(rng: random.Random, words: int = 80) -> str:
    """So many words, some of them unique."""
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(words))


def message(rng: random.Random, words: int = 80) -> Message:
    """A message of `words` words."""
    return Message("user", [text(rng, words)])


def _messages(length: int) -> Iterator[dict[str, Any]]:
    """An agent's memory has so many messages and one more for each superstep, and another small value changes."""
    return _conversation(length, message)


def _dicts(length: int) -> Iterator[dict[str, Any]]:
    """The same conversation in plain dicts, which any serializer takes."""
    return _conversation(length, lambda rng: {"role": "user", "contents": [{"type": "text", "text": text(rng)}]})


def _conversation(length: int, made: Callable[[random.Random], object]) -> Iterator[dict[str, Any]]:
    rng = random.Random(length)
    messages = [made(rng) for _ in range(length)]
    step = 0
    while True:
        step += 1
        yield {"_executor_state": {"agent": {"cache": list(messages)}}, "step": step}
        messages.append(made(rng))


def _document(size: int) -> Iterator[dict[str, Any]]:
    """So many bytes that do not compress, others in each superstep."""
    rng = random.Random(size)
    while True:
        yield {"document": rng.randbytes(size)}


STATES: Final[dict[str, Callable[[int], Iterator[dict[str, Any]]]]] = {
    "messages": _messages,
    "dicts": _dicts,
    "document": _document,
}
