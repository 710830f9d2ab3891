"""Databases, containers and offers: the resources above the items, as documents with ids and resource ids."""

from __future__ import annotations

import base64
import itertools
import math
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .charges import Prices
from .errors import OWNER_NOT_FOUND, bad_request, conflict, not_found
from .lateness import Lateness
from .offers import DEFAULT_THROUGHPUT, no_offers, replaced_content, throughput_of
from .partition_keys import PartitionKeyDefinition
from .settings import CONTAINER_SETTINGS, check_container, check_unchanged
from .storage import Container
from .switches import Switches

_RANGE_THROUGHPUT = 10_000
"""Request units per second that one physical partition can serve."""


class Database:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.containers: dict[str, Container] = {}

    @property
    def rid(self) -> str:
        return self.document["_rid"]


_Resource = TypeVar("_Resource", Database, Container)


class Account:
    def __init__(
        self,
        partitions: int | Mapping[str, int],
        clock: Callable[[], float],
        switches: Switches,
        monotonic: Callable[[], float],
    ) -> None:
        self.databases: dict[str, Database] = {}
        self.offers: dict[str, dict[str, Any]] = {}
        self.prices = Prices()
        self.serverless = False
        self._partitions = partitions
        self._clock = clock
        self._switches = switches
        self._monotonic = monotonic
        self._serial = itertools.count(1)
        self._container_numbers = itertools.count()
        self._lateness = Lateness(switches.late, monotonic)

    # ---- what has been heard of

    def known(self, resource: _Resource, name: str) -> _Resource:
        """The database or container, unless it is too new for those who ask."""
        if not self._lateness.is_known(resource.rid):
            raise not_found(name, substatus=OWNER_NOT_FOUND)
        return resource

    def known_databases(self) -> list[Database]:
        return [database for database in self.databases.values() if self._lateness.is_known(database.rid)]

    def known_containers(self, database: Database) -> list[Container]:
        return [container for container in database.containers.values() if self._lateness.is_known(container.rid)]

    def known_offers(self) -> list[dict[str, Any]]:
        return [offer for offer in self.offers.values() if self._lateness.is_known(offer["_rid"])]

    # ---- databases

    def create_database(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Database:
        name = _checked_name(body)
        if name in self.databases:
            raise conflict(name)
        rid = _rid(struct.pack(">I", next(self._serial) << 8))
        links = {"_colls": "colls/", "_users": "users/"}
        database = Database(self._stamped({"id": name}, rid, f"dbs/{rid}/", links))
        self.databases[name] = database
        self._lateness.created(rid)
        if content := throughput_of(headers, serverless=self.serverless, resource="database"):
            self._offer(database.document, content)
        return database

    def database(self, name: str) -> Database:
        return _by_name_or_rid(self.databases, name)

    def delete_database(self, database: Database) -> None:
        del self.databases[database.document["id"]]
        for document in (database.document, *(container.document for container in database.containers.values())):
            self.offers.pop(document["_rid"], None)

    # ---- containers

    def create_container(self, database: Database, body: Mapping[str, Any], headers: Mapping[str, str]) -> Container:
        name = _checked_name(body)
        check_container(body)
        PartitionKeyDefinition.parse(body.get("partitionKey"))
        if name in database.containers:
            raise conflict(name)
        rid = _rid(_bytes(database.rid) + struct.pack(">I", 0x80000000 | next(self._serial)))
        document = self._stamped(dict(body), rid, f"dbs/{database.rid}/colls/{rid}/", _CONTAINER_LINKS)
        document.setdefault("conflictResolutionPolicy", _LAST_WRITER_WINS)
        content = throughput_of(headers, serverless=self.serverless, resource="container")
        container = Container(
            document,
            self._range_count(name, content),
            self._clock,
            number=next(self._container_numbers),
            switches=self._switches,
            monotonic=self._monotonic,
        )
        document["indexingPolicy"] = container.policy.document
        container.prices = self.prices
        database.containers[name] = container
        self._lateness.created(rid)
        if content or (database.rid not in self.offers and not self.serverless):
            self._offer(document, content or {"offerThroughput": DEFAULT_THROUGHPUT})
        return container

    def container(self, database: Database, name: str) -> Container:
        return _by_name_or_rid(database.containers, name)

    def replace_container(self, database: Database, container: Container, body: Mapping[str, Any]) -> None:
        check_container(body)
        old = container.document
        if body.get("id") != old["id"]:
            raise bad_request("The id of a container cannot be changed.")
        check_unchanged(body, old)
        kept = {key: value for key, value in old.items() if key.startswith("_") or key in _FIXED_SETTINGS}
        settings = {key: value for key, value in body.items() if key in CONTAINER_SETTINGS}
        container.document = {**settings, **kept, "_etag": _etag(), "_ts": int(self._clock())}
        container.settings_changed()
        container.document["indexingPolicy"] = container.policy.document

    def delete_container(self, database: Database, container: Container) -> None:
        del database.containers[container.document["id"]]
        self.offers.pop(container.rid, None)

    def _range_count(self, name: str, throughput: Mapping[str, Any]) -> int:
        configured = self._partitions if isinstance(self._partitions, int) else self._partitions.get(name, 1)
        return max(configured, _ranges_for(throughput))

    # ---- offers

    def listed_offers(self) -> list[dict[str, Any]]:
        """All there are; a serverless account refuses to speak of them."""
        if self.serverless:
            raise no_offers()
        return self.known_offers()

    def replace_offer(self, rid: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """New throughput; a container that needs more physical partitions for it splits at once."""
        offer = next((offer for offer in self.listed_offers() if offer["_rid"] == rid), None)
        if offer is None:
            raise not_found(rid)
        offer["content"] = replaced_content(offer["content"], body)
        for database in self.databases.values():
            for container in database.containers.values():
                if container.rid == offer["offerResourceId"]:
                    _grow(container, _ranges_for(offer["content"]))
        return offer

    def _offer(self, resource: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        rid = _rid(struct.pack(">I", next(self._serial))[1:])
        document = {
            "offerVersion": "V2",
            "offerType": "Invalid",
            "content": {"offerMinimumThroughputParameters": {}, **content},
            "resource": resource["_self"],
            "offerResourceId": resource["_rid"],
            "id": rid,
        }
        self.offers[resource["_rid"]] = self._stamped(document, rid, f"offers/{rid}/", {})
        self._lateness.created(rid)

    def _stamped(
        self, document: Mapping[str, Any], rid: str, self_link: str, links: Mapping[str, str]
    ) -> dict[str, Any]:
        content = {key: value for key, value in document.items() if not key.startswith("_") and value is not None}
        return {**content, "_rid": rid, "_self": self_link, "_etag": _etag(), **links, "_ts": int(self._clock())}


_CONTAINER_LINKS = {
    "_docs": "docs/",
    "_sprocs": "sprocs/",
    "_triggers": "triggers/",
    "_udfs": "udfs/",
    "_conflicts": "conflicts/",
}
_LAST_WRITER_WINS = {"mode": "LastWriterWins", "conflictResolutionPath": "/_ts", "conflictResolutionProcedure": ""}
_FIXED_SETTINGS = frozenset({"partitionKey", "uniqueKeyPolicy", "conflictResolutionPolicy"})


def _checked_name(body: Mapping[str, Any]) -> str:
    name = body.get("id")
    if not isinstance(name, str) or not name.strip() or name != name.rstrip(" ") or len(name) > 255:
        raise bad_request(
            f"The input name '{name}' is invalid. "
            "Ensure to provide a unique non-empty string less than '255' characters."
        )
    if any(character in name for character in "/\\?#"):
        raise bad_request(f"The input name '{name}' is invalid. It must not contain / \\ ? #.")
    return name


def _by_name_or_rid(resources: Mapping[str, Any], name: str) -> Any:
    if name in resources:
        return resources[name]
    for resource in resources.values():
        if resource.rid == name:
            return resource
    raise not_found(name, substatus=OWNER_NOT_FOUND)


def _ranges_for(content: Mapping[str, Any]) -> int:
    autoscale = (content.get("offerAutopilotSettings") or {}).get("maxThroughput", 0)
    return max(1, math.ceil(max(content.get("offerThroughput", 0), autoscale) / _RANGE_THROUGHPUT))


def _grow(container: Container, count: int) -> None:
    while len(container.partitions) < count:
        widest = max(container.partitions, key=lambda each: container.definition.width(each.low, each.high))
        container.split(widest.id)


def _etag() -> str:
    return f'"{uuid.uuid4()}"'


def _rid(content: bytes) -> str:
    return base64.b64encode(content).decode().replace("/", "-")


def _bytes(rid: str) -> bytes:
    return base64.b64decode(rid.replace("-", "/"))
