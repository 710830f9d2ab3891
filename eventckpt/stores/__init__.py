"""The port between the storages and an engine: what any event store must do, and nothing about how.

An engine keeps streams of immutable events. It never decodes a payload. `eventckpt.stores.conformance` holds the
tests that every engine passes; subclass it to check your own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import NamedTuple, Self

from ..events import CheckpointEvent, StreamId

__all__ = ["EventStore", "Located"]


class Located(NamedTuple):
    """What `EventStore.find` gives: the newest event of a checkpoint id, and where its stream stands."""

    event: CheckpointEvent
    """Whole, with its payload's data; a tombstone if the checkpoint was deleted."""
    head: CheckpointEvent
    """The header of the stream's last event."""


class EventStore(ABC):
    """An append-only store of checkpoint events, grouped in streams.

    Reads see every append that was acknowledged before they began, by this store object. An event whose header
    cannot be read is still given, with what its key says and without a payload, so that one damaged event hides
    no other.

    A store opens itself on first use; constructing one does no I/O. Nothing is lost when nobody calls `close`.

    Every method may raise `CheckpointStoreError` when the engine cannot be reached, read or written.
    """

    @abstractmethod
    async def append(self, event: CheckpointEvent) -> None:
        """Commit `event` as the new head of its stream. When this returns, the event is durable.

        Appending an event that is already there, digest and all, does nothing: a retry is safe.

        Raises:
            StreamConflict: `event.seq` is not the one after the head, or `event.previous_digest` is not the
                head's digest. Nothing was written.
        """

    @abstractmethod
    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """The events at `seqs`, whole, in ascending order of seq; those that do not exist are left out."""

    @abstractmethod
    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Located | None:
        """The newest event of `checkpoint_id` in `stream`, or, without a stream, anywhere; None if there is none."""

    @abstractmethod
    def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of a stream's events with `gt < seq <= lte`, in ascending or descending order of seq."""

    @abstractmethod
    def workflow_headers(self, workflow_name: str, *, desc: bool = False) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of all events of a workflow's runs, oldest or newest first; within a run by seq."""

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        """Remove the parts of payloads whose event was never committed; how many were removed.

        A writer that dies between the parts of a large payload and its event leaves such parts. They are in
        nobody's way. An engine without parts has nothing to do.

        Args:
            older_than: seconds; younger parts may belong to a write that is under way.
        """
        return 0

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of every resource. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
