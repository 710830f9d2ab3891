"""What doctor looks at in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ...errors import CheckpointStoreError
from ...text import described
from .. import Check
from .connection import Connections
from .schema import APPLICATION_ID, differences, pragma
from .space import room_of
from .tables import LOGS, Log

__all__ = ["checks_of"]

_SOME: Final = 3  # rows of a table that are named
_OF_A_LOG: Final = (
    (
        "position",
        {
            **dict.fromkeys(("workflow_name", "run_id", "type", "checkpoint_id", "digest"), "'text'"),
            "seq": "'integer'",
            **dict.fromkeys(("header", "data"), "'blob'"),
        },
    ),
    (
        "run_id",
        {
            **dict.fromkeys(("projection", "workflow_name", "run_id"), "'text'"),
            "seq": "'integer'",
            "position": "'integer', 'null'",
            "info": "'blob'",
            **dict.fromkeys(("status", "marks"), "'text', 'null'"),
            **dict.fromkeys(("moment", "listed_seq", "asked", "marked_seq"), "'integer', 'null'"),
        },
    ),
    ("kind", {"kind": "'text'", "active": "'text'"}),
    ("id", {"id": "'text'", "version": "'integer'", "document": "'blob'"}),
)
"""Of each table, in the order of `Tables`, what names a row, and of which types each column is."""
_TYPES: Final = {
    **{name: types for tables in LOGS for name, types in zip(tables, _OF_A_LOG, strict=True)},
    "store": ("id", {"id": "'text'"}),
}
_SEE: Final = "See docs/audit.md, doctor."


async def checks_of(connections: Connections, *, write: bool) -> list[Check]:
    """See `AuditStore.checks`."""
    looks = connections.read_only or not write
    # First: it gives a file of 0.1.0 what belongs to its schema.
    writing = [] if looks else [await _check_writing(connections)]
    found: list[Check] = []

    def look(log: Log) -> None:
        found.clear()
        found.extend(_looked_at(log.connection, connections.path, read_only=looks))

    try:
        await connections.reading(look)
    except CheckpointStoreError as error:
        found.append(Check("reading", False, str(error), _SEE))
    return [*found, *writing]


async def _check_writing(connections: Connections) -> Check:
    try:
        # A transaction can begin also in a file that may only be read; a statement that writes cannot.
        await connections.writing(lambda log: log.execute(f"DELETE FROM {log.events} WHERE 0"))
    except CheckpointStoreError as error:
        return Check("writing", False, str(error), _SEE)
    return Check("writing", True, "the file and its folder can be written")


def _damaged_rows(connection: sqlite3.Connection) -> Iterable[tuple[str, list[object]]]:
    """By table, what names some of the rows in which a column has a value of another type than any that is written."""
    for table, (key, types) in _TYPES.items():
        there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if key in there:  # older versions made neither all tables nor all columns
            known = {column: names for column, names in types.items() if column in there}
            wrong = " OR ".join(f"typeof({column}) NOT IN ({names})" for column, names in known.items())
            rows = connection.execute(f"SELECT {key} FROM {table} WHERE {wrong} LIMIT {_SOME}")
            if keys := [row[0] for row in rows]:
                yield table, keys


def _free_in(connection: sqlite3.Connection) -> str:
    room = room_of(connection)
    if not room.free:
        return "nothing is free in the file"
    how = "" if room.gets_shorter else " --rewrite"
    return f"{room.free_bytes:,} bytes are free in the file: `eventckpt compact{how}` gives them back to the disk"


def _looked_at(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> Iterable[Check]:
    yield Check(
        "file",
        pragma(connection, "application_id") == APPLICATION_ID,
        f"{path}, {path.stat().st_size:,} bytes",
    )
    different = differences(connection, as_it_was_made=read_only)
    yield Check(
        "schema",
        not different,
        "; ".join(different) or f"version {pragma(connection, 'user_version')}, as it is made",
        "Somebody changed the file; events may have been changed with it. Run verify --all; to put it right, move the "
        "runs into a new store (export, import).",
    )
    if not read_only:
        mode = str(pragma(connection, "journal_mode"))
        yield Check("journal", mode == "wal", mode, "Put the file on a local disk: write-ahead logging needs one.")
    yield Check("space", True, _free_in(connection))
    damaged = [f"in {table}: {', '.join(map(described, keys))}" for table, keys in _damaged_rows(connection)]
    yield Check(
        "rows",
        not damaged,
        "what no store writes is " + "; ".join(damaged) if damaged else "each column holds what it is for",
        "Somebody changed the file, or the disk did. Run verify --all; documents are made anew by a rebuild.",
    )
    damage = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    yield Check(
        "pages",
        damage == ["ok"],
        "; ".join(damage),
        "Copy the file and its -wal away; `sqlite3 FILE .recover` rescues what is readable.",
    )
