"""Documents of the projection that somebody else changed in the SQLite file: what is done where they are no documents.

What both engines do alike is in the conformance suite of `RunStore`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, SqliteCheckpointStorage, StreamId
from eventckpt.events import RunInfo
from projections import Difference, LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector

STREAM = StreamId("w", "r1")
ESCAPE = "\x1b[31m\r\nforged"


def changed(**fields: Any) -> Callable[[bytes], object]:
    return lambda info: msgspec.msgpack.encode({**msgspec.msgpack.decode(info), **fields})


DAMAGED: dict[str, Callable[[bytes], object]] = {
    "no bytes": lambda _: b"",
    "other bytes": lambda _: b"\xc1",
    "half of it": lambda info: info[: len(info) // 2],
    "more than it": lambda info: info + b"\x00",
    "text": lambda _: ESCAPE,
    "a number": lambda _: 5,
    "nested deeply": lambda _: b"\x81\xa1x" + b"\x91" * 100_000,
    "a name that is no Unicode": lambda info: info.replace(b"\xa2r1", b"\xa2r\xff"),
    "another run": changed(run_id="r2"),
    "another workflow": changed(workflow_name="other"),
    "a seq beyond the last": changed(seq=2**63),
    "a seq that is text": changed(seq=ESCAPE),
    "a status that there is not": changed(status=ESCAPE),
}
SOME = pytest.mark.parametrize("storage", [DAMAGED["other bytes"], DAMAGED["another run"]], indirect=True)


def checkpoint(name: str, parent: str | None = None) -> WorkflowCheckpoint:
    return WorkflowCheckpoint("w", "g", checkpoint_id=name, previous_checkpoint_id=parent)


async def apply_all(storage: SqliteCheckpointStorage, *runs: str) -> int:
    projection = LatestProjection(storage.store)
    return sum(
        [await projection.apply([header async for header in storage.store.headers(StreamId("w", run))]) for run in runs]
    )


@pytest.fixture(params=DAMAGED.values(), ids=DAMAGED)
async def storage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[SqliteCheckpointStorage, None]:
    """A store with two runs, of which the one written last has a damaged document, ahead of all as its row says."""
    path = tmp_path / "events.db"
    async with SqliteCheckpointStorage(path, latest="projection") as storage:
        await storage.for_run("r2").save(checkpoint("b"))
        await storage.for_run("r1").save(checkpoint("a"))
        await apply_all(storage, "r1", "r2")
        with closing(sqlite3.connect(path)) as connection, connection:
            [whole] = connection.execute("SELECT info FROM runs WHERE run_id = 'r1'").fetchone()
            connection.execute("UPDATE runs SET seq = 99, info = ? WHERE run_id = 'r1'", (request.param(whole),))
        yield storage


async def test_a_damaged_document_is_as_if_there_were_none_and_is_written_over(
    storage: SqliteCheckpointStorage, caplog: pytest.LogCaptureFixture
) -> None:
    runs, other = storage.store.runs(), StreamId("w", "r2")
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert list(await runs.get(STREAM, other)) == [other]
        assert [info.run_id async for info in runs.all()] == ["r2"]
        assert [info async for info in runs.idle()] == []
        newest = await runs.newest("w")
    assert newest is not None
    assert newest.run_id == "r2"
    [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "'latest' of the run with key w|r1" in said
    assert said.isprintable()
    assert await apply_all(storage, "r1") == 1
    newest = await runs.newest("w")
    assert newest == (await runs.get(STREAM))[STREAM]


@SOME
async def test_who_asks_the_projection_goes_on_without_it(storage: SqliteCheckpointStorage) -> None:
    engine = open_engine(storage.store)
    latest = await storage.get_latest(workflow_name="w")
    assert latest is not None
    assert latest.checkpoint_id == "b"
    assert [info.run_id async for info in CheckpointAudit(storage.store, latest="projection").runs()] == ["r2"]
    found = [each async for each in compare(storage.store, engine.feed, storage.store.runs())]
    assert found == [Difference(STREAM, "missing")]


@SOME
async def test_a_rebuild_makes_it_anew(storage: SqliteCheckpointStorage) -> None:
    engine = open_engine(storage.store)
    await Projector(engine, ProcessorOptions()).rebuild(lambda *_: None)
    assert [each async for each in compare(storage.store, engine.feed, storage.store.runs())] == []


@SOME
async def test_a_worker_makes_it_anew(storage: SqliteCheckpointStorage) -> None:
    engine, runs = open_engine(storage.store), storage.store.runs()
    async with Projector(engine, ProcessorOptions()).processing("latest") as processor:
        await processor.caught_up()
    assert {info.run_id async for info in runs.all()} == {"r1", "r2"}


def test_every_damage_is_one() -> None:
    whole = msgspec.msgpack.encode(RunInfo(workflow_name="w", run_id="r1", seq=1, digest="x"))
    assert all(damage(whole) != whole for damage in DAMAGED.values())
