"""Single events of a container: those of some seqs, the head of a run, the event of a checkpoint.

All inside an operation of the container. An event comes whole: its data is fetched from parts where it lies in some.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from ...events import CheckpointEvent
from ...threads import off_the_loop
from .. import FoundEvent
from .container import Container
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    HEADER,
    KIND,
    PART,
    Item,
    damaged,
    data_of,
    header_of,
    is_event,
    is_marker,
    is_part,
    is_run_event,
    order_of_key,
    recorded_of,
    seq_of,
    size_of,
)
from .query import PAGE, Cursor, together

__all__ = [
    "POINT_READS",
    "events_named",
    "find_anywhere",
    "find_in_run",
    "head_known",
    "head_of",
    "last_event",
    "seq_in",
    "whole",
    "whole_events",
]

POINT_READS: Final = 2
"""Events up to which each is read by itself; more are one query."""
_IDS: Final = 500  # ids in one query; the service bounds its text
_LOOKS: Final = 3
"""How often a checkpoint is looked for over all runs where what was found is removed before it is read."""


async def events_named(container: Container, key: str, names: list[str]) -> list[CheckpointEvent]:
    """The events of a run with these ids, in their order; those that are not there are left out. Up to two are point
    reads, side by side; more are one query."""
    if len(names) <= POINT_READS:
        found = await together(*(partial(container.read, name, key) for name in names))
    else:
        found = await _items_named(container, key, names)
    by_name = {str(item["id"]): item for item in found if item is not None and is_event(item)}
    return [await whole(container, by_name[name]) for name in sorted(by_name)]


async def _items_named(container: Container, key: str, names: list[str]) -> list[Item]:
    items: list[Item] = []
    for start in range(0, len(names), _IDS):
        marks = {f"@id{index}": name for index, name in enumerate(names[start : start + _IDS])}
        items += await container.query(
            f"SELECT * FROM c WHERE c.id IN ({', '.join(marks)}) AND {EVENTS_ONLY}", marks, key
        ).rows()
    return items


async def whole(container: Container, item: Item) -> CheckpointEvent:
    """The event in an item that was read whole, its data fetched from parts where it lies in some."""
    event = header_of(item)
    if event.payload is None or (event.payload.parts and item.get("data")):
        return event.header() if not item.get("data") else damaged(item)
    found: list[Item | None] = [item]
    if event.payload.parts:
        key = str(item["stream"])
        names = [name for name in event.payload.parts if is_part(name)]
        parts = await together(*(partial(container.read, name, key, known=True) for name in names))
        found = [part if part and part.get("type") == PART else None for part in parts]
    data = await off_the_loop(sum(map(size_of, found)), data_of, *found)
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data))


async def whole_events(
    container: Container, cursor: Cursor, *, desc: bool = False
) -> AsyncGenerator[CheckpointEvent, None]:
    """The events in the rows of a query of one run, by rising ids or by falling ones, each once: after a split the SDK
    begins again."""
    last: str | None = None
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            name = str(row["id"])
            if is_event(row) and (last is None or (name < last if desc else name > last)):
                last = name
                async with container.in_use():
                    event = await whole(container, row)
                yield event


async def find_in_run(container: Container, key: str, checkpoint_id: str) -> FoundEvent | None:
    """The newest event of a checkpoint id in a run, and the run's head: asked for side by side, unless it is the event
    that others repeat right behind that head, which must not miss a later one. The session has the event come from a
    replica that is no older than the head."""
    newest = partial(_newest_in, container, key, checkpoint_id)
    if checkpoint_id:
        return await _located(container, key, newest)
    head = await head_of(container, key)
    return await _found(container, await newest(), head)


async def find_anywhere(
    container: Container, checkpoint_id: str, only: str = "", values: Mapping[str, object] | None = None
) -> FoundEvent | None:
    """The newest event of a checkpoint id in all runs that a condition holds for, and the head of its run."""
    async with container.in_use():
        for _ in range(_LOOKS):
            newest = await _newest_of_all(container, checkpoint_id, only, values or {})
            if newest is None:
                return None
            name, key = str(newest["id"]), str(newest["stream"])
            located = await _located(container, key, partial(container.read, name, key, known=True))
            if located is not None:
                return located
        return None


async def _located(
    container: Container, key: str, event_item: Callable[[], Awaitable[Item | None]]
) -> FoundEvent | None:
    """An event of a run, whole, and the run's head; asked for side by side."""
    return await _found(container, *await together(event_item, partial(head_of, container, key)))


async def _found(container: Container, found: Item | None, head: Item | None) -> FoundEvent | None:
    if found is None or not is_event(found):
        return None
    event = await whole(container, found)
    return FoundEvent(event, _later(event.header(), head))


async def _newest_in(container: Container, key: str, checkpoint_id: str) -> Item | None:
    """The newest event of a checkpoint id in a run, whole but for its parts."""
    return await last_event(container, "*", "c.checkpoint_id = @id AND ", {"@id": checkpoint_id}, key)


async def _newest_of_all(
    container: Container, checkpoint_id: str, only: str, values: Mapping[str, object]
) -> Item | None:
    """Where the newest event of a checkpoint id is, in the run that counts. Little is asked for and kept of each:
    very many runs may have the id, and what was changed may be of any size."""
    cursor = container.query(
        f"SELECT c.id, c.stream, {KIND}, LEFT(c.recorded_at, 64) AS recorded_at"
        f" FROM c WHERE c.checkpoint_id = @id{only}",
        {**values, "@id": checkpoint_id},
    )
    newest: dict[str, Item] = {}
    while (page := await cursor.page()) is not None:
        for row in filter(is_run_event, page):
            known = newest.setdefault(str(row["stream"]), row)
            if str(row["id"]) > str(known["id"]):
                newest[str(row["stream"])] = row
    return max(newest.values(), key=_written, default=None)


async def head_of(container: Container, key: str) -> Item | None:
    """The last event of a run, without its data; None where the run has none."""
    return await last_event(container, HEADER, "", {}, key)


async def head_known(container: Container, taken: Item) -> CheckpointEvent | None:
    """The header of a run's head, for the conflict with an item of that run."""
    head = await head_of(container, str(taken["stream"]))
    if is_marker(taken):  # the record lies behind it
        return header_of(head) if head else None
    return _later(header_of(taken), head)


async def last_event(container: Container, what: str, only: str, values: Mapping[str, object], key: str) -> Item | None:
    """The last event of a run that a condition holds for: one row of one query, unless something that is no event
    was put behind it."""
    end, count = AFTER_EVENTS, 1
    while True:
        rows = await container.query(
            f"SELECT TOP {count} {what} FROM c WHERE {only}c.id < @end AND {EVENTS_ONLY} ORDER BY c.id DESC",
            {**values, "@end": end},
            key,
        ).rows()
        found = next(filter(is_event, rows), None)
        if found is not None or len(rows) < count:
            return found
        end, count = str(rows[-1]["id"]), min(10 * count, PAGE)


def seq_in(item: Item | None) -> int:
    """The seq of an event's item; 0 without one."""
    return (seq_of(item["id"]) or 0) if item else 0


def _later(event: CheckpointEvent, head: Item | None) -> CheckpointEvent:
    """The head of a run that has `event`, as a query answered by a replica may not know yet."""
    found = header_of(head) if head else event
    return found if found.seq > event.seq else event


def _written(row: Item) -> tuple[bool, datetime, tuple[str, ...]]:
    """What the runs that have a checkpoint id are in order by: see `EventStore.find`."""
    return row.get("type") != "tombstone", recorded_of(row), order_of_key(str(row["stream"]))
