"""Operators: whatever else is done to a store in use, each thing at any time and beside any other.

What an operator does is announced where it takes something away. What it is told is held against what may be so: an
export may not miss a line, an import may not find a damaged one, a rebuild may be refused, nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    EventCheckpointStorage,
    SqliteEventStore,
    StreamId,
)
from eventckpt.audit import Imported, Plan
from projections import ProcessorOptions, compare, open_engine
from projections.projector import Projector

from .book import Book, Run
from .checkpoints import is_steady
from .stores import Killed, Noting
from .writers import OUT_OF_REACH

__all__ = ["PATIENCE", "Operator", "Workers", "options"]

PATIENCE: Final = 120.0
"""Seconds for what has to come in the end."""

_QUICK: Final = {
    "page_size": 20,
    "poll_interval": 0.05,
    "acquire_interval": 0.3,
    "renew_interval": 0.6,
    "expiry": 3.0,
    "fence_margin": 0.6,
    "checkpoint_interval": 0.1,
    "backoff": 0.05,
    "max_backoff": 0.4,
    "max_attempts": 1_000_000,
}


def options(worker: str) -> ProcessorOptions:
    """Of a projector that has no time."""
    return ProcessorOptions(worker=worker, **_QUICK)  # type: ignore[arg-type] - numbers, each of its own kind


class Workers:
    """The projectors at work; they come and go."""

    def __init__(self, open_store: Callable[[str], Noting], wrong: Callable[[str], None]) -> None:
        self._open = open_store
        self._wrong = wrong
        self._running: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._running)

    def come(self) -> None:
        self._number += 1
        stop = asyncio.Event()
        self._running.append((asyncio.ensure_future(self._work(f"worker-{self._number}", stop)), stop))

    async def go(self, dice: random.Random) -> None:
        """One of them ends, asked to or cut off."""
        if self._running:
            task, stop = self._running.pop(dice.randrange(len(self._running)))
            if dice.random() < 0.5:
                task.cancel()
            stop.set()
            await asyncio.wait([task])

    async def all_go(self) -> None:
        for _, stop in self._running:
            stop.set()
        for task, _ in self._running:
            await asyncio.wait([task])
        self._running.clear()

    async def _work(self, name: str, stop: asyncio.Event) -> None:
        try:
            async with self._open(name) as store:
                await Projector(open_engine(store), options(name)).run(stop)
        except OUT_OF_REACH:
            return  # as a process that its supervisor starts again
        except Exception as error:
            self._wrong(f"{name} ended by itself: {type(error).__name__}: {error}")


class Operator:
    """Does one thing after another.

    Args:
        store: the store, as a process of its own.
        book: what is known.
        dice: what it does.
        workers: the projectors.
        elsewhere: the file of a store to import into.
    """

    def __init__(self, store: Noting, book: Book, dice: random.Random, workers: Workers, elsewhere: Path) -> None:
        self._store = store
        self._book = book
        self._dice = dice
        self._workers = workers
        self._elsewhere = elsewhere
        self._audit = CheckpointAudit(store, actor=store.name)
        self._storage = EventCheckpointStorage(store, actor=store.name)
        self._forks = 0

    async def turn(self) -> None:
        """One thing of all."""
        things: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (8, self._prune),
            (4, self._delete),
            (2, self._import_here),
            (2, self._import_elsewhere),
            (3, self._fork),
            (1, self._rebuild),
            (2, self._compare),
            (3, self._workers_change),
        ]
        [thing] = self._dice.choices([each for _, each in things], [weight for weight, _ in things])
        what = thing.__name__.strip("_")
        try:
            await thing()
        except OUT_OF_REACH:
            return
        except Exception as error:
            self._wrong(f"{what}: {type(error).__name__}: {error}")

    # Taking away

    async def _prune(self) -> None:
        dice = self._dice
        keep = dice.choice([0, 1, 1, 2, 5])
        before = datetime.now(UTC) - timedelta(seconds=dice.choice([0, 1, 3])) if dice.random() < 0.4 else None
        streams = await self._some_runs()
        if keep == 0:
            streams = [each for each in streams if not is_steady(each.run_id)]
        plans = self._audit.plan_prune(
            streams, keep=keep, before=before, only_finished=dice.random() < 0.2, force=dice.random() < 0.6
        )
        async with aclosing(plans) as found:
            async for plan in found:
                if plan.seqs and not plan.refused:
                    await self._carry_out(plan)

    async def _carry_out(self, plan: Plan) -> None:
        gone = frozenset(plan.seqs)
        headers = [header async for header in self._store.headers(plan.stream) if header.seq in gone]
        self._book.goes(plan.stream.workflow_name, {header.checkpoint_id for header in headers})
        how = self._dice.random()
        with suppress(CheckpointConflictError, Killed):
            if how < 0.25:
                self._store.dies_while_removing = self._dice.random()
            if how < 0.85:
                await self._audit.prune(plan)
                return
            pruning = asyncio.ensure_future(self._audit.prune(plan))
            await asyncio.wait([pruning], timeout=self._dice.uniform(0, 0.03))
            pruning.cancel()
            await asyncio.wait([pruning])
            if not pruning.cancelled():
                pruning.result()

    async def _delete(self) -> None:
        """Through a handle, or over all runs; what is steady is left alone, wherever a copy of it may lie."""
        runs = [run for run in self._book.runs() if not is_steady(run[1])]
        if not runs:
            return
        run = self._dice.choice(runs)
        names = sorted(self._book.must_be_live(run))
        if not names:
            return
        name = self._dice.choice(names)
        self._book.goes(run[0], [name])
        through = self._storage if self._dice.random() < 0.5 else self._storage.for_run(run[1], workflow_name=run[0])
        await through.delete(name)

    # Elsewhere and back

    async def _import_here(self) -> None:
        """What was exported a moment ago changes nothing, whatever was taken away since."""
        lines = await self._exported(await self._some_runs())
        await self._workers_change()
        imported = await self._audit.import_lines(lines)
        if imported.problems or not imported.complete:
            self._wrong(f"import of its own export: {imported}")

    async def _import_elsewhere(self) -> None:
        """All of it is whole in another store, and again changes nothing. What is cut off is missed."""
        lines = await self._exported(None)
        async with self._another_store() as audit:
            imported = await self._imported(audit, lines, "elsewhere")
            again = await self._imported(audit, lines, "elsewhere again")
            if imported.problems or not imported.complete or again.problems or again.added:
                self._wrong(f"import elsewhere: {imported}, and again: {again}")
        if len(lines) > 2:
            at = self._dice.randrange(1, len(lines) - 1)
            cut = [*lines[:at], lines[at][: self._dice.randrange(1, len(lines[at]))]]
            async with self._another_store() as audit:
                imported = await self._imported(audit, cut, "in a cut file")
                if imported.complete or not imported.problems:
                    self._wrong(f"the import of a cut file says that it is whole: {imported}")
        async with SqliteEventStore(self._elsewhere) as elsewhere:
            # Where the log was pruned since the last import, nothing may show any more that the two are one.
            await self._imported(CheckpointAudit(elsewhere), lines, "beside an earlier export")

    async def _imported(self, audit: CheckpointAudit, lines: list[bytes], where: str) -> Imported:
        imported = await audit.import_lines(lines)
        async with aclosing(audit.verify_all(decode=True)) as verdicts:
            async for verdict in verdicts:
                if not verdict.ok:
                    self._wrong(f"verify {where}: {verdict.problems}")
        return imported

    @asynccontextmanager
    async def _another_store(self) -> AsyncGenerator[CheckpointAudit, None]:
        """An empty one, which goes when it has served."""
        with TemporaryDirectory(dir=self._elsewhere.parent) as folder:
            async with SqliteEventStore(Path(folder) / "events.db") as store:
                yield CheckpointAudit(store)

    async def _exported(self, streams: Sequence[StreamId] | None) -> list[bytes]:
        async with aclosing(self._audit.export(streams)) as lines:
            return [line async for line in lines]

    async def _fork(self) -> None:
        """A new run from some checkpoint; and one that would take the place of a run that is there, or was pruned."""
        runs = self._book.runs()
        if not runs:
            return
        run = self._dice.choice(runs)
        names = sorted(self._book.must_be_live(run))
        if not names:
            return
        name = self._dice.choice(names)
        is_taken = self._dice.random() < 0.4
        if not is_taken:
            self._forks += 1
        new = run[1] if is_taken else f"fork-{self._store.name}-{self._forks}"
        try:
            origin = await self._audit.event(name, workflow_name=run[0])
            made = await self._audit.fork(origin, new)
        except CheckpointConflictError as conflict:
            if not is_taken:
                self._wrong(f"the run {new} is said to be there: {conflict}")
            return
        except (CheckpointNotFoundError, CheckpointDecodeError):
            if self._is_there(run, name):
                raise
            return
        if is_taken:
            self._wrong(f"a fork at seq {made.seq} took the place of the run {run}")
        await self._go_on_with(made.stream, made.checkpoint_id)

    async def _go_on_with(self, stream: StreamId, checkpoint_id: str) -> None:
        loaded = await self._storage.for_run(stream.run_id, workflow_name=stream.workflow_name).load(checkpoint_id)
        if loaded.checkpoint_id != checkpoint_id:
            self._wrong(f"the fork {stream} begins with {loaded.checkpoint_id} instead of {checkpoint_id}")

    def _is_there(self, run: Run, name: str) -> bool:
        """Whether nobody has begun to take a checkpoint away, nor what it may rest on."""
        return name in self._book.must_be_live(run)

    # The projection

    async def _rebuild(self) -> None:
        """Also two at once, of which one may be refused."""
        how_many = self._dice.choice([1, 1, 2])
        projectors = [
            Projector(open_engine(self._store), options(f"{self._store.name}-rebuild-{self._dice.random()}"))
            for _ in range(how_many)
        ]
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(
                *(each.rebuild(lambda *_: None) for each in projectors), return_exceptions=True
            )
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, CheckpointStoreError):
                raise each
        if how_many == 1 and isinstance(found[0], CheckpointStoreError) and not isinstance(found[0], OUT_OF_REACH):
            self._book.refused_rebuilds.append(str(found[0]))

    async def _compare(self) -> None:
        """A document may be late while everything goes on; it never says another thing than the log did."""
        engine = open_engine(self._store)
        async with aclosing(compare(self._store, engine.feed, self._store.runs())) as differences:
            async for difference in differences:
                if not difference.what.startswith(("missing", "behind")):
                    self._wrong(f"compare beside everything: {difference}")

    async def _workers_change(self) -> None:
        if len(self._workers) < 2 and self._dice.random() < 0.7:
            self._workers.come()
        else:
            await self._workers.go(self._dice)

    async def _some_runs(self) -> list[StreamId]:
        async with aclosing(self._store.streams()) as streams:
            every = [stream async for stream in streams]
        return self._dice.sample(every, self._dice.randint(0, len(every)))

    def _wrong(self, said: str) -> None:
        self._book.wrong(f"operator {self._store.name}: {said}")
