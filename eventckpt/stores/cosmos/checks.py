"""What doctor finds out about a container: its settings, the account's consistency, and what the identity may do."""

from __future__ import annotations

import secrets
from typing import Any, Final

from ...errors import CheckpointStoreError, StoreReadOnlyError
from .. import Check
from .container import Container
from .items import INDEXING_POLICY, PART, PARTITION_KEY
from .layout import KEY_VERSION, listing, mapping, serves

__all__ = ["checks"]

_READS_OWN_WRITES: Final = frozenset({"Session", "BoundedStaleness", "Strong"})


async def checks(container: Container, *, write: bool, beside: str = "") -> list[Check]:
    """See `AuditStore.checks`. Writes a part that belongs to no event, twice, and deletes it; a store that is
    read-only writes nothing, and leaves that check out.

    Args:
        container: in which the events are.
        write: False: as of a store that is read-only.
        beside: what it holds, where not every store has it; each check is named by that then. Nothing is said of one
            that is missing, and who never uses it needs no rights there.
    """
    found: list[Check] = []
    try:
        properties = await container.settings()
        if properties is None and beside:
            return []
        if properties is None:
            return [Check("container", False, f"{container.name} does not exist", "The first save creates it.")]
        found += [*_layout(properties), _consistency(await container.consistency())]
        async with container.in_use():
            await container.query("SELECT TOP 1 c.id FROM c", {}, "").rows()
            found.append(Check("reading", True, "the identity can query"))
            if write and not container.read_only:
                found.append(await _writing(container))
    except CheckpointStoreError as error:
        if beside and not found and isinstance(error, StoreReadOnlyError):
            detail = f"this identity may not see whether there is a container of {beside}"
            return [Check(beside, True, f"{detail}, and needs to only where it keeps some")]
        found.append(Check("access", False, str(error), "Everything above this line holds."))
    return [each._replace(name=f"{beside}: {each.name}") for each in found] if beside else found


async def _writing(container: Container) -> Check:
    # An id of its own: of two doctors at once, each finds what it wrote.
    probe = {"id": f"{PART}-{secrets.token_hex(32)}", "stream": "doctor", "type": PART, "data": ""}
    await container.upsert(probe)
    written = await container.read(probe["id"], probe["stream"])
    etag = await container.replace(probe, written["_etag"]) if written is not None else None
    removed = etag is not None and await container.remove(probe["id"], probe["stream"], etag) == "removed"
    advice = "Allow it to replace items and to delete them, for prune."
    return Check("writing", removed, "the identity can write, replace and delete", advice)


def _layout(properties: dict[str, Any]) -> list[Check]:
    definition, policy = mapping(properties.get("partitionKey")), mapping(properties.get("indexingPolicy"))
    paths, version = definition.get("paths"), definition.get("version", 1)
    indexed = {str(mapping(path).get("path")) for path in listing(policy.get("includedPaths"))}
    wanted = {str(path["path"]) for path in INDEXING_POLICY["includedPaths"]}
    missing = [] if "/*" in indexed else sorted(wanted - indexed)
    composite = serves(policy, INDEXING_POLICY)
    expires = properties.get("defaultTtl")
    remedy = "Set eventckpt.stores.cosmos.INDEXING_POLICY."
    return [
        Check("partition key", paths == [PARTITION_KEY], f"{paths}", f"Events need a container with {PARTITION_KEY}."),
        Check(
            "partition key version",
            version == KEY_VERSION,
            f"version {version}" + (": only the first 101 bytes of a key count" if version == 1 else ""),
            f"Make a container with --partition-key-version {KEY_VERSION}; the version cannot be changed later.",
        ),
        Check(
            "indexes",
            not missing,
            f"missing: {', '.join(missing)}" if missing else "every path that is filtered by",
            remedy,
        ),
        Check(
            "composite index",
            composite,
            "workflow name and timestamp, in one order" if composite else "missing or mixed",
            f"{remedy} Without it, the unbound get_latest costs more.",
        ),
        Check(
            "index size",
            "/*" not in indexed,
            "every path is indexed, 0.2 RU a write for each" if "/*" in indexed else "nothing that is not needed",
            remedy,
        ),
        Check(
            "expiry",
            expires in (None, -1),
            "items never expire" if expires in (None, -1) else f"items expire after {expires} seconds",
            "Events that expire are gaps that nobody recorded: turn it off, and use prune.",
        ),
    ]


def _consistency(level: str) -> Check:
    return Check(
        "consistency",
        level in _READS_OWN_WRITES,
        f"the account's default is {level}",
        "A storage may not find what it has just saved: set the account's default consistency to Session.",
    )
