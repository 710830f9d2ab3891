"""The change feed of one partition, "latest version" mode: each item once, as it is now, ordered by its last write.

A page never cuts a transaction in two, because the etag to continue from is an LSN and a transaction is one LSN.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from .errors import bad_request
from .queries import LARGEST_PAGE
from .storage import Item, Partition

_LSN = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class FeedPage:
    items: list[Item]
    lsn: int
    """The place to continue from."""

    @property
    def etag(self) -> str:
        return f'"{self.lsn}"'

    def encoded(self) -> list[bytes]:
        """Items as the feed shows them: with the LSN of their write."""
        return [item.raw[:-1] + b',"_lsn":%d}' % item.lsn for item in self.items]


def read_feed(
    partition: Partition, *, after: int, limit: int | None, since: float | None, wanted: Callable[[Item], bool]
) -> FeedPage:
    """The next items after an LSN; `since` leaves out what was last written before that moment.

    A replica that has not come to that LSN has nothing, and sends nobody back to where it is itself.
    """
    page: list[Item] = []
    size = 0
    for item in partition.after(after):
        if not wanted(item) or (since is not None and item.timestamp < since):
            continue
        full = len(page) == limit or (limit is not None and len(page) > limit) or size + item.size > LARGEST_PAGE
        if page and full and item.lsn != page[-1].lsn:
            return FeedPage(page, page[-1].lsn)
        page.append(item)
        size += item.size
    return FeedPage(page, partition.reached(after))


def starting_lsn(etag: str | None, since: str | None, partition: Partition) -> int:
    """Where a request begins: an etag's LSN, the present for `*`, the beginning without either."""
    if etag is None:
        return 0
    if etag.strip('"') == "*":
        return 0 if since else partition.lsn
    if not _LSN.fullmatch(etag.strip('"')):
        raise bad_request(f"The change feed etag {etag!r} is not valid.")
    return int(etag.strip('"'))


def starting_time(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        raise bad_request(f"If-Modified-Since {header!r} is not a date.") from None
