"""One run at a glance: what it amounts to, its last events, who has the claim on it, and which runs forked from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from ..errors import StoreNotFoundError
from ..events import CheckpointEvent, ForkPoint, RunInfo, StreamId
from ..runs import fold
from ..storage.claiming import Holder, holder_at
from ..stores import AuditStore, RunFilter
from ..stores.walks import headers_of

__all__ = ["Fork", "Glance", "glance_at"]

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


async def glance_at(store: AuditStore, stream: StreamId, *, events: int) -> Glance | None:
    """A run at a glance; None if there is no such run. What it costs does not grow with the store.

    Args:
        store: the engine.
        stream: the run.
        events: how many of the last events.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    headers = await headers_of(store, stream)
    info = fold(headers)
    if info is None:
        return None
    forks: dict[StreamId, Fork] = {}
    for each in (_named_after, _written_last):
        async with aclosing(each(store, stream)) as found:
            async for fork in found:
                forks.setdefault(fork.stream, fork)
    return Glance(info, headers[-events:], await _holder(store, headers[-1]), list(forks.values()))


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
