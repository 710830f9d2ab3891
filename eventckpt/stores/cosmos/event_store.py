"""The distributed engine: one item per event in an Azure Cosmos DB for NoSQL container.

The stream is the partition key and the seq is the item's id, so the service itself refuses a second event at one
seq: an append is one `create_item`, whatever else happens at the same time. Everything that reads a run stays in
one logical partition, and is in the order of ids. `items` has the layout, `container` the requests, `markers` what
stays of an event that was removed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from azure.cosmos.aio import ContainerProxy, CosmosClient

from ... import settings as check
from ...errors import StoreFullError, StreamConflict
from ...event_keys import EventKeys
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...lru import Lru
from ...removals import Removals
from ...text import is_unicode
from ...threads import off_the_loop
from .. import AuditStore, Check, FoundEvent, RunStore, can_exist, head_stays
from ..change_feed import ChangeFeed
from ..documents import DocumentStore
from ..names import check_projection
from . import checks, connection, copies, follow, listings, lookups, markers, parts, streams
from .change_feed import CosmosChangeFeed
from .client import Connections, SharedConnections
from .connection import CosmosCredential, Priority
from .container import Container
from .documents import CosmosDocumentStore
from .items import (
    EVENTS_ONLY,
    INDEXING_POLICY,
    PARTITION_KEY,
    header_of,
    item_id,
    items_of,
    key_prefix_of,
    partition_key_of,
)
from .layout import Layout
from .query import together
from .requests import PATIENCE
from .runs import CosmosRunStore, Pointer

__all__ = ["INDEXING_POLICY", "PARTITION_KEY", "CosmosCredential", "CosmosEventStore", "partition_key_of"]

_LAYOUT: Final = Layout("events", PARTITION_KEY, INDEXING_POLICY, made_by="the first save")
_SESSIONS: Final = Layout("sessions", PARTITION_KEY, INDEXING_POLICY, made_by="the first save of a session")
_RUN_STORES: Final = 16  # projections of which is remembered what they know


class CosmosLog(AuditStore):
    """Events in a container: those of a store's runs, or those of its sessions.

    Args:
        container: of the events.
        connections: those that are closed with it.
    """

    def __init__(self, container: Container, connections: Connections) -> None:
        self.container_name: str = container.name
        self._container = container
        self._connections = connections
        self._run_stores: Lru[str | None, CosmosRunStore] = Lru(_RUN_STORES)
        self._pointer = Pointer()

    async def append(self, event: CheckpointEvent) -> None:
        """See `EventStore.append`."""
        self._container.check_writable()
        if event.seq > MAX_SEQ:  # it would be written, and never be found
            raise StoreFullError(f"{event.named()} would come after the last seq: no event has one beyond {MAX_SEQ}.")
        async with self._container.in_use():
            size = len(event.payload.data) if event.payload else 0
            body, data = await off_the_loop(size, items_of, event)
            # Parts first: the event is the commit point, and a part that nobody refers to is harmless. They are
            # upserted: one that is there already must not count as old, or it could be collected meanwhile.
            await together(*(partial(self._container.upsert, part) for part in data))
            taken = await self._container.create(body)
            if taken is not None and header_of(taken).digest != event.digest:  # of a marker, the removed event's
                raise StreamConflict(event.stream, event.seq, await lookups.head_known(self._container, taken))

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        """See `EventStore.read`."""
        if not can_exist(stream):
            return []
        names = sorted({item_id(seq) for seq in seqs if 1 <= seq <= MAX_SEQ})
        async with self._container.in_use(many=len(names) > lookups.POINT_READS):
            return await lookups.events_named(self._container, partition_key_of(stream), names)

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        """See `EventStore.last`. Of one run: one query."""
        if run_id is None or not can_exist(stream := StreamId(workflow_name, run_id)):
            return None
        async with self._container.in_use():
            item = await lookups.last_event(self._container, "*", "", {}, partition_key_of(stream))
            return None if item is None else await lookups.whole(self._container, item)

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        """See `EventStore.find`."""
        if not is_unicode(checkpoint_id) or (stream is not None and not can_exist(stream)):
            return None
        if stream is None:
            return await lookups.find_anywhere(self._container, checkpoint_id)
        async with self._container.in_use():
            return await lookups.find_in_run(self._container, partition_key_of(stream), checkpoint_id)

    async def find_in(self, workflow_name: str, checkpoint_id: str) -> FoundEvent | None:
        """See `EventStore.find_in`."""
        if not is_unicode(workflow_name) or not is_unicode(checkpoint_id):
            return None
        prefix = key_prefix_of(workflow_name)
        if prefix is None:
            only, name = " AND c.workflow_name = @name", {"@name": workflow_name}
            return await lookups.find_anywhere(self._container, checkpoint_id, only, name)
        only, start = " AND STARTSWITH(c.stream, @prefix)", {"@prefix": prefix}
        return await lookups.find_anywhere(self._container, checkpoint_id, only, start)

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
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        """See `EventStore.workflow_headers`; what orders the runs is said in `listings`."""
        if not is_unicode(workflow_name):
            return
        listing = listings.newest_first if desc else listings.oldest_first
        async with aclosing(listing(self._container, workflow_name, emptied=emptied)) as headers:
            async for header in headers:
                if header.workflow_name == workflow_name:  # a changed item may claim to be another workflow's
                    yield header

    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        """See `EventStore.keys`."""
        stream = StreamId(workflow_name, run_id or "")
        if not can_exist(stream):
            return
        run = None if run_id is None else partition_key_of(stream)
        async with aclosing(listings.keys(self._container, workflow_name, run)) as pages:
            async for page in pages:
                yield page

    async def remove_orphaned_parts(self, *, older_than: float = 3600.0) -> int:
        """See `EventStore.remove_orphaned_parts`."""
        self._container.check_writable()
        return await parts.remove_orphaned(self._container, older_than)

    def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.streams`."""
        return streams.streams(self._container, workflow_name, prefix, emptied=emptied)

    def removal_streams(self) -> AsyncGenerator[StreamId, None]:
        """See `AuditStore.removal_streams`; one query."""
        return streams.removal_streams(self._container)

    async def checkpoint_ids(self, prefix: str, *, limit: int) -> list[str]:
        """See `AuditStore.checkpoint_ids`."""
        return [] if not is_unicode(prefix) else await streams.checkpoint_ids(self._container, prefix, limit)

    async def runs_with(self, workflow_name: str, checkpoint_ids: Sequence[str]) -> list[tuple[str, str]]:
        """See `AuditStore.runs_with`."""
        if not is_unicode(workflow_name):
            return []
        return await streams.runs_with(self._container, workflow_name, [*filter(is_unicode, checkpoint_ids)])

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
        async with aclosing(lookups.whole_events(self._container, cursor)) as events:
            async for event in events:
                yield event

    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.newest`; one query, a hundred events a page."""
        if not can_exist(stream):
            return
        cursor = listings.newest_of(self._container, partition_key_of(stream), lte)
        async with aclosing(lookups.whole_events(self._container, cursor, desc=True)) as events:
            async for event in events:
                yield event

    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        """See `AuditStore.run_ids`; one query, for what lies at the first seq of each run. Of a run that was imported
        without its beginning, and without the record of its removal, nothing lies there, and it is not found."""
        if not is_unicode(workflow_name):
            return
        async with aclosing(streams.run_ids(self._container, workflow_name)) as found:
            async for run_id in found:
                yield run_id

    async def put(self, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
        """See `AuditStore.put`."""
        self._container.check_writable()
        return await copies.put(self._container, stream, events)

    async def put_over(self, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
        """See `AuditStore.put_over`."""
        self._container.check_writable()
        return await copies.put_over(self._container, stream, events, after=after)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        """See `AuditStore.remove`. Parts of the removed events are orphans now."""
        self._container.check_writable()
        wanted = sorted({seq for seq in seqs if 1 <= seq <= MAX_SEQ})
        if not wanted or not can_exist(stream):
            return 0
        key = partition_key_of(stream)
        async with self._container.in_use(many=True):
            head_seq = lookups.seq_in(await lookups.head_of(self._container, key))
            if head_seq in wanted:
                raise head_stays(stream, head_seq)
            return await markers.put_in_place(self._container, key, [seq for seq in wanted if seq < head_seq])

    async def unmarked(self, stream: StreamId, removals: Removals) -> list[int]:
        """See `AuditStore.unmarked`: the holes that a prune of 0.1.0 left, at most a thousand at once."""
        if not removals or not can_exist(stream):
            return []
        key = partition_key_of(stream)
        async with self._container.in_use(many=True):
            head_seq = lookups.seq_in(await lookups.head_of(self._container, key))
            return await markers.unmarked(self._container, key, removals, head_seq)

    def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        """See `AuditStore.follow`."""
        return follow.follow(self._container, last, poll)

    async def checks(self, *, write: bool = True) -> list[Check]:
        """See `AuditStore.checks`."""
        return await checks.checks(self._container, write=write)

    def run_store(self, name: str | None = None) -> RunStore:
        """See `EventStore.run_store`. The documents are in the container `<container_name>-projections`. Of one name it
        is the same each time, as it knows what costs requests to find out."""
        if name is not None:
            check_projection(name)
        found = self._run_stores.get(name)
        if found is None:
            found = CosmosRunStore(self._container, name, self._pointer)
            self._run_stores.put(name, found)
        return found

    def change_feed(self) -> ChangeFeed:
        """See `EventStore.change_feed`."""
        return CosmosChangeFeed(self._container)

    def document_store(self) -> DocumentStore:
        """See `EventStore.document_store`. They are in the container `<container_name>-leases`."""
        return CosmosDocumentStore(self._container)

    @property
    def events_container(self) -> Container:
        """Our own container of events: for its change feed, and for its siblings."""
        return self._container

    async def container(self) -> ContainerProxy:
        """The SDK's container of events, opened."""
        return await self._container.opened()

    async def close(self) -> None:
        """See `EventStore.close`. A client or container that was passed in stays open."""
        await self._connections.close()


class CosmosEventStore(CosmosLog):
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
        timeout: seconds that an operation has, all its requests and their repetitions together, before
            `StoreUnavailableError`. Of one that sends as many requests as there is data, a listing, a prune, a payload
            of more than 3 MB, each has them.
        read_only: nothing is written, and no database or container is created: one that is missing is a
            `StoreNotFoundError` that names it, and whatever writes raises `StoreReadOnlyError` without a request.
        must_exist: neither the container of events nor that of sessions is created: one that is missing is a
            `StoreMissingError` that says how it is made. The others are, beside them.
        priority: "Low" for requests that may wait while the account is asked for more than it serves; else
            `AZURE_COSMOS_PRIORITY`. It takes effect where the account has priority-based execution.
        throughput_bucket: 1 to 5: the container's throughput bucket that the requests draw on; else
            `AZURE_COSMOS_THROUGHPUT_BUCKET`. Of a client that is given, both are its own.

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
        timeout: float = PATIENCE,
        read_only: bool = False,
        must_exist: bool = False,
        priority: Priority | None = None,
        throughput_bucket: int | None = None,
    ) -> None:
        check.number("timeout", timeout)
        check.flag("read_only", read_only)
        check.flag("must_exist", must_exist)
        target = connection.target(
            endpoint=endpoint,
            database_name=database_name,
            container_name=container_name,
            credential=credential,
            cosmos_client=cosmos_client,
            container_client=container_client,
            env_file_path=env_file_path,
            env_file_encoding=env_file_encoding,
            priority=priority,
            throughput_bucket=throughput_bucket,
        )
        self.database_name: str = target.database_name
        self.read_only: bool = read_only
        owned = target.client is not None and cosmos_client is None
        connections = Connections(target.client, owned=owned, name=target.container_name, timeout=timeout)
        place: dict[str, Any] = {
            "database_name": target.database_name,
            "read_only": read_only,
            "must_exist": must_exist,
        }
        events = Container(_LAYOUT, connections, name=target.container_name, given=container_client, **place)
        super().__init__(events, connections)
        name = f"{target.container_name}-sessions"
        shared = SharedConnections(connections, name=name)
        sessions = Container(
            _SESSIONS,
            shared,
            name=name,
            first=None if container_client is None else partial(_itself, container_client),
            only_saves_make_it=True,
            **place,
        )
        self._sessions = CosmosLog(sessions, shared)

    def sessions(self) -> AuditStore:
        """See `EventStore.sessions`. They are in the container `<container_name>-sessions`, which the first save of
        one makes; who looks before finds none. With `read_only` and `must_exist`, one that is missing is an error, as
        for the events. What is kept beside them is in `<container_name>-sessions-projections` and `…-leases`.
        """
        return self._sessions

    async def checks(self, *, write: bool = True) -> list[Check]:
        """See `AuditStore.checks`; of the sessions too, where there are any."""
        of_sessions = await checks.checks(self._sessions.events_container, write=write, beside="sessions")
        return [*await super().checks(write=write), *of_sessions]


async def _itself(container: ContainerProxy) -> ContainerProxy:
    return container
