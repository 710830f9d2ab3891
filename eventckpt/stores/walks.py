"""Reading a run while events of it are removed: what a walk has not met, it has not met for a reason.

A prune appends its record before it removes anything, and the record is the run's newest event then. So a walk from the
oldest event to the newest meets the record behind the gap that it explains. A walk from the newest meets it before,
unless the prune came after the walk began: then a gap comes that nothing explains, and the walk is done again. That is
also all that can be done about damage, so it is done a bounded number of times. Where nothing is removed meanwhile,
none of this costs a request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from ..event_keys import EventKey
from ..events import CheckpointEvent, StreamId
from ..removals import Removals
from .event_store import EventStore, FoundEvent

__all__ = [
    "RUNS_AT_ONCE",
    "WALKS",
    "Backwards",
    "counts",
    "headers_of",
    "in_pages",
    "is_in_closed_run",
    "is_torn",
    "removals_of",
    "runs_of",
    "whole_runs",
]

_T = TypeVar("_T")

WALKS: Final = 4
"""How often a walk is done at most. What the last one cannot explain, no prune of a moment ago explains."""


RUNS_AT_ONCE: Final = 256
"""Runs that an engine is asked for at once."""


class Backwards:
    """A walk newest first over any number of runs: which events count, and whether something went while it was under
    way."""

    def __init__(self) -> None:
        self._lowest: dict[StreamId, int] = {}
        self._removals: dict[StreamId, Removals] = {}
        self._has_gap = False

    def takes(self, header: CheckpointEvent) -> bool:
        """Whether the next event of the walk counts: whether no record that was met says that it was removed."""
        removals = self._removals.setdefault(header.stream, Removals())
        lowest = self._lowest.get(header.stream)
        if lowest is not None and header.seq < lowest - 1:
            self._has_gap |= not removals.covers(header.seq + 1, lowest - 1)
        self._lowest[header.stream] = header.seq
        removals.add(header)
        return not removals.covers(header.seq)

    def is_torn(self, *, ended: bool) -> bool:
        """Whether it came to a gap that no record explains; `ended`: there was nothing behind what it met."""
        return self._has_gap or (
            ended
            and any(
                lowest > 1 and not self._removals[stream].covers(1, lowest - 1)
                for stream, lowest in self._lowest.items()
            )
        )


def is_torn(headers: Sequence[CheckpointEvent | EventKey]) -> bool:
    """Whether seqs are missing that no record among these events, all of one run in order of seq, explains."""
    seqs = [header.seq for header in headers]
    gaps = [(before + 1, seq - 1) for before, seq in zip([0, *seqs], seqs, strict=False) if seq > before + 1]
    if not gaps:
        return False
    removals = Removals(headers)
    return not all(removals.covers(first, last) for first, last in gaps)


async def headers_of(store: EventStore, stream: StreamId) -> list[CheckpointEvent]:
    """The headers of all events of a run, in order of seq: of a moment at which each of them was there, or was recorded
    as removed. Give them to `eventckpt.runs`, which knows what of them counts."""
    headers: list[CheckpointEvent] = []
    for _ in range(WALKS):
        headers = [header async for header in store.headers(stream)]
        if not is_torn(headers):
            break
    return headers


async def in_pages(each: AsyncIterable[_T], size: int = RUNS_AT_ONCE) -> AsyncGenerator[list[_T], None]:
    """The same, so many at a time that an engine is asked for each page at once."""
    page: list[_T] = []
    async for one in each:
        page.append(one)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


async def runs_of(
    store: EventStore, streams: AsyncIterable[StreamId]
) -> AsyncGenerator[tuple[StreamId, list[CheckpointEvent]], None]:
    """What `headers_of` gives of each of these runs, in their order: read a page of runs at a time."""
    async with aclosing(in_pages(streams)) as pages:
        async for page in pages:
            async with aclosing(whole_runs(store, page)) as runs:
                async for stream, headers in runs:
                    yield stream, headers if not is_torn(headers) else await headers_of(store, stream)


async def whole_runs(
    store: EventStore, streams: Sequence[StreamId]
) -> AsyncGenerator[tuple[StreamId, list[CheckpointEvent]], None]:
    """The headers of each of these runs, in their order, as they are found: some may be missing that are removed
    meanwhile."""
    headers: list[CheckpointEvent] = []
    async with aclosing(store.headers_of_runs(streams)) as stretches:
        async for stretch in stretches:
            headers += stretch.events
            if stretch.ends:
                yield stretch.stream, headers
                headers = []


async def removals_of(store: EventStore, stream: StreamId) -> Removals:
    """What a run's records say was removed, by its newest record, which repeats all earlier ones: to be asked about an
    event that is not there, or whose base is not."""
    located = await store.find("", stream=stream)
    if located is None or located.event.pruned or located.event.is_annotation or located.event.is_claim:
        return Removals([located.event] if located is not None else [])
    return Removals([header async for header in store.headers(stream)])


def is_in_closed_run(located: FoundEvent) -> bool:
    """Whether the run of what was found was removed as a whole, and nobody has begun it again: then it counts no more,
    also while it is still there."""
    return located.head.closes


async def counts(store: EventStore, located: FoundEvent) -> bool:
    """Whether what was found counts, by whatever is recorded of its run. Where it is the last event of its run, or a
    record is, that costs no request."""
    seq, head = located.event.seq, located.head
    if seq >= head.seq:
        return True
    removals = Removals([head]) if head.pruned else await removals_of(store, head.stream)
    return not removals.covers(seq)
