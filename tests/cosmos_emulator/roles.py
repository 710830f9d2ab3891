"""Which data actions a request needs, and which a role gives: the permission model of the account's own roles.

From the service's "Data plane security reference" (`reference-data-plane-security.md`, dated 2025-09-10). Where the
page does not say, the stricter reading is taken:

* A query needs `executeQuery` and `readChangeFeed`, as the page says of queries through an SDK, whatever its form.
* `containers/*` does not give what is under `items/`; the built-in contributor has both.
* A patch has no action of its own on the page: it needs `items/read` and `items/replace`.
* A batch needs what each of its operations needs; a delete by partition key needs `items/delete`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import unsupported
from .routes import Call

_ACCOUNT: Final = "Microsoft.DocumentDB/databaseAccounts"
_CONTAINERS: Final = f"{_ACCOUNT}/sqlDatabases/containers"

READ_METADATA: Final = f"{_ACCOUNT}/readMetadata"
CREATE: Final = f"{_CONTAINERS}/items/create"
READ: Final = f"{_CONTAINERS}/items/read"
REPLACE: Final = f"{_CONTAINERS}/items/replace"
UPSERT: Final = f"{_CONTAINERS}/items/upsert"
DELETE: Final = f"{_CONTAINERS}/items/delete"
EXECUTE_QUERY: Final = f"{_CONTAINERS}/executeQuery"
READ_CHANGE_FEED: Final = f"{_CONTAINERS}/readChangeFeed"
MANAGE_CONFLICTS: Final = f"{_CONTAINERS}/manageConflicts"

_WILDCARDS: Final = (f"{_CONTAINERS}/*", f"{_CONTAINERS}/items/*")
_OTHERS: Final = (f"{_CONTAINERS}/items/unmask", f"{_CONTAINERS}/executeStoredProcedure")
ACTIONS: Final = frozenset(
    {
        *(READ_METADATA, CREATE, READ, REPLACE, UPSERT, DELETE),
        *(EXECUTE_QUERY, READ_CHANGE_FEED, MANAGE_CONFLICTS),
        *(*_WILDCARDS, *_OTHERS),
    }
)
"""What a role definition may list."""

MANAGEMENT: Final = frozenset(
    {
        *("create_database", "delete_database", "create_container", "replace_container", "delete_container"),
        *("list_offers", "query_offers", "read_offer", "replace_offer"),
    }
)
"""Kinds of requests that no role allows: they are the management plane's, for which there is another endpoint."""

_QUERY: Final = (EXECUTE_QUERY, READ_CHANGE_FEED)
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("account", "read_container", "read_ranges"), (READ_METADATA,)),
    **dict.fromkeys(("list_databases", "query_databases"), (READ_METADATA,)),
    **dict.fromkeys(("read_database", "list_containers", "query_containers"), (READ_METADATA,)),
    "create_item": (CREATE,),
    "upsert_item": (UPSERT,),
    "read_item": (READ,),
    "replace_item": (REPLACE,),
    "patch_item": (READ, REPLACE),
    "delete_item": (DELETE,),
    "delete_items_of_key": (DELETE,),
    **dict.fromkeys(("query", "query_plan", "list_items"), _QUERY),
    "change_feed": (READ_CHANGE_FEED,),
    **dict.fromkeys(("list_conflicts", "query_conflicts", "read_conflict", "delete_conflict"), (MANAGE_CONFLICTS,)),
}
"""By the kind of request; a batch is asked for its operations."""
_OPERATIONS: Final[Mapping[Any, tuple[str, ...]]] = {
    "Create": (CREATE,),
    "Upsert": (UPSERT,),
    "Read": (READ,),
    "Replace": (REPLACE,),
    "Patch": (READ, REPLACE),
    "Delete": (DELETE,),
}


def needs(call: Call) -> tuple[str, ...]:
    """The data actions that a request needs, in the order in which they are looked for."""
    if call.kind == "batch":
        return _needs_of_batch(call.json)
    if call.kind not in NEEDS:
        raise unsupported(f"{call.kind} by an identity")
    return NEEDS[call.kind]


def _needs_of_batch(operations: Any) -> tuple[str, ...]:
    """In the order of the operations; what is no operation is refused by the batch itself, and needs at least a right
    to write."""
    listed = operations if isinstance(operations, list) else []
    kinds = [each.get("operationType") for each in listed if isinstance(each, dict)]
    found = [action for kind in kinds if isinstance(kind, str) for action in _OPERATIONS.get(kind, ())]
    return tuple(dict.fromkeys(found)) or (CREATE,)


@dataclass(frozen=True)
class Role:
    """A role definition of the account."""

    name: str
    actions: frozenset[str]
    id: str = ""
    """Of the two that are built in."""

    @classmethod
    def of(cls, name: str, *actions: str) -> Role:
        """A role of one's own. The service takes no data action that it does not know, and neither does this."""
        for action in actions:
            if action not in ACTIONS:
                raise ValueError(
                    f"The provided data action string [{action}] does not correspond to any valid SQL data action."
                )
        return cls(name, frozenset(actions))

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> Role:
        """What `az cosmosdb sql role definition create --body` is given."""
        if definition.get("Type") != "CustomRole":
            raise ValueError(f"A role of one's own is a CustomRole, not {definition.get('Type')!r}.")
        permissions: Iterable[Mapping[str, Any]] = definition["Permissions"]
        if any("NotDataActions" in each for each in permissions):
            raise ValueError("Roles of the account have no NotDataActions.")
        return cls.of(definition["RoleName"], *(action for each in permissions for action in each["DataActions"]))

    def without(self, action: str) -> Role:
        """The same but for one action."""
        return Role(f"{self.name} without {action}", self.actions - {action})

    def allows(self, action: str) -> bool:
        """Whether the role lists the action, or the wildcard of its level."""
        return action in self.actions or f"{action.rpartition('/')[0]}/*" in self.actions


READER: Final = Role(
    "Cosmos DB Built-in Data Reader",
    frozenset({READ_METADATA, READ, EXECUTE_QUERY, READ_CHANGE_FEED}),
    "00000000-0000-0000-0000-000000000001",
)
CONTRIBUTOR: Final = Role(
    "Cosmos DB Built-in Data Contributor",
    frozenset({READ_METADATA, *_WILDCARDS}),
    "00000000-0000-0000-0000-000000000002",
)


@dataclass(frozen=True)
class Scope:
    """The account, a database or a container; `None` is everything below."""

    database: str | None = None
    container: str | None = None

    @classmethod
    def of(cls, path: str) -> Scope:
        """`/`, `/dbs/<database>` or `/dbs/<database>/colls/<container>`; what is named need not exist."""
        match path.split("/"):
            case ["", ""]:
                return cls()
            case ["", "dbs", database] if database:
                return cls(database)
            case ["", "dbs", database, "colls", container] if database and container:
                return cls(database, container)
            case _:
                raise ValueError(f"A scope is /, /dbs/<database> or /dbs/<database>/colls/<container>, not {path!r}.")

    def covers(self, other: Scope) -> bool:
        return self.database in (None, other.database) and self.container in (None, other.container)

    def __str__(self) -> str:
        names = [] if self.database is None else ["dbs", self.database]
        return "/".join(names if self.container is None else [*names, "colls", self.container]) or "/"
