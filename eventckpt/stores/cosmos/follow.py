"""Every event of a container as it comes, for whoever watches: asked for again and again, by the service's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final

from ...events import CheckpointEvent
from ...moments import NEVER
from .container import Container
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    HEADER,
    Item,
    header_of,
    is_event,
    moment_of,
    name_of,
    order_of_key,
    recorded_of,
)
from .streams import LATE

__all__ = ["follow"]

_PAGE: Final = 100
_NEWEST: Final = 256  # events that are looked at to begin with
_MOST: Final = (1 << 31) - 1  # rows that a query may ask for


async def follow(container: Container, last: int, poll: float) -> AsyncGenerator[CheckpointEvent, None]:
    """See `AuditStore.follow`; the order is that of `_in_order`."""
    last = min(last, _MOST)
    many = max(last, _NEWEST)
    async with container.in_use():
        cursor = container.query_sorted(
            f"SELECT TOP {many:d} {HEADER}, c._ts FROM c WHERE c.id < @end AND {EVENTS_ONLY} ORDER BY c._ts DESC",
            {"@end": AFTER_EVENTS},
            page=_PAGE,
        )
        newest = _in_order(await cursor.rows())
    seen = {name_of(row): moment_of(row) for row in newest}
    # Older ones than those just read count as known, even where they are of the same second.
    lowest = min(map(moment_of, newest)) + 1 if len(newest) >= many else 0
    events = [row for row in newest if is_event(row)]
    for row in events[max(0, len(events) - last) :]:
        yield header_of(row)
    while True:
        since = max(lowest, max(seen.values(), default=0) - LATE)
        async with container.in_use():
            rows = await container.query(
                f"SELECT {HEADER}, c._ts FROM c WHERE c.id < @end AND c._ts >= @since AND {EVENTS_ONLY}",
                {"@end": AFTER_EVENTS, "@since": since},
            ).rows()
        for row in _in_order(rows):
            if name_of(row) not in seen:
                seen[name_of(row)] = moment_of(row)
                if is_event(row):
                    yield header_of(row)
        seen = {name: moment for name, moment in seen.items() if moment >= since}
        await asyncio.sleep(poll)


def _in_order(rows: list[Item]) -> list[Item]:
    """By the service's clock; within a second by when they were recorded, and then by name. In a run always by seq."""
    latest: dict[str, tuple[int, datetime]] = {}
    ordered: list[tuple[tuple[object, ...], Item]] = []
    for (key, name), row in sorted({name_of(row): row for row in rows}.items(), key=lambda pair: pair[0]):
        latest[key] = max(latest.get(key, (0, NEVER)), (moment_of(row), recorded_of(row)))
        ordered.append(((*latest[key], order_of_key(key), name), row))
    return [row for _, row in sorted(ordered, key=lambda pair: pair[0])]
