"""The service's refusals by name, with the status, sub-status and words it has for them, so that tests name the cause.

Codes: the Java SDK's `docs/StatusCodes.md` and the `SubStatusCodes` of azure-cosmos 4.17.1. Words: Azure Cosmos DB's
documentation ("Forbidden exceptions", 28 August 2025; "Request rate too large", 18 July 2025) and answers of the
service quoted in issues: Azure/azure-cosmos-dotnet-v3 5281 and 4710, dotnet/efcore 32197,
microsoft/azure-tools-for-java 7123, Azure/azure-sdk-for-java 20288, adobe/aio-lib-state 77,
Azure/azure-cosmos-dotnet-v2 584 and 630, and Microsoft's own tests for 403/3. Words
for which no such answer was found are marked `# ours`. The service adds an activity id to most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .errors import CosmosError


@dataclass(frozen=True)
class NamedFault:
    """One way in which the service says no."""

    status: int
    substatus: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    names_container: bool = False
    """Whether `x-ms-alt-content-path` tells which container it is about, as an SDK expects that drops its session."""

    def error(self, *, retry_after_ms: int | None = None) -> CosmosError:
        headers = dict(self.headers)
        if retry_after_ms is not None:
            headers["x-ms-retry-after-ms"] = str(retry_after_ms)
        return CosmosError(self.status, self.message, substatus=self.substatus, headers=headers)


_WAIT: Final = {"x-ms-retry-after-ms": "10"}
_GONE: Final = "The requested resource is no longer available at the server."

THROTTLED: Final = NamedFault(
    429,
    3200,
    "Request rate is large. More Request Units may be needed, so no changes were made. Please retry this request "
    "later. Learn more: http://aka.ms/cosmosdb-error-429",
    _WAIT,
)
METADATA_THROTTLED: Final = NamedFault(
    429,
    3201,
    "The request did not complete due to a high rate of metadata requests. Increasing request units will have no "
    "impact and is not recommended. Please retry the request. https://aka.ms/CosmosDB/sql/errors/metadata-429",
    _WAIT,
)

NAMED_FAULTS: Final[Mapping[str, NamedFault]] = {
    # 400
    "malformed": NamedFault(400, 0, "The request payload is invalid. Ensure to provide a valid request payload."),
    "partition_key_mismatch": NamedFault(
        400,
        1001,
        "Partition key provided either doesn't correspond to definition in the collection or doesn't match partition "
        "key field values specified in the document.",
    ),
    "merge_enabled": NamedFault(
        400, 0, "Partition merge is enabled on the account, and the SDK has no support for it."
    ),  # ours
    # 403
    "write_forbidden": NamedFault(403, 3, "The requested operation cannot be performed at this region"),
    "account_not_found": NamedFault(403, 1008, "Database Account emulator does not exist"),
    "logical_partition_full": NamedFault(403, 1014, "Partition key reached maximum size of 20 GB"),
    "firewall": NamedFault(
        403,
        0,
        "Request originated from IP 127.0.0.1 through public internet. This is blocked by your Cosmos DB account "
        "firewall settings. More info: https://aka.ms/cosmosdb-tsg-forbidden",
    ),
    "identity_cannot_create": NamedFault(
        403,
        5300,
        "Request blocked by Auth emulator : The given request [POST /dbs] cannot be authorized by AAD token in data "
        "plane. Learn more: https://aka.ms/cosmos-native-rbac.",
    ),
    "identity_lacks_role": NamedFault(
        403,
        5301,
        "Request blocked by Auth emulator : Request is blocked because principal [emulator] does not have required "
        "RBAC permissions to perform action [Microsoft.DocumentDB/databaseAccounts/readMetadata] on resource [/]. "
        "Learn more: https://aka.ms/cosmos-native-rbac.",
    ),
    # 404
    "lagging_replica": NamedFault(
        404,
        0,
        "Entity with the specified id does not exist in the system. More info: https://aka.ms/cosmosdb-tsg-not-found",
    ),
    "read_session_not_available": NamedFault(
        404, 1002, "The read session is not available for the input session token.", names_container=True
    ),
    "owner_not_found": NamedFault(404, 1003, "Owner resource does not exist"),
    "container_create_in_progress": NamedFault(
        404, 1013, "Collection is not yet available for read. Please retry."
    ),  # ours
    # 408, 410
    "timeout": NamedFault(408, 0, "Request timed out."),  # ours
    "name_cache_stale": NamedFault(410, 1000, _GONE),
    "range_gone": NamedFault(410, 1002, "PartitionKeyRange with id '0' in collection '' doesn't exist."),
    "completing_split": NamedFault(
        410, 1007, "Partition key range is finishing split and is not available for reads/writes"
    ),
    "completing_migration": NamedFault(410, 1008, _GONE),
    # 413, 429, 449
    "too_large": NamedFault(413, 0, "Request size is too large"),
    "throttled": THROTTLED,
    "metadata_throttled": METADATA_THROTTLED,
    "service_throttled": NamedFault(
        429, 0, "The request did not complete due to a transient service error. Please retry the request.", _WAIT
    ),
    "retry_with": NamedFault(
        449, 0, "Conflicting request to resource has been attempted. Retry to avoid conflicts.", _WAIT
    ),
    # 5xx
    "internal_error": NamedFault(500, 0, "An unknown error occurred while processing this request."),  # ours
    "unavailable": NamedFault(503, 0, "Service is currently unavailable."),
    "region_out_of_capacity": NamedFault(503, 1007, "Service is currently unavailable."),
}
"""By name, for `faults.respond(name=…)` and for tests of what a client makes of each."""
