"""What `checks` says of a SQLite file's schema: whatever is missing, changed or extra is named."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore, StreamId
from eventckpt.stores import Check
from eventckpt.stores.sqlite.schema import MIGRATIONS, SESSION_LOG

from ..chains import append_chain
from .helpers import noted, plain


def made() -> list[tuple[str, str, str]]:
    """Kind, name and text of what the migrations make, and the first write to the sessions."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join((*MIGRATIONS, SESSION_LOG)))
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != ?", SEQ)
        return rows.fetchall()


SEQ = ("sqlite_sequence",)
OBJECTS = made()


async def checks(path: Path) -> dict[str, Check]:
    async with SqliteEventStore(path) as store:
        return {check.name: check for check in await store.checks()}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        for log in (store, store.sessions()):
            await append_chain(log, 2)
    return path


async def test_a_store_that_nobody_changed_is_as_it_is_made(path: Path) -> None:
    assert all(check.ok for check in (await checks(path)).values())
    with plain(path) as connection:
        connection.execute("ANALYZE")
        connection.execute("VACUUM")
    assert all(check.ok for check in (await checks(path)).values()), "what SQLite keeps for itself is nobody's change"


@pytest.mark.parametrize(("kind", "name", "_"), OBJECTS, ids=lambda value: value.split()[0])
async def test_what_was_dropped_is_named(path: Path, kind: str, name: str, _: str) -> None:
    with plain(path) as connection:
        if name == "events":  # without it there is no store left
            connection.execute("CREATE TABLE copy AS SELECT * FROM events")
            connection.execute("DROP TABLE events")
            connection.execute("ALTER TABLE copy RENAME TO events")
            found = "changed"
        else:
            connection.execute(f"DROP {kind} {name}")
            found = "missing"
    schema = (await checks(path))["schema"]
    assert not schema.ok
    assert f"{kind} {name!r} is {found}" in schema.detail


@pytest.mark.parametrize(("kind", "name", "text"), OBJECTS, ids=lambda value: value.split()[0])
async def test_what_was_changed_is_named(path: Path, kind: str, name: str, text: str) -> None:
    with plain(path) as connection:
        if kind == "table":
            connection.execute(f"ALTER TABLE {name} ADD COLUMN later TEXT")
        else:
            connection.execute(f"DROP {kind} {name}")
            changed = text.replace("BEFORE UPDATE ON", "BEFORE UPDATE OF position ON")
            also = " AND position > 0" if " WHERE " in text else " WHERE position > 0"
            connection.execute(text + also if kind == "index" else changed)
    schema = (await checks(path))["schema"]
    assert not schema.ok
    assert schema.detail == f"{kind} {name!r} is changed"


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TRIGGER later AFTER INSERT ON events BEGIN DELETE FROM events WHERE position = new.position; END",
        "CREATE TRIGGER later BEFORE DELETE ON events BEGIN SELECT RAISE(IGNORE); END",
        "CREATE INDEX later ON events (type)",
        "CREATE UNIQUE INDEX later ON events (checkpoint_id)",
        "CREATE TABLE later (x)",
        "CREATE VIEW later AS SELECT 1",
    ],
)
async def test_what_was_added_is_named(path: Path, text: str) -> None:
    with plain(path) as connection:
        connection.execute(text)
    schema = (await checks(path))["schema"]
    assert not schema.ok
    assert schema.detail.endswith("'later' is extra")


async def test_a_trigger_that_was_rewritten_behind_sqlite_is_named(path: Path) -> None:
    with plain(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'BEGIN', 'WHEN 0 BEGIN') WHERE name = 'events_are_immutable'"
        )
    assert (await checks(path))["schema"].detail == "trigger 'events_are_immutable' is changed"


@pytest.mark.parametrize("name", ["sqlite_stat1", "sqlite_stat9", "sqlite_autoindex_later", "sqlite_later"])
@pytest.mark.parametrize(
    "text",
    [
        "CREATE TRIGGER later AFTER INSERT ON events BEGIN DELETE FROM runs; END",
        "CREATE VIEW later AS SELECT 1",
        "CREATE TABLE later (tbl,idx,stat,more)",
        "CREATE INDEX later ON events (type)",
    ],
)
async def test_a_name_that_sqlite_keeps_for_itself_hides_nothing(path: Path, name: str, text: str) -> None:
    with plain(path) as connection:
        connection.execute(text)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET name = ?, sql = ?, tbl_name = iif(tbl_name = 'later', ?, tbl_name)"
            " WHERE name = 'later'",
            (name, text.replace("later", name), name),
        )
    schema = (await checks(path))["schema"]
    assert not schema.ok
    assert schema.detail.endswith(f"{name!r} is extra")


@pytest.mark.parametrize("character", ["\xa0", "\x85", "\u2003", "\u3000"])
async def test_what_only_looks_like_a_space_is_a_change(path: Path, character: str) -> None:
    """For SQLite it is a letter: INTEGER and NOT are one word, the name of a type, and NULL is allowed."""
    with plain(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'seq INTEGER NOT', ?) WHERE name = 'events'",
            (f"seq INTEGER{character}NOT",),
        )
    assert (await checks(path))["schema"].detail == "table 'events' is changed"


@pytest.mark.parametrize("version", [-(2**31), -1, 3, 2**31 - 1])
async def test_a_version_that_is_not_known_is_named_and_the_file_left_as_it_is(path: Path, version: int) -> None:
    with plain(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    assert f"its schema is version {version}" in (await checks(path))["reading"].detail
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", ["'text'", "x'00'", "NULL", "0", "-1"])
async def test_a_count_of_positions_that_somebody_changed_is_no_obstacle(path: Path, value: str) -> None:
    with plain(path) as connection:
        connection.execute(f"UPDATE sqlite_sequence SET seq = {value}")
    async with SqliteEventStore(path) as store:
        await append_chain(store, 2, stream=StreamId("workflow", "later"))
        assert all(check.ok for check in await store.checks())


async def test_all_differences_are_named_at_once(path: Path) -> None:
    with plain(path) as connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        connection.execute("DROP INDEX runs_by_position")
        connection.execute("CREATE TABLE later (x)")
    assert (await checks(path))["schema"].detail == (
        "index 'runs_by_position' is missing; table 'later' is extra; trigger 'events_are_immutable' is missing"
    )


async def test_a_name_that_somebody_chose_is_shown_escaped(path: Path) -> None:
    with plain(path) as connection:
        connection.execute('CREATE TABLE "\x1b[2J" (x)')
    assert r"table '\x1b[2J' is extra" in (await checks(path))["schema"].detail


@pytest.mark.parametrize("read_only", [False, True])
async def test_no_connection_trusts_what_the_schema_calls(
    path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    opened = noted(monkeypatch)
    async with SqliteEventStore(path, read_only=read_only) as store:
        assert await store.read(StreamId("workflow", "run"), 1)
        if not read_only:
            await append_chain(store, 1, stream=StreamId("workflow", "later"))
        assert len(opened) == (1 if read_only else 2)
        for connection in opened:
            assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
            if sys.version_info >= (3, 12):
                assert connection.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)
