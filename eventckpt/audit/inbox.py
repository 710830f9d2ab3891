"""Which questions wait for an answer: those of all runs, run by run, the run that waits longest first.

From the projection, page by page: so many documents are read as questions are asked for. From the log, which is never
late, the headers of all runs are read: so where nothing fills a projection, as in an application that keeps its store
to itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from .. import settings
from ..errors import StoreNotFoundError
from ..events import MAX_TAG, MAX_TAGS, PendingRequest, RunInfo, RunStatus, StreamId
from ..lru import Lru
from ..moments import NEVER, order_of
from ..stores import AuditStore, RunFilter
from ..stores.run_pages import Place, place_of
from ..text import described, shortened
from .listed_from import Where
from .runs import Filter, ProjectionEmptyError, check_projected, list_runs

__all__ = ["Question", "inbox_of", "runs_asking"]

_PAGE: Final = 100
"""Runs of a page: more than a screen shows."""
_MET: Final = 100_000  # questions of a walk that are remembered, so that none is listed again

_LONGEST: Final = 1_000
"""Characters of a checkpoint's id, and of a time: more than the framework's have."""


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
    waiting_since: str
    """Since when the run waits, by its oldest question, in UTC: what the list is in the order of."""


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


async def inbox_of(
    store: AuditStore, latest: Where, which: RunFilter, after: Question | None
) -> AsyncGenerator[Question, None]:
    """The questions of the runs that fit, run by run, the one that waits longest first; with `after`, those behind that
    one. Each is listed once: a run that is answered or written to meanwhile may be met again.

    Args:
        store: the engine.
        latest: what they are listed from.
        which: the runs that are meant, and their questions.
        after: a question that was listed; None: from the first.

    Raises:
        CheckpointStoreError: the projection is empty, and the log is not; or the engine failed.
    """
    met: Lru[tuple[StreamId, str], bool] = Lru(_MET)
    if after is not None:
        met.put(_key(after), True)
    place = Place(after.waiting_since, after.stream, waiting=True) if after is not None else None
    async with aclosing(_LISTED[latest](store, which, place)) as infos:
        async for info in infos:
            for question in _questions(info, after):
                if met.get(_key(question)) is None and _is_meant(which, question):
                    met.put(_key(question), True)
                    yield question


def _key(question: Question) -> tuple[StreamId, str]:
    return question.stream, question.request.request_id


def _questions(info: RunInfo, after: Question | None) -> list[Question]:
    """Those of a run, the longest waiting first; of the run that `after` is of, the ones behind it.

    What each repeats of its run is no more than a writer says of one, whatever a document has: they multiply it.
    """
    fits = (tag for tag in info.tags.items() if all(len(text) <= MAX_TAG for text in tag))
    tags, since = dict(islice(fits, MAX_TAGS)), place_of(info, waiting=True).at
    checkpoint_id = shortened(info.checkpoint_id or "", _LONGEST)
    found = [
        Question(info.stream, request, info.status, tags, info.seq, checkpoint_id, at, since)
        for request in info.pending_requests
        for at in [shortened(info.asked_at(request), _LONGEST)]
    ]
    found.sort(key=lambda question: order_of(question.asked_at))
    if after is None or (info.stream, since) != (after.stream, after.waiting_since):
        return found
    ids = [question.request.request_id for question in found]
    if after.request.request_id in ids:
        return found[ids.index(after.request.request_id) + 1 :]
    return [question for question in found if order_of(question.asked_at) >= order_of(after.asked_at)]


def _is_meant(which: RunFilter, question: Question) -> bool:
    if which.request_type not in (None, question.request.request_type):
        return False
    return which.asked_before is None or order_of(question.asked_at) < which.asked_before


async def _projected(store: AuditStore, which: RunFilter, place: Place | None) -> AsyncGenerator[RunInfo, None]:
    """The runs that fit, the longest waiting first; with a place, from the run on that has it."""
    documents = store.run_store()
    own = (await documents.get(place.stream)).get(place.stream) if place is not None else None
    if own is not None and which.fits(own) and place_of(own, waiting=True) == place:
        yield own
    page = await documents.page(which, after=place.token if place is not None else None, limit=_PAGE)
    if not page.runs and page.after is None and own is None:
        await check_projected(store, documents)
    while True:
        for info in page.runs:
            yield info
        if page.after is None:
            return
        page = await documents.page(which, after=page.after, limit=_PAGE)


async def _of_the_log(store: AuditStore, which: RunFilter, place: Place | None) -> AsyncGenerator[RunInfo, None]:
    """The same of the log."""
    async with aclosing(list_runs(store, None, Filter(which.workflow_name), None)) as infos:
        found = [info async for info in infos if which.fits(info)]
    for info in sorted(found, key=lambda info: place_of(info, waiting=True).order):
        if place is None or place_of(info, waiting=True).order >= place.order:
            yield info


async def _wherever(store: AuditStore, which: RunFilter, place: Place | None) -> AsyncGenerator[RunInfo, None]:
    """The same of the projection, or of the log where nothing fills one, which is met at its first page."""
    try:
        async with aclosing(_projected(store, which, place)) as infos:
            async for info in infos:
                yield info
    except (StoreNotFoundError, ProjectionEmptyError):
        async with aclosing(_of_the_log(store, which, place)) as infos:
            async for info in infos:
                yield info


_LISTED: Final = {"log": _of_the_log, "projection": _projected, "auto": _wherever}
