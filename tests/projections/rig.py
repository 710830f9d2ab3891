"""What the tests of processors share: events to read, handlers that remember, and workers that a test drives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from eventckpt import CheckpointEvent, EventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import ForkPoint, Payload, Summary
from eventckpt.stores.documents import DocumentStore
from projections import Batch, ChangeFeedProcessor, ProcessorOptions, open_engine

from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine
from .driven_clock import DrivenClock

WORKFLOW = "w"
_HANG = 30.0
"""Seconds after which a worker that is told to stop waits for something that never comes."""


def event(
    run: str,
    seq: int,
    *,
    before: CheckpointEvent | None = None,
    deletes: str | None = None,
    summary: Summary | None = None,
    forked_from: ForkPoint | None = None,
    data: bytes = b"state",
    workflow: str = WORKFLOW,
) -> CheckpointEvent:
    """An event of a run, chained to the one before."""
    payload = Payload(encoding="x", raw_size=len(data), raw_sha256="", stored_size=len(data), data=data)
    return sealed(
        CheckpointEvent(
            type="tombstone" if deletes else "checkpoint",
            workflow_name=workflow,
            run_id=run,
            seq=seq,
            checkpoint_id=deletes or f"{run}-{seq}",
            timestamp=f"2026-01-01T00:{seq // 60:02d}:{seq % 60:02d}+00:00",
            recorded_at=f"2026-01-01T00:{seq // 60:02d}:{seq % 60:02d}+00:00",
            summary=summary or Summary(),
            payload=None if deletes else payload,
            iteration_count=seq,
            previous_digest=before.digest if before else "",
            forked_from=forked_from,
        )
    )


class Writer:
    """Appends events to runs of one store."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.written: list[tuple[str, int]] = []
        self._heads: dict[str, CheckpointEvent] = {}

    async def write(self, *runs: str, count: int = 1, **about: Any) -> None:
        """`count` more events for each of these runs."""
        for _ in range(count):
            for run in runs:
                head = self._heads.get(run)
                new = event(run, head.seq + 1 if head else 1, before=head, **about)
                await self.store.append(new)
                self._heads[run] = new
                self.written.append((run, new.seq))

    def in_run(self, run: str) -> list[int]:
        return [seq for each, seq in self.written if each == run]


class Recorder:
    """A handler that remembers what it got, and fails where it is told to."""

    def __init__(self, effect: Callable[[Batch], Awaitable[None]] | None = None) -> None:
        self.handled: list[tuple[str, int]] = []
        self.batches: list[list[tuple[str, int]]] = []
        self._effect = effect

    async def __call__(self, batch: Batch) -> None:
        self.batches.append([(event.run_id, event.seq) for event in batch])
        if self._effect is not None:
            await self._effect(batch)
        self.handled += self.batches[-1]

    def in_run(self, run: str) -> list[int]:
        return [seq for each, seq in self.handled if each == run]


class DrivenWorker(ChangeFeedProcessor):
    """A worker that stops also where a test fails while a handler waits for it: nobody drives the clock any more."""

    async def stop(self) -> None:
        stopping = asyncio.ensure_future(super().stop())
        await asyncio.wait([stopping], timeout=_HANG)
        if not stopping.done() and isinstance(self._clock, DrivenClock):
            self._clock.advance(self.options.stop_timeout)
        await stopping


class Rig:
    """Workers over one engine, each with a store of its own, as if each were a process."""

    def __init__(self, engine: Engine, emulator: CosmosEmulator | None = None) -> None:
        self.engine = engine
        self._emulator = emulator
        self.clock = DrivenClock()
        self.writer = Writer(engine.open())
        self.workers: list[ChangeFeedProcessor] = []

    @property
    def emulator(self) -> CosmosEmulator:
        """The emulator behind the engine."""
        assert self._emulator is not None
        return self._emulator

    @property
    def place(self) -> tuple[str, str]:
        """Database and container of the events on the emulator."""
        assert isinstance(self.engine, CosmosEngine)
        return self.engine.settings["database_name"], self.engine.settings["container_name"]

    def worker(
        self,
        handler: Callable[[Batch], Awaitable[object]],
        worker: str = "one",
        *,
        processor: str = "test",
        through: Callable[[DocumentStore], DocumentStore] = lambda documents: documents,
        **options: Any,
    ) -> ChangeFeedProcessor:
        """Another worker, to be stopped by `close`; it reaches its leases `through` what a test puts in between."""
        opened = open_engine(self.engine.open())
        opened = opened._replace(documents=through(opened.documents))
        made = DrivenWorker(
            opened.feed,
            opened.leases(processor),
            handler,
            ProcessorOptions(worker=worker, **options),
            clock=self.clock,
        )
        self.workers.append(made)
        return made

    async def leases(self, processor: str = "test") -> Sequence[Any]:
        self.engine.settle()  # the workers are other processes
        return await open_engine(self.writer.store).leases(processor).all()

    async def owners(self) -> dict[str, int]:
        """How many leases each worker has."""
        owners = [lease.owner for lease in await self.leases()]
        return {owner: owners.count(owner) for owner in owners if owner}

    async def close(self) -> None:
        for worker in self.workers:
            await worker.stop()

    async def info(self, run: str, projection: str | None = None) -> Any:
        stream = StreamId(WORKFLOW, run)
        self.engine.settle()
        return (await self.writer.store.runs(projection).get(stream)).get(stream)
