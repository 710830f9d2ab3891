"""What a container of ours is made with, and what is asked of one that somebody else has made.

What the service says of a container may have any shape: whoever made it, and whatever stands between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

__all__ = ["KEY_VERSION", "Layout", "indexes", "listing", "mapping", "serves"]

KEY_VERSION: Final = 2
"""Of a partition key: in version 1, keys with the same first 101 bytes are one key, and their runs one run ("Create
containers with large partition keys"). ARM, Bicep and az make version 1 unless told otherwise."""


class Layout(NamedTuple):
    """What a container is made with."""

    holds: str
    partition_key: str
    """The path of the property that is the key."""
    indexing_policy: dict[str, Any]


def mapping(value: object) -> dict[str, Any]:
    """`value` where it is a JSON object; else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def listing(value: object) -> list[Any]:
    """`value` where it is a JSON array; else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def serves(policy: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a container's indexing policy has the composite index of `wanted`: paths and orders, or all of them the
    other way round, which the service reads backwards ("Indexing policies in Azure Cosmos DB")."""
    have = [_orders(index) for index in listing(policy.get("compositeIndexes"))]
    return all(
        any(index in (_orders(needed), _orders(needed, turned=True)) for index in have)
        for needed in listing(wanted.get("compositeIndexes"))
    )


def indexes(policy: Mapping[str, Any], path: str) -> bool:
    """Whether a container's indexing policy names this path among those that are indexed, as ours does, or indexes all
    but some others, as the service's own does. What sorts by another one is refused."""
    included = {str(mapping(each).get("path")) for each in listing(policy.get("includedPaths"))}
    excluded = {str(mapping(each).get("path")) for each in listing(policy.get("excludedPaths"))}
    return path in included or ("/*" in included and not excluded & {"/*", path})


def _orders(index: object, *, turned: bool = False) -> list[tuple[str, bool]]:
    """The paths of a composite index, and whether each descends."""
    parts = map(mapping, listing(index))
    return [(str(part.get("path")), (part.get("order") == "descending") is not turned) for part in parts]
