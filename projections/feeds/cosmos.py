"""The change feed of a Cosmos DB container, one feed range at a time, through the SDK.

What the SDK (4.17) does on its own is not safe for a lease: a continuation over several ranges cannot always be
resumed, and after a split a page may hold items outside of its range. So every read is of exactly one range, from the
service's raw etag, and a page that was read while the range split is thrown away. The SDK hides the service's 410; that
it happened shows in the routing map that it then refreshed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from azure.cosmos.aio import ContainerProxy

from eventckpt import CheckpointEvent, CosmosEventStore
from eventckpt.stores.cosmos.beside import asked
from eventckpt.stores.cosmos.items import header_of, is_part

from . import ChangeFeed, FeedPage, FeedRange, FeedRangeGoneError, Start
from .continuation import sdk_continuation, sdk_range

__all__ = ["CosmosChangeFeed"]

_START = {"beginning": "Beginning", "now": "Now"}


class CosmosChangeFeed(ChangeFeed):
    """See `ChangeFeed`. The store is used, not closed."""

    def __init__(self, store: CosmosEventStore) -> None:
        self._store = store
        self._rid: str | None = None

    async def identity(self) -> str:
        """See `ChangeFeed.identity`; as .NET writes it: host, and the resource ids of database and container."""
        container = await self._store.container()
        rid = await self._container_rid(container)
        database_rid = base64.b64encode(base64.b64decode(rid.replace("-", "/"))[:4]).decode().replace("/", "-")
        host = urlsplit(str(cast(Any, container.client_connection).url_connection)).hostname
        return f"{host}_{database_rid}_{rid}"

    async def ranges(self) -> list[FeedRange]:
        """See `ChangeFeed.ranges`; asks the service."""
        container = await self._store.container()
        return await asked(lambda: _ranges(container, refresh=True), "the feed's ranges")

    async def read(self, feed_range: FeedRange, continuation: str | None, *, start: Start, limit: int) -> FeedPage:
        """See `ChangeFeed.read`."""
        items, headers = await self._page(feed_range, continuation, start, limit)
        events: list[CheckpointEvent] = [header_of(item) for item in items if not is_part(str(item.get("id")))]
        etag = headers["etag"]
        behind = _session_lsn(headers["x-ms-session-token"]) - int(etag.strip('"')) if items else 0
        charge = float(headers.get("x-ms-request-charge", 0))
        return FeedPage(events, etag, charge, behind=max(0, behind))

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        """See `ChangeFeed.lag`; counts transactions, of the whole physical partition."""
        items, headers = await self._page(feed_range, continuation, start, 1)
        if not items:
            return 0
        return max(0, _session_lsn(headers["x-ms-session-token"]) - (int(items[0]["_lsn"]) - 1))

    async def _page(
        self, feed_range: FeedRange, continuation: str | None, start: Start, limit: int
    ) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]:
        container = await self._store.container()
        scope: dict[str, Any]
        if continuation is None:
            scope = {"feed_range": sdk_range(feed_range), "start_time": _START[start]}
        else:
            scope = {"continuation": sdk_continuation(await self._container_rid(container), feed_range, continuation)}

        async def attempt() -> tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]:
            headers: dict[str, str] = {}

            def note(answer: Mapping[str, str], _: object) -> None:
                headers.clear()
                headers.update({name.lower(): value for name, value in answer.items()})

            pages = cast(Any, container).query_items_change_feed(
                **scope, max_item_count=limit, response_hook=note
            ).by_page()  # fmt: skip
            try:
                items = [item async for item in await anext(pages)]
            except StopAsyncIteration:
                items = []
            # From the SDK's memory, without a request: it is up to date if this read met a split.
            current = [each for each in await _ranges(container, refresh=False) if each.overlaps(feed_range)]
            if len(current) > 1:
                raise FeedRangeGoneError(feed_range, current)
            return items, headers

        return await asked(attempt, f"the feed range {feed_range.token}")

    async def _container_rid(self, container: ContainerProxy) -> str:
        if self._rid is None:
            self._rid = str((await asked(container.read, "the container of events"))["_rid"])
        return self._rid


async def _ranges(container: ContainerProxy, *, refresh: bool) -> list[FeedRange]:
    found = cast(Any, container.read_feed_ranges(force_refresh=refresh))
    bounds = [each["Range"] async for each in found]
    return sorted(FeedRange(str(each["min"]), str(each["max"])) for each in bounds)


def _session_lsn(token: str) -> int:
    """The LSN in a session token: `<range>:<version>#<lsn>` and then, with several regions, `#<region>=<lsn>`…"""
    parts = token.split(",")[0].partition(":")[2].split("#")
    return int(parts[1] if len(parts) > 1 else parts[0])
