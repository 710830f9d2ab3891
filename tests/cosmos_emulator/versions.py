"""The change feed in its mode "all versions and deletes": every write and every removal, in order, while it is kept.

Kept only for containers whose `changeFeedPolicy` asks for it, so that others cost nothing. Facts: "Change feed modes"
(8 April 2025): reading begins now or at a continuation, never at the beginning or at a time; what is older than the
retention is an error; no previous images are shown (still so in azure-sdk-for-python #49054, September 2026); a
removal is its metadata alone; accounts that merge partitions have no such feed.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from .errors import CosmosError, bad_request, unsupported

if TYPE_CHECKING:
    from .storage import Item, Partition

MODE = "full-fidelity feed"
_WIRE_FORMAT = "2021-09-15"
"""The only form of the answer that today's clients ask for: metadata apart, with `crts`."""
_LSN = re.compile(r"[0-9]{1,18}")
_LARGEST_PAGE = 4 * 1024 * 1024


@dataclass(frozen=True)
class Version:
    """One write or removal."""

    lsn: int
    at: float
    effective_key: str
    current: Item | None
    previous: Item | None
    expired: bool = False

    def encoded(self, paths: Iterable[tuple[str, ...]]) -> bytes:
        """As the feed shows it; `paths` are those of the partition key."""
        kind = "delete" if self.current is None else "create" if self.previous is None else "replace"
        metadata: dict[str, Any] = {"operationType": kind, "lsn": self.lsn, "crts": int(self.at)}
        if self.previous is not None:
            metadata["previousImageLSN"] = self.previous.lsn
        if self.expired:
            metadata["timeToLiveExpired"] = True
        if self.current is None and self.previous is not None:
            metadata |= {"id": self.previous.id, "partitionKey": _key_of(self.previous.body, paths)}
        told = b'"metadata":' + json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()
        return b"{%b}" % told if self.current is None else b'{"current":%b,%b}' % (self.current.raw, told)


class VersionLog:
    """What one physical partition keeps. `horizon` is the LSN up to which it has nothing, or nothing any more."""

    def __init__(self, clock: Callable[[], float], retention: float, horizon: int) -> None:
        self.horizon = horizon
        self.retention = retention
        self._clock = clock
        self._entries: deque[Version] = deque()

    @property
    def kept(self) -> int:
        """How many writes and removals it keeps."""
        return len(self._entries)

    def record(self, lsn: int, current: Item | None, previous: Item | None, *, expired: bool = False) -> None:
        self._forget()
        item = current or previous
        if item is not None:
            self._entries.append(Version(lsn, self._clock(), item.effective_key, current, previous, expired))

    def after(self, lsn: int) -> list[Version]:
        self._forget()
        if lsn < self.horizon:
            raise _outside_retention()
        newer = list(takewhile(lambda entry: entry.lsn > lsn, reversed(self._entries)))
        newer.reverse()
        return newer

    def part(self, holds: Callable[[str], bool]) -> VersionLog:
        """What a child of a split has from the beginning."""
        child = VersionLog(self._clock, self.retention, self.horizon)
        child._entries.extend(entry for entry in self._entries if holds(entry.effective_key))
        return child

    def _forget(self) -> None:
        oldest = self._clock() - self.retention
        while self._entries and self._entries[0].at < oldest:
            self.horizon = self._entries.popleft().lsn


def retention_of(settings: Mapping[str, Any]) -> float | None:
    """Seconds for which a container's settings keep all versions; None where they keep only the latest."""
    policy = settings.get("changeFeedPolicy")
    if not policy:
        return None
    minutes = policy.get("retentionDuration") if isinstance(policy, Mapping) else None
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 0:
        raise bad_request("The retentionDuration of a changeFeedPolicy is a number of minutes.")
    return minutes * 60.0 or None


@dataclass(frozen=True)
class VersionPage:
    versions: list[Version]
    lsn: int
    """The place to continue from."""


def read_versions(
    partition: Partition, headers: Mapping[str, str], limit: int | None, wanted: Callable[[Any], bool]
) -> VersionPage:
    """The next changes; like every page of the feed it never cuts a transaction."""
    if headers.get("x-ms-cosmos-changefeed-wire-format-version") != _WIRE_FORMAT:
        raise unsupported(f"the feed of all versions and deletes in another format than {_WIRE_FORMAT}")
    if partition.versions is None:
        raise bad_request("The container keeps no versions and deletes: its change feed policy has no retention.")
    page: list[Version] = []
    size = 0
    for version in partition.versions.after(_start(headers, partition)):
        if not wanted(version):
            continue
        bytes_of = version.current.size if version.current else 0
        full = (limit is not None and len(page) >= limit) or size + bytes_of > _LARGEST_PAGE
        if page and full and version.lsn != page[-1].lsn:
            return VersionPage(page, page[-1].lsn)
        page.append(version)
        size += bytes_of
    return VersionPage(page, partition.lsn)


def _start(headers: Mapping[str, str], partition: Partition) -> int:
    etag = headers.get("If-None-Match", "").strip('"')
    if "If-Modified-Since" in headers or not etag:
        raise _outside_retention()  # the beginning, or a time
    if etag == "*":
        return partition.lsn
    if not _LSN.fullmatch(etag):
        raise bad_request(f"The change feed etag {etag[:40]!r} is not valid.")
    return int(etag)


def _outside_retention() -> CosmosError:
    return bad_request("You must read the change feed from within the retention period.")


def _key_of(body: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        value: Any = body
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[path[-1]] = value
    return found
