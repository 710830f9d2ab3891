"""Stores that have grown: the latest of long runs and of many, long lists, and what is asked of all runs at once.

Processor time, since another program on the machine hardly changes it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
from agent_framework import WorkflowCheckpoint
from msgspec.structs import replace

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    EventStore,
    SqliteCheckpointStorage,
    SqliteEventStore,
    StreamId,
)
from eventckpt.audit.runs import Filter
from eventckpt.chain import digest_of, sealed
from eventckpt.events import Payload
from eventckpt.stores.conformance import make_event
from projections import compare, open_engine

from .measure import Bound, Figure, Sample, at_least, at_most, compared, processor_seconds, taking_turns
from .projector import projecting

__all__ = ["all_runs", "latest", "lists", "verified"]

WORKFLOW = "chat"
EVENTS = 3
"""Of each run, where there are many."""

Work = Callable[[], Awaitable[object]]


async def latest(supersteps: int = 2_000, runs: int = 20_000, rounds: int = 101) -> list[Figure]:
    """`get_latest` of a long run, and of a workflow of many runs, beside a `load` of the same checkpoint by its id."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteCheckpointStorage(Path(folder, "long.db"), synchronous="OFF") as storage:
            run, last = storage.for_run("r", workflow_name=WORKFLOW), ""
            for step in range(supersteps):
                last = await run.save(_small(step, last or None))
            asked = _latest_and_load(storage.for_run("r", workflow_name=WORKFLOW), last)
            figures.append(await _beside_load(f"get_latest of a run of {supersteps:,} supersteps", asked, rounds))
        async with SqliteCheckpointStorage(Path(folder, "many.db"), synchronous="OFF") as storage:
            for number in range(runs):
                last = await storage.for_run(f"run-{number}").save(_small(number))
            asked = _latest_and_load(storage, last)
            figures.append(await _beside_load(f"get_latest over {runs:,} runs, unbound", asked, rounds))
    return figures


def _small(step: int, previous: str | None = None) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state={"step": step})


def _latest_and_load(storage: SqliteCheckpointStorage, last: str) -> tuple[Work, Work]:
    async def get_latest() -> None:
        found = await storage.get_latest(workflow_name=WORKFLOW)
        assert found is not None
        assert found.checkpoint_id == last

    return get_latest, lambda: storage.load(last)


async def _beside_load(what: str, asked: tuple[Work, Work], rounds: int) -> Figure:
    ours, load = await taking_turns(rounds, *asked)
    return compared(f"{what}, CPU", ours, load, "load by id", at_most(1.6))


async def lists(ids: int = 60_000, runs: int = 60, rounds: int = 9) -> list[Figure]:
    """All ids of a workflow beside one bare SELECT of them with what says which of them live."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        async with SqliteCheckpointStorage(path, synchronous="OFF") as storage:
            await _fill(storage.store, runs, ids // runs)
            workflow = _stream(0).workflow_name

            async def ours() -> None:
                assert len(await storage.list_checkpoint_ids(workflow_name=workflow)) == ids

            async def bare() -> None:
                with closing(sqlite3.connect(path)) as connection:
                    query = (
                        "SELECT position, run_id, seq, type, checkpoint_id FROM events WHERE workflow_name = ?"
                        " ORDER BY position"
                    )
                    assert len(connection.execute(query, (workflow,)).fetchall()) == ids

            listed, selected = await taking_turns(rounds, ours, bare)
    return [compared(f"list {ids:,} ids, CPU", listed, selected, "bare SELECT", at_most(1.6))]


async def verified(runs: int = 10_000, rounds: int = 3) -> list[Figure]:
    """`verify --all` beside what no check can do without: to read each header and take its digest anew."""
    async with _store(runs) as store:
        events = await _some_of(store, runs)
        headers = [msgspec.msgpack.encode(event) for event in events]
        decoder = msgspec.msgpack.Decoder(CheckpointEvent)

        async def bare() -> None:
            for header in headers:
                assert digest_of(event := decoder.decode(header)) == event.digest

        ours, floor = await taking_turns(rounds, lambda: _verify_all(store), bare)
    count = runs * EVENTS
    rates = [Sample([count / seconds for seconds in each.values], _per_s) for each in (ours, floor)]
    who = "header and digest alone"
    return [compared(f"verify --all, runs of {EVENTS} events, for a second of CPU", *rates, who, at_least(0.25))]


async def all_runs(runs: int = 100_000) -> list[Figure]:
    """What goes through all runs, each once, beside `verify --all` without the digests that it takes."""
    async with _store(runs) as store:
        audit, engine = CheckpointAudit(store), open_engine(store)
        await projecting(store, "latest", runs * EVENTS)
        verify, digests = await processor_seconds(lambda: _verify_all(store)), await _digests(store, runs)
        asked: dict[str, Work] = {
            "runs --count": lambda: _exhausted(audit.runs()),
            "runs --pending": lambda: _exhausted(audit.runs(Filter(request=""))),
            "prune --all, the plan": lambda: _exhausted(audit.plan_prune(keep=1)),
            "projector compare": lambda: _exhausted(compare(store, engine.feed, store.runs("latest"))),
        }
        taken = {what: await processor_seconds(work) for what, work in asked.items()}
    who = "verify --all without digests"
    return [
        _of_all(f"{what}, {runs:,} runs of {EVENTS}, CPU", seconds, verify - digests, who, at_most(2.0))
        for what, seconds in taken.items()
    ]


def _of_all(what: str, ours: float, theirs: float, who: str, bound: Bound) -> Figure:
    return compared(what, Sample([ours], _s), Sample([theirs], _s), who, bound)


async def _verify_all(store: SqliteEventStore) -> None:
    async for verdict in CheckpointAudit(store).verify_all():
        assert verdict.ok


async def _digests(store: SqliteEventStore, runs: int) -> float:
    """Processor seconds of taking each digest of a store anew, as it is of some of its runs."""
    some = min(runs, 1_000)
    events = await _some_of(store, some)

    async def anew() -> None:
        for event in events:
            assert digest_of(event) == event.digest

    return await processor_seconds(anew) * runs / some


async def _exhausted(found: AsyncIterator[object]) -> None:
    async for _ in found:
        pass


@asynccontextmanager
async def _store(runs: int) -> AsyncGenerator[SqliteEventStore, None]:
    """A store of so many runs of a few events."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db"), synchronous="OFF") as store:
            await _fill(store, runs, EVENTS)
            yield store


_SNAPSHOT = Payload(
    encoding="zstd", raw_size=5, raw_sha256=hashlib.sha256(b"state").hexdigest(), stored_size=5, data=b"state"
)


async def _fill(store: EventStore, runs: int, each: int) -> None:
    for number in range(runs):
        events: list[CheckpointEvent] = []
        for seq in range(1, each + 1):
            event = make_event(_stream(number), seq, previous=events[-1] if events else None)
            events.append(sealed(replace(event, payload=_SNAPSHOT)))
        assert isinstance(store, SqliteEventStore)
        await store.put(_stream(number), events)


def _stream(number: int) -> StreamId:
    return StreamId(WORKFLOW, f"run-{number}")


async def _some_of(store: SqliteEventStore, runs: int) -> list[CheckpointEvent]:
    return [event for number in range(runs) for event in await store.read(_stream(number), 1, EVENTS)]


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s"


def _per_s(rate: float) -> str:
    return f"{rate:,.0f} /s"
