"""The atomic batch: up to 100 operations on one logical partition, all of them or none.

An answer has at most 4 MB. The operation whose result finds no room is 413 with substatus 3402, which the bulk retry
policies of the SDKs for .NET and JavaScript know as "batch response size exceeded" (read in November 2026). That it is
not carried out, and that an atomic batch fails by it, is our reading, and the stricter one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .charges import REFUSED
from .errors import BATCH_RESPONSE_TOO_LARGE, CosmosError, bad_request
from .partition_keys import Components
from .storage import Container
from .transactions import Conditions, Outcome, Transaction

MOST_OPERATIONS = 100
LARGEST_ANSWER = 4 * 1024 * 1024


class Room:
    """What is left of an answer, of which `minimal` ones take no bodies."""

    def __init__(self, *, minimal: bool) -> None:
        self.minimal = minimal
        self._left = LARGEST_ANSWER

    def take(self, outcome: Outcome) -> Outcome:
        size = len(json.dumps(success(outcome, minimal=True)))
        if outcome.item is not None and outcome.status != 304 and not self.minimal:
            size += outcome.item.size
        if size > self._left:
            raise CosmosError(
                413, "Response size is too large: it has at most 4 MB.", substatus=BATCH_RESPONSE_TOO_LARGE
            )
        self._left -= size
        return outcome


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
    room = Room(minimal=minimal)
    for operation in operations:
        try:
            results.append(success(room.take(run_operation(transaction, operation)), minimal=minimal))
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
