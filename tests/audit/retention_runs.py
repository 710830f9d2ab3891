"""Runs that stand in every way, made by their storages at times of a calendar that tests turn."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from eventckpt import EventCheckpointStorage
from eventckpt.events import RunStatus
from eventckpt.stores import AuditStore

from ..cli.conftest import GRAPH, checkpoint, message, question
from ..engines import Engine

__all__ = ["DAY", "STATUSES", "Calendar", "audited", "made", "save"]

DAY = timedelta(days=1)
STATUSES: tuple[RunStatus, ...] = ("running", "waiting", "open", "done", "failed", "cancelled")


class Calendar:
    """A `Clock` whose wall is turned by hand. What storages write is recorded at its time, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        monkeypatch.setattr("eventckpt.storage.compose.datetime", SimpleNamespace(now=lambda _: self.now))

    def monotonic(self) -> float:
        return time.monotonic()

    def timestamp(self) -> str:
        return self.now.isoformat()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def audited(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def save(
    storage: EventCheckpointStorage,
    run_id: str,
    status: RunStatus,
    *,
    checkpoints: int = 1,
    tags: dict[str, str | None] | None = None,
    hold: bool = False,
    workflow: str = "orders",
) -> None:
    """Further checkpoints of a run, which stands so after them. None of them is a delta: each state is noise."""
    run = storage.for_run(run_id, workflow_name=workflow)
    previous = await run.get_latest(workflow_name=workflow)
    for _ in range(checkpoints):
        state = {"noise": os.urandom(70_000), **({} if status == "open" else GRAPH)}
        previous = checkpoint(
            previous,
            workflow_name=workflow,
            state=state,
            messages=message("clerk", "go") if status == "running" else {},
            pending_request_info_events=question() if status == "waiting" else {},
        )
        await run.save(previous)
    if status in ("failed", "cancelled"):
        await run.annotate(outcome="failed" if status == "failed" else "cancelled")
    if tags or hold:
        await run.annotate(tags=tags, hold=hold or None)


async def made(store: AuditStore, workflow: str, runs: Sequence[str]) -> dict[str, list[str]]:
    """The checkpoints of these runs that a storage lists, by run; runs of which there are none are left out."""
    storage = EventCheckpointStorage(store)
    found = {run: await storage.for_run(run).list_checkpoint_ids(workflow_name=workflow) for run in runs}
    return {run: ids for run, ids in found.items() if ids}
