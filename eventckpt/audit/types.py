"""Which types the checkpoints in a store hold, so that an allow-list is known before it is needed."""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple

from ..errors import CheckpointDecodeError, CheckpointNotFoundError
from ..events import StreamId
from ..stores import AuditStore
from .resolve import checkpoint_at
from .states import States

__all__ = ["TypeUse", "types_used"]


class TypeUse(NamedTuple):
    """A type that checkpoints in the store hold."""

    name: str
    allowed: bool
    runs: int
    """Runs whose latest checkpoint holds it."""
    example: StreamId


async def types_used(store: AuditStore, states: States, runs: int | None) -> list[TypeUse]:
    """The types in the latest checkpoint of each run, or of the `runs` last written to; refused ones first."""
    used: dict[str, tuple[int, StreamId]] = {}
    seen = 0
    async with aclosing(store.streams(emptied=False)) as streams:
        async for stream in streams:
            if runs is not None and seen == runs:
                break
            seen += 1
            for name in await _types_of(store, states, stream):
                count, example = used.get(name, (0, stream))
                used[name] = (count + 1, example)
    found = [TypeUse(name, states.admits(name), count, example) for name, (count, example) in used.items()]
    return sorted(found, key=lambda use: (use.allowed, use.name))


async def _types_of(store: AuditStore, states: States, stream: StreamId) -> set[str]:
    try:
        return await states.types(await checkpoint_at(store, stream, None, None, None))
    except (CheckpointNotFoundError, CheckpointDecodeError):  # for verify to report
        return set()
