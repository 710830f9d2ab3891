"""Documents in a table of the SQLite file; several processes on one machine share the work through it."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from ..documents import Document, DocumentStore
from ..names import can_begin_id, id_of
from .connection import Connections
from .tables import Log

__all__ = ["SqliteDocumentStore"]


_FIRST: Final = 2**62  # versions to draw the first one from: as many are left to count on
_ETAG: Final = "CASE typeof(version) WHEN 'integer' THEN CAST(version AS TEXT) ELSE hex(version) END"
"""Of whatever is there, since somebody may have written anything: in characters that can be compared again."""
_NEXT: Final = "CASE WHEN typeof(version) = 'integer' AND version < 9223372036854775807 THEN version + 1 ELSE 1 END"
_ROW: Final = f"id, {_ETAG}, document"

_decoder: Final[msgspec.json.Decoder[Document]] = msgspec.json.Decoder(dict[str, Any])


class SqliteDocumentStore(DocumentStore):
    """See `DocumentStore`. Made by `SqliteEventStore.document_store`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def list_documents(self, prefix: str) -> list[Document]:
        """See `DocumentStore.list_documents`."""
        if not can_begin_id(prefix):
            return []

        def fetch(log: Log) -> list[Document]:
            rows = log.execute(
                f"SELECT {_ROW} FROM {log.leases} WHERE substr(id, 1, ?) = ? ORDER BY id", (len(prefix), prefix)
            )
            return [_read(*row) for row in rows]

        return await self._connections.reading(fetch)

    async def read(self, name: str) -> Document | None:
        """See `DocumentStore.read`."""
        if not can_begin_id(name):
            return None

        def fetch(log: Log) -> Document | None:
            row = log.execute(f"SELECT {_ROW} FROM {log.leases} WHERE id = ?", (name,)).fetchone()
            return _read(*row) if row else None

        return await self._connections.reading(fetch)

    async def create(self, document: Document) -> Document | None:
        """See `DocumentStore.create`. The first version is drawn: one of a document that was deleted fits none that is
        made in its place."""
        name, version = id_of(document), secrets.randbelow(_FIRST) + 1

        def change(log: Log) -> bool:
            cursor = log.execute(
                f"INSERT INTO {log.leases} (id, version, document) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (name, version, msgspec.json.encode(document)),
            )
            return cursor.rowcount == 1

        return {**document, "_etag": str(version)} if await self._connections.writing(change) else None

    async def replace(self, document: Document, etag: str) -> Document | None:
        """See `DocumentStore.replace`."""
        id_of(document)
        body = {name: value for name, value in document.items() if name != "_etag"}
        content = msgspec.json.encode(body)

        def change(log: Log) -> str | None:
            cursor = log.execute(
                f"UPDATE {log.leases} SET version = {_NEXT}, document = ? WHERE id = ? AND {_ETAG} = ?",
                (content, body["id"], etag),
            )
            if cursor.rowcount != 1:
                return None
            return log.execute(f"SELECT {_ETAG} FROM {log.leases} WHERE id = ?", (body["id"],)).fetchone()[0]

        written = await self._connections.writing(change)
        return None if written is None else {**body, "_etag": written}

    async def delete(self, name: str, etag: str) -> bool:
        """See `DocumentStore.delete`."""
        if not can_begin_id(name):
            return True

        def change(log: Log) -> bool:
            log.execute(f"DELETE FROM {log.leases} WHERE id = ? AND {_ETAG} = ?", (name, etag))
            return log.execute(f"SELECT 1 FROM {log.leases} WHERE id = ?", (name,)).fetchone() is None

        return await self._connections.writing(change)


def _read(name: str, etag: str, content: object) -> Document:
    """The document in a row. What is none has nothing but its key, by which whoever looks for it can write it anew."""
    try:
        found = _decoder.decode(content) if isinstance(content, bytes) else {}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        found = {}
    return {**found, "id": str(name), "_etag": etag}
