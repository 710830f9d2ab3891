"""How documents of the "latest" projection are asked for in Azure Cosmos DB: by which conditions, and page by page.

What the service can tell of a document is less than what a filter says, and somebody may have changed a property: so
each document that comes is looked at once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, cast

import msgspec

from ...events import RunInfo, StreamId
from ..run_documents import counting
from ..run_pages import Place, RunFilter, RunPage, aware, mark_of, place_of, text_at
from .container import Container
from .items import Item

__all__ = ["FIELDS", "LISTED", "RunPages", "condition_of", "found_by"]

FIELDS: Final = ", ".join(
    f"c.{name}" for name in ("stream", *(field.encode_name for field in msgspec.structs.fields(RunInfo)))
)
LISTED: Final = "(IS_DEFINED(c.checkpoints) OR NOT IS_DEFINED(c.removed))"
"""Has the service leave out the documents of emptied runs: what is 0 is not written."""
_DAY: Final = timedelta(days=1)
_WRITTEN: Final = 32  # characters of a `waiting_since`
_FIRST: Final = StreamId("", "")
"""Before every run."""


class RunPages:
    """The pages of the documents that fit.

    Args:
        name: of the projection.
        counting: gives the document in an item; None where it does not count, or stands in no listing.
    """

    def __init__(
        self, container: Container, name: str, which: RunFilter, counting: Callable[[Item], RunInfo | None]
    ) -> None:
        self._container = container
        self._name = name
        self._which = which
        self._counting = counting

    async def of_written(self, behind: Place | None, limit: int) -> RunPage:
        """A page of the last written to, by as many queries as it takes. Rows of one moment come in any order: where a
        query ends among such, all of that moment are asked for, and put in order."""
        found: list[RunInfo] = []
        below = None if behind is None else behind.at
        if below is not None:
            found += await self._of_moment(below, behind)
        while below != "" and len(found) <= limit:
            count = limit + 1 - len(found)
            rows = await self._older(below, count)
            infos = [info for row in _each_once(rows) if (info := self._counting(row)) is not None]
            below = str(rows[-1]["recorded_at"]) if len(rows) == count else ""
            found += _in_order(info for info in infos if info.recorded_at != below and self._which.fits(info))
            found += await self._of_moment(below)
        after = place_of(found[limit - 1], waiting=False).token if len(found) > limit else None
        return RunPage(found[:limit], after)

    async def _older(self, below: str | None, count: int) -> list[Item]:
        """The next rows in order of time, which is some text."""
        condition, values = condition_of(self._name, self._which)
        if below is not None:
            condition, values["@below"] = f"{condition} AND c.recorded_at < @below", below
        text = (
            f"SELECT TOP {count} {FIELDS} FROM c WHERE {condition} AND c.recorded_at > '' ORDER BY c.recorded_at DESC"
        )
        return await self._container.query_sorted(text, values, page=count).rows()

    async def _of_moment(self, recorded_at: str, behind: Place | None = None) -> list[RunInfo]:
        """The documents of one moment that fit and stand behind a place, in order."""
        condition, values = condition_of(self._name, self._which)
        values["@at"] = recorded_at
        at = "c.recorded_at = @at" if recorded_at else "(NOT IS_DEFINED(c.recorded_at) OR c.recorded_at = @at)"
        rows = await self._container.query(f"SELECT {FIELDS} FROM c WHERE {condition} AND {at}", values).rows()
        infos = [info for row in rows if (info := self._counting(row)) is not None and self._which.fits(info)]
        return _in_order(info for info in infos if behind is None or info.stream > behind.stream)

    async def of_waiting(self, behind: Place | None, limit: int) -> RunPage:
        """A page of those that wait, by one query. What waits since one moment comes in any order: where the query ends
        among such, they are for the next page; unless a page has no room for all of them, which are asked for then."""
        found: list[RunInfo] = []
        least, after = ("", None) if behind is None else (behind.at, behind.stream)
        while True:
            rows = await self._waiting(least, after is None, limit + 2)
            is_end = len(rows) < limit + 2
            last = "~" if is_end else str(rows[-1]["waiting_since"])
            sure = [row for row in rows if str(row["waiting_since"]) < last]
            found += self._told(sure, least, after)
            if is_end or sure or len(found) > limit:
                break
            found += self._told(await self._waiting_since(last), least, after)
            least, after = last, None
        if len(found) > limit:
            end = found[limit - 1]
            return RunPage(found[:limit], Place(_since(end), end.stream, waiting=True).token)
        return RunPage(found, None if is_end else Place(last, _FIRST, waiting=True).token)

    def _told(self, rows: Iterable[Item], least: str, after: StreamId | None) -> list[RunInfo]:
        """The documents in rows that fit, in order, but for those up to some run of one moment; and for one that waits
        since another time than its row says, which somebody has changed."""
        found: dict[tuple[str, StreamId], RunInfo] = {}
        for row in rows:
            info = self._counting(row)
            if info is None or not self._which.fits(info):
                continue
            at = _since(info), info.stream
            if row["waiting_since"] == at[0] and (after is None or at > (least, after)):
                found[at] = info
        return [found[at] for at in sorted(found)]

    async def _waiting(self, least: str, beyond: bool, count: int) -> list[Item]:
        """The next rows of what waits, since some time or `beyond` it."""
        condition, values = _waiting_condition(self._name, self._which)
        values["@least"] = least
        text = (
            f"SELECT TOP {count} {FIELDS}, c.waiting_since FROM c WHERE {condition}"
            f" AND c.waiting_since {'>' if beyond else '>='} @least ORDER BY c.waiting_since"
        )
        return await self._container.query_sorted(text, values, page=count).rows()

    async def _waiting_since(self, since: str) -> list[Item]:
        """The rows of what waits since one moment."""
        condition, values = _waiting_condition(self._name, self._which)
        values["@at"] = since
        text = f"SELECT {FIELDS}, c.waiting_since FROM c WHERE {condition} AND c.waiting_since = @at"
        return await self._container.query(text, values).rows()


def _each_once(rows: Iterable[Item]) -> Iterable[Item]:
    return {str(row["stream"]): row for row in rows}.values()


def _in_order(infos: Iterable[RunInfo]) -> list[RunInfo]:
    """Documents as pages have them: by falling times, as text, and then by name."""
    by_name = sorted(infos, key=lambda info: info.stream)
    return sorted(by_name, key=lambda info: info.recorded_at, reverse=True)


def condition_of(name: str, which: RunFilter) -> tuple[str, dict[str, object]]:
    """What the documents of a projection that fit have in common, as far as the service can tell; a time that is
    written for another zone is within a day of what it says."""
    terms, values = ["c.id = @id", LISTED], cast("dict[str, object]", {"@id": name})
    if which.workflow_name is not None:
        terms.append("c.workflow_name = @workflow")
        values["@workflow"] = which.workflow_name
    if which.statuses:
        or_idle = " OR NOT IS_DEFINED(c.status)" if "idle" in which.statuses else ""
        terms.append(f"(ARRAY_CONTAINS(@statuses, c.status){or_idle})")
        values["@statuses"] = list(which.statuses)
    if which.prefix:
        terms.append("STARTSWITH(c.run_id, @prefix)")
        values["@prefix"] = which.prefix
    if which.since is not None:
        terms.append("c.recorded_at >= @since")
        values["@since"] = _day(which.since, -_DAY)
    if which.until is not None:
        terms.append("(NOT IS_DEFINED(c.recorded_at) OR c.recorded_at < @until)")
        values["@until"] = _day(which.until, 2 * _DAY)
    for number, tag in enumerate(which.tags.items()):
        terms.append(f"ARRAY_CONTAINS(c.tagged, @tag{number})")
        values[f"@tag{number}"] = mark_of(tag)
    if which.request_type is not None:
        terms.append("ARRAY_CONTAINS(c.pending_requests, @request, true)")
        values["@request"] = {"request_type": which.request_type}
    elif which.waiting or which.asked_before is not None:
        terms.append("IS_DEFINED(c.pending_requests)")
    return " AND ".join(terms), values


def _waiting_condition(name: str, which: RunFilter) -> tuple[str, dict[str, object]]:
    """The same of those that wait. The oldest question of a type is no older than the oldest of all."""
    condition, values = condition_of(name, which)
    condition += f" AND LENGTH(c.waiting_since) = {_WRITTEN}"  # of any other length, somebody has written it
    if which.asked_before is not None:
        condition += " AND c.waiting_since < @before"
        values["@before"] = text_at(which.asked_before)
    return condition, values


def found_by(document: Item) -> dict[str, object]:
    """What stands beside the fields of a document for the service to find it by: since when it waits, written so that
    texts are in the order of times, and its tags, whose names no query could be given as values."""
    found: dict[str, object] = {}
    info = counting(partial(msgspec.convert, document, RunInfo), lambda _: True)  # what was given may be damaged
    if info is None:
        return found
    if info.waiting_since:
        found["waiting_since"] = _since(info)
    if info.tags:
        found["tagged"] = [mark_of(tag) for tag in info.tags.items()]
    return found


def _since(info: RunInfo) -> str:
    """When a run has begun to wait, as it stands beside its document."""
    return place_of(info, waiting=True).at


def _day(moment: datetime, further: timedelta) -> str:
    """The day of a moment, some days further; where the calendar ends, before or behind all days."""
    try:
        return (aware(moment).astimezone(UTC) + further).date().isoformat()
    except OverflowError:
        return "" if further < timedelta() else "~"
