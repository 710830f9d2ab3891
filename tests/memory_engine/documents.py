"""Documents in memory. Their etags are numbers that never come back."""

from __future__ import annotations

import copy

from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.stores.names import can_begin_id, id_of

from .data import Door


class MemoryDocumentStore(DocumentStore):
    """What is given is a copy, as of anything that was stored."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def list_documents(self, prefix: str) -> list[Document]:
        if not can_begin_id(prefix):
            return []
        return [
            copy.deepcopy(each) for name, each in sorted(self._door.data.documents.items()) if name.startswith(prefix)
        ]

    async def read(self, name: str) -> Document | None:
        return copy.deepcopy(self._door.data.documents.get(name)) if can_begin_id(name) else None

    async def create(self, document: Document) -> Document | None:
        return None if id_of(document) in self._door.data.documents else self._write(document)

    async def replace(self, document: Document, etag: str) -> Document | None:
        there = self._door.data.documents.get(id_of(document))
        return None if there is None or there["_etag"] != etag else self._write(document)

    async def delete(self, name: str, etag: str) -> bool:
        there = self._door.data.documents.get(name) if can_begin_id(name) else None
        if there is None:
            return True
        if there["_etag"] == etag:
            del self._door.data.documents[name]
        return there["_etag"] == etag

    def _write(self, document: Document) -> Document:
        data = self._door.data
        written = {**copy.deepcopy(document), "_etag": str(next(data.writes))}
        data.documents[document["id"]] = written
        return copy.deepcopy(written)
