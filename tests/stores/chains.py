"""Events that follow each other, put into a store of whichever engine."""

from __future__ import annotations

from typing import Any

from eventckpt import CheckpointEvent, EventStore, StreamId
from eventckpt.stores.conformance import make_event

STREAM = StreamId("workflow", "run")


async def append_chain(
    store: EventStore, count: int, *, stream: StreamId = STREAM, data: bytes = b"state"
) -> list[CheckpointEvent]:
    """`count` events from the beginning of `stream`."""
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        events.append(make_event(stream, seq, previous=events[-1] if events else None, data=data))
        await store.append(events[-1])
    return events


async def headers(store: EventStore, stream: StreamId = STREAM, **bounds: Any) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream, **bounds)]
