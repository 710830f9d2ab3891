"""A store during whose reads something happens: between any two steps of a walk, before any other request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from eventckpt.event_keys import EventKeys
from eventckpt.events import CheckpointEvent, StreamId
from eventckpt.removals import Removals
from eventckpt.stores import AuditStore, Check, FoundEvent, RunStore, Stretch

__all__ = ["Interrupted"]


class Interrupted(AuditStore):
    """Reads another store, and does something right before its `at`-th step.

    A step is a request, or an event that a walk is asked for: an engine fetches a page at a time, so that how many
    steps lie between two requests of a walk is up to its pages.
    """

    def __init__(self, store: AuditStore, at: int, act: Callable[[], Awaitable[object]], *, again: int = 0) -> None:
        self._store = store
        self._at = at
        self._act = act
        self._again = again
        self.steps = 0

    async def _step(self) -> None:
        due = self.steps == self._at or (self._again and self.steps > self._at and self.steps % self._again == 0)
        self.steps += 1
        if due:
            await self._act()

    async def _walk(self, events: AsyncGenerator[CheckpointEvent, None]) -> AsyncGenerator[CheckpointEvent, None]:
        async with aclosing(events):
            while True:
                await self._step()
                event = await anext(events, None)
                if event is None:
                    return
                yield event

    async def append(self, event: CheckpointEvent) -> None:
        await self._step()
        await self._store.append(event)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        await self._step()
        return await self._store.read(stream, *seqs)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        await self._step()
        return await self._store.find(checkpoint_id, stream=stream)

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        await self._step()
        return await self._store.find_in(workflow_name, checkpoint_id)

    def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        return self._walk(self._store.headers(stream, gt=gt, lte=lte, desc=desc))

    def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        return self._walk(self._store.workflow_headers(workflow_name, desc=desc, emptied=emptied))

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        await self._step()
        return await self._store.last(workflow_name, run_id)

    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        await self._step()
        async with aclosing(self._store.keys(workflow_name, run_id)) as pages:
            async for page in pages:
                yield page
                await self._step()

    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        await self._step()
        return await self._store.read_each(places)

    def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        return self._stretches(self._store.headers_of_runs(streams))

    def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        return self._stretches(self._store.events_of_runs(streams))

    async def _stretches(self, stretches: AsyncGenerator[Stretch, None]) -> AsyncGenerator[Stretch, None]:
        await self._step()
        async with aclosing(stretches):
            async for stretch in stretches:
                yield stretch
                await self._step()

    def events(self, stream: StreamId, *, gt: int = 0, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        return self._walk(self._store.events(stream, gt=gt, lte=lte))

    async def streams(self, *, workflow_name: str | None = None, prefix: str = "") -> AsyncGenerator[StreamId, None]:
        await self._step()
        async with aclosing(self._store.streams(workflow_name=workflow_name, prefix=prefix)) as streams:
            async for stream in streams:
                yield stream
                await self._step()

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        await self._step()
        return await self._store.checkpoint_ids(prefix, limit=limit)

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        await self._step()
        return await self._store.put(stream, events)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        await self._step()
        return await self._store.remove(stream, seqs)

    async def unmarked(self, stream: StreamId, removals: Removals) -> list[int]:
        await self._step()
        return await self._store.unmarked(stream, removals)

    def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        return self._store.follow(last=last, poll=poll)

    async def checks(self, *, write: bool = True) -> list[Check]:
        return await self._store.checks(write=write)

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        return await self._store.remove_orphaned_parts(older_than=older_than)

    def runs(self, name: str | None = None) -> RunStore:
        return self._store.runs(name)

    async def close(self) -> None:
        """The store itself is closed by who opened it."""
