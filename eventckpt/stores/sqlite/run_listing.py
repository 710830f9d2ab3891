"""In what order runs are listed: columns beside their documents, by when each run was last written to.

What a document says is in a form that SQLite cannot read, so who writes one writes beside it how it is listed, and for
which seq. 0.1.0 does not: in the rows that it wrote the two seqs differ. Their documents are read when a page is asked
for, and each write lists some of them. A document that does not count has a status that no run has, and is in no page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from heapq import nsmallest
from typing import Any, Final, NamedTuple, cast, get_args

import msgspec

from ...events import RunInfo, RunStatus, StreamId
from ...moments import NEVER, order_of
from ..run_documents import counting
from ..run_pages import Place, RunFilter, microseconds, place_of
from .schema import NoUnicode
from .tables import Log

__all__ = ["KIND", "RunRow", "counted", "list_unread", "packed", "rows_behind", "unread"]

KIND: Final = "latest"
_DAMAGED: Final = ""
_SOME: Final = 200
"""Rows of older versions that a write lists beside its own."""
_LAST: Final = microseconds(datetime.max)
_MOST: Final = _LAST + 1
_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
_LAST_CHARACTERS: Final = "\U0010ffff" * 255  # after every continuation of a prefix

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RunInfo)


class RunRow(NamedTuple):
    """A document and the key that it is kept under."""

    projection: str
    workflow_name: str
    run_id: str
    info: bytes
    moment: object = None
    """That it is listed by."""

    def counting(self) -> RunInfo | None:
        """The document; None where it does not count."""
        return counting(partial(_decoder.decode, self.info), self._is_key_of)

    def _is_key_of(self, run: StreamId) -> bool:
        names = self.workflow_name, self.run_id
        return (run.workflow_name, run.run_id) == names and not any(isinstance(name, NoUnicode) for name in names)

    def is_told_by(self, info: RunInfo) -> bool:
        """Whether it is listed by what the document says; else somebody has changed the listing."""
        return self.moment == microseconds(order_of(info.recorded_at))

    @property
    def place(self) -> Place:
        """Where it is listed, whatever its document says."""
        moment = int(self.moment) if isinstance(self.moment, int | float) else 0  # somebody may have written anything
        at = NEVER + timedelta(microseconds=min(max(0, moment), _LAST))
        return Place(at.isoformat(), StreamId(str(self.workflow_name), str(self.run_id)))


def listed_as(info: RunInfo | None) -> tuple[str, int | None]:
    """The status and the moment that a document is listed by; None: one that does not count."""
    return (_DAMAGED, None) if info is None else (info.status, microseconds(order_of(info.recorded_at)))


def packed(info: RunInfo) -> tuple[Any, ...]:
    """What a statement that stores a document is given: its key and its seq, the seq that it is listed for, what its
    position is found by, the document, and what it is listed by. That is asked of what would be read: what was given
    may be damaged."""
    content = _encoder.encode(info)
    listed = listed_as(counting(partial(_decoder.decode, content), _is_its_own))
    key = info.workflow_name, info.run_id
    return *key, info.seq, info.seq, *key, info.checkpoint_seq, content, *listed


def _is_its_own(_: StreamId) -> bool:
    return True  # the key is made of the document


def list_unread(log: Log, name: str) -> None:
    """List some of what older versions have written."""
    for row in list(_unread_rows(log, name, f" LIMIT {_SOME}")):
        log.execute(
            f"UPDATE {log.runs} SET status = ?, moment = ?, listed_seq = seq"
            " WHERE projection = ? AND workflow_name = ? AND run_id = ?",
            (*listed_as(row.counting()), *row[:3]),
        )


def unread(log: Log, name: str, which: RunFilter, behind: Place | None, most: int) -> list[RunInfo]:
    """Of what is not listed yet, the documents that come next, up to so many."""
    infos = filter(None, (row.counting() for row in _unread_rows(log, name)))
    fitting = (info for info in infos if which.fits(info) and (behind is None or place_of(info).order > behind.order))
    return nsmallest(most, fitting, key=lambda info: place_of(info).order)


def rows_behind(log: Log, name: str, which: RunFilter, behind: Place | None, most: int) -> list[RunRow]:
    """The rows that are listed next, up to so many."""
    condition, values = _condition(which)
    if behind is not None:
        at = microseconds(order_of(behind.recorded_at))
        condition += " AND l.moment <= ? AND (l.moment < ? OR (l.workflow_name, l.run_id) > (?, ?))"
        values += [at, at, behind.stream.workflow_name, behind.stream.run_id]
    cursor = log.execute(
        f"""
        SELECT r.projection, r.workflow_name, r.run_id, r.info, l.moment
        FROM {log.runs} AS l CROSS JOIN {log.runs} AS r USING (projection, workflow_name, run_id)
        WHERE l.projection = ? AND {condition}
        ORDER BY l.moment DESC, l.workflow_name, l.run_id LIMIT ?""",
        (name, *values, most),
    )
    return [RunRow(*row) for row in cursor]


def counted(log: Log, name: str, which: RunFilter) -> dict[RunStatus, int]:
    """How many of the runs that fit stand how."""
    condition, values = _condition(which)
    cursor = log.execute(
        f"SELECT l.status, count(*) FROM {log.runs} AS l WHERE l.projection = ? AND {condition} GROUP BY l.status",
        (name, *values),
    )
    found: Counter[RunStatus] = Counter(dict(cast("list[tuple[RunStatus, int]]", cursor.fetchall())))
    for row in _unread_rows(log, name):
        if (info := row.counting()) is not None and which.fits(info):
            found[info.status] += 1
    return dict(found)


def _condition(which: RunFilter) -> tuple[str, list[Any]]:
    """What the listed rows that fit have in common."""
    since = microseconds(which.since) if which.since else 0
    until = microseconds(which.until) if which.until else _MOST
    terms, values = ["l.listed_seq = l.seq AND l.moment >= ? AND l.moment < ?"], cast("list[Any]", [since, until])
    if which.workflow_name is not None:
        terms.append("l.workflow_name = ?")
        values.append(which.workflow_name)
    statuses = which.statuses or _STATUSES
    terms.append(f"l.status IN ({', '.join('?' * len(statuses))})")
    values += statuses
    if which.prefix:
        terms.append("l.run_id >= ? AND l.run_id <= ?")
        values += [which.prefix, which.prefix + _LAST_CHARACTERS]
    return " AND ".join(terms), values


def _unread_rows(log: Log, name: str, limit: str = "") -> Iterator[RunRow]:
    cursor = log.execute(
        f"SELECT projection, workflow_name, run_id, info FROM {log.runs} INDEXED BY {log.runs}_unlisted"
        f" WHERE projection = ? AND listed_seq IS NOT seq{limit}",
        (name,),
    )
    return (RunRow(*row) for row in cursor)
