"""One run at a glance: what it amounts to, its last events, who has the claim on it, and which runs forked from it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from ..errors import StoreNotFoundError
from ..events import CheckpointEvent, ForkPoint, RunInfo, StreamId
from ..runs import advance, fold
from ..storage.claiming import Holder, holder_at
from ..stores import AuditStore, RunFilter
from ..stores.walks import headers_of, in_pages

__all__ = ["Fork", "Glance", "glance_at", "holder_of"]

_READ: Final = 20  # runs whose first event is read: those that are named after the run, or where there is no projection
_PAGE: Final = 100  # documents of the projection, which one query gives


class Fork(NamedTuple):
    """A run that began from another."""

    stream: StreamId
    origin: ForkPoint


class Glance(NamedTuple):
    """What `glance_at` gives."""

    info: RunInfo
    last: list[CheckpointEvent]
    """The headers of its last events, in the order of their commits."""
    holder: Holder | None
    """Who has the claim on it, as far as a look tells: whether that process still lives, only a wait does."""
    forks: list[Fork]
    """The runs that forked from it, as far as they are named after it or among those that were written to last;
    `lineage_of` looks through all."""


async def glance_at(
    store: AuditStore, stream: StreamId, *, events: int, seen: Callable[[CheckpointEvent], object] | None = None
) -> Glance | None:
    """A run at a glance; None if there is no such run. What it costs does not grow with the store, and only where
    something of the run was deleted or removed are all of its headers in memory at once.

    Args:
        store: the engine.
        stream: the run.
        events: how many of the last events, at least one.
        seen: called with the header of each event of the run, once, in order of seq.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    run = await _read(store, stream, events, seen or _unseen)
    if run is None:
        return None
    info, last = run
    forks: dict[StreamId, Fork] = {}
    for each in (_named_after, _written_last):
        async with aclosing(each(store, stream)) as found:
            async for fork in found:
                forks.setdefault(fork.stream, fork)
    return Glance(info, last, await _holder(store, last[-1]), list(forks.values()))


async def _read(
    store: AuditStore, stream: StreamId, events: int, seen: Callable[[CheckpointEvent], object]
) -> tuple[RunInfo, list[CheckpointEvent]] | None:
    """What a run amounts to, and its last events. Folded as it is read, and read again where that does not tell."""
    info: RunInfo | None = None
    is_told, last = True, deque[CheckpointEvent](maxlen=events)
    async with aclosing(store.headers(stream)) as headers, aclosing(in_pages(headers)) as pages:
        async for page in pages:
            last.extend(page)
            for header in page:
                seen(header)
            info = _advanced(info, page) if is_told else None
            is_told = info is not None
    if info is not None:
        return info, list(last)
    met = last[-1].seq if last else 0
    again = await headers_of(store, stream)
    for header in again:
        if header.seq > met:
            seen(header)
    folded = fold(again)
    return None if folded is None else (folded, again[-events:])


def _unseen(_: CheckpointEvent) -> None:
    """What is done with a header that nobody wants to see."""


def _advanced(info: RunInfo | None, page: Sequence[CheckpointEvent]) -> RunInfo | None:
    """`info` after the next events; None where only all of them tell, or one is not where it says."""
    first = info.seq + 1 if info is not None else 1
    stream = info.stream if info is not None else page[0].stream
    if any((each.seq, each.stream) != (seq, stream) for seq, each in enumerate(page, first)):
        return None
    return advance(info, *page)


async def holder_of(store: AuditStore, stream: StreamId) -> Holder | None:
    """Who has the claim on a run, as far as a look tells; None: nobody.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    async with aclosing(store.headers(stream, desc=True)) as headers:
        async for head in headers:
            return await _holder(store, head)
    return None


async def _holder(store: AuditStore, head: CheckpointEvent) -> Holder | None:
    try:
        return await holder_at(store, head)
    except StoreNotFoundError:  # whoever only looks makes no place for claims: where there is none, nobody has one
        return None


async def _named_after(store: AuditStore, stream: StreamId) -> AsyncGenerator[Fork, None]:
    """Those that a conflict made, which are named after the run."""
    named = store.streams(workflow_name=stream.workflow_name, prefix=f"{stream.run_id}~")
    async with aclosing(_first_of(store, named, stream)) as forks:
        async for fork in forks:
            yield fork


async def _first_of(
    store: AuditStore, streams: AsyncGenerator[StreamId, None], stream: StreamId
) -> AsyncGenerator[Fork, None]:
    """The forks among some runs, of which the first few are looked at."""
    looked_at = 0
    async with aclosing(streams):
        async for other in streams:
            if fork := await _fork(store, other, stream):
                yield fork
            looked_at += 1
            if looked_at == _READ:
                return


async def _written_last(store: AuditStore, stream: StreamId) -> AsyncGenerator[Fork, None]:
    """Those among the runs of the workflow that were written to last."""
    try:
        page = await store.run_store().page(RunFilter(stream.workflow_name), limit=_PAGE)
    except StoreNotFoundError:
        page = None
    if page is not None and page.runs:
        for info in page.runs:
            if info.forked_from is not None and _leads_to(info.forked_from, stream):
                yield Fork(info.stream, info.forked_from)
        return
    async with aclosing(_first_of(store, store.streams(workflow_name=stream.workflow_name), stream)) as forks:
        async for fork in forks:
            yield fork


async def _fork(store: AuditStore, other: StreamId, stream: StreamId) -> Fork | None:
    async with aclosing(store.headers(other, lte=1)) as firsts:
        async for first in firsts:
            if first.forked_from is not None and _leads_to(first.forked_from, stream):
                return Fork(other, first.forked_from)
    return None


def _leads_to(origin: ForkPoint, stream: StreamId) -> bool:
    return StreamId(origin.workflow_name, origin.run_id) == stream
