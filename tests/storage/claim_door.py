"""A store whose requests are counted, and of which each can fail, hang or be the last one that its caller waits for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from typing import Literal, TypeVar

from eventckpt import CheckpointEvent, EventStore, StoreUnavailableError, StreamId
from eventckpt.stores import FoundEvent
from eventckpt.stores.documents import Document, DocumentStore

from .lost_store import Gate

T = TypeVar("T")

Cut = Literal["before", "after"]


class Door(EventStore):
    """In front of another store.

    Args:
        store: that one.
        gate: lets one request after the other go on, in an order of its own; None: all go on at once.
    """

    def __init__(self, store: EventStore, gate: Gate | None = None) -> None:
        self._store = store
        self._gate = gate or nullcontext()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.is_idle = asyncio.Event()
        """Set while no request is under way."""
        self.is_idle.set()
        self._under_way = 0
        self.hung: set[str] = set()
        """Requests that had no answer."""
        self.is_shut: set[str] = set()
        """Requests that find the store out of reach."""
        self.loses: set[str] = set()
        """Requests the next one of which is done, and its answer lost."""
        self.hangs_at: tuple[int, Cut] | None = None
        """Which request, counted from here on, never has an answer: it is not done, or it is."""
        self.hanging = asyncio.Event()
        self.goes_on = asyncio.Event()
        """Set by a test: what hangs is answered after all."""

    async def ask(self, name: str, request: Callable[[], Awaitable[T]]) -> T:
        self._under_way += 1
        self.is_idle.clear()
        try:
            return await self._ask(name, request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.is_idle.set()

    async def _ask(self, name: str, request: Callable[[], Awaitable[T]]) -> T:
        self.asked[name] += 1
        number, cut = self.hangs_at or (-1, "before")
        self.hangs_at = (number - 1, cut) if number > 0 else None
        if number == 0 and cut == "before":
            await self._hang(name)
        if name in self.is_shut:
            raise StoreUnavailableError("nobody answers")
        async with self._gate:
            result = await request()
        if number == 0:
            await self._hang(name)
        if name in self.loses:
            self.loses.remove(name)
            raise StoreUnavailableError("the answer was lost")
        self.answered[name] += 1
        return result

    async def _hang(self, name: str) -> None:
        self.hung.add(name)
        self.hanging.set()
        await self.goes_on.wait()

    async def append(self, event: CheckpointEvent) -> None:
        await self.ask("append", lambda: self._store.append(event))

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        return await self.ask("read", lambda: self._store.read(stream, *seqs))

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        return await self.ask("last", lambda: self._store.last(workflow_name, run_id))

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> FoundEvent | None:
        return await self.ask("find", lambda: self._store.find(checkpoint_id, stream=stream))

    async def headers(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
    ) -> AsyncGenerator[CheckpointEvent, None]:
        async def listed() -> list[CheckpointEvent]:
            return [header async for header in self._store.headers(stream, gt=gt, lte=lte, desc=desc)]

        for header in await self.ask("headers", listed):
            yield header

    def workflow_headers(
        self, workflow_name: str, *, desc: bool = False, emptied: bool = True
    ) -> AsyncGenerator[CheckpointEvent, None]:
        return self._store.workflow_headers(workflow_name, desc=desc, emptied=emptied)

    def document_store(self) -> DocumentStore:
        return _Documents(self, self._store.document_store())

    async def close(self) -> None:
        """The store itself is closed by who opened it."""


class _Documents(DocumentStore):
    def __init__(self, door: Door, documents: DocumentStore) -> None:
        self._door = door
        self._documents = documents

    async def list_documents(self, prefix: str) -> list[Document]:
        return await self._documents.list_documents(prefix)

    async def read(self, name: str) -> Document | None:
        return await self._door.ask("read document", lambda: self._documents.read(name))

    async def create(self, document: Document) -> Document | None:
        return await self._door.ask("create document", lambda: self._documents.create(document))

    async def replace(self, document: Document, etag: str) -> Document | None:
        return await self._door.ask("replace document", lambda: self._documents.replace(document, etag))

    async def delete(self, name: str, etag: str) -> bool:
        return await self._door.ask("delete document", lambda: self._documents.delete(name, etag))
