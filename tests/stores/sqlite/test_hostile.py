"""Files whose schema was made to run on and on, or to give what is no event: each question ends, by name and in time.

Time is counted in steps of SQLite's machine.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.errors import StoreFormatError
from eventckpt.events import RunInfo
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import backup
from eventckpt.stores.sqlite.tables import LOGS, RUNS, SESSIONS, Tables

from ..chains import STREAM, append_chain
from .helpers import plain

OTHER: Final = StreamId("workflow", "later")
COPIED: Final = StreamId("workflow", "copied")
ENDLESS: Final = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
EVENTS_WITHOUT_INDEXES: Final = """
    DROP TABLE events;
    CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, workflow_name, run_id, seq, type, checkpoint_id,
        {columns});
    CREATE INDEX events_by_checkpoint ON events (checkpoint_id, position);
"""
ROWS: Final = "INSERT INTO events (workflow_name, run_id, seq, type, checkpoint_id{more}) "


def allowed(path: Path) -> int:
    """Steps of one statement; the look at whether they are too many comes a little late."""
    return 10_000_000 + 4 * sum(part.stat().st_size for part in path.parent.glob("events.db*")) + 20_000


class Steps:
    """The most that one statement took, and what all took, on whichever connection that is made meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        self.all = 0
        connect = sqlite3.connect

        def counted(*args: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **options: Any) -> Any:
            return connect(*args, factory=self._counting(factory), **options)

        monkeypatch.setattr(sqlite3, "connect", counted)

    def _counting(self, factory: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
        steps = self

        class Counting(factory):
            taken = 0

            def set_progress_handler(self, progress_handler: Any, n: int) -> None:
                def count() -> Any:
                    self.taken += n
                    steps.all += n
                    steps.most = max(steps.most, self.taken)
                    return progress_handler()

                super().set_progress_handler(count, n)

            def execute(self, *args: Any) -> sqlite3.Cursor:
                self.taken = 0
                return super().execute(*args)

        return Counting


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        for log in (store, store.sessions()):
            await append_chain(log, 2)
            await log.run_store().put(run_info("run"))
    return path


def run_info(run_id: str, seq: int = 1) -> RunInfo:
    event = make_event(StreamId("workflow", run_id), 1)
    return RunInfo(workflow_name="workflow", run_id=run_id, seq=seq, digest=event.digest, recorded_at=event.recorded_at)


Question = Callable[[SqliteEventStore], Awaitable[object]]


async def lists(store: SqliteEventStore) -> object:
    return [header async for header in store.headers(STREAM)]


async def lists_streams(store: SqliteEventStore) -> object:
    return [stream async for stream in store.streams()]


async def lists_runs(store: SqliteEventStore) -> object:
    return [info async for info in store.run_store().all()]


QUESTIONS: Final[dict[str, Question]] = {
    "read": lambda store: store.read(STREAM, 1),
    "headers": lists,
    "streams": lists_streams,
    "find": lambda store: store.find("wanted"),
    "append": lambda store: store.append(make_event(OTHER, 1)),
    "put": lambda store: store.put(COPIED, [make_event(COPIED, 1)]),
    "remove": lambda store: store.remove(STREAM, [1]),
    "runs": lists_runs,
    "runs page": lambda store: store.run_store().page(),
    "runs put": lambda store: store.run_store().put(run_info("later")),
    "runs clear": lambda store: store.run_store().clear(),
    "documents": lambda store: store.document_store().list_documents(""),
    "document create": lambda store: store.document_store().create({"id": "some"}),
}


def view(name: str) -> str:
    return f"ALTER TABLE {name} RENAME TO kept; CREATE VIEW {name} AS {ENDLESS} SELECT kept.* FROM kept, c;"


def trigger(when: str) -> str:
    return f"CREATE TRIGGER later {when} BEGIN SELECT max(x) FROM ({ENDLESS} SELECT x FROM c); END;"


def doubling(levels: int) -> str:
    """Triggers, each of which calls the next one twice."""
    made = "".join(f"CREATE TABLE t{level} (x);" for level in range(levels + 1))
    for level in range(levels):
        twice = f"INSERT INTO t{level + 1} VALUES (1);" * 2
        made += f"CREATE TRIGGER from_{level} AFTER INSERT ON t{level} BEGIN {twice} END;"
    return made + "CREATE TRIGGER later AFTER INSERT ON events BEGIN INSERT INTO t0 VALUES (1); END;"


def views_of_views(levels: int) -> str:
    made = "CREATE VIEW v0 AS SELECT run_id AS a FROM events;"
    for level in range(1, levels + 1):
        made += f"CREATE VIEW v{level} AS SELECT max(a) AS a FROM v{level - 1} WHERE a IN (SELECT a FROM v{level - 1});"
    return made + f"CREATE TRIGGER later AFTER INSERT ON events BEGIN SELECT a FROM v{levels}; END;"


HOSTILE: Final[dict[str, tuple[str, set[str], str]]] = {
    "a view of events": (view("events"), {*QUESTIONS}, "view"),
    "a view of events that is written otherwise": (
        "ALTER TABLE events RENAME TO kept; CREATE VIEW EvEnTs AS SELECT * FROM kept;",
        {*QUESTIONS},
        "view",
    ),
    "a view of runs": (view("runs"), {*QUESTIONS}, "view"),
    "a view of documents": (view("leases"), {*QUESTIONS}, "view"),
    "a view of the store's id": (
        "DROP TABLE store; CREATE VIEW store AS SELECT 'made up' AS id;",
        {*QUESTIONS},
        "view",
    ),
    "a trigger on appends": (trigger("AFTER INSERT ON events"), {"append", "put"}, "'later' is extra"),
    "a trigger before appends": (trigger("BEFORE INSERT ON events"), {"append", "put"}, "'later' is extra"),
    "a trigger on removals": (trigger("BEFORE DELETE ON events"), {"remove"}, "'later' is extra"),
    "a trigger on runs": (trigger("AFTER INSERT ON runs"), {"runs put"}, "'later' is extra"),
    "a trigger on what clears": (trigger("AFTER DELETE ON runs"), {"runs clear"}, "'later' is extra"),
    "a trigger on documents": (trigger("AFTER INSERT ON leases"), {"document create"}, "'later' is extra"),
    "a trigger that asks an endless view": (
        f"CREATE VIEW endless AS {ENDLESS} SELECT x FROM c;"
        "CREATE TRIGGER later AFTER INSERT ON events WHEN (SELECT sum(x) FROM endless) BEGIN SELECT 1; END;",
        {"append", "put"},
        "'later' is extra",
    ),
    "triggers that double": (doubling(40), {"append", "put"}, "'later' is extra"),
    "views of views": (views_of_views(13), {"append", "put"}, "'later' is extra"),
    "generated columns": (
        EVENTS_WITHOUT_INDEXES.format(columns="digest, data")
        + ROWS.format(more="")
        + "VALUES ('workflow', 'run', 1, 'checkpoint', 'wanted');"
        "ALTER TABLE events ADD COLUMN header AS (zeroblob(1000000001)) VIRTUAL;",
        {*QUESTIONS},
        "'events' says AS",
    ),
    "an index of what is too long": (
        "DELETE FROM events; CREATE INDEX later ON events (hex(zeroblob(600000000 * (run_id <> 'run'))));"
        "CREATE INDEX other ON events (length(replace(hex(zeroblob(1000)), '0', digest)));",
        {"append", "put"},
        "'later' is extra",
    ),
    "no index, and many rows": (
        EVENTS_WITHOUT_INDEXES.format(columns="digest, header, data")
        + ROWS.format(more="")
        + f"{ENDLESS} SELECT 'workflow', 'run', x, 'checkpoint', 'wanted' FROM c LIMIT 5000;",
        {"streams"},
        "'events' is changed",
    ),
    "a row that is enormous": (
        EVENTS_WITHOUT_INDEXES.format(columns="digest, header, data")
        + ROWS.format(more=", header, data")
        + f"{ENDLESS} SELECT 'workflow', 'run', x, 'checkpoint', 'wanted', zeroblob(20000000), '' FROM c LIMIT 2;",
        set(),
        "'events' is changed",
    ),
}
"""What is put into the schema, the questions that it has an error for, and what doctor says of it."""


def defined(table: str, old: str, new: str) -> str:
    return (
        "PRAGMA writable_schema = ON;"
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'"
    )


HOSTILE |= {
    f"{table}: {new}": (defined(table, old, f"{old} {new}"), {*QUESTIONS}, f"'{table}' says {new.split()[0]}")
    for table, old, new in (
        ("events", "run_id TEXT", "AS (hex(zeroblob(400000000)))"),
        ("events", "run_id TEXT", "COLLATE nosuch"),
        ("events", "run_id TEXT", "COLLATE NOCASE"),
        ("events", "digest TEXT", "GENERATED ALWAYS AS (1) STORED"),
        ("events", "digest TEXT", "CHECK (length(hex(zeroblob(400000000))))"),
        ("runs", "run_id TEXT", "COLLATE nosuch"),
        ("leases", "id TEXT", "REFERENCES events (digest)"),
        ("projections", "kind TEXT", "COLLATE nosuch"),
        ("store", "id TEXT", "COLLATE nosuch"),
    )
}


async def told(question: Awaitable[object]) -> CheckpointStoreError | None:
    """The error that a question ends in."""
    try:
        await question
    except CheckpointStoreError as error:
        return error
    return None


def of(tables: Tables, text: str) -> str:
    """What is said of the tables of runs, said of those of a log."""
    for name, other in zip(RUNS, tables, strict=True):
        text = re.sub(rf"\b{name}(?=\b|_by_)", other, text, flags=re.IGNORECASE if name in text else 0)
    return text


@pytest.mark.parametrize("tables", LOGS)
@pytest.mark.parametrize("name", HOSTILE)
async def test_each_question_to_a_hostile_file_ends_and_the_error_leads_to_what_was_changed(
    path: Path, steps: Steps, name: str, tables: Tables
) -> None:
    script, failing, named = HOSTILE[name]
    with plain(path) as connection:
        connection.executescript(of(tables, script))
    async with SqliteEventStore(path) as opened:
        store = {RUNS: opened, SESSIONS: opened.sessions()}[tables]
        errors = {asked: await told(ask(store)) for asked, ask in QUESTIONS.items()}
        assert {asked for asked, error in errors.items() if error is not None} == failing
        found = " ".join(f"{check.name}: {check.detail}" for check in await store.checks() if not check.ok)
        most = allowed(path)
    assert of(tables, named) in found
    for error in filter(None, errors.values()):
        assert str(path) in str(error)
        assert any(words in str(error) for words in ("doctor", "too big", "generated column"))
    assert steps.most <= most


async def test_a_view_that_takes_the_place_of_the_events_under_an_open_store_ends_too(path: Path, steps: Steps) -> None:
    async with SqliteEventStore(path) as store:
        await store.read(STREAM, 1)
        with plain(path) as connection:
            connection.executescript(view("events"))
        with pytest.raises(StoreFormatError, match="doctor"):
            await store.read(STREAM, 1)
        assert 10_000_000 < steps.most <= allowed(path)


async def test_a_group_of_appends_meets_an_endless_trigger_once(path: Path, steps: Steps) -> None:
    with plain(path) as connection:
        connection.executescript(trigger("AFTER INSERT ON events"))
    async with SqliteEventStore(path) as store:
        appends = (store.append(make_event(StreamId("workflow", f"run {number}"), 1)) for number in range(50))
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreFormatError}
        assert steps.all < 4 * allowed(path)


def test_a_copy_whose_trigger_is_endless_is_no_backup(path: Path, steps: Steps) -> None:
    with plain(path) as connection:
        connection.execute("DELETE FROM store")
        connection.executescript(trigger("AFTER INSERT ON store"))
    with pytest.raises(StoreFormatError, match="doctor"):
        backup.look_over(path, path)
    assert 10_000_000 < steps.most <= allowed(path)


async def test_honest_work_takes_less_than_a_tenth_of_the_steps_that_the_size_of_its_file_gives_it(
    tmp_path: Path, steps: Steps
) -> None:
    """On a large file, that is; 100,000 events, each of a run of its own, take nine tenths of what any file has."""
    path, count = tmp_path / "events.db", 3000
    streams = [StreamId("w", f"{number:x}") for number in range(count)]
    async with SqliteEventStore(path, synchronous="OFF") as store:
        await asyncio.gather(*(store.append(make_event(stream, 1, data=b"")) for stream in streams))
        await append_chain(store, 300, data=b"")
        await store.run_store().put(*(run_info(f"{number:x}") for number in range(count)))
    with plain(path) as connection:  # as 0.1.0 left it
        for index in ("listed", "unlisted", "asked", "marked", "unmarked"):
            connection.execute(f"DROP INDEX runs_{index}")
        for column in ("marked_seq", "marks", "asked", "listed_seq", "moment", "status"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {column}")
    size = path.stat().st_size
    async with SqliteEventStore(path, synchronous="OFF") as store:
        await store.writing(lambda connection: connection.execute("SELECT 1"))  # the migration
        for ask in QUESTIONS.values():
            await ask(store)
        _ = [stream async for stream in store.streams(prefix="f")]
        _ = [header async for header in store.workflow_headers("w", desc=True)]
        _ = [event async for event in store.events(STREAM)]
        assert len(await store.checkpoint_ids("", limit=count)) == count
        await store.remove(STREAM, range(1, 300))
        assert all(check.ok for check in await store.checks())
    copy = tmp_path / "copy.db"
    copy.touch()
    backup.copy_store(path, copy, lambda left, pages: None, is_live=True)
    backup.look_over(copy, copy)
    assert steps.most >= 100_000, "something was counted"
    assert steps.most * 10 < 4 * size
