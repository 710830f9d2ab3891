"""The distributed engine: one item per event in an Azure Cosmos DB for NoSQL container.

The stream is the partition key and the seq is the item's id, so the service itself refuses a second event at one
seq: an append is one `create_item`, whatever else happens at the same time. Everything that reads a run stays in
one logical partition, and is in the order of ids. `items` has the layout, `container` the requests, `markers` what
stays of an event that was removed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from azure.cosmos.aio import ContainerProxy, CosmosClient

from ... import settings as check
from ...errors import StoreFullError, StreamConflict
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...log import logger_of
from ...moments import order_of
from ...removals import NOTHING, Removals
from ...text import is_unicode
from .. import AuditStore, Check, FoundEvent, RunStore, can_exist, gaps_behind, head_stays
from ..change_feed import ChangeFeed
from ..documents import DocumentStore
from . import connection, listings, log, markers
from .change_feed import CosmosChangeFeed
from .client import Connections
from .connection import CosmosCredential
from .container import Container
from .documents import CosmosDocumentStore
from .items import (
    AFTER_EVENTS,
    EVENTS_ONLY,
    HEADER,
    INDEXING_POLICY,
    KIND,
    PART,
    PARTITION_KEY,
    Item,
    damaged,
    data_of,
    gap_of,
    header_of,
    is_event,
    is_marker,
    is_part,
    item_id,
    items_of,
    key_of,
    key_prefix_of,
    order_of_key,
    partition_key_of,
    seq_of,
)
from .layout import Layout
from .query import PAGE, together
from .runs import CosmosRunStore

__all__ = ["INDEXING_POLICY", "PARTITION_KEY", "CosmosCredential", "CosmosEventStore", "partition_key_of"]

logger: Final = logger_of("eventckpt")

_LAYOUT: Final = Layout("events", PARTITION_KEY, INDEXING_POLICY, made_by="the first save")
_POINT_READS: Final = 2
"""Events up to which each is read by itself; more are one query."""
_IDS: Final = 500  # ids in one query; the service bounds its text
_LOOKS: Final = 3
"""How often a checkpoint is looked for over all runs where what was found is removed before it is read."""


class CosmosEventStore(AuditStore):
    """Events in an Azure Cosmos DB container. The arguments are those of `agent_framework_azure_cosmos`.

    Args:
        endpoint: the account's URI; else `AZURE_COSMOS_ENDPOINT`.
        database_name: else `AZURE_COSMOS_DATABASE_NAME`.
        container_name: the container of events; else `AZURE_COSMOS_CONTAINER_NAME`. Database and container are
            created on first use where the identity may.
        credential: an account key, a `SecretString`, or a sync or async token credential; else `AZURE_COSMOS_KEY`.
        cosmos_client: an async client to use; not closed with the store.
        container_client: an async container to use; not closed with the store, and never created by it.
        env_file_path, env_file_encoding: a `.env` file to read settings from before the environment.
        read_only: nothing is written, and no database or container is created: one that is missing is a
            `StoreNotFoundError` that names it, and whatever writes raises `StoreReadOnlyError` without a request.

    Raises:
        TypeError, ValueError: a setting is not of the form above: the key is no base64, a name is blank or too long for
            the service, an identity is to be sent over http, and the like. Nothing was asked of the service.
        SettingNotFoundError: a setting is given in none of these ways (agent_framework's exception).

    An append does not notice a gap, nor another `previous_digest` than the head's: it is one request, which compares
    the event with what is stored at its seq and with nothing else. The digests tell whoever verifies the run. So that
    no writer, however old its view of the run, finds a seq free that was taken once, `remove` leaves a marker in the
    place of each event: seq and digest, which no listing gives.

    Reads have session consistency: a store reads what it wrote itself; what other processes wrote may be a moment
    late, and an append then meets the conflict.

    A store belongs to the event loop that first used it, as its connections do.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        database_name: str | None = None,
        container_name: str | None = None,
        credential: CosmosCredential | None = None,
        cosmos_client: CosmosClient | None = None,
        container_client: ContainerProxy | None = None,
        env_file_path: str | None = None,
        env_file_encoding: str | None = None,
        read_only: bool = False,
    ) -> None:
        check.flag("read_only", read_only)
        target = connection.target(
            endpoint=endpoint,
            database_name=database_name,
            container_name=container_name,
            credential=credential,
            cosmos_client=cosmos_client,
            container_client=container_client,
            env_file_path=env_file_path,
            env_file_encoding=env_file_encoding,
        )
        self.database_name: str = target.database_name
        self.container_name: str = target.container_name
        self.read_only: bool = read_only
        owned = target.client is not None and cosmos_client is None
        self._connections = Connections(target.client, owned=owned, name=target.container_name)
        self._container = Container(
            _LAYOUT,
            self._connections,
            database_name=target.database_name,
            name=target.container_name,
            given=container_client,
            read_only=read_only,
        )

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`."""
        self._container.check_writable()
        if event.seq > MAX_SEQ:  # it would be written, and never be found
            raise StoreFullError(f"{event.named()} would come after the last seq: no event has one beyond {MAX_SEQ}.")
        body, parts = items_of(event)
        async with self._container.in_use():
            # Parts first: the event is the commit point, and a part that nobody refers to is harmless. They are put,
            # not created: one that is there already must not count as old, or it could be collected meanwhile.
            await together(*(partial(self._container.put, part) for part in parts))
            taken = await self._container.create(body)
            if taken is not None and header_of(taken).digest != event.digest:  # of a marker, the removed event's
                raise StreamConflict(event.stream, event.seq, await self._head_beside(taken))

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`. Up to two are point reads, side by side; more are one query."""
        if not can_exist(stream):
            return []
        key, names = partition_key_of(stream), sorted({item_id(seq) for seq in seqs if 1 <= seq <= MAX_SEQ})
        async with self._container.in_use():
            if len(names) <= _POINT_READS:
                found = await together(*(partial(self._container.read, name, key) for name in names))
            else:
                found = await self._items(key, names)
            by_name = {str(item["id"]): item for item in found if item is not None and is_event(item)}
            return [await self._whole(by_name[name]) for name in sorted(by_name)]

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        """See `EventStore.find`."""
        if not is_unicode(checkpoint_id) or (stream is not None and not can_exist(stream)):
            return None
        if stream is None:
            return await self._found_anywhere(checkpoint_id)
        key = partition_key_of(stream)
        async with self._container.in_use():
            return await self._located(key, partial(self._newest_in, key, checkpoint_id))

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """See `EventStore.find_in`."""
        if not is_unicode(workflow_name) or not is_unicode(checkpoint_id):
            return None
        prefix = key_prefix_of(workflow_name)
        if prefix is None:
            return await self._found_anywhere(checkpoint_id, " AND c.workflow_name = @name", {"@name": workflow_name})
        return await self._found_anywhere(checkpoint_id, " AND STARTSWITH(c.stream, @prefix)", {"@prefix": prefix})

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.headers`."""
        if not can_exist(stream):
            return
        async with aclosing(
            listings.run_headers(self._container, partition_key_of(stream), gt=gt, lte=lte, desc=desc)
        ) as listing:
            async for header in listing:
                yield header

    async def workflow_headers(
        self, workflow_name: str, *, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`; what orders the runs is said in `listings`."""
        if not is_unicode(workflow_name):
            return
        listing = listings.newest_first if desc else listings.oldest_first
        async with aclosing(listing(self._container, workflow_name)) as headers:
            async for header in headers:
                if header.workflow_name == workflow_name:  # a changed item may claim to be another workflow's
                    yield header

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        """See `EventStore.remove_orphaned_parts`."""
        self._container.check_writable()
        async with self._container.in_use():
            parts = await self._container.query(
                "SELECT c.id, c.stream, c._etag FROM c WHERE STARTSWITH(c.id, @part) AND c._ts <= @before",
                {"@part": f"{PART}-", "@before": await self._container.service_time() - older_than},
            ).rows()
            candidates: dict[str, dict[str, Item]] = {}
            for part in parts:
                if (key := key_of(part)) is not None:
                    candidates.setdefault(key, {})[str(part["id"])] = part
            removed = 0
            for key, by_name in candidates.items():
                used = await self._parts_in_use(key)
                # Only as it was before its run was read: a save that puts the part again meanwhile keeps it.
                orphans = [part for name, part in by_name.items() if used is not None and name not in used]
                removed += sum(await together(*(partial(log.is_removed, self._container, part) for part in orphans)))
        return removed

    def streams(self, *, workflow_name: str | None = None, prefix: str = "") -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.streams`."""
        return log.streams(self._container, workflow_name, prefix)

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """See `AuditStore.checkpoint_ids`."""
        return [] if not is_unicode(prefix) else await log.ids_with(self._container, prefix, limit)

    async def runs_with(self, workflow_name: str, checkpoint_ids: Sequence[str]) -> list[tuple[str, str]]:
        """See `AuditStore.runs_with`."""
        if not is_unicode(workflow_name):
            return []
        return await log.runs_with(self._container, workflow_name, [*filter(is_unicode, checkpoint_ids)])

    async def events(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.events`."""
        if not can_exist(stream):
            return
        cursor = self._container.query(
            f"SELECT * FROM c WHERE c.id > @gt AND c.id <= @lte AND {EVENTS_ONLY} ORDER BY c.id ASC",
            {"@gt": listings.before(gt), "@lte": listings.last(lte)},
            partition_key_of(stream),
        )
        last = ""
        async with aclosing(log.rows_of(self._container, cursor)) as rows:
            async for row in rows:
                name = str(row["id"])
                if name > last and is_event(row):  # the SDK begins again after a split
                    last = name
                    async with self._container.in_use():
                        event = await self._whole(row)
                    yield event

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        """See `AuditStore.put`. One event after the other: what came before a conflict is kept."""
        self._container.check_writable()
        if not events:
            return 0
        async with self._container.in_use():
            removals = await self._removals_before(stream, min(event.seq for event in events))
        added = 0
        for event in events:
            async with self._container.in_use():
                added += await self._is_put(event, removals)
        return added

    async def put_over(self, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
        """See `AuditStore.put_over`. A marker at the first seq of each gap closes it: who goes on from the event before
        meets it. It is put before what lies behind the gap; if the process dies in between, such a writer forks, until
        the copies are put again."""
        self._container.check_writable()
        gaps = {high + 1: low for low, high in gaps_behind(after, events)}
        key = partition_key_of(stream)
        added = 0
        for block in _blocks(events, gaps):
            if (low := gaps.get(block[0].seq)) is not None:
                await self._close(stream, key, low, block[0].seq)
            added += await self.put(stream, block)
        return added

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """See `AuditStore.remove`. Parts of the removed events are orphans now."""
        self._container.check_writable()
        wanted = sorted({seq for seq in seqs if 1 <= seq <= MAX_SEQ})
        if not wanted or not can_exist(stream):
            return 0
        key = partition_key_of(stream)
        async with self._container.in_use():
            head_seq = _seq_in(await self._head(key))
            if head_seq in wanted:
                raise head_stays(stream, head_seq)
            return await markers.put_in_place(self._container, key, [seq for seq in wanted if seq < head_seq])

    async def unmarked(self, stream: StreamId, removals: Removals) -> list[int]:
        """See `AuditStore.unmarked`: the holes that a prune of 0.1.0 left, at most a thousand at once."""
        if not removals or not can_exist(stream):
            return []
        key = partition_key_of(stream)
        async with self._container.in_use():
            return await markers.unmarked(self._container, key, removals, _seq_in(await self._head(key)))

    def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.follow`."""
        return log.follow(self._container, last, poll)

    async def checks(self) -> list[Check]:
        """See `AuditStore.checks`."""
        return await log.checks(self._container)

    def run_store(self, name: str | None = None) -> RunStore:
        """See `EventStore.run_store`. The documents are in the container `<container_name>-projections`."""
        return CosmosRunStore(self._container, name)

    def change_feed(self) -> ChangeFeed:
        """See `EventStore.change_feed`."""
        return CosmosChangeFeed(self._container)

    def document_store(self) -> DocumentStore:
        """See `EventStore.document_store`. They are in the container `<container_name>-leases`."""
        return CosmosDocumentStore(self._container)

    def runs(self, name: str | None = None) -> RunStore:
        """See `EventStore.runs`."""
        return self.run_store(name)

    @property
    def events_container(self) -> Container:
        """Our own container of events: for its change feed, and for containers beside it."""
        return self._container

    async def container(self) -> ContainerProxy:
        """The SDK's container of events, opened."""
        async with self._container.in_use():
            return self._container.proxy

    async def close(self) -> None:
        """See `EventStore.close`. A client or container that was passed in stays open."""
        await self._connections.close()

    # Inside an operation

    async def _whole(self, item: Item) -> CheckpointEvent:
        """The event in an item that was read whole, its data fetched from parts where it lies in some."""
        event = header_of(item)
        if event.payload is None or (event.payload.parts and item.get("data")):
            return event.header() if not item.get("data") else damaged(item)
        data = data_of(item)
        if event.payload.parts:
            key = str(item["stream"])
            names = [name for name in event.payload.parts if is_part(name)]
            parts = await together(*(partial(self._container.read, name, key, known=True) for name in names))
            data = b"".join(data_of(part) for part in parts if part and part.get("type") == PART)
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data))

    async def _is_put(self, event: CheckpointEvent, removals: Removals) -> bool:
        """Create the item of a copy, unless it is there or was removed; whether it was created."""
        body, parts = items_of(event)
        if removals.covers(event.seq):
            taken = await self._container.read(body["id"], body["stream"])
            if taken is None and removals.tells(event) is False:
                head = await self._head(body["stream"])
                raise StreamConflict(event.stream, event.seq, header_of(head) if head else None)
        else:
            await together(*(partial(self._container.put, part) for part in parts))
            taken = await self._container.create(body)
            if taken is None:
                return True
        if taken is not None:
            digest = header_of(taken).digest
            if is_marker(taken) and taken.get("gap") is True and not removals.covers(event.seq):
                return await self._container.replace(body, str(taken["_etag"])) is not None
            if digest != event.digest and (digest or is_event(taken)):
                raise StreamConflict(event.stream, event.seq, await self._head_beside(taken))
        return False

    async def _close(self, stream: StreamId, key: str, low: int, before: int) -> None:
        """Close the gap between two seqs to appends.

        Raises:
            StreamConflict: there is an event in it.
        """
        async with self._container.in_use():
            await self._container.create_only(gap_of(key, low + 1))  # before the look: nobody comes after it
            found = await self._container.query(
                f"SELECT TOP 1 c.id, c.stream, {KIND} FROM c"
                f" WHERE c.id > @low AND c.id < @before AND {EVENTS_ONLY} ORDER BY c.id ASC",
                {"@low": item_id(low), "@before": item_id(before)},
                key,
            ).rows()
            if found:
                head = await self._head(key)
                raise StreamConflict(stream, _seq_in(found[0]), header_of(head) if head else None)

    async def _removals_before(self, stream: StreamId, seq: int) -> Removals:
        """What the newest record of a run says was removed; nothing where no seq from `seq` on can be among it."""
        key = partition_key_of(stream)
        if _seq_in(await self._head(key)) <= seq:
            return NOTHING
        record = await self._last_event(HEADER, "c.checkpoint_id = '' AND IS_DEFINED(c.pruned) AND ", {}, key)
        return NOTHING if record is None else Removals([header_of(record)])

    async def _head_beside(self, taken: Item) -> CheckpointEvent | None:
        """The header of a run's head, for the conflict with an item of that run."""
        head = await self._head(str(taken["stream"]))
        if is_marker(taken):  # the record lies behind it
            return header_of(head) if head else None
        return _later(header_of(taken), head)

    async def _head(self, key: str) -> Item | None:
        return await self._last_event(HEADER, "", {}, key)

    async def _newest_in(self, key: str, checkpoint_id: str) -> Item | None:
        """The newest event of a checkpoint id in a run, whole but for its parts."""
        return await self._last_event("*", "c.checkpoint_id = @id AND ", {"@id": checkpoint_id}, key)

    async def _last_event(self, what: str, only: str, values: Mapping[str, object], key: str) -> Item | None:
        """The last event of a run that a condition holds for: one row of one query, unless something that is no event
        was put behind it."""
        end, count = AFTER_EVENTS, 1
        while True:
            rows = await self._container.query(
                f"SELECT TOP {count} {what} FROM c WHERE {only}c.id < @end AND {EVENTS_ONLY} ORDER BY c.id DESC",
                {**values, "@end": end},
                key,
            ).rows()
            found = next(filter(is_event, rows), None)
            if found is not None or len(rows) < count:
                return found
            end, count = str(rows[-1]["id"]), min(10 * count, PAGE)

    async def _found_anywhere(
        self, checkpoint_id: str, only: str = "", values: Mapping[str, object] | None = None
    ) -> FoundEvent | None:
        async with self._container.in_use():
            for _ in range(_LOOKS):
                newest = await self._newest_of_all(checkpoint_id, only, values or {})
                if newest is None:
                    return None
                name, key = str(newest["id"]), str(newest["stream"])
                located = await self._located(key, partial(self._container.read, name, key, known=True))
                if located is not None:
                    return located
            return None

    async def _located(self, key: str, event_item: Callable[[], Awaitable[Item | None]]) -> FoundEvent | None:
        """An event of a run, whole, and the run's head; asked for side by side."""
        found, head = await together(event_item, partial(self._head, key))
        if found is None or not is_event(found):
            return None
        event = await self._whole(found)
        return FoundEvent(event, _later(event.header(), head))

    async def _newest_of_all(self, checkpoint_id: str, only: str, values: Mapping[str, object]) -> Item | None:
        """Where the newest event of a checkpoint id is, in the run that counts. Little is asked for and kept of each:
        very many runs may have the id, and what was changed may be of any size."""
        cursor = self._container.query(
            f"SELECT c.id, c.stream, {KIND}, LEFT(c.recorded_at, 64) AS recorded_at"
            f" FROM c WHERE c.checkpoint_id = @id{only}",
            {**values, "@id": checkpoint_id},
        )
        newest: dict[str, Item] = {}
        while (page := await cursor.page()) is not None:
            for row in filter(is_event, page):
                known = newest.setdefault(str(row["stream"]), row)
                if str(row["id"]) > str(known["id"]):
                    newest[str(row["stream"])] = row
        return max(newest.values(), key=_written, default=None)

    async def _items(self, key: str, names: list[str]) -> list[Item]:
        items: list[Item] = []
        for start in range(0, len(names), _IDS):
            marks = {f"@id{index}": name for index, name in enumerate(names[start : start + _IDS])}
            items += await self._container.query(
                f"SELECT * FROM c WHERE c.id IN ({', '.join(marks)}) AND {EVENTS_ONLY}", marks, key
            ).rows()
        return items

    async def _parts_in_use(self, key: str) -> set[str] | None:
        """The parts that a run's events need; None if one of the events does not tell."""
        used: set[str] = set()
        async with aclosing(listings.run_headers(self._container, key)) as headers:
            async for header in headers:
                if header.payload is not None:
                    used.update(header.payload.parts)
                elif header.type == "checkpoint":
                    logger.warning(
                        "Parts in run %r of workflow %r are kept: the header of seq %d is damaged.",
                        header.run_id,
                        header.workflow_name,
                        header.seq,
                    )
                    return None
        return used


def _blocks(
    events: Sequence[CheckpointEvent], gaps: Mapping[int, int]
) -> Generator[Sequence[CheckpointEvent], None, None]:
    """The events in pieces, each of which begins with one that has a gap before it, but perhaps for the first."""
    starts = [0, *(at for at, event in enumerate(events) if at and event.seq in gaps)]
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        if start < end:
            yield events[start:end]


def _seq_in(item: Item | None) -> int:
    """The seq of an event's item; 0 without one."""
    return (seq_of(item["id"]) or 0) if item else 0


def _later(event: CheckpointEvent, head: Item | None) -> CheckpointEvent:
    """The head of a run that has `event`, as a query answered by a replica may not know yet."""
    found = header_of(head) if head else event
    return found if found.seq > event.seq else event


def _written(row: Item) -> tuple[bool, datetime, tuple[str, ...]]:
    """What the runs that have a checkpoint id are in order by: see `EventStore.find`."""
    return row.get("type") != "tombstone", order_of(row.get("recorded_at")), order_of_key(str(row["stream"]))
