"""What a SQLite store's file holds beside rows: the one definition of its tables, indexes and triggers.

The migrations are counted by `PRAGMA user_version`, and a version that does not know a number refuses the file. What
every version can pass over is no migration but an addition, which is looked for by its name: so a process of 0.1.0
opens a file that a newer one has written to, beside it in a rolling upgrade as after going back. The listing of runs is
one, so is the log of sessions, and so is the id of the store: as a migration it would have shut out, at the first write
of the first new process, every old one that opens a connection after it, and the way back, for a check that old
versions do not make and do not disturb.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from ...errors import StoreFormatError
from ...text import described
from .tables import LOGS, RUNS, SESSIONS, Log, Tables

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "RUN_LISTING",
    "SESSION_LOG",
    "NoUnicode",
    "bound",
    "differences",
    "give_new_id",
    "has_events",
    "has_run_listing",
    "has_run_marks",
    "has_sessions",
    "is_behind",
    "lacks_additions",
    "make_sessions",
    "mark_runs",
    "migrate",
    "pragma",
    "store_id",
    "text",
    "transaction",
    "version_of",
    "without_events",
]

APPLICATION_ID: Final = 0x65636B70  # "eckp": tells our files from others (PRAGMA application_id)


def _event_tables(tables: Tables) -> str:
    # `position` is the order of commits over all streams; the columns before `header` are its index. `data` comes
    # last, so that a listing never reads the pages it overflows to.
    events = tables.events
    return f"""
    CREATE TABLE {events} (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        workflow_name TEXT NOT NULL,
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        type TEXT NOT NULL,
        checkpoint_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        header BLOB NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (workflow_name, run_id, seq)
    );
    CREATE INDEX {events}_by_checkpoint ON {events} (checkpoint_id, position);
    CREATE INDEX {events}_by_workflow ON {events} (workflow_name, position);
    CREATE TRIGGER {events}_are_immutable BEFORE UPDATE ON {events}
    BEGIN
        SELECT RAISE(ABORT, 'an event is never updated');
    END;
    """


def _derived_tables(tables: Tables) -> str:
    # `position` in `runs` is that of the run's live checkpoint, so that the newest run is found by the order of
    # commits; `leases` holds one document for each lease, and what was parked.
    runs = tables.runs
    return f"""
    CREATE TABLE {runs} (
        projection TEXT NOT NULL,
        workflow_name TEXT NOT NULL,
        run_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        position INTEGER,
        info BLOB NOT NULL,
        PRIMARY KEY (projection, workflow_name, run_id)
    ) WITHOUT ROWID;
    CREATE INDEX {runs}_by_position ON {runs} (projection, workflow_name, position);
    CREATE TABLE {tables.projections} (
        kind TEXT PRIMARY KEY,
        active TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE {tables.leases} (
        id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        document BLOB NOT NULL
    ) WITHOUT ROWID;
    """


def _run_listing(tables: Tables) -> str:
    runs = tables.runs
    return f"""
    ALTER TABLE {runs} ADD COLUMN status TEXT;
    ALTER TABLE {runs} ADD COLUMN moment INTEGER;
    ALTER TABLE {runs} ADD COLUMN listed_seq INTEGER;
    CREATE INDEX {runs}_listed ON {runs} (projection, moment DESC, workflow_name, run_id, status, seq, listed_seq)
        WHERE listed_seq = seq;
    CREATE INDEX {runs}_unlisted ON {runs} (projection) WHERE listed_seq IS NOT seq;
    """


def _run_marks(tables: Tables) -> str:
    runs = tables.runs
    return f"""
    ALTER TABLE {runs} ADD COLUMN asked INTEGER;
    ALTER TABLE {runs} ADD COLUMN marks TEXT;
    ALTER TABLE {runs} ADD COLUMN marked_seq INTEGER;
    CREATE INDEX {runs}_asked
        ON {runs} (projection, asked, workflow_name, run_id, status, moment, seq, marked_seq, marks)
        WHERE marked_seq = seq AND asked IS NOT NULL;
    CREATE INDEX {runs}_marked
        ON {runs} (projection, moment DESC, workflow_name, run_id, status, seq, marked_seq, marks)
        WHERE marked_seq = seq AND marks IS NOT NULL;
    CREATE INDEX {runs}_unmarked ON {runs} (projection) WHERE marked_seq IS NOT seq;
    """


MIGRATIONS: Final[tuple[str, ...]] = (_event_tables(RUNS), _derived_tables(RUNS))
"""The steps from an empty file to the current schema; `PRAGMA user_version` counts those already taken."""

_STORE: Final = "CREATE TABLE store (id TEXT NOT NULL)"
"""An addition: one row, a random id, which a restored copy gets anew. What 0.1.0 wrote has none until a newer version
writes to it."""

RUN_LISTING: Final = _run_listing(RUNS)
"""An addition: in what order runs are listed, in the rows of their documents. A document is listed by what its row says
where that was written with it. 0.1.0 knows nothing of it, and always writes another seq and none of these columns: so
its document leaves the one index for the other, of those that are still to be read. See `run_listing`."""

_RUN_MARKS: Final = {tables: _run_marks(tables) for tables in LOGS}
"""An addition to the listing of each log: since when a run waits, and by what else it is asked for. What was written
before 0.3 has none of it, and is told from what has in the same way."""

SESSION_LOG: Final = _event_tables(SESSIONS) + _derived_tables(SESSIONS) + _run_listing(SESSIONS)
"""An addition that is made with the first write to the log of sessions: who keeps none has none of it."""

_OF_SQLITE: Final = {
    ("table", "sqlite_stat1"): "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    ("table", "sqlite_stat4"): "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}
"""What ANALYZE keeps for itself. Only that: whoever edits the schema may give a trigger such a name."""

_TABLES: Final = (*RUNS, *SESSIONS, "store")
_NOWHERE: Final = Path(":memory:")
_COMPUTES: Final = r"(?ia)\b(?:AS|CHECK|COLLATE|GENERATED|REFERENCES|VIRTUAL)\b"
"""What the definition of a table says where it makes SQLite do more than keep what it is given."""
_SPACE: Final = r"[ \t\n\f\r]+"  # what SQLite takes for space; any other character is part of a word


@contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Generator[None, None, None]:
    """One transaction: committed at the end of the block, or rolled back."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """The value of a PRAGMA, or what setting one answers."""
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        return cursor.fetchone()[0]


class NoUnicode(str):
    """What is left of stored text that is no UTF-8: to be shown, and never the name that it may look like."""

    __slots__ = ("stored",)
    stored: bytes


def text(stored: bytes) -> str:
    """Text columns are UTF-8, unless the file is damaged: then the row must still be readable."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        shown = NoUnicode(stored.decode("utf-8", "replace"))
        shown.stored = stored
        return shown


def bound(name: object) -> tuple[str, object]:
    """How a statement is given what stands in a column of names, so that it is compared as it stands there."""
    return ("CAST(? AS TEXT)", name.stored) if isinstance(name, NoUnicode) else ("?", name)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """How many migrations the file has seen; refuses files that are not ours, before anything is written."""
    application_id, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id == version == tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise StoreFormatError(
            f"{path} is a SQLite database of another application; it was left as it is. Give the store its own file."
        )
    if not 0 <= version <= len(MIGRATIONS):
        raise StoreFormatError(
            f"{path} was written by a newer eventckpt (its schema is version {version}, this one knows up to "
            f"{len(MIGRATIONS)}); it was left as it is. Upgrade eventckpt to open it."
        )
    _refuse_views(connection, path)
    _refuse_what_computes(connection, path)
    return version


def _refuse_views(connection: sqlite3.Connection, path: Path) -> None:
    """A view in the place of a table has no events: whoever asked it would be told whatever somebody made up."""
    marks = ", ".join("?" * len(_TABLES))
    rows = connection.execute(
        f"SELECT name FROM sqlite_master WHERE type = 'view' AND lower(name) IN ({marks}) ORDER BY name", _TABLES
    )
    if names := [described(name) for (name,) in rows]:
        raise StoreFormatError(
            f"In {path} there are views in the place of tables ({', '.join(names)}): somebody changed the file, and "
            "`eventckpt doctor` can say no more. It was left as it is, and nothing was asked of them. Put a backup in "
            "its place."
        )


def _refuse_what_computes(connection: sqlite3.Connection, path: Path) -> None:
    """A column that is computed, or compared by somebody's rule, is another one than its rows hold, and costs whatever
    they say. What else is changed, doctor names; a store goes on with it as far as it can."""
    marks = ", ".join("?" * len(_TABLES))
    rows = connection.execute(
        f"SELECT name, sql FROM sqlite_master WHERE type = 'table' AND lower(name) IN ({marks}) ORDER BY name", _TABLES
    )
    for name, sql in rows:
        if found := re.search(_COMPUTES, str(sql)):
            raise StoreFormatError(
                f"In {path} the definition of the table {described(name)} says {found[0].upper()}, which that of a "
                "store does not: somebody changed the file, and `eventckpt doctor` can say no more. It was left as it "
                "is, and nothing was asked of the table. Put a backup in its place."
            )


def is_behind(version: int) -> bool:
    """Whether steps are missing in a file of this version."""
    return version < len(MIGRATIONS)


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    *,
    to: int | None = None,
    lists_runs: bool = True,
    marked: Iterable[Tables] = LOGS,
) -> None:
    """Take the missing steps, up to version `to` or all, and make the additions, in one transaction; of several
    processes one does, the others find it done."""
    last = len(MIGRATIONS) if to is None else to
    with transaction(connection, "IMMEDIATE"):
        for number in range(version_of(connection, path), last):
            _run(connection, MIGRATIONS[number])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {last}")
        if store_id(connection) is None:
            give_new_id(connection)
        if lists_runs and _has_table(connection, RUNS.runs) and not has_run_listing(Log(connection, RUNS)):
            _run(connection, RUN_LISTING)
        for tables in marked:
            mark_runs(Log(connection, tables))


def mark_runs(log: Log) -> None:
    """Make the addition to a log that lists its runs and lacks it, in a transaction of the caller's."""
    if _lacks_marks(log):
        _run(log.connection, _RUN_MARKS[log.tables])


def _lacks_marks(log: Log) -> bool:
    return not has_run_marks(log) and has_run_listing(log)


def _run(connection: sqlite3.Connection, script: str) -> None:
    for statement in _statements(script):
        connection.execute(statement)


def _statements(script: str) -> Iterable[str]:
    """The statements of a script; `executescript` would commit the transaction that they belong to."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def store_id(connection: sqlite3.Connection) -> str | None:
    """The id of the store in the file; None where only 0.1.0 has written to it."""
    if not _has_table(connection, "store"):
        return None
    return connection.execute("SELECT min(id) FROM store").fetchone()[0]


def has_run_listing(log: Log) -> bool:
    """Whether the file has the listing of a log's runs."""
    return _has_column(log, "listed_seq")


def has_run_marks(log: Log) -> bool:
    """Whether it also has by what else runs are asked for."""
    return _has_column(log, "marked_seq")


def _has_column(log: Log, name: str) -> bool:
    found = log.execute(f"SELECT 1 FROM pragma_table_info('{log.runs}') WHERE name = '{name}'")
    return found.fetchone() is not None


def has_events(connection: sqlite3.Connection, tables: Tables) -> bool:
    """Whether the file has the events of a log."""
    return _has_table(connection, tables.events)


def has_sessions(connection: sqlite3.Connection) -> bool:
    """Whether the file has the log of sessions, or whatever somebody left of it."""
    marks = ", ".join("?" * len(SESSIONS))
    found = connection.execute(f"SELECT 1 FROM sqlite_master WHERE name IN ({marks})", SESSIONS)
    return found.fetchone() is not None


def make_sessions(connection: sqlite3.Connection) -> None:
    """Make the log of sessions, in a transaction of the caller's."""
    _run(connection, SESSION_LOG)


def without_events() -> sqlite3.Connection:
    """A store in memory in which nothing is, for whichever thread asks it."""
    made = _in_memory(check_same_thread=False)
    migrate(made, _NOWHERE)
    return made


def _in_memory(**options: bool) -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, **options)


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def lacks_additions(connection: sqlite3.Connection) -> bool:
    """Whether something is missing in a file that is no migration: then only older versions have written to it."""
    if store_id(connection) is None or not has_run_listing(Log(connection, RUNS)):
        return True
    return any(_lacks_marks(Log(connection, tables)) for tables in LOGS)


def give_new_id(connection: sqlite3.Connection) -> None:
    """Make the store another one than any before: who has an older one open notices."""
    connection.execute(_STORE.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
    connection.execute("DELETE FROM store")
    connection.execute("INSERT INTO store VALUES (lower(hex(randomblob(16))))")


def differences(connection: sqlite3.Connection, *, as_it_was_made: bool = False) -> list[str]:
    """How the file's schema differs from what the migrations make of an empty one: what is missing, changed, extra.

    Args:
        as_it_was_made: what the version that wrote the file did not know is not missing.
    """
    found = _objects(connection)
    with closing(_in_memory()) as empty:
        made = pragma(connection, "user_version") if as_it_was_made else None
        lists_runs = not as_it_was_made or has_run_listing(Log(connection, RUNS))
        marked = [Log(empty, tables) for tables in LOGS if has_run_marks(Log(connection, tables))]
        migrate(empty, _NOWHERE, to=made, lists_runs=lists_runs, marked=() if as_it_was_made else LOGS)
        if has_sessions(connection):
            make_sessions(empty)
        for log in marked:  # sessions may have been made by a version before, beside this one
            mark_runs(log)
        wanted = _objects(empty)
        if as_it_was_made and ("table", "store") not in found:
            del wanted["table", "store"]
        settings = [
            f"{name} is {described(pragma(connection, name))}, not {pragma(empty, name)}"
            for name in ("application_id", "user_version", "encoding")
            if pragma(connection, name) != pragma(empty, name)
        ]
    objects = [
        f"{kind} {described(name)} is {_difference(found.get((kind, name)), wanted.get((kind, name)))}"
        for kind, name in sorted(found.keys() | wanted.keys())
        if found.get((kind, name)) != wanted.get((kind, name))
    ]
    return settings + objects


def _difference(found: tuple[str, ...] | None, wanted: tuple[str, ...] | None) -> str:
    return "missing" if found is None else "extra" if wanted is None else "changed"


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, ...]]:
    """Every table, index, trigger and view: the table it is of, and its text, however that is laid out."""
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
    return {
        (str(kind), str(name)): (str(table), re.sub(_SPACE, " ", str(sql)).strip(" "))
        for kind, name, table, sql in rows
        if _OF_SQLITE.get((str(kind), str(name))) != sql
    }
