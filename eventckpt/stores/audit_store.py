"""The port between the audit and an engine: a store that can also be asked as a whole, that takes copies of logs, and
from which events are removed for good.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from ..errors import CheckpointStoreError, StreamConflict
from ..events import CheckpointEvent, StreamId
from ..removals import Removals
from .event_store import EventStore, Stretch, head_of
from .released import adapt

__all__ = ["AuditStore", "Check", "Space", "gaps_behind", "head_stays"]


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


class Check(NamedTuple):
    """One thing that an engine looked at, for `AuditStore.checks`."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    advice: str = ""
    """What to do, where something is wrong."""


class Space(NamedTuple):
    """How much room a store takes on its disk, for `AuditStore.give_back`. All sizes are in bytes."""

    before: int
    """When it was asked to give back what is free."""
    after: int
    """Now."""
    free: int = 0
    """What is free inside the store and was not given back; the store uses it for what is written next."""
    advice: str = ""
    """Why something stays, and what to do, as sentences; empty where nothing does."""


class AuditStore(EventStore):
    """An event store that can also be asked as a whole: what `eventckpt.audit` needs beyond the storages' port.

    Both engines are one. Verbs that change what is there (`put`, `remove`) are for imports and retention; neither
    ever changes an event.

    A subclass whose `streams` and `checks` take what those of 0.1.0 took is one, too: what it lists of streams of
    removals is left out.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adapt(cls, "streams", "emptied", _streams_of_0_1_0)
        adapt(cls, "checks", "write", _checks_of_0_1_0)

    @abstractmethod
    def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        """The streams of runs, of one workflow or of all, whose run id begins with `prefix`; the last written to first.

        Each that is there all the time is given once, whatever is appended and removed meanwhile; those that are only
        found to have been written to in the meantime may come last.

        Args:
            workflow_name: the workflow; None: all of them.
            prefix: how the run ids begin.
            emptied: False: for who lists runs for people. A run of which only the record that closed it is left is left
                out, without a read of its own. Others of which nothing counts may still come: who lists them looks at
                `RunInfo.is_emptied`.
        """

    async def removal_streams(self) -> AsyncGenerator[StreamId, None]:
        """The streams of removals, each once, in no order: those of the workflows of which whole runs were removed.

        An engine should override this: here, none is known.
        """
        for stream in list[StreamId]():
            yield stream

    @abstractmethod
    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """Up to `limit` of the checkpoint ids that begin with `prefix`, sorted; the empty one is none."""

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

    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        """The events of a stream, whole, from the last one back to the first. Of those behind the seq `lte` only
        tombstones are given: what a session's clearing hides lies before it.

        An engine should override this: here, headers are read first.

        Args:
            stream: its key.
            lte: the last seq that all is to be given of; None: of all.
        """
        async with aclosing(self.headers(stream, desc=True)) as headers:
            async for header in headers:
                if lte is None or header.seq <= lte or header.type == "tombstone":
                    for event in await self.read(stream, header.seq):
                        yield event

    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        """The run ids of a workflow, each once, in no order.

        An engine should override this with what it finds by an index, whatever the number of events: here, the streams
        are walked along.
        """
        async with aclosing(self.streams(workflow_name=workflow_name)) as streams:
            async for stream in streams:
                yield stream.run_id

    def sessions(self) -> AuditStore:
        """See `EventStore.sessions`."""
        raise CheckpointStoreError(f"{type(self).__name__} keeps no sessions.")

    async def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        """What `events` gives of several runs, in stretches as `headers_of_runs` gives them.

        An engine should override this: here, each run is asked for by itself.

        Args:
            streams: the runs, each once.
        """
        for stream in streams:
            async with aclosing(self.events(stream)) as events:
                async for event in events:
                    yield Stretch(stream, [event], ends=False)
            yield Stretch(stream, [], ends=True)

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

    async def give_back(self) -> Space | None:
        """Give the room of what was removed back to the disk, in steps none of which keeps a writer waiting for longer
        than a save does, and say how much that was. None: this engine has nothing to give back; its service does it.

        Everything that is in the store stays as it is, whatever becomes of the process meanwhile. Who is cancelled has
        given back what the steps before did; others may do the same at once, write and read.

        Raises:
            CheckpointStoreError: the store cannot be written.
        """
        return None

    async def free_share(self) -> float:
        """How much of the room that the store takes `give_back` may give back, from 0 to 1: what is free in it.

        Raises:
            CheckpointStoreError: the store cannot be read.
        """
        return 0.0

    @abstractmethod
    async def checks(self, *, write: bool = True) -> list[Check]:
        """What the engine finds of its settings, rights and layout. Raises nothing for what it can report.

        Args:
            write: also try whether the store can be written, unless it is read-only; False: nothing is changed.
        """


def _streams_of_0_1_0(streams: Callable[..., AsyncGenerator[StreamId, None]]) -> Callable[..., object]:
    """It tells no stream of removals from a run, and leaves out no run."""

    async def adapted(
        self: AuditStore, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        async with aclosing(streams(self, workflow_name=workflow_name, prefix=prefix)) as found:
            async for stream in found:
                if stream.is_run:
                    yield stream

    return adapted


def _checks_of_0_1_0(checks: Callable[..., Awaitable[list[Check]]]) -> Callable[..., object]:
    """It looks at what it always does."""

    async def adapted(self: AuditStore, *, write: bool = True) -> list[Check]:
        return await checks(self)

    return adapted
