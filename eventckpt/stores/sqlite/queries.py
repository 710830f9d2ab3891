"""What is asked of the table of events, and how a row of it becomes an event again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from ...event_keys import EventKey, EventKeys
from ...events import FIRST_SCHEMA, MAX_SEQ, REMOVALS, CheckpointEvent, EventSchema, EventType, StreamId
from ...text import described
from .. import FoundEvent, Stretch, can_exist
from .schema import bound
from .tables import Log

__all__ = [
    "COLUMNS",
    "IN_ORDER",
    "MIN_SEQ",
    "OF_RUNS",
    "OF_WORKFLOW",
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
    "newest_up_to",
    "page_of",
    "position_before_last",
    "removal_streams",
    "run_ids_behind",
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
OF_RUNS: Final = f"AND run_id != '{REMOVALS}'"
"""Of an event that stands in a run: not in the stream of a workflow's removals."""
OF_WORKFLOW: Final = f"AND workflow_name = ? {OF_RUNS}"
_CLOSES: Final = "head.type = 'tombstone' AND instr(head.header, x'a6636c6f736573c3a6646967657374d940')"
"""Of the record that closes a run: in its header `closes` is true, and the digest comes next, a text of 64 characters.
No text in a header has these bytes: the last two are no UTF-8. Wherever the record is not the last of its run, another
row is."""
MIN_SEQ: Final = -MAX_SEQ - 1
COLUMNS: Final = "position, workflow_name, run_id, seq, type, checkpoint_id, digest, header"
WHOLE: Final = f"{COLUMNS}, data"
_RUNS: Final = 4  # pages at once where events of many runs are asked for
_KEYS: Final = 4096  # rows that one query fetches where only keys are asked for
_TYPES: Final = frozenset(get_args(EventType))
_PAGE_BYTES: Final = 8 * 1024 * 1024  # of headers and data, after which a page is full
_BLOBS: Final = WHOLE.split(", ").index("header")  # from here on
_LAST_CHARACTERS: Final = "\U0010ffff" * 255  # after every continuation of a prefix

_NOT_A_HEADER: Final = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    TypeError,
)  # of a damaged row, not even the type is sure

_decoder: Final = msgspec.msgpack.Decoder(CheckpointEvent)
_schema_decoder: Final = msgspec.msgpack.Decoder(EventSchema)


def events_at(log: Log, stream: StreamId, seqs: Sequence[int]) -> list[CheckpointEvent]:
    """The whole events of a stream at some seqs, in the order of seqs, those that are there."""
    if not can_exist(stream):
        return []
    only, key = where(stream)
    wanted = sorted({seq for seq in seqs if MIN_SEQ <= seq <= MAX_SEQ})
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), PAGE):  # SQLite bounds the number of parameters
        some = wanted[start : start + PAGE]
        marks = ", ".join("?" * len(some))
        rows += log.execute(
            f"SELECT {WHOLE} FROM {log.events} WHERE seq IN ({marks}) {only} ORDER BY seq", (*some, *key)
        )
    return [event_of(row) for row in rows]


def newest_of(log: Log, checkpoint_id: str, only: str, key: tuple[str, ...]) -> FoundEvent | None:
    """The newest event of an id in the run that counts, among those that a condition holds for."""
    newest = log.execute(
        # Of each run the event with the greatest seq (SQLite takes the other columns from the row that has the
        # maximum): a copy that was put back lies behind later ones. Without the hint, SQLite walks through the
        # workflow.
        f"SELECT position, seq FROM (SELECT position, type, max(seq) AS seq FROM {log.events}"
        f" INDEXED BY {log.events}_by_checkpoint WHERE checkpoint_id = ? {only} GROUP BY workflow_name, run_id)"
        " ORDER BY type = 'tombstone', position DESC LIMIT 1",
        (checkpoint_id, *key),
    ).fetchone()
    if newest is None:
        return None
    row = log.execute(f"SELECT {WHOLE} FROM {log.events} WHERE position = ?", newest[:1])
    event = event_of(row.fetchone())
    return FoundEvent(event, head_of(log, event.stream) or event.header())


def page_of(
    log: Log,
    only: str,
    key: tuple[str, ...],
    *,
    column: Literal["seq", "position"],
    low: int,
    high: int,
    desc: bool,
    emptied: bool,
    limit: int,
) -> list[tuple[Any, ...]]:
    """Up to `limit` rows without data, those behind `low` and up to `high`, in the order of `column`."""
    left_out = "" if emptied else _unless_emptied(log)
    return log.execute(
        f"SELECT {COLUMNS} FROM {log.events} AS head WHERE {column} > ? AND {column} <= ? {left_out} {only}"
        f" ORDER BY {column} {'DESC' if desc else 'ASC'} LIMIT ?",
        (low, high, *key, limit),
    ).fetchall()


def keys_behind(
    log: Log, only: str, key: tuple[str, ...], *, column: Literal["seq", "position"], low: int
) -> tuple[EventKeys | None, int | None]:
    """A page of the keys of events behind `low`, in the order of `column`, if there are any; and what to go on behind,
    None at the end. Where a row is damaged or may hold a record, the headers of such are read."""
    sql = (
        f"SELECT run_id, seq, type, checkpoint_id, position FROM {log.events}"
        f" WHERE {column} > ? AND {column} <= ? {only} ORDER BY {column} LIMIT {_KEYS}"
    )
    rows = _quickly(log, lambda: log.execute(sql, (low, MAX_SEQ, *key)).fetchall())
    if not rows:
        return None, None
    keys = EventKeys(*zip(*rows, strict=True), records=(None,) * len(rows))
    if not _are_plain(keys):
        keys = _read_keys(log, [EventKey(*row) for row in rows])
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


def _read_keys(log: Log, keys: list[EventKey]) -> EventKeys:
    """These keys, with what the headers say of those that are not plain: they are read many at a time."""
    unsure = [key.place for key in keys if not _are_plain(EventKeys.of([key]))]
    read: dict[int, EventKey] = {}
    for start in range(0, len(unsure), PAGE):  # SQLite bounds the number of parameters
        some = unsure[start : start + PAGE]
        marks = ", ".join("?" * len(some))
        for row in log.execute(f"SELECT {COLUMNS} FROM {log.events} WHERE position IN ({marks})", some):
            read[row[0]] = EventKey.of(event_of(row), row[0])
    return EventKeys.of([read.get(key.place, key) for key in keys])


def _quickly(log: Log, ask: Callable[[], _T]) -> _T:
    """What is asked for, with its texts made by SQLite's module itself, which is quicker than `schema.text` and refuses
    what is no UTF-8; then it is asked again."""
    connection = log.connection
    made = connection.text_factory
    try:
        connection.text_factory = str
        return ask()
    except sqlite3.OperationalError:
        connection.text_factory = made
        return ask()
    finally:
        connection.text_factory = made


def committed(log: Log, *, after: int, limit: int) -> list[tuple[int, CheckpointEvent]]:
    """The headers of all streams' events in the order of their commits, each with its position, from `after` on."""
    rows = log.execute(
        f"SELECT {COLUMNS} FROM {log.events} WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
    )
    return [(row[0], event_of(row)) for row in rows]


def ids_beginning_with(log: Log, prefix: str, limit: int) -> list[str]:
    """Checkpoint ids that begin with `prefix`, in their order."""
    rows = log.execute(
        f"SELECT DISTINCT checkpoint_id FROM {log.events} INDEXED BY {log.events}_by_checkpoint"
        " WHERE checkpoint_id >= ? AND checkpoint_id <= ? AND checkpoint_id > '' ORDER BY checkpoint_id LIMIT ?",
        (prefix, prefix + _LAST_CHARACTERS, limit),
    )
    return [str(row[0]) for row in rows]


def runs_with(log: Log, workflow_name: str, checkpoint_ids: Sequence[str]) -> set[tuple[str, str]]:
    """Which of these checkpoint ids are in which runs of a workflow."""
    marks = ", ".join("?" * len(checkpoint_ids))
    rows = log.execute(
        f"SELECT checkpoint_id, run_id, position FROM {log.events} INDEXED BY {log.events}_by_checkpoint"
        f" WHERE checkpoint_id IN ({marks}) {OF_WORKFLOW}",
        (*checkpoint_ids, workflow_name),
    )
    return {(str(name), _name(run_id, position)) for name, run_id, position in rows}


def last_of(log: Log, workflow_name: str, run_id: str | None) -> CheckpointEvent | None:
    """The last event of a run or, over all runs of a workflow that were not emptied, the one that was committed last;
    whole."""
    if run_id is not None:
        return head_of(log, StreamId(workflow_name, run_id), WHOLE)
    row = log.execute(
        f"SELECT {WHOLE} FROM {log.events} AS head WHERE true {_unless_emptied(log)} {OF_WORKFLOW}"
        " ORDER BY position DESC LIMIT 1",
        (workflow_name,),
    ).fetchone()
    return event_of(row) if row else None


def head_of(log: Log, stream: StreamId, columns: str = COLUMNS) -> CheckpointEvent | None:
    """The last event of a run: its header or, with the columns `WHOLE`, all of it."""
    only, key = where(stream)
    row = log.execute(
        f"SELECT {columns} FROM {log.events} WHERE seq > 0 AND {IN_ORDER} {only} ORDER BY seq DESC LIMIT 1", key
    ).fetchone()
    return event_of(row) if row else None


def _last_position(log: Log) -> int:
    return log.execute(f"SELECT ifnull(max(position), 0) FROM {log.events}").fetchone()[0]


def position_before_last(log: Log, last: int) -> int:
    row = log.execute(
        f"SELECT position FROM {log.events} ORDER BY position DESC LIMIT 1 OFFSET ?", (min(last, MAX_SEQ),)
    ).fetchone()
    return row[0] if row else 0


def streams_between(
    log: Log, *, workflow_name: str | None, emptied: bool, since: int, before: int, top: int | None
) -> tuple[int, list[tuple[int, str, str]]]:
    """A page of the streams whose head, among the events up to position `top`, lies behind `since` and at `before` or
    earlier; and `top`, which is the last position where None is given."""
    only, key = (OF_RUNS, ()) if workflow_name is None else (OF_WORKFLOW, (workflow_name,))
    if not emptied:
        only = f"{_unless_emptied(log)} {only}"
    top = _last_position(log) if top is None else top
    rows = log.execute(
        f"SELECT position, workflow_name, run_id FROM {log.events} AS head WHERE position > ? AND position <= ? {only}"
        f" AND NOT EXISTS (SELECT 1 FROM {log.events} AS later WHERE later.workflow_name = head.workflow_name"
        " AND later.run_id = head.run_id AND later.seq > head.seq AND later.position <= ?)"
        f" ORDER BY position DESC LIMIT {PAGE}",
        (since, min(before, top), *key, top),
    )
    return top, [(row[0], *_names(*row)) for row in rows]


def _unless_emptied(log: Log) -> str:
    """Not of `head` where it closed its run and nothing is left before it. What a removal that was cut off has left is
    still to go, and is looked for in these listings."""
    return (
        f"AND NOT ({_CLOSES} AND NOT EXISTS (SELECT 1 FROM {log.events} AS earlier WHERE earlier.workflow_name ="
        " head.workflow_name AND earlier.run_id = head.run_id AND earlier.seq < head.seq))"
    )


def _workflows(log: Log) -> str:
    """The names of all workflows, as the table `workflows`. They are few: each is found from the one before."""
    return (
        f"WITH RECURSIVE workflows (name) AS (SELECT min(workflow_name) FROM {log.events} UNION ALL"
        f" SELECT (SELECT min(workflow_name) FROM {log.events} WHERE workflow_name > name) FROM workflows"
        " WHERE name IS NOT NULL)"
    )


def streams_named(log: Log, workflow_name: str | None, prefix: str, *, emptied: bool) -> list[tuple[str, str]]:
    """The streams of a workflow, or of all, whose run id begins with some text; the last written to first."""
    named = (
        f"SELECT workflow_name, run_id, max(position) AS latest FROM {log.events}"
        " WHERE workflow_name IN (SELECT name FROM workflows WHERE name IS NOT NULL AND name = ifnull(?, name))"
        " AND run_id >= ? AND run_id <= ? GROUP BY workflow_name, run_id"
    )
    if not emptied:
        named = (
            f"SELECT head.workflow_name, head.run_id, latest FROM ({named}) AS named"
            f" CROSS JOIN {log.events} AS head ON head.position = named.latest"
            f" WHERE true {_unless_emptied(log)}"
        )
    rows = log.execute(
        f"{_workflows(log)} {named} ORDER BY latest DESC", (workflow_name, prefix, prefix + _LAST_CHARACTERS)
    )
    return [_names(latest, *names) for *names, latest in rows]


def removal_streams(log: Log) -> list[StreamId]:
    """The streams of removals."""
    rows = log.execute(
        f"{_workflows(log)} SELECT name FROM workflows WHERE name IS NOT NULL AND EXISTS"
        f" (SELECT 1 FROM {log.events} WHERE workflow_name = name AND run_id = ?)",
        (REMOVALS,),
    )
    return [StreamId(str(name), REMOVALS) for (name,) in rows]


def stretches_of(log: Log, streams: Sequence[StreamId], low: int, high: int, columns: str) -> tuple[list[Stretch], int]:
    """A page of the events of runs, those of the first one behind the seq `low`; and the seq, by its row, behind which
    the last stretch goes on, where it does not end its run. With the columns `WHOLE` and no upper bound, some of those
    whose seq is no number come last: they are damaged, and stand in no order."""
    return _quickly(log, lambda: _stretches_of(log, streams, low, high, columns))


def _stretches_of(
    log: Log, streams: Sequence[StreamId], low: int, high: int, columns: str
) -> tuple[list[Stretch], int]:
    # A text is more than any number.
    above = "" if columns is WHOLE and high == MAX_SEQ else f"AND seq <= {high}"
    sql = f"SELECT {columns} FROM {log.events} WHERE seq > ? {above} AND workflow_name = ? AND run_id = ? ORDER BY seq"
    left, size, found = _RUNS * PAGE, _PAGE_BYTES, list[Stretch]()
    for stream in streams:
        events: list[CheckpointEvent] = []
        found.append(Stretch(stream, events, ends=True))
        if not can_exist(stream):
            continue
        rows = log.execute(sql, (low, stream.workflow_name, stream.run_id))
        for row in rows:
            events.append(event_of(row))
            left, size = left - 1, size - _bytes_in(row)
            if left == 0 or size < 0:
                rows.close()
                if not isinstance(row[3], int | float):
                    return found, 0
                found[-1] = Stretch(stream, events, ends=False)
                return found, row[3]
        low = 0
    return found, 0


def newest_up_to(
    log: Log, stream: StreamId, high: int | None, lte: int | None, limit: int
) -> tuple[list[CheckpointEvent], int | None]:
    """Up to `limit` whole events of a run, from the last one or that at `high` back; and where to go on, None at the
    end. Of those behind `lte` only tombstones. With neither bound, some of those whose seq is no number come first: see
    `stretches_of`."""
    only, key = where(stream)
    bounds, values = ("", ()) if lte is high is None else ("AND seq <= ?", (MAX_SEQ if high is None else high,))
    if lte is not None:
        bounds, values = f"{bounds} AND (seq <= ? OR type = 'tombstone')", (*values, bounds_of(0, lte)[1])
    rows = log.execute(
        f"SELECT {WHOLE} FROM {log.events} WHERE seq > 0 {bounds} {only} ORDER BY seq DESC LIMIT {limit}",
        (*values, *key),
    )
    events, left = list[CheckpointEvent](), _PAGE_BYTES
    for row in rows:
        events.append(event_of(row))
        left -= _bytes_in(row)
        if left < 0 or len(events) == limit:
            rows.close()
            return events, _before(row[3])
    return events, None


def _before(seq: object) -> int:
    """Where to go on behind a row, from the last one back: a text is more than any number."""
    return ceil(seq) - 1 if isinstance(seq, int | float) and seq <= MAX_SEQ else MAX_SEQ


def run_ids_behind(log: Log, workflow_name: str, after: object) -> tuple[list[str], object]:
    """A page of the run ids of a workflow behind one of them, at first behind `REMOVALS`, which is before every run;
    and what to go on behind, None at the end. Each is found from the one before by the index, whatever the number of
    events."""
    mark, value = bound(after)
    behind = f"> {mark.replace('?', ':after')}"
    least = f"SELECT min(run_id) FROM {log.events} WHERE workflow_name = :workflow AND run_id"
    rows = log.execute(
        f"WITH RECURSIVE found (id) AS ({least} {behind} UNION ALL"
        f" SELECT ({least} > id) FROM found WHERE id IS NOT NULL LIMIT {PAGE})"
        f" SELECT id, (SELECT position FROM {log.events} WHERE workflow_name = :workflow AND run_id = id"
        " ORDER BY seq DESC LIMIT 1) FROM found WHERE id IS NOT NULL",
        {"workflow": workflow_name, "after": value},
    ).fetchall()
    return [_name(*row) for row in rows], rows[-1][0] if len(rows) == PAGE else None


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


def _bytes_in(row: tuple[Any, ...]) -> int:
    return sum(len(each) for each in row[_BLOBS:] if type(each) is bytes)


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
