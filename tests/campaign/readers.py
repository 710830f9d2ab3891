"""Readers: they ask while everything goes on, and hold each answer against what was acknowledged before they asked."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointNotFoundError, EventCheckpointStorage, StreamId

from .book import Book, Run
from .checkpoints import WORKFLOWS, is_steady, what_is_wrong_with
from .stores import Noting
from .writers import OUT_OF_REACH

__all__ = ["Reader"]


class Reader:
    """Asks one thing after another.

    Args:
        store: whose answers.
        book: what is known.
        dice: what it asks.
        late: whether the store may be answered by replicas that lag: then it is sure of its own writes only.
    """

    def __init__(self, store: Noting, book: Book, dice: random.Random, *, late: bool) -> None:
        self._store = store
        self._book = book
        self._dice = dice
        self._whose = store.name if late else None
        self._storage = EventCheckpointStorage(store)
        self._projected = EventCheckpointStorage(store, latest="projection")
        self._audit = CheckpointAudit(store)

    async def turn(self) -> None:
        """One question of all."""
        things: list[Callable[[], Awaitable[None]]] = [
            self._latest, self._latest, self._lists, self._lists, self._loads, self._loads,
            self._verifies, self._replays, self._latest_of_all, self._tells_runs,
        ]  # fmt: skip
        asks = self._dice.choice(things)
        try:
            await asks()
        except OUT_OF_REACH:
            return
        except Exception as error:
            self._wrong(f"{asks.__name__.strip('_')}: {type(error).__name__}: {error}")

    async def _latest(self) -> None:
        run = self._run()
        if run is None:
            return
        known = self._book.must_be_live(run, self._whose)
        found = await self._storage.for_run(run[1], workflow_name=run[0]).get_latest(workflow_name=run[0])
        self._book.absorb()
        still = {name: seq for name, seq in known.items() if name in self._book.must_be_live(run, self._whose)}
        if found is None:
            if still:
                self._wrong(f"the latest of {run} is None, and {sorted(still)} were acknowledged")
            return
        self._look_at(found)
        seqs = [each.seq for each in self._book.versions(run[0], found.checkpoint_id, found.iteration_count)
                if each.run == run]  # fmt: skip
        if not seqs:
            self._wrong(f"the latest of {run}, {found.checkpoint_id}, was never sent to it")
        elif is_steady(run[1]) and max(seqs) < max(still.values(), default=0):
            self._wrong(f"the latest of {run} is {found.checkpoint_id} at seq {max(seqs)}; acknowledged were {still}")

    async def _lists(self) -> None:
        run = self._run()
        if run is None:
            return
        known = self._book.must_be_live(run, self._whose)
        through = self._storage.for_run(run[1], workflow_name=run[0])
        if self._dice.random() < 0.5:
            listed = await through.list_checkpoint_ids(workflow_name=run[0])
        else:
            checkpoints = await through.list_checkpoints(workflow_name=run[0])
            listed = [each.checkpoint_id for each in checkpoints]
            for each in checkpoints:
                self._look_at(each)
        self._book.absorb()
        missed = known.keys() & self._book.must_be_live(run, self._whose).keys() - set(listed)
        if missed:
            self._wrong(f"a listing of {run} misses {sorted(missed)}")
        if len(listed) != len(set(listed)):
            self._wrong(f"a listing of {run} has a checkpoint twice: {listed}")

    async def _loads(self) -> None:
        """Over all runs: of a checkpoint that lies in several, that is the version that was written last."""
        run = self._run()
        names = sorted(self._book.must_be_live(run, self._whose)) if run is not None else []
        if run is None or not names:
            return
        name = self._dice.choice(names)
        newest = max(
            (each.version for each in self._book.saved
             if (each.workflow, each.checkpoint_id) == (run[0], name) and self._whose in (None, each.storage)),
            default=0,
        )  # fmt: skip
        try:
            found = await self._storage.load(name)
        except CheckpointNotFoundError:
            self._book.absorb()
            if name in self._book.must_be_live(run, self._whose):
                self._wrong(f"{name} of {run} was acknowledged, and is not found")
            return
        self._look_at(found)
        if found.iteration_count < newest and name in self._book.must_be_live(run, self._whose):
            self._wrong(f"{name} is loaded as version {found.iteration_count}, after {newest} was acknowledged")

    async def _verifies(self) -> None:
        """Of a run that had no document yet, that one is late. So may be the replica that is asked for it."""
        async with aclosing(self._store.runs().all()) as infos:
            projected = {info.stream async for info in infos}
        verdicts = self._audit.verify_all(decode=self._dice.random() < 0.5, projection=self._dice.random() < 0.5)
        async with aclosing(verdicts) as found:
            async for verdict in found:
                problems = [problem for problem in verdict.problems if problem.why != "projection"]
                if problems:
                    self._wrong(f"verify: {problems}")
                elif verdict.problems and verdict.stream in projected and not await self._passes(verdict.stream):
                    self._wrong(f"verify: {verdict.problems}")

    async def _passes(self, stream: StreamId) -> bool:
        """Whether nothing is wrong with a run by replicas that lag for a moment."""
        tries = 50 if self._whose else 0
        for _ in range(tries):
            if (await self._audit.verify(stream, projection=True)).ok:
                return True
        return False

    async def _replays(self) -> None:
        run = self._run()
        if run is None:
            return
        async with aclosing(self._audit.replay(StreamId(*run))) as steps:
            async for step in steps:
                if step.problem:
                    self._wrong(f"replay of {run}, seq {step.event.seq}: {step.problem}")
        async with aclosing(self._audit.states(StreamId(*run))) as states:
            async for _, checkpoint in states:
                self._look_at(checkpoint)

    async def _latest_of_all(self) -> None:
        storage = self._storage if self._dice.random() < 0.5 else self._projected
        found = await storage.get_latest(workflow_name=self._dice.choice(WORKFLOWS))
        if found is not None:
            self._look_at(found)

    async def _tells_runs(self) -> None:
        async with aclosing(self._audit.runs()) as infos:
            found = {(info.workflow_name, info.run_id): info async for info in infos}
        for run, info in found.items():
            if info.checkpoint_id is None and is_steady(run[1]):
                self._wrong(f"{run} is said to have no checkpoint: {info}")

    def _run(self) -> Run | None:
        self._book.absorb()
        runs = self._book.runs()
        return self._dice.choice(runs) if runs else None

    def _look_at(self, checkpoint: WorkflowCheckpoint) -> None:
        if wrong := what_is_wrong_with(checkpoint):
            self._wrong(wrong)

    def _wrong(self, said: str) -> None:
        self._book.wrong(f"reader {self._store.name}: {said}")
