"""Which runs there are in a container, and which of them have a checkpoint: queries over all partitions.

They select no payload. Streams are told apart by their partition keys, which nobody can change in place, whatever the
items claim.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

from ...events import StreamId
from .. import can_exist
from . import lookups
from .container import Container
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    KIND,
    REMOVALS_KEY,
    Item,
    is_cut,
    is_event,
    is_run_event,
    item_id,
    key_of,
    key_prefix_of,
    moment_of,
    name_of,
    order_of_key,
    recorded_of,
    stream_of,
)

__all__ = ["LATE", "checkpoint_ids", "removal_streams", "run_ids", "runs_with", "streams"]

LATE: Final = 10
"""Seconds by which an event of another physical partition may come to light after one with a later time."""
_PAGE: Final = 100
_KEY_PREFIX: Final = 100  # characters of a run id's prefix that its partition key is searched for
_WALKS: Final = 4
"""How often the streams are walked along at most, beside removals."""


async def streams(
    container: Container, workflow_name: str | None, prefix: str, *, emptied: bool
) -> AsyncGenerator[StreamId, None]:
    """See `AuditStore.streams`. The order is that of the service's clock, and within a second by when the newest event
    of each run was recorded, and then by name. Where a run was closed and is begun again, it is found by what came
    since."""
    if not can_exist(StreamId(workflow_name or "", prefix)):
        return
    only, values = "", {"@end": AFTER_EVENTS}
    if workflow_name is not None:
        only, values = " AND c.workflow_name = @workflow", values | {"@workflow": workflow_name}
    if prefix:
        # The key is indexed and the run id is not; a key that was cut may lack the run id.
        only += " AND (CONTAINS(c.stream, @key) OR CONTAINS(c.stream, '*')) AND STARTSWITH(c.run_id, @prefix)"
        values |= {"@prefix": prefix, "@key": f"|{quote(prefix, safe='')[:_KEY_PREFIX]}"}
    if not emptied:
        only += " AND NOT IS_DEFINED(c.closes)"
    seen: set[str] = set()
    since = 0
    for _ in range(_WALKS):
        cursor = container.query_sorted(
            f"SELECT c.id, c.stream, {KIND}, c.workflow_name, c.run_id, c._ts, LEFT(c.recorded_at, 64) AS recorded_at"
            f" FROM c WHERE c.id < @end AND {EVENTS_ONLY}{only} AND c._ts >= @since ORDER BY c._ts DESC",
            values | {"@since": since},
            page=_PAGE,
        )
        walk = _Walk()
        async with aclosing(container.rows_of(cursor)) as rows, aclosing(_unseen(walk.counting(rows), seen)) as found:
            async for stream in found:
                yield stream
        if walk.rows < _PAGE:
            return  # one page of each partition, so that all of it was of one moment
        # Of a run that was written to meanwhile, all that lay before may have been removed before the walk came to it:
        # so what was written since is walked along, too.
        since = walk.newest - LATE


class _Walk:
    """What a walk along the streams has come along."""

    def __init__(self) -> None:
        self.rows = 0
        self.newest = 0
        """The service's second of the newest."""

    async def counting(self, rows: AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
        async for row in rows:
            self.newest = self.newest if self.rows else moment_of(row)
            self.rows += 1
            yield row


async def _unseen(rows: AsyncIterable[Item], seen: set[str]) -> AsyncGenerator[StreamId, None]:
    """The streams of rows by falling moment that were not seen yet, in the order of `streams`."""
    second: dict[str, Item] = {}
    """Of each run that was last written to in one second, the newest row."""
    async for row in rows:
        key = key_of(row)
        if key is None or key in seen or not is_run_event(row):
            continue
        if second and moment_of(row) != moment_of(next(iter(second.values()))):
            for each in _last_recorded_first(second):
                yield stream_of(each)
            seen.update(second)
            second.clear()
        if key not in seen and name_of(row) >= name_of(second.setdefault(key, row)):
            second[key] = row
    for each in _last_recorded_first(second):
        yield stream_of(each)
    seen.update(second)


def _last_recorded_first(runs: dict[str, Item]) -> list[Item]:
    return sorted(runs.values(), key=lambda row: (recorded_of(row), order_of_key(str(row["stream"]))), reverse=True)


async def removal_streams(container: Container) -> AsyncGenerator[StreamId, None]:
    """See `AuditStore.removal_streams`; the index of keys is looked through."""
    cursor = container.query(
        f"SELECT c.id, c.stream, {KIND}, c.workflow_name, c.run_id FROM c WHERE ENDSWITH(c.stream, @end)",
        {"@end": REMOVALS_KEY},
    )
    seen: set[str] = set()
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            key = key_of(row)
            if key is not None and key not in seen and is_event(row):
                seen.add(key)
                yield stream_of(row)


async def checkpoint_ids(container: Container, prefix: str, limit: int) -> list[str]:
    """See `AuditStore.checkpoint_ids`."""
    cursor = container.query(
        f"SELECT c.id, c.stream, {KIND}, c.checkpoint_id FROM c WHERE STARTSWITH(c.checkpoint_id, @prefix)",
        {"@prefix": prefix},
    )
    found: set[str] = set()
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            if is_run_event(row) and row["checkpoint_id"]:
                found.add(str(row["checkpoint_id"]))
            if len(found) == limit:
                break
    return sorted(found)


async def runs_with(container: Container, workflow_name: str, names: list[str]) -> list[tuple[str, str]]:
    """See `AuditStore.runs_with`."""
    cursor = container.query(
        "SELECT c.id, c.stream, c.checkpoint_id, c.run_id FROM c"
        " WHERE c.workflow_name = @workflow AND ARRAY_CONTAINS(@names, c.checkpoint_id)",
        {"@workflow": workflow_name, "@names": names},
    )
    async with aclosing(container.rows_of(cursor)) as rows:
        return sorted({(str(row["checkpoint_id"]), str(row["run_id"])) async for row in rows if is_run_event(row)})


async def run_ids(container: Container, workflow_name: str) -> AsyncGenerator[str, None]:
    """See `AuditStore.run_ids`. At the first seq of a run lies an event, or the marker of one that was removed; where
    0.1.0 pruned it, nothing, and the run is found by its record."""
    prefix = key_prefix_of(workflow_name)
    only = "CONTAINS(c.stream, '*')" if prefix is None else "STARTSWITH(c.stream, @prefix)"
    cursor = container.query(
        "SELECT c.id, c.stream, IS_DEFINED(c.gap) AS gap FROM c"
        f" WHERE {only} AND (c.id = @first OR (c.checkpoint_id = '' AND IS_DEFINED(c.pruned)))",
        {"@first": item_id(1)} | ({} if prefix is None else {"@prefix": prefix}),
    )
    seen: set[str] = set()
    async with aclosing(container.rows_of(cursor)) as rows:
        async for row in rows:
            key = key_of(row)
            if key is None or key in seen or key.endswith(REMOVALS_KEY):
                continue
            seen.add(key)
            stream = await _stream_in(container, row)
            if stream is not None and stream.workflow_name == workflow_name:
                yield stream.run_id


async def _stream_in(container: Container, row: Item) -> StreamId | None:
    """The run of the first row that is found of a partition; None where that holds no event. Its key mostly tells; of a
    key that was cut only an event does, and behind a gap there may be none."""
    key = str(row["stream"])
    if not is_cut(key) and not row["gap"]:
        return stream_of(row)
    async with container.in_use():
        head = await lookups.head_of(container, key)
    return None if head is None else stream_of(head)
