"""The SQLite engine: the conformance suite, and what is its own, such as files, locks, crashes and full disks."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from eventckpt import CheckpointEvent, CheckpointStoreError, EventStore, SqliteEventStore, StreamId
from eventckpt.chain import digest_of
from eventckpt.errors import (
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StreamConflict,
)
from eventckpt.stores.conformance import EventStoreConformance, make_event
from eventckpt.stores.sqlite import MIGRATIONS

STREAM = StreamId("workflow", "run")
HANG = 60
"""Seconds after which something that should have ended is taken to hang."""


class TestSqliteConformance(EventStoreConformance):
    @pytest.fixture(autouse=True)
    async def one_file(self, path: Path) -> AsyncGenerator[None, None]:
        self.path = path
        async with AsyncExitStack() as self.opened:
            yield

    async def open_store(self) -> EventStore:
        return await self.opened.enter_async_context(SqliteEventStore(self.path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteEventStore, None]:
    async with SqliteEventStore(path) as opened:
        yield opened


def runs(count: int) -> list[StreamId]:
    return [StreamId("workflow", f"run {number}") for number in range(count)]


async def append_chain(
    store: EventStore, count: int, *, stream: StreamId = STREAM, data: bytes = b"state"
) -> list[CheckpointEvent]:
    """`count` events from the beginning of `stream`."""
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        events.append(make_event(stream, seq, previous=events[-1] if events else None, data=data))
        await store.append(events[-1])
    return events


async def headers(store: EventStore, stream: StreamId = STREAM) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream)]


def outcomes(appends: Iterable[Coroutine[Any, Any, None]]) -> asyncio.Future[list[BaseException | None]]:
    """What becomes of each append, all of them made at once."""
    return asyncio.gather(*appends, return_exceptions=True)


@contextmanager
def plain(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """A connection that knows nothing of the store, as another program's."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


def pragma(path: Path, name: str) -> Any:
    with plain(path) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


PROLOGUE = """
import asyncio, os, sqlite3, sys
from pathlib import Path
from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event
STREAM = StreamId("workflow", "run")
path = Path(sys.argv[1])
"""


@contextmanager
def process(script: str, path: Path, *, runner: tuple[str, ...] = ()) -> Generator[subprocess.Popen[str], None, None]:
    """Another process that runs `script` on `path`. It is killed if it is still there at the end."""
    command = [*runner, sys.executable, "-c", PROLOGUE + textwrap.dedent(script), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def run(script: str, path: Path, *, runner: tuple[str, ...] = ()) -> str:
    """What `script`, run to its end in another process, prints."""
    with process(script, path, runner=runner) as child:
        printed, _ = child.communicate(timeout=HANG)
    assert child.returncode == 0, printed
    return printed


def said(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.readline().strip()


@contextmanager
def write_lock(path: Path) -> Generator[Callable[[], None], None, None]:
    """Another process holds the write lock until it is told to let go."""
    script = """
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
        connection.execute("ROLLBACK")
        connection.close()
        print("released", flush=True)
    """
    with process(script, path) as child:
        assert said(child.stdout) == "locked"

        def release() -> None:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            assert said(child.stdout) == "released"

        yield release


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


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[sqlite3.Connection]:
    """The connections that stores open from now on; a file that is there is opened once by each of their threads."""
    path.touch()
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    return opened


async def refuses(path: Path, error: type[CheckpointStoreError], match: str) -> None:
    """Neither a read nor appends can open `path`, and none of them hangs."""
    async with asyncio.timeout(HANG), SqliteEventStore(path, busy_timeout=0.2) as store:
        with pytest.raises(error, match=match):
            await store.read(STREAM, 1)
        for outcome in await outcomes(store.append(make_event(stream, 1)) for stream in runs(20)):
            assert isinstance(outcome, error), outcome
        with pytest.raises(error, match=match):
            await store.append(make_event(STREAM, 1))


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


class TestDamage:
    async def test_damaged_pages_are_reported_as_damage(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 50, data=os.urandom(5000))
        with path.open("r+b") as file:
            file.seek(4096)  # the first page holds the header and the schema
            file.write(os.urandom(path.stat().st_size - 4096))
        async with SqliteEventStore(path) as store:
            with pytest.raises(StoreCorruptError, match="damaged"):
                await headers(store)
            with pytest.raises(StoreCorruptError, match="damaged"):
                await store.append(make_event(StreamId("workflow", "other"), 1))

    @pytest.mark.parametrize(
        "damage",
        [
            "header = x'c1'",
            "header = x''",
            "header = substr(header, 1, 20)",
            "header = 'text'",
            "header = 5",
            "header = (SELECT header FROM events WHERE seq = 1)",
        ],
    )
    async def test_a_damaged_header_hides_no_other_event_and_its_own_is_given_without_payload(
        self, path: Path, store: SqliteEventStore, damage: str
    ) -> None:
        first, second, third = await append_chain(store, 3)
        alter(path, f"UPDATE events SET {damage} WHERE seq = 2")
        remains = CheckpointEvent(
            type="checkpoint",
            workflow_name="workflow",
            run_id="run",
            seq=2,
            checkpoint_id=second.checkpoint_id,
            digest=second.digest,
            timestamp="",
            recorded_at="",
        )
        assert await headers(store) == [first.header(), remains, third.header()]
        assert [header async for header in store.workflow_headers("workflow", desc=True)] == [
            third.header(),
            remains,
            first.header(),
        ]
        assert await store.read(STREAM, 1, 2, 3) == [first, remains, third]
        located = await store.find(second.checkpoint_id)
        assert located is not None
        assert located == (remains, third.header())
        fourth = make_event(STREAM, 4, previous=third)
        await store.append(fourth)
        assert await store.read(STREAM, 4) == [fourth]

    @pytest.mark.parametrize("damage", ["header = x'c1'", "type = x'ff'", "type = 5", "run_id = x'ff'", "header = 5"])
    async def test_a_damaged_event_of_an_id_that_other_runs_have_too_breaks_nothing(
        self, path: Path, store: SqliteEventStore, damage: str
    ) -> None:
        events = [make_event(StreamId("workflow", name), 1, checkpoint_id="wanted") for name in "abc"]
        for event in events:
            await store.append(event)
        alter(path, f"UPDATE events SET {damage} WHERE run_id = 'b'")
        assert await store.find("wanted") == (events[2], events[2].header())
        deleted = make_event(events[2].stream, 2, previous=events[2], type="tombstone", checkpoint_id="wanted")
        await store.append(deleted)
        for located in (await store.find("wanted"), await store.find_in("workflow", "wanted")):
            assert located is not None
            assert located.event.payload is None, "the damaged one is the newest that is live, and says so"
            assert located.event.type == "checkpoint"
        assert await store.find("wanted", stream=StreamId("workflow", "a")) == (events[0], events[0].header())

    @pytest.mark.parametrize("damage", ["data = x'00'", "data = 'text'", "data = 5"])
    async def test_damaged_data_is_told_by_the_digest(self, path: Path, store: SqliteEventStore, damage: str) -> None:
        first, second = await append_chain(store, 2)
        alter(path, f"UPDATE events SET {damage} WHERE seq = 2")
        read, damaged = await store.read(STREAM, 1, 2)
        assert read == first
        assert damaged.header() == second.header()
        assert digest_of(damaged) != second.digest
        assert [event async for event in store.events(STREAM)] == [first, damaged]

    async def test_text_that_is_no_unicode_hides_no_event(self, path: Path, store: SqliteEventStore) -> None:
        first, second = await append_chain(store, 2)
        alter(path, "UPDATE events SET checkpoint_id = CAST(x'ff' AS TEXT) WHERE seq = 2")
        found = await headers(store)
        assert found[0] == first.header()
        assert (found[1].seq, found[1].digest, found[1].payload) == (2, second.digest, None)

    async def test_an_event_cannot_be_updated(self, path: Path, store: SqliteEventStore) -> None:
        events = await append_chain(store, 2)
        with plain(path) as connection, pytest.raises(sqlite3.IntegrityError, match="never updated"):
            connection.execute("UPDATE events SET data = x'00' WHERE seq = 1")
        assert await store.read(STREAM, 1, 2) == events


def alter(path: Path, statement: str) -> None:
    """What someone does who means to, or a failing disk."""
    with plain(path) as connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        assert connection.execute(statement).rowcount == 1


class TestLocks:
    async def test_a_lock_held_for_too_long_is_an_error_and_trying_again_is_safe(self, path: Path) -> None:
        async with SqliteEventStore(path, busy_timeout=0.1) as store:
            (first,) = await append_chain(store, 1)
            second = make_event(STREAM, 2, previous=first)
            with write_lock(path) as release:
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.append(second)
                assert await store.read(STREAM, 1, 2) == [first]
                release()
                await store.append(second)
            assert await store.read(STREAM, 1, 2) == [first, second]

    async def test_a_lock_on_a_file_that_is_not_open_yet_is_an_error_too(self, path: Path) -> None:
        with write_lock(path) as release:
            async with SqliteEventStore(path, busy_timeout=0.1) as store:
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.append(make_event(STREAM, 1))
                with pytest.raises(StoreLockedError, match="locked"):
                    await store.read(STREAM, 1)
                release()
                events = await append_chain(store, 1)
                assert await store.read(STREAM, 1) == events

    async def test_each_store_waits_for_a_lock_as_long_as_it_was_told(self, path: Path) -> None:
        async with (
            SqliteEventStore(path, busy_timeout=HANG) as patient,
            SqliteEventStore(path, busy_timeout=0) as hasty,
        ):
            (first,) = await append_chain(patient, 1)
            second = make_event(STREAM, 2, previous=first)
            with write_lock(path) as release:
                waits = asyncio.create_task(patient.append(second))
                await asyncio.sleep(0)
                with pytest.raises(StoreLockedError):
                    await hasty.append(second)
                assert not waits.done()
                release()
                await waits

    async def test_appends_that_meet_a_lock_together_wait_for_it_together(self, path: Path) -> None:
        async with asyncio.timeout(HANG), SqliteEventStore(path, busy_timeout=1) as store:
            await append_chain(store, 1)
            with write_lock(path):
                # One after the other they would wait for more than the guard's time.
                failed = await outcomes(store.append(make_event(stream, 1)) for stream in runs(2 * HANG))
            assert {type(outcome) for outcome in failed} == {StoreLockedError}

    async def test_the_event_loop_goes_on_while_a_store_waits_for_a_lock(
        self, path: Path, store: SqliteEventStore
    ) -> None:
        (first,) = await append_chain(store, 1)
        with write_lock(path) as release:
            append = asyncio.create_task(store.append(make_event(STREAM, 2, previous=first)))
            for _ in range(100):  # if the append held the loop up, it would fail before the lock is released
                await asyncio.sleep(0)
            assert await store.read(STREAM, 1, 2) == [first]
            assert not append.done()
            release()
            await append
        assert [header.seq for header in await headers(store)] == [1, 2]

    async def test_the_event_loop_goes_on_while_a_store_waits_to_open_the_file(self, path: Path) -> None:
        with plain(path) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            async with SqliteEventStore(path) as store:
                tasks = [asyncio.create_task(store.read(STREAM, 1)), asyncio.create_task(append_chain(store, 1))]
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not any(task.done() for task in tasks)
                holder.execute("ROLLBACK")
                await asyncio.gather(*tasks)
                assert [header.seq for header in await headers(store)] == [1]

    async def test_closing_waits_for_appends_that_wait_for_a_lock(self, path: Path) -> None:
        store = SqliteEventStore(path)
        await append_chain(store, 1)
        with write_lock(path) as release:
            events = [make_event(stream, 1) for stream in runs(20)]
            appends = outcomes(store.append(event) for event in events)
            await asyncio.sleep(0)
            close = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            with pytest.raises(CheckpointStoreError, match="closed"):
                await store.append(make_event(STREAM, 2))
            assert not close.done()
            release()
            assert await appends == [None] * 20
            await close
        async with SqliteEventStore(path) as other:
            for event in events:
                assert await other.read(event.stream, 1) == [event]

    async def test_a_cancelled_close_closes_all_the_same(self, path: Path) -> None:
        store = SqliteEventStore(path)
        (first,) = await append_chain(store, 1)
        await store.read(STREAM, 1)
        with write_lock(path) as release:
            append = asyncio.create_task(store.append(make_event(STREAM, 2, previous=first)))
            await asyncio.sleep(0)
            close = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            close.cancel()
            with pytest.raises(asyncio.CancelledError):
                await close
            release()
            await append
        async with asyncio.timeout(HANG):
            await store.close()
        assert not beside(path, "-wal").exists()  # the last connection has let go of the file

    async def test_a_cancelled_append_that_waits_for_its_turn_is_not_stored(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            loop, begun = asyncio.get_running_loop(), asyncio.Event()
            connections[0].set_trace_callback(lambda statement: loop.call_soon_threadsafe(begun.set))
            with write_lock(path) as release:
                under_way = asyncio.create_task(store.append(make_event(StreamId("workflow", "under way"), 1)))
                await begun.wait()
                appends = [asyncio.create_task(store.append(make_event(stream, 1))) for stream in runs(20)]
                await asyncio.sleep(0)
                for append in appends[::2]:
                    append.cancel()
                await asyncio.sleep(0)
                release()
                await under_way
                await asyncio.gather(*appends, return_exceptions=True)
            assert [append.cancelled() for append in appends] == [True, False] * 10
            for stream, append in zip(runs(20), appends, strict=True):
                assert len(await store.read(stream, 1)) == (0 if append.cancelled() else 1)


class TestClosing:
    async def test_a_closed_store_leaves_the_file_alone_and_no_other_beside_it(self, path: Path) -> None:
        head: CheckpointEvent | None = None
        for seq in range(1, 61):
            async with SqliteEventStore(path) as store:
                following = make_event(STREAM, seq, previous=head)
                await asyncio.gather(store.append(following), store.read(STREAM, seq))
                head = following
            assert files(path.parent).keys() == {path.name}

    async def test_a_closed_store_leaves_no_thread_behind(self, path: Path) -> None:
        before = threading.enumerate()
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            await store.read(STREAM, 1)
            threads = [thread for thread in threading.enumerate() if thread not in before]
            assert len(threads) == 2
        for thread in threads:
            thread.join(HANG)
            assert not thread.is_alive()


class TestGroups:
    async def test_appends_that_wait_are_committed_together(self, path: Path, store: SqliteEventStore) -> None:
        await append_chain(store, 1)
        before = commits(path)
        events = [make_event(stream, 1) for stream in runs(200)]
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in events)
            await asyncio.sleep(0)
            release()
            assert await appends == [None] * 200
        assert 1 <= commits(path) - before <= 3
        for event in events:
            assert await store.read(event.stream, 1) == [event]

    async def test_appends_that_do_not_wait_are_committed_one_by_one(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        before = commits(path)
        for seq in range(2, 12):
            first = make_event(STREAM, seq, previous=first)
            await store.append(first)
        assert commits(path) - before == 10

    async def test_what_cannot_be_stored_fails_alone(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        good = [make_event(stream, 1) for stream in runs(20)]
        bad = [
            msgspec.structs.replace(make_event(StreamId("workflow", "bad"), 1), **fields)
            for fields in (
                {"actor": "\ud800"},
                {"run_id": "\ud800"},
                {"checkpoint_id": "\ud800"},
                {"iteration_count": 1 << 70},
            )
        ]
        late = make_event(STREAM, 3, previous=first)
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in (*good[:10], *bad, late, *good[10:]))
            await asyncio.sleep(0)
            release()
            found = await appends
        assert found[:10] == found[15:] == [None] * 10
        assert {type(outcome) for outcome in found[10:14]} == {CheckpointStoreError}
        assert isinstance(found[14], StreamConflict)
        for event in good:
            assert await store.read(event.stream, 1) == [event]
        assert await headers(store, StreamId("workflow", "bad")) == []

    async def test_rivals_in_one_group_are_told_of_the_winner(self, path: Path, store: SqliteEventStore) -> None:
        (first,) = await append_chain(store, 1)
        rivals = [make_event(STREAM, 2, previous=first, data=bytes([number])) for number in range(5)]
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in rivals)
            await asyncio.sleep(0)
            release()
            winner, *losers = await appends
        assert winner is None
        for loser in losers:
            assert isinstance(loser, StreamConflict)
            assert loser.head == rivals[0].header()

    async def test_a_run_of_events_may_wait_in_one_group(self, path: Path, store: SqliteEventStore) -> None:
        events = await append_chain(store, 1)
        for seq in range(2, 700):
            events.append(make_event(STREAM, seq, previous=events[-1], data=b""))
        with write_lock(path) as release:
            appends = outcomes(store.append(event) for event in events[1:])
            await asyncio.sleep(0)
            release()
            assert set(await appends) == {None}
        assert await headers(store) == [event.header() for event in events]

    async def test_other_writes_get_their_turn_between_two_groups(self, path: Path, store: SqliteEventStore) -> None:
        await append_chain(store, 1)
        with write_lock(path) as release:
            appends = outcomes(store.append(make_event(stream, 1, data=b"")) for stream in runs(1500))
            await asyncio.sleep(0)
            other = asyncio.create_task(store.writing(count_events))
            await asyncio.sleep(0)
            release()
            seen = await other
            assert set(await appends) == {None}
        assert seen < 1501
        assert await store.reading(count_events) == 1501


def count_events(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM events").fetchone()[0]


def commits(path: Path) -> int:
    """How many transactions are in the write-ahead log: the frames with a database size end one each."""
    log = beside(path, "-wal").read_bytes()
    page_size = struct.unpack(">I", log[8:12])[0]
    frames = (log[start : start + 24] for start in range(32, len(log), 24 + page_size))
    return sum(1 for frame in frames if frame[8:16] == log[16:24] and struct.unpack(">I", frame[4:8])[0])


LAST_EVENT = "SELECT position, digest FROM events ORDER BY position DESC LIMIT 1"
"""Is at the end of the table: nothing is searched for."""
ABOUT_THE_STORE = (
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'store'",
    "SELECT min(id) FROM store",
    "SELECT max(seq) FROM sqlite_sequence WHERE name = 'events' AND typeof(seq) = 'integer'",
)
"""Tables of a few rows."""


class TestQueries:
    async def test_every_question_is_answered_from_an_index(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            (first,) = await append_chain(store, 1)
            await store.read(STREAM, 1)
            asked: list[str] = []
            for connection in connections:
                connection.set_trace_callback(asked.append)
            await store.append(make_event(STREAM, 2, previous=first))
            with pytest.raises(StreamConflict):
                await store.append(make_event(STREAM, 1))
            await store.read(STREAM, 1, 2)
            await store.find(first.checkpoint_id)
            await store.find(first.checkpoint_id, stream=STREAM)
            await store.find_in("workflow", first.checkpoint_id)
            for desc in (False, True):
                _ = [header async for header in store.headers(STREAM, gt=1, lte=3, desc=desc)]
                _ = [header async for header in store.workflow_headers("workflow", desc=desc)]
            questions = [
                statement
                for statement in asked
                if statement.startswith("SELECT") and statement not in (LAST_EVENT, *ABOUT_THE_STORE)
            ]
            assert len(questions) >= 9
            for question in questions:
                with plain(path) as connection:
                    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
                if "checkpoint_id =" in question:  # the runs that have an id are sorted, and nothing else
                    assert [step for step in plan if step.startswith(("SCAN events", "SEARCH"))] == [
                        "SEARCH events USING INDEX events_by_checkpoint (checkpoint_id=?)"
                    ], (question, plan)
                    continue
                assert len(plan) == 1, (question, plan)  # no sorting beside it
                assert plan[0].startswith(("SEARCH events USING INDEX", "SEARCH events USING INTEGER PRIMARY KEY"))
                assert "workflow_name=?" in plan[0] or "rowid=?" in plan[0], (question, plan)
                assert "run_id=?" in plan[0] or "run_id =" not in question, (question, plan)


class TestFullDisks:
    async def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_half_written(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(300_000))
        path = small_disk / "events.db"
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1, data=os.urandom(20_000))

            async def fill() -> None:
                while True:
                    events.append(make_event(STREAM, len(events) + 1, previous=events[-1], data=os.urandom(20_000)))
                    await store.append(events[-1])

            with pytest.raises(StoreFullError, match="room"):
                await fill()
            following = events.pop()
            assert await headers(store) == [event.header() for event in events]
            other = make_event(StreamId("workflow", "other"), 1, data=os.urandom(200_000))
            with pytest.raises(StoreFullError):
                await store.append(other)
            assert await headers(store, other.stream) == []

            filler.unlink()
            await store.append(following)
            await store.append(other)
            assert await store.read(STREAM, *range(1, len(events) + 2)) == [*events, following]
            assert await store.read(other.stream, 1) == [other]
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, *range(1, len(events) + 2)) == [*events, following]
        with plain(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    async def test_an_append_too_large_for_the_disk_fails_alone(self, small_disk: Path) -> None:
        path = small_disk / "events.db"
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            small = [make_event(stream, 1) for stream in runs(10)]
            large = make_event(StreamId("workflow", "large"), 1, data=os.urandom(4_000_000))
            with write_lock(path) as release:
                appends = outcomes(store.append(event) for event in (*small[:5], large, *small[5:]))
                await asyncio.sleep(0)
                release()
                found = await appends
            assert isinstance(found.pop(5), StoreFullError)
            assert found == [None] * 10
            for event in small:
                assert await store.read(event.stream, 1) == [event]
            assert await store.read(large.stream, 1) == []

    async def test_a_store_that_finds_no_room_to_begin_in_works_once_there_is_some(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert shutil.disk_usage(small_disk).free == 0
        async with SqliteEventStore(small_disk / "events.db") as store:
            for outcome in await outcomes(store.append(make_event(stream, 1)) for stream in runs(5)):
                assert isinstance(outcome, CheckpointStoreError)
            with pytest.raises(CheckpointStoreError):
                await store.read(STREAM, 1)
            filler.unlink()
            events = await append_chain(store, 3)
            assert await store.read(STREAM, 1, 2, 3) == events

    @pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
    def test_a_limit_on_the_size_of_files_keeps_what_was_acknowledged(self, path: Path) -> None:
        script = """
            import resource

            async def main():
                store, events = SqliteEventStore(path), []
                _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
                try:
                    while len(events) < 1000:
                        head = events[-1] if events else None
                        event = make_event(STREAM, len(events) + 1, previous=head, data=os.urandom(10_000))
                        await store.append(event)
                        events.append(event)
                except CheckpointStoreError:
                    print("refused")
                seqs = range(1, len(events) + 2)
                assert await store.read(STREAM, *seqs) == events
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                await store.append(event)
                assert await store.read(STREAM, *seqs) == [*events, event]
                await store.close()
                print(len(events) + 1)

            asyncio.run(main())
        """
        refused, count = run(script, path).split()
        assert refused == "refused"
        assert int(count) > 3
        with plain(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (int(count),)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 2 MB, for root on Linux."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestProcesses:
    def test_processes_that_append_to_one_file_at_once_lose_nothing(self, path: Path) -> None:
        with processes(3, _append_beside_others, path) as results:
            own = [results.get(timeout=HANG) for _ in range(3)]
        assert sorted(own) == [0, 1, 2]

        async def check() -> None:
            async with SqliteEventStore(path) as store:
                for stream in runs(3):
                    assert [header.seq for header in await headers(store, stream)] == list(range(1, 41))
                shared = await headers(store)
                assert [header.seq for header in shared] == list(range(1, 31))
                assert [header.previous_digest for header in shared] == ["", *(h.digest for h in shared[:-1])]
                assert {header.checkpoint_id for header in shared} == {
                    f"{number} of {writer}" for number in range(10) for writer in range(3)
                }

        asyncio.run(check())

    def test_processes_that_create_one_file_at_once_all_succeed(self, tmp_path: Path) -> None:
        with processes(4, _open_beside_others, tmp_path) as results:
            failures = [results.get(timeout=HANG) for _ in range(4)]
        assert failures == [[]] * 4

    async def test_stores_that_create_one_file_at_once_all_succeed(self, tmp_path: Path) -> None:
        for number in range(20):
            path = tmp_path / f"{number}.db"
            async with AsyncExitStack() as stack:
                stores = [await stack.enter_async_context(SqliteEventStore(path)) for _ in range(4)]
                events = [make_event(stream, 1) for stream in runs(4)]
                pairs = list(zip(stores, events, strict=True))
                reads = [store.read(event.stream, 1) for store, event in pairs]
                await asyncio.gather(*reads, *(store.append(event) for store, event in pairs))
                for event in events:
                    assert await stores[0].read(event.stream, 1) == [event]

    def test_a_killed_process_loses_nothing_it_was_told_is_stored(self, path: Path) -> None:
        script = """
            async def write(store, number):
                stream, head = StreamId("workflow", f"run {number}"), None
                async for head in store.headers(stream, desc=True):
                    break
                seq = head.seq if head else 0
                while True:
                    seq += 1
                    head = make_event(stream, seq, previous=head, data=os.urandom(seq % 7 * 1000))
                    await store.append(head)
                    os.write(1, f"{number} {seq}\\n".encode())  # the line at once, or not at all

            async def main():
                store = SqliteEventStore(path)
                await asyncio.gather(*(write(store, number) for number in range(4)))

            asyncio.run(main())
        """
        acknowledged = dict.fromkeys(range(4), 0)
        for _ in range(6):
            with process(script, path) as child:
                lines = [said(child.stdout) for _ in range(random.randint(1, 300))]
                child.kill()
                assert child.stdout is not None
                lines += child.stdout.read().splitlines(keepends=True)
            for line in lines:
                number, seq = map(int, line.split())
                acknowledged[number] = max(acknowledged[number], seq)
            asyncio.run(self._holds(path, acknowledged))
        assert sum(acknowledged.values()) > 0

    async def _holds(self, path: Path, acknowledged: dict[int, int]) -> None:
        async with SqliteEventStore(path) as store:
            for number, seq in acknowledged.items():
                stored = await headers(store, runs(4)[number])
                assert [header.seq for header in stored] == list(range(1, len(stored) + 1))
                assert [header.previous_digest for header in stored[1:]] == [header.digest for header in stored[:-1]]
                assert len(stored) in (seq, seq + 1), "more than the one append that was under way"
                for event in await store.read(runs(4)[number], *range(max(1, seq - 20), len(stored) + 1)):
                    assert digest_of(event) == event.digest
                acknowledged[number] = len(stored)


@contextmanager
def processes(count: int, target: Callable[..., None], *args: Any) -> Generator[Any, None, None]:
    """`count` processes that run `target(number, barrier, results, *args)`; `results` is a queue that they fill."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    children = [context.Process(target=target, args=(number, barrier, results, *args)) for number in range(count)]
    try:
        for child in children:
            child.start()
        yield results
        for child in children:
            child.join(HANG)
            assert child.exitcode == 0
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()
            child.close()
        results.close()


def _append_beside_others(number: int, barrier: Any, results: Any, path: Path) -> None:
    async def own(store: EventStore) -> None:
        await append_chain(store, 40, stream=runs(3)[number])

    async def shared(store: EventStore) -> None:
        head: CheckpointEvent | None = None
        for count in range(10):
            while True:
                seq = head.seq + 1 if head else 1
                event = make_event(STREAM, seq, previous=head, checkpoint_id=f"{count} of {number}")
                try:
                    await store.append(event)
                except StreamConflict as conflict:
                    head = conflict.head
                else:
                    head = event
                    break

    async def main() -> None:
        async with SqliteEventStore(path) as store:
            await asyncio.gather(own(store), shared(store))

    barrier.wait(HANG)
    asyncio.run(main())
    results.put(number)


def _open_beside_others(number: int, barrier: Any, results: Any, folder: Path) -> None:
    failures: list[str] = []

    async def main(path: Path) -> None:
        async with SqliteEventStore(path) as store:
            event = make_event(StreamId("workflow", f"run {number}"), 1)
            _, found = await asyncio.gather(store.append(event), store.read(STREAM, 1))
            if found or await store.read(event.stream, 1) != [event]:
                failures.append(f"{path.name}: another event than its own")

    for name in range(30):
        barrier.wait(HANG)
        try:
            asyncio.run(main(folder / f"{name}.db"))
        except Exception as error:
            failures.append(f"{name}: {error!r}")
    results.put(failures)


class TestLifeOfAProcess:
    def test_a_store_that_nobody_closes_keeps_no_process_alive_and_loses_nothing(self, path: Path) -> None:
        script = """
            store = SqliteEventStore(path)

            async def main():
                await store.append(make_event(STREAM, 1))
                print(len(await store.read(STREAM, 1)))

            asyncio.run(main())
        """
        assert run(script, path).split() == ["1"]
        assert stored(path) == [1]

    def test_an_append_under_way_when_the_process_ends_is_finished(self, path: Path) -> None:
        script = """
            import threading

            store, begun, connect = SqliteEventStore(path), threading.Event(), sqlite3.connect

            def traced(*args, **options):
                connection = connect(*args, **options)
                connection.set_trace_callback(lambda statement: begun.set())
                return connection

            sqlite3.connect = traced

            async def main():
                first = make_event(STREAM, 1)
                await store.append(first)
                begun.clear()
                append = asyncio.ensure_future(store.append(make_event(STREAM, 2, previous=first)))
                await asyncio.sleep(0)
                begun.wait()

            asyncio.run(main())
        """
        run(script, path)
        assert stored(path) == [1, 2]

    def test_a_store_can_be_closed_while_the_interpreter_exits(self, path: Path) -> None:
        script = """
            import atexit

            store = SqliteEventStore(path)

            def close():
                try:
                    asyncio.run(store.read(STREAM, 1))
                except CheckpointStoreError as error:
                    print("refused")
                asyncio.run(store.close())
                asyncio.run(store.close())
                print("closed")

            atexit.register(close)
            asyncio.run(store.append(make_event(STREAM, 1)))
        """
        assert run(script, path).split() == ["refused", "closed"]
        assert not beside(path, "-wal").exists()
        assert stored(path) == [1]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_store_in_use_refuses_to_work_in_a_forked_process(self, path: Path) -> None:
        script = """
            import warnings

            warnings.simplefilter("ignore")
            store, unused = SqliteEventStore(path), SqliteEventStore(path)
            asyncio.run(store.append(make_event(STREAM, 1)))
            child = os.fork()
            if child == 0:
                for work in (store.append(make_event(STREAM, 2)), store.read(STREAM, 1)):
                    try:
                        asyncio.run(work)
                    except CheckpointStoreError as error:
                        print("refused" if "fork" in str(error) else error, flush=True)
                asyncio.run(store.close())
                print(len(asyncio.run(unused.read(STREAM, 1))), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(len(asyncio.run(store.read(STREAM, 1))))
        """
        assert run(script, path).split() == ["refused", "refused", "1", "1"]

    def test_a_store_outlives_the_event_loop_it_was_first_used_in(self, path: Path) -> None:
        store = SqliteEventStore(path)
        events = asyncio.run(append_chain(store, 2))
        third = make_event(STREAM, 3, previous=events[-1])
        asyncio.run(store.append(third))
        assert asyncio.run(store.read(STREAM, 1, 2, 3)) == [*events, third]
        assert asyncio.run(headers(store)) == [event.header() for event in (*events, third)]
        asyncio.run(store.close())

    def test_a_store_serves_several_event_loops_at_once(self, path: Path) -> None:
        store = SqliteEventStore(path)
        streams = runs(6)

        def use(stream: StreamId) -> None:
            asyncio.run(append_chain(store, 30, stream=stream))

        in_threads(use, streams)
        for stream in streams:
            assert [header.seq for header in asyncio.run(headers(store, stream))] == list(range(1, 31))
        asyncio.run(store.close())

    def test_closing_in_one_thread_leaves_no_append_of_another_hanging(self, tmp_path: Path) -> None:
        for round_ in range(30):
            path = tmp_path / f"{round_}.db"
            store = SqliteEventStore(path, synchronous="OFF")
            begun = threading.Event()
            acknowledged: list[CheckpointEvent] = []

            def use(
                stream: StreamId,
                store: EventStore = store,
                begun: threading.Event = begun,
                acknowledged: list[CheckpointEvent] = acknowledged,
            ) -> None:
                async def append() -> None:
                    event: CheckpointEvent | None = None
                    with contextlib.suppress(CheckpointStoreError):
                        while True:
                            event = make_event(stream, event.seq + 1 if event else 1, previous=event)
                            await store.append(event)
                            acknowledged.append(event)
                            begun.set()

                async def close() -> None:
                    await store.close()

                if stream.run_id == "closes":
                    assert begun.wait(HANG)
                    asyncio.run(close())
                else:
                    asyncio.run(append())

            in_threads(use, [*runs(3), StreamId("workflow", "closes")])
            with plain(path) as connection:
                stored = {digest for (digest,) in connection.execute("SELECT digest FROM events")}
            assert stored == {event.digest for event in acknowledged}
            assert not beside(path, "-wal").exists()

    def test_an_append_whose_event_loop_is_gone_holds_up_no_other(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        store = SqliteEventStore(path)
        (first,) = asyncio.run(append_chain(store, 1))
        begun = threading.Event()
        connections[0].set_trace_callback(lambda _: begun.set())

        async def leave() -> None:
            append = asyncio.ensure_future(store.append(make_event(STREAM, 2, previous=first)))
            await asyncio.sleep(0)
            assert begun.wait(HANG)
            assert not append.done()

        with write_lock(path) as release:
            asyncio.run(leave())
            release()
        other = make_event(StreamId("workflow", "other"), 1)
        asyncio.run(asyncio.wait_for(store.append(other), HANG))
        assert asyncio.run(store.read(other.stream, 1)) == [other]
        asyncio.run(store.close())


def stored(path: Path) -> list[int]:
    with plain(path) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY position")]


def in_threads(work: Callable[[StreamId], None], streams: list[StreamId]) -> None:
    """Does `work` for each stream, all at once, and raises what any of them raised."""
    failures: list[BaseException] = []

    def guarded(stream: StreamId) -> None:
        try:
            work(stream)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive(), "an append hangs"
    assert failures == []
