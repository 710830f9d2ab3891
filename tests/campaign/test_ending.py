"""The campaign notices: each way in which a store can lose or change something is one that its ending names."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest

from eventckpt import CheckpointAudit, EventCheckpointStorage, SqliteCheckpointStorage, StreamId
from projections import LatestProjection

from ..test_architecture import ROOT, imports
from .book import EXECUTION, Book, acknowledgement
from .checkpoints import made
from .ending import what_is_wrong
from .rows import from_sqlite
from .stores import Noting, open_store

Harm: TypeAlias = Callable[[sqlite3.Connection], object]

RUN = StreamId("orders", "wild-1")


def test_the_fold_of_the_rows_uses_nothing_of_the_library() -> None:
    used = {name.partition(".")[0] for name in imports(ROOT / "tests" / "campaign" / "rows.py")}
    assert used.isdisjoint({"eventckpt", "projections"})


@pytest.fixture
async def book(tmp_path: Path) -> AsyncGenerator[Book, None]:
    """What is known of a store in which a run was written, pruned, deleted from and projected."""
    book = Book()
    async with open_store(str(tmp_path / "events.db"), "one", book.take) as store:
        await _written(store, book)
        audit = CheckpointAudit(store)
        async with aclosing(audit.plan_prune([RUN], keep=3)) as plans:
            async for plan in plans:
                await audit.prune(plan)
        async with aclosing(store.headers(RUN)) as headers:
            await LatestProjection(store).apply([header async for header in headers])
        yield book


async def _written(store: Noting, book: Book) -> None:
    storage = EventCheckpointStorage(store)
    handle = storage.for_run(RUN.run_id, workflow_name=RUN.workflow_name)
    EXECUTION.set("one/1")
    for number in range(1, 8):
        parent = f"c{number - 1}" if number > 1 else None
        await handle.save(made(RUN.workflow_name, f"c{number}", 1, parent, kind="running", large=False))
        book.take(acknowledgement(RUN.workflow_name, f"c{number}", 1, "one"))
    await handle.delete("c6")


async def _wrong(book: Book, path: Path) -> list[str]:
    async with open_store(str(path), "two", book.take) as store:
        return await what_is_wrong(from_sqlite(path), book, store, by_commit=True)


async def test_nothing_is_wrong_with_what_was_written_pruned_and_deleted(book: Book, tmp_path: Path) -> None:
    assert await _wrong(book, tmp_path / "events.db") == []


def _of(column: str, change: Callable[[dict[str, object]], object]) -> Harm:
    table, key = ("events", "seq = 7") if column == "header" else ("runs", "true")

    def harm(database: sqlite3.Connection) -> None:
        [stored] = database.execute(f"SELECT {column} FROM {table} WHERE {key}").fetchone()
        fields = msgspec.msgpack.decode(stored)
        change(fields)
        database.execute("DROP TRIGGER events_are_immutable")
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {key}", [msgspec.msgpack.encode(fields)])

    return harm


HARMS: dict[str, tuple[Harm, str]] = {
    "an event": (lambda database: database.execute("DELETE FROM events WHERE seq = 7"), "on no record"),
    "the newest event": (
        lambda database: database.execute("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)"),
        "was acknowledged, and is not in its history",
    ),
    "a header": (_of("header", lambda fields: fields.update(actor="somebody")), "another digest than what it holds"),
    "a document": (_of("info", lambda fields: fields.update(checkpoints=99)), "the document and the rows say"),
    "all documents": (lambda database: database.execute("DELETE FROM runs"), "no document"),
}


@pytest.mark.parametrize("what", HARMS)
async def test_what_is_lost_or_changed_is_named(what: str, book: Book, tmp_path: Path) -> None:
    harm, said = HARMS[what]
    with closing(sqlite3.connect(tmp_path / "events.db")) as database, database:
        harm(database)
    assert said in "\n".join(await _wrong(book, tmp_path / "events.db"))


async def test_an_event_that_nobody_announced_is_named(book: Book, tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(tmp_path / "events.db") as storage:
        handle = storage.for_run(RUN.run_id, workflow_name=RUN.workflow_name)
        await handle.get_latest(workflow_name=RUN.workflow_name)
        await handle.save(made(RUN.workflow_name, "c8", 1, "c7", kind="done", large=False))
    assert "which nobody sent there" in "\n".join(await _wrong(book, tmp_path / "events.db"))


async def test_an_execution_that_goes_on_behind_what_it_has_not_seen_is_named(book: Book, tmp_path: Path) -> None:
    async with open_store(str(tmp_path / "events.db"), "three", book.take) as store:
        handle = EventCheckpointStorage(store).for_run(RUN.run_id, workflow_name=RUN.workflow_name)
        for execution, name in (("other/1", "c8"), ("one/1", "c9")):
            await handle.get_latest(workflow_name=RUN.workflow_name)
            EXECUTION.set(execution)
            await handle.save(made(RUN.workflow_name, name, 1, "c7", kind="done", large=False))
    assert "which it had not seen" in "\n".join(await _wrong(book, tmp_path / "events.db"))
