"""A SQLite store that is only looked at: nothing is made, changed or left behind, and what is read is what is there."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from eventckpt import CheckpointEvent, SqliteEventStore, StoreReplacedError, StreamId
from eventckpt.errors import CheckpointStoreError, StoreFormatError, StoreNotFoundError, StoreReadOnlyError
from eventckpt.events import RunInfo
from eventckpt.stores.change_feed import EVERYTHING
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import MIGRATIONS

from ..chains import STREAM, append_chain, headers
from .helpers import beside, files, plain, pragma, process, run, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "größe %41 ?mode=rwc# '\" 🚀"
    folder.mkdir()
    return folder / "a ?b=c&d#e%20.db"


@pytest.fixture
async def events(path: Path) -> list[CheckpointEvent]:
    async with SqliteEventStore(path) as store:
        return await append_chain(store, 3)


@asynccontextmanager
async def looking(path: Path) -> AsyncGenerator[SqliteEventStore, None]:
    async with SqliteEventStore(path, read_only=True, busy_timeout=0.5) as store:
        yield store


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that looking could have changed of a folder's files."""
    return {
        file.name: (found.st_ino, found.st_mtime_ns, found.st_mode, file.read_bytes())
        for file in folder.iterdir()
        if file.is_file() and (found := file.stat())
    }


async def drained(rows: AsyncGenerator[Any, None]) -> None:
    async for _ in rows:
        pass


@contextmanager
def read_only_mount(folder: Path) -> Generator[None, None, None]:
    """The folder is mounted over itself, and cannot be written by anybody."""
    commands = (["mount", "--bind"], ["mount", "-o", "remount,bind,ro"])
    if subprocess.run([*commands[0], folder, folder], capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount")
    try:
        subprocess.run([*commands[1], folder, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


INFO = RunInfo(workflow_name="workflow", run_id="run", seq=3, digest="x")
LOOKS: dict[str, Callable[[SqliteEventStore], Coroutine[Any, Any, Any]]] = {
    "read": lambda store: store.read(STREAM, 1),
    "find": lambda store: store.find("id"),
    "find_in": lambda store: store.find_in("workflow", "id"),
    "headers": lambda store: drained(store.headers(STREAM)),
    "workflow_headers": lambda store: drained(store.workflow_headers("workflow")),
    "streams": lambda store: drained(store.streams()),
    "events": lambda store: drained(store.events(STREAM)),
    "checkpoint_ids": lambda store: store.checkpoint_ids("", limit=5),
    "runs_with": lambda store: store.runs_with("workflow", ["id"]),
    "follow": lambda store: anext(store.follow(last=1)),
    "run_store": lambda store: store.run_store().get(STREAM),
    "change_feed": lambda store: store.change_feed().read(EVERYTHING, None, start="beginning", limit=5),
    "document_store": lambda store: store.document_store().list_documents(""),
    "checks": lambda store: store.checks(),
}
WRITES: dict[str, Callable[[SqliteEventStore], Coroutine[Any, Any, Any]]] = {
    "append": lambda store: store.append(make_event(STREAM, 4)),
    "put": lambda store: store.put(STREAM, [make_event(STREAM, 4)]),
    "put_over": lambda store: store.put_over(STREAM, [make_event(STREAM, 4)], after=3),
    "remove": lambda store: store.remove(STREAM, [1]),
    "runs put": lambda store: store.run_store().put(INFO),
    "runs clear": lambda store: store.run_store().clear(),
    "runs claim": lambda store: store.run_store().claim(),
    "runs activate": lambda store: store.run_store().activate("other"),
    "document create": lambda store: store.document_store().create({"id": "a"}),
    "document replace": lambda store: store.document_store().replace({"id": "a"}, "1"),
    "document delete": lambda store: store.document_store().delete("a", "1"),
}


@pytest.mark.parametrize("name", LOOKS)
async def test_every_look_at_a_store_that_is_not_there_says_so_and_makes_nothing(tmp_path: Path, name: str) -> None:
    for missing in (tmp_path / "typo.db", tmp_path / "no" / "folder" / "typo.db"):
        async with looking(missing) as store:
            if name == "checks":
                (check,) = await store.checks()
                assert (check.name, check.ok) == ("reading", False)
                assert str(missing) in check.detail
            else:
                with pytest.raises(StoreNotFoundError, match=r"typo\.db, and looking makes none"):
                    await LOOKS[name](store)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITES)
async def test_every_write_is_refused_and_makes_nothing(path: Path, events: list[CheckpointEvent], name: str) -> None:
    before = state(path.parent)
    async with looking(path) as store:
        assert await store.read(STREAM, 3) == events[2:]
        with pytest.raises(StoreReadOnlyError, match="opened to be read only"):
            await WRITES[name](store)
        assert await headers(store) == [event.header() for event in events]
    async with looking(path.parent / "typo.db") as store:
        with pytest.raises(StoreReadOnlyError, match="opened to be read only"):
            await WRITES[name](store)
    assert state(path.parent) == before


@pytest.mark.parametrize("name", LOOKS)
async def test_every_look_at_a_closed_store_leaves_it_and_its_folder_as_they_are(
    path: Path, events: list[CheckpointEvent], name: str
) -> None:
    before = state(path.parent)
    async with looking(path) as store:
        await LOOKS[name](store)
        assert state(path.parent) == before, "not while it is open either"
    assert state(path.parent) == before


@pytest.mark.parametrize("what", ["empty file", "empty database", "text", "another application", "folder", "newer"])
async def test_what_is_no_store_is_named_and_left_as_it_is(path: Path, what: str) -> None:
    error, words = StoreFormatError, "not a SQLite database"
    if what == "folder":
        path.mkdir()
        error, words = StoreReadOnlyError, "folder or a device"
    elif what == "text":
        path.write_text("hello\n" * 1000)
    elif what == "empty file":
        path.touch()
        error, words = StoreNotFoundError, "no store in .* empty"
    else:
        with plain(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            if what == "another application":
                connection.execute("CREATE TABLE events (theirs TEXT)")
                words = "another application"
            elif what == "newer":
                connection.executescript("CREATE TABLE t (x); PRAGMA application_id = 1701014384; "
                                         f"PRAGMA user_version = {len(MIGRATIONS) + 1}")  # fmt: skip
                words = "newer eventckpt"
            else:
                error, words = StoreNotFoundError, "no store in .* empty"
    before = state(path.parent)
    async with looking(path) as store:
        with pytest.raises(error, match=words):
            await store.read(STREAM, 1)
    assert state(path.parent) == before


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_an_older_schema_is_read_as_far_as_it_goes_and_never_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("eventckpt.stores.sqlite.schema.MIGRATIONS", MIGRATIONS[:version])
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 3)
    before = state(path.parent)
    async with looking(path) as store:
        assert await store.read(STREAM, 1, 2, 3) == events
        assert all(check.ok for check in await store.checks())
        for name in ("run_store", "document_store"):
            with pytest.raises(StoreNotFoundError, match="an older eventckpt wrote it"):
                await LOOKS[name](store)
    assert state(path.parent) == before


async def test_a_store_without_an_id_gets_none(path: Path, events: list[CheckpointEvent]) -> None:
    with plain(path) as connection:
        connection.execute("DROP TABLE store")
    before = state(path.parent)
    async with looking(path) as store:
        assert await store.read(STREAM, 1) == events[:1]
        assert all(check.ok for check in await store.checks())
    assert state(path.parent) == before


async def test_what_others_write_is_seen_whether_they_have_it_open_or_not(
    path: Path, events: list[CheckpointEvent]
) -> None:
    async with looking(path) as store:
        for count in range(3, 9):
            assert len(await headers(store)) == count
            async with SqliteEventStore(path) as writer:
                events.append(make_event(STREAM, count + 1, previous=events[-1]))
                if count % 2:
                    await writer.append(events[-1])
                    assert await headers(store) == [event.header() for event in events]
                else:  # nobody looks until the writer has gone again
                    await writer.append(events[-1])
    async with looking(path) as store:
        assert await headers(store) == [event.header() for event in events]


async def test_a_look_that_somebody_writes_beside_is_taken_again(path: Path, events: list[CheckpointEvent]) -> None:
    script = """
        async def main():
            async with SqliteEventStore(path) as store:
                (last,) = await store.read(STREAM, 3)
                await store.append(make_event(STREAM, 4, previous=last))
        asyncio.run(main())
    """
    counts: list[int] = []

    def look(connection: sqlite3.Connection) -> int:
        counts.append(connection.execute("SELECT count(*) FROM events").fetchone()[0])
        if len(counts) == 1:  # the file changes under a connection that takes it for one that does not
            run(script, path)
            raise sqlite3.DatabaseError("what was read was of two moments")
        return counts[-1]

    async with looking(path) as store:
        assert await store.reading(look) == 4
        assert counts == [3, 4]
        assert [header.seq for header in await headers(store)] == [1, 2, 3, 4]


async def test_a_store_that_is_opened_and_closed_each_time_is_not_waited_for_without_end(
    path: Path, events: list[CheckpointEvent]
) -> None:
    looks = 0

    def look(_: sqlite3.Connection) -> None:
        nonlocal looks
        looks += 1
        path.touch()

    async with looking(path) as store:
        with pytest.raises(CheckpointStoreError, match="Trying again is safe"):
            await store.reading(look)
        assert 1 < looks < 20
        assert await store.read(STREAM, 1) == events[:1]


async def test_what_an_interrupted_process_left_in_its_log_is_read_and_stays_there(path: Path) -> None:
    script = """
        async def main():
            await SqliteEventStore(path).append(make_event(STREAM, 1))
            os._exit(0)
        asyncio.run(main())
    """
    run(script, path)
    log = beside(path, "-wal").read_bytes()
    before = files(path.parent)
    async with looking(path) as store:
        assert [header.seq for header in await headers(store)] == [1]
    assert files(path.parent).keys() == before.keys()
    assert (path.read_bytes(), beside(path, "-wal").read_bytes()) == (before[path.name], log)


async def test_a_store_that_goes_away_while_it_is_looked_at_is_missed(
    path: Path, events: list[CheckpointEvent], tmp_path: Path
) -> None:
    async with SqliteEventStore(tmp_path / "another.db") as another:
        await append_chain(another, 1, stream=StreamId("workflow", "another"))
    for change in (path.unlink, lambda: shutil.copyfile(tmp_path / "another.db", path)):
        kept = path.read_bytes()
        async with looking(path) as store:
            assert await store.read(STREAM, 1) == events[:1]
            change()
            for _ in range(2):
                with pytest.raises(StoreReplacedError):
                    await store.read(STREAM, 1)
        path.write_bytes(kept)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="another user is needed")
@pytest.mark.parametrize("writer", ["gone", "there"])
async def test_who_may_write_neither_file_nor_folder_reads_it(writer: str) -> None:
    """For root, permissions do not bind: another process gives its own up first."""
    with TemporaryDirectory() as folder:  # one that another user comes to
        path = Path(folder) / "events.db"
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 3)
        path.chmod(0o644)
        path.parent.chmod(0o555)
        await read_by_another_user(path, events, writer)


async def read_by_another_user(path: Path, events: list[CheckpointEvent], writer: str) -> None:
    script = """
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        async def main():
            async with SqliteEventStore(path, read_only=True) as store:
                for _ in sys.stdin:
                    print(len([header async for header in store.headers(STREAM)]), flush=True)
        asyncio.run(main())
    """
    with process(script, path) as reader:

        def count() -> int:
            assert reader.stdin is not None
            reader.stdin.write("count\n")
            reader.stdin.flush()
            return int(said(reader.stdout))

        assert await asyncio.to_thread(count) == 3
        if writer == "there":
            async with SqliteEventStore(path) as store:
                await store.append(make_event(STREAM, 4, previous=events[-1]))
                await store.read(STREAM, 1)
                assert await asyncio.to_thread(count) == 4
            assert await asyncio.to_thread(count) == 4
        assert reader.stdin is not None
        reader.stdin.close()
        assert reader.wait(60) == 0


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
@pytest.mark.parametrize("left", ["closed", "log", "log and index"])
async def test_a_store_on_media_that_cannot_be_written_is_read(
    path: Path, events: list[CheckpointEvent], tmp_path: Path, left: str
) -> None:
    async with SqliteEventStore(path) as store:
        if left != "closed":
            await store.append(make_event(STREAM, 4, previous=events[-1]))
        media = tmp_path / "media"
        shutil.copytree(path.parent, media)
    if left == "log":
        beside(media / path.name, "-shm").unlink()
    with read_only_mount(media):
        before = state(media)
        async with looking(media / path.name) as store:
            if left == "log":
                with pytest.raises(StoreReadOnlyError, match="copy the file there, together with what is beside it"):
                    await store.read(STREAM, 1)
            else:
                assert len(await headers(store)) == (3 if left == "closed" else 4)
        assert state(media) == before


class TestWhoMayRead:
    """The owner alone, unless somebody decided otherwise: whatever the umask is."""

    @pytest.fixture(autouse=True)
    def umask(self) -> Generator[None, None, None]:
        before = os.umask(0)
        yield
        os.umask(before)

    @pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
    async def test_what_is_made_is_its_owners_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "some" / "folders" / "events.db"
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            for suffix in ("", "-wal", "-shm"):
                assert beside(path, suffix).stat().st_mode & 0o777 == 0o600
        assert {folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)} == {0o700}

    @pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
    async def test_what_is_there_keeps_the_permissions_that_it_has(self, tmp_path: Path) -> None:
        path = tmp_path / "shared" / "events.db"
        path.parent.mkdir(0o770)
        path.touch(0o660)
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            for suffix in ("", "-wal", "-shm"):
                assert beside(path, suffix).stat().st_mode & 0o777 == 0o660
        assert path.parent.stat().st_mode & 0o777 == 0o770

    async def test_a_link_to_a_file_that_is_not_there_yet_leads_to_the_new_store(self, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
        async with SqliteEventStore(tmp_path / "link.db") as store:
            events = await append_chain(store, 1)
            assert await store.read(STREAM, 1) == events
        assert pragma(tmp_path / "real.db", "user_version") == len(MIGRATIONS)
