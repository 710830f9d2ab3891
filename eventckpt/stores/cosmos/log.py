"""The whole log in a container, for audits: which streams there are, and every event as it comes.

The queries go over all partitions and select no payload. Streams are told apart by their partition keys, which
nobody can change in place, whatever the items claim.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from ...errors import CheckpointStoreError
from ...events import CheckpointEvent, StreamId
from ...moments import NEVER, order_of
from .. import Check, can_exist
from .container import Container
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    HEADER,
    INDEXING_POLICY,
    KIND,
    PART,
    PARTITION_KEY,
    Item,
    header_of,
    is_event,
    key_of,
    order_of_key,
    stream_of,
)
from .layout import KEY_VERSION, listing, mapping, serves
from .query import Cursor

__all__ = ["checks", "follow", "ids_with", "is_removed", "rows_of", "runs_with", "streams"]

_PAGE: Final = 100
_KEY_PREFIX: Final = 100  # characters of a run id's prefix that its partition key is searched for
_NEWEST: Final = 256  # events that `follow` looks at to begin with
_MOST: Final = (1 << 31) - 1  # rows that a query may ask for
_READS_OWN_WRITES: Final = frozenset({"Session", "BoundedStaleness", "Strong"})
_WALKS: Final = 4
"""How often the streams are walked along at most, beside removals."""
_LATE: Final = 10
"""Seconds by which an event of another physical partition may come to light after one with a later time."""


async def rows_of(container: Container, cursor: Cursor) -> AsyncGenerator[Item, None]:
    """The rows of a query. Each page is an operation of its own: `close` does not wait for whoever reads them."""
    while True:
        async with container.in_use():
            page = await cursor.page()
        if page is None:
            return
        for row in page:
            yield row


async def streams(container: Container, workflow_name: str | None, prefix: str) -> AsyncGenerator[StreamId, None]:
    """See `AuditStore.streams`. The order is that of the service's clock, and within a second by when the newest event
    of each run was recorded, and then by name."""
    if not can_exist(StreamId(workflow_name or "", prefix)):
        return
    only, values = "", {"@end": AFTER_EVENTS}
    if workflow_name is not None:
        only, values = " AND c.workflow_name = @workflow", values | {"@workflow": workflow_name}
    if prefix:
        # The key is indexed and the run id is not; a key that was cut may lack the run id.
        only += " AND (CONTAINS(c.stream, @key) OR CONTAINS(c.stream, '*')) AND STARTSWITH(c.run_id, @prefix)"
        values |= {"@prefix": prefix, "@key": f"|{quote(prefix, safe='')[:_KEY_PREFIX]}"}
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
        async with aclosing(rows_of(container, cursor)) as rows, aclosing(_unseen(walk.counting(rows), seen)) as found:
            async for stream in found:
                yield stream
        if walk.rows < _PAGE:
            return  # one page of each partition, so that all of it was of one moment
        # Of a run that was written to meanwhile, all that lay before may have been removed before the walk came to it:
        # so what was written since is walked along, too.
        since = walk.newest - _LATE


class _Walk:
    """What a walk along the streams has come along."""

    def __init__(self) -> None:
        self.rows = 0
        self.newest = 0
        """The service's second of the newest."""

    async def counting(self, rows: AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
        async for row in rows:
            self.newest = self.newest if self.rows else _moment(row)
            self.rows += 1
            yield row


async def _unseen(rows: AsyncIterable[Item], seen: set[str]) -> AsyncGenerator[StreamId, None]:
    """The streams of rows by falling moment that were not seen yet, in the order of `streams`."""
    second: dict[str, Item] = {}
    """Of each run that was last written to in one second, the newest row."""
    async for row in rows:
        key = key_of(row)
        if key is None or key in seen or not is_event(row):
            continue
        if second and _moment(row) != _moment(next(iter(second.values()))):
            for each in _last_recorded_first(second):
                yield stream_of(each)
            seen.update(second)
            second.clear()
        if key not in seen and _name(row) >= _name(second.setdefault(key, row)):
            second[key] = row
    for each in _last_recorded_first(second):
        yield stream_of(each)
    seen.update(second)


def _last_recorded_first(runs: dict[str, Item]) -> list[Item]:
    return sorted(runs.values(), key=lambda row: (_recorded(row), order_of_key(str(row["stream"]))), reverse=True)


async def ids_with(container: Container, prefix: str, limit: int) -> list[str]:
    """See `AuditStore.checkpoint_ids`."""
    cursor = container.query(
        f"SELECT c.id, c.stream, {KIND}, c.checkpoint_id FROM c WHERE STARTSWITH(c.checkpoint_id, @prefix)",
        {"@prefix": prefix},
    )
    found: set[str] = set()
    async with aclosing(rows_of(container, cursor)) as rows:
        async for row in rows:
            if is_event(row):
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
    async with aclosing(rows_of(container, cursor)) as rows:
        return sorted({(str(row["checkpoint_id"]), str(row["run_id"])) async for row in rows if is_event(row)})


async def is_removed(container: Container, item: Item) -> bool:
    """Delete an item unless it was written again since it was read; whether it was."""
    return await container.remove(item["id"], item["stream"], item["_etag"]) == "removed"


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
    seen = {_name(row): _moment(row) for row in newest}
    # Older ones than those just read count as known, even where they are of the same second.
    lowest = min(map(_moment, newest)) + 1 if len(newest) >= many else 0
    events = [row for row in newest if is_event(row)]
    for row in events[max(0, len(events) - last) :]:
        yield header_of(row)
    while True:
        since = max(lowest, max(seen.values(), default=0) - _LATE)
        async with container.in_use():
            rows = await container.query(
                f"SELECT {HEADER}, c._ts FROM c WHERE c.id < @end AND c._ts >= @since AND {EVENTS_ONLY}",
                {"@end": AFTER_EVENTS, "@since": since},
            ).rows()
        for row in _in_order(rows):
            if _name(row) not in seen:
                seen[_name(row)] = _moment(row)
                if is_event(row):
                    yield header_of(row)
        seen = {name: moment for name, moment in seen.items() if moment >= since}
        await asyncio.sleep(poll)


async def checks(container: Container) -> list[Check]:
    """See `AuditStore.checks`. Writes a part that belongs to no event, twice, and deletes it; a store that is
    read-only writes nothing, and leaves that check out."""
    found: list[Check] = []
    try:
        properties = await container.settings()
        if properties is None:
            return [Check("container", False, f"{container.name} does not exist", "The first save creates it.")]
        found += [*_layout(properties), _consistency(await container.consistency())]
        async with container.in_use():
            await container.query("SELECT TOP 1 c.id FROM c", {}, "").rows()
            found.append(Check("reading", True, "the identity can query"))
            if container.read_only:
                return found
            # An id of its own: of two doctors at once, each finds what it wrote.
            probe = {"id": f"{PART}-{secrets.token_hex(32)}", "stream": "doctor", "type": PART, "data": ""}
            await container.put(probe)
            written = await container.read(probe["id"], probe["stream"])
            etag = await container.replace(probe, written["_etag"]) if written is not None else None
            removed = etag is not None and await is_removed(container, probe | {"_etag": etag})
            advice = "Allow it to replace items and to delete them, for prune."
            found.append(Check("writing", removed, "the identity can write, replace and delete", advice))
    except CheckpointStoreError as error:
        found.append(Check("access", False, str(error), "Everything above this line holds."))
    return found


def _layout(properties: dict[str, Any]) -> list[Check]:
    definition, policy = mapping(properties.get("partitionKey")), mapping(properties.get("indexingPolicy"))
    paths, version = definition.get("paths"), definition.get("version", 1)
    indexed = {str(mapping(path).get("path")) for path in listing(policy.get("includedPaths"))}
    wanted = {str(path["path"]) for path in INDEXING_POLICY["includedPaths"]}
    missing = [] if "/*" in indexed else sorted(wanted - indexed)
    composite = serves(policy, INDEXING_POLICY)
    expires = properties.get("defaultTtl")
    remedy = "Set eventckpt.stores.cosmos.INDEXING_POLICY."
    return [
        Check("partition key", paths == [PARTITION_KEY], f"{paths}", f"Events need a container with {PARTITION_KEY}."),
        Check(
            "partition key version",
            version == KEY_VERSION,
            f"version {version}" + (": only the first 101 bytes of a key count" if version == 1 else ""),
            f"Make a container with --partition-key-version {KEY_VERSION}; the version cannot be changed later.",
        ),
        Check(
            "indexes",
            not missing,
            f"missing: {', '.join(missing)}" if missing else "every path that is filtered by",
            remedy,
        ),
        Check(
            "composite index",
            composite,
            "workflow name and timestamp, in one order" if composite else "missing or mixed",
            f"{remedy} Without it, the unbound get_latest costs more.",
        ),
        Check(
            "index size",
            "/*" not in indexed,
            "every path is indexed, 0.2 RU a write for each" if "/*" in indexed else "nothing that is not needed",
            remedy,
        ),
        Check(
            "expiry",
            expires in (None, -1),
            "items never expire" if expires in (None, -1) else f"items expire after {expires} seconds",
            "Events that expire are gaps that nobody recorded: turn it off, and use prune.",
        ),
    ]


def _consistency(level: str) -> Check:
    return Check(
        "consistency",
        level in _READS_OWN_WRITES,
        f"the account's default is {level}",
        "A storage may not find what it has just saved: set the account's default consistency to Session.",
    )


def _in_order(rows: list[Item]) -> list[Item]:
    """By the service's clock; within a second by when they were recorded, and then by name. In a run always by seq."""
    latest: dict[str, tuple[int, datetime]] = {}
    ordered: list[tuple[tuple[object, ...], Item]] = []
    for (key, name), row in sorted({_name(row): row for row in rows}.items(), key=lambda pair: pair[0]):
        latest[key] = max(latest.get(key, (0, NEVER)), (_moment(row), _recorded(row)))
        ordered.append(((*latest[key], order_of_key(key), name), row))
    return [row for _, row in sorted(ordered, key=lambda pair: pair[0])]


def _recorded(row: Item) -> datetime:
    return order_of(row.get("recorded_at"))


def _name(row: Item) -> tuple[str, str]:
    return key_of(row) or "", str(row["id"])


def _moment(row: Item) -> int:
    return int(row["_ts"])
