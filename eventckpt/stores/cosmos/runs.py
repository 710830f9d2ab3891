"""The "latest" projection in Azure Cosmos DB: one item per run, in a container beside the events.

The item's id is the name of the projection and its partition key that of the run's events, so that one run is one
point read, and several projections can stand side by side while one of them is rebuilt.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, Final, cast

import msgspec

from ...errors import StoreUnavailableError
from ...events import RunInfo, RunStatus, StreamId
from ...lru import Lru
from ...moments import NEVER
from ...text import safe
from .. import Claim, RunStore, gives_way, is_listed
from ..names import check_projection
from ..run_documents import FIRST_PROJECTION, LeftOut, counting, in_use
from ..run_pages import RunFilter, RunPage, check_limit, place_in
from . import listings
from .container import Container
from .items import Item, is_in, key_of, order_of_key, partition_key_of
from .layout import Layout, indexes, names
from .query import together
from .run_queries import FIELDS, LISTED, RunPages, condition_of, found_by

__all__ = ["PROJECTION_INDEXING", "CosmosRunStore"]

PROJECTION_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Only what `newest` filters and sorts by, and what `page` sorts by: each indexed term costs 0.2 RU a write. Only
    # what waits for an answer has a `waiting_since`.
    "includedPaths": [
        {"path": "/workflow_name/?"},
        {"path": "/timestamp/?"},
        {"path": "/recorded_at/?"},
        {"path": "/waiting_since/?"},
    ],
    "excludedPaths": [{"path": "/*"}],
    "compositeIndexes": [
        [{"path": "/workflow_name", "order": "ascending"}, {"path": "/timestamp", "order": "ascending"}]
    ],
}

_LAYOUT: Final = Layout("projections", "/stream", PROJECTION_INDEXING)
_MEMORY: Final = 10_000  # runs whose etag is remembered, so that writing on needs no read
_NEWEST: Final = 10  # rows of a page where one is wanted
_ROUNDS: Final = 20
"""Attempts to write a document that others write too. Each that fails was won by another writer; so many in a row are
no race."""
_POINTER: Final = "active"
_POINTER_KEY: Final = "latest"
_POINTER_AGE: Final = 5.0
"""Seconds for which a reader goes on with the projection it knows to be in use; the old one stays readable."""


class Pointer:
    """What the run stores of one event store know of which projection is in use."""

    def __init__(self) -> None:
        self._known: tuple[str, float] | None = None

    @property
    def name(self) -> str | None:
        """The name that was read a moment ago; None where it is to be read anew."""
        if self._known is None or time.monotonic() - self._known[1] > _POINTER_AGE:
            return None
        return self._known[0]

    def read(self, name: str) -> None:
        """It was read just now."""
        self._known = name, time.monotonic()

    def forget(self) -> None:
        """It was written."""
        self._known = None


class CosmosRunStore(RunStore):
    """See `RunStore`; made by `CosmosEventStore.run_store`."""

    def __init__(self, events: Container, name: str | None, pointer: Pointer) -> None:
        self._events = events
        self._container = events.sibling("-projections", _LAYOUT)
        self._name = name
        self._pointer = pointer
        self._etags = _etags()
        self._left_out = LeftOut()

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """See `RunStore.get`."""
        async with self._container.in_use():
            name = await self._in_use()
            found = await together(*(partial(self._read, name, stream) for stream in streams))
        return {info.stream: info for info in found if info is not None}

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""
        self._container.check_writable()
        async with self._container.in_use():
            name = await self._in_use()
            return sum(await together(*(partial(self._put, name, info) for info in infos)))

    async def newest(self, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        """See `RunStore.newest`; runs are told apart as in `listings`, by the timestamps of their live checkpoints."""
        async with self._container.in_use():
            name, count = await self._in_use(), 2 + len(without)
            order = self._container.newest_first("workflow_name", "timestamp")
            while True:
                rows = await self._container.query_sorted(
                    f"SELECT TOP {count} {FIELDS} FROM c WHERE c.workflow_name = @workflow AND c.id = @id"
                    f" AND c.timestamp > '' ORDER BY {order}",
                    {"@workflow": workflow_name, "@id": name},
                    page=max(count, _NEWEST),
                ).rows()
                infos = list(self._all_but(without, name, rows))
                newest = [info for info in infos if info.timestamp == infos[0].timestamp]
                if len(newest) == 1 and (len(rows) < count or rows[-1].get("timestamp") != newest[0].timestamp):
                    return newest[0]
                if newest:
                    return await self._last_recorded(name, newest[0], without)
                if len(rows) < count:
                    return None
                count *= 10  # what is newest does not count

    def _all_but(self, without: Collection[StreamId], name: str, rows: Iterable[Item]) -> Iterator[RunInfo]:
        """The documents in rows that count, but for some."""
        for row in rows:
            info = self._counting(name, row)
            if info is not None and info.stream not in without:
                yield info

    async def _last_recorded(self, name: str, one: RunInfo, without: Collection[StreamId]) -> RunInfo:
        """Of the runs whose live checkpoints have one timestamp, the one that the log says is the newest."""
        rows = await self._container.query(
            f"SELECT {FIELDS} FROM c WHERE c.workflow_name = @workflow AND c.id = @id AND c.timestamp = @timestamp",
            {"@workflow": one.workflow_name, "@id": name, "@timestamp": one.timestamp},
        ).rows()
        recorded = await listings.recorded_with(self._events, one.workflow_name, one.timestamp)

        def order(info: RunInfo) -> tuple[datetime, tuple[str, ...]]:
            key = partition_key_of(info.stream)
            moments = (moment for seq, moment in recorded.get(key, {}).items() if seq <= info.checkpoint_seq)
            return max(moments, default=NEVER), order_of_key(key)

        return max(self._all_but(without, name, rows), key=order, default=one)

    async def all(self, workflow_name: str | None = None, *, emptied: bool = False) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.all`."""
        async with self._container.in_use():
            name = await self._in_use()
        values: dict[str, object] = {"@id": name}
        only = "" if emptied else f" AND {LISTED}"
        if workflow_name is not None:
            only, values["@workflow"] = f"{only} AND c.workflow_name = @workflow", workflow_name
        cursor = self._container.query(f"SELECT {FIELDS} FROM c WHERE c.id = @id{only}", values)
        async with aclosing(self._container.rows_of(cursor)) as rows:
            async for row in rows:
                if (info := self._listed(name, row, emptied=emptied)) is not None:
                    yield info

    async def idle(self) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.idle`. The service looks at every document, for the status is in no index, and gives few."""
        async with self._container.in_use():
            name = await self._in_use()
        cursor = self._container.query(
            f"SELECT {FIELDS} FROM c WHERE c.id = @id AND {LISTED} AND (NOT IS_DEFINED(c.status) OR c.status = 'idle')",
            {"@id": name},
        )
        async with aclosing(self._container.rows_of(cursor)) as rows:
            async for row in rows:
                if (info := self._listed(name, row)) is not None:
                    yield info

    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        """See `RunStore.page`. The order is that of the times as text, which is that of the moments for all that this
        library writes. Where a container's policy does not index them, as that of 0.1.0, all documents are read."""
        check_limit(limit)
        wanted = RunFilter.of(which)
        behind = place_in(after, waiting=wanted.waiting)
        if not wanted.can_fit:
            return RunPage([], None)
        async with self._container.in_use(many=True):
            name = await self._in_use()
            pages = RunPages(self._container, name, wanted, partial(self._listed, name))
            if wanted.waiting and names(self._container.policy, "/waiting_since/?"):
                return await pages.of_waiting(behind, limit)
            if not wanted.waiting and indexes(self._container.policy, "/recorded_at/?"):
                return await pages.of_written(behind, limit)
        return await super().page(which, after=after, limit=limit)

    async def counts(self, which: RunFilter | None = None) -> dict[RunStatus, int]:
        """See `RunStore.counts`. The service reads every document of the workflow, and gives those that may fit."""
        wanted = RunFilter.of(which)
        if not wanted.can_fit:
            return {}
        async with self._container.in_use():
            name = await self._in_use()
        condition, values = condition_of(name, wanted)
        cursor = self._container.query(f"SELECT {FIELDS} FROM c WHERE {condition}", values)
        counted: Counter[RunStatus] = Counter()
        async with aclosing(self._container.rows_of(cursor)) as rows:
            async for row in rows:
                if (info := self._listed(name, row)) is not None and wanted.fits(info):
                    counted[info.status] += 1
        return dict(counted)

    async def clear(self) -> None:
        """See `RunStore.clear`."""
        self._container.check_writable()
        async with self._container.in_use(many=True):
            name = await self._in_use()
            self._etags = _etags()
            cursor = self._container.query("SELECT c.stream FROM c WHERE c.id = @id", {"@id": name})
            while (page := await cursor.page()) is not None:
                keys = filter(None, map(key_of, page))
                await together(*(partial(self._container.remove, name, key) for key in keys))

    async def active(self, *, certain: bool = False) -> str:
        """See `RunStore.active`."""
        if certain:
            self._container.check_writable()
        async with self._container.in_use():
            if certain:  # the answer to a write, also to one that is refused, tells how far the partition is
                await self._container.create_only(_pointer(FIRST_PROJECTION))
            pointer = await self._container.read(_POINTER, _POINTER_KEY)
        return self._pointed_to(pointer)

    def _pointed_to(self, pointer: Item | None) -> str:
        """The name in the pointer; the usual one, where there is no pointer or none in it."""
        name = pointer.get("projection") if pointer is not None else FIRST_PROJECTION
        return in_use(name, f"{_POINTER!r} of container {self._container.name!r}")

    async def claim(self) -> Claim:
        """See `RunStore.claim`; the token is the pointer's etag, which a claim changes."""
        self._container.check_writable()
        async with self._container.in_use():
            for _ in range(_ROUNDS):
                await self._container.create_only(_pointer(FIRST_PROJECTION))  # see `active`
                pointer = await self._container.read(_POINTER, _POINTER_KEY)
                name = self._pointed_to(pointer)
                if pointer is None:
                    continue
                etag = await self._container.replace(_pointer(name), str(pointer["_etag"]))
                if etag is not None:
                    return Claim(name, etag)
        raise StoreUnavailableError(
            f"The pointer {_POINTER!r} of container {self._container.name!r} was written by something else at each of "
            f"{_ROUNDS} attempts. Trying again is safe."
        )

    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        """See `RunStore.activate`. Readers notice within seconds."""
        check_projection(name)
        self._container.check_writable()
        async with self._container.in_use():
            if claim is None:
                await self._container.upsert(_pointer(name))
            elif await self._container.replace(_pointer(name), claim.token) is None:
                return False
        self._pointer.forget()
        return True

    async def is_empty(self) -> bool:
        """See `RunStore.is_empty`; by ids alone, which are indexed."""
        async with self._container.in_use():
            name = await self._in_use()
            cursor = self._container.query("SELECT TOP 1 c.stream FROM c WHERE c.id = @id", {"@id": name})
            while (page := await cursor.page()) is not None:
                if page:
                    return False
        return True

    async def _in_use(self) -> str:
        if self._name is not None:
            return self._name
        name = self._pointer.name
        if name is None:
            name = await self.active()
            self._pointer.read(name)
        return name

    async def _read(self, name: str, stream: StreamId) -> RunInfo | None:
        item = await self._container.read(name, partition_key_of(stream))
        if item is None:
            return None
        info = self._counting(name, item)
        self._etags.put((name, stream), (info.seq if info else 0, str(item["_etag"])))
        return info

    def _counting(self, name: str, item: Item) -> RunInfo | None:
        """The document in an item; None where it does not count, which is said once."""
        info = counting(partial(msgspec.convert, item, RunInfo), partial(is_in, item=item))
        if info is None:
            self._left_out.say(name, key_of(item) or "")
        return info

    def _listed(self, name: str, item: Item, *, emptied: bool = False) -> RunInfo | None:
        """The document in an item, where it stands in a listing."""
        info = self._counting(name, item)
        return info if info is not None and is_listed(info, emptied=emptied) else None

    async def _put(self, name: str, info: RunInfo) -> bool:
        """Create or replace under the condition that nobody else has written since; then look, and try again."""
        key = partition_key_of(info.stream)
        document = cast("dict[str, Any]", msgspec.to_builtins(info))
        body = {**document, **found_by(document), "id": name, "stream": key}
        known = self._etags.pop((name, info.stream))
        is_sure = known is None or known[0] < info.seq  # what is remembered may have been cleared, or say `idle`
        for _ in range(_ROUNDS):
            etag = await self._written(body, known) if is_sure else None
            if etag is not None:
                self._etags.put((name, info.stream), (info.seq, etag))
                return True
            stored = await self._read(name, info.stream)
            if stored is not None and not gives_way(stored, info):
                return False
            known, is_sure = self._etags.pop((name, info.stream)), True
        raise StoreUnavailableError(
            f"The document {name!r} of run {info.run_id!r}, workflow {info.workflow_name!r}, was written by something "
            f"else at each of {_ROUNDS} attempts. Trying again is safe. If it goes on, look for what else writes to "
            f"the container {self._container.name!r}, and remove the item {name!r} with the partition key {safe(key)}."
        )

    async def _written(self, body: Item, known: tuple[int, str] | None) -> str | None:
        """Write over the state that is known, or where there is none; the etag, None where another one was found."""
        if known is None:
            return await self._container.create_only(body)
        return await self._container.replace(body, known[1])


def _pointer(name: str) -> Item:
    """The pointer, each time another one: so what a write finds after an answer that was lost is its own, or is not."""
    return {"id": _POINTER, "stream": _POINTER_KEY, "projection": name, "written": uuid.uuid4().hex}


def _etags() -> Lru[tuple[str, StreamId], tuple[int, str]]:
    """Of documents by projection and run: the seq that each has reached, and its etag."""
    return Lru(_MEMORY)
