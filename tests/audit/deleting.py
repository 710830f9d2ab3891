"""Runs that are removed as a whole, wholly or half way, for tests of what is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, EventCheckpointStorage, StreamId
from eventckpt.chain import sealed
from eventckpt.errors import CheckpointStoreError
from eventckpt.events import REMOVALS
from eventckpt.stores import AuditStore

from ..cli.conftest import GRAPH, WORKFLOW
from ..engines import Engine
from ..interleaving import Interrupted

__all__ = ["REMOVALS_OF", "CutOff", "changed", "delete", "logs", "opened", "problems", "saved", "stream"]

REMOVALS_OF = StreamId(WORKFLOW, REMOVALS)

Logs = dict[StreamId, list[CheckpointEvent]]


class CutOff(Interrupted):
    """What a removal writes to that is killed: before it tells of the runs that it closed, or before their events
    go."""

    def __init__(self, store: AuditStore, *, before_telling: bool) -> None:
        async def nothing() -> None: ...

        super().__init__(store, -1, nothing)
        self._before_telling = before_telling

    async def append(self, event: CheckpointEvent) -> None:
        if self._before_telling and event.removal is not None:
            raise CheckpointStoreError("cut off")
        await super().append(event)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        raise CheckpointStoreError("cut off")


def stream(run_id: str) -> StreamId:
    return StreamId(WORKFLOW, run_id)


def opened(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def saved(engine: Engine, *run_ids: str, steps: int = 3, first: int = 0) -> None:
    """Runs of a graph workflow that ended, or more of them, by processes that know nothing of them yet."""
    storage = EventCheckpointStorage(opened(engine))
    for run_id in run_ids:
        run, previous = storage.for_run(run_id), None
        if first:
            latest = await run.get_latest(workflow_name=WORKFLOW)
            previous = latest.checkpoint_id if latest else None
        for step in range(first, first + steps):
            state = GRAPH | {"step": step, "notes": ["x" * 50] * step}
            previous = await run.save(
                WorkflowCheckpoint(
                    WORKFLOW, "g", checkpoint_id=f"{run_id}-{step}", previous_checkpoint_id=previous, state=state
                )
            )


async def delete(store: AuditStore, *run_ids: str, actor: str | None = "Ada", **said: Any) -> list[str]:
    """Remove runs; what became of each."""
    audit = CheckpointAudit(store, actor=actor)
    plans = [plan async for plan in audit.plan_delete([stream(run_id) for run_id in run_ids])]
    return [removal.state async for removal in audit.delete(plans, **said)]


async def logs(store: AuditStore) -> Logs:
    """All that is there, the removals too."""
    streams = [each async for each in store.removal_streams()] + [each async for each in store.streams()]
    return {each: [event async for event in store.events(each)] for each in streams}


async def problems(store: AuditStore, *, turns: bool = False) -> list[tuple[str, int, str]]:
    """What `verify` finds wrong in all that there is: run id, seq and why."""
    verdicts = [verdict async for verdict in CheckpointAudit(store, turns=turns).verify_all()]
    return [(bad.stream.run_id, bad.seq, bad.why) for verdict in verdicts for bad in verdict.problems]


def changed(events: Iterable[CheckpointEvent], seq: int, **fields: Any) -> list[CheckpointEvent]:
    """A log in which an event is another one, as somebody would write it who computes all digests anew: what follows
    it follows it still."""
    made: list[CheckpointEvent] = []
    for event in events:
        new: Mapping[str, Any] = fields if event.seq == seq else {}
        before = made[-1] if made and made[-1].seq == event.seq - 1 else None
        follows = event.previous_digest if before is None else before.digest
        made.append(sealed(msgspec.structs.replace(event, **new, previous_digest=follows)))
    return made
