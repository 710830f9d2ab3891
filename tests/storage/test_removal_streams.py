"""What a storage answers about a workflow is the same, whatever its stream of removals tells."""

from __future__ import annotations

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import EventCheckpointStorage, StreamId
from eventckpt.errors import CheckpointNotFoundError
from eventckpt.storage import Latest
from eventckpt.stores import AuditStore, head_of
from eventckpt.testing.audit_removals import closing, removal_of
from projections import LatestProjection

from ..engines import Engine


@pytest.mark.parametrize("are_gone", [False, True], ids=["closed", "removed"])
@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_a_workflow_has_the_checkpoints_of_the_runs_that_are_left(
    engine: Engine, latest: Latest, are_gone: bool
) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    storage = EventCheckpointStorage(store, latest=latest)
    saved = {name: WorkflowCheckpoint("w", "graph", state={"of": name}) for name in ("kept", "gone")}
    for name, checkpoint in saved.items():
        await storage.for_run(name).save(checkpoint)
    assert await storage.get_latest(workflow_name="w") == saved["gone"]
    head = await head_of(store, StreamId("w", "gone"))
    assert head is not None
    await store.append(closed := closing(head))
    await store.append(told := removal_of(closed))
    await store.append(removal_of(closed, told))
    await LatestProjection(store).apply([header async for header in store.headers(closed.stream)])
    if are_gone:
        await store.remove(closed.stream, [1])
    for asked in (storage, EventCheckpointStorage(store, latest=latest)):
        assert await asked.get_latest(workflow_name="w") == saved["kept"]
        assert await asked.list_checkpoints(workflow_name="w") == [saved["kept"]]
        assert await asked.list_checkpoint_ids(workflow_name="w") == [saved["kept"].checkpoint_id]
    reader = EventCheckpointStorage(store, latest=latest)
    assert await reader.for_run("gone").get_latest(workflow_name="w") is None
    if are_gone:
        with pytest.raises(CheckpointNotFoundError):
            await reader.load(saved["gone"].checkpoint_id)
