"""What released versions wrote is read today, and holds what was saved.

`tests/golden` has an export and a SQLite file of each version since 0.1.0, and of 0.1.0 also one of the schema before
its last. Those of the version to come are what this one writes; a released file is never made anew. What is in them is
said in `tests.golden_files`: a run for each of some values of `tests.codec.values.VALUES`, with the value in the state,
and then in a list, a tuple and an object; in a SQLite file also a run with deltas and a deletion.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventckpt import CheckpointAudit, CheckpointNotFoundError, SqliteCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.audit import Draft
from eventckpt.codec import MAX_RAW_SIZE, CheckpointCodec
from eventckpt.codec.root import opened
from eventckpt.delta import restore
from eventckpt.stores import AuditStore
from tests import checkpoint_types as app
from tests.codec.values import VALUES
from tests.fidelity import assert_same
from tests.golden_files import FOLDER, IN_STORES, RECORDED, STEPS, step, unpacked

EXPORTS = sorted(FOLDER.glob("*.jsonl"))
FILES = sorted(FOLDER.glob("*.db.gz"))
HOLD = {"0.1.0.jsonl": set(VALUES), "0.2.jsonl": set(RECORDED)} | {file.name: {*IN_STORES, "steps"} for file in FILES}


def records_shapes(path: Path) -> bool:
    return not path.name.startswith("0.1.0")


@pytest.fixture(params=[*EXPORTS, *FILES], ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
async def storage(golden: Path, tmp_path: Path) -> AsyncIterator[SqliteCheckpointStorage]:
    path = unpacked(golden, tmp_path) if golden in FILES else tmp_path / "c.db"
    async with SqliteCheckpointStorage(path, allowed_checkpoint_types=app.ALLOWED) as storage:
        if golden in EXPORTS:
            await import_into(storage.store, golden.read_bytes().splitlines())  # noqa: ASYNC240 - small
        yield storage


async def import_into(store: AuditStore, lines: list[bytes]) -> None:
    imported = await CheckpointAudit(store).import_lines(lines)
    assert imported.complete
    assert imported.problems == ()


async def assert_sound(store: AuditStore, *, events: int) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(store).verify_all(decode=True)]
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    assert sum(verdict.events for verdict in verdicts) == events


def events_in(golden: Path) -> int:
    return sum(STEPS + 1 if name == "steps" else 2 for name in HOLD[golden.name])


async def test_every_event_of_a_released_version_is_as_it_was_written(
    storage: SqliteCheckpointStorage, golden: Path
) -> None:
    await assert_sound(storage.store, events=events_in(golden))


async def test_every_value_of_a_released_version_loads_as_it_was_saved(
    storage: SqliteCheckpointStorage, golden: Path
) -> None:
    names = {stream.run_id async for stream in storage.store.streams()}
    assert names == HOLD[golden.name]
    for name in names - {"steps"}:
        make = VALUES[name]
        alone, inside = await storage.for_run(name).list_checkpoints(workflow_name="workflow")
        assert_same(alone.state["value"], make())
        assert_same(inside.state["value"], [make(), (make(),), app.Holder(make())])


async def test_what_was_loaded_is_written_in_the_same_bytes_again(
    storage: SqliteCheckpointStorage, golden: Path
) -> None:
    """So that saving it again is a repetition, and a delta rests on it. 0.1.0 wrote the fields that are written today,
    without the shapes beside them."""
    audit, codec = CheckpointAudit(storage.store, allowed_checkpoint_types=app.ALLOWED), CheckpointCodec(app.ALLOWED)
    runs = [stream async for stream in storage.store.streams()]
    for stream in runs:
        async for event, checkpoint in audit.states(stream):
            raw = codec.encode(checkpoint)
            if not records_shapes(golden):
                raw = opened(raw)._replace(shapes=None).packed()
            assert event.payload is not None
            assert hashlib.sha256(raw).hexdigest() == event.payload.raw_sha256, stream.run_id


async def test_it_is_exported_and_imported_event_for_event(
    storage: SqliteCheckpointStorage, golden: Path, tmp_path: Path
) -> None:
    lines = [line async for line in CheckpointAudit(storage.store).export()]
    async with SqliteEventStore(tmp_path / "copy.db") as copy:
        await import_into(copy, lines)
        await assert_sound(copy, events=events_in(golden))
        for stream in [stream async for stream in copy.streams()]:
            theirs = [event async for event in copy.events(stream)]
            assert theirs == [event async for event in storage.store.events(stream)]


# SQLite files


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
async def test_each_file_is_of_the_schema_that_it_stands_for(file: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(unpacked(file, tmp_path))
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert version == (1 if "schema-1" in file.name else 2)
    assert ("runs" in tables, "store" in tables) == (version == 2, records_shapes(file))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
async def test_a_file_of_a_released_version_goes_on_where_it_stood(file: Path, tmp_path: Path) -> None:
    path = unpacked(file, tmp_path)
    async with SqliteCheckpointStorage(path, allowed_checkpoint_types=app.ALLOWED) as storage:
        run = storage.for_run("steps", workflow_name="workflow")
        latest = await run.get_latest(workflow_name="workflow")
        assert latest is not None
        assert latest.checkpoint_id == f"step-{STEPS - 1}"
        added = [step(number) for number in (STEPS, STEPS + 1)]
        for each in added:
            await run.save(each)
        kept = [step(number) for number in range(STEPS) if number != 2]
        loaded = await run.list_checkpoints(workflow_name="workflow")
        for ours, theirs in zip(loaded, [*kept, *added], strict=True):
            assert_same(ours, theirs)
        with pytest.raises(CheckpointNotFoundError):
            await run.load("step-2")
        events = [event async for event in storage.store.events(StreamId("workflow", "steps"))]
        levels = {0, 1, 2} if records_shapes(file) else {0, 1}  # 0.1.0 wrote no deltas against deltas
        assert {len(event.payload.bases) for event in events[:STEPS] if event.payload} == levels
        assert opened(await raw_at(storage, STEPS + 2)).shapes, "what is saved today records its shapes"
        assert (opened(await raw_at(storage, 1)).shapes is not None) == records_shapes(file)
        await assert_sound(storage.store, events=events_in(file) + 2)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
async def test_saving_again_is_a_repetition_once_the_shapes_are_recorded(file: Path, tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(unpacked(file, tmp_path), allowed_checkpoint_types=app.ALLOWED) as storage:
        run, again = storage.for_run("steps", workflow_name="workflow"), step(STEPS - 1)
        seqs: list[int] = []
        for _ in range(3):
            await run.load(again.checkpoint_id)
            await run.save(again)
            seqs.append(max([header.seq async for header in storage.store.headers(StreamId("workflow", "steps"))]))
        assert seqs == [STEPS + 1 + (not records_shapes(file))] * 3
        assert_same(await run.load(again.checkpoint_id), again)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
async def test_a_run_of_a_released_version_is_migrated(file: Path, tmp_path: Path) -> None:
    def first_renamed(draft: Draft) -> None:
        draft.fields["state"]["orders"][0]["s"]["name"] = "migrated"

    async with SqliteCheckpointStorage(unpacked(file, tmp_path), allowed_checkpoint_types=app.ALLOWED) as storage:
        audit = CheckpointAudit(storage.store, allowed_checkpoint_types=app.ALLOWED)
        stream = StreamId("workflow", "steps")
        plan = await audit.plan_migration(stream, first_renamed)
        assert plan.refused == ""
        assert [each.path for each in plan.differences] == ["state.orders[0].name"]
        await audit.migrate(plan)
        assert (await audit.plan_migration(stream, first_renamed)).done
        wanted = step(STEPS - 1).state
        wanted["orders"][0].name = "migrated"
        latest = await storage.for_run("steps").get_latest(workflow_name="workflow")
        assert latest is not None
        assert_same(latest.state, wanted)
        assert (opened(await raw_at(storage, STEPS + 2)).shapes is not None) == records_shapes(file)
        await assert_sound(storage.store, events=events_in(file) + 1)


async def raw_at(storage: SqliteCheckpointStorage, seq: int) -> bytes:
    """The raw bytes of an event of the run "steps", whatever it rests on."""
    [event] = await storage.store.read(StreamId("workflow", "steps"), seq)
    assert event.payload is not None
    base = await raw_at(storage, event.payload.bases[0]) if event.payload.bases else None
    return restore(event.payload, base=base, max_size=MAX_RAW_SIZE)
