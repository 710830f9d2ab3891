"""What a container of ours is made with, and what is asked of one that somebody else has made.

What the service says of a container may have any shape: whoever made it, and whatever stands between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from ...errors import StoreFormatError, StoreMissingError, StoreNotFoundError, StoreReplacedError
from ...text import safe

__all__ = ["KEY_VERSION", "Layout", "Place", "indexes", "listing", "mapping", "names", "serves"]

KEY_VERSION: Final = 2
"""Of a partition key: in version 1, keys with the same first 101 bytes are one key, and their runs one run ("Create
containers with large partition keys"). ARM, Bicep and az make version 1 unless told otherwise."""


class Layout(NamedTuple):
    """What a container is made with."""

    holds: str
    partition_key: str
    """The path of the property that is the key."""
    indexing_policy: dict[str, Any]
    made_by: str = "`eventckpt-projector run`"
    """What makes it, for who finds that there is none."""
    is_made_again: bool = False
    """Whether nothing rests on what was seen of it before, so that one that was deleted under an open store is made
    again, and one that was made anew is taken."""


class Place(NamedTuple):
    """Where a container is, or would be, and what it has to be like there."""

    layout: Layout
    database_name: str
    name: str

    @property
    def where(self) -> str:
        """The container, for errors."""
        return f"container {self.name!r} of database {self.database_name!r}"

    def check(self, properties: Mapping[str, Any]) -> None:
        """Whether a container is one of ours.

        Args:
            properties: what the service says of it.

        Raises:
            StoreFormatError: it was made with another partition key, or with one of version 1.
        """
        definition = mapping(properties.get("partitionKey"))
        paths, version = definition.get("paths"), definition.get("version", 1)
        if paths != [self.layout.partition_key]:
            raise StoreFormatError(
                f"Container {self.name!r} is partitioned by {safe(paths)}, {self.layout.holds} need "
                f"{self.layout.partition_key!r}. Give the store a container of its own; the one of "
                "agent_framework_azure_cosmos cannot be shared."
            )
        if version != KEY_VERSION:
            raise StoreFormatError(
                f"Container {self.name!r} has a partition key of version {safe(version)}, of which only the first 101 "
                f"bytes count: long names would mix runs. The version cannot be changed. Make another container with "
                f"--partition-key-version {KEY_VERSION}, and copy the items into it: {self.command}"
            )

    def missing(self, why: str = "") -> StoreMissingError:
        """There is no such container, and it could not be made."""
        return StoreMissingError(
            f"Container {self.name!r} of database {self.database_name!r} does not exist{why}. Create it: {self.command}"
        )

    def unknown(self) -> StoreNotFoundError:
        """There is no such container, and whoever only looks makes none."""
        return _unknown(f"Container {self.name!r} of database {self.database_name!r}", self.layout)

    def unknown_database(self) -> StoreNotFoundError:
        """There is no such database, likewise."""
        return _unknown(f"Database {self.database_name!r}", self.layout)

    def made_anew(self) -> StoreReplacedError:
        """Under an open store, there is another container of this name."""
        return StoreReplacedError(
            f"Container {self.name!r} of database {self.database_name!r} was deleted and made anew while this store "
            "was open: what it knows is of the old one, which is gone. Make a new store."
        )

    def lost(self) -> StoreMissingError:
        """Likewise, of one whose successor may be taken."""
        return StoreMissingError(
            f"Container {self.name!r} of database {self.database_name!r} was deleted and made anew while this store "
            "was open: what was in it is gone. Whatever is asked next goes to the new one."
        )

    @property
    def command(self) -> str:
        """What makes the container, and its database."""
        account = "--resource-group … --account-name …"
        return (
            f"az cosmosdb sql database create {account} --name {self.database_name}; "
            f"az cosmosdb sql container create {account} --database-name {self.database_name} --name {self.name} "
            f"--partition-key-path {self.layout.partition_key} --partition-key-version {KEY_VERSION} "
            f"--idx '{json.dumps(self.layout.indexing_policy)}'"
        )


def _unknown(what: str, layout: Layout) -> StoreNotFoundError:
    return StoreNotFoundError(
        f"{what} does not exist, and a store with read_only=True makes none. Check the names and the endpoint; "
        f"{layout.made_by} creates what is missing, or docs/cosmos.md says how."
    )


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


def indexes(policy: Mapping[str, Any] | None, path: str) -> bool:
    """Whether a container's indexing policy names this path among those that are indexed, as ours does, or indexes all
    but some others, as the service's own does. What sorts by another one is refused. None: it is not there."""
    if policy is None:
        return True
    included = _included(policy)
    excluded = {str(mapping(each).get("path")) for each in listing(policy.get("excludedPaths"))}
    return path in included or ("/*" in included and not excluded & {"/*", path})


def names(policy: Mapping[str, Any] | None, path: str) -> bool:
    """Whether a container's indexing policy names this path among those that are indexed. None: it is not there."""
    return policy is None or path in _included(policy)


def _included(policy: Mapping[str, Any]) -> set[str]:
    return {str(mapping(each).get("path")) for each in listing(policy.get("includedPaths"))}


def _orders(index: object, *, turned: bool = False) -> list[tuple[str, bool]]:
    """The paths of a composite index, and whether each descends."""
    parts = map(mapping, listing(index))
    return [(str(part.get("path")), (part.get("order") == "descending") is not turned) for part in parts]
