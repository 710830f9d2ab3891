"""A store whose answers get lost, and whose operations take turns by a seed: what the placement machine plays on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

from eventckpt import CheckpointEvent, CheckpointStoreError, EventStore, StreamId
from eventckpt.stores import FoundEvent

from .placement_model import Cut


class Gate:
    """Lets one operation on the stores go on at a time, the next one by a seed: the same play goes the same way."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self._waiting: list[asyncio.Event] = []
        self._is_taken = False

    async def __aenter__(self) -> None:
        if self._is_taken:
            turn = asyncio.Event()
            self._waiting.append(turn)
            await turn.wait()
        self._is_taken = True

    async def __aexit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.pop(self.random.randrange(len(self._waiting))).set()
        else:
            self._is_taken = False


class LostStore(EventStore):
    """A store behind a gate, whose next append may be cut off: it fails, or its caller gives up, before the commit or
    after it."""

    def __init__(self, store: EventStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self.cut: Cut = None
        self.hangs = False
        """Whether the append then waits to be cancelled, instead of failing."""
        self.reached = asyncio.Event()

    async def append(self, event: CheckpointEvent) -> None:
        if self.cut == "before":
            await self._lose()
        async with self._gate:
            await self._store.append(event)
        if self.cut == "after":
            await self._lose()

    async def _lose(self) -> None:
        self.cut = None
        self.reached.set()
        if self.hangs:
            await asyncio.Event().wait()
        raise CheckpointStoreError("The answer was lost.")

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        async with self._gate:
            return await self._store.read(stream, *seqs)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        async with self._gate:
            return await self._store.find(checkpoint_id, stream=stream)

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        async with self._gate:
            return await self._store.find_in(workflow_name, checkpoint_id)

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async with self._gate:
            found = [header async for header in self._store.headers(stream, gt=gt, lte=lte, desc=desc)]
        for header in found:
            yield header

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async with self._gate:
            listing = self._store.workflow_headers(workflow_name, desc=desc, emptied=emptied)
            found = [header async for header in listing]
        for header in found:
            yield header

    async def close(self) -> None:
        await self._store.close()
