"""The port between the storages and an engine: what any event store must do, and nothing about how.

An engine keeps streams of immutable events. It never decodes a payload. `eventckpt.stores.conformance` holds the
tests that every engine passes; subclass it to check your own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Self

from ..closing import close_after
from ..errors import CheckpointStoreError, StreamConflict
from ..events import CheckpointEvent, RunInfo, StreamId
from ..removals import Removals
from ..text import is_unicode
from .change_feed import ChangeFeed
from .documents import DocumentStore

__all__ = [
    "AuditStore",
    "Check",
    "Claim",
    "EventStore",
    "Located",
    "RunStore",
    "can_exist",
    "gaps_behind",
    "gives_way",
    "head_of",
    "head_stays",
]


def can_exist(stream: StreamId) -> bool:
    """Whether an engine can have a stream of this name."""
    return is_unicode(stream.workflow_name) and is_unicode(stream.run_id)


class Located(NamedTuple):
    """What `EventStore.find` and `find_in` give: the newest event of a checkpoint id, and where its stream stands."""

    event: CheckpointEvent
    """Whole, with its payload's data; a tombstone if the checkpoint was deleted."""
    head: CheckpointEvent
    """The header of the stream's last event."""


class EventStore(ABC):
    """An append-only store of checkpoint events, grouped in streams.

    Reads see every append that was acknowledged before they began, by this store object. An event whose header
    cannot be read is still given, with what its key says and without a payload, so that one damaged event hides
    no other. What is asked for may come out of a damaged event too: of a seq outside 64 bits, and of a name that is no
    Unicode, there is no event.

    A store opens itself on first use; constructing one does no I/O. Nothing is lost when nobody calls `close`.

    Every method may raise `CheckpointStoreError` when the engine cannot be reached, read or written.
    """

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

    @abstractmethod
    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Located | None:
        """The newest event of `checkpoint_id` in `stream`; None if there is none.

        Without a stream, several runs may have the id. Of those in which the checkpoint is live, that is, in which the
        newest event of the id is no tombstone, it is the run whose newest event of the id was written last; only where
        it is live in none, the one whose tombstone was. An engine without an order of commits over several runs goes
        by `recorded_at`, then by run id, then by the workflow's name: the same in every process.
        """

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> Located | None:
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
                elif (located := await _located(self, header)) is not None:
                    return located
        return None if deleted is None else await _located(self, deleted)

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

    def run_store(self, name: str | None = None) -> RunStore:
        """The "latest" projection kept beside these events: the one in use, or the one called `name`.

        Raises:
            CheckpointStoreError: the engine keeps no projections.
        """
        return self.runs(name)  # which is what engines made for 0.1.0 have

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
        raise CheckpointStoreError(f"{type(self).__name__} keeps no projections; use latest='log'.")

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of every resource. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)


async def head_of(store: EventStore, stream: StreamId) -> CheckpointEvent | None:
    """The header of a run's last event; None if it has no events."""
    async with aclosing(store.headers(stream, desc=True)) as headers:
        return await anext(headers, None)


def gaps_behind(after: int, events: Iterable[CheckpointEvent]) -> list[tuple[int, int]]:
    """The gaps behind a seq and between events in order of seq: of each the seq before it, and the last one in it."""
    gaps: list[tuple[int, int]] = []
    for event in events:
        if event.seq > after + 1:
            gaps.append((after, event.seq - 1))
        after = max(after, event.seq)
    return gaps


def head_stays(stream: StreamId, seq: int) -> CheckpointStoreError:
    """The refusal to remove a run's last event."""
    return CheckpointStoreError(
        f"seq {seq} is the last event of run {stream.run_id!r} of workflow {stream.workflow_name!r}, which is never "
        "removed: its seq would be free again. Nothing was removed. Leave it out; to let go of a whole run, prune it "
        "with keep=0, which leaves one event."
    )


async def _located(store: EventStore, header: CheckpointEvent) -> Located | None:
    """The event of a header, whole, and its head; None where it was removed meanwhile."""
    for event in await store.read(header.stream, header.seq):
        return Located(event, await head_of(store, header.stream) or event.header())
    return None


def gives_way(stored: RunInfo, info: RunInfo) -> bool:
    """Whether `RunStore.put` writes `info` over the document that is stored."""
    if stored.seq != info.seq:
        return stored.seq < info.seq
    if stored.digest != info.digest:
        return False
    if (stored.status == "idle") != (info.status == "idle"):
        return stored.status == "idle"
    return stored.seqs_known < info.seqs_known


class Claim(NamedTuple):
    """What `RunStore.claim` gives: the projection in use, and the right to put another one in its place."""

    name: str
    """Of the projection in use."""
    token: str
    """What tells whether anybody has claimed or activated since."""


class RunStore(ABC):
    """The `RunInfo` documents of one projection: what `projections` writes, and what listings of runs read.

    It shares the connections of the event store that it came from, and is closed with that.

    A document that is not whole, or of another run or seq than there can be under its key, is as if there were none: it
    is left out, which is said once in a warning, and written over. `run_documents` has the rule.
    """

    @abstractmethod
    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """The documents of these runs; runs without one are left out."""

    @abstractmethod
    async def put(self, *infos: RunInfo) -> int:
        """Write each document whose seq is greater than the stored one's; how many were written.

        One of the same seq and digest is written, too, where it tells more of the same run (`gives_way`): the stored
        one says `idle`, as 0.1.0 did, and this one does not; or this one knows of more of the seqs before, which came
        to the log late.

        The comparison and the write are one step, whoever else writes: an older document never replaces a newer one.
        """

    @abstractmethod
    async def newest(self, workflow_name: str, *, beside: Collection[StreamId] = ()) -> RunInfo | None:
        """The run of this workflow with the newest live checkpoint; None without any. One query; on an engine
        that goes by times two more where the newest are of the same.

        Args:
            beside: a few runs that are left out, because the log says something else of them.
        """

    @abstractmethod
    def all(self, workflow_name: str | None = None) -> AsyncGenerator[RunInfo, None]:
        """The documents of a workflow, or of all workflows, in no particular order."""

    async def idle(self) -> AsyncGenerator[RunInfo, None]:
        """The documents that say `idle`, as 0.1.0 wrote them.

        An engine that can find them without reading all documents should override this.
        """
        async with aclosing(self.all()) as infos:
            async for info in infos:
                if info.status == "idle":
                    yield info

    @abstractmethod
    async def clear(self) -> None:
        """Remove every document of this projection."""

    @abstractmethod
    async def active(self, *, certain: bool = False) -> str:
        """The name of the projection in use; `"latest"` until another one is activated.

        Args:
            certain: for who is going to change what is there. Not as a replica that lags knows it, which may be the
                one before; where there are replicas this costs a write.
        """

    async def claim(self) -> Claim:
        """Claim the right to put another projection in use. No earlier claim is worth anything from now on.

        Raises:
            CheckpointStoreError: the engine cannot tell whether somebody else has claimed since.
        """
        raise CheckpointStoreError(f"{type(self).__name__} has no claims; use activate without one.")

    @abstractmethod
    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        """Make the projection called `name` the one in use, in one step; whether it was done.

        Args:
            claim: only if nobody has claimed or activated since this was given, which is one step with the rest. None:
                in any case, and no claim is worth anything from now on.
        """

    async def is_empty(self) -> bool:
        """Whether this projection has no document at all.

        An engine that can tell without reading a page of them should override this.
        """
        async with aclosing(self.all()) as infos:
            return await anext(infos, None) is None


class Check(NamedTuple):
    """One thing that an engine looked at, for `AuditStore.checks`."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    advice: str = ""
    """What to do, where something is wrong."""


class AuditStore(EventStore):
    """An event store that can also be asked as a whole: what `eventckpt.audit` needs beyond the storages' port.

    Both engines are one. Verbs that change what is there (`put`, `remove`) are for imports and retention; neither
    ever changes an event.
    """

    @abstractmethod
    def streams(self, *, workflow_name: str | None = None, prefix: str = "") -> AsyncGenerator[StreamId, None]:
        """The streams, of one workflow or of all, whose run id begins with `prefix`; the last written to first.

        Each that is there all the time is given once, whatever is appended and removed meanwhile; those that are only
        found to have been written to in the meantime may come last.
        """

    @abstractmethod
    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """Up to `limit` of the checkpoint ids that begin with `prefix`, sorted."""

    async def runs_with(self, workflow_name: str, checkpoint_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Which runs of a workflow have events of these checkpoint ids: pairs of checkpoint id and run id, each once.

        An engine should override this: here, the headers of all runs are read.

        Args:
            workflow_name: the workflow.
            checkpoint_ids: up to 500.
        """
        wanted = frozenset(checkpoint_ids)
        async with aclosing(self.workflow_headers(workflow_name)) as headers:
            found = {(each.checkpoint_id, each.run_id) async for each in headers if each.checkpoint_id in wanted}
        return sorted(found)

    @abstractmethod
    def events(self, stream: StreamId, *, gt: int = 0, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        """The events of a stream with `gt < seq <= lte`, whole, in order of the seq that each is kept under."""

    @abstractmethod
    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        """Keep copies of a log's events under their seqs, gaps and all; how many were not there yet.

        What was removed is not put back: an event whose seq the run's newest record covers, or of which the engine
        knows that it was removed, counts as known.

        Raises:
            StreamConflict: another event has one of the seqs, or had it before it was removed, as far as the engine can
                tell. On an engine with transactions nothing was kept.
        """

    async def put_over(self, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
        """`put`, where the copies, in order of seq, have gaps that a record among them or behind them explains.

        In the gaps behind the seq `after` nothing may lie: what somebody else has appended there would lie behind the
        record. Nobody can append there from then on.

        This default looks before it puts, which leaves a moment in between: an engine should do both in one step, and
        one that compares an append with what lies at its seq alone has to close the gaps.

        Args:
            stream: the run.
            events: as for `put`.
            after: the last seq that the caller knows of in the store; gaps before it are not looked at.

        Raises:
            StreamConflict: there is an event in a gap, or `put` raises it. On an engine with transactions nothing was
                kept.
        """
        for low, high in gaps_behind(after, events):
            async with aclosing(self.headers(stream, gt=low, lte=high)) as headers:
                async for header in headers:
                    raise StreamConflict(stream, header.seq, await head_of(self, stream))
        return await self.put(stream, events)

    @abstractmethod
    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """Remove events for good; how many were there. What they were must have been recorded before.

        Their seqs stay taken, whatever becomes of the process meanwhile: doing it again finishes what was cut off, and
        two that remove the same at once are in nobody's way. Seqs that no event has, those beyond the head among them,
        count for nothing.

        Raises:
            CheckpointStoreError: one of the seqs is the run's last event. Nothing was removed.
        """

    async def unmarked(self, stream: StreamId, removals: Removals) -> list[int]:
        """Seqs below the head that were recorded as removed and that a writer whose view of the run is old could take;
        `remove` closes them. At most so many as one call may well look at: ask again after that.

        On an engine that compares an append with the run's head there are none, whatever was removed. One that compares
        it with what lies at its seq, and removed events once without a trace, overrides this.

        Args:
            stream: the run.
            removals: what its records say, which may be any numbers.
        """
        return []

    @abstractmethod
    def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers of the last events of all streams, and then of each new one as it comes. Never ends by itself.

        Args:
            last: how many events to begin with.
            poll: seconds between two looks at the store.
        """

    @abstractmethod
    async def checks(self) -> list[Check]:
        """What the engine finds of its settings, rights and layout. Raises nothing for what it can report."""
