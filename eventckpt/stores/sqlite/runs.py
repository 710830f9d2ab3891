"""The "latest" projection in the SQLite file, in a table beside the events."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Collection
from functools import partial
from typing import Any, Final

from ...errors import StoreCorruptError
from ...events import RunInfo, RunStatus, StreamId
from .. import Claim, RunStore, gives_way, is_listed
from ..names import can_be_projection, check_projection
from ..run_documents import FIRST_PROJECTION, LeftOut, in_use
from ..run_pages import RunFilter, RunPage, check_limit, cut, place_in, place_of
from .connection import Connections
from .run_listing import KIND, RunRow, can_list, counted, list_unread, packed, rows_behind, unread
from .schema import NoUnicode, bound, mark_runs
from .tables import Log

__all__ = ["SqliteRunStore"]

_PAGE: Final = 256
_CLAIM: Final = "latest.claim"
"""The row beside the pointer that holds the token of the last claim; versions before know nothing of it."""
_POINTER: Final = f"{KIND!r} in the table projections"


class SqliteRunStore(RunStore):
    """See `RunStore`; made by `SqliteEventStore.run_store`."""

    counts_by_index = True

    def __init__(self, connections: Connections, name: str | None) -> None:
        self._connections = connections
        self._name = name
        self._left_out = LeftOut()

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """See `RunStore.get`."""

        def fetch(log: Log) -> list[RunRow | None]:
            name = self._of(log)
            return [_found(log, name, stream) for stream in streams]

        rows = await self._connections.reading(fetch)
        return {info.stream: info for row in rows if row is not None and (info := self._counting(row)) is not None}

    async def put(self, *infos: RunInfo) -> int:
        """See `RunStore.put`."""

        def change(log: Log) -> int:
            name = self._of(log)
            mark_runs(log)  # that of sessions may have been made by a version before, beside this one
            rows = [(name, *packed(info)) for info in infos]
            written = log.executemany(f"{_put(log)} WHERE excluded.seq > {log.runs}.seq", rows).rowcount
            if written < len(infos):
                written += sum(map(partial(_put_over, log, name), infos, rows))
            list_unread(log, name)
            return written

        return await self._connections.writing(change)

    def _of(self, log: Log) -> str:
        """The projection that was asked for by name, or the one in use."""
        if self._name is not None:
            return self._name
        pointed = _pointed_to(log)
        return pointed if can_be_projection(pointed) else FIRST_PROJECTION

    def _counting(self, row: RunRow) -> RunInfo | None:
        """The document of a row; None where it does not count, which is said once."""
        info = row.counting()
        if info is None:
            self._left_out.say(row.projection, f"{row.workflow_name}|{row.run_id}")
        return info

    async def newest(self, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        """See `RunStore.newest`; the order is that of commits."""

        def fetch(log: Log) -> list[RunRow]:
            """Rows up to the first that counts; of those before it, what names them."""
            rows: list[RunRow] = []
            for row in log.execute(
                f"{_select(log)} AND workflow_name = ? AND position IS NOT NULL ORDER BY position DESC",
                (self._of(log), workflow_name),
            ):
                if StreamId(*row[1:3]) in without:
                    continue
                rows.append(RunRow(*row))
                if rows[-1].counting() is not None:
                    break
                rows[-1] = rows[-1]._replace(info=b"")
            return rows

        rows = await self._connections.reading(fetch)
        return next(filter(None, map(self._counting, rows)), None)

    async def all(self, workflow_name: str | None = None, *, emptied: bool = False) -> AsyncGenerator[RunInfo, None]:
        """See `RunStore.all`."""
        after = ("", "") if workflow_name is None else (workflow_name, "")
        only = "" if workflow_name is None else "AND workflow_name = ?"
        while True:
            marks, names = zip(*map(bound, after), strict=True)
            behind = f"(workflow_name, run_id) > ({', '.join(marks)}) {only} ORDER BY workflow_name, run_id"
            key = (*names, *(() if workflow_name is None else (workflow_name,)))

            def fetch(log: Log, behind: str = behind, key: Any = key) -> list[RunRow]:
                return [
                    RunRow(*row)
                    for row in log.execute(f"{_select(log)} AND {behind} LIMIT {_PAGE}", (self._of(log), *key))
                ]

            rows = await self._connections.reading(fetch)
            for row in rows:
                info = self._counting(row)
                if info is not None and is_listed(info, emptied=emptied):
                    yield info
            if len(rows) < _PAGE:
                return
            after = rows[-1][1:3]

    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        """See `RunStore.page`; from a listing in the file, which one that only 0.1.0 has written to lacks."""
        check_limit(limit)
        wanted = RunFilter.of(which)
        behind = place_in(after, waiting=wanted.waiting)
        if not wanted.can_fit:
            return RunPage([], None)

        def fetch(log: Log) -> tuple[list[RunRow], list[RunInfo]] | None:
            if not can_list(log, wanted):
                return None
            name = self._of(log)
            rows = rows_behind(log, name, wanted, behind, limit + 1)
            return rows, unread(log, name, wanted, behind, limit + 1)

        if (found := await self._connections.reading(fetch)) is None:
            return await super().page(which, after=after, limit=limit)
        rows, infos = found
        listed = [
            info
            for row in rows
            if (info := self._counting(row)) is not None and row.is_told_by(info) and wanted.fits(info)
        ]
        if len(rows) > limit:  # what is not listed yet and belongs behind these is for a later page
            infos = [info for info in infos if place_of(info, waiting=wanted.waiting).order <= rows[-1].place.order]
        page = cut([*listed, *infos], limit, waiting=wanted.waiting)
        if page.after is None and len(rows) > limit:
            if behind is not None and rows[-1].place.order <= behind.order:
                raise StoreCorruptError(
                    "In the listing of runs there are more names that are no text than a page has rows: somebody "
                    "changed the store. `eventckpt doctor` tells more; rebuild the projection."
                )
            return page._replace(after=rows[-1].place.token)
        return page

    async def counts(self, which: RunFilter | None = None) -> dict[RunStatus, int]:
        """See `RunStore.counts`."""
        wanted = RunFilter.of(which)

        def fetch(log: Log) -> dict[RunStatus, int] | None:
            return counted(log, self._of(log), wanted) if can_list(log, wanted) else None

        if not wanted.can_fit:
            return {}
        # a document alone tells when its oldest question of a type was asked
        found = None if wanted.asked_before else await self._connections.reading(fetch)
        return await super().counts(which) if found is None else found

    async def clear(self) -> None:
        """See `RunStore.clear`."""

        def change(log: Log) -> None:
            log.execute(f"DELETE FROM {log.runs} WHERE projection = ?", (self._of(log),))

        await self._connections.writing(change)

    async def active(self, *, certain: bool = False) -> str:
        """See `RunStore.active`."""

        return in_use(await self._connections.reading(_pointed_to), _POINTER)

    async def claim(self) -> Claim:
        """See `RunStore.claim`."""
        token = uuid.uuid4().hex

        def change(log: Log) -> object:
            _point(log, _CLAIM, token)
            return _pointed_to(log)

        return Claim(in_use(await self._connections.writing(change), _POINTER), token)

    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        """See `RunStore.activate`."""
        check_projection(name)

        def change(log: Log) -> bool:
            last = log.execute(f"SELECT active FROM {log.projections} WHERE kind = ?", (_CLAIM,)).fetchone()
            if claim is not None and last != (claim.token,):
                return False
            log.execute(f"DELETE FROM {log.projections} WHERE kind = ?", (_CLAIM,))
            _point(log, KIND, name)
            return True

        return await self._connections.writing(change)

    async def is_empty(self) -> bool:
        """See `RunStore.is_empty`."""

        def fetch(log: Log) -> bool:
            return log.execute(f"{_select(log)} LIMIT 1", (self._of(log),)).fetchone() is None

        return await self._connections.reading(fetch)


def _put_over(log: Log, name: str, info: RunInfo, row: tuple[Any, ...]) -> int:
    """Write a document that is not there yet over one that gives way to it, though its seq is no lower; how many
    were written."""
    found = _found(log, name, info.stream)
    stored = found.counting() if found is not None else None
    if (found is not None and found.info in row) or (stored is not None and not gives_way(stored, info)):
        return 0
    return log.execute(_put(log), row).rowcount


def _found(log: Log, name: str, stream: StreamId) -> RunRow | None:
    row = log.execute(
        f"{_select(log)} AND workflow_name = ? AND run_id = ?",
        (name, stream.workflow_name, stream.run_id),
    ).fetchone()
    return RunRow(*row) if row else None


def _pointed_to(log: Log) -> object:
    """What the file says of which projection is in use."""
    row = log.execute(f"SELECT active FROM {log.projections} WHERE kind = ?", (KIND,)).fetchone()
    found = FIRST_PROJECTION if row is None else row[0]
    return found.stored if isinstance(found, NoUnicode) else found


def _point(log: Log, kind: str, active: str) -> None:
    log.execute(
        f"INSERT INTO {log.projections} (kind, active) VALUES (?, ?)"
        " ON CONFLICT (kind) DO UPDATE SET active = excluded.active",
        (kind, active),
    )


def _put(log: Log) -> str:
    return f"""
        INSERT INTO {log.runs} (
            projection, workflow_name, run_id, seq, listed_seq, marked_seq, position, info, status, moment, asked, marks
        )
        VALUES (?, ?, ?, ?, ?, ?,
            (SELECT position FROM {log.events} WHERE workflow_name = ? AND run_id = ? AND seq = ?), ?, ?, ?, ?, ?)
        ON CONFLICT (projection, workflow_name, run_id) DO UPDATE
        SET seq = excluded.seq, listed_seq = excluded.listed_seq, marked_seq = excluded.marked_seq,
            position = excluded.position, info = excluded.info, status = excluded.status, moment = excluded.moment,
            asked = excluded.asked, marks = excluded.marks"""


def _select(log: Log) -> str:
    return f"SELECT projection, workflow_name, run_id, info FROM {log.runs} WHERE projection = ?"
