"""Where an item lives: its partition-key values, and their place (effective key) in the hash space.

The hash is the SDK's own murmur3 code, so client and server cannot disagree about where a key belongs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from azure.cosmos.partition_key import PartitionKey, _to_hex_encoded_binary_string_v1, _Undefined

from .errors import PARTITION_KEY_MISMATCH, CosmosError, bad_request, unsupported
from .payloads import parse
from .settings import is_path

FULL_MIN, FULL_MAX = "", "FF"
_HASH_SPACE = 0x40 << 120  # the two top bits of a hash are always clear
_NARROW_HASH_SPACE = 1 << 32
_LONGEST_KEY = 2048
_PATH_PART = re.compile(r'/(?:"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|([^/]*))')
_OPEN_STEPS = frozenset({"", "*", "?", "[]"})

PREFIX_BYTES = 101
"""What counts of a string in a partition key of version 1. Keys that share it are one logical partition (Microsoft's
documentation of Azure Cosmos DB, "Create containers with large partition key", read in November 2026): unique keys and
the limit on size hold over both. That an id does too is our reading of it. The SDK hashes the first 100 characters, so
where a key is not ASCII its own idea of the physical partition may differ from the one here."""

Components = tuple[Any, ...]
"""One value per path; the empty object `{}` stands for a value that is not there."""


def split_path(path: str) -> tuple[str, ...]:
    """`/a/"b c"/d` → `("a", "b c", "d")`."""
    return tuple(quoted or single or plain for quoted, single, plain in _PATH_PART.findall(path))


@dataclass(frozen=True)
class PartitionKeyDefinition:
    paths: tuple[str, ...]
    kind: str
    version: int
    prefixes: bool = False
    """Whether only the first bytes of a string count."""

    @classmethod
    def parse(cls, definition: Mapping[str, Any] | None, *, key_versions: bool = True) -> PartitionKeyDefinition:
        """A definition without a version has version 1, as the service reads it; the SDK always sends one."""
        if not isinstance(definition, dict) or not definition.get("paths"):
            raise bad_request("The partition key definition needs paths.")
        given, kind = definition["paths"], definition.get("kind", "Hash")
        if not isinstance(given, list) or not all(map(is_path, given)):
            raise bad_request(f"The partition key paths {given!r} are not valid.")
        if any(_is_open(path) for path in given):
            raise bad_request(f"The partition key paths {given!r} name more or less than one property.")
        paths = tuple(given)
        if kind == "Range":
            raise unsupported("partition keys of kind Range")
        if kind not in ("Hash", "MultiHash"):
            raise bad_request(f"The partition key kind {kind!r} is not valid.")
        if len(paths) > (3 if kind == "MultiHash" else 1):
            raise bad_request(f"Too many partition key paths: {len(paths)} for the kind {kind}.")
        version = definition.get("version", 1)
        if isinstance(version, bool) or version not in (1, 2):
            raise bad_request(f"The partition key definition version '{version}' is invalid. It is 1 or 2.")
        if kind == "MultiHash" and version != 2:
            raise bad_request("Invalid version for Hash kind MultiHash.")
        return cls(paths, kind, version, key_versions and version == 1 and kind == "Hash")

    @cached_property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(map(split_path, self.paths))

    def of_item(self, body: Mapping[str, Any]) -> Components:
        """The partition key that an item's own content gives it."""
        return tuple(_value_at(body, path) for path in self.parts)

    def from_header(self, header: str | None) -> Components:
        """The partition key of a request; shorter than the definition for a hierarchical prefix."""
        if header is None:
            raise bad_request("PartitionKey value must be supplied for this operation.")
        values = parse(header, "The partition key header")
        if not isinstance(values, list) or len(values) > len(self.paths):
            raise bad_request(f"Partition key {header} is invalid.")
        for value in values:
            _check(value)
        return tuple(values) if values else ({},) * len(self.paths)

    def is_prefix(self, components: Components) -> bool:
        return len(components) < len(self.paths)

    def check_same(self, components: Components, body: Mapping[str, Any]) -> None:
        """The request's key and the item's must agree; null and "not there" are two different keys."""
        own = self.of_item(body)
        for part in own:
            _check(part)
        if key_of(own) != key_of(components):
            raise mismatch()

    def boundaries(self, count: int) -> list[tuple[str, str]]:
        """The hash space cut into `count` equal ranges."""
        cuts = [FULL_MIN, *(self._hash(self._space * index // count) for index in range(1, count)), FULL_MAX]
        return list(pairwise(cuts))

    def middle(self, low: str, high: str) -> str:
        """The hash in the middle of a range."""
        return self._hash((self._number(low) + self._number(high)) // 2)

    def width(self, low: str, high: str) -> int:
        """How much of the hash space a range holds."""
        return self._number(high) - self._number(low)

    @property
    def _space(self) -> int:
        return _HASH_SPACE if self._is_wide else _NARROW_HASH_SPACE

    @property
    def _is_wide(self) -> bool:
        return self.version == 2 or self.kind == "MultiHash"

    def _hash(self, number: int) -> str:
        return f"{number:032X}" if self._is_wide else _narrow(number)

    def _number(self, boundary: str) -> int:
        """The place of a boundary in the hash space."""
        if boundary == FULL_MAX:
            return self._space
        if self._is_wide:
            return int(boundary[:32].ljust(32, "0"), 16)
        return bisect_left(range(self._space), boundary, key=_narrow)

    def logical_key(self, components: Components) -> str:
        """The logical partition of these values, as a dictionary key."""
        return key_of(self._counting(components))

    def effective_key(self, components: Components) -> str:
        return _effective_key(json.dumps(self._counting(components)), self.kind, self.version)

    def _counting(self, components: Components) -> Components:
        """What of the values counts. See `PREFIX_BYTES`."""
        return tuple(map(_prefix, components)) if self.prefixes else components

    def effective_range(self, components: Components) -> tuple[str, str]:
        """Where items with this key, or with a key that begins with these values, can be: [from, to)."""
        lowest = self.effective_key(components)
        return lowest, lowest + ("FF" if self.is_prefix(components) else "00")


def mismatch() -> CosmosError:
    return bad_request(
        "Partition key provided either doesn't correspond to definition in the collection or doesn't match partition "
        "key field values specified in the document.",
        substatus=PARTITION_KEY_MISMATCH,
    )


def key_of(components: Sequence[Any]) -> str:
    """A dictionary key for partition-key values: 1 and 1.0 are one key, `true` is another."""
    numbers = [float(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in components]
    return json.dumps(numbers, sort_keys=True)


def _narrow(number: int) -> str:
    """A hash of version 1, of 32 bits, as an effective key begins with it."""
    return _to_hex_encoded_binary_string_v1([float(number)]).upper()


@lru_cache(maxsize=65536)
def _effective_key(components: str, kind: str, version: int) -> str:
    values = [_Undefined() if part == {} else part for part in json.loads(components)]
    return str(PartitionKey._get_hashed_partition_key_string(values, kind, version)).upper()


def _value_at(body: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = body
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return {}
        value = value[part]
    return {} if isinstance(value, dict | list) else value


def _is_open(path: str) -> bool:
    """Whether a step of a path is a wildcard, the elements of an array, or nothing, as after a slash at the end."""
    return any(not quoted and not single and plain in _OPEN_STEPS for quoted, single, plain in _PATH_PART.findall(path))


def _prefix(value: Any) -> Any:
    if not isinstance(value, str) or len(value) * 4 <= PREFIX_BYTES:
        return value
    return value.encode("utf-8", "surrogatepass")[:PREFIX_BYTES].decode("utf-8", "ignore")


def _check(value: Any) -> None:
    if isinstance(value, list) or (isinstance(value, dict) and value):
        raise bad_request(f"Partition key value {json.dumps(value)} is invalid.")
    if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > _LONGEST_KEY:
        raise CosmosError(400, f"Partition key value is longer than {_LONGEST_KEY} bytes.")
