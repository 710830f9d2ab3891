"""Documents in the container `<container_name>-leases`, written with If-Match."""

from __future__ import annotations

from typing import Any, Final

from ..documents import Document, DocumentStore
from ..names import can_be_id, can_begin_id, id_of
from .container import Container
from .layout import Layout

__all__ = ["LEASE_INDEXING", "CosmosDocumentStore"]

LEASE_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Leases are read by their ids, which are always indexed; each further term would cost 0.2 RU a renewal.
    "includedPaths": [],
    "excludedPaths": [{"path": "/*"}],
}

_NO_ETAGS: Final = ("", "*")
"""What no state has: the service would take the one for any state at all, and the SDK the other for no condition."""
_LAYOUT: Final = Layout("leases", "/id", LEASE_INDEXING)


class CosmosDocumentStore(DocumentStore):
    """See `DocumentStore`. Made by `CosmosEventStore.document_store`."""

    def __init__(self, events: Container) -> None:
        self._container = events.sibling("-leases", _LAYOUT)

    async def list_documents(self, prefix: str) -> list[Document]:
        """See `DocumentStore.list_documents`."""
        if not can_begin_id(prefix):
            return []
        async with self._container.in_use():
            rows = await self._container.query(
                "SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)", {"@prefix": prefix}
            ).rows()
        return sorted(rows, key=lambda row: str(row["id"]))

    async def read(self, name: str) -> Document | None:
        """See `DocumentStore.read`."""
        if not can_be_id(name):
            return None
        async with self._container.in_use():
            return await self._container.read(name, name)

    async def create(self, document: Document) -> Document | None:
        """See `DocumentStore.create`."""
        id_of(document)
        self._container.check_writable()
        async with self._container.in_use():
            etag = await self._container.create_only(document)
        return None if etag is None else {**document, "_etag": etag}

    async def replace(self, document: Document, etag: str) -> Document | None:
        """See `DocumentStore.replace`."""
        id_of(document)
        self._container.check_writable()
        if etag in _NO_ETAGS:
            return None
        body = {name: value for name, value in document.items() if not name.startswith("_")}
        async with self._container.in_use():
            written = await self._container.replace(body, etag)
        return None if written is None else {**body, "_etag": written}

    async def delete(self, name: str, etag: str) -> bool:
        """See `DocumentStore.delete`."""
        self._container.check_writable()
        if etag in _NO_ETAGS or not can_be_id(name):
            return await self.read(name) is None
        async with self._container.in_use():
            return await self._container.remove(name, name, etag) != "changed"
