"""Documents in a table of the SQLite file; several processes on one machine share the work through it."""

from __future__ import annotations

import sqlite3

import msgspec

from eventckpt import SqliteEventStore

from .documents import Document, Documents

__all__ = ["SqliteDocuments"]


class SqliteDocuments(Documents):
    """See `Documents`. The store is used, not closed."""

    def __init__(self, store: SqliteEventStore) -> None:
        self._store = store

    async def starting_with(self, prefix: str) -> list[Document]:
        """See `Documents.starting_with`."""

        def fetch(connection: sqlite3.Connection) -> list[Document]:
            rows = connection.execute(
                "SELECT version, document FROM leases WHERE substr(id, 1, ?) = ? ORDER BY id", (len(prefix), prefix)
            )
            return [_read(*row) for row in rows]

        return await self._store.reading(fetch)

    async def read(self, name: str) -> Document | None:
        """See `Documents.read`."""

        def fetch(connection: sqlite3.Connection) -> Document | None:
            row = connection.execute("SELECT version, document FROM leases WHERE id = ?", (name,)).fetchone()
            return _read(*row) if row else None

        return await self._store.reading(fetch)

    async def create(self, document: Document) -> Document | None:
        """See `Documents.create`."""

        def change(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO leases (id, version, document) VALUES (?, 1, ?) ON CONFLICT DO NOTHING",
                (document["id"], msgspec.json.encode(document)),
            )
            return cursor.rowcount == 1

        return {**document, "_etag": "1"} if await self._store.writing(change) else None

    async def replace(self, document: Document, etag: str) -> Document | None:
        """See `Documents.replace`."""
        body = {name: value for name, value in document.items() if name != "_etag"}
        version = int(etag)

        def change(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "UPDATE leases SET version = version + 1, document = ? WHERE id = ? AND version = ?",
                (msgspec.json.encode(body), body["id"], version),
            )
            return cursor.rowcount == 1

        return {**body, "_etag": str(version + 1)} if await self._store.writing(change) else None

    async def delete(self, name: str, etag: str) -> bool:
        """See `Documents.delete`."""

        def change(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM leases WHERE id = ? AND version = ?", (name, int(etag)))
            return connection.execute("SELECT 1 FROM leases WHERE id = ?", (name,)).fetchone() is None

        return await self._store.writing(change)


def _read(version: int, document: bytes) -> Document:
    return {**msgspec.json.decode(document), "_etag": str(version)}
