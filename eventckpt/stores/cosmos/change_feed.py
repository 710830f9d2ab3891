"""The change feed of a Cosmos DB container, one feed range at a time, through the SDK.

What the SDK (4.17) does on its own is not safe for a lease: a continuation over several ranges cannot always be
resumed, and after a split a page may hold items outside of its range. So every read is of exactly one range, from the
service's raw etag, and a page that was read while the range split is thrown away. The SDK hides the service's 410; that
it happened shows in the routing map that it then refreshed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from azure.cosmos.aio import ContainerProxy

from ...events import CheckpointEvent
from ..change_feed import ChangeFeed, FeedPage, FeedRange, FeedRangeGoneError, ForeignPositionError, Start, number_of
from .container import Container
from .continuation import sdk_continuation, sdk_range
from .items import header_of, is_event
from .layout import mapping
from .session import lsn_of

__all__ = ["CosmosChangeFeed"]

_START: Final = {"beginning": "Beginning", "now": "Now"}
_NOT_MODIFIED: Final = 304
_MOST: Final = 10**18 - 1
"""Transactions that no partition comes to. A request with a greater number may be refused rather than answered."""
_EMPTY_PAGES: Final = 10
"""Pages with nothing in them that `lag` follows; then it says how far the partition is ahead."""


class CosmosChangeFeed(ChangeFeed):
    """See `ChangeFeed`. Made by `CosmosEventStore.change_feed`."""

    def __init__(self, events: Container) -> None:
        self._container = events

    async def identity(self) -> str:
        """See `ChangeFeed.identity`; as .NET writes it: host, and the resource ids of database and container."""
        async with self._container.in_use_and_there():
            rid = self._container.rid
            connection = cast(Any, self._container.proxy).client_connection
        database_rid = base64.b64encode(base64.b64decode(rid.replace("-", "/"))[:4]).decode().replace("/", "-")
        return f"{urlsplit(str(connection.url_connection)).hostname}_{database_rid}_{rid}"

    async def ranges(self) -> list[FeedRange]:
        """See `ChangeFeed.ranges`; asks the service."""
        async with self._container.in_use_and_there():
            return await self._container.ask(lambda proxy, _: _ranges(proxy, refresh=True))

    async def read(
        self,
        feed_range: FeedRange,
        continuation: str | None,
        *,
        start: Start,
        limit: int,
        witness: str | None = None,
    ) -> FeedPage:
        """See `ChangeFeed.read`. There is no witness: a container that was made anew has leases of its own."""
        page = await self._page(feed_range, continuation, start, limit)
        events: list[CheckpointEvent] = [header_of(item) for item in page.items if is_event(item)]
        # A page with nothing in it is not the end of the feed: only "not modified" is.
        behind = 0 if page.is_end else max(page.lsn - page.at, 0 if page.items else 1)
        return FeedPage(events, page.etag, page.charge, behind=behind)

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        """See `ChangeFeed.lag`; counts transactions, of the whole physical partition."""
        page = await self._page(feed_range, continuation, start, 1)
        for _ in range(_EMPTY_PAGES):
            if page.items or page.is_end:
                break
            page = await self._page(feed_range, page.etag, start, 1)
        if page.is_end:
            return 0
        before = int(page.items[0]["_lsn"]) - 1 if page.items else page.at
        return max(1, page.lsn - before)

    async def _page(self, feed_range: FeedRange, continuation: str | None, start: Start, limit: int) -> _Page:
        scope: dict[str, Any]
        position = 0 if continuation is None else number_of(feed_range, continuation, most=_MOST)
        async with self._container.in_use_and_there():
            if continuation is None:
                scope = {"feed_range": sdk_range(feed_range), "start_time": _START[start]}
            else:
                scope = {"continuation": sdk_continuation(self._container.rid, feed_range, continuation)}
            page = await self._container.ask(partial(_read, feed_range, scope | {"max_item_count": limit}))
        if continuation is not None and not page.items and page.lsn < position:
            why = f"lies beyond the end: the partition is at {page.lsn}"
            raise ForeignPositionError(feed_range, continuation, why, is_certain=False)
        return page


class _Page(NamedTuple):
    """One answer of the service."""

    items: Sequence[Mapping[str, Any]]
    etag: str
    at: int
    """The LSN in the etag, where the next page goes on."""
    lsn: int
    """Of the partition, where it answered."""
    charge: float
    is_end: bool
    """Whether the service said that nothing has changed, rather than given a page that happens to be empty."""


async def _read(
    feed_range: FeedRange, scope: Mapping[str, Any], proxy: ContainerProxy, options: Mapping[str, Any]
) -> _Page:
    """One page, or what the range was split into meanwhile."""
    answers: list[tuple[int, dict[str, str]]] = []

    def heard(answer: Any) -> None:
        options["raw_response_hook"](answer)
        # The SDK puts its own continuation over the service's etag in the same mapping later.
        headers: Mapping[str, str] = answer.http_response.headers
        answers.append((int(answer.http_response.status_code), {name.lower(): headers[name] for name in headers}))

    bodies: list[object] = []

    def noted(_: object, body: object) -> None:
        bodies.append(body)

    hooks = {"raw_response_hook": heard, "response_hook": noted}
    feed: Any = cast(Any, proxy).query_items_change_feed(**{**options, **scope, **hooks})
    try:
        items = [item async for item in await anext(feed.by_page())]
    except StopAsyncIteration:
        items = []
    # From the SDK's memory, without a request: it is up to date if this read met a split.
    current = [each for each in await _ranges(proxy, refresh=False) if each.overlaps(feed_range)]
    if len(current) > 1:
        raise FeedRangeGoneError(feed_range, current)
    status, headers = next(answer for answer in reversed(answers) if "etag" in answer[1])
    is_end = status == _NOT_MODIFIED
    if not is_end and not isinstance(mapping(bodies[-1]).get("Documents"), list):
        raise ValueError("a page of the feed without a list of documents")
    etag = headers["etag"]
    return _Page(
        items,
        etag,
        int(etag.strip('"')),
        lsn_of(headers["x-ms-session-token"]),
        float(headers.get("x-ms-request-charge", 0)),
        is_end,
    )


async def _ranges(container: ContainerProxy, *, refresh: bool) -> list[FeedRange]:
    found = cast(Any, container.read_feed_ranges(force_refresh=refresh))
    bounds = [each["Range"] async for each in found]
    return sorted(FeedRange(str(each["min"]), str(each["max"])) for each in bounds)
