"""What is asked of the table of events, and how a row of it becomes an event again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from ...events import FIRST_SCHEMA, MAX_SEQ, CheckpointEvent, EventKey, EventKeys, EventSchema, EventType, StreamId
from ...text import described
from .. import FoundEvent, Stretch, can_exist

__all__ = [
    "COLUMNS",
    "IN_ORDER",
    "MIN_SEQ",
    "PAGE",
    "WHOLE",
    "bounds_of",
    "committed",
    "event_of",
    "events_at",
    "head_of",
    "ids_beginning_with",
    "keys_behind",
    "last_of",
    "newest_of",
    "page_of",
    "position_before_last",
    "runs_with",
    "streams_between",
    "streams_named",
    "stretches_of",
    "where",
]

_T = TypeVar("_T")

PAGE: Final = 256  # rows that one query fetches
IN_ORDER: Final = "typeof(seq) = 'integer'"
"""Of an event that stands in the order of its run: whatever else is in the column, nobody can follow it."""
MIN_SEQ: Final = -MAX_SEQ - 1
COLUMNS: Final = "position, workflow_name, run_id, seq, type, checkpoint_id, digest, header"
WHOLE: Final = f"{COLUMNS}, data"
_RUNS: Final = 4  # pages at once where events of many runs are asked for
_KEYS: Final = 4096  # rows that one query fetches where only keys are asked for
_TYPES: Final = frozenset(get_args(EventType))
_PAGE_BYTES: Final = 8 * 1024 * 1024  # of headers and data, after which a page is full
_BLOBS: Final = WHOLE.split(", ").index("header")  # from here on
_LAST_CHARACTERS: Final = "\U0010ffff" * 255  # after every continuation of a prefix

_NEWEST: Final = (
    # Of each run the event with the greatest seq (SQLite takes the other columns from the row that has the maximum): a
    # copy that was put back lies behind later ones. Without the hint, SQLite walks through the workflow.
    "SELECT position, seq FROM (SELECT position, type, max(seq) AS seq FROM events INDEXED BY events_by_checkpoint"
    " WHERE checkpoint_id = ? {only} GROUP BY workflow_name, run_id) ORDER BY type = 'tombstone', position DESC LIMIT 1"
)
"""Where the newest event of a checkpoint id is, in the run that counts: one where it is live, and written last."""

_NOT_A_HEADER: Final = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    TypeError,
)  # of a damaged row, not even the type is sure

_decoder: Final = msgspec.msgpack.Decoder(CheckpointEvent)
_schema_decoder: Final = msgspec.msgpack.Decoder(EventSchema)


def events_at(connection: sqlite3.Connection, stream: StreamId, seqs: Sequence[int]) -> list[CheckpointEvent]:
    """The whole events of a stream at some seqs, in the order of seqs, those that are there."""
    if not can_exist(stream):
        return []
    only, key = where(stream)
    wanted = sorted({seq for seq in seqs if MIN_SEQ <= seq <= MAX_SEQ})
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), PAGE):  # SQLite bounds the number of parameters
        some = wanted[start : start + PAGE]
        marks = ", ".join("?" * len(some))
        rows += connection.execute(
            f"SELECT {WHOLE} FROM events WHERE seq IN ({marks}) {only} ORDER BY seq", (*some, *key)
        )
    return [event_of(row) for row in rows]


def newest_of(connection: sqlite3.Connection, checkpoint_id: str, only: str, key: tuple[str, ...]) -> FoundEvent | None:
    """The newest event of an id in the run that counts, among those that a condition holds for."""
    newest = connection.execute(_NEWEST.format(only=only), (checkpoint_id, *key)).fetchone()
    if newest is None:
        return None
    row = connection.execute(f"SELECT {WHOLE} FROM events WHERE position = ?", newest[:1])
    event = event_of(row.fetchone())
    return FoundEvent(event, head_of(connection, event.stream) or event.header())


def page_of(
    connection: sqlite3.Connection,
    only: str,
    key: tuple[str, ...],
    *,
    column: Literal["seq", "position"],
    low: int,
    high: int,
    desc: bool,
    limit: int,
) -> list[tuple[Any, ...]]:
    """Up to `limit` rows without data, those behind `low` and up to `high`, in the order of `column`."""
    return connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE {column} > ? AND {column} <= ? {only}"
        f" ORDER BY {column} {'DESC' if desc else 'ASC'} LIMIT ?",
        (low, high, *key, limit),
    ).fetchall()


def keys_behind(
    connection: sqlite3.Connection, only: str, key: tuple[str, ...], *, column: Literal["seq", "position"], low: int
) -> tuple[EventKeys | None, int | None]:
    """A page of the keys of events behind `low`, in the order of `column`, if there are any; and what to go on behind,
    None at the end. Where a row is damaged or may hold a record, the headers of such are read."""
    sql = (
        f"SELECT run_id, seq, type, checkpoint_id, position FROM events WHERE {column} > ? AND {column} <= ? {only}"
        f" ORDER BY {column} LIMIT {_KEYS}"
    )
    rows = _quickly(connection, lambda: connection.execute(sql, (low, MAX_SEQ, *key)).fetchall())
    if not rows:
        return None, None
    keys = EventKeys(*zip(*rows, strict=True), records=(None,) * len(rows))
    if not _are_plain(keys):
        keys = EventKeys.of([_read_key(connection, row) for row in rows])
    last = rows[-1][1 if column == "seq" else 4]
    return keys, last if len(rows) == _KEYS else None


def _are_plain(keys: EventKeys) -> bool:
    """Whether rows are neither damaged nor may hold a record."""
    texts = {*map(type, keys.run_ids), *map(type, keys.checkpoint_ids)}
    return (
        texts == {str}
        and {*map(type, keys.seqs)} == {int}
        and _TYPES.issuperset(keys.types)
        and all(keys.checkpoint_ids)
    )


def _read_key(connection: sqlite3.Connection, row: tuple[Any, ...]) -> EventKey:
    key = EventKey(*row)
    if _are_plain(EventKeys.of([key])):
        return key
    found = connection.execute(f"SELECT {COLUMNS} FROM events WHERE position = ?", (key.place,)).fetchone()
    return EventKey.of(event_of(found), key.place)


def _quickly(connection: sqlite3.Connection, ask: Callable[[], _T]) -> _T:
    """What is asked for, with its texts made by SQLite's module itself, which is quicker than `schema.text` and refuses
    what is no UTF-8; then it is asked again."""
    made = connection.text_factory
    try:
        connection.text_factory = str
        return ask()
    except sqlite3.OperationalError:
        connection.text_factory = made
        return ask()
    finally:
        connection.text_factory = made


def committed(connection: sqlite3.Connection, *, after: int, limit: int) -> list[tuple[int, CheckpointEvent]]:
    """The headers of all streams' events in the order of their commits, each with its position, from `after` on."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
    )
    return [(row[0], event_of(row)) for row in rows]


def ids_beginning_with(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Checkpoint ids that begin with `prefix`, in their order."""
    rows = connection.execute(
        "SELECT DISTINCT checkpoint_id FROM events INDEXED BY events_by_checkpoint"
        " WHERE checkpoint_id >= ? AND checkpoint_id <= ? ORDER BY checkpoint_id LIMIT ?",
        (prefix, prefix + _LAST_CHARACTERS, limit),
    )
    return [str(row[0]) for row in rows]


def runs_with(
    connection: sqlite3.Connection, workflow_name: str, checkpoint_ids: Sequence[str]
) -> set[tuple[str, str]]:
    """Which of these checkpoint ids are in which runs of a workflow."""
    marks = ", ".join("?" * len(checkpoint_ids))
    rows = connection.execute(
        "SELECT checkpoint_id, run_id, position FROM events INDEXED BY events_by_checkpoint"
        f" WHERE checkpoint_id IN ({marks}) AND workflow_name = ?",
        (*checkpoint_ids, workflow_name),
    )
    return {(str(name), _name(run_id, position)) for name, run_id, position in rows}


def last_of(connection: sqlite3.Connection, workflow_name: str, run_id: str | None) -> CheckpointEvent | None:
    """The last event of a run or, over all runs of a workflow, the one that was committed last; whole."""
    if run_id is not None:
        return head_of(connection, StreamId(workflow_name, run_id), WHOLE)
    row = connection.execute(
        f"SELECT {WHOLE} FROM events WHERE workflow_name = ? ORDER BY position DESC LIMIT 1", (workflow_name,)
    ).fetchone()
    return event_of(row) if row else None


def head_of(connection: sqlite3.Connection, stream: StreamId, columns: str = COLUMNS) -> CheckpointEvent | None:
    """The last event of a run: its header or, with the columns `WHOLE`, all of it."""
    only, key = where(stream)
    row = connection.execute(
        f"SELECT {columns} FROM events WHERE seq > 0 AND {IN_ORDER} {only} ORDER BY seq DESC LIMIT 1", key
    ).fetchone()
    return event_of(row) if row else None


def _last_position(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()[0]


def position_before_last(connection: sqlite3.Connection, last: int) -> int:
    row = connection.execute(
        "SELECT position FROM events ORDER BY position DESC LIMIT 1 OFFSET ?", (min(last, MAX_SEQ),)
    ).fetchone()
    return row[0] if row else 0


def streams_between(
    connection: sqlite3.Connection, *, workflow_name: str | None, since: int, before: int, top: int | None
) -> tuple[int, list[tuple[int, str, str]]]:
    """A page of the streams whose head, among the events up to position `top`, lies behind `since` and at `before` or
    earlier; and `top`, which is the last position where None is given."""
    only, key = ("", ()) if workflow_name is None else ("AND workflow_name = ?", (workflow_name,))
    top = _last_position(connection) if top is None else top
    rows = connection.execute(
        f"SELECT position, workflow_name, run_id FROM events AS head WHERE position > ? AND position <= ? {only}"
        " AND NOT EXISTS (SELECT 1 FROM events AS later WHERE later.workflow_name = head.workflow_name"
        " AND later.run_id = head.run_id AND later.seq > head.seq AND later.position <= ?)"
        f" ORDER BY position DESC LIMIT {PAGE}",
        (since, min(before, top), *key, top),
    )
    return top, [(row[0], *_names(*row)) for row in rows]


def streams_named(connection: sqlite3.Connection, workflow_name: str | None, prefix: str) -> list[tuple[str, str]]:
    # The names of workflows are few: each is found from the one before, and the index does the rest.
    rows = connection.execute(
        "WITH RECURSIVE workflows (name) AS (SELECT min(workflow_name) FROM events UNION ALL"
        " SELECT (SELECT min(workflow_name) FROM events WHERE workflow_name > name) FROM workflows"
        " WHERE name IS NOT NULL)"
        " SELECT workflow_name, run_id, max(position) AS latest FROM events"
        " WHERE workflow_name IN (SELECT name FROM workflows WHERE name IS NOT NULL AND name = ifnull(?, name))"
        " AND run_id >= ? AND run_id <= ? GROUP BY workflow_name, run_id ORDER BY latest DESC",
        (workflow_name, prefix, prefix + _LAST_CHARACTERS),
    )
    return [_names(latest, *names) for *names, latest in rows]


def stretches_of(
    connection: sqlite3.Connection, streams: Sequence[StreamId], low: int, high: int, columns: str
) -> tuple[list[Stretch], int]:
    """A page of the events of runs, those of the first one behind the seq `low`; and the seq, by its row, behind which
    the last stretch goes on, where it does not end its run. With the columns `WHOLE` and no upper bound, some of those
    whose seq is no number come last: they are damaged, and stand in no order."""
    return _quickly(connection, lambda: _stretches_of(connection, streams, low, high, columns))


def _stretches_of(
    connection: sqlite3.Connection, streams: Sequence[StreamId], low: int, high: int, columns: str
) -> tuple[list[Stretch], int]:
    # A text is more than any number.
    above = "" if columns is WHOLE and high == MAX_SEQ else f"AND seq <= {high}"
    sql = f"SELECT {columns} FROM events WHERE seq > ? {above} AND workflow_name = ? AND run_id = ? ORDER BY seq"
    left, size, found = _RUNS * PAGE, _PAGE_BYTES, list[Stretch]()
    for stream in streams:
        events: list[CheckpointEvent] = []
        found.append(Stretch(stream, events, ends=True))
        if not can_exist(stream):
            continue
        rows = connection.execute(sql, (low, stream.workflow_name, stream.run_id))
        for row in rows:
            events.append(event_of(row))
            left, size = left - 1, size - sum(len(each) for each in row[_BLOBS:] if type(each) is bytes)
            if left == 0 or size < 0:
                rows.close()
                if not isinstance(row[3], int | float):
                    return found, 0
                found[-1] = Stretch(stream, events, ends=False)
                return found, row[3]
        low = 0
    return found, 0


def bounds_of(gt: int, lte: int | None) -> tuple[int, int]:
    """The bounds of a listing as SQLite counts, in 64 bits."""
    low, high = (min(max(bound, MIN_SEQ), MAX_SEQ) for bound in (gt, MAX_SEQ if lte is None else lte))
    return low, high


def where(stream: StreamId) -> tuple[str, tuple[str, str]]:
    return "AND workflow_name = ? AND run_id = ?", (stream.workflow_name, stream.run_id)


def event_of(row: tuple[Any, ...]) -> CheckpointEvent:
    """The event in a row, with its data if the row has that column. One whose names are no text belongs to no run: it
    is given under names that say where it lies, and without a seq."""
    position, workflow_name, run_id, seq, kind, checkpoint_id, digest, header, *data = row
    event = _header(header)
    if not type(workflow_name) is type(run_id) is str:
        workflow_name, run_id, seq = *_names(position, workflow_name, run_id), 0
    key = (workflow_name, run_id, seq, kind, checkpoint_id, digest)
    stray = bool(data and data[0]) and event is not None and event.payload is None
    if event is None or stray or key != (
        event.workflow_name, event.run_id, event.seq, event.type, event.checkpoint_id, event.digest
    ):  # fmt: skip
        return CheckpointEvent.unreadable(
            kind=kind,
            workflow_name=workflow_name,
            run_id=run_id,
            seq=seq,
            checkpoint_id=checkpoint_id,
            digest=digest,
            schema=_schema(header),
        )
    if event.payload and data and isinstance(data[0], bytes):
        return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data[0]))
    return event


def _names(position: int, workflow_name: object, run_id: object) -> tuple[str, str]:
    return _name(workflow_name, position), _name(run_id, position)


def _name(stored: object, position: int) -> str:
    """A name that can be asked for; of what is no text, one that nothing else has."""
    return stored if type(stored) is str else f"{described(stored)} (no name, at position {position})"


def _header(stored: Any) -> CheckpointEvent | None:
    try:
        return _decoder.decode(stored)
    except _NOT_A_HEADER:
        return None


def _schema(stored: Any) -> int:
    """The schema that a header says it has, whatever else is in it."""
    try:
        return _schema_decoder.decode(stored).schema
    except _NOT_A_HEADER:
        return FIRST_SCHEMA
