"""The steps that are played against the placement model: saves, reads and whatever else happens to a store.

Several storages over one set of data, each as if it were a process: one that forks, one that forks and forgets all but
the last, one that raises. Each step says what it saw; `tests.storage.placement_model` says what it may have seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import pytest
from agent_framework import WorkflowCheckpoint
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from eventckpt import (
    CheckpointConflictError,
    CheckpointEvent,
    CheckpointStoreError,
    EventCheckpointStorage,
    RunCheckpointStorage,
    RunNotFoundError,
    StreamId,
)
from eventckpt.audit import CheckpointAudit
from eventckpt.chain import flaw_of
from eventckpt.storage.memory import Memory
from eventckpt.storage.removing import each_of, remove_runs
from eventckpt.stores import AuditStore

from .lost_store import Gate, LostStore
from .placement_log import drawn, drawn_log, entry_of, listed, loaded_by, logged, places, read_as, shown
from .placement_model import At, Checkpoint, Cut, Entry, Outcome, Reader, Saves, World, side_by_side
from .playing import Machine

T = TypeVar("T")

WORKFLOWS = ("orders", "refunds")
RUNS = ("r", "s")
PADDING = [f"a line that every checkpoint of every run holds, number {n}" for n in range(20)]
"""Makes a delta worth its while."""


@dataclass
class Process:
    """A storage over a store of its own, and who saves and loads through it."""

    number: int
    on_conflict: str
    forgetful: bool
    store: LostStore
    storage: EventCheckpointStorage
    readers: dict[str, EventCheckpointStorage | RunCheckpointStorage] = field(default_factory=dict)

    def __str__(self) -> str:
        return "forgets" if self.forgetful else f"{self.on_conflict}s"


class PlacementMachine(Machine):
    """The steps. `self.worlds` are the worlds that all of them so far may have led to."""

    by_commit: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.engine = type(self).new_engine()
        self.gate = Gate()
        self.store = self.engine.open()
        assert isinstance(self.store, AuditStore)
        self.audit = CheckpointAudit(self.store)
        self.worlds = [World()]
        self.seen: dict[StreamId, dict[int, CheckpointEvent]] = {}
        self.digests: dict[At, str] = {}
        self.stamps: dict[At, tuple[str, ...]] = {}
        self.parents: dict[str, str | None] = {}
        self.moments: dict[str, str] = {}
        self.made_by_audit: set[str] = set()
        self.contents = 0
        self.numbers = 0
        self.processes: list[Process] = []

    @initialize()
    def start(self) -> None:
        for on_conflict, forgetful in (("fork", False), ("fork", True), ("raise", False)):
            self.processes.append(self._process(on_conflict, forgetful))
        for process in self.processes[:2]:
            for run in RUNS:
                self._bind(process, StreamId(WORKFLOWS[0], run))

    def teardown(self) -> None:
        self.run(self._end())

    async def _end(self) -> None:
        try:
            async for verdict in self.audit.verify_all(decode=True):
                assert not verdict.problems, verdict
        finally:
            await self.engine.close()

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing, context=copy_context())  # as a task of its own

    @invariant()
    def counts(self) -> None:
        type(self).taken += 1

    # Who

    def _process(self, on_conflict: str, forgetful: bool) -> Process:
        store = LostStore(self.engine.open(), self.gate)
        with forgetting(forgetful):
            storage = EventCheckpointStorage(store, on_conflict=on_conflict)  # type: ignore[arg-type] - one of two
        process = Process(self.numbers, on_conflict, forgetful, store, storage)
        self._know(process, storage, None)
        return process

    def _bind(self, process: Process, run: StreamId) -> None:
        with forgetting(process.forgetful):
            handle = process.storage.for_run(run.run_id, workflow_name=run.workflow_name)
        self._know(process, handle, run)

    def _know(
        self, process: Process, through: EventCheckpointStorage | RunCheckpointStorage, home: StreamId | None
    ) -> None:
        self.numbers += 1
        who = f"{self.numbers} {process}" + (f" {home.workflow_name}/{home.run_id}" if home else "")
        process.readers[who] = through
        for world in self.worlds:
            reader = Reader(process.number, process.on_conflict == "raise", process.forgetful, home)
            world.readers[who] = reader
            if home is not None:
                reader.begin(home, 0)

    def _readers(self) -> dict[str, tuple[Process, EventCheckpointStorage | RunCheckpointStorage]]:
        return {number: (process, each) for process in self.processes for number, each in process.readers.items()}

    def _who(self, data: st.DataObject, label: str = "through") -> str:
        return data.draw(st.sampled_from([*reversed(self._readers())]), label)

    def _runs(self) -> list[StreamId]:
        first = [StreamId(workflow, run) for workflow in WORKFLOWS for run in RUNS]
        return list(dict.fromkeys([*first, *self.seen]))

    # What

    def _checkpoint(self, workflow: str, name: str, content: int | None = None) -> Checkpoint:
        if content is None:
            self.contents += 1
            content = self.contents
        return Checkpoint(workflow, name, self.parents[name], content)

    def _new(self, data: st.DataObject, who: str, parent: str | None) -> Checkpoint:
        """A checkpoint that nobody has saved yet."""
        number = len(self.parents) + 1
        name = data.draw(st.sampled_from([f"{number:03}", f"same-beginning-{number:03}"]), "name")
        self.parents[name] = parent
        self.moments[name] = f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00"
        return self._checkpoint(self._workflow(data, who, parent), name)

    def _workflow(self, data: st.DataObject, who: str, parent: str | None) -> str:
        """A handle serves its workflow; through an unbound storage, mostly that of the parent."""
        home = self.worlds[0].readers[who].home
        if home is not None:
            return home.workflow_name
        found = self.worlds[0].anywhere(parent) if parent else None
        likely = found[0].workflow_name if found else WORKFLOWS[0]
        return data.draw(st.sampled_from([likely, likely, likely, *WORKFLOWS]), "workflow")

    def _any_name(self, data: st.DataObject, *others: str) -> str:
        return data.draw(st.sampled_from([*reversed(self.parents), *others]), "name")

    def _again(self, data: st.DataObject, who: str) -> Checkpoint:
        """A checkpoint that was saved before, as it was or with other content, perhaps for another workflow."""
        (stream, _), entry = data.draw(st.sampled_from(self._saved()), "again")
        home = self.worlds[0].readers[who].home
        workflow = home.workflow_name if home else data.draw(st.sampled_from([stream.workflow_name, *WORKFLOWS]), "as")
        changed = data.draw(st.booleans(), "changed") or entry.name in self.made_by_audit
        return self._checkpoint(workflow, entry.name, None if changed else entry.content)

    def _saved(self) -> list[tuple[At, Entry]]:
        """Checkpoint events, the newest of each run first."""
        return [
            ((stream, seq), entry_of(header))
            for stream, headers in self.seen.items()
            for seq, header in reversed(headers.items())
            if header.type == "checkpoint"
        ]

    def _real(self, checkpoint: Checkpoint) -> WorkflowCheckpoint:
        return WorkflowCheckpoint(
            workflow_name=checkpoint.workflow,
            graph_signature_hash="graph",
            checkpoint_id=checkpoint.name,
            previous_checkpoint_id=checkpoint.parent,
            timestamp=self.moments[checkpoint.name],
            iteration_count=checkpoint.content,
            state={"content": checkpoint.content, "lines": PADDING},
        )

    # Saves

    @rule(data=st.data())
    def begins(self, data: st.DataObject) -> None:
        who = self._who(data)
        self._save([(who, self._new(data, who, None))])

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def follows_any(self, data: st.DataObject) -> None:
        who = self._who(data)
        self._save([(who, self._new(data, who, self._any_name(data, "not in the store")))])

    @rule(data=st.data())
    def takes_a_turn(self, data: st.DataObject) -> None:
        """As a chat does: read the newest, go on from it."""
        who = self._who(data)
        workflow = self._workflow(data, who, None)
        latest = self._latest(who, workflow)
        self._save([(who, self._new(data, who, latest.name if latest else None))])

    @precondition(lambda self: self._saved())
    @rule(data=st.data())
    def resumes(self, data: st.DataObject) -> None:
        who = self._who(data)
        name = self._any_name(data)
        if self._load(who, name) is not None:
            self._save([(who, self._new(data, who, name))])

    @precondition(lambda self: self._saved())
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        who = self._who(data)
        self._save([(who, self._again(data, who))])

    @precondition(lambda self: self._saved())
    @rule(
        data=st.data(),
        cut=st.sampled_from(["before", "after"]),
        hangs=st.booleans(),
        then=st.sampled_from(["nothing", "tries again", "goes on"]),
    )
    def loses_the_answer(self, data: st.DataObject, cut: Cut, hangs: bool, then: str) -> None:
        who = self._who(data)
        kind = data.draw(st.sampled_from(["a turn", "any", "again"]), "what")
        if kind == "again":
            checkpoint = self._again(data, who)
        else:
            latest = self._latest(who, self._workflow(data, who, None)) if kind == "a turn" else None
            checkpoint = self._new(data, who, latest.name if latest else self._any_name(data))
        self._save([(who, checkpoint)], cut, hangs)
        if then == "tries again":
            self._save([(who, checkpoint)])
        elif then == "goes on":
            self._save([(who, self._new(data, who, checkpoint.name))])

    @precondition(lambda self: self._saved())
    @rule(data=st.data())
    def is_carried_over(self, data: st.DataObject) -> None:
        """A checkpoint gets the name of another workflow too, and somebody else goes on from one of the two."""
        (stream, _), entry = data.draw(st.sampled_from(self._saved()), "carried over")
        [other] = [workflow for workflow in WORKFLOWS if workflow != stream.workflow_name]
        unbound = [next(iter(process.readers)) for process in self.processes]
        first, second = data.draw(st.permutations(unbound), "through")[:2]
        self._save([(first, self._checkpoint(other, entry.name))])
        self._save([(second, self._new(data, second, entry.name))])

    @rule(data=st.data(), how_many=st.integers(2, 3), same=st.booleans(), forked=st.booleans(), seed=st.integers(0, 99))
    def side_by_side(self, data: st.DataObject, how_many: int, same: bool, forked: bool, seed: int) -> None:
        """Steps of one execution, or of several, that save at once."""
        self.gate.random.seed(seed)
        first = self._who(data)
        parent = self._any_name(data) if self.parents and forked else None
        saves: list[tuple[str, Checkpoint]] = []
        for _ in range(how_many if same else 2):
            who = first if same else self._who(data)
            known = self._saved() and data.draw(st.integers(0, 4), "again") == 4
            saves.append((who, self._again(data, who) if known else self._new(data, who, parent)))
        self._save(saves)

    def _save(self, saves: list[tuple[str, Checkpoint]], cut: Cut = None, hangs: bool = False) -> None:
        outcomes = self.run(self._saves(saves, cut, hangs))
        note(f"{saves} {cut or ''}: {outcomes}")
        what = f"{saves} gave {outcomes}"
        there = read_as(self.run(self._headers()))

        def holds(world: World) -> bool:
            return all(there.get(stream, {}).items() >= dict(world.there(stream)).items() for stream in world.log)

        seen = Saves(tuple(saves), outcomes, holds, cut)
        worlds = [after for world in self.worlds for after in side_by_side(world, seen)]
        if not worlds:  # say what the model would have
            worlds = [after for world in self.worlds for after in side_by_side(world, seen._replace(holds=bool))]
        self._follow(what, worlds)
        for _, checkpoint in saves:
            self.run(self._look(checkpoint.name))

    async def _saves(self, saves: list[tuple[str, Checkpoint]], cut: Cut, hangs: bool) -> tuple[Outcome, ...]:
        if cut is None:
            return tuple(await asyncio.gather(*(self._outcome(*save) for save in saves)))
        store = self._readers()[saves[0][0]][0].store
        store.cut, store.hangs, store.reached = cut, hangs, asyncio.Event()
        saving = asyncio.ensure_future(self._outcome(*saves[0]))
        reached = asyncio.ensure_future(store.reached.wait())
        await asyncio.wait({saving, reached}, return_when=asyncio.FIRST_COMPLETED)
        if hangs and store.reached.is_set():
            saving.cancel()
        reached.cancel()
        await asyncio.wait({saving, reached})
        store.cut = None
        return ("cut" if saving.cancelled() else saving.result(),)

    async def _outcome(self, who: str, checkpoint: Checkpoint) -> Outcome:
        try:
            await self._readers()[who][1].save(self._real(checkpoint))
        except CheckpointConflictError:
            return "conflict"
        except CheckpointStoreError as error:
            if "The answer was lost." not in str(error):
                raise
            return "cut"
        return "saved"

    # Reads

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def loads(self, data: st.DataObject) -> None:
        self._load(self._who(data), self._any_name(data, "not in the store"))

    @rule(data=st.data())
    def gets_latest(self, data: st.DataObject) -> None:
        who = self._who(data)
        self._latest(who, self._workflow(data, who, None))

    @rule(data=st.data())
    def lists(self, data: st.DataObject) -> None:
        who = self._who(data)
        workflow = self._workflow(data, who, None)
        through = self._readers()[who][1]
        ids = self.run(through.list_checkpoint_ids(workflow_name=workflow))
        whole = self.run(through.list_checkpoints(workflow_name=workflow))
        assert [each.checkpoint_id for each in whole] == ids
        self._narrow(
            f"{who} lists {ids} of {workflow}", lambda world: sorted(listed(world, who, workflow)) == sorted(ids)
        )
        if self.by_commit or self.worlds[0].readers[who].home:
            self._narrow(f"{who} lists {ids} in order", lambda world: listed(world, who, workflow) == ids)

    def _load(self, who: str, name: str) -> Checkpoint | None:
        loaded = self.run(loaded_by(self._readers()[who][1], name))
        self._narrow(f"{who} loads {name}: {loaded}", lambda world: shown(world, world.locate(who, name)) == loaded)
        self._follow(f"{who} loads {name}", (world.loaded(who, world.locate(who, name)) for world in self.worlds))
        return loaded and Checkpoint(*loaded[:2], self.parents[name], loaded[2])

    def _latest(self, who: str, workflow: str) -> Checkpoint | None:
        found = self.run(self._readers()[who][1].get_latest(workflow_name=workflow))
        got = found and (found.workflow_name, found.checkpoint_id, found.iteration_count)
        self._follow(
            f"{who} gets {got} as the latest of {workflow}",
            (
                world.got_latest(who, at)
                for world in self.worlds
                for at in self._latest_in(world, who, workflow)
                if shown(world, at) == got
            ),
        )
        return got and Checkpoint(got[0], got[1], self.parents[got[1]], got[2])

    def _latest_in(self, world: World, who: str, workflow: str) -> list[At | None]:
        """What `get_latest` may give. Without an order of commits over runs, equal timestamps leave a choice. A record
        that closed a run before it was begun again has no say in how new that is."""
        home = world.readers[who].home
        if home is not None:
            return [*world.live(home)[-1:]] or [None]
        last = [live[-1] for stream in world.log if stream.workflow_name == workflow and (live := world.live(stream))]
        if self.by_commit:
            return [max(last, key=world.stamps.__getitem__, default=None)]
        newest = {
            at: max(each.timestamp for seq, each in self.seen[at[0]].items() if seq <= at[1] and not each.closes)
            for at in last
        }
        return [at for at in last if newest[at] == max(newest.values())] or [None]

    # What else happens to a store

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def deletes(self, data: st.DataObject) -> None:
        who, name = self._who(data), self._any_name(data, "not in the store")
        there = self.run(self._readers()[who][1].delete(name))
        self._narrow(f"{who} deletes {name}: {there}", lambda world: (world.locate(who, name) is not None) is there)
        self._follow(f"{who} deletes {name}", (world.deleted(who, world.locate(who, name)) for world in self.worlds))

    @precondition(lambda self: self._saved())
    @rule(data=st.data())
    def is_forked_by_an_audit(self, data: st.DataObject) -> None:
        at, origin = data.draw(st.sampled_from(self._saved()), "origin")
        run = data.draw(st.sampled_from([f"fork-{len(self.parents)}", *RUNS]), "run")
        [event] = self.run(self.store.read(*at))
        try:
            made = self.run(self.audit.fork(event, run))
        except CheckpointConflictError:
            assert StreamId(at[0].workflow_name, run) in self.seen
            return
        name = made.checkpoint_id
        self.parents[name], self.moments[name] = origin.name, made.timestamp
        self.made_by_audit.add(name)
        for world in self.worlds:
            world.append(made.stream, Entry("checkpoint", name, origin.content, at))
        self._follow(f"a fork of {at}", self.worlds)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), keep=st.integers(1, 2))
    def is_pruned(self, data: st.DataObject, keep: int) -> None:
        stream = data.draw(st.sampled_from(list(self.seen)), "run")
        self.run(self._prune(stream, keep))

    async def _prune(self, stream: StreamId, keep: int) -> None:
        [plan] = [plan async for plan in self.audit.plan_prune([stream], keep=keep)]
        if not plan.seqs:
            return
        await self.audit.prune(plan)
        for world in self.worlds:
            world.append(stream, Entry("tombstone", ""))
            world.gone |= {(stream, seq) for seq in plan.seqs}
        await self._compare(f"a prune of {plan.seqs}", self.worlds)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def is_removed(self, data: st.DataObject) -> None:
        """As a whole, by somebody else. Who begins it again may have seen it before."""
        stream = data.draw(st.sampled_from(list(self.seen)), "run")
        [state] = self.run(self._remove(stream))
        assert state == ("removed before" if self.worlds[0].is_closed(stream) else "removed")
        if state == "removed":
            self._follow(f"{stream} is removed", (world.removed(stream) for world in self.worlds))

    async def _remove(self, stream: StreamId) -> list[str]:
        runs = remove_runs(self.store, each_of([stream]), actor=None, force=True)
        return [each.state async for each in runs]

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def is_annotated(self, data: st.DataObject) -> None:
        """Something is said about a run: by somebody else, or through a handle on it or on a fork of it."""
        handles = [who for who, reader in self.worlds[0].readers.items() if reader.home is not None]
        who = data.draw(st.sampled_from(["somebody else", *handles]), "by")
        changes = data.draw(st.sampled_from([{"outcome": "failed"}, {"tags": {"customer": "c-17"}}]), "what")
        if who == "somebody else":
            run = data.draw(st.sampled_from(list(self.seen)), "run")
            if self.worlds[0].is_closed(run):
                with pytest.raises(RunNotFoundError):
                    self.run(self.audit.annotate(run, **changes))
                return
            self.run(self.audit.annotate(run, **changes))
            self._follow(f"{run} is annotated", (world.annotated(None, run) for world in self.worlds))
            return
        through = self._readers()[who][1]
        assert isinstance(through, RunCheckpointStorage)
        run = StreamId(through.workflow_name or "", through.forked_to or through.run_id)
        if run in self.seen and not self.worlds[0].is_closed(run):
            self.run(through.annotate(**changes))
            self._follow(f"{who} annotates {run}", (world.annotated(who, run) for world in self.worlds))
        else:
            with pytest.raises(RunNotFoundError):
                self.run(through.annotate(**changes))

    @rule(data=st.data())
    def a_handle_is_made(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.processes), "process")
        if len(process.readers) > 4:
            self._forget(process, list(process.readers)[1])
        self._bind(process, data.draw(st.sampled_from(self._runs()), "run"))

    @rule(data=st.data())
    def restarts(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.processes) - 1), "process")
        old = self.processes[index]
        self.run(old.storage.close())
        self.run(old.store.close())
        for number in list(old.readers):
            self._forget(old, number)
        self.processes[index] = self._process(old.on_conflict, old.forgetful)

    def _forget(self, process: Process, number: str) -> None:
        del process.readers[number]
        for world in self.worlds:
            del world.readers[number]

    # Comparing

    def _follow(self, what: str, worlds: Iterable[World]) -> None:
        self.run(self._compare(what, list(worlds)))

    async def _compare(self, what: str, worlds: list[World]) -> None:
        """Keep the worlds whose log is that of the store."""
        before, self.seen = self.seen, await self._headers()
        await self._check_new(before)
        self.worlds = worlds
        self._narrow(f"{what}; the store holds {drawn(self.seen)}", lambda world: logged(world) == read_as(self.seen))
        await self._order(before)
        for world in self.worlds:
            world.stamps = self.stamps
        readers = self._readers()
        for number, (_, through) in readers.items():
            if isinstance(through, RunCheckpointStorage):
                to = through.forked_to
                self._narrow(f"{what}; {number} forked to {to}", lambda world: world.readers[number].forked_to == to)  # noqa: B023 - called at once
        for world in self.worlds:
            world.tidy()
        self.worlds = list({world.known(): world for world in self.worlds}.values())
        assert len(self.worlds) < 1_000, "too many worlds to tell apart: the model allows too much"

    def _narrow(self, what: str, holds: Callable[[World], bool]) -> None:
        """Keep the worlds of which something that was seen is true."""
        left = [world for world in self.worlds if holds(world)]
        assert left, f"{what}\nThe model allows\n" + "\n".join(sorted({str(drawn_log(world)) for world in self.worlds}))
        self.worlds = left

    async def _headers(self) -> dict[StreamId, dict[int, CheckpointEvent]]:
        found: dict[StreamId, dict[int, CheckpointEvent]] = {}
        for workflow in WORKFLOWS:
            async for header in self.store.workflow_headers(workflow):
                assert header.seq not in found.setdefault(header.stream, {}), f"{header.named()} is there twice"
                found[header.stream][header.seq] = header
        order = [*self.seen, *sorted(stream for stream in found if stream not in self.seen)]
        return {stream: dict(sorted(found[stream].items())) for stream in order}

    async def _order(self, before: dict[StreamId, dict[int, CheckpointEvent]]) -> None:
        """What orders events over all runs: their commits or, where a store does not keep that order, their times."""
        new = [at for at in places(self.seen) if at[1] not in before.get(at[0], {})]
        if not self.by_commit:
            self.stamps |= {at: (self.seen[at[0]][at[1]].recorded_at, at[0].run_id, at[0].workflow_name) for at in new}
        elif new:
            unmet = set(new)
            async with aclosing(self.store.follow(last=len(new) + 1)) as headers:  # one may tell of a removal
                while unmet:
                    header = await anext(headers)
                    if (at := (header.stream, header.seq)) in unmet:
                        unmet.remove(at)
                        self.stamps[at] = (f"{len(self.stamps):09}",)

    async def _check_new(self, before: dict[StreamId, dict[int, CheckpointEvent]]) -> None:
        """No event that was there is another one now, and each new one is whole and follows the one before."""
        for stream, headers in self.seen.items():
            old = before.get(stream, {})
            assert all(headers[seq] == header for seq, header in old.items() if seq in headers)
            fresh = [seq for seq in headers if seq not in old]
            for event in await self.store.read(stream, *fresh):
                self.digests[stream, event.seq] = event.digest
                assert not flaw_of(event), flaw_of(event)
        for stream, headers in self.seen.items():
            for seq, header in headers.items():
                if seq not in before.get(stream, {}):
                    assert header.previous_digest == self._digest_before(header), f"{header.named()} follows another"

    def _digest_before(self, header: CheckpointEvent) -> str:
        if header.forked_from is not None:
            point = header.forked_from
            return self.digests.get((StreamId(point.workflow_name, point.run_id), point.seq), "")
        return self.digests.get((header.stream, header.seq - 1), "")

    async def _look(self, name: str) -> None:
        """Somebody who has just come finds the newest of this checkpoint, and each run's newest."""
        someone = EventCheckpointStorage(self.store)
        loaded = await loaded_by(someone, name)
        self._narrow(
            f"a fresh storage loads {name}: {loaded}",
            lambda world: shown(world, world.anywhere(name, live=True)) == loaded,
        )
        for stream in self.seen:
            if any(header.checkpoint_id == name for header in self.seen[stream].values()):
                handle = someone.for_run(stream.run_id, workflow_name=stream.workflow_name)
                latest = await handle.get_latest(workflow_name=stream.workflow_name)
                got = latest and (latest.workflow_name, latest.checkpoint_id, latest.iteration_count)
                self._narrow(
                    f"a fresh handle gets {got} as the latest of {stream}",
                    lambda world: shown(world, next(reversed(world.live(stream)), None)) == got,  # noqa: B023 - at once
                )


@contextmanager
def forgetting(small: bool) -> Iterator[None]:
    """What is made inside remembers one thing of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr("eventckpt.storage.checkpoint_storage.Memory", lambda: Memory(1))
        yield
