"""What doctor looks at in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ...errors import CheckpointStoreError
from .. import Check
from .connection import Connections
from .schema import APPLICATION_ID, differences, pragma

__all__ = ["checks_of"]

_SEE: Final = "See docs/audit.md, doctor."


async def checks_of(connections: Connections) -> list[Check]:
    """See `AuditStore.checks`."""
    # First: it gives a file of 0.1.0 what belongs to its schema.
    writing = [] if connections.read_only else [await _check_writing(connections)]
    found: list[Check] = []

    def look(connection: sqlite3.Connection) -> None:
        found.clear()
        found.extend(_looked_at(connection, connections.path, read_only=connections.read_only))

    try:
        await connections.reading(look)
    except CheckpointStoreError as error:
        found.append(Check("reading", False, str(error), _SEE))
    return [*found, *writing]


async def _check_writing(connections: Connections) -> Check:
    try:
        # A transaction can begin also in a file that may only be read; a statement that writes cannot.
        await connections.writing(lambda connection: connection.execute("DELETE FROM events WHERE 0"))
    except CheckpointStoreError as error:
        return Check("writing", False, str(error), _SEE)
    return Check("writing", True, "the file and its folder can be written")


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
    damage = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    yield Check(
        "pages",
        damage == ["ok"],
        "; ".join(damage),
        "Copy the file and its -wal away; `sqlite3 FILE .recover` rescues what is readable.",
    )
