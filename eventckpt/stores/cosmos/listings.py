"""The headers of a run, and those of all runs of a workflow in one order.

Within a run the order is that of seq. Between runs the service has no order of commits, and times are all there is: the
checkpoint's own, which the index is by, then when the event was recorded, then the run's name. An event counts as no
older than those before it in its run. So the order is the same in every process, whatever order the rows come in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Final

from ...event_keys import EventKey, EventKeys
from ...events import CheckpointEvent
from ...moments import NEVER
from .container import Container
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    HEADER,
    KIND,
    Item,
    damaged,
    header_of,
    is_event,
    is_run_event,
    item_id,
    name_of,
    order_of_key,
    recorded_of,
    seq_of,
    stream_of,
)
from .query import PAGE, Cursor

__all__ = ["before", "keys", "last", "newest_first", "newest_of", "oldest_first", "recorded_with", "run_headers"]

_SORTED: Final = 10**12
_NEWEST: Final = 10  # rows to begin with where most callers want only the first
_WHOLE: Final = 100
"""Whole events of a page: who reads backwards mostly wants some of the last, and a query costs what it reads."""
_KEY: Final = (
    f"c.id, c.stream, {KIND}, c.workflow_name, c.run_id, c.checkpoint_id, c.timestamp,"
    " LEFT(c.recorded_at, 64) AS recorded_at"
)
_OF_WORKFLOW: Final = f"SELECT {HEADER} FROM c WHERE c.workflow_name = @name AND"


def before(gt: int) -> str:
    """What the ids of events behind `gt` sort after. Ids have twelve digits, and sort as their seqs do up to there."""
    return item_id(max(gt, -1)) if gt < _SORTED else AFTER_EVENTS


def last(lte: int | None) -> str:
    """What the ids of events up to `lte` sort before, or are."""
    return AFTER_EVENTS if lte is None or lte >= _SORTED else item_id(max(lte, -1))


def newest_of(container: Container, key: str, lte: int | None) -> Cursor:
    """See `AuditStore.newest`: the items of a run's events, whole, by falling ids."""
    only, values = "", {"@low": before(0), "@end": AFTER_EVENTS}
    if lte is not None:
        only, values = " AND (c.id <= @lte OR c.type = 'tombstone')", values | {"@lte": last(lte)}
    return container.query(
        f"SELECT * FROM c WHERE c.id > @low AND c.id < @end{only} AND {EVENTS_ONLY} ORDER BY c.id DESC",
        values,
        key,
        page=_WHOLE,
    )


# Each page is an operation of its own: `close` does not wait for whoever reads them.


async def run_headers(
    container: Container, key: str, *, gt: int = 0, lte: int | None = None, desc: bool = False
) -> AsyncGenerator[CheckpointEvent, None]:
    """The headers of a run."""
    async with aclosing(_run_pages(container, key, HEADER, gt, lte, desc)) as pages:
        async for page in pages:
            for row in page:
                yield header_of(row)


async def keys(container: Container, workflow_name: str, run: str | None) -> AsyncGenerator[EventKeys, None]:
    """The keys of a run's events, or those of all runs of a workflow, which are all read before the first is given.

    Args:
        container: of the events.
        workflow_name: the workflow.
        run: the partition key of the run; None: all runs.
    """
    if run is not None:
        async with aclosing(_run_pages(container, run, _KEY)) as pages:
            async for page in pages:
                if page:
                    yield await _keys_of(container, run, page)
        return
    rows = await _oldest_first(container, workflow_name, _KEY)
    own = [row for row in rows if stream_of(row).workflow_name == workflow_name]
    if own:
        yield await _keys_of(container, None, own)


async def _keys_of(container: Container, run: str | None, rows: list[Item]) -> EventKeys:
    """The keys in rows, which say all but what a record records: those are read."""
    records: dict[tuple[str, str], CheckpointEvent] = {}
    if any(row.get("checkpoint_id") == "" for row in rows):
        text, values = f"SELECT {HEADER} FROM c WHERE c.checkpoint_id = ''", dict[str, object]()
        if run is None:
            text, values = f"{text} AND c.workflow_name = @name", {"@name": rows[0].get("workflow_name")}
        async with aclosing(container.rows_of(container.query(text, values, run))) as found:
            records = {name_of(row): header_of(row) async for row in found}
    return EventKeys.of(
        [EventKey.of(records.get(name_of(row)) or damaged(row), place) for place, row in enumerate(rows)]
    )


async def _run_pages(
    container: Container, key: str, columns: str, gt: int = 0, lte: int | None = None, desc: bool = False
) -> AsyncGenerator[list[Item], None]:
    """The rows of a run's events, some at a time: each query begins where the last one ended. Who reads backwards
    mostly wants the first one only, and a query costs what it reads."""
    low, high = before(gt), last(lte)
    order, count = ("DESC", 1) if desc else ("ASC", PAGE)
    bounds = "c.id > @low AND c.id <= @high"
    while True:
        async with container.in_use():
            rows = await container.query(
                f"SELECT TOP {count} {columns} FROM c WHERE {bounds} AND {EVENTS_ONLY} ORDER BY c.id {order}",
                {"@low": low, "@high": high},
                key,
            ).rows()
        yield [*filter(is_event, rows)]
        if len(rows) < count:
            return
        if desc:
            high, bounds = str(rows[-1]["id"]), "c.id > @low AND c.id < @high"
        else:
            low = str(rows[-1]["id"])
        count = min(10 * count, PAGE)


async def oldest_first(
    container: Container, workflow_name: str, *, emptied: bool = True
) -> AsyncGenerator[CheckpointEvent, None]:
    """The headers of a workflow's runs. All are read before the first is given."""
    begun: set[str] = set()
    for row in await _oldest_first(container, workflow_name, HEADER):
        header = header_of(row)
        if emptied or not header.closes or str(row["stream"]) in begun:
            begun.add(str(row["stream"]))
            yield header


async def _oldest_first(container: Container, workflow_name: str, columns: str) -> list[Item]:
    """The rows of a workflow's events in order."""
    cursor = container.query(f"SELECT {columns} FROM c WHERE c.workflow_name = @name", {"@name": workflow_name})
    runs: dict[str, dict[int, Item]] = {}
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            if is_run_event(row):
                key, seq = _place(row)
                runs.setdefault(key, {})[seq] = row
    return [row for _, row in sorted(_by_time(runs), key=lambda pair: pair[0])]


def _by_time(runs: Mapping[str, Mapping[int, Item]]) -> Iterator[tuple[tuple[object, ...], Item]]:
    """Each row with a key that sorts runs by time, without ever putting a later seq before an earlier one."""
    for key, run in runs.items():
        latest, name = ("", NEVER), order_of_key(key)
        for seq in sorted(run):
            row = run[seq]
            latest = max(latest, (_timestamp(row), recorded_of(row)))
            yield (*latest, name, seq), row


async def newest_first(
    container: Container, workflow_name: str, *, emptied: bool = True
) -> AsyncGenerator[CheckpointEvent, None]:
    """The reverse of `oldest_first`, without reading more than is asked for. Records that closed a run are found,
    without `emptied`, as what lies behind events that are still there.

    Rows come by falling timestamp, those of the same one in any order: they are put in order together. When one comes,
    everything after it in its run is at most as new as it counts for, so what has not been given yet of that is given
    first.
    """
    lowest: dict[str, int] = {}
    """By run, the last seq that was given: everything behind it was, too."""
    async with aclosing(_of_one_timestamp(container, workflow_name, lowest, emptied)) as groups:
        async for group in groups:
            for key, seq, end, row in _stretches(group, lowest):
                lowest[key] = seq
                if end != seq + 1:
                    until = None if end is None else end - 1
                    async with aclosing(run_headers(container, key, gt=seq, lte=until, desc=True)) as later:
                        async for one in later:
                            yield one
                yield header_of(row)


def _stretches(group: Iterable[Item], lowest: Mapping[str, int]) -> list[tuple[str, int, int | None, Item]]:
    """Rows of one timestamp, the newest first: of each the run, the seq, and the seq up to which what follows in the
    run counts as of the same time; None: all that follows does."""
    runs: dict[str, dict[int, Item]] = {}
    for row in group:
        key, seq = _place(row)
        if seq < lowest.get(key, seq + 1):
            runs.setdefault(key, {})[seq] = row
    found: list[tuple[datetime, tuple[str, ...], int, int | None, str]] = []
    for key, run in runs.items():
        latest, seqs = NEVER, sorted(run)
        for seq, end in zip(seqs, [*seqs[1:], lowest.get(key)], strict=True):
            latest = max(latest, recorded_of(run[seq]))
            found.append((latest, order_of_key(key), seq, end, key))
    found.sort(key=lambda each: each[:3], reverse=True)
    return [(key, seq, end, runs[key][seq]) for _, _, seq, end, key in found]


async def _of_one_timestamp(
    container: Container, workflow_name: str, lowest: Mapping[str, int], emptied: bool
) -> AsyncGenerator[list[Item], None]:
    """The rows that are not given yet, in groups of one timestamp, which fall.

    A query that began again gives rows once more. They end no group, and come into none twice.
    """
    group: dict[tuple[str, int], Item] = {}
    timestamp = ""
    async with aclosing(_by_falling_timestamp(container, workflow_name, emptied)) as rows:
        async for row in rows:
            if not is_run_event(row):
                continue
            place = key, seq = _place(row)
            if place in group or seq >= lowest.get(key, seq + 1):
                continue
            if group and _timestamp(row) != timestamp:
                yield list(group.values())
                group.clear()
            timestamp = _timestamp(row)
            group[place] = row
    if timestamp:
        yield list(group.values())
        group.clear()
    # Values of several types cannot be merged; what was damaged comes with its neighbours, or in the end.
    others = container.query(f"{_OF_WORKFLOW}{_unless(emptied)} NOT IS_STRING(c.timestamp)", {"@name": workflow_name})
    async with aclosing(container.rows_of(others)) as rows:
        async for row in rows:
            if is_run_event(row):
                group[_place(row)] = row
    yield list(group.values())


def _unless(emptied: bool) -> str:
    return "" if emptied else " NOT IS_DEFINED(c.closes) AND"


async def _by_falling_timestamp(container: Container, workflow_name: str, emptied: bool) -> AsyncGenerator[Item, None]:
    """Every row with a timestamp that is text, at least once. Few to begin with: most callers want one."""
    async with container.in_use():
        order = f"ORDER BY {container.newest_first('workflow_name', 'timestamp')}"
    values: dict[str, object] = {"@name": workflow_name}
    asked = f"{_OF_WORKFLOW}{_unless(emptied)}"
    newest = container.query_sorted(f"{asked} IS_STRING(c.timestamp) {order}", values, page=_NEWEST)
    page: list[Item] = []
    while len(page) < _NEWEST:  # after a page that is not full, the SDK knows that there is no more
        async with container.in_use():
            rows = await newest.page()
        if rows is None:
            return
        for row in rows:
            yield row
        page = rows
    values["@last"] = str(page[-1]["timestamp"])
    rest = container.query_sorted(f"{asked} c.timestamp <= @last {order}", values, page=PAGE)
    async with aclosing(container.rows_of(rest)) as rows:
        async for row in rows:
            yield row


async def recorded_with(container: Container, workflow_name: str, timestamp: str) -> dict[str, dict[int, datetime]]:
    """By run and seq, when the events with this timestamp were recorded."""
    cursor = container.query(
        f"SELECT c.id, c.stream, {KIND}, LEFT(c.recorded_at, 64) AS recorded_at FROM c"
        " WHERE c.workflow_name = @name AND c.timestamp = @timestamp",
        {"@name": workflow_name, "@timestamp": timestamp},
    )
    found: dict[str, dict[int, datetime]] = {}
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            if is_event(row):
                key, seq = _place(row)
                found.setdefault(key, {})[seq] = recorded_of(row)
    return found


def _place(row: Item) -> tuple[str, int]:
    """The run and the seq of an event's row."""
    return str(row["stream"]), seq_of(row["id"]) or 0


def _timestamp(row: Item) -> str:
    timestamp = row.get("timestamp")
    return timestamp if isinstance(timestamp, str) else ""
