"""Documents in the container `<container_name>-leases`, written with If-Match."""

from __future__ import annotations

from typing import Any, Final

from eventckpt import CosmosEventStore
from eventckpt.stores.cosmos.layout import Layout

from .documents import Document, Documents

__all__ = ["LEASE_INDEXING", "CosmosDocuments"]

LEASE_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Leases are read by their ids, which are always indexed; each further term would cost 0.2 RU a renewal.
    "includedPaths": [],
    "excludedPaths": [{"path": "/*"}],
}

_LAYOUT: Final = Layout("leases", "/id", LEASE_INDEXING)


class CosmosDocuments(Documents):
    """See `Documents`. The store is used, not closed."""

    def __init__(self, store: CosmosEventStore) -> None:
        self._container = store.events_container.beside("-leases", _LAYOUT)

    async def starting_with(self, prefix: str) -> list[Document]:
        """See `Documents.starting_with`."""
        async with self._container.in_use():
            rows = await self._container.query(
                "SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)", {"@prefix": prefix}
            ).rows()
        return sorted(rows, key=lambda row: str(row["id"]))

    async def read(self, name: str) -> Document | None:
        """See `Documents.read`."""
        async with self._container.in_use():
            return await self._container.read(name, name)

    async def create(self, document: Document) -> Document | None:
        """See `Documents.create`."""
        async with self._container.in_use():
            etag = await self._container.create_only(document)
        return None if etag is None else {**document, "_etag": etag}

    async def replace(self, document: Document, etag: str) -> Document | None:
        """See `Documents.replace`."""
        body = {name: value for name, value in document.items() if not name.startswith("_")}
        async with self._container.in_use():
            written = await self._container.replace(body, etag)
        return None if written is None else {**body, "_etag": written}

    async def delete(self, name: str, etag: str) -> bool:
        """See `Documents.delete`."""
        async with self._container.in_use():
            return await self._container.remove(name, name, etag) != "changed"
