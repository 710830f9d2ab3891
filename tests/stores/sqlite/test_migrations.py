"""Files of older versions are brought up to date, and keep their events."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import MIGRATIONS

from ..chains import STREAM, append_chain, headers
from .helpers import plain, pragma, refuses


class TestMigrations:
    async def test_an_empty_file_becomes_a_store(self, path: Path) -> None:
        path.touch()
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1)
            assert await store.read(STREAM, 1) == events
        assert pragma(path, "user_version") == len(MIGRATIONS)

    async def test_an_empty_database_becomes_a_store(self, path: Path) -> None:
        with plain(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # writes the file's first page
        assert path.stat().st_size > 0
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1)
            assert await store.read(STREAM, 1) == events
        assert pragma(path, "user_version") == len(MIGRATIONS)

    @pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
    async def test_a_file_of_any_older_version_is_brought_up_to_date_and_keeps_its_events(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, version: int
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("eventckpt.stores.sqlite.schema.MIGRATIONS", MIGRATIONS[:version])
            async with SqliteEventStore(path) as store:
                events = await append_chain(store, 3)
        assert pragma(path, "user_version") == version
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, 1, 2, 3) == events
            await store.append(make_event(STREAM, 4, previous=events[-1]))
        assert pragma(path, "user_version") == len(MIGRATIONS)

    async def test_an_older_file_is_migrated_once_and_keeps_its_events(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 5)
        step = "CREATE TABLE steps (n INTEGER);\nINSERT INTO steps\nVALUES (1)"
        monkeypatch.setattr("eventckpt.stores.sqlite.schema.MIGRATIONS", (*MIGRATIONS, step))
        async with AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(SqliteEventStore(path)) for _ in range(6)]
            for found in await asyncio.gather(*(store.read(STREAM, 1, 2, 3, 4, 5) for store in stores)):
                assert found == events
            sixth = make_event(STREAM, 6, previous=events[-1])
            await stores[0].append(sixth)
            assert await headers(stores[1]) == [event.header() for event in (*events, sixth)]
        with plain(path) as connection:
            assert connection.execute("SELECT n FROM steps").fetchall() == [(1,)]
        assert pragma(path, "user_version") == len(MIGRATIONS) + 1

    async def test_a_migration_that_fails_changes_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 2)
        with monkeypatch.context() as patch:
            step = "CREATE TABLE steps (n INTEGER);\nINSERT INTO no_such_table VALUES (1);"
            patch.setattr("eventckpt.stores.sqlite.schema.MIGRATIONS", (*MIGRATIONS, step))
            await refuses(path, CheckpointStoreError, "no_such_table")
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, 1, 2) == events
        assert pragma(path, "user_version") == len(MIGRATIONS)
        with plain(path) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'steps'").fetchone() == (0,)
