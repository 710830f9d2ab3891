"""Session tokens: what a client has already seen, so that no replica shows it less.

A token is `range:version#lsn`, with `#region=lsn` for each further region, or `range:lsn` as older clients write it;
several are joined by commas. The form is the one that the Python SDK (4.17.1) parses; a malformed token is 400 with the
sentence that Entity Framework's tests of its Cosmos DB provider expect (read in November 2026), on writes as well.
Azure/azure-cosmos-dotnet-v3 #5281 (2025) says what a token of another container gets: 404/1002 until the client gives
up.

The service cannot tell a foreign token whose number is low, and answers it with a read that promises nothing. Here the
LSNs of each container lie in a block of their own, so a foreign token is refused whether it is ahead or behind.
Blocks go down from one container to the next: a container that is made anew under its old name begins lower than the
old one ended, as on the service, so what was kept of the old one is not good by luck.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .errors import READ_SESSION_NOT_AVAILABLE, CosmosError, bad_request

if TYPE_CHECKING:
    from .server import RequestRecord
    from .storage import Container, Partition

BLOCK = 10**6
"""LSNs that a container has to itself."""
FIRST_BLOCK = 10**12
"""Where the blocks begin: far below 2^53, beyond which JSON has no exact integers, and far above zero."""
STRETCH = BLOCK // 100
"""How far apart the physical partitions of a new container begin, so that tokens of two ranges differ as well."""

TOLD_WITH_A_SESSION = frozenset({404, 409, 412})
"""Refusals of an item that bring the partition's session token: who is told what is there, or is not, has seen it. The
.NET SDK takes the token from these (`GatewayStoreModel` in Azure/azure-cosmos-dotnet-v3), the Python SDK (4.17.1) only
from answers that succeed."""
_WRITES = frozenset(
    {"create_item", "upsert_item", "replace_item", "patch_item", "delete_item", "batch", "delete_items_of_key"}
)
_TOKEN = re.compile(r"([^:,#=]+):(?:-?\d{1,19}#)?(-?\d{1,19})(?:#\d{1,19}=-?\d{1,19})*", re.ASCII)


def first_lsn(number: int) -> int:
    """Where the LSNs of the n-th container begin."""
    return max(0, FIRST_BLOCK - number * BLOCK)


def parse_session(header: str) -> dict[str, int]:
    """The LSN for each range in a token; the higher one where a range is named twice."""
    seen: dict[str, int] = {}
    for part in header.split(","):
        found = _TOKEN.fullmatch(part)
        if found is None:
            raise bad_request(f"The session token provided '{part}' is invalid.")
        name, lsn = found[1], int(found[2])
        seen[name] = max(lsn, seen.get(name, lsn))
    return seen


def not_available(container_path: str) -> CosmosError:
    """What no replica can answer. The header tells the client of which container it has to forget the session."""
    return CosmosError(
        404,
        "The read session is not available for the input session token.",
        substatus=READ_SESSION_NOT_AVAILABLE,
        headers={"x-ms-alt-content-path": container_path},
    )


def reads_without_session(records: Iterable[RequestRecord]) -> list[RequestRecord]:
    """See `CosmosEmulator.reads_without_session`."""
    written: set[str] = set()
    found: list[RequestRecord] = []
    for record in records:
        if record.kind in _WRITES and 200 <= record.status < 300:
            written.add(record.container_path)
        foreign = (record.status, record.substatus) == (404, READ_SESSION_NOT_AVAILABLE)
        if record.is_read and record.container_path in written and (not record.session_token or foreign):
            found.append(record)
    return found


def seen_lsn(tokens: Mapping[str, int], partition: Partition) -> int:
    """The LSN that a client has seen of a partition or of those it came from. Tokens of other ranges say nothing."""
    return max((tokens.get(name, 0) for name in (partition.id, *partition.parents)), default=0)


def check_session(tokens: Mapping[str, int], container: Container, partition: Partition, container_path: str) -> None:
    """Refuses tokens that are ahead of the partition or of another container, be it by a range that was never here."""
    known = all(container.had_range(name) for name in tokens)
    lsns = (tokens[name] for name in (partition.id, *partition.parents) if name in tokens)
    if not known or any(not partition.first_lsn <= lsn <= partition.lsn for lsn in lsns):
        raise not_available(container_path)
