"""What is free in a file goes back to the disk, in small steps beside whoever reads and writes, whenever it ends."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.errors import (
    StoreFullError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreReplacedError,
)
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import space
from eventckpt.stores.sqlite.space import rewrite, room_of

from ..chains import STREAM, append_chain, headers
from .helpers import beside, plain, pragma, process, run, runs, said

LARGE = 20_000
"""Bytes of an event, which take six pages."""
FRAME = 4096 + 24
"""Bytes of a page in the log."""
OTHER = StreamId("workflow", "other")

KEPT = 40


async def emptied(store: SqliteEventStore, count: int = 200) -> list[CheckpointEvent]:
    """Have a log of so many large events from which all but the last ones were removed; those."""
    events = await append_chain(store, count, data=os.urandom(LARGE))
    assert await store.remove(STREAM, range(1, count - KEPT + 1)) == count - KEPT
    return events[-KEPT:]


async def all_of(store: SqliteEventStore, stream: StreamId = STREAM) -> list[CheckpointEvent]:
    return [event async for event in store.events(stream)]


async def free_in(store: SqliteEventStore) -> int:
    return (await store.reading(room_of)).free


def is_whole(path: Path) -> bool:
    return pragma(path, "integrity_check") == "ok"


def made_before(path: Path) -> None:
    """Make a file as versions before did, which does not get shorter."""
    with plain(path) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("DROP TABLE t")


class TestGivingBack:
    async def test_a_file_gets_as_short_as_what_is_in_it_and_says_how_much_it_was(
        self, store: SqliteEventStore, path: Path
    ) -> None:
        kept = await emptied(store)
        found = await store.give_back()
        assert found.before > 200 * LARGE
        assert found.after == path.stat().st_size < found.before * 0.3
        assert (found.free, found.advice) == (0, "")
        assert beside(path, "-wal").stat().st_size == 0
        assert await all_of(store) == kept
        assert is_whole(path)
        again = await store.give_back()
        assert (again.before, again.after) == (found.after, found.after)

    async def test_what_sessions_leave_goes_too_and_a_file_without_any_gets_no_tables_for_them(
        self, store: SqliteEventStore, path: Path
    ) -> None:
        await append_chain(store, 1)
        await store.sessions().give_back()
        with plain(path) as connection:
            assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'session_events'").fetchone() is None
        await append_chain(store.sessions(), 30, data=os.urandom(LARGE))
        await store.sessions().remove(STREAM, range(1, 30))
        found = await store.sessions().give_back()
        assert found.after < found.before * 0.4
        assert [event.seq for event in await headers(store.sessions())] == [30]

    async def test_no_step_writes_more_than_a_large_save_does(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            await emptied(store)
            log, sizes = beside(path, "-wal"), list[int]()
            with plain(path) as reader:  # so that the log goes on from where it is, and shows what each step adds
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM events").fetchone()
                for each in connections:
                    each.set_trace_callback(
                        lambda statement: sizes.append(log.stat().st_size) if statement == "BEGIN IMMEDIATE" else None
                    )
                await store.give_back()
            steps = [(after - before) // FRAME for before, after in pairwise(sizes)]
            assert len(steps) > 10
            assert 0 < max(steps) <= 4 * 64

    async def test_a_longer_list_of_free_pages_makes_shorter_steps(
        self, store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await emptied(store, 60)
        free = await free_in(store)
        monkeypatch.setattr(space, "_LOOKED_AT", 10 * free)
        given = await store._connections.writing(space._step)
        assert given == 10
        assert await free_in(store) == free - 10

    async def test_who_saves_meanwhile_waits_for_no_more_than_a_step(self, store: SqliteEventStore) -> None:
        kept = await emptied(store)
        giving = asyncio.ensure_future(store.give_back())
        saved: list[CheckpointEvent] = []
        while not giving.done():
            saved.append(make_event(OTHER, len(saved) + 1, previous=saved[-1] if saved else None))
            await store.append(saved[-1])
        assert len(saved) > 5, "each came in between two steps"
        assert (await giving).free == 0
        assert await all_of(store) == kept
        assert await all_of(store, OTHER) == saved

    async def test_two_at_once_and_a_third_that_writes_are_in_nobodys_way(self, path: Path) -> None:
        async with SqliteEventStore(path) as one, SqliteEventStore(path) as two, SqliteEventStore(path) as third:
            kept = await emptied(one)
            first, _, saved = await asyncio.gather(
                one.give_back(), two.give_back(), append_chain(third, 20, stream=OTHER)
            )
            assert await free_in(third) == 0
            for store in (one, two, third):
                assert await all_of(store) == kept
                assert await all_of(store, OTHER) == saved
        assert path.stat().st_size < first.before * 0.4, "with what was in its log"
        assert is_whole(path)

    def test_two_processes_at_once_give_all_back(self, path: Path) -> None:
        async def begun() -> list[CheckpointEvent]:
            async with SqliteEventStore(path) as store:
                return await emptied(store)

        async def ended(kept: list[CheckpointEvent]) -> None:
            async with SqliteEventStore(path) as store:
                assert await all_of(store) == kept
                assert await free_in(store) == 0

        kept = asyncio.run(begun())
        with process(GIVES_BACK, path) as one, process(GIVES_BACK, path) as two:
            assert said(one.stdout) == said(two.stdout) == "0"
        asyncio.run(ended(kept))
        assert is_whole(path)

    async def test_who_is_cancelled_has_given_some_back_and_the_next_one_gives_the_rest(
        self, store: SqliteEventStore, path: Path
    ) -> None:
        kept = await emptied(store)
        free = await free_in(store)
        giving = asyncio.ensure_future(store.give_back())
        while await free_in(store) == free:
            assert not giving.done()
        giving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving
        assert 0 < await free_in(store) < free
        assert await all_of(store) == kept
        assert (await store.give_back()).free == 0
        assert await all_of(store) == kept
        assert is_whole(path)

    async def test_a_store_that_is_only_looked_at_gives_nothing(self, store: SqliteEventStore, path: Path) -> None:
        await emptied(store, 60)
        async with SqliteEventStore(path, read_only=True) as looking:
            with pytest.raises(StoreReadOnlyError):
                await looking.give_back()


class TestReaders:
    async def test_who_reads_keeps_what_it_began_with_and_the_file_is_cut_once_it_is_over(
        self, store: SqliteEventStore, path: Path
    ) -> None:
        kept = await emptied(store)
        with plain(path) as reader:
            reader.execute("BEGIN")
            count = reader.execute("SELECT count(*), sum(length(data)) FROM events").fetchone()
            held = await store.give_back()
            assert "Another process has been reading" in held.advice
            assert "compact" in held.advice
            assert path.stat().st_size > 200 * LARGE, "the pages are in use"
            assert reader.execute("SELECT count(*), sum(length(data)) FROM events").fetchone() == count
            assert reader.execute("PRAGMA quick_check").fetchone() == ("ok",)
        found = await store.give_back()
        assert found.after < 200 * LARGE * 0.4
        assert (found.free, found.advice) == (0, "")
        assert await all_of(store) == kept

    async def test_the_log_does_not_take_what_the_file_cannot_give(
        self, store: SqliteEventStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await emptied(store, 600)
        monkeypatch.setattr(space, "_LOG", 100)
        with plain(path) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            log = beside(path, "-wal").stat().st_size
            held = await store.give_back()
            assert held.free > 0
            assert "gives the rest back" in held.advice
            assert beside(path, "-wal").stat().st_size - log < (100 + 16 * 4 * 64) * FRAME
        assert (await store.give_back()).free == 0

    @pytest.mark.parametrize("looks", ["after it was cut", "between what was given back and the cut"])
    async def test_a_file_that_was_cut_and_goes_on_in_its_log_is_no_other_file(self, path: Path, looks: str) -> None:
        async with SqliteEventStore(path) as store, SqliteEventStore(path) as others:
            kept = await emptied(others)
            await all_of(store)
            with plain(path) as reader:
                if looks != "after it was cut":
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM events").fetchone()
                size = path.stat().st_size
                await others.give_back()
                if looks != "after it was cut":
                    assert path.stat().st_size == size
                    await all_of(store)
            await others.give_back()
            assert path.stat().st_size < size
            written = await append_chain(others, 3, stream=OTHER, data=os.urandom(10 * LARGE))
            assert path.stat().st_size < size - 30 * LARGE, "it is in the log"
            assert await all_of(store) == kept
            await store.append(make_event(OTHER, 4, previous=written[-1]))

    async def test_a_file_that_something_else_cuts_is_noticed_also_after_it_got_shorter(
        self, store: SqliteEventStore, path: Path
    ) -> None:
        kept = await emptied(store)
        await store.give_back()
        assert await all_of(store) == kept
        await append_chain(store, 1, stream=OTHER)  # what is in the log says how long the file is to be
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(StoreReplacedError, match="shorter than what was in it"):
            await all_of(store, OTHER)

    @pytest.mark.parametrize("seed", range(6))
    async def test_a_file_that_gets_shorter_and_longer_stays_the_same_store_for_all_who_have_it_open(
        self, path: Path, seed: int
    ) -> None:
        chosen = random.Random(seed)
        async with SqliteEventStore(path) as one, SqliteEventStore(path) as two:
            logs: dict[StreamId, list[CheckpointEvent]] = {stream: [] for stream in runs(3)}
            removed: dict[StreamId, set[int]] = {stream: set() for stream in logs}
            for _ in range(60):
                store, stream = chosen.choice([one, two]), chosen.choice(list(logs))
                log = logs[stream]
                match chosen.choice(["save", "save", "remove", "give back", "checkpoint", "read"]):
                    case "save":
                        data = os.urandom(chosen.choice([100, LARGE, 10 * LARGE]))
                        log.append(make_event(stream, len(log) + 1, previous=log[-1] if log else None, data=data))
                        await store.append(log[-1])
                    case "remove":
                        gone = range(1, len(log))
                        await store.remove(stream, gone)
                        removed[stream] |= set(gone)
                    case "give back":
                        await store.give_back()
                    case "checkpoint":
                        with plain(path) as connection:
                            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    case _:
                        assert await all_of(store, stream) == [e for e in log if e.seq not in removed[stream]]
        assert is_whole(path)


class TestFilesOfVersionsBefore:
    async def test_such_a_file_stays_as_long_as_it_is_and_says_what_to_do(self, path: Path) -> None:
        made_before(path)
        async with SqliteEventStore(path) as store:
            kept = await emptied(store)
            found = await store.give_back()
            assert found.free > 100 * LARGE
            assert "eventckpt compact --rewrite" in found.advice
            assert await all_of(store) == kept

    async def test_written_anew_it_is_the_same_store_and_gets_shorter_from_then_on(self, path: Path) -> None:
        made_before(path)
        async with SqliteEventStore(path) as store:
            kept = await emptied(store)
            turns = await append_chain(store.sessions(), 3)
            own = await store.reading(lambda found: found.execute("SELECT id FROM store").fetchone())
        path.chmod(0o640)
        found = rewrite(path)
        assert found.after == path.stat().st_size < found.before * 0.4
        assert (found.free, found.advice) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o640
        assert is_whole(path)
        async with SqliteEventStore(path) as store:
            assert await all_of(store) == kept
            assert await all_of(store.sessions()) == turns
            assert await store.reading(lambda found: found.execute("SELECT id FROM store").fetchone()) == own
            assert all(check.ok for check in await store.checks())
            await store.remove(STREAM, [event.seq for event in kept[:-1]])
            again = await store.give_back()
            assert again.after < found.after * 0.5
            assert again.advice == ""

    @pytest.mark.parametrize("used", ["by a store", "by another process"])
    async def test_one_that_somebody_has_open_is_not_written_anew(self, path: Path, used: str) -> None:
        made_before(path)
        async with SqliteEventStore(path) as store:
            await emptied(store, 60)
            before = path.read_bytes()
            if used == "by a store":
                with pytest.raises(StoreLockedError, match="is open"):
                    rewrite(path)
                assert path.read_bytes() == before
        with process('sqlite3.connect(path); print("open", flush=True); sys.stdin.readline()', path) as other:
            assert said(other.stdout) == "open"
            before = path.read_bytes()
            with pytest.raises(StoreLockedError, match="Stop every process"):
                rewrite(path)
            assert path.read_bytes() == before

    async def test_one_for_which_the_disk_has_no_room_is_left_as_it_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_before(path)
        async with SqliteEventStore(path) as store:
            kept = await emptied(store, 60)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
        with pytest.raises(StoreFullError, match=r"takes 1,\d\d\d,\d\d\d bytes beside it, and 100,000 are free"):
            rewrite(path)
        assert list(path.parent.iterdir()) == [path]
        async with SqliteEventStore(path) as store:
            assert await all_of(store) == kept

    def test_where_there_is_none_nothing_is_made(self, path: Path) -> None:
        with pytest.raises(StoreNotFoundError):
            rewrite(path)
        assert not path.exists()
        path.touch()
        with pytest.raises(StoreNotFoundError):
            rewrite(path)
        assert path.read_bytes() == b""


GIVES_BACK = """
async def main():
    async with SqliteEventStore(path) as store:
        print((await store.give_back()).free)
asyncio.run(main())
"""

DIES = """
import signal
moment, times = os.environ["MOMENT"].rsplit(" * ", 1)
left = [int(times)]
def at(statement):
    if statement.startswith(moment):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
connect = sqlite3.connect
def traced(*given, **options):
    made = connect(*given, **options)
    made.set_trace_callback(at)
    return made
sqlite3.connect = traced
"""

MOMENTS = [
    "BEGIN IMMEDIATE * 2",
    "PRAGMA incremental_vacuum(1) * 1",
    "PRAGMA incremental_vacuum(1) * 30",
    "PRAGMA incremental_vacuum(1) * 500",
    "CREATE VIEW * 1",
    "DROP VIEW * 2",
    "COMMIT * 3",
    "PRAGMA wal_checkpoint(PASSIVE) * 2",
    "PRAGMA wal_checkpoint(TRUNCATE) * 2",
]
OF_A_REWRITING = [
    "PRAGMA journal_mode = DELETE * 1",
    "BEGIN EXCLUSIVE * 1",
    "COMMIT * 1",
    "PRAGMA auto_vacuum = INCREMENTAL * 1",
    "VACUUM * 1",
    "PRAGMA wal_checkpoint(TRUNCATE) * 1",
]


class TestKilled:
    async def left_by(self, path: Path, script: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOMENT", moment)
        with process(DIES + script, path) as child:
            assert await asyncio.to_thread(child.wait, 60) == -signal.SIGKILL, "the moment comes"

    def check(self, path: Path) -> Sequence[str]:
        assert is_whole(path)
        return sorted(each.name for each in path.parent.iterdir())

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_at_whatever_step_it_is_killed_nothing_is_lost_and_the_next_one_gives_the_rest(
        self, path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with SqliteEventStore(path) as store:
            kept = await emptied(store)
        await self.left_by(path, GIVES_BACK, moment, monkeypatch)
        async with SqliteEventStore(path) as store:
            assert await all_of(store) == kept
            assert (await store.give_back()).free == 0
            assert await all_of(store) == kept
        self.check(path)

    @pytest.mark.parametrize("moment", OF_A_REWRITING)
    async def test_a_rewriting_that_is_killed_leaves_the_store_and_nothing_else(
        self, path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_before(path)
        async with SqliteEventStore(path) as store:
            kept = await emptied(store)
        script = "from eventckpt.stores.sqlite.space import rewrite\nrewrite(path)"
        await self.left_by(path, script, moment, monkeypatch)
        async with SqliteEventStore(path) as store:
            assert await all_of(store) == kept
        assert self.check(path) == [path.name]
        assert run(f"{script}\nprint('done')", path).strip() == "done"
        async with SqliteEventStore(path) as store:
            assert await all_of(store) == kept
            assert await free_in(store) == 0
