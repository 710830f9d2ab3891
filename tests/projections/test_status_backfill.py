"""Documents that say `idle`, as 0.1.0 wrote them: what readers make of them, and how a worker folds their runs anew."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    EventCheckpointStorage,
    EventStore,
    RunInfo,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.audit import Filter
from eventckpt.events import PendingRequest, RunStatus, Summary
from eventckpt.runs import advance, fold
from eventckpt.stores import AuditStore
from projections import LatestProjection, ProcessorOptions, compare, open_engine
from projections.projector import Projector

from ..engines import SqliteEngine
from .rig import WORKFLOW, Rig

ENDED = Summary(executor_ids=("x",))
"""Of a graph workflow; a functional one lists nothing."""
ASKED = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")
GOLDEN = Path(__file__).parent.parent / "golden" / "0.1.0.documents.json"
"""An export that 0.1.0 made, and the documents of its runs as 0.1.0 wrote them: the bytes in SQLite, in base64, and the
fields in Cosmos DB. Never made anew."""


async def headers(rig: Rig, run: str) -> list[CheckpointEvent]:
    return [header async for header in rig.writer.store.headers(StreamId(WORKFLOW, run))]


async def folded(rig: Rig, run: str) -> RunInfo:
    info = fold(await headers(rig, run))
    assert info is not None
    return info


async def say_idle(rig: Rig, *runs: str) -> None:
    """Write the documents of these runs as 0.1.0 did."""
    infos = [msgspec.structs.replace(await folded(rig, run), status="idle") for run in runs]
    assert await rig.writer.store.runs().put(*infos) == len(runs)
    rig.engine.settle()


async def written(rig: Rig) -> None:
    """A run of each kind of workflow, one that goes on, and one without a checkpoint left."""
    await rig.writer.write("graph", "deleted", count=2, summary=ENDED)
    await rig.writer.write("functional", count=2)
    for gone in ("deleted-1", "deleted-2"):
        await rig.writer.write("deleted", deletes=gone)
    await rig.writer.write("runs", summary=Summary(messages={"x": 1}))
    await say_idle(rig, "graph", "functional", "deleted")
    await rig.writer.store.runs().put(await folded(rig, "runs"))
    rig.engine.settle()


def audit_of(store: EventStore) -> CheckpointAudit:
    assert isinstance(store, AuditStore)
    return CheckpointAudit(store, latest="projection")


async def listed(rig: Rig, status: RunStatus | None = None) -> dict[str, str]:
    infos = audit_of(rig.engine.open()).runs(Filter(status=status))
    return {info.run_id: info.status async for info in infos}


@asynccontextmanager
async def working(rig: Rig, store: EventStore | None = None) -> AsyncGenerator[Projector, None]:
    """A worker like `eventckpt-projector run`."""
    engine = open_engine(store or rig.engine.open())
    projector = Projector(engine, ProcessorOptions(worker="one"), clock=rig.clock)
    stop = asyncio.Event()
    running = asyncio.ensure_future(projector.run(stop))
    try:
        yield projector
    finally:
        stop.set()
        await rig.clock.until(running.done)
        await running


def says(rig: Rig, run: str, status: str) -> Callable[[], Any]:
    async def holds() -> bool:
        info = await rig.info(run)
        return info is not None and info.status == status

    return holds


async def hours_pass_until(rig: Rig, holds: Callable[[], Any]) -> None:
    """One hour after the other, with a pause for what each begins: an hour may pass before anybody waits for it."""
    for _ in range(24):
        rig.clock.advance(3600)
        await rig.clock.passes(20)
        if await holds():
            return
    raise AssertionError("it did not come true within a day")


# Readers


async def test_a_listing_asks_the_log_of_each_and_writes_nothing(rig: Rig) -> None:
    await written(rig)
    assert await listed(rig) == {"graph": "done", "functional": "open", "deleted": "open", "runs": "running"}
    assert set(await listed(rig, "done")) == {"graph"}
    assert set(await listed(rig, "open")) == {"functional", "deleted"}
    assert set(await listed(rig, "idle")) == {"graph", "functional", "deleted"}
    assert set(await listed(rig, "running")) == {"runs"}
    assert {(await rig.info(run)).status for run in ("graph", "functional", "deleted")} == {"idle"}


@pytest.mark.parametrize("summary", [ENDED, Summary()])
async def test_a_listing_says_the_same_as_the_log(rig: Rig, summary: Summary) -> None:
    await rig.writer.write("a", count=3, summary=summary)
    await rig.writer.write("a", deletes="a-3")
    await rig.writer.write("a", deletes="a-1")
    await say_idle(rig, "a")
    assert [info async for info in audit_of(rig.engine.open()).runs()] == [await folded(rig, "a")]


@pytest.mark.parametrize("said", ["idle", "done"])
async def test_a_listing_is_as_late_for_them_as_for_other_documents(rig: Rig, said: RunStatus) -> None:
    await rig.writer.write("a", "b", count=2, summary=ENDED)
    late = {run: await folded(rig, run) for run in ("a", "b")}
    await rig.writer.store.runs().put(*(msgspec.structs.replace(info, status=said) for info in late.values()))
    await rig.writer.write("a", summary=Summary(pending_requests=(ASKED,)))
    await rig.writer.write("b", deletes="b-2")
    rig.engine.settle()
    assert {info.run_id: info async for info in audit_of(rig.engine.open()).runs()} == late
    assert set(await listed(rig, "done")) == {"a", "b"}
    assert set(await listed(rig, "waiting")) == set()


async def test_a_filter_goes_by_what_the_log_says(rig: Rig) -> None:
    """Where document and log disagree, a comparison names the document; a listing shows and finds the same."""
    await rig.writer.write("waits", summary=Summary(pending_requests=(ASKED,)))
    await rig.writer.write("graph", summary=ENDED)
    info = await folded(rig, "waits")
    await rig.writer.store.runs().put(msgspec.structs.replace(info, status="idle", pending_requests=()))
    await say_idle(rig, "graph")
    audit = audit_of(rig.engine.open())
    for which in (Filter(status="waiting"), Filter(request="q"), Filter(request="")):
        assert [found async for found in audit.runs(which)] == [info]
    assert set(await listed(rig, "idle")) == {"graph"}
    assert set(await listed(rig)) == {"graph", "waits"}


async def test_what_the_log_does_not_tell_stays_idle(rig: Rig) -> None:
    unknown = RunInfo(workflow_name=WORKFLOW, run_id="unknown", seq=1, digest="x", status="idle")
    await rig.writer.store.runs().put(unknown)
    rig.engine.settle()
    assert await listed(rig) == {"unknown": "idle"}
    assert set(await listed(rig, "done")) == set(await listed(rig, "open")) == {"unknown"}
    assert await listed(rig, "waiting") == {}


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_what_was_recorded_as_removed_counts_no_more_though_a_document_of_0_1_0_counted_it(
    rig: Rig, is_deleted: bool, keep: int
) -> None:
    storage = EventCheckpointStorage(rig.engine.open())
    parent = WorkflowCheckpoint(WORKFLOW, "graph", checkpoint_id="parent")
    await storage.for_run("origin").save(parent)
    run = storage.for_run("a")
    await run.load("parent")
    for name in ("one", "two", "three"):
        parent = WorkflowCheckpoint(
            WORKFLOW,
            "graph",
            checkpoint_id=name,
            previous_checkpoint_id=parent.checkpoint_id,
            state={"_executor_state": {"x": {}}, "text": name * 500},
        )
        await run.save(parent)
    if is_deleted:
        await run.delete("three")
    rig.engine.settle()
    stream = StreamId(WORKFLOW, "a")
    audit = audit_of(rig.engine.open())
    before = await audit.info(stream)
    assert before is not None
    async for plan in audit.plan_prune([stream], keep=keep):
        await audit.prune(plan)
    rig.engine.settle()
    [record] = (await headers(rig, "a"))[-1:]
    pruned = advance(before, msgspec.structs.replace(record, pruned=()))  # which 0.1.0 did not heed
    assert pruned is not None
    assert (pruned.checkpoints, pruned.removed) == (3, 0)
    await rig.writer.store.runs().put(msgspec.structs.replace(pruned, status="idle"))
    rig.engine.settle()
    right = await folded(rig, "a")
    assert (right.status, right.checkpoints < 3) == ("done" if keep else "open", True)
    assert [info async for info in audit_of(rig.engine.open()).runs()] == ([] if right.is_emptied else [right])
    async with working(rig):
        await rig.clock.until(says(rig, "a", right.status))
    assert await rig.info("a") == right


async def test_neither_a_comparison_nor_verify_calls_them_wrong(rig: Rig) -> None:
    await written(rig)
    store = rig.engine.open()
    assert [each async for each in compare(store, open_engine(store).feed, store.runs())] == []
    assert [verdict async for verdict in audit_of(store).verify_all(projection=True) if not verdict.ok] == []


async def test_where_the_log_says_that_a_run_goes_on_idle_is_wrong(rig: Rig) -> None:
    await rig.writer.write("runs", summary=Summary(messages={"x": 1}))
    await say_idle(rig, "runs")
    store = rig.engine.open()
    [found] = [each async for each in compare(store, open_engine(store).feed, store.runs())]
    assert found.what == "wrong: status"
    [verdict] = [each async for each in audit_of(store).verify_all(projection=True)]
    assert [problem.why for problem in verdict.problems] == ["projection"]


# The projection


async def test_what_follows_such_a_document_is_told(rig: Rig) -> None:
    await rig.writer.write("graph", "goes on", count=2, summary=ENDED)
    await rig.writer.write("functional", count=2)
    await say_idle(rig, "graph", "goes on", "functional")
    for run in ("graph", "functional"):
        await rig.writer.write(run, deletes=f"{run}-1")
    await rig.writer.write("goes on", summary=ENDED)
    projection = LatestProjection(rig.engine.open())
    for run in ("graph", "goes on", "functional"):
        await projection.apply((await headers(rig, run))[2:])
        assert await rig.info(run) == await folded(rig, run)
    assert projection.gaps == 0


# The worker


async def test_a_worker_folds_them_anew_at_its_start(rig: Rig) -> None:
    await written(rig)
    await rig.writer.write(*(f"{number}" for number in range(30)), summary=ENDED)
    await say_idle(rig, *(f"{number}" for number in range(30)))
    async with working(rig):
        await rig.clock.until(says(rig, "graph", "done"))
        for run in ("functional", "deleted", *(f"{number}" for number in range(30))):
            await rig.clock.until(says(rig, run, "done" if run.isdecimal() else "open"))
    for run in ("graph", "functional", "deleted", "runs", "7"):
        assert await rig.info(run) == await folded(rig, run)


async def test_workers_that_start_at_once_fold_them_anew_together(rig: Rig) -> None:
    await written(rig)
    async with working(rig), working(rig), working(rig):
        await rig.clock.until(says(rig, "graph", "done"))
        await rig.clock.until(says(rig, "functional", "open"))
    assert await rig.info("graph") == await folded(rig, "graph")


async def test_a_document_of_which_the_log_does_not_know_is_left_as_it_is(rig: Rig) -> None:
    await rig.writer.write("graph", "ahead", count=2, summary=ENDED)
    await say_idle(rig, "graph")
    ahead = msgspec.structs.replace(await folded(rig, "ahead"), seq=9, status="idle")
    unknown = RunInfo(workflow_name=WORKFLOW, run_id="unknown", seq=1, digest="x", status="idle")
    await rig.writer.store.runs().put(ahead, unknown)
    async with working(rig):
        await rig.clock.until(says(rig, "graph", "done"))
        await rig.clock.passes(30)
    assert (await rig.info("ahead"), await rig.info("unknown")) == (ahead, unknown)


async def test_an_error_ends_neither_the_worker_nor_the_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.writer.write("a", "b", "broken", summary=ENDED)
    await say_idle(rig, "a", "b", "broken")
    store = rig.engine.open()
    read, broken = store.headers, [True]

    def failing(stream: StreamId, **how: Any) -> AsyncGenerator[CheckpointEvent, None]:
        if stream.run_id == "broken" and broken[0]:
            raise StoreUnavailableError("not now\n")
        return read(stream, **how)

    monkeypatch.setattr(store, "headers", failing)
    async with working(rig, store) as projector:
        await rig.clock.until(says(rig, "b", "done"))
        await rig.writer.write("new")
        await rig.clock.until(lambda: getattr(projector.projection, "applied", 0) > 0)
        assert (await rig.info("broken")).status == "idle"
        broken.clear()
        broken.append(False)
        await rig.clock.until(says(rig, "broken", "done"))
    assert "failed, and goes on in 5 s: StoreUnavailableError: not now\\n" in caplog.text


async def test_what_a_worker_of_0_1_0_writes_beside_a_newer_one_is_told_too(rig: Rig) -> None:
    await rig.writer.write("before", "beside", "later", summary=ENDED)
    await say_idle(rig, "before")
    async with working(rig):
        await rig.clock.until(says(rig, "before", "done"))
        await rig.clock.until(says(rig, "later", "done"))
        await rig.writer.store.runs().clear()
        await say_idle(rig, "beside")
        await hours_pass_until(rig, says(rig, "beside", "done"))
        await rig.writer.store.runs().clear()
        await say_idle(rig, "later")
        await hours_pass_until(rig, says(rig, "later", "done"))
    await rig.writer.store.runs().clear()
    await say_idle(rig, "before")
    async with working(rig):
        await rig.clock.until(says(rig, "before", "done"))


async def test_a_worker_stops_though_it_has_not_folded_all(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.writer.write("a", summary=ENDED)
    await say_idle(rig, "a")
    store = rig.engine.open()
    waits = asyncio.Event()

    async def hanging(*_: object, **__: object) -> AsyncGenerator[CheckpointEvent, None]:
        waits.set()
        await asyncio.Event().wait()
        yield (await headers(rig, "a"))[0]

    monkeypatch.setattr(store, "headers", hanging)
    async with working(rig, store):
        await rig.clock.until(waits.is_set)
    assert (await rig.info("a")).status == "idle"


# What 0.1.0 wrote


def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


async def test_documents_that_0_1_0_wrote_are_read_resolved_and_folded_anew(rig: Rig) -> None:
    store, stored = rig.engine.open(), golden()
    assert isinstance(store, AuditStore)
    imported = await CheckpointAudit(store).import_lines([line.encode() for line in stored["log"]])
    assert (imported.complete, imported.problems) == (True, ())
    await put_as_stored(rig, stored["documents"])
    found = {info.run_id: info.status async for info in store.runs().all()}
    assert found == {"graph": "idle", "half": "idle", "whole": "idle", "deleted": "idle", "running": "running"}
    right = {"graph": "done", "half": "open", "whole": "open", "deleted": "open", "running": "running"}
    assert await listed(rig) == right
    assert {info.run_id: info.status async for info in store.runs().all()} == found

    async def is_told() -> bool:
        rig.engine.settle()
        return {info.run_id: info.status async for info in rig.engine.open().runs().all()} == right

    async with working(rig):
        await rig.clock.until(is_told)
    rig.engine.settle()
    async for info in rig.engine.open().runs().all():
        assert info == fold([header async for header in store.headers(info.stream)])


async def put_as_stored(rig: Rig, documents: list[dict[str, Any]]) -> None:
    """Put documents where they were, byte for byte."""
    if isinstance(rig.engine, SqliteEngine):
        with closing(sqlite3.connect(rig.engine.path)) as connection, connection:
            for document in documents:
                fields = document["cosmos"]
                row = (fields["workflow_name"], fields["run_id"], fields["seq"], base64.b64decode(document["sqlite"]))
                connection.execute(
                    "INSERT INTO runs (projection, workflow_name, run_id, seq, info) VALUES ('latest', ?, ?, ?, ?)", row
                )
        connection.close()
        return
    runs: Any = rig.engine.open().runs()
    async with runs._container.in_use():
        for document in documents:
            fields = document["cosmos"]
            key = f"{fields['workflow_name']}|{fields['run_id']}"
            await runs._container.upsert({**fields, "id": "latest", "stream": key})
    rig.engine.settle()


def test_0_1_0_left_out_what_it_called_idle() -> None:
    for document in golden()["documents"]:
        info = msgspec.msgpack.decode(base64.b64decode(document["sqlite"]), type=RunInfo)
        assert info == msgspec.convert(document["cosmos"], RunInfo)
        assert document["cosmos"].get("status", "idle") == info.status
