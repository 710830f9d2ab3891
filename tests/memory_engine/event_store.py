"""Events in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from eventckpt import CheckpointEvent, StreamId
from eventckpt.errors import StreamConflict
from eventckpt.event_keys import EventKey, EventKeys
from eventckpt.events import MAX_SEQ
from eventckpt.removals import Removals
from eventckpt.stores import AuditStore, Check, FoundEvent, RunStore, head_stays
from eventckpt.stores.change_feed import ChangeFeed
from eventckpt.stores.documents import DocumentStore
from eventckpt.stores.names import check_projection

from .change_feed import MemoryChangeFeed
from .data import Data, Door
from .documents import MemoryDocumentStore
from .run_store import MemoryRunStore


class MemoryEventStore(AuditStore):
    """Each object over the same data stands for another process."""

    def __init__(self, data: Data) -> None:
        self._door = Door(data)
        self._sessions: MemoryEventStore | None = None

    async def append(self, event: CheckpointEvent) -> None:
        data, stream = self._door.data, event.stream
        head = data.head(stream)
        seq, digest = (head.seq, head.digest) if head else (0, event.previous_digest)
        if event.seq == seq + 1 <= MAX_SEQ and event.previous_digest == digest:
            return data.add(event)
        if event.seq <= seq:
            there = data.get(stream, event.seq)
            if (there is not None and there.digest == event.digest) or (
                there is None and self._removals(stream).tells(event)
            ):
                return None
        raise self._conflict(stream, event.seq)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        found = (self._door.data.get(stream, seq) for seq in sorted({*seqs}))
        return [event for event in found if event is not None]

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        if run_id is not None:
            return self._door.data.head(StreamId(workflow_name, run_id))
        return next(reversed(self._of_workflow(workflow_name, emptied=False)), None)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        return self._found(self._of_runs() if stream is None else self._door.data.of(stream), checkpoint_id)

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        return self._found([each for each in self._of_runs() if each.workflow_name == workflow_name], checkpoint_id)

    def _found(self, events: Sequence[CheckpointEvent], checkpoint_id: str) -> FoundEvent | None:
        newest: dict[StreamId, CheckpointEvent] = {}
        for event in events:
            known = newest.get(event.stream)
            if event.checkpoint_id == checkpoint_id and (known is None or known.seq < event.seq):
                newest.pop(event.stream, None)
                newest[event.stream] = event
        live = [event for event in newest.values() if event.type == "checkpoint"]
        for event in reversed(live or list(newest.values())):
            head = self._door.data.head(event.stream)
            return FoundEvent(event, (head or event).header())
        return None

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._door.data.of(stream)[:: -1 if desc else 1]:
            if event.seq > gt and (lte is None or event.seq <= lte):
                yield event.header()
                _ = self._door.data

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        events = self._of_workflow(workflow_name, emptied=emptied)
        for event in events[:: -1 if desc else 1]:
            yield event.header()

    def _of_workflow(self, workflow_name: str, *, emptied: bool) -> list[CheckpointEvent]:
        events = [event for event in self._of_runs() if event.workflow_name == workflow_name]
        return [
            each for each in events if emptied or not each.closes or self._door.data.of(each.stream)[0].seq < each.seq
        ]

    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        places = [each for each in self._door.data.log.items() if each[1].stream.is_run]
        if run_id is not None:
            places = [*enumerate(self._door.data.of(StreamId(workflow_name, run_id)))]
        keys = [EventKey.of(event, place) for place, event in places if event.workflow_name == workflow_name]
        if keys:
            yield EventKeys.of(keys)

    async def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        for stream in dict.fromkeys(event.stream for event in reversed(self._of_runs())):
            is_wanted = workflow_name in (None, stream.workflow_name) and stream.run_id.startswith(prefix)
            events = self._door.data.of(stream)
            if is_wanted and (emptied or len(events) > 1 or not events[-1].closes):
                yield stream

    async def removal_streams(self) -> AsyncGenerator[StreamId, None]:
        for stream in {event.stream for event in self._listed() if not event.stream.is_run}:
            yield stream

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        names = {each.checkpoint_id for each in self._of_runs()} - {""}
        return sorted(name for name in names if name.startswith(prefix))[:limit]

    async def events(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._door.data.of(stream):
            if event.seq > gt and (lte is None or event.seq <= lte):
                yield event

    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        for event in reversed(self._door.data.of(stream)):
            if lte is None or event.seq <= lte or event.type == "tombstone":
                yield event

    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        for run_id in {event.run_id for event in self._of_runs() if event.workflow_name == workflow_name}:
            yield run_id

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        removals, new = self._removals(stream), list[CheckpointEvent]()
        for event in events:
            there = self._door.data.get(stream, event.seq)
            is_covered = removals.covers(event.seq)
            if (there is not None and there.digest != event.digest) or (
                there is None and is_covered and removals.tells(event) is False
            ):
                raise self._conflict(stream, event.seq)
            if there is None and not is_covered:
                new.append(event)
        for event in new:
            self._door.data.add(event)
        return len(new)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        head = self._door.data.head(stream)
        if head is not None and head.seq in seqs:
            raise head_stays(stream, head.seq)
        return sum(self._door.data.remove(stream, seq) for seq in seqs)

    async def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        positions = sorted(self._door.data.log)
        after = positions[-last - 1] if len(positions) > last else 0
        while True:
            for position, event in [*self._door.data.log.items()]:
                if position > after:
                    after = position
                    yield event.header()
            await asyncio.sleep(poll)

    async def checks(self, *, write: bool = True) -> list[Check]:
        return [Check("memory", True, f"{len(self._listed())} events")]

    def sessions(self) -> AuditStore:
        if self._sessions is None:
            self._sessions = type(self)(self._door.data.sessions)
        return self._sessions

    def run_store(self, name: str | None = None) -> RunStore:
        return MemoryRunStore(self._door, name if name is None else check_projection(name))

    def change_feed(self) -> ChangeFeed:
        return MemoryChangeFeed(self._door)

    def document_store(self) -> DocumentStore:
        return MemoryDocumentStore(self._door)

    async def close(self) -> None:
        self._door.is_closed = True
        if self._sessions is not None:
            await self._sessions.close()

    def _listed(self) -> list[CheckpointEvent]:
        """In the order of commits; within a run by seq, for copies may be put late."""
        return list(self._door.data.log.values())

    def _of_runs(self) -> list[CheckpointEvent]:
        """The same without those that tell of removals."""
        return [event for event in self._listed() if event.stream.is_run]

    def _removals(self, stream: StreamId) -> Removals:
        records = [event for event in self._door.data.of(stream) if event.pruned]
        return Removals(records[-1:])

    def _conflict(self, stream: StreamId, seq: int) -> StreamConflict:
        head = self._door.data.head(stream)
        return StreamConflict(stream, seq, None if head is None else head.header())
