"""Documents in the container `<container_name>-leases`, written with If-Match."""

from __future__ import annotations

from typing import Any, Final

from azure.core import MatchConditions
from azure.cosmos.exceptions import CosmosHttpResponseError

from eventckpt import CosmosEventStore
from eventckpt.stores.cosmos.beside import SideContainer

from .documents import Document, Documents

__all__ = ["LEASE_INDEXING", "CosmosDocuments"]

LEASE_INDEXING: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Leases are read by their ids, which are always indexed; each further term would cost 0.2 RU a renewal.
    "includedPaths": [],
    "excludedPaths": [{"path": "/*"}],
}

_MISSING: Final = 404
_REFUSED: Final = frozenset({404, 409, 412})


class CosmosDocuments(Documents):
    """See `Documents`. The store is used, not closed."""

    def __init__(self, store: CosmosEventStore) -> None:
        self._container = SideContainer(
            store.container, "-leases", partition_key="/id", indexing_policy=LEASE_INDEXING
        )  # fmt: skip

    async def starting_with(self, prefix: str) -> list[Document]:
        """See `Documents.starting_with`."""
        rows = self._container.query("SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)", {"@prefix": prefix})
        return sorted([row async for row in rows], key=lambda row: str(row["id"]))

    async def read(self, name: str) -> Document | None:
        """See `Documents.read`."""
        try:
            return dict(await self._container.ask(lambda container: container.read_item(name, name)))
        except CosmosHttpResponseError as error:
            if error.status_code != _MISSING:
                raise
            return None

    async def create(self, document: Document) -> Document | None:
        """See `Documents.create`."""
        try:
            answer = await self._container.ask(lambda container: container.create_item(document, no_response=True))
        except CosmosHttpResponseError as error:
            if error.status_code not in _REFUSED:
                raise
            return None
        return {**document, "_etag": str(answer.get_response_headers()["etag"])}

    async def replace(self, document: Document, etag: str) -> Document | None:
        """See `Documents.replace`."""
        body = {name: value for name, value in document.items() if not name.startswith("_")}
        try:
            answer = await self._container.ask(
                lambda container: container.replace_item(
                    str(body["id"]), body, etag=etag, match_condition=MatchConditions.IfNotModified, no_response=True
                )
            )
        except CosmosHttpResponseError as error:
            if error.status_code not in _REFUSED:
                raise
            return None
        return {**body, "_etag": str(answer.get_response_headers()["etag"])}

    async def delete(self, name: str, etag: str) -> bool:
        """See `Documents.delete`."""
        try:
            await self._container.ask(
                lambda container: container.delete_item(
                    name, name, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            )
        except CosmosHttpResponseError as error:
            if error.status_code not in _REFUSED:
                raise
            return error.status_code == _MISSING
        return True
