"""In what order runs are listed: columns beside their documents, by when each run was last written to, since when it
waits for an answer, and by which tags and questions it is asked for.

What a document says is in a form that SQLite cannot read, so who writes one writes beside it how it is listed, and for
which seq. 0.1.0 does not: in the rows that it wrote the two seqs differ. What came after the first listing has a seq of
its own, which is told apart in the same way. Their documents are read when a page is asked
for, and each write lists some of them. A document that does not count, and that of an emptied run, has a status that
no run has, and is in no page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from heapq import nsmallest
from typing import Any, Final, NamedTuple, cast, get_args

import msgspec

from ...events import RunInfo, RunStatus, StreamId
from ...moments import order_of
from .. import is_listed
from ..run_documents import counting
from ..run_pages import Place, RunFilter, mark_of, microseconds, moment_at, place_of
from .schema import NoUnicode, has_run_listing, has_run_marks
from .tables import Log

__all__ = ["KIND", "RunRow", "can_list", "counted", "list_unread", "packed", "rows_behind", "unread"]

KIND: Final = "latest"
_UNLISTED: Final = ""
"""The status of what is in no page."""
_SOME: Final = 200
"""Rows of older versions that a write lists beside its own."""
_MOST: Final = microseconds(datetime.max) + 1
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
    waiting: bool = False
    """Whether that is since when it waits."""

    def counting(self) -> RunInfo | None:
        """The document; None where it does not count."""
        return counting(partial(_decoder.decode, self.info), self._is_key_of)

    def _is_key_of(self, run: StreamId) -> bool:
        names = self.workflow_name, self.run_id
        return (run.workflow_name, run.run_id) == names and not any(isinstance(name, NoUnicode) for name in names)

    def is_told_by(self, info: RunInfo) -> bool:
        """Whether it is listed by what the document says; else somebody has changed the listing."""
        return self.moment == _moment(info.waiting_since if self.waiting else info.recorded_at)

    @property
    def place(self) -> Place:
        """Where it is listed, whatever its document says."""
        moment = int(self.moment) if isinstance(self.moment, int | float) else 0  # somebody may have written anything
        return Place(moment_at(moment).isoformat(), StreamId(str(self.workflow_name), str(self.run_id)), self.waiting)


class _Listed(NamedTuple):
    """What a document is listed by; as it is: one that is in no page."""

    status: str = _UNLISTED
    moment: int | None = None
    asked: int | None = None
    """Since when it waits; None: it does not."""
    marks: str | None = None
    """Its tags and the types of its questions, each on a line of its own; None: it has none."""

    @classmethod
    def of(cls, info: RunInfo | None) -> _Listed:
        if info is None or not is_listed(info):
            return cls()
        asked = _moment(info.waiting_since) if info.waiting_since else None
        marks = {_mark(tag) for tag in info.tags.items()} | {_mark(each.request_type) for each in info.pending_requests}
        return cls(info.status, _moment(info.recorded_at), asked, "".join(sorted(marks)) or None)


def _moment(at: str) -> int:
    return microseconds(moment_at(microseconds(order_of(at))))


def _mark(of: str | tuple[str, str]) -> str:
    return f"\n{mark_of(of)}\n"  # which has no end of line in it: none is found within another


def packed(info: RunInfo) -> tuple[Any, ...]:
    """What a statement that stores a document is given: its key and its seq, the seqs that it is listed for, what its
    position is found by, the document, and what it is listed by. That is asked of what would be read: what was given
    may be damaged."""
    content = _encoder.encode(info)
    listed = _Listed.of(counting(partial(_decoder.decode, content), _is_its_own))
    key = info.workflow_name, info.run_id
    return *key, info.seq, info.seq, info.seq, *key, info.checkpoint_seq, content, *listed


def _is_its_own(_: StreamId) -> bool:
    return True  # the key is made of the document


def list_unread(log: Log, name: str) -> None:
    """List some of what older versions have written."""
    for row in list(_unread_rows(log, name, marked=True, limit=f" LIMIT {_SOME}")):
        log.execute(
            f"UPDATE {log.runs} SET status = ?, moment = ?, asked = ?, marks = ?, listed_seq = seq, marked_seq = seq"
            " WHERE projection = ? AND workflow_name = ? AND run_id = ?",
            (*_Listed.of(row.counting()), *row[:3]),
        )


def can_list(log: Log, which: RunFilter) -> bool:
    """Whether the file has what these runs are found by."""
    return has_run_marks(log) if _by_marks(which) else has_run_listing(log)


def _by_marks(which: RunFilter) -> bool:
    """Whether runs are asked for by what older versions do not list."""
    return which.waiting or bool(which.tags) or which.request_type is not None


def unread(log: Log, name: str, which: RunFilter, behind: Place | None, most: int) -> list[RunInfo]:
    """Of what is not listed yet, the documents that come next, up to so many."""
    infos = _unlisted(log, name, which)
    place = partial(place_of, waiting=which.waiting)
    fitting = (info for info in infos if behind is None or place(info).order > behind.order)
    return nsmallest(most, fitting, key=lambda info: place(info).order)


def rows_behind(log: Log, name: str, which: RunFilter, behind: Place | None, most: int) -> list[RunRow]:
    """The rows that are listed next, up to so many."""
    condition, values = _condition(which)
    by, is_next, order = ("asked", ">", "") if which.waiting else ("moment", "<", " DESC")
    if behind is not None:
        at = _moment(behind.at)
        condition += f" AND l.{by} {is_next}= ? AND (l.{by} {is_next} ? OR (l.workflow_name, l.run_id) > (?, ?))"
        values += [at, at, behind.stream.workflow_name, behind.stream.run_id]
    cursor = log.execute(
        f"""
        SELECT r.projection, r.workflow_name, r.run_id, r.info, l.{by}
        FROM {log.runs} AS l CROSS JOIN {log.runs} AS r USING (projection, workflow_name, run_id)
        WHERE l.projection = ? AND {condition}
        ORDER BY l.{by}{order}, l.workflow_name, l.run_id LIMIT ?""",
        (name, *values, most),
    )
    return [RunRow(*row, waiting=which.waiting) for row in cursor]


def counted(log: Log, name: str, which: RunFilter) -> dict[RunStatus, int]:
    """How many of the runs that fit stand how."""
    condition, values = _condition(which)
    cursor = log.execute(
        f"SELECT l.status, count(*) FROM {log.runs} AS l WHERE l.projection = ? AND {condition} GROUP BY l.status",
        (name, *values),
    )
    found: Counter[RunStatus] = Counter(dict(cast("list[tuple[RunStatus, int]]", cursor.fetchall())))
    for info in _unlisted(log, name, which):
        found[info.status] += 1
    return dict(found)


def _unlisted(log: Log, name: str, which: RunFilter) -> Iterator[RunInfo]:
    """Of what is not listed yet, the documents that fit."""
    infos = (row.counting() for row in _unread_rows(log, name, marked=_by_marks(which)))
    return (info for info in infos if info is not None and is_listed(info) and which.fits(info))


def _condition(which: RunFilter) -> tuple[str, list[Any]]:
    """What the listed rows that fit have in common."""
    since = microseconds(which.since) if which.since else 0
    until = microseconds(which.until) if which.until else _MOST
    listed = "marked" if _by_marks(which) else "listed"
    terms = [f"l.{listed}_seq = l.seq AND l.moment >= ? AND l.moment < ?"]
    values = cast("list[Any]", [since, until])
    if which.workflow_name is not None:
        terms.append("l.workflow_name = ?")
        values.append(which.workflow_name)
    statuses = which.statuses or _STATUSES
    terms.append(f"l.status IN ({', '.join('?' * len(statuses))})")
    values += statuses
    if which.prefix:
        terms.append("l.run_id >= ? AND l.run_id <= ?")
        values += [which.prefix, which.prefix + _LAST_CHARACTERS]
    if which.waiting:  # the oldest question of a type is no older than the oldest
        terms.append("l.asked >= 0 AND l.asked < ?")
        values.append(_MOST if which.asked_before is None else microseconds(which.asked_before))
    marks = [*which.tags.items(), *([] if which.request_type is None else [which.request_type])]
    if marks:
        terms.append("l.marks IS NOT NULL")
    for mark in marks:
        terms.append("instr(l.marks, ?)")
        values.append(_mark(mark))
    return " AND ".join(terms), values


def _unread_rows(log: Log, name: str, *, marked: bool, limit: str = "") -> Iterator[RunRow]:
    """What is not listed yet, or not by everything that `marked` stands for."""
    index, seq = ("unmarked", "marked_seq") if marked else ("unlisted", "listed_seq")
    cursor = log.execute(
        f"SELECT projection, workflow_name, run_id, info FROM {log.runs} INDEXED BY {log.runs}_{index}"
        f" WHERE projection = ? AND {seq} IS NOT seq{limit}",
        (name,),
    )
    return (RunRow(*row) for row in cursor)
