"""What the runs in `tests/golden/runs` are, and how the files of a version are made: `python -m
tests.golden_runs VERSION`, run with that version, writes them. They hold what can be said of a run beside its states:
annotations, claims, what its questions ask, and which spans wrote its events; and what is left of runs that were
removed.

The events are put together as the storage does it, and appended one by one: so that each field has a value that a test
can name.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointCodec, CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.events import Annotation, Outcome, PendingRequest, Pruned, Summary
from eventckpt.runs import carried, fold
from eventckpt.storage.compose import annotation_after, claim_after, event_at, header_of, tombstone_after
from eventckpt.storage.memory import EMPTY, Head
from eventckpt.storage.payloads import BaseCache, Payloads
from eventckpt.stores import AuditStore
from tests.golden_files import FOLDER

__all__ = [
    "ACTOR",
    "ANSWERED",
    "ARCHIVE",
    "ARCHIVE_SHA256",
    "QUESTION",
    "REMOVED_RUNS",
    "RUNS",
    "RUNS_FOLDER",
    "TAGS",
    "TRACES",
    "WORKFLOW",
    "state_of",
    "write_runs",
]

RUNS_FOLDER = FOLDER / "runs"
WORKFLOW: Final = "golden"
ACTOR: Final = "Ada"
TAGS: Final = {"customer": "c-17", "größe": "groß"}
TRACES: Final = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"]
"""Of the process that began a run, and of the one that went on with it."""
ARCHIVE: Final = "2026-11-27.jsonl"
ARCHIVE_SHA256: Final = "ab" * 32
QUESTION: Final = PendingRequest(
    request_id="q-1",
    source_executor_id="clerk",
    request_type="shop.workflows:Approval",
    asked_at="2026-11-27T00:00:00+00:00",
    response_type="builtins:bool",
    prompt="Refund 42.00 € of order 17?",
)
WAITING: Final = Summary(executor_ids=("clerk",), pending_requests=(QUESTION,))
ANSWERED: Final = Summary(executor_ids=("clerk",), messages={"clerk": 1}, answered_requests=("q-1",))
ENDED: Final = Summary(executor_ids=("clerk",))


def state_of(number: int) -> dict[str, object]:
    """The state in the checkpoint `c-<number>` of any run."""
    return {"number": number, "lines": [f"line {n}" for n in range(40)]}


class _Run:
    """A run that is written, event by event."""

    def __init__(self, store: AuditStore, run_id: str) -> None:
        self.store, self.stream = store, StreamId(WORKFLOW, run_id)
        self._payloads, self._codec = Payloads(store, BaseCache(0)), CheckpointCodec()
        self._written: list[CheckpointEvent] = []

    @property
    def head(self) -> Head:
        return Head.of(self._written[-1]) if self._written else EMPTY

    async def save(self, number: int, summary: Summary, trace: int, *, claim: int | None = None) -> None:
        """A checkpoint, from the span of the same number in a trace."""
        checkpoint = WorkflowCheckpoint(
            WORKFLOW,
            "graph",
            checkpoint_id=f"c-{number}",
            previous_checkpoint_id=f"c-{number - 1}" if number > 1 else None,
            timestamp=f"2026-11-27T00:00:0{number}+00:00",
            iteration_count=number,
            state=state_of(number),
        )
        header = header_of(checkpoint, ACTOR, traceparent=f"00-{TRACES[trace]}-{number:016x}-01")
        header = msgspec.structs.replace(header, summary=summary)
        packed = await self._payloads.encode(self._codec.encode(checkpoint), self.stream)
        await self._append(event_at(header, self.stream, self.head, packed, None, claim))

    async def say(self, outcome: Outcome | None = None, reason: str | None = None, *, hold: bool = False) -> None:
        said = Annotation(outcome=outcome, reason=reason, tags=TAGS, hold=hold)
        await self._append(annotation_after(self.stream, self.head, said, self._pruned, ACTOR))

    async def claim(self) -> int:
        """Take a claim; its epoch."""
        stays = carried(fold(self._written))
        await self._append(claim_after(self.stream, self.head, stays, self._pruned, ACTOR))
        return self.head.seq

    async def delete(self, seq: int) -> None:
        [event] = await self.store.read(self.stream, seq)
        await self._append(tombstone_after(event, self.head, ACTOR))

    async def prune(self, keep: int) -> None:
        """What the audit removes, and records."""
        async for plan in CheckpointAudit(self.store, actor=ACTOR).plan_prune([self.stream], keep=keep):
            await CheckpointAudit(self.store, actor=ACTOR).prune(plan)
        self._written = [header async for header in self.store.headers(self.stream)]

    async def remove(self, reason: str) -> None:
        """Remove the whole run."""
        audit = CheckpointAudit(self.store, actor=ACTOR)
        plans = [plan async for plan in audit.plan_delete([self.stream])]
        async for removal in audit.delete(plans, reason=reason, archive=ARCHIVE, archive_sha256=ARCHIVE_SHA256):
            assert removal.state == "removed"
        self._written = [header async for header in self.store.headers(self.stream)]

    @property
    def _pruned(self) -> tuple[Pruned, ...]:
        return next((event.pruned for event in reversed(self._written) if not event.checkpoint_id), ())

    async def _append(self, event: CheckpointEvent) -> None:
        await self.store.append(event)
        self._written.append(event.header())


async def _annotated(run: _Run) -> None:
    """Seqs 1 to 5: cancelled, with a question that nobody is to answer; an earlier outcome fell with c-2."""
    await run.save(1, WAITING, 0)
    await run.say(hold=True)
    await run.say("failed", "ValueError in clerk", hold=True)
    await run.save(2, WAITING, 1)
    await run.say("cancelled", "a duplicate of order 16")


async def _claimed(run: _Run) -> None:
    """Seqs 1 to 6: the question is answered under a claim; what was said before it, the claim repeats."""
    await run.save(1, WAITING, 0)
    await run.say(hold=True)
    epoch = await run.claim()
    await run.save(2, ANSWERED, 1, claim=epoch)
    await run.save(3, ENDED, 1, claim=epoch)
    await run.delete(4)


async def _pruned(run: _Run) -> None:
    """Seqs 1 to 8, of which 1 and 2 are gone: a record repeats what was said, a claim both."""
    for number in (1, 2, 3):
        await run.save(number, ENDED, 0)
    await run.say("done")
    await run.prune(1)
    epoch = await run.claim()
    await run.save(4, ENDED, 1, claim=epoch)
    await run.say("done", "at last")


RUNS: Final[dict[str, Callable[[_Run], Awaitable[None]]]] = {
    "annotated": _annotated,
    "claimed": _claimed,
    "pruned": _pruned,
}


async def _removed(run: _Run) -> None:
    """Seq 5, which closes the run: what was said of it is gone with the rest."""
    for number in (1, 2, 3):
        await run.save(number, ENDED, 0)
    await run.say("done")
    await run.remove("done for 30 days")


async def _begun_again(run: _Run) -> None:
    """Seqs 3 to 5, the first of which closes what was there before."""
    for number in (1, 2):
        await run.save(number, ENDED, 0)
    await run.remove("a try")
    for number in (1, 2):
        await run.save(number, ENDED, 1)


REMOVED_RUNS: Final[dict[str, Callable[[_Run], Awaitable[None]]]] = {"removed": _removed, "begun again": _begun_again}


async def write_runs(version: str, path: Path) -> None:
    """The files of this version."""
    async with SqliteEventStore(path / "runs.db") as store:
        for run_id, make in {**RUNS, **REMOVED_RUNS}.items():
            await make(_Run(store, run_id))
        lines = [line async for line in CheckpointAudit(store).export()]
    (RUNS_FOLDER / f"{version}.db.gz").write_bytes(gzip.compress((path / "runs.db").read_bytes(), mtime=0))
    (RUNS_FOLDER / f"{version}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write_runs(sys.argv[1], Path(folder)))
