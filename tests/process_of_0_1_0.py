"""A process of 0.1.0, which does on a SQLite file what it is asked to, line by line: `python -m tests.process_of_0_1_0
FILE`, run with the packages of that version. Everything here is asked by names that it has."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from agent_framework import WorkflowCheckpoint

import eventckpt
from eventckpt import CheckpointAudit, SqliteCheckpointStorage, SqliteEventStore, StreamId
from projections import LatestProjection

WORKFLOW = "orders"


class Process:
    def __init__(self, storage: SqliteCheckpointStorage) -> None:
        self._storage, self._store = storage, storage.store
        self._audit = CheckpointAudit(self._store)
        self._handles: dict[str, Any] = {}

    async def where(self) -> str:
        return str(eventckpt.__file__)

    async def save(self, run_id: str, number: int) -> str | None:
        """Through a handle that goes on for as long as this process; the fork that it went to."""
        handle = self._handles.setdefault(run_id, self._storage.for_run(run_id))
        await handle.save(_checkpoint(run_id, number))
        return handle.forked_to

    async def resume(self, run_id: str, number: int) -> tuple[str, str | None]:
        """By a handle that knows nothing yet: what it found, and the fork that its save went to."""
        handle = self._storage.for_run(run_id)
        latest: Any = await handle.get_latest(workflow_name=WORKFLOW)
        await handle.save(_checkpoint(run_id, number))
        return (await handle.load(latest.checkpoint_id)).checkpoint_id, handle.forked_to

    async def latest(self, run_id: str) -> str | None:
        """The checkpoint that a handle would resume from which knows nothing yet."""
        latest: Any = await self._storage.for_run(run_id).get_latest(workflow_name=WORKFLOW)
        return None if latest is None else latest.checkpoint_id

    async def runs(self) -> list[str]:
        return sorted([info.run_id async for info in self._audit.runs()])

    async def delete(self, run_id: str, number: int) -> bool:
        return await self._storage.for_run(run_id, workflow_name=WORKFLOW).delete(f"{run_id}-{number}")

    async def listed(self, run_id: str) -> list[str]:
        return await self._storage.for_run(run_id).list_checkpoint_ids(workflow_name=WORKFLOW)

    async def prune(self, run_id: str, keep: int) -> int:
        removed = 0
        async for plan in self._audit.plan_prune([StreamId(WORKFLOW, run_id)], keep=keep):
            assert plan.refused == ""
            removed += await self._audit.prune(plan) if plan.seqs else 0
        return removed

    async def verify(self) -> dict[str, list[tuple[int, str]]]:
        verdicts = [verdict async for verdict in self._audit.verify_all(decode=True)]
        return {each.stream.run_id: [(bad.seq, bad.why) for bad in each.problems] for each in verdicts}

    async def export(self) -> list[str]:
        return [line.decode() async for line in self._audit.export()]

    async def import_into(self, path: str, lines: list[str]) -> tuple[int, list[str]]:
        async with SqliteEventStore(path) as store:
            imported = await CheckpointAudit(store).import_lines([line.encode() for line in lines])
            return imported.added, list(imported.problems)

    async def project(self) -> dict[str, tuple[str, int, str | None]]:
        """The documents that its projection makes."""
        found: dict[str, tuple[str, int, str | None]] = {}
        for stream in [stream async for stream in self._store.streams()]:
            headers = [header async for header in self._store.headers(stream)]
            await LatestProjection(self._store, self._store.runs()).apply(headers)
            info = (await self._store.runs().get(stream))[stream]
            found[stream.run_id] = (info.status, info.seq, info.checkpoint_id)
        return found


def _checkpoint(run_id: str, number: int) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        WORKFLOW,
        "graph",
        checkpoint_id=f"{run_id}-{number}",
        previous_checkpoint_id=f"{run_id}-{number - 1}" if number > 1 else None,
        iteration_count=number,
        state={"number": number, "lines": [f"line {n}" for n in range(40)]},
    )


async def main(path: str) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        process = Process(storage)
        for line in iter(sys.stdin.readline, ""):
            name, *arguments = json.loads(line)
            do: Callable[..., Awaitable[Any]] = getattr(process, name)
            print(json.dumps(await do(*arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
