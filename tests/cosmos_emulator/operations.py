"""Each operation of the protocol: a `Call` in, a `Reply` out, over the account's databases, containers and items."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import charges
from .account import Account, Database
from .batch import BatchResult, run_batch
from .budgets import Budgets
from .bulk import bulk_partition, run_bulk
from .empty_pages import EmptyPages
from .errors import (
    CONTAINER_RID_MISMATCH,
    CosmosError,
    bad_request,
    not_found,
    unsupported,
)
from .feed import read_feed, starting_lsn, starting_time
from .index_metrics import index_metrics, index_metrics_v2, uses_index
from .partition_keys import FULL_MAX, FULL_MIN, Components
from .queries import Page, Segment, run_page, scope_of
from .query_requests import (
    check_crossing,
    check_servable,
    key_ranges,
    query_plan,
    query_text,
    read_parameters,
    read_query,
)
from .replicas import Replicas
from .routes import Call
from .sessions import TOLD_WITH_A_SESSION, check_session, seen_lsn
from .sql import check_compositions, compile_query, parse_query
from .sql.nodes import Query, path_of
from .storage import Container, Item, Partition
from .switches import Switches
from .transactions import Conditions, Outcome, Transaction
from .versions import MODE, read_versions

_EFFECTIVE_KEY = re.compile(r"[0-9A-Fa-f]*")
_GENERATION = re.compile(r"[0-9]{1,18}")
_INDEX_METRICS = {
    "x-ms-cosmos-populateindexmetrics": index_metrics,
    "x-ms-cosmos-populateindexmetrics-v2": index_metrics_v2,
}


@dataclass
class Reply:
    status: int
    body: bytes = b""
    charge: float = charges.METADATA
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class _Plain:
    """A database, container or offer as a document that a query can run over."""

    body: dict[str, Any]
    number: int


class Operations:
    """The protocol's verbs. `endpoint` is what the account says of itself."""

    def __init__(self, account: Account, endpoint: Callable[[], str], switches: Switches, budgets: Budgets) -> None:
        self._account = account
        self._endpoint = endpoint
        self._switches = switches
        self._replicas = Replicas(switches)
        self._empty_pages = EmptyPages(switches)
        self._budgets = budgets

    def perform(self, call: Call) -> Reply:
        call.lagging = self._replicas.lags(call.kind, strong=call.strong)
        try:
            return getattr(self, call.kind)(call)
        except RecursionError:
            raise unsupported("expressions nested this deeply") from None

    # ---- account, databases, containers

    def account(self, call: Call) -> Reply:
        location = {"name": "Emulator", "databaseAccountEndpoint": self._endpoint()}
        replication = {"asyncReplication": False, "minReplicaSetSize": 1, "maxReplicasetSize": 1}
        return _json(
            200,
            {
                "id": "emulator",
                "_rid": "emulator",
                "_self": "",
                "_dbs": "//dbs/",
                "addresses": "//addresses/",
                "media": "//media/",
                "writableLocations": [location],
                "readableLocations": [location],
                "enableMultipleWriteLocations": False,
                "userReplicationPolicy": replication,
                "systemReplicationPolicy": replication,
                "userConsistencyPolicy": {"defaultConsistencyLevel": self._switches.consistency},
                "readPolicy": {"primaryReadCoefficient": 1, "secondaryReadCoefficient": 1},
                "queryEngineConfiguration": "{}",
            },
            charge=0.0,
        )

    def create_database(self, call: Call) -> Reply:
        return _resource(201, self._account.create_database(call.document, call.headers).document)

    def read_database(self, call: Call) -> Reply:
        return _resource(200, self._database(call).document)

    def delete_database(self, call: Call) -> Reply:
        self._account.delete_database(self._database(call))
        return Reply(204)

    def list_databases(self, call: Call) -> Reply:
        documents = [database.document for database in self._account.known_databases()]
        return self._listing(call, "Databases", documents, parse_query("SELECT * FROM c"))

    def query_databases(self, call: Call) -> Reply:
        documents = [database.document for database in self._account.known_databases()]
        return self._listing(call, "Databases", documents, read_query(call))

    def create_container(self, call: Call) -> Reply:
        container = self._account.create_container(self._database(call), call.document, call.headers)
        return _resource(201, container.document)

    def read_container(self, call: Call) -> Reply:
        reply = _resource(200, self._container(call).document)
        if call.flag("x-ms-documentdb-populatequotainfo"):  # nothing here is indexed later than it is written
            reply.headers["x-ms-documentdb-collection-index-transformation-progress"] = "100"
        return reply

    def replace_container(self, call: Call) -> Reply:
        database, container = self._database(call), self._container(call)
        _conditions(call).check_write(_etag_holder(container))
        self._account.replace_container(database, container, call.document)
        return _resource(200, container.document)

    def delete_container(self, call: Call) -> Reply:
        self._account.delete_container(self._database(call), self._container(call))
        return Reply(204)

    def list_containers(self, call: Call) -> Reply:
        documents = [container.document for container in self._account.known_containers(self._database(call))]
        return self._listing(call, "DocumentCollections", documents, parse_query("SELECT * FROM c"))

    def query_containers(self, call: Call) -> Reply:
        documents = [container.document for container in self._account.known_containers(self._database(call))]
        return self._listing(call, "DocumentCollections", documents, read_query(call))

    def read_ranges(self, call: Call) -> Reply:
        """The physical partitions: those younger than the etag, or 304. Clients read this until the 304."""
        container = self._container(call)
        etag = f'"{container.generation}"'
        since = _generation(call.headers.get("If-None-Match"))
        if since >= container.generation:
            return Reply(304, charge=0.0, headers={"etag": etag})
        ranges = [_range(container, partition) for partition in container.live() if partition.born > since or not since]
        return _json(
            200,
            {"_rid": container.rid, "PartitionKeyRanges": ranges, "_count": len(ranges)},
            charge=0.0,
            headers={"etag": etag, "x-ms-item-count": str(len(ranges))},
        )

    # ---- conflicts: of one region there are none

    def list_conflicts(self, call: Call) -> Reply:
        self._container(call)
        return self._listing(call, "Conflicts", [], parse_query("SELECT * FROM c"))

    def query_conflicts(self, call: Call) -> Reply:
        self._container(call)
        if "x-ms-documentdb-partitionkey" not in call.headers:
            check_crossing(call)
        return self._listing(call, "Conflicts", [], read_query(call))

    def read_conflict(self, call: Call) -> Reply:
        raise not_found(call.segment(5))

    def delete_conflict(self, call: Call) -> Reply:
        raise not_found(call.segment(5))

    # ---- offers

    def list_offers(self, call: Call) -> Reply:
        return self._listing(call, "Offers", self._account.listed_offers(), parse_query("SELECT * FROM c"))

    def query_offers(self, call: Call) -> Reply:
        return self._listing(call, "Offers", self._account.listed_offers(), read_query(call))

    def read_offer(self, call: Call) -> Reply:
        offers = [offer for offer in self._account.listed_offers() if offer["_rid"] == call.segment(1)]
        if not offers:
            raise not_found(call.segment(1))
        return _resource(200, offers[0])

    def replace_offer(self, call: Call) -> Reply:
        return _resource(200, self._account.replace_offer(call.segment(1), call.document))

    # ---- single items

    def create_item(self, call: Call) -> Reply:
        return self._write(call, lambda transaction: transaction.create(call.document, _conditions(call)))

    def upsert_item(self, call: Call) -> Reply:
        return self._write(call, lambda transaction: transaction.upsert(call.document, _conditions(call)))

    def read_item(self, call: Call) -> Reply:
        return self._write(call, lambda transaction: transaction.read(self._id(call), _conditions(call)))

    def replace_item(self, call: Call) -> Reply:
        return self._write(
            call, lambda transaction: transaction.replace(self._id(call), call.document, _conditions(call))
        )

    def patch_item(self, call: Call) -> Reply:
        return self._write(call, lambda transaction: transaction.patch(self._id(call), call.json, _conditions(call)))

    def delete_item(self, call: Call) -> Reply:
        return self._write(call, lambda transaction: transaction.delete(self._id(call), _conditions(call)))

    def batch(self, call: Call) -> Reply:
        container = self._container(call)
        result = self._bulk(call, container) if call.is_bulk else self._batch(call, container)
        reply = _json(result.status, result.operations, charge=result.charge)
        reply.headers |= _session(call, container, result.partition_id, result.lsn)
        return reply

    def _batch(self, call: Call, container: Container) -> BatchResult:
        key = _key(call, container)
        partition = container.locate(key)[0]
        self._budgets.admit(container.rid, partition.id)
        self._served(call, container, partition)
        return run_batch(container, key, call.json, minimal=call.minimal, strong=call.strong)

    def _bulk(self, call: Call, container: Container) -> BatchResult:
        default = _key(call, container) if "x-ms-documentdb-partitionkey" in call.headers else None
        range_id = call.headers.get("x-ms-documentdb-partitionkeyrangeid")
        partition = bulk_partition(container, range_id, default)
        self._budgets.admit(container.rid, partition.id)
        self._served(call, container, partition)
        return run_bulk(
            container,
            call.json,
            range_id=range_id,
            default=default,
            continues=call.flag("x-ms-cosmos-batch-continue-on-error"),
            minimal=call.minimal,
            strong=call.strong,
        )

    def delete_items_of_key(self, call: Call) -> Reply:
        """Everything with one partition key, at once; the service takes its time in the background."""
        if call.segment(5) != "partitionkeydelete":
            raise unsupported(f"the operation {call.segment(5)}")
        container = self._container(call)
        transaction = Transaction(container, _key(call, container))
        self._served(call, container, transaction.partition)
        self._budgets.admit(container.rid, transaction.partition.id)
        identifiers = list(transaction.partition.logical(transaction.key))
        cost = sum(transaction.delete(identifier, Conditions()).charge for identifier in identifiers)
        lsn = transaction.commit()
        return Reply(200, charge=cost, headers=_session(call, container, transaction.partition.id, lsn))

    def _write(self, call: Call, operation: Callable[[Transaction], Outcome]) -> Reply:
        """A transaction of one operation."""
        container = self._container(call)
        transaction = Transaction(container, _key(call, container), strong=call.strong)
        self._budgets.admit(container.rid, transaction.partition.id)
        transaction.partition = self._served(call, container, transaction.partition)
        try:
            outcome = operation(transaction)
        except CosmosError as error:
            if error.status in TOLD_WITH_A_SESSION:
                error.headers |= _session(call, container, transaction.partition.id, transaction.partition.lsn)
            raise
        lsn = transaction.commit()
        reply = Reply(
            outcome.status, charge=outcome.charge, headers=_session(call, container, transaction.partition.id, lsn)
        )
        if outcome.item is not None:
            reply.headers["etag"] = outcome.item.etag
            silent = outcome.status == 304 or (call.minimal and call.method != "GET")
            reply.body = b"" if silent else outcome.item.raw
        return reply

    def _id(self, call: Call) -> str:
        """The item's id; a link made of resource ids names it by its rid."""
        name = call.segment(5)
        container = self._container(call)
        if call.segment(3) != container.rid:
            return name
        partition, key = container.locate(_key(call, container))
        items = partition.logical(key)
        return next((item.id for item in items.values() if item.body["_rid"] == name), name)

    # ---- queries and feeds

    def query_plan(self, call: Call) -> Reply:
        container, query, parameters = self._container(call), read_query(call), read_parameters(call)
        self._check_order(container, query)
        features = call.headers.get("x-ms-cosmos-supported-query-features", "").replace(" ", "").split(",")
        return _json(200, query_plan(container, query, parameters, features), charge=0.0)

    def query(self, call: Call) -> Reply:
        return self._run(call, read_query(call))

    def list_items(self, call: Call) -> Reply:
        return self._run(call, parse_query("SELECT * FROM c"))

    def _run(self, call: Call, query: Query) -> Reply:
        container, parameters = self._container(call), read_parameters(call)
        self._check_order(container, query)
        if "x-ms-documentdb-partitionkeyrangeid" not in call.headers:
            check_compositions(query)
        segments = self._segments(call, container, query)
        drops = not container.policy.keeps_undefined([path_of(item.expression) or () for item in query.order_by])
        compiled = compile_query(query, parameters, drops_undefined=drops)
        begun = time.perf_counter()
        continuation, scope = call.headers.get("x-ms-continuation"), scope_of(container.rid, query_text(call))
        page = run_page(compiled, segments, continuation, call.page_limit, scope)
        if page.partition is not None:
            self._budgets.admit(container.rid, page.partition.id)
        reply = _page_reply(call, container, page)
        if call.flag("x-ms-documentdb-populatequerymetrics"):
            elapsed, used = (time.perf_counter() - begun) * 1000, uses_index(query, container.policy)
            reply.headers["x-ms-documentdb-query-metrics"] = page.metrics(elapsed, uses_index=used)
        keys = container.definition.parts if "x-ms-documentdb-partitionkey" in call.headers else ()
        for asked, metrics in _INDEX_METRICS.items():
            if page.rows and call.flag(asked):
                reply.headers["x-ms-cosmos-index-utilization"] = metrics(query, container.policy, keys)
        return reply

    def _segments(self, call: Call, container: Container, query: Query) -> list[Segment]:
        """The partitions a request covers: by partition key, by range, or all that the filter leaves."""
        if "x-ms-documentdb-partitionkey" in call.headers:
            return self._key_segments(call, container, _key(call, container))
        if range_id := call.headers.get("x-ms-documentdb-partitionkeyrangeid"):
            return [_segment(self._served(call, container, container.partition(range_id)), *_epk_filter(call))]
        if call.kind == "list_items":
            return [_segment(self._served(call, container, partition)) for partition in container.live()]
        parameters = read_parameters(call)
        ranges = key_ranges(container, query, parameters)
        if ranges == [(FULL_MIN, FULL_MAX)]:
            check_crossing(call)
        check_servable(container, query, parameters)
        return [_segment(self._served(call, container, partition)) for partition in _covering(container, ranges)]

    def _key_segments(self, call: Call, container: Container, components: Components) -> list[Segment]:
        if container.definition.is_prefix(components):
            low, high = container.definition.effective_range(components)
            covered = container.overlapping(low, high)
            return [_segment(self._served(call, container, partition), low, high) for partition in covered]
        owner, key = container.locate(components)
        partition = self._served(call, container, owner)
        return [Segment(partition.low, partition.high, lambda: partition.logical(key).values(), partition)]

    def change_feed(self, call: Call) -> Reply:
        mode = call.headers["A-IM"].lower()
        if mode not in {"incremental feed", MODE}:
            raise unsupported(f"the change feed mode {call.headers['A-IM']!r}")
        container = self._container(call)
        present, wanted = self._feed_scope(call, container)
        self._budgets.admit(container.rid, present.id)
        partition = self._served(call, container, present)
        if mode == MODE:
            return self._versions(call, container, present, wanted)
        since = call.headers.get("If-Modified-Since")
        after, moment = starting_lsn(call.headers.get("If-None-Match"), since, partition), starting_time(since)
        full = read_feed(partition, after=after, limit=call.page_limit, since=moment, wanted=wanted)
        page = self._empty_pages.instead_of(full, after=after, from_time=moment is not None)
        headers = {"etag": page.etag, **_session(call, container, partition.id, partition.lsn)}
        cost = container.prices.read(charges.change_feed([item.size for item in page.items]), strong=call.strong)
        if not full.items:
            return Reply(304, charge=cost, headers=headers)
        body = _feed(container.rid, "Documents", page.encoded())
        return Reply(200, body, cost, {**headers, "x-ms-item-count": str(len(page.items))})

    def _versions(self, call: Call, container: Container, partition: Partition, wanted: Callable[[Any], bool]) -> Reply:
        page = read_versions(partition, call.headers, call.page_limit, wanted)
        headers = {"etag": f'"{page.lsn}"', **_session(call, container, partition.id, partition.lsn)}
        sizes = [version.current.size if version.current else 0 for version in page.versions]
        cost = container.prices.read(charges.change_feed(sizes), strong=call.strong)
        if not page.versions:
            return Reply(304, charge=cost, headers=headers)
        rows = [version.encoded(container.definition.parts) for version in page.versions]
        headers["x-ms-item-count"] = str(len(rows))
        return Reply(200, _feed(container.rid, "Documents", rows), cost, headers)

    def _feed_scope(self, call: Call, container: Container) -> tuple[Partition, Callable[[Any], bool]]:
        """The one partition a feed request reads, and which of its items."""
        low, high = _epk_filter(call)
        if "x-ms-documentdb-partitionkey" in call.headers:
            key_low, key_high = container.definition.effective_range(_key(call, container))
            low, high = max(low, key_low), min(high, key_high)
        if range_id := call.headers.get("x-ms-documentdb-partitionkeyrangeid"):
            partition = container.partition(range_id)
        elif len(partitions := container.overlapping(low, high)) == 1:
            partition = partitions[0]
        else:
            raise bad_request("A change feed request over several partitions must name one partition key range.")
        return partition, lambda item: low <= item.effective_key < high

    # ---- shared

    def _database(self, call: Call) -> Database:
        return self._account.known(self._account.database(call.segment(1)), call.segment(1))

    def _container(self, call: Call) -> Container:
        container = self._account.known(self._account.container(self._database(call), call.segment(3)), call.segment(3))
        intended = call.headers.get("x-ms-cosmos-intended-collection-rid")
        if intended and intended != container.rid:
            raise bad_request("The container has been recreated.", substatus=CONTAINER_RID_MISMATCH)
        return container

    def _served(self, call: Call, container: Container, partition: Partition) -> Partition:
        """The partition as the replica has it that answers; refused where none has what the client has seen."""
        if self._switches.sessions and call.session:
            check_session(call.session, container, partition, _owner(call)["x-ms-alt-content-path"])
        if not call.lagging:
            return partition
        return self._replicas.view(partition, seen_lsn(call.session, partition), container.clock())

    def _check_order(self, container: Container, query: Query) -> None:
        container.policy.check_order([(path_of(item.expression) or (), item.descending) for item in query.order_by])

    def _listing(self, call: Call, name: str, documents: Iterable[dict[str, Any]], query: Query) -> Reply:
        """Databases, containers and offers, queried or listed in pages."""
        plain = [_Plain(document, number) for number, document in enumerate(documents)]
        segment = Segment(FULL_MIN, FULL_MAX, lambda: plain)
        compiled = compile_query(query, read_parameters(call))
        scope = scope_of(name, query_text(call))
        page = run_page(compiled, [segment], call.headers.get("x-ms-continuation"), call.page_limit, scope)
        headers = {"x-ms-item-count": str(len(page.rows))}
        if page.continuation:
            headers["x-ms-continuation"] = page.continuation
        return Reply(200, _feed("", name, page.rows), headers=headers)


# ---- reading requests


def _conditions(call: Call) -> Conditions:
    return Conditions(call.headers.get("If-Match"), call.headers.get("If-None-Match"))


def _generation(etag: str | None) -> int:
    """How far a client knows the physical partitions, by the etag that it was given."""
    known = (etag or "").strip('"') or "0"
    if not _GENERATION.fullmatch(known):
        raise bad_request(f"The etag {known[:40]!r} of partition key ranges is not valid.")
    return int(known)


def _key(call: Call, container: Container) -> Components:
    return container.definition.from_header(call.headers.get("x-ms-documentdb-partitionkey"))


def _epk_filter(call: Call) -> tuple[str, str]:
    if call.headers.get("x-ms-read-key-type", "").lower() != "effectivepartitionkeyrange":
        return FULL_MIN, FULL_MAX
    low, high = call.headers.get("x-ms-start-epk", FULL_MIN), call.headers.get("x-ms-end-epk", FULL_MAX)
    if not (_EFFECTIVE_KEY.fullmatch(low) and _EFFECTIVE_KEY.fullmatch(high) and low.upper() <= high.upper()):
        raise bad_request(f"The range of effective partition keys {low!r} to {high!r} is not valid.")
    return low.upper(), high.upper()


def _covering(container: Container, ranges: Sequence[tuple[str, str]]) -> list[Partition]:
    return [
        partition
        for partition in container.live()
        if any(partition.low < high and low < partition.high for low, high in ranges)
    ]


def _segment(partition: Partition, low: str = FULL_MIN, high: str = FULL_MAX) -> Segment:
    if low <= partition.low and partition.high <= high:
        return Segment(partition.low, partition.high, partition.items, partition)

    def within() -> Iterable[Item]:
        return (item for item in partition.items() if low <= item.effective_key < high)

    return Segment(max(low, partition.low), min(high, partition.high), within, partition)


def _etag_holder(container: Container) -> Item:
    document = container.document
    return Item("", "", "", 0, document, b"", document["_etag"], document["_ts"])


# ---- writing replies


def _json(status: int, value: Any, *, charge: float = charges.METADATA, headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, charge, dict(headers or {}))


def _resource(status: int, document: dict[str, Any]) -> Reply:
    return _json(status, document, headers={"etag": document["_etag"]})


def _feed(rid: str, name: str, rows: Sequence[bytes]) -> bytes:
    head = json.dumps({"_rid": rid})[:-1].encode()
    return b'%b,"%b":[%b],"_count":%d}' % (head, name.encode(), b",".join(rows), len(rows))


def _page_reply(call: Call, container: Container, page: Page) -> Reply:
    headers = {"x-ms-item-count": str(len(page.rows))}
    if page.partition is not None:
        headers |= _session(call, container, page.partition.id, page.partition.lsn)
    if page.continuation:
        headers["x-ms-continuation"] = page.continuation
    cost = container.prices.read(page.charge, strong=call.strong)
    return Reply(200, _feed(container.rid, "Documents", page.rows), cost, headers)


def _owner(call: Call) -> dict[str, str]:
    return {"x-ms-alt-content-path": "/".join(call.segments[:4])}


def _session(call: Call, container: Container, partition_id: str, lsn: int) -> dict[str, str]:
    """How far the client has seen, and of which container: `x-ms-content-path` is its resource id (`OwnerId` in the
    SDKs for .NET and Java), which another container of the same name does not have."""
    return {
        "x-ms-session-token": f"{partition_id}:-1#{lsn}",
        "x-ms-documentdb-partitionkeyrangeid": partition_id,
        "lsn": str(lsn),
        "x-ms-content-path": container.rid,
        **_owner(call),
    }


def _range(container: Container, partition: Partition) -> dict[str, Any]:
    return {
        "_rid": container.rid,
        "id": partition.id,
        "_etag": f'"{partition.born}"',
        "minInclusive": partition.low,
        "maxExclusive": partition.high,
        "ridPrefix": int(partition.id),
        "_self": f"{container.document['_self']}pkranges/{partition.id}/",
        "throughputFraction": 1 / len(container.partitions),
        "status": "online",
        "parents": list(partition.parents),
        "lsn": partition.lsn,
        "_ts": container.document["_ts"],
    }
