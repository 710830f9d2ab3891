"""The one exception that becomes a Cosmos error response: status, code, message, substatus.

Every refusal in the emulator is raised as this, wherever it is noticed, and turned into a response in one place.
"""

from __future__ import annotations

from collections.abc import Mapping

_CODES = {
    304: "NotModified",
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "RequestTimeout",
    409: "Conflict",
    410: "Gone",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    424: "FailedDependency",
    429: "TooManyRequests",
    449: "RetryWith",
    500: "InternalServerError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}

PARTITION_KEY_MISMATCH = 1001
PARTITION_KEY_RANGE_GONE = 1002
READ_SESSION_NOT_AVAILABLE = 1002
OWNER_NOT_FOUND = 1003
LOGICAL_PARTITION_FULL = 1014
BATCH_RESPONSE_TOO_LARGE = 3402
CROSS_PARTITION_QUERY_NOT_SERVABLE = 1004
CONTAINER_RID_MISMATCH = 1024


class CosmosError(Exception):
    """A refusal, as the service words it: status, substatus and a JSON body with `code` and `message`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        substatus: int = 0,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.substatus = substatus
        self.headers = dict(headers or {})
        self.details = dict(details or {})
        """What the body says beside code and message."""

    @property
    def code(self) -> str:
        return _CODES.get(self.status, "Error")


def bad_request(message: str, *, substatus: int = 0) -> CosmosError:
    return CosmosError(400, message, substatus=substatus)


def not_found(what: str, *, substatus: int = 0) -> CosmosError:
    return CosmosError(404, f"Entity with the specified id does not exist in the system: {what}.", substatus=substatus)


def conflict(what: str) -> CosmosError:
    return CosmosError(409, f"Entity with the specified id already exists in the system: {what}.")


def precondition_failed() -> CosmosError:
    return CosmosError(412, "Operation cannot be performed because one of the specified precondition is not met.")


def logical_partition_full(limit: int) -> CosmosError:
    """As the page "Troubleshoot forbidden exceptions" of the service's documentation has it (read in November 2026)."""
    return CosmosError(
        403, f"Partition key reached maximum size of {limit / 1024**3:g} GB", substatus=LOGICAL_PARTITION_FULL
    )


def range_gone(range_id: str) -> CosmosError:
    return CosmosError(
        410, f"The partition key range {range_id} is gone: it has split or merged.", substatus=PARTITION_KEY_RANGE_GONE
    )


def unsupported(feature: str) -> CosmosError:
    """What the service can do and this emulator cannot: always said, never approximated."""
    return CosmosError(501, f"The emulator does not support {feature}.")
