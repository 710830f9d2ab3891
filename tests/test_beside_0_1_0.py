"""Processes of 0.1.0 go on with a file in which this version says something of runs, claims them, names spans and
removes runs; what they cannot do with it, docs/event-format.md says. It is the code of then, out of the repository's
history."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, SqliteCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.runs import fold
from projections import LatestProjection, compare, open_engine

from .benchmarks.before import extracted
from .process_of_0_1_0 import WORKFLOW

RELEASED: Final = "4a12930"
"""The last commit of 0.1.0."""

pytestmark = pytest.mark.slow


class Old:
    """A process of 0.1.0."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, f"it ended at {what}"
        return json.loads(line)


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """A folder with the packages of 0.1.0."""
    try:
        folder = extracted(RELEASED)
        with folder as path:
            yield path
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("the history of this repository is not here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.db"


@pytest.fixture
async def ours(path: Path) -> None:
    """The file, made by this version before one of 0.1.0 opens it."""
    async with SqliteCheckpointStorage(path) as storage:
        assert await storage.list_checkpoint_ids(workflow_name=WORKFLOW) == []


@pytest.fixture
async def old(packages: Path, path: Path) -> AsyncIterator[Old]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.process_of_0_1_0", str(path)),
        cwd=packages,
        env={"PYTHONPATH": str(packages)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1 << 24,
    )
    made = Old(process)
    assert str(packages) in await made.ask("where")
    yield made
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


@pytest.fixture
async def storage(path: Path, old: Old) -> AsyncIterator[SqliteCheckpointStorage]:
    """This version's, on the file that 0.1.0 has made."""
    async with SqliteCheckpointStorage(path) as storage:
        yield storage


async def annotate(storage: SqliteCheckpointStorage, run_id: str, **said: Any) -> None:
    await storage.for_run(run_id, workflow_name=WORKFLOW).annotate(**said)


async def claim(storage: SqliteCheckpointStorage, run_id: str) -> None:
    """Take one, and let it go."""
    async with storage.for_run(run_id, workflow_name=WORKFLOW).claim():
        pass


async def kinds(storage: SqliteCheckpointStorage, run_id: str) -> list[str]:
    headers = [header async for header in storage.store.headers(StreamId(WORKFLOW, run_id))]
    return [
        "claim" if each.is_claim else "said" if each.is_annotation else "record" if each.is_removal else each.type
        for each in headers
    ]


async def verified(storage: SqliteCheckpointStorage) -> list[Any]:
    verdicts = [each async for each in CheckpointAudit(storage.store).verify_all(decode=True)]
    return [each.problems for each in verdicts if not each.ok]


async def test_its_writers_go_on_behind_annotations_and_claims(old: Old, storage: SqliteCheckpointStorage) -> None:
    for number in (1, 2):
        await old.ask("save", "r", number)
    await annotate(storage, "r", outcome="failed", tags={"customer": "c-17"}, hold=True)
    assert await old.ask("save", "r", 3) is None, "a handle that had not heard of it"
    await claim(storage, "r")
    assert await old.ask("save", "r", 4) is None
    await annotate(storage, "r", outcome="done")
    assert await old.ask("resume", "r", 5) == ["r-4", None], "one that reads"
    assert await old.ask("delete", "r", 5)
    assert await old.ask("listed", "r") == ["r-1", "r-2", "r-3", "r-4"]
    assert await kinds(storage, "r") == [
        *("checkpoint", "checkpoint", "said", "checkpoint", "claim", "checkpoint", "said", "checkpoint", "tombstone")
    ]
    assert await verified(storage) == []
    info = fold([header async for header in storage.store.headers(StreamId(WORKFLOW, "r"))])
    assert info is not None
    assert (info.outcome, info.tags, info.hold) == (None, {"customer": "c-17"}, True)


async def test_its_writers_know_what_was_removed_before_an_annotation_and_a_claim(
    old: Old, storage: SqliteCheckpointStorage
) -> None:
    """They look for it in the newest event without a checkpoint id, before they write a delta."""
    for number in (1, 2, 3, 4):
        await old.ask("save", "r", number)
    pruned = CheckpointAudit(storage.store)
    async for plan in pruned.plan_prune([StreamId(WORKFLOW, "r")], keep=1):
        await pruned.prune(plan)
    await annotate(storage, "r", tags={"customer": "c-17"})
    await claim(storage, "r")
    assert await old.ask("save", "r", 5) is None
    assert await old.ask("resume", "r", 6) == ["r-5", None]
    assert (await old.ask("verify"))["r"] == [[6, "changed"], [7, "changed"]]
    assert await verified(storage) == []


async def test_its_verify_calls_such_events_changed(old: Old, storage: SqliteCheckpointStorage) -> None:
    for run_id in ("said", "claimed", "plain"):
        await old.ask("save", run_id, 1)
    await annotate(storage, "said", outcome="failed")
    await claim(storage, "claimed")
    assert await old.ask("verify") == {"said": [[2, "changed"]], "claimed": [[2, "changed"]], "plain": []}
    assert await verified(storage) == []


async def test_its_export_leaves_out_what_it_does_not_know_so_that_no_import_takes_those_events(
    old: Old, storage: SqliteCheckpointStorage, tmp_path: Path
) -> None:
    await old.ask("save", "r", 1)
    await annotate(storage, "r", tags={"customer": "c-17"})
    await old.ask("save", "r", 2)
    lines = await old.ask("export")
    assert "annotation" not in "".join(lines)
    added, problems = await old.ask("import_into", str(tmp_path / "theirs.db"), lines)
    assert added == 2
    assert ["seq 2 of run 'r' was changed" in problem for problem in problems] == [True]
    async with SqliteCheckpointStorage(tmp_path / "ours.db") as ours:
        imported = await CheckpointAudit(ours.store).import_lines([line.encode() for line in lines])
        assert imported.added == 1, "nor does this version take what follows a gap"
        assert "seq 2 of run 'r' was changed" in imported.problems[0]
        assert "seq 2 is missing, and no removal was recorded: 1 events" in imported.problems[1]


async def test_its_prune_knows_no_hold_and_removes_what_was_said(old: Old, storage: SqliteCheckpointStorage) -> None:
    for number in (1, 2, 3):
        await old.ask("save", "r", number)
    await annotate(storage, "r", tags={"customer": "c-17"}, hold=True)
    await claim(storage, "r")
    assert await old.ask("prune", "r", 1) > 0
    assert set(await kinds(storage, "r")) == {"checkpoint", "record"}
    assert (await old.ask("verify"))["r"] == []
    assert await verified(storage) == [], "the chain closes over it"
    info = fold([header async for header in storage.store.headers(StreamId(WORKFLOW, "r"))])
    assert info is not None
    assert (info.tags, info.hold) == ({}, False)


async def test_its_projection_says_of_a_run_what_it_said_and_a_comparison_finds_what_that_lacks(
    old: Old, storage: SqliteCheckpointStorage
) -> None:
    await old.ask("save", "r", 1)
    await annotate(storage, "r", outcome="failed", tags={"customer": "c-17"})
    await claim(storage, "r")
    assert await old.ask("project") == {"r": ["idle", 3, "r-1"]}
    store, stream = storage.store, StreamId(WORKFLOW, "r")

    async def differences() -> list[str]:
        return [each.what async for each in compare(store, open_engine(store).feed, store.runs())]

    [found] = await differences()
    assert found.startswith("wrong: ")
    assert {"outcome", "tags"} <= set(found.removeprefix("wrong: ").split(", "))
    await store.runs().clear()  # as `eventckpt-projector rebuild` begins
    await LatestProjection(store).apply([header async for header in store.headers(stream)])
    assert await differences() == []


@pytest.mark.usefixtures("ours")
async def test_its_writers_go_on_in_a_file_that_gets_shorter_under_them(
    old: Old, storage: SqliteCheckpointStorage
) -> None:
    store = storage.store
    assert isinstance(store, SqliteEventStore)
    handle = storage.for_run("large")
    for number in range(1, 21):
        await handle.save(WorkflowCheckpoint(WORKFLOW, "graph", state={"data": os.urandom(50_000)}))
        assert await old.ask("save", "run", number) is None
    assert await old.ask("prune", "large", 1) > 10
    found = await store.give_back()
    assert found.after < found.before * 0.3
    for number in range(21, 41):
        assert await old.ask("save", "run", number) is None
        await handle.save(WorkflowCheckpoint(WORKFLOW, "graph", state={"data": os.urandom(50_000)}))
    assert (await old.ask("verify"))["run"] == []
    assert len(await old.ask("listed", "run")) == 40
    assert await old.ask("prune", "run", 1) > 0
    assert (await store.give_back()).free == 0
    assert await old.ask("save", "run", 41) is None
    assert await verified(storage) == []


async def remove(storage: SqliteCheckpointStorage, run_id: str) -> None:
    audit = CheckpointAudit(storage.store)
    plans = [plan async for plan in audit.plan_delete([StreamId(WORKFLOW, run_id)], force=True)]
    assert [removal.state async for removal in audit.delete(plans)] == ["removed"]


async def test_its_writers_go_on_behind_a_removal_also_those_that_remember_the_run(
    old: Old, storage: SqliteCheckpointStorage
) -> None:
    for number in (1, 2):
        await old.ask("save", "remembered", number)
    await storage.for_run("unknown").save(WorkflowCheckpoint(WORKFLOW, "graph", checkpoint_id="unknown-1"))
    for run_id in ("remembered", "unknown"):
        await remove(storage, run_id)
        assert await old.ask("latest", run_id) is None
        assert await old.ask("listed", run_id) == []
        assert await old.ask("save", run_id, 3) is None, "it forks nowhere"
        assert await kinds(storage, run_id) == ["record", "checkpoint"]
    assert await verified(storage) == []


async def test_to_it_a_removed_run_was_pruned_and_the_removals_are_a_run_without_a_name(
    old: Old, storage: SqliteCheckpointStorage
) -> None:
    for run_id in ("gone", "stays"):
        await old.ask("save", run_id, 1)
    await remove(storage, "gone")
    assert await old.ask("runs") == ["", "gone", "stays"]
    assert await old.ask("verify") == {
        "gone": [[1, "missing"], [2, "changed"]],
        "": [[1, "changed"]],
        "stays": [],
    }
    assert await old.ask("prune", "gone", 1) == 0
    assert await kinds(storage, "gone") == ["record"]
    assert set(await old.ask("project")) == {"", "gone", "stays"}
    runs = CheckpointAudit(storage.store, latest="projection").runs()
    assert [info.run_id async for info in runs] == ["stays"], "no list of this version has such documents"
    assert await verified(storage) == []


async def test_what_tells_of_a_removal_does_not_go_through_its_exports(
    old: Old, storage: SqliteCheckpointStorage, tmp_path: Path
) -> None:
    for run_id in ("gone", "stays"):
        await old.ask("save", run_id, 1)
    await remove(storage, "gone")
    theirs = await old.ask("export")
    assert "removal" not in "".join(theirs)
    async with SqliteCheckpointStorage(tmp_path / "ours.db") as copy:
        imported = await CheckpointAudit(copy.store).import_lines([line.encode() for line in theirs])
        assert (imported.added, imported.whole) == (1, False)
