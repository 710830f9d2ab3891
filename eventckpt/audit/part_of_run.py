"""A part of a run's events, in the order of their commits: the newest so many, or so many behind one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..events import CheckpointEvent, StreamId
from ..removals import Removals
from ..stores import EventStore

__all__ = ["PartOfRun"]


class PartOfRun:
    """A part of a run's events, and what is to be said behind it.

    Args:
        store: the engine.
        stream: the run.
        newest: only so many of its newest events; 0: those that the others say.
        gt: only those of a later seq.
        limit: at most so many; 0: all.
    """

    def __init__(self, store: EventStore, stream: StreamId, *, newest: int = 0, gt: int = 0, limit: int = 0) -> None:
        self._store = store
        self._stream = stream
        self._newest = newest
        self._gt = gt
        self._limit = limit
        self._seqs: list[int] = []
        self._removals = Removals()
        self.has_more: bool = False
        """Whether there are events behind it."""
        self.is_closed: bool = False
        """Whether its last event closes the run, which was removed as a whole."""

    @property
    def last_seq(self) -> int:
        """Of the last event that it gave; 0: none."""
        return self._seqs[-1] if self._seqs else 0

    @property
    def not_gone_yet(self) -> int:
        """How many events that it gave are recorded as removed, by a record that it gave too."""
        return sum(map(self._removals.covers, self._seqs)) if self._removals else 0

    async def headers(self) -> AsyncGenerator[CheckpointEvent, None]:
        """Their headers, once. After the last, the properties tell what there is to say.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        if self._newest:
            for header in reversed(await self._last()):
                yield self._noted(header)
            return
        async with aclosing(self._store.headers(self._stream, gt=self._gt)) as headers:
            async for header in headers:
                if self._limit and len(self._seqs) == self._limit:
                    self.has_more = True
                    return
                yield self._noted(header)

    async def read(self) -> list[CheckpointEvent]:
        """Their headers, all of them; see `headers`."""
        async with aclosing(self.headers()) as headers:
            return [header async for header in headers]

    async def _last(self) -> list[CheckpointEvent]:
        found: list[CheckpointEvent] = []
        async with aclosing(self._store.headers(self._stream, desc=True)) as headers:
            async for header in headers:
                found.append(header)
                if len(found) == self._newest:
                    break
        return found

    def _noted(self, header: CheckpointEvent) -> CheckpointEvent:
        self.is_closed = header.closes
        self._removals.add(header)
        self._seqs.append(header.seq)
        return header
