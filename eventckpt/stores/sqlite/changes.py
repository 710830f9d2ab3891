"""What one transaction changes in the table of events: an append, copies that are put, events that are removed."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Final

import msgspec

from ...errors import StoreCorruptError, StreamConflict
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...removals import Removals
from .. import gaps_behind, head_stays
from .errors import primary_code
from .queries import COLUMNS, IN_ORDER, MIN_SEQ, PAGE, event_of, head_of, where
from .tables import Log

__all__ = ["append_one", "put_all", "put_over", "remove"]

_encoder: Final = msgspec.msgpack.Encoder()


def append_one(log: Log, event: CheckpointEvent) -> StreamConflict | None:
    """Append an event if it fits its stream's head; else the conflict."""
    row = log.execute(
        f"SELECT seq, digest FROM {log.events} WHERE workflow_name = ? AND run_id = ? AND {IN_ORDER}"
        " ORDER BY seq DESC LIMIT 1",
        (event.workflow_name, event.run_id),
    ).fetchone()
    head_seq, head_digest = row or (0, event.previous_digest)  # a fork's first event continues another stream
    if event.seq == head_seq + 1 <= MAX_SEQ and event.previous_digest == head_digest:
        _insert(log, event)
        return None
    if event.seq <= head_seq:
        only, key = where(event.stream)
        same = log.execute(f"SELECT digest FROM {log.events} WHERE seq = ? {only}", (event.seq, *key)).fetchone()
        if same == (event.digest,) or (same is None and _removals(log, event.stream).tells(event)):
            return None
    return StreamConflict(event.stream, event.seq, head_of(log, event.stream))


def put_all(log: Log, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
    """See `AuditStore.put`."""
    added = 0
    removals: Removals | None = None
    stored = _digests(log, stream, [event.seq for event in events])
    for event in events:
        if (digest := stored.get(event.seq)) is not None:
            if digest != event.digest:
                raise StreamConflict(stream, event.seq, head_of(log, stream))
            continue
        if removals is None:
            removals = _removals(log, stream, after=min(event.seq for event in events))
        if not (removals and removals.covers(event.seq)):
            _insert(log, event)
            stored[event.seq] = event.digest
            added += 1
        elif removals.tells(event) is False:
            raise StreamConflict(stream, event.seq, head_of(log, stream))
    return added


def put_over(log: Log, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
    """See `AuditStore.put_over`. The head that each append is compared with keeps the gaps closed."""
    only, key = where(stream)
    for low, high in gaps_behind(after, events):
        found = log.execute(
            f"SELECT seq FROM {log.events} WHERE seq > ? AND seq <= ? {only} ORDER BY seq LIMIT 1", (low, high, *key)
        ).fetchone()
        if found is not None:
            raise StreamConflict(stream, found[0], head_of(log, stream))
    return put_all(log, stream, events)


def remove(log: Log, stream: StreamId, seqs: Sequence[int]) -> int:
    """See `AuditStore.remove`."""
    only, key = where(stream)
    last = f"SELECT seq FROM {log.events} WHERE seq > 0 AND {IN_ORDER} {only} ORDER BY seq DESC LIMIT 1"
    head = log.execute(last, key).fetchone()
    if head is not None and head[0] in seqs:
        raise head_stays(stream, head[0])
    removed = 0
    for first, last in _stretches(seq for seq in seqs if MIN_SEQ <= seq <= MAX_SEQ):
        removed += log.execute(
            f"DELETE FROM {log.events} WHERE seq BETWEEN ? AND ? {only}", (first, last, *key)
        ).rowcount
    return removed


def _stretches(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each stretch of seqs without a gap."""
    stretches: list[tuple[int, int]] = []
    for seq in sorted(seqs):
        if stretches and seq <= stretches[-1][1] + 1:
            stretches[-1] = stretches[-1][0], seq
        else:
            stretches.append((seq, seq))
    return stretches


def _insert(log: Log, event: CheckpointEvent) -> None:
    try:
        _insert_row(log, event)
    except sqlite3.OperationalError as error:
        if primary_code(error) == sqlite3.SQLITE_FULL and _is_used_up(log):
            path = log.execute("PRAGMA database_list").fetchone()[2]
            raise StoreCorruptError(
                f"No event can be appended to the store {path}: its last position, {MAX_SEQ}, was given, which no "
                "store comes to by itself. Nothing was written. Somebody changed the file: restore it from a backup, "
                "or move its runs into a new store (export, import)."
            ) from error
        raise


def _is_used_up(log: Log) -> bool:
    """Whether there is no position left, which SQLite reports as it does a full disk."""
    return log.execute(
        f"SELECT EXISTS (SELECT 1 FROM {log.events} WHERE position = {MAX_SEQ}) OR EXISTS ("
        f" SELECT 1 FROM sqlite_sequence WHERE name = '{log.events}' AND typeof(seq) IN ('integer', 'real')"
        f" AND seq >= {MAX_SEQ})"
    ).fetchone()[0]


def _insert_row(log: Log, event: CheckpointEvent) -> None:
    log.execute(
        f"INSERT INTO {log.events} (workflow_name, run_id, seq, type, checkpoint_id, digest, header, data)"
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


def _digests(log: Log, stream: StreamId, seqs: Sequence[int]) -> dict[int, object]:
    """By seq, the digest of each of these events that is there."""
    only, key = where(stream)
    found: dict[int, object] = {}
    for start in range(0, len(seqs), PAGE):  # SQLite bounds the number of parameters
        some = seqs[start : start + PAGE]
        marks = ", ".join("?" * len(some))
        found.update(
            log.execute(f"SELECT seq, digest FROM {log.events} WHERE seq IN ({marks}) {only}", (*some, *key)).fetchall()
        )
    return found


def _removals(log: Log, stream: StreamId, *, after: int = 0) -> Removals:
    """What the newest record of a run, of those behind `after`, says was removed."""
    only, key = where(stream)
    with closing(
        log.execute(
            f"SELECT {COLUMNS} FROM {log.events} WHERE checkpoint_id = '' AND seq > ? {only} ORDER BY seq DESC",
            (after, *key),
        )
    ) as rows:
        return Removals(itertools.islice((event for row in rows if (event := event_of(row)).pruned), 1))
