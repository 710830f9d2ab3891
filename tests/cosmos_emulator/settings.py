"""The settings of a container, checked for their shape before anything reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import CosmosError, bad_request
from .refusals import CONTAINER_FEATURES, check_settings
from .versions import retention_of

CONTAINER_SETTINGS: Final = frozenset(
    {
        "id",
        "partitionKey",
        "indexingPolicy",
        "defaultTtl",
        "uniqueKeyPolicy",
        "conflictResolutionPolicy",
        "changeFeedPolicy",
    }
)
LONGEST_TTL: Final = 2**31 - 1
_MOST_UNIQUE_KEYS, _MOST_UNIQUE_PATHS = 10, 16
"""Limits of "Service quotas" (Azure Cosmos DB's documentation, 2025)."""


def check_container(body: Mapping[str, Any]) -> None:
    check_settings(body, CONTAINER_FEATURES, CONTAINER_SETTINGS, "containers")
    retention_of(body)
    ttl = body.get("defaultTtl")
    if ttl is not None and not is_ttl(ttl):
        raise bad_request(f"The value of defaultTtl '{ttl}' is invalid. It is -1 or a positive number of seconds.")
    _check_unique_keys(body.get("uniqueKeyPolicy"))
    _check_ttl_and_index(body)
    policy = body.get("conflictResolutionPolicy")
    if policy is not None and not isinstance(policy, dict):
        raise bad_request("The conflict resolution policy is not valid.")


def check_unchanged(body: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Refuses a change of what a container has for good; one that is left out is a change as well.

    The words are the service's: for unique keys in Azure/azure-sdk-for-python #40070, for the partition key in answers
    to users (read in November 2026).
    """
    if _key(body.get("partitionKey")) != _key(old["partitionKey"]):
        raise bad_request("Document collection partition key cannot be changed")
    if _unique_keys(body) != _unique_keys(old):
        raise CosmosError(
            403,
            "The unique index cannot be modified. To change the unique index, remove the collection and re-create a "
            "new one.",
        )


def _key(definition: Any) -> tuple[Any, ...] | None:
    if not isinstance(definition, Mapping):
        return None
    return definition.get("paths"), definition.get("kind", "Hash"), definition.get("version", 1)


def _unique_keys(body: Mapping[str, Any]) -> list[Any]:
    return [key.get("paths") for key in (body.get("uniqueKeyPolicy") or {}).get("uniqueKeys") or []]


def _check_ttl_and_index(body: Mapping[str, Any]) -> None:
    policy = body.get("indexingPolicy")
    mode = policy.get("indexingMode") if isinstance(policy, Mapping) else None
    if body.get("defaultTtl") is not None and isinstance(mode, str) and mode.lower() == "none":
        raise bad_request("Indexing mode value cannot be 'none' when 'defaultTtl' is specified in the collection")


def is_ttl(value: Any) -> bool:
    """-1, or a positive number of seconds that a 32-bit integer holds."""
    return isinstance(value, int) and not isinstance(value, bool) and (value == -1 or 0 < value <= LONGEST_TTL)


def is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and len(value) > 1


def objects(value: Any, what: str) -> list[dict[str, Any]]:
    """A list of JSON objects; [] where there is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise bad_request(f"{what} must be a list of objects.")
    return value


def _check_unique_keys(policy: Any) -> None:
    if policy is None:
        return
    if not isinstance(policy, dict):
        raise bad_request("The unique key policy is not valid.")
    keys = objects(policy.get("uniqueKeys"), "uniqueKeys")
    for key in keys:
        paths = key.get("paths")
        if not isinstance(paths, list) or not paths or not all(map(is_path, paths)):
            raise bad_request("A unique key needs paths.")
        if len(paths) > _MOST_UNIQUE_PATHS:
            raise bad_request(f"A unique key has at most {_MOST_UNIQUE_PATHS} paths.")
    if len(keys) > _MOST_UNIQUE_KEYS:
        raise bad_request(f"A container has at most {_MOST_UNIQUE_KEYS} unique keys.")
