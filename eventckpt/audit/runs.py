"""Which runs there are, and which of them are meant: listed from the log, or from the projection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import NamedTuple

from ..errors import CheckpointStoreError, RunNotFoundError
from ..events import RunInfo, RunStatus, StreamId
from ..moments import moment_of, order_of
from ..runs import agree, fold
from ..stores import AuditStore, RunStore
from ..stores.run_documents import told
from ..stores.walks import runs_of

__all__ = ["Filter", "list_runs"]


class Filter(NamedTuple):
    """Which runs a listing gives; what is left out matches all."""

    workflow_name: str | None = None
    status: RunStatus | tuple[RunStatus, ...] | None = None
    """Stands so, or in one of several ways; `idle`: done or open."""
    since: datetime | None = None
    """Last written to at this time or later."""
    until: datetime | None = None
    """Last written to before this time."""
    request: str | None = None
    """Waits for an answer to a request whose id, type or asking executor begins like this; "" for any request. One that
    was cancelled waits for none."""
    actor: str | None = None
    """Last written to by this actor."""
    tags: Mapping[str, str] = {}
    """Has all of these tags, with these values."""

    def fits(self, info: RunInfo) -> bool:
        """Whether a run is one of those that are meant."""
        statuses = (self.status,) if isinstance(self.status, str) else self.status
        if statuses is not None and not any(agree(info.status, status) for status in statuses):
            return False
        if self.actor is not None and info.actor != self.actor:
            return False
        if not self.tags.items() <= info.tags.items():
            return False
        if self.request is not None and not self._asks(info, self.request):
            return False
        moment = moment_of(info.recorded_at) if self.since or self.until else None
        return (self.since is None or (moment is not None and moment >= self.since)) and (
            self.until is None or (moment is not None and moment < self.until)
        )

    @staticmethod
    def _asks(info: RunInfo, begins: str) -> bool:
        return info.status != "cancelled" and any(
            name.startswith(begins)
            for asked in info.pending_requests
            for name in (asked.request_id, asked.request_type, asked.source_executor_id)
        )


async def list_runs(
    store: AuditStore, projection: RunStore | None, which: Filter, after: StreamId | None
) -> AsyncGenerator[RunInfo, None]:
    """The runs that fit, the last written to first; see `CheckpointAudit.runs`.

    Args:
        store: the engine.
        projection: where to list them from; None: the log.
        which: those that are meant.
        after: only those behind this run; None: from the first.
    """
    if projection is not None:
        for info in await _projected(store, projection, which, after):
            known = await told(store, info) or info if info.status == "idle" else info
            if which.fits(known) and not known.is_emptied:
                yield known
        return
    async with (
        # The run to go on behind may be emptied by now.
        aclosing(store.streams(workflow_name=which.workflow_name, emptied=after is not None)) as streams,
        aclosing(_behind(after, streams)) as wanted,
        aclosing(runs_of(store, wanted)) as runs,
    ):
        async for _, headers in runs:
            info = fold(headers)
            if info is not None and which.fits(info) and not info.is_emptied:
                yield info


async def _behind(after: StreamId | None, streams: AsyncIterable[StreamId]) -> AsyncGenerator[StreamId, None]:
    """Those of the runs that come behind one; None: all."""
    is_behind = after is None
    async for stream in streams:
        if is_behind:
            yield stream
        is_behind = is_behind or stream == after


async def _projected(store: AuditStore, runs: RunStore, which: Filter, after: StreamId | None) -> list[RunInfo]:
    async with aclosing(runs.all(which.workflow_name, emptied=after is not None)) as infos:
        found = [info async for info in infos if info.stream == after or _may_fit(which, info)]
    if not found:
        await _check_projected(store, runs)
    found.sort(key=lambda info: info.stream)
    found.sort(key=lambda info: order_of(info.recorded_at), reverse=True)
    if after is None:
        return found
    streams = [info.stream for info in found]
    if after not in streams:
        raise RunNotFoundError(
            f"The projection has no run {after.run_id!r} of workflow {after.workflow_name!r} to go on behind. "
            "It may be late; begin anew, or ask the log."
        )
    return found[streams.index(after) + 1 :]


async def _check_projected(store: AuditStore, runs: RunStore) -> None:
    async with aclosing(store.streams(emptied=False)) as streams:
        if await runs.is_empty() and await anext(streams, None) is not None:
            raise CheckpointStoreError(
                "The projection is empty, and the log is not. Fill it with `eventckpt-projector run`, which also "
                "keeps it up to date, or ask the log."
            )


def _may_fit(which: Filter, info: RunInfo) -> bool:
    """Whether a document is worth looking at: where it says `idle`, only the log tells status and questions."""
    return (which._replace(status=None, request=None) if info.status == "idle" else which).fits(info)
