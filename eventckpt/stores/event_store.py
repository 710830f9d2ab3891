"""The port between the storages and an engine: what any event store must do, and nothing about how.

An engine keeps streams of immutable events. It never decodes a payload. `eventckpt.testing.event_store` holds the tests
that every engine passes; subclass it to check your own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Self

from ..closing import close_after
from ..errors import CheckpointStoreError
from ..event_keys import EventKey, EventKeys
from ..events import CheckpointEvent, StreamId
from ..text import is_unicode
from .change_feed import ChangeFeed
from .documents import DocumentStore
from .released import adapt
from .run_store import RunStore

__all__ = ["EventStore", "FoundEvent", "Stretch", "can_exist", "head_of"]


def can_exist(stream: StreamId) -> bool:
    """Whether an engine can have a stream of this name."""
    return is_unicode(stream.workflow_name) and is_unicode(stream.run_id)


class FoundEvent(NamedTuple):
    """What `EventStore.find` and `find_in` give: the newest event of a checkpoint id, and where its stream stands."""

    event: CheckpointEvent
    """Whole, with its payload's data; a tombstone if the checkpoint was deleted."""
    head: CheckpointEvent
    """The header of the stream's last event."""


class Stretch(NamedTuple):
    """What `EventStore.headers_of_runs` and `AuditStore.events_of_runs` give: some events of one run."""

    stream: StreamId
    events: Sequence[CheckpointEvent]
    """The next ones, in order of seq."""
    ends: bool
    """Whether the run has no more."""


class EventStore(ABC):
    """An append-only store of checkpoint events, grouped in streams.

    A stream of removals (`events.REMOVALS`) is one as any other by its own key. What asks for events or runs of a
    workflow, or of all of them, without naming a stream, leaves it out.

    Reads see every append that was acknowledged before they began, by this store object. An event whose header
    cannot be read is still given, with what its key says and without a payload, so that one damaged event hides
    no other. What is asked for may come out of a damaged event too: of a seq outside 64 bits, and of a name that is no
    Unicode, there is no event.

    A store opens itself on first use; constructing one does no I/O. Nothing is lost when nobody calls `close`.

    Every method may raise `CheckpointStoreError` when the engine cannot be reached, read or written.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adapt(cls, "workflow_headers", "emptied", _workflow_headers_of_0_1_0)
        if "runs" in vars(cls) and "run_store" not in vars(cls):  # written for 0.1.0, which had `runs` alone
            cls.run_store = _by_its_name_in_0_1_0

    @abstractmethod
    async def append(self, event: CheckpointEvent) -> None:
        """Commit `event` as the new head of its stream. When this returns, the event is durable.

        Appending an event that is already there, digest and all, does nothing: a retry is safe. So it does where the
        event was committed and removed since, as far as the engine can tell: from the digest that it keeps of each
        removed event, or else from those that the run's record has.

        Raises:
            StreamConflict: `event.seq` is not the one after the head, or `event.previous_digest` is not the
                head's digest. Nothing was written. The seq of a removed event is as taken as any other's.
        """

    @abstractmethod
    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """The events at `seqs`, whole, in ascending order of seq; those that do not exist are left out."""

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        """The event that a walk backwards along a run, or along all runs of a workflow (`workflow_headers` without
        `emptied`), comes to first, whole.

        None: there is none, or one read does not tell, as here; then walk. An engine that can tell should override
        this.
        """
        return None

    @abstractmethod
    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        """The newest event of `checkpoint_id` in `stream`; None if there is none.

        Of the empty id, as records, annotations and claims have it, `event` is the newest up to `head`: what it says
        is repeated right behind that head.

        Without a stream, several runs may have the id. Of those in which the checkpoint is live, that is, in which the
        newest event of the id is no tombstone, it is the run whose newest event of the id was written last; only where
        it is live in none, the one whose tombstone was. An engine without an order of commits over several runs goes
        by `recorded_at`, then by run id, then by the workflow's name: the same in every process.
        """

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """What `find` gives without a stream, over the runs of one workflow.

        An engine should override this: here, headers are read until one fits.
        """
        deleted: CheckpointEvent | None = None
        seen: set[StreamId] = set()
        async with aclosing(self.workflow_headers(workflow_name, desc=True)) as headers:
            async for header in headers:
                if header.checkpoint_id != checkpoint_id or header.stream in seen:
                    continue
                seen.add(header.stream)
                if header.type == "tombstone":
                    deleted = deleted or header
                elif (found := await _found(self, header)) is not None:
                    return found
        return None if deleted is None else await _found(self, deleted)

    @abstractmethod
    def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of a stream's events with `gt < seq <= lte`, in ascending or descending order of seq."""

    @abstractmethod
    def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of all events of a workflow's runs, oldest or newest first; within a run by seq.

        Args:
            workflow_name: the workflow.
            desc: newest first.
            emptied: False: for who looks for what counts. Of a run that was removed as a whole, the record that closed
                it is left out where nothing before it is left, without a read of its own.
        """

    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        """The keys of the events that `headers` gives of a run or, without one, `workflow_headers` of all runs, in the
        same order; many at a time.

        An engine should override this: here, the headers are read.
        """
        listing = self.workflow_headers(workflow_name)
        if run_id is not None:
            listing = self.headers(StreamId(workflow_name, run_id))
        place = 0
        async with aclosing(listing) as headers:
            async for header in headers:
                place += 1
                yield EventKeys.of([EventKey.of(header, place)])

    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        """The events at places of several runs, whole; those that do not exist are left out.

        An engine should override this: here, each run is asked for by itself.

        Args:
            places: each a run and a seq; those of one run next to each other.
        """
        return [
            event
            for stream, some in groupby(places, key=itemgetter(0))
            for event in await self.read(stream, *(seq for _, seq in some))
        ]

    async def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        """What `headers` gives of several runs, run after run in the order in which they are asked for. Each has one
        stretch or more, of which the last one ends it; what has no events has an empty one.

        An engine should override this: here, each run is asked for by itself.

        Args:
            streams: the runs, each once.
        """
        for stream in streams:
            async with aclosing(self.headers(stream)) as headers:
                yield Stretch(stream, [header async for header in headers], ends=True)

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        """Remove the parts of payloads whose event was never committed; how many were removed.

        A writer that dies between the parts of a large payload and its event leaves such parts. They are in
        nobody's way. An engine without parts has nothing to do.

        Args:
            older_than: seconds; younger parts may belong to a write that is under way.
        """
        return 0

    def sessions(self) -> EventStore:
        """The events of sessions, kept beside these: a store of its own, in whose streams and lists nothing of these
        is, nor the other way round. The same object each time; it is closed with this store.

        Raises:
            CheckpointStoreError: the engine keeps no sessions.
        """
        raise CheckpointStoreError(f"{type(self).__name__} keeps no sessions.")

    def run_store(self, name: str | None = None) -> RunStore:
        """The "latest" projection kept beside these events: the one in use, or the one called `name`.

        Raises:
            TypeError, ValueError: no projection can be called so, on any engine; see `names`.
            CheckpointStoreError: the engine keeps no projections.
        """
        return self.runs(name)

    def change_feed(self) -> ChangeFeed:
        """These events in the order of their commits, for a processor. It is closed with this store.

        Raises:
            CheckpointStoreError: the engine has no feed.
        """
        raise CheckpointStoreError(f"{type(self).__name__} has no change feed.")

    def document_store(self) -> DocumentStore:
        """A place for small documents beside these events: leases, and what is parked. It is closed with this store.

        Raises:
            CheckpointStoreError: the engine keeps no documents.
        """
        raise CheckpointStoreError(f"{type(self).__name__} keeps no documents.")

    def runs(self, name: str | None = None) -> RunStore:
        """`run_store`, by the name that it had in 0.1.0."""
        methods = (vars(each)["run_store"] for each in type(self).__mro__ if "run_store" in vars(each))
        own = next(each for each in methods if each is not _by_its_name_in_0_1_0)
        if own is not EventStore.run_store:
            return own(self, name)
        raise CheckpointStoreError(f"{type(self).__name__} keeps no projections; use latest='log'.")

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of every resource. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)


def _by_its_name_in_0_1_0(self: EventStore, name: str | None = None) -> RunStore:
    """`run_store` of an engine that has `runs`."""
    return self.runs(name)


def _workflow_headers_of_0_1_0(headers: Callable[..., AsyncGenerator[CheckpointEvent, None]]) -> Callable[..., object]:
    """It gives the events of a stream of removals with those of the runs, and leaves out no record."""

    async def adapted(
        self: EventStore, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async with aclosing(headers(self, workflow_name, desc=desc)) as found:
            async for header in found:
                if header.stream.is_run:
                    yield header

    return adapted


async def head_of(store: EventStore, stream: StreamId) -> CheckpointEvent | None:
    """The header of a run's last event; None if it has no events."""
    async with aclosing(store.headers(stream, desc=True)) as headers:
        return await anext(headers, None)


async def _found(store: EventStore, header: CheckpointEvent) -> FoundEvent | None:
    """The event of a header, whole, and its head; None where it was removed meanwhile."""
    for event in await store.read(header.stream, header.seq):
        return FoundEvent(event, await head_of(store, header.stream) or event.header())
    return None
