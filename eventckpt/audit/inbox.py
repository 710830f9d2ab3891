"""Which questions wait for an answer: those of all runs, the longest waiting first.

From the projection, page by page: so many documents are read as questions are asked for. Where nothing ever filled one,
as in an application that keeps its store to itself, from the log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple, TypeAlias

from .. import settings
from ..errors import StoreNotFoundError
from ..events import PendingRequest, RunInfo, RunStatus, StreamId
from ..moments import NEVER, order_of
from ..stores import AuditStore, RunFilter, RunPage, RunStore
from ..text import described
from .runs import Filter, list_runs

__all__ = ["Question", "inbox_of", "runs_asking"]

_PAGE: Final = 100
"""Runs of a page: more than a screen shows."""

_Order: TypeAlias = tuple[datetime, StreamId, int, int]


class Question(NamedTuple):
    """A question that a run waits for an answer to."""

    stream: StreamId
    request: PendingRequest
    status: RunStatus
    """How the run stands; other parts of it may go on meanwhile."""
    tags: dict[str, str]
    """Of the run."""
    seq: int
    """Of the run's head, as of which this is said."""
    checkpoint_id: str
    """The checkpoint that waits."""
    asked_at: str
    """ISO 8601."""


def runs_asking(
    workflow_name: str | None, older_than: timedelta | None, request_type: str | None, tag: tuple[str, str] | str | None
) -> RunFilter:
    """The runs that wait for an answer to such a question; see `CheckpointAudit.inbox`.

    Raises:
        TypeError, ValueError: an argument is not of its form.
    """
    before: datetime | None = None
    if older_than is not None:
        settings.instance("older_than", older_than, timedelta, what="a timedelta")
        if older_than < timedelta():
            raise ValueError(f"older_than is a span of time, and not negative: {described(older_than)}.")
        now = datetime.now(UTC)
        before = now - min(older_than, now - NEVER)
    return RunFilter(workflow_name, tags=_tags(tag), waiting=True, request_type=request_type, asked_before=before)


def _tags(tag: tuple[str, str] | str | None) -> dict[str, str]:
    if tag is None:
        return {}
    if isinstance(tag, str):
        name, equals, value = tag.partition("=")
        if not equals:
            raise ValueError(f"tag is a name and a value, or 'name=value', not {described(tag)}.")
        return {name: value}
    if not isinstance(tag, tuple) or len(tag) != 2:  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"tag is a name and a value, or 'name=value', not {described(tag)}.")
    return dict([tag])


async def inbox_of(store: AuditStore, which: RunFilter, after: Question | None) -> AsyncGenerator[Question, None]:
    """The questions of the runs that fit, the longest waiting first; with `after`, those behind that one.

    A run is in the order of its oldest question: a later one waits here until no run can come before it.
    """
    later: list[tuple[_Order, Question]] = []
    met = count()  # a run that is written to meanwhile may come twice
    async with aclosing(_runs(store, which)) as infos:
        async for info in infos:
            reached = order_of(info.waiting_since), info.stream, -1, 0
            while later and later[0][0] < reached:
                yield heappop(later)[1]
            for number, request in enumerate(info.pending_requests):
                question = _question(info, request)
                if _is_meant(which, question) and (after is None or _is_behind(info, number, after)):
                    heappush(later, ((order_of(question.asked_at), info.stream, number, next(met)), question))
    while later:
        yield heappop(later)[1]


def _question(info: RunInfo, request: PendingRequest) -> Question:
    at = info.asked_at(request)
    return Question(info.stream, request, info.status, info.tags, info.seq, info.checkpoint_id or "", at)


def _is_meant(which: RunFilter, question: Question) -> bool:
    if which.request_type not in (None, question.request.request_type):
        return False
    return which.asked_before is None or order_of(question.asked_at) < which.asked_before


def _is_behind(info: RunInfo, number: int, after: Question) -> bool:
    """Whether a question comes after one that was given; in its own run they are in order of their places."""
    at, last = order_of(info.asked_at(info.pending_requests[number])), order_of(after.asked_at)
    if (at, info.stream) != (last, after.stream):
        return (at, info.stream) > (last, after.stream)
    ids = [request.request_id for request in info.pending_requests]
    return after.request.request_id not in ids or number > ids.index(after.request.request_id)


async def _runs(store: AuditStore, which: RunFilter) -> AsyncGenerator[RunInfo, None]:
    """The runs that fit, the longest waiting first."""
    documents = store.run_store()
    page = await _page(documents, which, None)
    if not page.runs and page.after is None and await _is_empty(documents):
        for info in await _of_the_log(store, which):
            yield info
        return
    while True:
        for info in page.runs:
            yield info
        if page.after is None:
            return
        page = await documents.page(which, after=page.after, limit=_PAGE)


async def _of_the_log(store: AuditStore, which: RunFilter) -> list[RunInfo]:
    async with aclosing(list_runs(store, None, Filter(which.workflow_name), None)) as infos:
        found = [info async for info in infos if which.fits(info)]
    return sorted(found, key=lambda info: (order_of(info.waiting_since), info.stream))


# A store that is only looked at makes no place for documents: where there is none, no projector ever ran.


async def _page(documents: RunStore, which: RunFilter, after: str | None) -> RunPage:
    try:
        return await documents.page(which, after=after, limit=_PAGE)
    except StoreNotFoundError:
        return RunPage([], None)


async def _is_empty(documents: RunStore) -> bool:
    try:
        return await documents.is_empty()
    except StoreNotFoundError:
        return True
