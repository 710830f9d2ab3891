"""The atomic batch: up to 100 operations on one logical partition, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def run_batch(container: Container, components: Components, operations: Any, *, minimal: bool) -> BatchResult:
    if not isinstance(operations, list) or not operations:
        raise bad_request("Batch request has no operations.")
    if len(operations) > MOST_OPERATIONS:
        raise bad_request(f"Batch request has more operations than what is supported. At most {MOST_OPERATIONS}.")
    transaction = Transaction(container, components)
    results: list[dict[str, Any]] = []
    for operation in operations:
        try:
            results.append(_success(_run(transaction, operation), minimal=minimal))
        except CosmosError as error:
            failed = _failure(error.status, error.substatus, 1.0)
            before = [_failure(424, 0, result["requestCharge"]) for result in results]
            after = [_failure(424, 0, 0.0) for _ in range(len(operations) - len(results) - 1)]
            return BatchResult(207, [*before, failed, *after], transaction.partition.lsn, transaction.partition.id)
    return BatchResult(200, results, transaction.commit(), transaction.partition.id)


def _run(transaction: Transaction, operation: Any) -> Outcome:
    if not isinstance(operation, Mapping):
        raise bad_request("A batch operation is a JSON object.")
    conditions = Conditions(operation.get("ifMatch"), operation.get("ifNoneMatch"))
    kind, identifier, body = operation.get("operationType"), operation.get("id"), operation.get("resourceBody")
    content: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    match kind:
        case "Create":
            return transaction.create(content, conditions)
        case "Upsert":
            return transaction.upsert(content, conditions)
        case "Read":
            return transaction.read(str(identifier), conditions)
        case "Replace":
            return transaction.replace(str(identifier), content, conditions)
        case "Patch":
            return transaction.patch(str(identifier), content, conditions)
        case "Delete":
            return transaction.delete(str(identifier), conditions)
        case _:
            raise bad_request(f"The batch operation {kind!r} is not known.")


def _success(outcome: Outcome, *, minimal: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"statusCode": outcome.status, "requestCharge": round(outcome.charge, 2)}
    if outcome.item is not None:
        result["eTag"] = outcome.item.etag
        if outcome.status != 304 and not minimal:
            result["resourceBody"] = outcome.item.body
    return result


def _failure(status: int, substatus: int, charge: float) -> dict[str, Any]:
    return {"statusCode": status, "subStatusCode": substatus, "requestCharge": charge}
