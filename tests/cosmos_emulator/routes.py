"""What a request asks for: its path, method and headers read into one `Call` with the name of the operation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from .errors import CosmosError, bad_request, unsupported
from .payloads import parse_body
from .refusals import check_headers, check_path, check_priority
from .sessions import parse_session

LARGEST_REQUEST = 2 * 1024 * 1024 + 64 * 1024
"""2 MB, and what an item's system properties and a batch's wrapping may add before the item itself is measured."""
LARGEST_BATCH = 2 * 1024 * 1024
"""A batch, atomic or not, is measured as it was sent."""
_LARGEST_PAGE_SIZE = 2**31 - 1
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,10}")
_QUERY_TYPES = frozenset({"application/query+json", "application/sql"})
"""Content types that make a POST a query on the service, whatever its headers say."""


@dataclass
class Call:
    """One request, read but not yet carried out."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    lagging: bool = False
    """Whether a replica answers that is behind; drawn when the request is carried out."""
    strong: bool = False
    """Whether it is served with more than session consistency, which makes reads dearer."""

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(unquote(part) for part in self.path.split("/") if part)

    @cached_property
    def resource_type(self) -> str:
        """The last resource type in the path, which the signature covers."""
        if not self.segments:
            return ""
        last = self.segments[(len(self.segments) - 1) // 2 * 2]
        return "colls" if last == "operations" else last

    @cached_property
    def resource_ids(self) -> tuple[str, str]:
        """The two ways to sign for the resource: by its full name, and by its lower-cased rid."""
        parts = self.segments[: 4 if "operations" in self.segments[4:5] else len(self.segments) // 2 * 2]
        return "/".join(parts), (parts[-1].lower() if parts else "")

    def segment(self, index: int) -> str:
        return self.segments[index]

    @property
    def container(self) -> str | None:
        return self.segments[3] if len(self.segments) > 3 else None

    def flag(self, header: str) -> bool:
        return self.headers.get(header, "").lower() == "true"

    @cached_property
    def session(self) -> dict[str, int]:
        """The LSN that the client has seen of each range, by its session token."""
        header = self.headers.get("x-ms-session-token")
        return parse_session(header) if header else {}

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_bulk(self) -> bool:
        """Whether a batch's operations are each for themselves; clients say `x-ms-cosmos-batch-atomic: false`."""
        names = ("x-ms-cosmos-batch-atomic", "x-ms-cosmos-is-batch-atomic")
        said = [self.headers[name].lower() for name in names if name in self.headers]
        return "false" in said or (not said and "x-ms-documentdb-partitionkey" not in self.headers)

    @property
    def minimal(self) -> bool:
        return self.headers.get("Prefer", "").lower() == "return=minimal"

    @property
    def page_limit(self) -> int | None:
        """The largest number of items in a page; None where only the size of the page counts."""
        value = self.headers.get("x-ms-max-item-count")
        if value is None:
            return 100
        number = int(value) if _WHOLE_NUMBER.fullmatch(value) else 0
        if number != -1 and not 0 < number <= _LARGEST_PAGE_SIZE:
            raise bad_request(
                f"The specified page size {value!r} is invalid. Ensure to provide a positive page size that is less "
                f"than or equal to '{_LARGEST_PAGE_SIZE}' or -1 for dynamic page size."
            )
        return number if number > 0 else None

    @cached_property
    def json(self) -> Any:
        return parse_body(self.body) if self.body else None

    @cached_property
    def document(self) -> dict[str, Any]:
        if not isinstance(self.json, dict):
            raise bad_request("The request body must be a JSON object.")
        return self.json

    @cached_property
    def kind(self) -> str:
        """The operation, in the SDK's words; `unsupported` for a path this emulator does not know."""
        shape = "/".join(self.segments[::2])
        kinds = _FEEDS.get(shape) if len(self.segments) % 2 else _RESOURCES.get(shape)
        if not self.segments:
            return "account"
        found = (kinds or {}).get(self.method, "unsupported")
        return self._document_kind() if found == "documents" else self._listing_kind(found)

    def _listing_kind(self, found: str) -> str:
        """Databases, containers and offers are queried by a POST to their own feed."""
        if self.method == "POST" and self.flag("x-ms-documentdb-isquery"):
            return {"create_database": "query_databases", "create_container": "query_containers"}.get(found, found)
        return found

    def _document_kind(self) -> str:
        if self.method == "GET":
            return "change_feed" if "A-IM" in self.headers else "list_items"
        if self.flag("x-ms-cosmos-is-batch-request"):
            return "batch"
        if self.flag("x-ms-cosmos-is-query-plan-request"):
            return "query_plan"
        if self.flag("x-ms-documentdb-isquery") or self.content_type in _QUERY_TYPES:
            return "query"
        return "upsert_item" if self.flag("x-ms-documentdb-is-upsert") else "create_item"

    def check(self, *, refusals: bool = True) -> None:
        """Refuses what the request asks for and the emulator does not have, by name."""
        if self.kind == "unsupported":
            types = self.segments[::2]
            check_path(self.method, types, "/".join(types) in (_FEEDS if len(self.segments) % 2 else _RESOURCES))
        if refusals:
            check_headers(self.headers)
        if self.content_type == "application/sql":
            raise unsupported("queries as plain text")
        check_priority(self.headers)
        if len(self.body) > (LARGEST_BATCH if self.kind == "batch" else LARGEST_REQUEST):
            raise CosmosError(413, "Request size is too large: a request has at most 2 MB.")


_FEEDS: dict[str, dict[str, str]] = {
    "dbs": {"GET": "list_databases", "POST": "create_database"},
    "dbs/colls": {"GET": "list_containers", "POST": "create_container"},
    "dbs/colls/pkranges": {"GET": "read_ranges"},
    "dbs/colls/docs": {"GET": "documents", "POST": "documents"},
    "dbs/colls/conflicts": {"GET": "list_conflicts", "POST": "query_conflicts"},
    "offers": {"GET": "list_offers", "POST": "query_offers"},
}
_RESOURCES: dict[str, dict[str, str]] = {
    "dbs": {"GET": "read_database", "DELETE": "delete_database"},
    "dbs/colls": {"GET": "read_container", "PUT": "replace_container", "DELETE": "delete_container"},
    "dbs/colls/operations": {"POST": "delete_items_of_key"},
    "dbs/colls/docs": {"GET": "read_item", "PUT": "replace_item", "PATCH": "patch_item", "DELETE": "delete_item"},
    "dbs/colls/conflicts": {"GET": "read_conflict", "DELETE": "delete_conflict"},
    "offers": {"GET": "read_offer", "PUT": "replace_offer"},
}
