"""Writing behind a head that is damaged: whatever the damage, it ends, and says what it ended on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, SqliteCheckpointStorage, StreamId
from eventckpt.errors import CheckpointConflictError, CheckpointStoreError, StoreCorruptError
from eventckpt.stores import AuditStore

DAMAGE = {
    "a digest of bytes": "digest = X'00ff'",
    "a digest of bytes that are text": "digest = CAST(digest AS BLOB)",
    "another digest": "digest = 'another'",
    "no digest": "digest = ''",
    "a header that cannot be read": "header = X'c1'",
    "a header of another event": "header = (SELECT header FROM events WHERE seq = 1)",
    "another type": "type = 'other'",
    "a seq beyond which there is none": "seq = 9223372036854775807",
    "a seq that is none": "seq = 'seven'",
    "a seq that is no whole number": "seq = 2.5",
}


def damage(path: Path, what: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS events_are_immutable")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE events SET {what} WHERE seq = 2")


async def damaged_run(path: Path, what: str) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        for name, previous in (("a", None), ("b", "a")):
            saved = WorkflowCheckpoint("w", "graph", checkpoint_id=name, previous_checkpoint_id=previous)
            await storage.for_run("r").save(saved) if previous is None else await storage.save(saved)
    damage(path, what)


@pytest.mark.parametrize("what", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("does", ["delete", "save", "save again", "prune", "fork"])
async def test_what_writes_behind_a_damaged_head_comes_to_an_end(tmp_path: Path, what: str, does: str) -> None:
    path = tmp_path / "events.db"
    await damaged_run(path, what)
    async with SqliteCheckpointStorage(path) as storage:
        assert isinstance(storage.store, AuditStore)
        run, audit = storage.for_run("r", workflow_name="w"), CheckpointAudit(storage.store)
        async with asyncio.timeout(20):  # no measure: what goes on for ever is to fail
            with suppress(CheckpointStoreError, CheckpointConflictError):
                if does == "delete":
                    await run.delete("a")
                elif does == "prune":
                    for plan in [plan async for plan in audit.plan_prune([StreamId("w", "r")], keep=0)]:
                        await audit.prune(plan)
                elif does == "fork":
                    await audit.fork(await audit.event("a"), "other")
                else:
                    await run.load("a")
                    name = "c" if does == "save" else "a"
                    after = "a" if does == "save" else None
                    state = {"note": 2}
                    await run.save(
                        WorkflowCheckpoint("w", "graph", checkpoint_id=name, previous_checkpoint_id=after, state=state)
                    )


async def test_a_deletion_that_nothing_can_follow_names_run_and_seq_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await damaged_run(path, "digest = X'00ff'")
    async with SqliteCheckpointStorage(path) as storage:
        with pytest.raises(StoreCorruptError, match=r"a was not deleted: run 'r' of workflow 'w'.*seq 3.*verify"):
            await storage.for_run("r", workflow_name="w").delete("a")
        assert (await storage.load("a")).checkpoint_id == "a"
