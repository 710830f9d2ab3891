"""An engine as one was written for 0.1.0: what its ports asked for, with the arguments that they had, and nothing else.

It hands everything on to an engine of today, so that what fails over it fails for what the ports have become since.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from eventckpt import CheckpointEvent, RunInfo, StreamId
from eventckpt.stores import AuditStore, Check, Located, RunStore
from eventckpt.stores.change_feed import ChangeFeed, FeedPage, FeedRange, Start


class OldEventStore(AuditStore):
    """Everything of 0.1.0 that was abstract, and `runs`."""

    def __init__(self, inner: AuditStore) -> None:
        self._inner = inner

    async def append(self, event: CheckpointEvent) -> None:
        await self._inner.append(event)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        return await self._inner.read(stream, *seqs)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Located | None:
        return await self._inner.find(checkpoint_id, stream=stream)

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async for header in self._inner.headers(stream, gt=gt, lte=lte, desc=desc):
            yield header

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async for header in self._inner.workflow_headers(workflow_name, desc=desc):
            yield header

    async def streams(self, *, workflow_name: str | None = None, prefix: str = "") -> AsyncGenerator[StreamId, None]:
        async for stream in self._inner.streams(workflow_name=workflow_name, prefix=prefix):
            yield stream

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        return await self._inner.checkpoint_ids(prefix, limit=limit)

    async def events(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async for event in self._inner.events(stream, gt=gt, lte=lte):
            yield event

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        return await self._inner.put(stream, events)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        return await self._inner.remove(stream, seqs)

    async def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        async for header in self._inner.follow(last=last, poll=poll):
            yield header

    async def checks(self) -> list[Check]:
        return await self._inner.checks()

    def runs(self, name: str | None = None) -> RunStore:
        return OldRunStore(self._inner.run_store(name))

    async def close(self) -> None:
        await self._inner.close()


class OldRunStore(RunStore):
    def __init__(self, inner: RunStore) -> None:
        self._inner = inner

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        return await self._inner.get(*streams)

    async def put(self, *infos: RunInfo) -> int:
        stored = await self.get(*(info.stream for info in infos))
        grown = [info for info in infos if info.stream not in stored or stored[info.stream].seq < info.seq]
        return await self._inner.put(*grown)

    async def newest(self, workflow_name: str) -> RunInfo | None:
        return await self._inner.newest(workflow_name)

    async def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        async for info in self._inner.all(workflow_name):
            yield info

    async def clear(self) -> None:
        await self._inner.clear()

    async def active(self) -> str:
        return await self._inner.active()

    async def activate(self, name: str) -> None:
        await self._inner.activate(name)


class OldChangeFeed(ChangeFeed):
    """A feed around one of today: its pages are those that come out of that, with what 0.1.0 did not know of."""

    def __init__(self, inner: ChangeFeed) -> None:
        self._inner = inner

    async def identity(self) -> str:
        return await self._inner.identity()

    async def ranges(self) -> list[FeedRange]:
        return await self._inner.ranges()

    async def read(self, feed_range: FeedRange, continuation: str | None, *, start: Start, limit: int) -> FeedPage:
        return await self._inner.read(feed_range, continuation, start=start, limit=limit)

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        return await self._inner.lag(feed_range, continuation, start=start)
