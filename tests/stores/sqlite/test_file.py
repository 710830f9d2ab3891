"""The file under an open SQLite store goes away, is replaced or overwritten: it is noticed, nothing is lost."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore, StoreReplacedError, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.schema import MIGRATIONS

from ..chains import STREAM, append_chain, headers
from .helpers import beside, files, noted, outcomes, plain, process, run, runs, said

pytestmark = pytest.mark.slow  # every way to lose a file, at every moment

OTHER = StreamId("workflow", "another")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "live"
    made.mkdir()
    return made


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "events.db"


@pytest.fixture
async def backup(path: Path) -> Path:
    """A closed copy of the store as it was before its last events, none of which are in the log alone."""
    async with SqliteEventStore(path) as store:
        await append_chain(store, 3)
    copy = path.parent.parent / "backup.db"
    shutil.copyfile(path, copy)
    return copy


@pytest.fixture
async def another(tmp_path: Path) -> Path:
    """A closed store that has nothing to do with this one, and is longer."""
    path = tmp_path / "another.db"
    async with SqliteEventStore(path) as store:
        await append_chain(store, 60, stream=OTHER, data=os.urandom(3000))
    return path


Change = Callable[[Path, Path, Path], None]
"""What happens to the store at the first path; beside it there are a backup and another store."""


def removed(path: Path, backup: Path, another: Path) -> None:
    for file in (path, beside(path, "-wal"), beside(path, "-shm")):
        file.unlink()


def removed_alone(path: Path, backup: Path, another: Path) -> None:
    path.unlink()


def moved(path: Path, backup: Path, another: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        beside(path, suffix).rename(backup.parent / f"moved.db{suffix}")


def moved_alone(path: Path, backup: Path, another: Path) -> None:
    path.rename(backup.parent / "moved.db")


def moved_behind_a_link(path: Path, backup: Path, another: Path) -> None:
    """It is the same file yet, but whoever opens it now looks for its log beside the place where it is."""
    moved_alone(path, backup, another)
    path.symlink_to(backup.parent / "moved.db")


def moved_behind_another_link(path: Path, backup: Path, another: Path) -> None:
    """The second name was there before, as in copies that are made of links."""
    os.link(path, backup.parent / "moved.db")
    path.unlink()
    path.symlink_to(backup.parent / "moved.db")


def folder_removed(path: Path, backup: Path, another: Path) -> None:
    shutil.rmtree(path.parent)


def folder_moved(path: Path, backup: Path, another: Path) -> None:
    path.parent.rename(backup.parent / "moved folder")


def folder_became_a_file(path: Path, backup: Path, another: Path) -> None:
    folder_moved(path, backup, another)
    path.parent.write_text("in the way")


def became_a_folder(path: Path, backup: Path, another: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_the_backup(path: Path, backup: Path, another: Path) -> None:
    backup.replace(path)


def replaced_by_another(path: Path, backup: Path, another: Path) -> None:
    another.replace(path)


def replaced_by_a_copy_of_itself(path: Path, backup: Path, another: Path) -> None:
    shutil.copyfile(path, backup)
    backup.replace(path)


def replaced_by_a_link(path: Path, backup: Path, another: Path) -> None:
    path.unlink()
    path.symlink_to(another)


def log_removed(path: Path, backup: Path, another: Path) -> None:
    beside(path, "-wal").unlink()


def log_replaced(path: Path, backup: Path, another: Path) -> None:
    shutil.copyfile(beside(path, "-wal"), backup)
    backup.replace(beside(path, "-wal"))


def index_removed(path: Path, backup: Path, another: Path) -> None:
    beside(path, "-shm").unlink()


def overwritten_by_the_backup(path: Path, backup: Path, another: Path) -> None:
    checkpointed(path)
    shutil.copyfile(backup, path)


def overwritten_by_the_backup_behind_the_log(path: Path, backup: Path, another: Path) -> None:
    """What was put into the file is lost, and the log has the newest events."""
    checkpointed(path)
    with plain(path) as connection:
        connection.execute("DELETE FROM leases")  # begins the log anew
        connection.execute("UPDATE store SET id = id")
    shutil.copyfile(backup, path)


def overwritten_by_another(path: Path, backup: Path, another: Path) -> None:
    checkpointed(path)
    shutil.copyfile(another, path)


def overwritten_by_text(path: Path, backup: Path, another: Path) -> None:
    checkpointed(path)
    path.write_text("hello\n" * 20_000)


def cut_to_nothing(path: Path, backup: Path, another: Path) -> None:
    os.truncate(path, 0)


def restored_by_sqlite(path: Path, backup: Path, another: Path) -> None:
    restore_by_sqlite(path, backup)


def restored_by_sqlite_and_continued(path: Path, backup: Path, another: Path) -> None:
    """By then the positions are beyond those that were seen."""
    restore_by_sqlite(path, backup)
    with plain(path) as connection:
        for seq in range(1, 90):
            connection.execute(
                "INSERT INTO events (workflow_name, run_id, seq, type, checkpoint_id, digest, header, data)"
                " VALUES ('workflow', 'later', ?, 'checkpoint', 'id', ?, x'', x'')",
                (seq, f"digest {seq}"),
            )


def restored_by_sqlite_from_another(path: Path, backup: Path, another: Path) -> None:
    restore_by_sqlite(path, another)


def checkpointed(path: Path) -> None:
    with plain(path) as connection:
        assert connection.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0


def restore_by_sqlite(path: Path, source: Path) -> None:
    with plain(source) as copy, plain(path) as live:
        copy.backup(live)


AWAY: list[Change] = [removed, removed_alone, moved, moved_alone, folder_removed, folder_moved]
REPLACED: list[Change] = [
    folder_became_a_file,
    became_a_folder,
    replaced_by_the_backup,
    replaced_by_another,
    replaced_by_a_copy_of_itself,
    replaced_by_a_link,
    moved_behind_a_link,
    moved_behind_another_link,
    log_removed,
    log_replaced,
    index_removed,
]
OVERWRITTEN: list[Change] = [
    overwritten_by_the_backup,
    overwritten_by_the_backup_behind_the_log,
    overwritten_by_another,
    overwritten_by_text,
    cut_to_nothing,
    restored_by_sqlite,
    restored_by_sqlite_and_continued,
    restored_by_sqlite_from_another,
]


@pytest.fixture(params=["the reader", "the writer", "both"])
async def store(request: pytest.FixtureRequest, path: Path, backup: Path) -> AsyncGenerator[SqliteEventStore, None]:
    """A store in use, of which the reader, the writer, or both have the file open."""
    async with SqliteEventStore(path) as others:
        last = (await others.read(STREAM, 3))[0]
        for seq in range(4, 40):
            last = make_event(STREAM, seq, previous=last, data=os.urandom(3000))
            await others.append(last)
        opened = SqliteEventStore(path, busy_timeout=1)
        if request.param != "the writer":
            assert await opened.read(STREAM, 1)
        if request.param != "the reader":
            await opened.append(make_event(StreamId("workflow", "mine"), 1))
        await others.close()
    yield opened
    await opened.close()


@pytest.mark.parametrize("change", [*AWAY, *REPLACED, *OVERWRITTEN], ids=lambda change: change.__name__)
@pytest.mark.parametrize("first", ["read", "append", "write"])
async def test_the_next_transaction_notices_and_so_does_every_later_one(
    store: SqliteEventStore, path: Path, backup: Path, another: Path, change: Change, first: str
) -> None:
    async def attempt(what: str) -> None:
        if what == "read":
            await store.read(STREAM, 1)
        elif what == "append":
            await store.append(make_event(StreamId("workflow", "new"), 1))
        else:
            await store.writing(lambda connection: None)

    change(path, backup, another)
    for what in (first, "read", "append", "write"):
        with pytest.raises(StoreReplacedError, match=r"events\.db") as caught:
            await attempt(what)
        assert "Make a new one" in str(caught.value)
    assert {type(outcome) for outcome in await outcomes(store.append(make_event(s, 1)) for s in runs(9))} == {
        StoreReplacedError
    }


@pytest.mark.parametrize("change", [replaced_by_another, replaced_by_the_backup], ids=lambda change: change.__name__)
async def test_a_file_that_took_the_place_is_left_as_it_is(
    store: SqliteEventStore, path: Path, backup: Path, another: Path, change: Change
) -> None:
    content = (another if change is replaced_by_another else backup).read_bytes()
    change(path, backup, another)
    with pytest.raises(StoreReplacedError):
        await store.append(make_event(StreamId("workflow", "new"), 1))
    await store.close()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change", [moved, moved_alone, moved_behind_a_link, folder_moved], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_file_that_was_moved_has_everything_once_the_store_is_closed(
    path: Path, backup: Path, another: Path, change: Change, noticed: bool
) -> None:
    async with SqliteEventStore(path) as store:
        event = make_event(OTHER, 1)
        await store.append(event)
        change(path, backup, another)
        if noticed:
            with pytest.raises(StoreReplacedError):
                await store.append(make_event(StreamId("workflow", "new"), 1))
    moved_to = backup.parent / ("moved folder/events.db" if change is folder_moved else "moved.db")
    async with SqliteEventStore(moved_to) as again:
        assert await again.read(OTHER, 1) == [event]
        assert len(await headers(again)) == 3


@pytest.mark.parametrize("change", AWAY, ids=lambda change: change.__name__)
async def test_nothing_is_made_where_the_file_was_and_a_new_store_there_is_empty(
    store: SqliteEventStore, path: Path, backup: Path, another: Path, change: Change
) -> None:
    before = set(files(path.parent))
    change(path, backup, another)
    left = set(files(path.parent)) if path.parent.exists() else set[str]()
    with pytest.raises(StoreReplacedError):
        await store.read(STREAM, 1)
    await store.close()
    assert (set(files(path.parent)) if path.parent.exists() else set[str]()) <= left <= before
    async with SqliteEventStore(path) as new:
        assert await headers(new) == []
        await append_chain(new, 1)
        with plain(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that stores open from now on."""
    return noted(monkeypatch)


@pytest.mark.parametrize("change", [*AWAY, *REPLACED], ids=lambda change: change.__name__)
@pytest.mark.parametrize("moment", ["BEGIN IMMEDIATE", "INSERT", "COMMIT"])
async def test_what_is_committed_while_the_file_goes_away_is_acknowledged_to_nobody(
    path: Path, backup: Path, another: Path, change: Change, moment: str, connections: list[sqlite3.Connection]
) -> None:
    async with SqliteEventStore(path) as store:
        await store.append(make_event(OTHER, 1))
        happened: list[str] = []

        def at(statement: str) -> None:
            if statement.startswith(moment) and not happened:
                happened.append(statement)
                change(path, backup, another)

        connections[-1].set_trace_callback(at)
        for outcome in await outcomes(store.append(make_event(stream, 1)) for stream in runs(5)):
            assert isinstance(outcome, StoreReplacedError)
            if moment != "BEGIN IMMEDIATE":
                assert "not acknowledged; it may be in the file that was moved away" in str(outcome)
        assert happened


async def test_a_file_that_others_write_to_and_prune_and_compact_stays_the_same_store(path: Path) -> None:
    async with SqliteEventStore(path) as store, SqliteEventStore(path) as others:
        events = await append_chain(store, 5)
        for round_ in range(3):
            written = await append_chain(others, 9, stream=StreamId("workflow", f"r{round_}"), data=os.urandom(20_000))
            assert await store.read(written[0].stream, 9) == written[-1:]
            await others.remove(written[0].stream, [1, 2, 3, 4, 5, 6, 7, 8])
            checkpointed(path)
            assert await store.read(STREAM, 5) == events[4:5]
            with plain(path) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("UPDATE leases SET version = 1")
            events.append(make_event(STREAM, len(events) + 1, previous=events[-1]))
            await store.append(events[-1])
        assert await headers(others) == [event.header() for event in events]


async def test_a_large_state_after_a_compaction_is_no_sign_of_another_file(path: Path) -> None:
    async with SqliteEventStore(path) as store:
        events = await append_chain(store, 3, data=os.urandom(500_000))
        await store.remove(STREAM, [1, 2])
        with plain(path) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        async with SqliteEventStore(path) as others:
            await append_chain(others, 2, stream=OTHER, data=os.urandom(600_000))
        assert await store.read(STREAM, 3) == events[2:]


async def test_a_store_that_was_given_a_new_id_is_another_one(path: Path) -> None:
    """A copy that `restore` puts in place has a new id: who has the old store open notices."""
    async with SqliteEventStore(path) as store:
        await append_chain(store, 1)
        with plain(path) as connection:
            connection.execute("UPDATE store SET id = 'anew'")
        with pytest.raises(StoreReplacedError, match="another store, or one that was restored"):
            await store.read(STREAM, 1)


async def test_a_link_to_the_file_may_be_the_path(path: Path, tmp_path: Path, another: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with SqliteEventStore(link) as store:
        events = await append_chain(store, 2)
        assert await store.read(STREAM, 1, 2) == events
        link.unlink()
        link.symlink_to(another)
        with pytest.raises(StoreReplacedError):
            await store.read(STREAM, 1)


@pytest.mark.parametrize("what", ["the file and its log", "the folder"])
async def test_a_link_that_leads_to_the_same_file_and_log_changes_nothing(
    path: Path, tmp_path: Path, what: str
) -> None:
    """Whoever opens the path now has the same files, so nothing is lost."""
    async with SqliteEventStore(path) as store:
        events = await append_chain(store, 2)
        if what == "the folder":
            path.parent.rename(tmp_path / "elsewhere")
            path.parent.symlink_to(tmp_path / "elsewhere")
        else:
            for suffix in ("", "-wal", "-shm"):
                beside(path, suffix).rename(tmp_path / f"moved.db{suffix}")
            path.symlink_to(tmp_path / "moved.db")
        async with SqliteEventStore(path) as others:
            events.append(make_event(STREAM, 3, previous=events[-1]))
            await others.append(events[-1])
        events.append(make_event(STREAM, 4, previous=events[-1]))
        await store.append(events[-1])
        assert await headers(store) == [event.header() for event in events]
    async with SqliteEventStore(path) as again:
        assert await headers(again) == [event.header() for event in events]


async def test_stores_of_other_paths_and_new_ones_of_this_go_on(path: Path, backup: Path, another: Path) -> None:
    async with SqliteEventStore(path) as store, SqliteEventStore(another) as other:
        await store.read(STREAM, 1)
        await other.read(OTHER, 1)
        replaced_by_the_backup(path, backup, another)
        with pytest.raises(StoreReplacedError):
            await store.read(STREAM, 1)
        await other.append(make_event(STREAM, 1))
        async with SqliteEventStore(path) as new:
            assert len(await headers(new)) == 3


class TestWhatOpeningRecognises:
    async def test_another_valid_store_at_the_path_is_opened_where_nothing_is_remembered(
        self, path: Path, another: Path
    ) -> None:
        another.rename(path)
        async with SqliteEventStore(path) as store:
            assert len(await headers(store, OTHER)) == 60

    async def test_a_log_without_frames_of_its_own_is_passed_over(self, path: Path, backup: Path) -> None:
        """SQLite takes frames that follow each other by salt and checksum; a cut or foreign header has none."""
        beside(path, "-wal").write_bytes(os.urandom(50_000))
        async with SqliteEventStore(path) as store:
            assert len(await headers(store)) == 3

    async def test_a_log_beside_no_file_is_passed_over(self, path: Path, another: Path) -> None:
        with plain(another) as connection:
            connection.execute("UPDATE leases SET version = 1")
            connection.execute("INSERT INTO leases VALUES ('a', 1, x'')")
            shutil.copyfile(beside(another, "-wal"), beside(path, "-wal"))
        async with SqliteEventStore(path) as store:
            assert await headers(store) == []
            assert await store.reading(lambda opened: opened.execute("SELECT count(*) FROM leases").fetchone()) == (0,)


class TestStoreId:
    """The id is in a table that 0.1.0 passes over: no migration, so that old processes still open the file."""

    OLD = """
        connection = sqlite3.connect(path, isolation_level=None)
        stamps = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        assert stamps == [0x65636B70, 2], stamps  # what 0.1.0 asks of a file that it opens
        print("open", flush=True)
        for line in sys.stdin:
            connection.execute(
                "INSERT INTO events (workflow_name, run_id, seq, type, checkpoint_id, digest, header, data)"
                " SELECT 'workflow', 'old', ifnull(max(seq), 0) + 1, 'checkpoint', 'id', 'digest', x'', x'' FROM events"
                " WHERE run_id = 'old'"
            )
            print("written", flush=True)
        connection.close()
    """

    @staticmethod
    def made_by_0_1_0(path: Path) -> None:
        with plain(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript("".join(MIGRATIONS[:2]))
            connection.execute(f"PRAGMA application_id = {0x65636B70}")
            connection.execute("PRAGMA user_version = 2")

    async def test_a_file_of_0_1_0_gets_its_id_with_the_first_write_and_old_processes_go_on(self, path: Path) -> None:
        self.made_by_0_1_0(path)
        with process(self.OLD, path) as old:
            assert old.stdin is not None
            assert said(old.stdout) == "open"
            async with SqliteEventStore(path) as store:
                assert await headers(store) == []
                assert ids(path) is None, "looking changes nothing"
                events = await append_chain(store, 2)
                (own,) = ids(path) or ()
                old.stdin.write("go\n")
                old.stdin.flush()
                assert said(old.stdout) == "written"
                assert await headers(store) == [event.header() for event in events]
                assert len(await headers(store, StreamId("workflow", "old"))) == 1
            with process(self.OLD, path) as later:  # a process of 0.1.0 that comes later, or the way back
                assert said(later.stdout) == "open"
        assert ids(path) == [own]

    async def test_every_store_has_an_id_of_its_own(self, path: Path, another: Path) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
        assert ids(path) != ids(another)

    def test_processes_that_give_an_old_file_its_id_at_once_give_it_one(self, path: Path) -> None:
        self.made_by_0_1_0(path)

        async def main() -> None:
            stores = [SqliteEventStore(path) for _ in range(6)]
            written = (store.append(make_event(s, 1)) for store, s in zip(stores, runs(6), strict=True))
            assert await outcomes(written) == [None] * 6
            event = make_event(OTHER, 1)
            assert await outcomes(store.append(event) for store in stores) == [None] * 6
            await asyncio.gather(*(store.close() for store in stores))

        asyncio.run(main())
        assert len(ids(path) or ()) == 1


def ids(path: Path) -> list[str] | None:
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'store'").fetchone():
            return None
        return [row[0] for row in connection.execute("SELECT id FROM store")]


def test_a_process_that_is_killed_under_a_moved_file_leaves_its_events_in_the_log(path: Path) -> None:
    """They are found where the file and its -wal are put together again."""
    script = """
        async def main():
            store = SqliteEventStore(path)
            await store.append(make_event(STREAM, 1))
            path.rename(path.with_name("moved.db"))
            try:
                await store.append(make_event(StreamId("workflow", "new"), 1))
            except CheckpointStoreError as error:
                print(type(error).__name__, flush=True)
            os._exit(0)
        asyncio.run(main())
    """
    assert run(script, path).split() == ["StoreReplacedError"]
    path.with_name("moved.db").rename(path)

    async def main() -> list[str]:
        async with SqliteEventStore(path) as store:
            return [header.run_id async for header in store.workflow_headers("workflow")]

    assert asyncio.run(main()) == ["run"]


def test_the_error_is_one_of_the_store() -> None:
    assert issubclass(StoreReplacedError, CheckpointStoreError)
