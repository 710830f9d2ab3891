"""Any column of any table may hold a value of any type: its row is damaged, is named, and is in nobody's way."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

import pytest

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.audit.verify import Verdict
from eventckpt.errors import StoreCorruptError
from eventckpt.stores import RunFilter, RunStore
from eventckpt.stores.change_feed import EVERYTHING
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.tables import LOGS, RUNS, SESSIONS
from projections import LatestProjection, Lease, open_engine

from ..chains import append_chain
from .helpers import plain

HONEST: Final = StreamId("workflow", "honest")
ALTERED: Final = StreamId("workflow", "altered")
NO_UTF8: Final = "CAST(x'fffe' AS TEXT)"
BYTES: Final = ("x'fffe'", NO_UTF8)
VALUES: Final = ("NULL", "-5", "1.5", "1e300", "'abc'", *BYTES)
ROWS: Final = {
    name: row
    for tables in LOGS
    for name, row in zip(tables, ("position = 3", "run_id = 'altered'", "kind = 'latest'", "1"), strict=True)
}
PROCESSOR: Final = "some"

_T = TypeVar("_T")


async def make_store(path: Path) -> None:
    async with SqliteEventStore(path) as store:
        for log in (store, store.sessions()):
            for stream in (ALTERED, HONEST):
                await append_chain(log, 3, stream=stream)
            await LatestProjection(log).apply(await fed(log))
            await log.run_store().activate("latest")
            await open_engine(log).leases(PROCESSOR).create(Lease(range=EVERYTHING))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("template") / "events.db"
    asyncio.run(make_store(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, template: bytes) -> Path:
    path = tmp_path / "events.db"
    path.write_bytes(template)
    return path


def columns() -> list[str]:
    """Every column of every table that there is in a store."""

    async def made() -> list[str]:
        async with SqliteEventStore(Path(folder) / "events.db") as store:
            await store.sessions().append(make_event(HONEST, 1))
            return await store.reading(
                lambda connection: [
                    f"{table}.{column}"
                    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                    for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
                ]
            )

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(made())


def alter(path: Path, table: str, column: str, value: str) -> bool:
    """What somebody does who means to; False where not even SQLite lets them."""
    with plain(path) as connection:
        for tables in LOGS:
            connection.execute(f"DROP TRIGGER {tables.events}_are_immutable")
        try:
            changed = connection.execute(f"UPDATE {table} SET {column} = {value} WHERE {ROWS.get(table, '1')}")
        except sqlite3.IntegrityError:
            return False
        return changed.rowcount > 0


async def listed(found: AsyncIterable[_T]) -> list[_T]:
    return [each async for each in found]


async def fed(store: SqliteEventStore) -> list[CheckpointEvent]:
    page = await store.change_feed().read(EVERYTHING, None, start="beginning", limit=1000)
    again = await store.change_feed().read(
        EVERYTHING, page.continuation, start="beginning", limit=1000, witness=page.witness
    )
    assert not again.events
    return list(page.events)


async def pages(runs: RunStore) -> None:
    after, count = None, 0
    while (page := await runs.page(RunFilter(), after=after, limit=1)).after is not None:
        after, count = page.after, count + 1
        assert count < 500, "each page goes on"


async def ask_everything(store: SqliteEventStore) -> None:
    """All that can be asked of the events, of the runs and of the documents. Nothing is raised."""
    for stream in await listed(store.streams()):
        assert type(stream.workflow_name) is type(stream.run_id) is str
        await listed(store.headers(stream))
        await listed(store.headers(stream, desc=True))
        await listed(store.workflow_headers(stream.workflow_name, desc=True))
        await store.find_in(stream.workflow_name, f"{ALTERED.run_id}-3")
        await listed(store.streams(workflow_name=stream.workflow_name, prefix=stream.run_id[:1]))
        assert await listed(store.newest(stream)) == (await listed(store.events(stream)))[::-1]
        await listed(store.newest(stream, lte=2))
        mine = await listed(store.streams(workflow_name=stream.workflow_name))
        assert sorted(await listed(store.run_ids(stream.workflow_name))) == sorted(each.run_id for each in mine)
    for name in await store.checkpoint_ids("", limit=100):
        await store.find(name)
        await store.runs_with("workflow", [name])
    runs = store.run_store()
    await runs.active(certain=True)
    await listed(runs.all())
    await runs.newest("workflow")
    await pages(runs)
    await runs.counts()
    await runs.is_empty()
    engine = open_engine(store)
    for lease in await engine.leases(PROCESSOR).all():
        await engine.leases(PROCESSOR).replace(lease)
    for document in await engine.documents.list_documents(""):
        assert await engine.documents.replace({**document, "more": 1}, document["_etag"]) or "\ufffd" in document["id"]
    await engine.feed.lag(EVERYTHING, None, start="beginning")


def found_wrong(verdict: Verdict) -> bool:
    """What the events of these tests lack is the snapshots that they say they need."""
    return {problem.why for problem in verdict.problems} != {"base"}


def expected(place: str, value: str) -> AbstractContextManager[object]:
    """Only where there is no position left, nothing can be appended."""
    if (place, value) == ("sqlite_sequence.seq", "1e300"):
        return pytest.raises(StoreCorruptError, match=r"its last position, 9223372036854775807, was given")
    return nullcontext()


@pytest.mark.parametrize("place", columns())
async def test_a_value_of_any_type_in_any_column_is_named_and_hides_nothing_else(
    path: Path, template: bytes, place: str
) -> None:
    table, column = place.split(".")
    for value in VALUES:
        path.write_bytes(template)
        if not alter(path, table, column, value):
            continue
        async with SqliteEventStore(path) as opened:
            logs = {RUNS: opened, SESSIONS: opened.sessions()}
            store, other = (logs[tables] for tables in sorted(LOGS, key=lambda tables: table not in tables))
            rows = next(check for check in await store.checks() if check.name == "rows")
            await ask_everything(store)
            assert not any(map(found_wrong, await listed(CheckpointAudit(other).verify_all())))
            verdicts = {verdict.stream: verdict for verdict in await listed(CheckpointAudit(store).verify_all())}
            assert not found_wrong(verdicts.pop(HONEST))
            if table in (RUNS.events, SESSIONS.events) and column != "position":
                wrong = [verdict.stream for verdict in verdicts.values() if found_wrong(verdict)]
                assert wrong, f"{value} is found"
                if value in BYTES and column in ("workflow_name", "run_id"):
                    assert any("(no name, at position 3)" in stream.workflow_name + stream.run_id for stream in wrong)
            anew = store.run_store("another")
            await LatestProjection(store, anew).apply(await fed(store))
            assert (await anew.get(HONEST))[HONEST].seq == 3
            *_, last = await store.read(HONEST, 1, 2, 3)
            with expected(place, value):
                await store.append(make_event(HONEST, 4, previous=last))
            if value == "x'fffe'" and column not in ("header", "data", "info", "document"):
                assert (rows.ok, table in rows.detail) in [(False, True), (table == "sqlite_sequence", False)]
            elif value == "NULL":
                assert rows.ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "UPDATE events SET position = 9223372036854775807 WHERE position = 6",
    ],
)
async def test_that_no_position_is_left_is_no_full_disk(path: Path, statement: str) -> None:
    with plain(path) as connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        connection.execute(statement)
    async with SqliteEventStore(path) as store:
        for run in (HONEST, StreamId("workflow", "new")):
            with pytest.raises(StoreCorruptError, match="its last position") as told:
                await store.append(
                    make_event(
                        run,
                        1 if run != HONEST else 4,
                        previous=(await store.read(HONEST, 3))[0] if run == HONEST else None,
                    )
                )
            assert str(path) in str(told.value)
        assert len(await listed(store.events(HONEST))) == 3


async def test_documents_of_names_that_are_no_text_are_listed_once(path: Path) -> None:
    with plain(path) as connection:
        info = connection.execute("SELECT info FROM runs WHERE run_id = 'honest'").fetchone()[0]
        for number in range(0x80, 0x100):
            for more in (b"", b"a", b"b"):
                name = bytes([number]) + more
                connection.execute(
                    "INSERT INTO runs VALUES ('latest', 'a', CAST(? AS TEXT), 1, 1, ?, 'done', 5, 1, 5, NULL, 1)",
                    (name, info),
                )
    async with SqliteEventStore(path) as store:
        runs = store.run_store()
        assert {info.stream for info in await listed(runs.all())} == {HONEST, ALTERED}
        with pytest.raises(StoreCorruptError, match="names that are no text"):
            await pages(runs)


async def test_events_without_a_run_are_left_out_of_a_projection_and_said_to_be(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert alter(path, "events", "run_id", "x'fffe'")
    async with SqliteEventStore(path) as store:
        projection = LatestProjection(store, store.run_store("another"))
        assert await projection.apply(await fed(store)) == 2
    assert "stands in no run, and is left out" in caplog.text
    assert "at position 3" in caplog.text
