"""Events as they come: those of some runs, or of some workflows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing

from ..events import CheckpointEvent, StreamId
from ..moments import order_of
from ..stores import AuditStore

__all__ = ["followed"]


async def followed(
    store: AuditStore, runs: Collection[StreamId], workflows: Collection[str], *, last: int, poll: float
) -> AsyncGenerator[CheckpointEvent, None]:
    """The headers of the last events, and then of each new one as it comes; see `AuditStore.follow`. None that is
    appended meanwhile is missed.

    Args:
        store: the engine.
        runs: only of these; none: of all.
        workflows: only of runs of these; none: of all.
        last: how many events of those that are meant to begin with.
        poll: seconds between two looks.
    """
    if not runs and not workflows:
        async with aclosing(store.follow(last=last, poll=poll)) as headers:
            async for header in headers:
                yield header
        return
    # The feed is begun first, with the newest event there is: what comes behind that is told by it, and what lies
    # before, by the runs and workflows themselves.
    shown: set[tuple[StreamId, int]] = set()
    is_begun = last == 0
    async with aclosing(store.follow(last=min(last, 1), poll=poll)) as headers:
        async for header in headers:
            if not is_begun:
                is_begun = True
                for each in await _newest(store, runs, workflows, last):
                    shown.add((each.stream, each.seq))
                    yield each
                continue
            is_meant = header.stream in runs if runs else header.workflow_name in workflows
            if is_meant and (header.stream, header.seq) not in shown:
                yield header


async def _newest(
    store: AuditStore, runs: Collection[StreamId], workflows: Iterable[str], count: int
) -> list[CheckpointEvent]:
    """The newest events of these runs, or else of these workflows, the oldest first."""
    found: list[CheckpointEvent] = []
    backwards = [store.headers(run, desc=True) for run in runs] or [
        store.workflow_headers(name, desc=True) for name in workflows
    ]
    for headers in backwards:
        before = len(found)
        async with aclosing(headers):
            async for header in headers:
                found.append(header)
                if len(found) - before == count:
                    break
    if len(backwards) == 1:
        return found[::-1]  # in the order of the commits; over several, only the times when they were recorded tell it
    return sorted(found, key=lambda header: (order_of(header.recorded_at), header.stream, header.seq))[-count:]
