"""The atomic batch: up to 100 operations on one logical partition, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .charges import REFUSED
from .errors import CosmosError, bad_request
from .partition_keys import Components
from .storage import Container
from .transactions import Conditions, Outcome, Transaction

MOST_OPERATIONS = 100


class BatchResult:
    """What a batch answers: one entry for each operation, and a status for the whole."""

    def __init__(self, status: int, operations: list[dict[str, Any]], lsn: int, partition_id: str) -> None:
        self.status = status
        self.operations = operations
        self.lsn = lsn
        self.partition_id = partition_id

    @property
    def charge(self) -> float:
        return sum(operation["requestCharge"] for operation in self.operations)


def run_batch(
    container: Container, components: Components, operations: Any, *, minimal: bool, strong: bool = False
) -> BatchResult:
    checked_operations(operations)
    transaction = Transaction(container, components, strong=strong)
    results: list[dict[str, Any]] = []
    for operation in operations:
        try:
            results.append(success(run_operation(transaction, operation), minimal=minimal))
        except CosmosError as error:
            dependent = CosmosError(424, "")
            failed = failure(error, container.prices.other(REFUSED))
            before = [failure(dependent, result["requestCharge"]) for result in results]
            after = [failure(dependent, 0.0) for _ in range(len(operations) - len(results) - 1)]
            return BatchResult(207, [*before, failed, *after], transaction.partition.lsn, transaction.partition.id)
    return BatchResult(200, results, transaction.commit(), transaction.partition.id)


def checked_operations(operations: Any) -> list[Mapping[str, Any]]:
    if not isinstance(operations, list) or not operations:
        raise bad_request("Batch request has no operations.")
    if len(operations) > MOST_OPERATIONS:
        raise bad_request(f"Batch request has more operations than what is supported. At most {MOST_OPERATIONS}.")
    if not all(isinstance(operation, Mapping) for operation in operations):
        raise bad_request("The operations of a batch are objects.")
    return operations


def run_operation(transaction: Transaction, operation: Mapping[str, Any]) -> Outcome:
    etags = operation.get("ifMatch"), operation.get("ifNoneMatch")
    if not all(etag is None or isinstance(etag, str) for etag in etags):
        raise bad_request("The etag of a batch operation is not a string.")
    conditions = Conditions(*etags)
    match operation.get("operationType"):
        case "Create":
            return transaction.create(_body(operation), conditions)
        case "Upsert":
            return transaction.upsert(_body(operation), conditions)
        case "Read":
            return transaction.read(_id(operation), conditions)
        case "Replace":
            return transaction.replace(_id(operation), _body(operation), conditions)
        case "Patch":
            return transaction.patch(_id(operation), operation.get("resourceBody"), conditions)
        case "Delete":
            return transaction.delete(_id(operation), conditions)
        case kind:
            raise bad_request(f"The batch operation {kind!r} is not known.")


def _id(operation: Mapping[str, Any]) -> str:
    if not isinstance(operation.get("id"), str):
        raise bad_request(f"The batch operation {operation.get('operationType')} needs the id of an item.")
    return operation["id"]


def _body(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(operation.get("resourceBody"), Mapping):
        raise bad_request(f"The batch operation {operation.get('operationType')} needs the body of an item.")
    return operation["resourceBody"]


def success(outcome: Outcome, *, minimal: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"statusCode": outcome.status, "requestCharge": round(outcome.charge, 2)}
    if outcome.item is not None:
        result["eTag"] = outcome.item.etag
        if outcome.status != 304 and not minimal:
            result["resourceBody"] = outcome.item.body
    return result


def failure(error: CosmosError, charge: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "statusCode": error.status,
        "subStatusCode": error.substatus,
        "requestCharge": charge,
    }
    if pause := error.headers.get("x-ms-retry-after-ms"):
        result["retryAfterMilliseconds"] = int(pause)
    return result
