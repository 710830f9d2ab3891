"""Runs to remove, and what a store says of them afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from eventckpt import CheckpointEvent, RunCheckpointStorage, StreamId
from eventckpt.events import REMOVALS, Pruned, RemovedRun
from eventckpt.removals import Removals
from eventckpt.storage.removing import RunRemoval, each_of, remove_runs
from eventckpt.stores import AuditStore

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint, history

REMOVED = StreamId(WORKFLOW, REMOVALS)


def audited(engine: Engine) -> AuditStore:
    engine.settle()
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def begun(engine: Engine, *run_ids: str, events: int = 3, outcome: bool = True) -> None:
    """Runs that have ended, each of checkpoints "<run>1", "<run>2", … and an annotation."""
    storage = engine.storage()
    for run_id in run_ids:
        run = storage.for_run(run_id, workflow_name=WORKFLOW)
        last = None
        for number in range(1, events + 1):
            last = checkpoint(last, checkpoint_id=f"{run_id}{number}", state={"number": number})
            await run.save(last)
        if outcome:
            await run.annotate(outcome="done", tags={"customer": "ann"})
    engine.settle()


async def remove(store: AuditStore, *run_ids: str, force: bool = False) -> list[RunRemoval]:
    streams = [StreamId(WORKFLOW, run_id) for run_id in run_ids]
    return [each async for each in remove_runs(store, each_of(streams), actor="ann", reason="over", force=force)]


async def latest(run: RunCheckpointStorage) -> str | None:
    found = await run.get_latest(workflow_name=WORKFLOW)
    return found.checkpoint_id if found is not None else None


async def told(engine: Engine) -> list[RemovedRun]:
    """What the events of the workflow's removals name, in order."""
    headers = await history(audited(engine), REMOVALS)
    return [run for header in headers if header.removal is not None for run in header.removal.runs]


async def is_explained(engine: Engine, run_ids: Iterable[str]) -> bool:
    """Whether all that is not there is recorded: in its run, which is closed, and in an event of the workflow."""
    named = {(each.run_id, each.seq, each.digest) for each in await told(engine)}
    return all([_is_explained(await history(audited(engine), run_id), named) for run_id in run_ids])


def _is_explained(headers: list[CheckpointEvent], named: set[tuple[str, int, str]]) -> bool:
    there = {header.seq for header in headers}
    told = Removals([each for each in headers if each.closes and (each.run_id, each.seq, each.digest) in named])
    return all(told.covers(seq) for seq in range(1, headers[-1].seq) if seq not in there)


async def is_finished(engine: Engine, run_ids: Iterable[str]) -> bool:
    """Whether nothing of these is left but the records that close them."""
    return all([_is_record(await history(audited(engine), run_id)) for run_id in run_ids])


def _is_record(headers: list[CheckpointEvent]) -> bool:
    [record] = headers
    before = record.seq - 1
    spans = [(each.first, each.last) for each in record.pruned]
    return record.closes and record.payload is None and spans == [(1, before)] and _joins(record, record.pruned[-1])


def _joins(record: CheckpointEvent, stretch: Pruned) -> bool:
    return record.previous_digest == stretch.digest
