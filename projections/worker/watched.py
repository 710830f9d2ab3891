"""Whether the store answers: its feed and its documents, with every request noted.

A worker that goes on trying looks well from outside, whatever the store does. So it is the requests that tell: since
when they fail, or are not answered at all.
"""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import count
from typing import TypeVar

from eventckpt.errors import CheckpointStoreError
from eventckpt.stores.change_feed import (
    ChangeFeed,
    FeedPage,
    FeedRange,
    FeedRangeGoneError,
    ForeignPositionError,
    Start,
)
from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.text import safe

from ..clock import Clock
from ..engines import Engine

__all__ = ["Watch", "watched"]

_T = TypeVar("_T")


class Watch:
    """How one part of the store answers.

    Args:
        part: what it is called where it is shown.
        clock: where the time comes from.
    """

    def __init__(self, part: str, clock: Clock) -> None:
        self.part = part
        self.outages: int = 0
        """How often it stopped answering: failures in a row are one."""
        self.error: str | None = None
        """What the last request failed with; None: it was answered."""
        self.asked_at: float = clock.monotonic()
        """When it was asked last."""
        self._clock = clock
        self._failing_since: float | None = None
        self._numbers = count()
        self._under_way: dict[int, float] = {}

    @property
    def unanswered_for(self) -> float:
        """Seconds for which it gave no good answer while it was asked; 0 where it does."""
        waiting = min(self._under_way.values(), default=None)
        since = [each for each in (self._failing_since, waiting) if each is not None]
        return self._clock.monotonic() - min(since) if since else 0.0

    @property
    def reason(self) -> str:
        """Why it counts as unanswered."""
        return f"{self.part}: {self.error or 'no answer'}"

    def failed(self, error: Exception, since: float | None = None) -> None:
        """Count a request that failed, which was sent at `since`."""
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic() if since is None else since
            self.outages += 1
        self.error = safe(error)

    def answered(self) -> None:
        """Count a request that was answered."""
        self._failing_since = self.error = None

    async def through(self, request: Awaitable[_T]) -> _T:
        """What `request` gives; how it went is noted."""
        number, sent = next(self._numbers), self._clock.monotonic()
        self._under_way[number] = self.asked_at = sent
        try:
            answer = await request
        except (FeedRangeGoneError, ForeignPositionError):
            self.answered()  # an answer about a range or a position, by a feed that works
            raise
        except CheckpointStoreError as error:
            self.failed(error, sent)
            raise
        finally:
            del self._under_way[number]
        self.answered()
        return answer


def watched(engine: Engine, clock: Clock) -> tuple[Engine, tuple[Watch, Watch]]:
    """The same engine, whose feed and documents note how they answer; and what they note."""
    feed, leases = Watch("feed", clock), Watch("leases", clock)
    noted = engine._replace(feed=_Feed(engine.feed, feed), documents=_Documents(engine.documents, leases))
    return noted, (feed, leases)


class _Feed(ChangeFeed):
    def __init__(self, feed: ChangeFeed, watch: Watch) -> None:
        self._feed = feed
        self._watch = watch

    async def identity(self) -> str:
        return await self._watch.through(self._feed.identity())

    async def ranges(self) -> list[FeedRange]:
        return await self._watch.through(self._feed.ranges())

    async def read(
        self,
        feed_range: FeedRange,
        continuation: str | None,
        *,
        start: Start,
        limit: int,
        witness: str | None = None,
    ) -> FeedPage:
        known: dict[str, str] = {} if witness is None else {"witness": witness}
        return await self._watch.through(self._feed.read(feed_range, continuation, start=start, limit=limit, **known))

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        return await self._watch.through(self._feed.lag(feed_range, continuation, start=start))


class _Documents(DocumentStore):
    def __init__(self, documents: DocumentStore, watch: Watch) -> None:
        self._documents = documents
        self._watch = watch

    async def list_documents(self, prefix: str) -> list[Document]:
        return await self._watch.through(self._documents.list_documents(prefix))

    async def read(self, name: str) -> Document | None:
        return await self._watch.through(self._documents.read(name))

    async def create(self, document: Document) -> Document | None:
        return await self._watch.through(self._documents.create(document))

    async def replace(self, document: Document, etag: str) -> Document | None:
        return await self._watch.through(self._documents.replace(document, etag))

    async def delete(self, name: str, etag: str) -> bool:
        return await self._watch.through(self._documents.delete(name, etag))
