"""Pages of runs where what they are read from is older than this version, or was changed by somebody."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, RunInfo, SqliteEventStore
from eventckpt.events import PendingRequest, StreamId
from eventckpt.stores import RunFilter, RunStore
from eventckpt.stores.cosmos.runs import PROJECTION_INDEXING
from eventckpt.stores.sqlite.run_listing import rows_behind
from eventckpt.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS, RUN_LISTING, SESSION_LOG
from eventckpt.stores.sqlite.tables import Log
from eventckpt.testing.events import make_event

from ..cosmos_emulator import CosmosEmulator
from ..engines import where

BY_0_1_0 = (
    "INSERT INTO runs (projection, workflow_name, run_id, seq, position, info) VALUES ('latest', 'w', ?, ?, NULL, ?)"
    " ON CONFLICT DO UPDATE SET seq = excluded.seq, info = excluded.info"
)


def info(run: str, day: int, seq: int = 1) -> RunInfo:
    moment = f"2026-01-{day:02}T00:00:00+00:00"
    return RunInfo(workflow_name="w", run_id=run, seq=seq, digest="x", status="open", recorded_at=moment)


async def listed(runs: RunStore, limit: int = 2, which: RunFilter | None = None) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = await runs.page(which, after=after, limit=limit)
        found += [each.run_id for each in page.runs]
        if (after := page.after) is None:
            return found


def written_by_0_1_0(path: Path, *infos: RunInfo) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for each in infos:
            connection.execute(BY_0_1_0, (each.run_id, each.seq, msgspec.msgpack.encode(each)))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as 0.1.0 makes it, with three runs."""
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(MIGRATIONS))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("PRAGMA journal_mode = WAL")
    written_by_0_1_0(path, info("a", 1), info("b", 2), info("c", 3))
    return path


def objects(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


async def test_a_file_that_only_0_1_0_has_written_to_is_read_and_left_as_it_is(old: Path) -> None:
    before = objects(old)
    async with SqliteEventStore(old) as store:
        assert await listed(store.run_store()) == ["c", "b", "a"]
        assert await store.run_store().counts() == {"open": 3}
    assert objects(old) == before


async def test_what_0_1_0_writes_beside_is_in_its_place(old: Path) -> None:
    async with SqliteEventStore(old) as store:
        runs = store.run_store()
        assert await runs.put(info("d", 4)) == 1
        assert await listed(runs) == ["d", "c", "b", "a"]
        written_by_0_1_0(old, info("a", 9, seq=2), info("e", 3), info("f", 1))
        for limit in (1, 2, 3, 6, 7):
            assert await listed(runs, limit) == ["a", "d", "c", "e", "b", "f"]
        assert await runs.counts(RunFilter(statuses=("open",))) == {"open": 6}
        with closing(sqlite3.connect(old)) as connection, connection:
            connection.execute("DELETE FROM runs WHERE run_id IN ('d', 'f')")
        assert await listed(runs) == ["a", "c", "e", "b"]
        await runs.put(info("g", 5))
        with closing(sqlite3.connect(old)) as connection:
            assert connection.execute("SELECT count(*) FROM runs WHERE listed_seq IS NOT seq").fetchone() == (0,)
        assert await listed(runs) == ["a", "g", "c", "e", "b"]
        assert all(check.ok for check in await store.checks())


async def test_a_file_of_0_1_0_that_is_only_looked_at_lacks_nothing(old: Path) -> None:
    async with SqliteEventStore(old, read_only=True) as store:
        assert await listed(store.run_store()) == ["c", "b", "a"]
        assert [check for check in await store.checks() if not check.ok] == []


async def test_a_document_that_is_written_on_changes_three_pages_of_the_file(tmp_path: Path) -> None:
    """Its row, and an entry in each of two indexes: all that a projector pays for, and one of it for pages."""
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        runs = store.run_store()
        heads = [make_event(StreamId("w", name), 1) for name in "abc"]
        heads += [make_event(event.stream, 2, previous=event) for event in heads]
        for event in heads:
            await store.append(event)
        await runs.put(*(info(name, 1) for name in "abc"))
        log = path.with_name("events.db-wal")
        before = log.stat().st_size
        await runs.put(msgspec.structs.replace(info("b", 2, seq=2), checkpoint_seq=2))
        assert (log.stat().st_size - before) // 4096 <= 3


@pytest.mark.parametrize(
    "change",
    [
        "moment = 'text'",
        "moment = -1",
        "moment = 9223372036854775807",
        "moment = x'00'",
        "status = 'asleep'",
        "status = 5",
        "status = NULL",
        "moment = NULL",
    ],
)
async def test_a_listing_that_somebody_changed_never_gives_a_wrong_document(tmp_path: Path, change: str) -> None:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        runs = store.run_store()
        infos = [info(name, day) for day, name in enumerate("abcd", 1)]
        await runs.put(*infos)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE runs SET {change} WHERE run_id IN ('b', 'c')")
        page = await runs.page(limit=1)
        found = [*page.runs]
        for _ in range(10):
            if page.after is None:
                break
            page = await runs.page(after=page.after, limit=1)
            found += page.runs
        assert {each.run_id for each in found} >= {"a", "d"}
        assert all(each in infos for each in found)
        assert set(await runs.counts()) == {"open"}
        for each in infos:
            await runs.put(msgspec.structs.replace(each, seq=2))
        assert await listed(runs) == ["d", "c", "b", "a"]


# Tags and questions: what came after the first listing


BY_THE_VERSION_BEFORE = (
    "INSERT INTO runs (projection, workflow_name, run_id, seq, listed_seq, position, info, status, moment)"
    " VALUES ('latest', 'w', ?, ?, ?, NULL, ?, 'waiting', 5)"
    " ON CONFLICT DO UPDATE SET seq = excluded.seq, listed_seq = excluded.listed_seq, info = excluded.info,"
    " status = excluded.status, moment = excluded.moment"
)
WAITING = RunFilter(waiting=True)
TAGGED = RunFilter(tags={"a": "1"})


def asking(run: str, day: int, seq: int = 1, kind: str = "app:A") -> RunInfo:
    question = PendingRequest(
        request_id="q", source_executor_id="a", request_type=kind, asked_at=f"2026-01-{day:02}T00:00:00+00:00"
    )
    return msgspec.structs.replace(info(run, day, seq), status="waiting", pending_requests=(question,), tags={"a": "1"})


def written_by_the_version_before(path: Path, *infos: RunInfo) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for each in infos:
            values = (each.run_id, each.seq, each.seq, msgspec.msgpack.encode(each))
            connection.execute(BY_THE_VERSION_BEFORE, values)


@pytest.fixture
def before(old: Path) -> Path:
    """A file as the version before makes it, with three runs that wait."""
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(f"DELETE FROM runs; {RUN_LISTING} CREATE TABLE store (id TEXT NOT NULL);")
        connection.execute("INSERT INTO store VALUES ('an id')")
        connection.commit()
    written_by_the_version_before(old, asking("a", 2), asking("b", 1), asking("c", 3))
    return old


async def test_a_file_of_the_version_before_is_read_and_left_as_it_is(before: Path) -> None:
    made = objects(before)
    async with SqliteEventStore(before, read_only=True) as store:
        assert await listed(store.run_store(), which=WAITING) == ["b", "a", "c"]
        assert await listed(store.run_store(), which=TAGGED) == ["c", "a", "b"]
        assert await store.run_store().counts(WAITING) == {"waiting": 3}
        assert [check for check in await store.checks() if not check.ok] == []
    assert objects(before) == made


async def test_what_older_versions_write_beside_is_found_waiting_in_its_place(before: Path) -> None:
    async with SqliteEventStore(before) as store:
        runs = store.run_store()
        for limit in (1, 2, 3):
            assert await listed(runs, limit, WAITING) == ["b", "a", "c"]
        assert await runs.put(asking("d", 2), info("e", 1)) == 2  # lists the others, too
        with closing(sqlite3.connect(before)) as connection:
            assert connection.execute("SELECT count(*) FROM runs WHERE marked_seq IS NOT seq").fetchone() == (0,)
        written_by_the_version_before(before, asking("b", 9, seq=2), asking("f", 1))
        written_by_0_1_0(before, asking("c", 1, seq=2))
        for limit in (1, 2, 6, 7):
            assert await listed(runs, limit, WAITING) == ["c", "f", "a", "d", "b"]
            assert await listed(runs, limit, RunFilter(waiting=True, request_type="app:A")) == ["c", "f", "a", "d", "b"]
        assert await runs.counts(TAGGED) == {"waiting": 5}
        assert await runs.counts(RunFilter(waiting=True, request_type="app:B")) == {}
        assert all(check.ok for check in await store.checks())


@pytest.mark.parametrize("which", [WAITING, TAGGED, RunFilter(waiting=True, request_type="app:A")], ids=range(3))
async def test_a_page_of_waiting_runs_reads_as_many_documents_as_it_has_whatever_the_number_of_runs(
    tmp_path: Path, which: RunFilter
) -> None:
    """Steps of SQLite's machine, which count the rows that it looks at."""
    taken: list[int] = []
    for count in (50, 2_000):
        async with SqliteEventStore(tmp_path / f"{count}.db", synchronous="OFF") as store:
            runs = store.run_store()
            await runs.put(*(info(f"idle {each}", 1 + each % 28) for each in range(count)))
            await runs.put(*(asking(f"run {each:04}", 1 + each % 28) for each in range(count)))
            steps = 0

            def look(log: Log) -> None:
                def step() -> None:
                    nonlocal steps
                    steps += 1

                log.connection.set_progress_handler(step, 10)
                assert len(rows_behind(log, "latest", which, None, 11)) == 11
                log.connection.set_progress_handler(None, 0)

            await store._connections.reading(look)  # pyright: ignore[reportPrivateUsage]
            taken.append(steps)
    assert taken[1] <= taken[0] + 2


@pytest.mark.parametrize(
    "change",
    [
        *(f"asked = {value}" for value in ("'text'", "-1", "9223372036854775807", "x'00'", "NULL")),
        *(f"marks = {value}" for value in ("5", "x'00'", "NULL")),
        *(f"marked_seq = {value}" for value in ("'x'", "NULL")),
        "asked = 0, marks = ''",
    ],
)
async def test_what_somebody_wrote_beside_a_document_gives_no_wrong_page(tmp_path: Path, change: str) -> None:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        runs = store.run_store()
        infos = [asking(name, day) for day, name in enumerate("abcd", 1)]
        await runs.put(*infos)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE runs SET {change} WHERE run_id IN ('b', 'c')")
        for which in (WAITING, TAGGED, RunFilter(waiting=True, request_type="app:A")):
            found = await listed(runs, 1, which)
            assert {"a", "d"} <= set(found) <= set("abcd")
            assert len(found) == len(set(found))
        for each in infos:
            await runs.put(msgspec.structs.replace(each, seq=2))
        assert await listed(runs, which=WAITING) == ["a", "b", "c", "d"]


async def test_a_session_log_of_the_version_before_gets_what_it_lacks_with_the_first_document(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        await store.run_store().put(info("a", 1))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(SESSION_LOG)
        sessions = store.sessions().run_store()
        assert await listed(sessions, which=TAGGED) == []
        await sessions.put(asking("s", 1))
        assert await listed(sessions, which=TAGGED) == ["s"]
        assert all(check.ok for check in await store.checks())


async def test_a_container_whose_policy_lacks_the_times_gives_the_same_pages() -> None:
    policy = {
        **PROJECTION_INDEXING,
        "includedPaths": [path for path in PROJECTION_INDEXING["includedPaths"] if path["path"] != "/recorded_at/?"],
    }
    async with CosmosEmulator() as emulator:
        async with CosmosClient(emulator.endpoint, emulator.key) as client:
            database = await client.create_database("db")
            await database.create_container(
                "events-projections", PartitionKey("/stream", version=2), indexing_policy=policy
            )
        async with CosmosEventStore(**where(emulator)) as store:
            runs = store.run_store()
            await runs.put(*(info(name, day) for name, day in zip("abcde", (3, 1, 5, 2, 4), strict=True)))
            assert await listed(runs) == ["c", "e", "a", "d", "b"]
            assert await runs.counts(RunFilter(prefix="a")) == {"open": 1}
