"""What a store has seen of a container, so that no read is answered from before it.

The service answers a read from any replica that has come as far as the session token which the read carries; a read
without one may be answered from a replica that has not heard yet of what this process wrote. The SDK (4.17) keeps
tokens of its own, but not reliably: its async client has none before it was entered; a first write without a body files
its token under no container, where those of another one may lie; two answers of 404/1002 make it forget all tokens of
a container, possibly another one's; and where it fails to find the token of a partition, it reads without one. So each
container of ours remembers its tokens itself, and gives them along with every read.

Sources: azure-cosmos 4.17.1, `_session.py` and `aio/_retry_utility_async.py`; "Consistency levels in Azure Cosmos DB".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...lru import Lru

__all__ = ["Session", "enter", "forget", "lsn_of"]

_TOKEN: Final = "x-ms-session-token"  # noqa: S105 - the name of a header
_KEYS: Final = 10_000
"""Partition keys of which is remembered in which physical partition they lie; forgetting costs a longer header."""
_LONGEST: Final = 6_000
"""Characters of the tokens of all partitions, which go along where the right one is not known: some 200 partitions, or
two million RU/s. Beyond, the SDK finds the right one by itself, since a gateway takes only so long a header."""


class _Token(NamedTuple):
    """How far one physical partition has been seen."""

    version: int
    """Of the partition's set of regions; it grows with a failover, and later ones count."""
    lsn: int
    regions: tuple[tuple[str, int], ...]
    text: str

    @classmethod
    def of(cls, text: str) -> _Token | None:
        """From `<version>#<lsn>` and then `#<region>=<lsn>`…, or from a bare LSN; None where it is neither."""
        parts = text.split("#")
        try:
            if len(parts) == 1:
                return cls(-1, int(text), (), text)
            pairs = (part.split("=", 1) for part in parts[2:])
            return cls(int(parts[0]), int(parts[1]), tuple((name, int(lsn)) for name, lsn in pairs), text)
        except ValueError:
            return None

    def merged(self, other: _Token) -> _Token:
        """What has been seen by whoever has seen both."""
        late, early = (self, other) if self[:2] >= other[:2] else (other, self)
        regions = dict(late.regions)
        if late.version == early.version:
            regions = {name: max(lsn, dict(early.regions).get(name, lsn)) for name, lsn in late.regions}
        if tuple(regions.items()) == late.regions:
            return late
        text = "#".join([f"{late.version}#{late.lsn}", *(f"{name}={lsn}" for name, lsn in regions.items())])
        return _Token(late.version, late.lsn, tuple(regions.items()), text)


class Session:
    """The session tokens of one container, by physical partition."""

    def __init__(self) -> None:
        self._tokens: dict[str, _Token] = {}
        self._partitions: Lru[str, str] = Lru(_KEYS)

    def note(self, headers: Mapping[str, Any], key: str | None = None) -> None:
        """Remember what an answer has seen, whatever its status.

        Args:
            headers: of the answer.
            key: the partition key that was asked about; None: about several.
        """
        seen = str(headers.get(_TOKEN) or "")
        for pair in filter(None, seen.split(",")):
            partition, _, text = pair.partition(":")
            known = self._tokens.get(partition)
            if known is not None and known.text == text:
                continue
            token = _Token.of(text)
            if token is not None:
                self._tokens[partition] = token if known is None else known.merged(token)
        if key is not None and seen and "," not in seen:
            self._partitions.put(key, seen.partition(":")[0])

    def token(self, key: str | None = None) -> str | None:
        """What a read carries; None before anything was seen, or where the SDK knows it better.

        Args:
            key: the partition key that the read is about; None: it is about several.
        """
        partition = self._partitions.get(key) if key is not None else None
        if partition in self._tokens:
            return f"{partition}:{self._tokens[partition].text}"
        if len(self._tokens) * 8 > _LONGEST:  # not worth writing out
            return None
        everything = ",".join(f"{each}:{token.text}" for each, token in self._tokens.items())
        return everything if 0 < len(everything) <= _LONGEST else None


def lsn_of(token: str) -> int:
    """The LSN in a session token of one physical partition."""
    parsed = _Token.of(token.split(",")[0].partition(":")[2])
    if parsed is None:
        raise ValueError(f"This is no session token of the service: {token!r}.")
    return parsed.lsn


async def enter(connection: Any) -> None:
    """Have the SDK ask the account for its regions and its consistency, as entering its client does.

    Only then does the async client say with its reads that they are of a session. One that was entered stays as it is:
    a second time would make it forget the tokens of its other users. Where the account's default is not session
    consistency, there is no session, and this does nothing that it has not done.

    Args:
        connection: the `client_connection` of a client or of a container.
    """
    if connection.session is None:
        await connection.pipeline_client.__aenter__()
        await connection._setup()  # what `CosmosClient.__aenter__` calls; a container knows no client


def forget(container: Any) -> None:
    """Have the SDK forget what it has seen of a container that was deleted: it goes on giving the old one's tokens to
    the one that has its name now, which has never come so far.

    Args:
        container: the SDK's, of a client that was entered.
    """
    session = container.client_connection.session
    if session is not None:
        session.session_container.collection_name_to_rid.pop(container.container_link.strip("/"), None)
