"""Events that released versions wrote load today, and hold what was saved.

`tests/golden/VERSION.jsonl` is an export that that version made: a run for each value of
`tests.codec.values.VALUES`, with the value in the state, and then in a list, a tuple and an object. A released file
is never made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventckpt import CheckpointAudit, SqliteCheckpointStorage
from eventckpt.codec import CheckpointCodec
from tests import checkpoint_types as app
from tests.codec.values import VALUES
from tests.fidelity import assert_same

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.jsonl"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteCheckpointStorage]:
    async with SqliteCheckpointStorage(tmp_path / "c.db", allowed_checkpoint_types=app.ALLOWED) as storage:
        imported = await CheckpointAudit(storage.store).import_lines(request.param.read_bytes().splitlines())
        assert imported.complete
        assert imported.problems == ()
        yield storage


async def test_every_event_of_a_released_version_is_as_it_was_written(storage: SqliteCheckpointStorage) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(storage.store).verify_all(decode=True)]
    assert len(verdicts) > 100
    assert [verdict for verdict in verdicts if not verdict.ok] == []


async def test_every_value_of_a_released_version_loads_as_it_was_saved(storage: SqliteCheckpointStorage) -> None:
    runs = [stream async for stream in storage.store.streams()]
    for stream in runs:
        make = VALUES[stream.run_id]
        run = storage.for_run(stream.run_id)
        alone, inside = await run.list_checkpoints(workflow_name="workflow")
        assert_same(alone.state["value"], make())
        assert_same(inside.state["value"], [make(), (make(),), app.Holder(make())])


async def test_what_was_loaded_is_written_in_the_same_bytes_again(storage: SqliteCheckpointStorage) -> None:
    """So that saving it again is a repetition, and a delta rests on it."""
    audit, codec = CheckpointAudit(storage.store, allowed_checkpoint_types=app.ALLOWED), CheckpointCodec(app.ALLOWED)
    runs = [stream async for stream in storage.store.streams()]
    for stream in runs:
        async for event, checkpoint in audit.states(stream):
            assert event.payload is not None
            assert hashlib.sha256(codec.encode(checkpoint)).hexdigest() == event.payload.raw_sha256, stream.run_id
