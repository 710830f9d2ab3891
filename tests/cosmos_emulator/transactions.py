"""Writes and reads of one logical partition as one transaction: a single request is a transaction of one operation.

Operations see what earlier operations of the same transaction did; nothing reaches the partition before `commit`.
"""

from __future__ import annotations

import base64
import json
import struct
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import charges
from .errors import CosmosError, bad_request, conflict, logical_partition_full, not_found, precondition_failed
from .partition_keys import Components, key_of
from .patch import Patch
from .settings import is_ttl
from .storage import Container, Item

LARGEST_ITEM = 2 * 1024 * 1024
_LONGEST_ID = 1023
_DEEPEST = 128


@dataclass(frozen=True)
class Conditions:
    """`If-Match` and `If-None-Match` of a request or of a batch operation."""

    if_match: str | None = None
    if_none_match: str | None = None

    def check_write(self, item: Item | None) -> None:
        if self.if_match not in {None, "*"} and (item is None or item.etag != self.if_match):
            raise precondition_failed()
        if self.if_none_match is not None and item is not None and self.if_none_match in {"*", item.etag}:
            raise precondition_failed()

    def unchanged(self, item: Item) -> bool:
        return self.if_none_match in {"*", item.etag}


@dataclass(frozen=True)
class Outcome:
    status: int
    charge: float
    item: Item | None = None


class Transaction:
    def __init__(self, container: Container, components: Components, *, strong: bool = False) -> None:
        self.container = container
        self.components = components
        self.strong = strong
        """Whether reads are more than session consistent, which doubles their price."""
        self._prices = container.prices
        self.partition, self.key = container.locate(components)
        self.changes: dict[str, Item | None] = {}
        self._growth = 0

    def commit(self) -> int:
        """Makes the changes visible and returns the partition's LSN; a transaction that only read takes none."""
        if self.changes:
            return self.partition.commit(self.key, self.changes)
        return self.partition.lsn

    def attempt(self, operation: Callable[[], Outcome]) -> Outcome:
        """An operation that leaves nothing behind where it fails."""
        before, growth = dict(self.changes), self._growth
        try:
            return operation()
        except CosmosError:
            self.changes, self._growth = before, growth
            raise

    # ---- operations

    def create(self, body: Mapping[str, Any], conditions: Conditions) -> Outcome:
        identifier = self._checked_id(body)
        if self._get(identifier) is not None:
            raise conflict(identifier)
        item = self._store(body, None)
        return Outcome(201, self._price(None, item), item)

    def upsert(self, body: Mapping[str, Any], conditions: Conditions) -> Outcome:
        old = self._get(self._checked_id(body))
        conditions.check_write(old)
        item = self._store(body, old)
        return Outcome(201 if old is None else 200, self._price(old, item), item)

    def read(self, identifier: str, conditions: Conditions) -> Outcome:
        item = self._existing(identifier)
        if conditions.unchanged(item):
            return Outcome(304, self._prices.other(charges.NOT_MODIFIED), item)
        return Outcome(200, self._prices.read(charges.point_read(item.size), strong=self.strong), item)

    def replace(self, identifier: str, body: Mapping[str, Any], conditions: Conditions) -> Outcome:
        old = self._existing(identifier)
        conditions.check_write(old)
        new_id = self._checked_id(body)
        if new_id != identifier:
            if self._get(new_id) is not None:
                raise conflict(new_id)
            self._change(identifier, None)
        item = self._store(body, old)
        return Outcome(200, self._price(old, item), item)

    def patch(self, identifier: str, instructions: Any, conditions: Conditions) -> Outcome:
        old = self._existing(identifier)
        conditions.check_write(old)
        patch = Patch.parse(instructions)
        body = patch.apply(old.body, self.container.definition.parts)
        self.container.definition.check_same(self.components, body)
        item = self._store(body, old)
        return Outcome(200, self._price(old, item, patched=len(patch.operations)), item)

    def delete(self, identifier: str, conditions: Conditions) -> Outcome:
        old = self._existing(identifier)
        conditions.check_write(old)
        self._change(identifier, None)
        return Outcome(204, self._price(old, None))

    # ---- inside

    def _get(self, identifier: str) -> Item | None:
        if identifier in self.changes:
            return self.changes[identifier]
        return self.partition.logical(self.key).get(identifier)

    def _existing(self, identifier: str) -> Item:
        item = self._get(identifier)
        if item is None:
            raise not_found(identifier)
        return item

    def _price(self, old: Item | None, new: Item | None, *, patched: int = 0) -> float:
        """What it costs to put one item in another's place."""
        if not self._prices.on:
            return 0.0
        out, added = (self.container.policy.terms(item.body) if item else Counter() for item in (old, new))
        if old is None:
            return self._prices.write(charges.insert(new.size, added.total())) if new else 0.0
        if new is None:
            return self._prices.write(charges.delete(old.size, out.total()))
        modified = (out - added).total(), (added - out).total()
        return self._prices.write(charges.patch(old.size, new.size, *modified, patched))

    def _checked_id(self, body: Mapping[str, Any]) -> str:
        self.container.definition.check_same(self.components, body)
        identifier = body.get("id")
        if identifier is None:
            raise bad_request("The input content is invalid because the required properties - 'id; ' - are missing.")
        if not isinstance(identifier, str) or not identifier or identifier != identifier.rstrip(" "):
            raise bad_request("The input name is invalid. An id is a string that is not empty and ends in no space.")
        if any(character in identifier for character in "/\\?#"):
            raise bad_request(f"The input name '{identifier}' is invalid. It must not contain / \\ ? #.")
        if len(identifier.encode()) > _LONGEST_ID:
            raise bad_request(
                "The input name is invalid. Ensure to provide a unique non-empty string less than "
                f"'{_LONGEST_ID + 1}' characters."
            )
        return identifier

    def _store(self, content: Mapping[str, Any], old: Item | None) -> Item:
        """A new version of an item, with its system properties, in this transaction."""
        container, now = self.container, int(self.container.clock())
        if "ttl" in content:
            _check_ttl(content["ttl"])
        number = old.number if old else container.next_number()
        rid = item_rid(container.rid, number)
        etag = f'"{uuid.uuid4()}"'
        body = {key: value for key, value in content.items() if key not in _SYSTEM}
        self_link = f"{container.document['_self']}docs/{rid}/"
        body |= {"_rid": rid, "_self": self_link, "_etag": etag, "_attachments": "attachments/", "_ts": now}
        item = Item(
            id=body["id"],
            key=self.key,
            effective_key=container.definition.effective_key(self.components),
            number=number,
            body=body,
            raw=_serialised(body),
            etag=etag,
            timestamp=now,
            expires_at=container.expiry(body, now),
        )
        self._check_unique(item)
        self._change(item.id, item)
        self._check_size()
        return item

    def _change(self, identifier: str, item: Item | None) -> None:
        for size, sign in ((self._get(identifier), -1), (item, 1)):
            self._growth += sign * (size.size if size else 0)
        self.changes[identifier] = item

    def _check_size(self) -> None:
        """A full logical partition takes nothing that makes it larger. What gives room is welcome, be it too little."""
        limit = self.container.logical_partition_bytes
        if limit is None or self._growth <= 0:
            return
        if self.partition.bytes_of(self.key) + self._growth > limit:
            raise logical_partition_full(limit)

    def _check_unique(self, item: Item) -> None:
        """A unique key holds within one logical partition."""
        for paths in self.container.unique_paths:
            wanted = _values(item.body, paths)
            present = {**self.partition.logical(self.key), **self.changes}
            for other in present.values():
                if other is not None and other.number != item.number and _values(other.body, paths) == wanted:
                    raise CosmosError(409, "Unique index constraint violation.")


_SYSTEM = frozenset({"_rid", "_self", "_etag", "_attachments", "_ts"})


def item_rid(container_rid: str, number: int) -> str:
    """A resource id in the service's form: the container's eight bytes, then the item's number."""
    content = base64.b64decode(container_rid.replace("-", "/")) + struct.pack("<Q", number)
    return base64.b64encode(content).decode().replace("/", "-")


def _serialised(body: dict[str, Any]) -> bytes:
    if _depth(body) > _DEEPEST:
        raise bad_request(f"The document is nested deeper than {_DEEPEST} levels.")
    try:
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise bad_request("The document is not valid Unicode: it has a lone surrogate.") from None
    if len(raw) > LARGEST_ITEM:
        raise CosmosError(413, "Request size is too large: an item has at most 2 MB.")
    return raw


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        level = [part for each in level for part in _parts(each)]
        deepest += 1
    return deepest - 1


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_ttl(ttl: Any) -> None:
    if not is_ttl(ttl):
        raise bad_request(f"The input ttl '{ttl}' is invalid. It is -1 or a positive number of seconds.")


def _values(body: Mapping[str, Any], paths: list[tuple[str, ...]]) -> str:
    values: list[Any] = []
    for path in paths:
        value: Any = body
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        values.append(value)
    return key_of(values)
