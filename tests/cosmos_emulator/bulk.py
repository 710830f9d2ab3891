"""The bulk form of a batch: up to 100 operations on one physical partition, each for itself.

Facts: @azure/cosmos 4.9.3 (`bulk/`, read in November 2026) names the range, sends a key in each operation, and
expects one entry for each, in order; after a failure the rest are 424 unless the request continues on errors. An
account answered 207 with the failures in place (recorded, October 2026). What one bulk request writes has one place in
the change feed (documentation, "Change feed modes", 8 April 2025), so it takes one LSN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .batch import BatchResult, Room, checked_operations, failure, run_operation, success
from .charges import REFUSED
from .errors import CosmosError, bad_request, range_gone
from .partition_keys import Components
from .storage import Container, Partition
from .transactions import Transaction


def run_bulk(
    container: Container,
    operations: Any,
    *,
    range_id: str | None,
    default: Components | None,
    continues: bool,
    minimal: bool,
    strong: bool = False,
) -> BatchResult:
    """`default` is the key of operations that name none; the range follows from it where the request names none."""
    partition = bulk_partition(container, range_id, default)
    bulk = _Bulk(container, partition, default, strong)
    results: list[dict[str, Any]] = []
    room = Room(minimal=minimal)
    failed = False
    for operation in checked_operations(operations):
        if failed and not continues:
            results.append(failure(CosmosError(424, ""), 0.0))
            continue
        try:
            transaction = bulk.transaction(operation)
            outcome = transaction.attempt(
                lambda operation=operation, to=transaction: room.take(run_operation(to, operation))
            )
            results.append(success(outcome, minimal=minimal))
        except CosmosError as error:
            results.append(failure(error, container.prices.other(REFUSED)))
            failed = True
    return BatchResult(207 if failed else 200, results, bulk.commit(), partition.id)


class _Bulk:
    """One transaction for each logical partition, so that operations see what those before them did."""

    def __init__(self, container: Container, partition: Partition, default: Components | None, strong: bool) -> None:
        self._container = container
        self._partition = partition
        self._default = default
        self._strong = strong
        self._transactions: dict[str, Transaction] = {}

    def transaction(self, operation: Mapping[str, Any]) -> Transaction:
        transaction = Transaction(self._container, self._key(operation), strong=self._strong)
        if transaction.partition is not self._partition:
            raise range_gone(self._partition.id)  # a client with an old map of the ranges
        return self._transactions.setdefault(transaction.key, transaction)

    def commit(self) -> int:
        changes = {key: each.changes for key, each in self._transactions.items() if each.changes}
        return self._partition.commit_all(changes) if changes else self._partition.lsn

    def _key(self, operation: Mapping[str, Any]) -> Components:
        given = operation.get("partitionKey")
        if given is None and self._default is not None:
            return self._default
        if given is not None and not isinstance(given, str):
            raise bad_request("The partition key of a bulk operation is a text, as in the header of a request.")
        return self._container.definition.from_header(given)


def bulk_partition(container: Container, range_id: str | None, default: Components | None) -> Partition:
    """The one partition of a request."""
    if range_id:
        return container.partition(range_id)
    if default is None:
        raise bad_request("A batch that is not atomic needs x-ms-documentdb-partitionkeyrangeid.")
    return container.locate(default)[0]
