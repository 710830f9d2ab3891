"""What the service can do and this server cannot: refused by name, in whichever form a request asks for it.

A path, a header, a property of a body. A path that the service does not have either is a bad request, and a verb that a
resource does not take is 405; neither is said to be a missing feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import CosmosError, bad_request, unsupported

_PATHS: Final[Mapping[str, str]] = {
    "sprocs": "stored procedures",
    "triggers": "triggers",
    "udfs": "user-defined functions",
    "udts": "user-defined types",
    "users": "users",
    "permissions": "permissions",
    "clientencryptionkeys": "client encryption keys",
    "attachments": "attachments",
    "media": "attachments",
    "addresses": "direct mode",
    "schemas": "schemas",
    "snapshots": "snapshots",
    "operations": "operations on a container",
    "systemdocuments": "system documents",
    "partitionedsystemdocuments": "system documents",
    "roledefinitions": "role definitions",
    "roleassignments": "role assignments",
    "interopusers": "users",
    "encryptionscopes": "encryption scopes",
    "throughputbuckets": "throughput buckets",
}
_KNOWN: Final = frozenset({"dbs", "colls", "docs", "pkranges", "conflicts", "offers"})
ASKING_HEADERS: Final[Mapping[str, str]] = {
    "x-ms-documentdb-pre-trigger-include": "triggers",
    "x-ms-documentdb-pre-trigger-exclude": "triggers",
    "x-ms-documentdb-post-trigger-include": "triggers",
    "x-ms-documentdb-post-trigger-exclude": "triggers",
    "x-ms-indexing-directive": "indexing directives",
    "x-ms-cosmos-populatequeryadvice": "query advice",
    "x-ms-documentdb-script-enable-logging": "stored procedures",
    "x-ms-cosmos-is-client-encrypted": "client-side encryption",
    "x-ms-cosmos-migrate-offer-to-autopilot": "migrating an offer",
    "x-ms-cosmos-migrate-offer-to-manual-throughput": "migrating an offer",
    "x-ms-cosmos-physical-partition-throughput-info": "throughput by physical partition",
    "x-ms-offer-is-ru-per-minute-throughput-enabled": "request units by the minute",
    "x-ms-offer-type": "offers of other types than throughput",
    "x-ms-cosmos-populate-analytical-migration-progress": "the analytical store",
    "x-ms-cosmos-include-tentative-writes": "writes in several regions",
    "x-ms-cosmos-force-sidebyside-indexmigration": "index migration",
    "x-ms-cosmos-collectiontruncate": "truncating a container",
}
"""Headers that ask for something unless they say false."""
CONTAINER_FEATURES: Final[Mapping[str, str]] = {
    "analyticalStorageTtl": "the analytical store (analyticalStorageTtl)",
    "analyticalStoreTimeToLiveInSeconds": "the analytical store (analyticalStoreTimeToLiveInSeconds)",
    "clientEncryptionPolicy": "client-side encryption (clientEncryptionPolicy)",
    "computedProperties": "computed properties (computedProperties)",
    "dataMaskingPolicy": "data masking (dataMaskingPolicy)",
    "fullTextPolicy": "full-text search (fullTextPolicy)",
    "geospatialConfig": "spatial search (geospatialConfig)",
    "materializedViewDefinition": "materialized views (materializedViewDefinition)",
    "materializedViews": "materialized views (materializedViews)",
    "restoreParameters": "restoring a container (restoreParameters)",
    "schemaPolicy": "a schema policy (schemaPolicy)",
    "throughputBuckets": "throughput buckets (throughputBuckets)",
    "vectorEmbeddingPolicy": "vector search (vectorEmbeddingPolicy)",
}
INDEX_FEATURES: Final[Mapping[str, str]] = {
    "fullTextIndexes": "full-text indexes (fullTextIndexes)",
    "spatialIndexes": "spatial indexes (spatialIndexes)",
    "vectorIndexes": "vector indexes (vectorIndexes)",
}
_PRIORITIES: Final = frozenset({"low", "high"})


def check_path(method: str, types: tuple[str, ...], known_here: bool) -> None:
    """Refuses a request whose path and verb mean no operation here."""
    if missing := [name for name in types if name in _PATHS]:
        raise unsupported(f"{_PATHS[missing[0]]} ({missing[0]})")
    if not types or not set(types) <= _KNOWN or not known_here:
        raise bad_request("Request url is invalid.")
    raise CosmosError(405, f"The verb {method} is not allowed for this resource.")


def check_headers(headers: Mapping[str, str]) -> None:
    for name, feature in ASKING_HEADERS.items():
        if name in headers and headers[name].lower() != "false":
            raise unsupported(feature)


def check_priority(headers: Mapping[str, str]) -> None:
    """Priorities and throughput buckets make no difference here, and have to be valid all the same."""
    if (level := headers.get("x-ms-cosmos-priority-level")) is not None and level.lower() not in _PRIORITIES:
        raise bad_request(f"The priority level {level!r} is not valid: it is Low or High.")
    bucket = headers.get("x-ms-cosmos-throughput-bucket")
    if bucket is not None and bucket not in {"1", "2", "3", "4", "5"}:
        raise bad_request(f"The throughput bucket {bucket!r} is not valid: it is a number from 1 to 5.")


def check_settings(given: Mapping[str, Any], features: Mapping[str, str], known: frozenset[str], what: str) -> None:
    """Refuses a setting that asks for a feature by its name, and one that nobody knows as well."""
    for name in sorted(name for name in given if given[name] and not name.startswith("_") and name not in known):
        raise unsupported(features.get(name, f"{what} with {name}"))
