"""Which runs there are, and which of them are meant: listed from the log, or from the projection."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

import msgspec

from ..errors import CheckpointStoreError, RunNotFoundError
from ..events import RunInfo, RunStatus, StreamId
from ..moments import NEVER, moment_of
from ..runs import agree, fold
from ..stores import AuditStore, RunFilter, RunStore, head_of
from ..stores.run_documents import told
from ..stores.run_pages import Place, place_of
from ..stores.walks import runs_of

__all__ = [
    "Counts",
    "Filter",
    "Listed",
    "ProjectionEmptyError",
    "check_projected",
    "count_runs",
    "list_runs",
]

_SCREEN: Final = 51  # documents of the first page: what a screen shows, and whether there is more
_PAGE: Final = 500  # of each that is read behind it


class ProjectionEmptyError(CheckpointStoreError):
    """Nothing filled the projection, though the log has events."""


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


class Listed(msgspec.Struct, frozen=True):
    """A run as it was when it was listed: what a listing goes on behind, also where the run was written to since."""

    workflow_name: str
    run_id: str
    seq: int
    """Of its head."""
    recorded_at: str
    """When that was recorded, ISO 8601."""

    @classmethod
    def of(cls, info: RunInfo) -> Self:
        """A run that is listed."""
        return cls(info.workflow_name, info.run_id, info.seq, info.recorded_at)

    @property
    def stream(self) -> StreamId:
        """The key of its stream."""
        return StreamId(self.workflow_name, self.run_id)


class Counts(NamedTuple):
    """How many runs stand how."""

    runs: Mapping[RunStatus, int]
    """By each status that one has."""
    of_newest: int | None
    """None: all runs that fit were counted; else only so many of them, the last written to."""

    @property
    def all(self) -> int:
        """How many were counted."""
        return sum(self.runs.values())


async def list_runs(
    store: AuditStore, projection: RunStore | None, which: Filter, after: StreamId | Listed | None
) -> AsyncGenerator[RunInfo, None]:
    """The runs that fit, the last written to first; see `CheckpointAudit.runs`.

    Args:
        store: the engine.
        projection: where to list them from; None: the log.
        which: those that are meant.
        after: only those behind this run; None: from the first. With `Listed`, those that were behind it then, and
            were not written to since.

    Raises:
        CheckpointStoreError: the projection is empty, and the log is not; or the engine failed.
        RunNotFoundError: the projection does not have `after`.
    """
    if projection is not None:
        async with aclosing(_projected(store, projection, which, after)) as infos:
            async for info in infos:
                if info.status == "idle":
                    info = await told(store, info) or info
                    if not which.fits(info):
                        continue
                if not info.is_emptied:
                    yield info
        return
    if isinstance(after, Listed) and not await _is_as_listed(store, after):
        which, after = which._replace(until=_sooner(which.until, _right_behind(after))), None
    last = after.stream if isinstance(after, Listed) else after
    async with (
        # The run to go on behind may be emptied by now.
        aclosing(store.streams(workflow_name=which.workflow_name, emptied=last is not None)) as streams,
        aclosing(_behind(last, streams)) as wanted,
        aclosing(runs_of(store, wanted)) as runs,
    ):
        async for _, headers in runs:
            info = fold(headers)
            if info is not None and which.fits(info) and not info.is_emptied:
                yield info


async def count_runs(
    store: AuditStore, projection: RunStore | None, which: Filter, after: StreamId | Listed | None, most: int | None
) -> Counts:
    """How many of the runs that `list_runs` gives stand how; see `CheckpointAudit.counts`."""
    is_bounded = most is None or (projection is not None and projection.counts_by_index)
    if projection is not None and is_bounded and after is None and which.actor is None and not which.request:
        counted = await projection.counts(_asked(which, waiting=which.request is not None))
        if not counted:
            await check_projected(store, projection)
        if "idle" not in counted:  # of those, only the log tells how they stand
            return Counts(counted, None)
    statuses: Counter[RunStatus] = Counter()
    async with aclosing(list_runs(store, projection, which, after)) as infos:
        async for info in infos:
            if most is not None and statuses.total() == most:
                return Counts(statuses, most)
            statuses[info.status] += 1
    return Counts(statuses, None)


async def _behind(after: StreamId | None, streams: AsyncIterable[StreamId]) -> AsyncGenerator[StreamId, None]:
    """Those of the runs that come behind one; None: all."""
    is_behind = after is None
    async for stream in streams:
        if is_behind:
            yield stream
        is_behind = is_behind or stream == after


async def _is_as_listed(store: AuditStore, after: Listed) -> bool:
    """Whether nobody wrote to a run since it was listed, so that it stands where it stood."""
    head = await head_of(store, after.stream)
    return head is not None and head.seq == after.seq


def _right_behind(after: Listed) -> datetime | None:
    """What was recorded with it, or before, was recorded before this."""
    moment = moment_of(after.recorded_at)
    return None if moment is None or moment.replace(tzinfo=None) == datetime.max else moment + timedelta.resolution


def _sooner(one: datetime | None, other: datetime | None) -> datetime | None:
    given = [each for each in (one, other) if each is not None]
    return min(given) if given else None


async def _projected(
    store: AuditStore, runs: RunStore, which: Filter, after: StreamId | Listed | None
) -> AsyncGenerator[RunInfo, None]:
    """The documents that may fit, page by page: so many are read as runs are asked for."""
    place, asked = await _place(store, runs, after), _asked(which)
    page = await runs.page(asked, after=place, limit=_SCREEN)
    if not page.runs and page.after is None:
        await check_projected(store, runs)
    while True:
        for info in page.runs:
            if _may_fit(which, info):
                yield info
        if page.after is None:
            return
        page = await runs.page(asked, after=page.after, limit=_PAGE)


def _asked(which: Filter, *, waiting: bool = False) -> RunFilter:
    """What an index can leave out of the runs that fit. What a document that says `idle` stands for, only the log
    tells."""
    given: set[RunStatus] = set([which.status] if isinstance(which.status, str) else which.status or ())
    if "idle" in given:
        given |= {"done", "open"}
    elif given:
        given.add("idle")
    since = which.since or (NEVER + timedelta.resolution if which.until else None)  # what tells no time never fits
    return RunFilter(
        which.workflow_name, sorted(given), since=since, until=which.until, tags=which.tags, waiting=waiting
    )


async def _place(store: AuditStore, runs: RunStore, after: StreamId | Listed | None) -> str | None:
    """The token of the place of a run in the order of pages."""
    if after is None:
        return None
    if isinstance(after, Listed):
        return Place(after.recorded_at, after.stream).token
    info = (await runs.get(after)).get(after)
    if info is not None:
        return place_of(info, waiting=False).token
    await check_projected(store, runs)
    raise RunNotFoundError(
        f"The projection has no run {after.run_id!r} of workflow {after.workflow_name!r} to go on behind. "
        "It may be late; begin anew, or ask the log."
    )


async def check_projected(store: AuditStore, runs: RunStore) -> None:
    """Refuse a projection that nothing filled: that it lists nothing says nothing.

    Raises:
        ProjectionEmptyError: it is empty, and the log is not.
        CheckpointStoreError: the engine failed.
    """
    async with aclosing(store.streams(emptied=False)) as streams:
        if await runs.is_empty() and await anext(streams, None) is not None:
            raise ProjectionEmptyError(
                "The projection is empty, and the log is not. Fill it with `eventckpt-projector run`, which also "
                "keeps it up to date, or ask the log."
            )


def _may_fit(which: Filter, info: RunInfo) -> bool:
    """Whether a document is worth looking at: where it says `idle`, only the log tells status and questions."""
    return (which._replace(status=None, request=None) if info.status == "idle" else which).fits(info)
