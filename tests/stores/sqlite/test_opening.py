"""How the file of a SQLite store is opened, and which files are left as they are."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from eventckpt import SqliteEventStore
from eventckpt.errors import StoreFormatError, StoreReadOnlyError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import MIGRATIONS

from ..chains import STREAM, append_chain
from .helpers import beside, files, plain, pragma, refuses, run


class TestOpening:
    def test_constructing_a_store_touches_nothing(self, tmp_path: Path) -> None:
        threads = threading.enumerate()
        SqliteEventStore(tmp_path / "folder" / "events.db")
        assert list(tmp_path.iterdir()) == []
        assert threading.enumerate() == threads

    async def test_closing_an_unused_store_touches_nothing(self, tmp_path: Path) -> None:
        await SqliteEventStore(tmp_path / "folder" / "events.db").close()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("path", ["", ":memory:"])
    def test_a_path_that_is_no_file_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="path"):
            SqliteEventStore(path)

    @pytest.mark.parametrize(
        "options",
        [
            {"synchronous": "full"},
            {"synchronous": "FULL; DROP TABLE events"},
            {"busy_timeout": -1},
            {"busy_timeout": float("nan")},
            {"busy_timeout": float("inf")},
        ],
        ids=str,
    )
    def test_an_option_that_means_nothing_is_refused(self, path: Path, options: dict[str, Any]) -> None:
        (name,) = options
        with pytest.raises(ValueError, match=name):
            SqliteEventStore(path, **options)

    async def test_the_folders_of_the_file_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "some" / "folders" / "events.db"
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1)
            assert path.is_file()
            assert await store.read(STREAM, 1) == events

    async def test_a_path_may_be_text_or_a_path_and_hold_any_characters(self, tmp_path: Path) -> None:
        path = tmp_path / "größe %41 ?mode=ro# '\" 🚀.db"
        async with SqliteEventStore(str(path)) as store:
            events = await append_chain(store, 1)
        assert path.is_file()
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, 1) == events

    async def test_a_relative_path_means_the_same_file_after_the_process_has_moved(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        monkeypatch.chdir(here)
        async with SqliteEventStore("events.db") as store:
            events = await append_chain(store, 1)  # opens the writer's connection
            monkeypatch.chdir(there)
            assert await store.read(STREAM, 1) == events  # opens the reader's
        assert list(there.iterdir()) == []

    async def test_the_file_is_in_wal_mode(self, store: SqliteEventStore, path: Path) -> None:
        await append_chain(store, 1)
        assert beside(path, "-wal").stat().st_size > 0
        assert pragma(path, "journal_mode") == "wal"

    async def test_a_file_that_was_taken_out_of_wal_mode_is_put_back(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1)
        assert pragma(path, "journal_mode = DELETE") == "delete"
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, 1) == events
        assert pragma(path, "journal_mode") == "wal"

    @pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1), ("OFF", 0), (None, 2)])
    async def test_synchronous_is_the_level_of_every_connection(
        self, path: Path, connections: list[sqlite3.Connection], synchronous: Any, level: int
    ) -> None:
        options = {"synchronous": synchronous} if synchronous else {}
        async with SqliteEventStore(path, **options) as store:
            await append_chain(store, 1)
            await store.read(STREAM, 1)
            levels = [connection.execute("PRAGMA synchronous").fetchone()[0] for connection in connections]
        assert levels == [level, level]

    def test_synchronous_decides_whether_each_append_is_flushed(self, tmp_path: Path) -> None:
        strace = shutil.which("strace")
        if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode != 0:
            pytest.skip("counting the flushes needs a working strace")
        script = """
            async def main():
                store, event = SqliteEventStore(path, synchronous=path.stem), None
                for seq in range(1, 31):
                    event = make_event(STREAM, seq, previous=event)
                    await store.append(event)
            asyncio.run(main())
        """
        flushes: dict[str, int] = {}
        for level in ("FULL", "NORMAL", "OFF"):
            trace = tmp_path / f"{level}.trace"
            runner = (strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace))
            run(script, tmp_path / f"{level}.db", runner=runner)
            flushes[level] = trace.read_text().count("sync(")
        assert flushes["FULL"] >= 30
        assert flushes["NORMAL"] < 15
        assert flushes["OFF"] == 0


class TestFilesOfOthers:
    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    @pytest.mark.parametrize("stamp", ["application_id = 0", "application_id = 7", "user_version = 1"])
    async def test_a_database_of_another_application_is_left_as_it_is(self, path: Path, mode: str, stamp: str) -> None:
        with plain(path) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("CREATE TABLE events (theirs TEXT)")
            connection.execute("INSERT INTO events VALUES ('precious')")
            connection.execute(f"PRAGMA {stamp}")
        before = files(path.parent)
        await refuses(path, StoreFormatError, "another application")
        assert files(path.parent) == before

    async def test_an_empty_database_with_the_stamp_of_another_application_is_left_as_it_is(self, path: Path) -> None:
        with plain(path) as connection:
            connection.execute("PRAGMA application_id = 7")
        before = files(path.parent)
        await refuses(path, StoreFormatError, "another application")
        assert files(path.parent) == before

    @pytest.mark.parametrize("content", ["hello\n", "a,b,c\n" * 5000], ids=["short", "long"])
    async def test_a_file_that_is_no_database_is_left_as_it_is(self, path: Path, content: str) -> None:
        path.write_text(content)
        before = files(path.parent)
        await refuses(path, StoreFormatError, "not a SQLite database")
        assert files(path.parent) == before

    async def test_a_file_of_a_newer_version_is_left_as_it_is(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
        pragma_version(path, len(MIGRATIONS) + 1)
        before = files(path.parent)
        await refuses(path, StoreFormatError, "newer eventckpt")
        assert files(path.parent) == before

    async def test_a_folder_in_the_place_of_the_file_is_an_error(self, path: Path) -> None:
        path.mkdir()
        await refuses(path, StoreReadOnlyError, "cannot be opened")

    async def test_a_file_in_the_place_of_the_folder_is_an_error(self, path: Path) -> None:
        path.write_text("in the way")
        await refuses(path / "events.db", StoreReadOnlyError, "folder")

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
    async def test_a_folder_that_cannot_be_made_is_an_error(self) -> None:
        await refuses(Path("/proc/eventckpt/events.db"), StoreReadOnlyError, "folder")

    async def test_a_store_works_once_the_obstacle_is_gone(self, path: Path, store: SqliteEventStore) -> None:
        path.mkdir()
        with pytest.raises(StoreReadOnlyError):
            await store.append(make_event(STREAM, 1))
        with pytest.raises(StoreReadOnlyError):
            await store.read(STREAM, 1)
        path.rmdir()
        events = await append_chain(store, 2)
        assert await store.read(STREAM, 1, 2) == events


def pragma_version(path: Path, version: int) -> None:
    with plain(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
