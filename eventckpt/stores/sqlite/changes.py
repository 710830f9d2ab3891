"""What one transaction changes in the table of events: an append, copies that are put, events that are removed."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import msgspec

from ...errors import StoreCorruptError, StreamConflict
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...removals import Removals
from .. import gaps_behind, head_stays
from .errors import primary_code
from .queries import COLUMNS, IN_ORDER, MIN_SEQ, PAGE, event_of, head_of, where

__all__ = ["append_one", "put_all", "put_over", "remove"]

_IS_USED_UP: Final = f"""
    SELECT EXISTS (SELECT 1 FROM events WHERE position = {MAX_SEQ}) OR EXISTS (SELECT 1 FROM sqlite_sequence
        WHERE name = 'events' AND typeof(seq) IN ('integer', 'real') AND seq >= {MAX_SEQ})"""
"""Whether there is no position left, which SQLite reports as it does a full disk."""

_encoder: Final = msgspec.msgpack.Encoder()


def append_one(connection: sqlite3.Connection, event: CheckpointEvent) -> StreamConflict | None:
    """Append an event if it fits its stream's head; else the conflict."""
    row = connection.execute(
        f"SELECT seq, digest FROM events WHERE workflow_name = ? AND run_id = ? AND {IN_ORDER}"
        " ORDER BY seq DESC LIMIT 1",
        (event.workflow_name, event.run_id),
    ).fetchone()
    head_seq, head_digest = row or (0, event.previous_digest)  # a fork's first event continues another stream
    if event.seq == head_seq + 1 <= MAX_SEQ and event.previous_digest == head_digest:
        _insert(connection, event)
        return None
    if event.seq <= head_seq:
        only, key = where(event.stream)
        same = connection.execute(f"SELECT digest FROM events WHERE seq = ? {only}", (event.seq, *key)).fetchone()
        if same == (event.digest,) or (same is None and _removals(connection, event.stream).tells(event)):
            return None
    return StreamConflict(event.stream, event.seq, head_of(connection, event.stream))


def put_all(connection: sqlite3.Connection, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
    """See `AuditStore.put`."""
    added = 0
    removals: Removals | None = None
    stored = _digests(connection, stream, [event.seq for event in events])
    for event in events:
        if (digest := stored.get(event.seq)) is not None:
            if digest != event.digest:
                raise StreamConflict(stream, event.seq, head_of(connection, stream))
            continue
        if removals is None:
            removals = _removals(connection, stream, after=min(event.seq for event in events))
        if not (removals and removals.covers(event.seq)):
            _insert(connection, event)
            stored[event.seq] = event.digest
            added += 1
        elif removals.tells(event) is False:
            raise StreamConflict(stream, event.seq, head_of(connection, stream))
    return added


def put_over(connection: sqlite3.Connection, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
    """See `AuditStore.put_over`. The head that each append is compared with keeps the gaps closed."""
    only, key = where(stream)
    for low, high in gaps_behind(after, events):
        found = connection.execute(
            f"SELECT seq FROM events WHERE seq > ? AND seq <= ? {only} ORDER BY seq LIMIT 1", (low, high, *key)
        ).fetchone()
        if found is not None:
            raise StreamConflict(stream, found[0], head_of(connection, stream))
    return put_all(connection, stream, events)


def remove(connection: sqlite3.Connection, stream: StreamId, seqs: Sequence[int]) -> int:
    """See `AuditStore.remove`."""
    only, key = where(stream)
    head = head_of(connection, stream)
    if head is not None and head.seq in seqs:
        raise head_stays(stream, head.seq)
    return connection.executemany(
        f"DELETE FROM events WHERE seq = ? {only}", [(seq, *key) for seq in seqs if MIN_SEQ <= seq <= MAX_SEQ]
    ).rowcount


def _insert(connection: sqlite3.Connection, event: CheckpointEvent) -> None:
    try:
        _insert_row(connection, event)
    except sqlite3.OperationalError as error:
        if primary_code(error) == sqlite3.SQLITE_FULL and connection.execute(_IS_USED_UP).fetchone()[0]:
            path = connection.execute("PRAGMA database_list").fetchone()[2]
            raise StoreCorruptError(
                f"No event can be appended to the store {path}: its last position, {MAX_SEQ}, was given, which no "
                "store comes to by itself. Nothing was written. Somebody changed the file: restore it from a backup, "
                "or move its runs into a new store (export, import)."
            ) from error
        raise


def _insert_row(connection: sqlite3.Connection, event: CheckpointEvent) -> None:
    connection.execute(
        "INSERT INTO events (workflow_name, run_id, seq, type, checkpoint_id, digest, header, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.workflow_name,
            event.run_id,
            event.seq,
            event.type,
            event.checkpoint_id,
            event.digest,
            _encoder.encode(event.header()),
            event.payload.data if event.payload else b"",
        ),
    )


def _digests(connection: sqlite3.Connection, stream: StreamId, seqs: Sequence[int]) -> dict[int, object]:
    """By seq, the digest of each of these events that is there."""
    only, key = where(stream)
    found: dict[int, object] = {}
    for start in range(0, len(seqs), PAGE):  # SQLite bounds the number of parameters
        some = seqs[start : start + PAGE]
        marks = ", ".join("?" * len(some))
        found.update(
            connection.execute(
                f"SELECT seq, digest FROM events WHERE seq IN ({marks}) {only}", (*some, *key)
            ).fetchall()
        )
    return found


def _removals(connection: sqlite3.Connection, stream: StreamId, *, after: int = 0) -> Removals:
    """What the newest record of a run, of those behind `after`, says was removed."""
    only, key = where(stream)
    with closing(
        connection.execute(
            f"SELECT {COLUMNS} FROM events WHERE checkpoint_id = '' AND seq > ? {only} ORDER BY seq DESC",
            (after, *key),
        )
    ) as rows:
        return Removals(itertools.islice((event for row in rows if (event := event_of(row)).pruned), 1))
