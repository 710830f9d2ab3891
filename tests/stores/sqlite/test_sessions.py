"""The log of sessions in a SQLite file: when it is made, what it costs, and what becomes of it with the file."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import gzip
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from eventckpt import CheckpointEvent, CheckpointStoreError, RunInfo, SqliteEventStore, StreamId
from eventckpt.errors import StoreReadOnlyError, StoreReplacedError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite import MIGRATIONS
from eventckpt.stores.sqlite.tables import RUNS, SESSIONS

from ..chains import STREAM, append_chain
from .helpers import plain, pragma, traced

GOLDEN: Final = Path(__file__).parents[2] / "golden"
INFO: Final = RunInfo(workflow_name="workflow", run_id="run", seq=1, digest="digest")

Use = Callable[[SqliteEventStore], Awaitable[object]]

READS: Final[dict[str, Use]] = {
    "read": lambda store: store.read(STREAM, 1),
    "find": lambda store: store.find("wanted"),
    "last": lambda store: store.last("workflow"),
    "newest": lambda store: anext(store.newest(STREAM), None),
    "run ids": lambda store: anext(store.run_ids("workflow"), None),
    "streams": lambda store: anext(store.streams(prefix="r"), None),
    "feed": lambda store: store.change_feed().ranges(),
    "committed": lambda store: store.committed(after=0, limit=9),
    "page": lambda store: store.run_store().page(),
    "counts": lambda store: store.run_store().counts(),
    "active": lambda store: store.run_store().active(),
    "documents": lambda store: store.document_store().list_documents(""),
    "checks": lambda store: store.checks(),
}
WRITES: Final[dict[str, Use]] = {
    "append": lambda store: store.append(make_event(STREAM, 1)),
    "put": lambda store: store.put(STREAM, [make_event(STREAM, 1)]),
    "put a document of a run": lambda store: store.run_store().put(INFO),
    "activate": lambda store: store.run_store().activate("latest"),
    "claim": lambda store: store.run_store().claim(),
    "create": lambda store: store.document_store().create({"id": "lease"}),
}


def objects(path: Path) -> dict[str, str]:
    with plain(path) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master"))


async def newest(store: SqliteEventStore, stream: StreamId = STREAM, **bounds: Any) -> list[CheckpointEvent]:
    return [event async for event in store.newest(stream, **bounds)]


class TestMaking:
    @pytest.mark.parametrize("read", READS)
    @pytest.mark.parametrize("read_only", [False, True])
    async def test_what_only_reads_makes_no_tables_of_sessions(self, path: Path, read: str, read_only: bool) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 2)
        before = objects(path)
        async with SqliteEventStore(path, read_only=read_only) as store:
            await READS[read](store.sessions())
            await READS[read](store)
        assert objects(path) == before

    @pytest.mark.parametrize("write", WRITES)
    async def test_the_first_write_makes_them_beside_what_there_is(self, path: Path, write: str) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 2)
            before = objects(path)
            await WRITES[write](store.sessions())
            after = objects(path)
            assert all(check.ok for check in await store.checks())
            assert await store.read(STREAM, 1, 2) == events
        assert {name: sql for name, sql in after.items() if name in before} == before
        assert {*SESSIONS} <= {*after}
        assert not {*SESSIONS} & {*before}
        assert pragma(path, "user_version") == len(MIGRATIONS)

    async def test_a_first_write_that_fails_leaves_none(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            before = objects(path)
            with pytest.raises(CheckpointStoreError, match="ZeroDivisionError"):
                await store.sessions().writing(lambda connection: 1 // 0)
            assert objects(path) == before
            events = await append_chain(store.sessions(), 2)
            assert await newest(store.sessions()) == events[::-1]

    @pytest.mark.parametrize("name", ["0.1.0", "0.1.0.schema-1", "0.2"])
    async def test_a_file_of_an_older_version_gains_them_and_stays_one_that_it_opens(
        self, path: Path, name: str
    ) -> None:
        path.write_bytes(gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes()))
        with plain(path) as connection:
            events = connection.execute("SELECT * FROM events").fetchall()
        async with SqliteEventStore(path, read_only=True) as store:
            assert await newest(store.sessions()) == []
        async with SqliteEventStore(path) as store:
            kept = await append_chain(store.sessions(), 3)
            assert await newest(store.sessions()) == kept[::-1]
            assert all(check.ok for check in await store.checks())
        with plain(path) as connection:
            assert connection.execute("SELECT * FROM events").fetchall() == events
        assert pragma(path, "user_version") == len(MIGRATIONS)

    async def test_several_stores_that_write_first_at_once_make_them_once(self, path: Path) -> None:
        stores = [SqliteEventStore(path) for _ in range(4)]
        streams = [StreamId("workflow", f"session {number}") for number in range(4)]
        await asyncio.gather(
            *(append_chain(store.sessions(), 5, stream=name) for store, name in zip(stores, streams, strict=True))
        )
        for store in stores:
            assert [len(await newest(store.sessions(), name)) for name in streams] == [5] * 4
            await store.close()

    async def test_a_store_that_is_only_looked_at_has_sessions_to_read_and_none_to_write(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store.sessions(), 3)
        async with SqliteEventStore(path, read_only=True) as store:
            assert await newest(store.sessions()) == events[::-1]
            for write in WRITES.values():
                with pytest.raises(StoreReadOnlyError):
                    await write(store.sessions())

    async def test_what_another_store_writes_first_a_reader_finds(self, path: Path) -> None:
        async with SqliteEventStore(path) as reader, SqliteEventStore(path) as writer:
            assert await newest(reader.sessions()) == []
            events = await append_chain(writer.sessions(), 2)
            assert await newest(reader.sessions()) == events[::-1]

    async def test_the_sessions_of_a_store_have_none_of_their_own(self, path: Path) -> None:
        with pytest.raises(CheckpointStoreError, match="no sessions of their own"):
            SqliteEventStore(path).sessions().sessions()


class TestCosts:
    async def test_an_append_to_a_session_is_the_statements_of_an_append_to_a_run(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        told: list[list[str]] = []
        async with SqliteEventStore(path) as store:
            for log in (store, store.sessions()):
                events = await append_chain(log, 3)
                asked = traced(connections)
                await log.append(make_event(STREAM, 4, previous=events[-1]))
                told.append([each.split("VALUES")[0].replace(SESSIONS.events, RUNS.events) for each in asked])
        assert told[0] == told[1]
        assert sum(statement.startswith("INSERT") for statement in told[0]) == 1

    @pytest.mark.parametrize(("wanted", "questions"), [(1, 1), (16, 1), (17, 2), (272, 2), (273, 3), (600, 4)])
    async def test_the_newest_are_asked_for_in_pages_that_grow_as_far_as_they_are_taken(
        self, path: Path, connections: list[sqlite3.Connection], wanted: int, questions: int
    ) -> None:
        async with SqliteEventStore(path) as store:
            sessions = store.sessions()
            await sessions.put(STREAM, [make_event(STREAM, seq) for seq in range(1, 701)])
            await sessions.read(STREAM, 1)
            asked = traced(connections)
            reading = sessions.newest(STREAM)
            assert [(await anext(reading)).seq for _ in range(wanted)] == [*range(700, 700 - wanted, -1)]
            await reading.aclose()
        assert sum("data FROM session_events" in statement for statement in asked) == questions

    async def test_a_page_of_large_events_ends_before_its_rows_do(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            sessions = store.sessions()
            events = [make_event(STREAM, seq, data=bytes([seq]) * 3_000_000) for seq in range(1, 9)]
            await sessions.put(STREAM, events)
            await sessions.read(STREAM, 1)
            asked = traced(connections)
            assert await newest(sessions) == events[::-1]
        assert sum("data FROM session_events" in statement for statement in asked) == 3

    @pytest.mark.parametrize("events", [1, 40])
    async def test_the_names_of_sessions_are_found_by_an_index_whatever_they_hold(
        self, path: Path, connections: list[sqlite3.Connection], events: int
    ) -> None:
        async with SqliteEventStore(path) as store:
            sessions = store.sessions()
            for number in range(300):
                name = StreamId("workflow", f"session {number}")
                await sessions.put(name, [make_event(name, seq, data=b"") for seq in range(1, events + 1)])
            await sessions.read(STREAM, 1)
            asked = traced(connections)
            assert len({run_id async for run_id in sessions.run_ids("workflow")}) == 300
            (question, _) = [statement for statement in asked if "RECURSIVE" in statement]
            with plain(path) as connection:
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
        looks = [step for step in plan if SESSIONS.events in step]
        assert len(looks) == 3
        assert all(" COVERING INDEX sqlite_autoindex_session_events_1 (workflow_name=? AND" in step for step in looks)


class TestTheFile:
    @pytest.mark.parametrize("known", ["read", "append"])
    async def test_an_older_copy_that_lacks_events_of_sessions_alone_is_noticed(
        self, path: Path, tmp_path: Path, known: str
    ) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 2)
            first = make_event(STREAM, 1)
            await store.sessions().append(first)
        shutil.copyfile(path, tmp_path / "copy.db")
        async with SqliteEventStore(path) as store, SqliteEventStore(path) as other:
            second = make_event(STREAM, 2, previous=first)
            if known == "append":
                await store.sessions().append(second)
            else:
                await other.sessions().append(second)
                assert await store.sessions().read(STREAM, 2) == [second]
            with plain(tmp_path / "copy.db") as copy, plain(path) as live:
                copy.backup(live)
            for use in (store.read, store.sessions().read):
                with pytest.raises(StoreReplacedError, match="session_events end before position 2"):
                    await use(STREAM, 1)

    @pytest.mark.parametrize("name", SESSIONS)
    async def test_a_lost_table_of_sessions_is_an_error_of_theirs_and_none_of_the_runs(
        self, path: Path, name: str
    ) -> None:
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 2)
            await append_chain(store.sessions(), 2)
        with plain(path) as connection:
            connection.execute(f"DROP TABLE {name}")
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, 1, 2) == events
            uses = (store.sessions().read(STREAM, 1), store.sessions().run_store().get(STREAM),
                    store.sessions().run_store().active(), store.sessions().document_store().read("lease"))  # fmt: skip
            outcomes = await asyncio.gather(*uses, return_exceptions=True)
            assert sum(isinstance(outcome, CheckpointStoreError) for outcome in outcomes) >= 1
            schema = next(check for check in await store.checks() if check.name == "schema")
            assert f"table '{name}' is missing" in schema.detail

    async def test_appends_to_sessions_of_the_turn_in_which_the_store_is_closed_are_finished(self, path: Path) -> None:
        store = SqliteEventStore(path)
        streams = [StreamId("workflow", f"session {number}") for number in range(5)]
        appends = [asyncio.ensure_future(store.sessions().append(make_event(name, 1))) for name in streams]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*appends)
        async with SqliteEventStore(path) as again:
            assert sorted([run_id async for run_id in again.sessions().run_ids("workflow")]) == [
                name.run_id for name in streams
            ]
