"""Where a save goes, as docs/semantics.md says it, without a store: the model that tests/test_placement_machine.py
compares the storages with.

A `World` is the log as it must be and what each writer knows. Where the rules leave a choice, or where nobody can see
from outside what happened (a memory that forgot, saves side by side), a step gives several worlds; what the store then
holds says which of them are left, and there must be one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

from eventckpt import StreamId

__all__ = ["Checkpoint", "Cut", "Entry", "Outcome", "Reader", "Saves", "World", "side_by_side"]

Cut: TypeAlias = Literal["before", "after"] | None
"""Where a save loses its store: before its event is committed, or after."""

Outcome: TypeAlias = Literal["saved", "conflict", "cut"]

At: TypeAlias = tuple[StreamId, int]
"""The place of an event."""


class Checkpoint(NamedTuple):
    """What is saved."""

    workflow: str
    name: str
    parent: str | None
    content: int


class Entry(NamedTuple):
    """An event as the log must have it."""

    kind: Literal["checkpoint", "tombstone"]
    name: str
    content: int = 0
    forked_from: At | None = None


@dataclass
class Position:
    """One execution: the run that it writes, and the head of that run as it saw it."""

    run: StreamId
    seen: int = 0
    wrote_it: bool = False
    """Whether that head is its own event."""
    unanswered: frozenset[At] = frozenset()
    """Its appends whose answer it never got."""


@dataclass
class Reader:
    """What saves and loads: a handle on a run, or, without a `home`, a storage that is used directly."""

    raises: bool
    """on_conflict="raise"."""
    forgetful: bool
    home: StreamId | None = None
    executions: dict[int, Position] = field(default_factory=dict)
    """Of a handle one, number 0."""
    met: dict[tuple[StreamId | str, str], At] = field(default_factory=dict)
    """Where checkpoints lie that it saved or loaded: of a handle by run, else by workflow."""
    followers: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """Unbound: the executions that go on from a checkpoint, the next first."""
    loaded: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether they loaded it, and no save has followed yet."""

    def copy(self) -> Reader:
        return replace(
            self,
            executions={key: replace(each) for key, each in self.executions.items()},
            met=dict(self.met),
            followers=dict(self.followers),
            loaded=dict(self.loaded),
        )

    @property
    def forked_to(self) -> str | None:
        run = self.executions[0].run
        return None if run == self.home else run.run_id

    def begin(self, run: StreamId, seen: int) -> int:
        """A new execution."""
        number = max(self.executions, default=-1) + 1
        self.executions[number] = Position(run, seen)
        return number

    def goes_on(self, key: tuple[str, str], executions: tuple[int, ...], at: At, *, loaded: bool) -> None:
        """These executions go on from a checkpoint."""
        if self.forgetful:
            self.met, self.followers, self.loaded = {}, {}, {}
        self.met[key], self.followers[key], self.loaded[key] = at, executions, loaded


class Plan(NamedTuple):
    """A save between its look at the store and its append."""

    execution: int
    known: bool = False
    """Whether this reader saved or loaded the checkpoint itself, in the run that it writes."""
    looks: Literal["must", "may"] = "may"
    """Whether it finds a checkpoint that another process saved long ago."""
    origins: tuple[At | None, ...] = (None,)
    """Of a run that begins: what it may have forked from."""


@dataclass
class World:
    """The log as it must be, and what its readers know."""

    by_commit: bool = True
    """Whether the store orders commits over all runs."""
    log: dict[StreamId, tuple[Entry, ...]] = field(default_factory=dict)
    gone: frozenset[At] = frozenset()
    """Events that were pruned."""
    stamps: dict[At, tuple[str, ...]] = field(default_factory=dict)
    """What orders events over all runs."""
    readers: dict[str, Reader] = field(default_factory=dict)

    def copy(self, who: str | None = None) -> World:
        """Another world like this one, in which `who` may learn something."""
        readers = dict(self.readers)
        if who is not None:
            readers[who] = readers[who].copy()
        return replace(self, log=dict(self.log), readers=readers)

    # The log

    def head(self, stream: StreamId) -> int:
        return len(self.log.get(stream, ()))

    def entry(self, at: At) -> Entry:
        return self.log[at[0]][at[1] - 1]

    def append(self, stream: StreamId, entry: Entry) -> At:
        self.log[stream] = (*self.log.get(stream, ()), entry)
        at = (stream, self.head(stream))
        self.stamps = {**self.stamps, at: (f"~{len(self.stamps):09}",)}  # "~" sorts after every moment
        return at

    def there(self, stream: StreamId) -> Iterator[tuple[int, Entry]]:
        """The events of a run that are not pruned, the newest first."""
        for seq in range(self.head(stream), 0, -1):
            if (stream, seq) not in self.gone:
                yield seq, self.entry((stream, seq))

    def newest(self, stream: StreamId, name: str) -> At | None:
        """The newest event of a checkpoint in a run."""
        return next(((stream, seq) for seq, entry in self.there(stream) if entry.name == name), None)

    def live(self, stream: StreamId) -> list[At]:
        """The live checkpoints of a run in the order of their commits."""
        newest: dict[str, At] = {}
        for seq, entry in self.there(stream):
            newest.setdefault(entry.name, (stream, seq))
        return [at for at in reversed(newest.values()) if self.entry(at).kind == "checkpoint"]

    def anywhere(self, name: str, workflow: str | None = None, *, live: bool = False) -> At | None:
        """The event of a checkpoint that counts over all runs: of the live ones the last, then of the others."""
        found = [
            at for stream in self.log if workflow in (None, stream.workflow_name) and (at := self.newest(stream, name))
        ]
        alive = [at for at in found if self.entry(at).kind == "checkpoint"]
        return max(alive or ([] if live else found), key=self.stamps.__getitem__, default=None)

    def holds(self, at: At | None, checkpoint: Checkpoint) -> bool:
        return at is not None and self.entry(at)[:3] == ("checkpoint", checkpoint.name, checkpoint.content)

    # Reads

    def locate(self, who: str, name: str) -> At | None:
        """The live checkpoint that `load` and `delete` mean."""
        home = self.readers[who].home
        here = self.newest(home, name) if home else None
        if here is not None and self.entry(here).kind == "checkpoint":
            return here
        return self.anywhere(name, live=True)

    def loaded(self, who: str, at: At | None) -> World:
        """A reader asked for a checkpoint by its id, and got the one at `at`."""
        if at is None:
            return self
        world = self.copy(who)
        reader, name = world.readers[who], self.entry(at).name
        if reader.home is not None:
            world.reads_home(who)
            reader.met[at[0], name] = at
            return world
        key = (at[0].workflow_name, name)
        others = reader.followers[key] if reader.loaded.get(key) else ()
        reader.goes_on(key, (*others, reader.begin(at[0], self.head(at[0]))), at, loaded=True)
        return world

    def got_latest(self, who: str, at: At | None) -> World:
        """A reader asked for the newest checkpoint, and got the one at `at`."""
        world = self.copy(who)
        reader = world.readers[who]
        if reader.home is not None:
            world.reads_home(who)
            if at is not None:
                reader.met[at[0], self.entry(at).name] = at
        elif at is not None:
            key = (at[0].workflow_name, self.entry(at).name)
            followers = reader.followers.get(key, ())
            if followers and reader.executions[followers[-1]].run == at[0]:
                told = reader.executions[followers[-1]]
                told.seen, told.wrote_it = self.head(at[0]), False
                reader.goes_on(key, followers, at, loaded=reader.loaded[key])
            else:
                reader.goes_on(key, (reader.begin(at[0], self.head(at[0])),), at, loaded=False)
        return world

    def reads_home(self, who: str) -> None:
        reader = self.readers[who]
        assert reader.home is not None
        own = reader.executions[0]
        own.run, own.seen, own.wrote_it = reader.home, self.head(reader.home), False

    # Saves

    def planned(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        """A save looks where its checkpoint goes. With a memory that forgets, it may know less than it did."""
        plans = self._planned(who, checkpoint)
        reader = self.readers[who]
        if reader.forgetful:
            for names in ({checkpoint.name}, {checkpoint.parent}, {checkpoint.name, checkpoint.parent}):
                forgetting = self.copy(who)
                less = forgetting.readers[who]
                less.met = {key: at for key, at in reader.met.items() if key[1] not in names}
                less.followers = {key: each for key, each in reader.followers.items() if key[1] not in names}
                for world, plan in forgetting._planned(who, checkpoint):
                    knows = world.readers[who]
                    if knows.home:
                        knows.met = reader.met | knows.met  # it may come across it again
                    plans.append((world, plan))
        return list({(repr(world.readers[who]), plan): (world, plan) for world, plan in plans}.values())

    def _planned(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        return self._bound(who, checkpoint) if self.readers[who].home else self._unbound(who, checkpoint)

    def _bound(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        world = self.copy(who)
        reader = world.readers[who]
        own = reader.executions[0]
        if (own.run, checkpoint.name) in reader.met:
            return [(world, Plan(0, known=True))]
        if own.seen == 0 and checkpoint.parent is not None:
            known = [at for (_, name), at in reader.met.items() if name == checkpoint.parent]
            here = world.newest(own.run, checkpoint.parent)
            if not known and here is None:
                known = world._origins(checkpoint)
            if known:
                return [(world, Plan(0, origins=tuple(known)))]
            if here is not None:
                world.reads_home(who)
        return [(world, Plan(0, looks=world._looks(own, checkpoint)))]

    def _unbound(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        world = self.copy(who)
        reader = world.readers[who]
        workflow, name, parent = checkpoint.workflow, checkpoint.name, checkpoint.parent
        own = reader.followers.get((workflow, name))
        if own:
            return [(world, Plan(number, known=True)) for number in sorted(set(own))]
        if parent is None:
            return [(world, Plan(reader.begin(StreamId(workflow, name), 0)))]
        followers = reader.followers.get((workflow, parent))
        if followers:
            number, *others = followers
            reader.followers[workflow, parent] = tuple(others) or (number,)
            if not others:
                reader.loaded[workflow, parent] = False
            return [(world, Plan(number))]
        found = world.anywhere(parent, workflow)
        if found is not None:
            number = reader.begin(found[0], world.head(found[0]))
            reader.goes_on((workflow, parent), (number,), found, loaded=False)
            return [(world, Plan(number, looks=world._looks(reader.executions[number], checkpoint)))]
        origins = tuple(world._origins(checkpoint)) or (None,)
        return [(world, Plan(reader.begin(StreamId(workflow, name), 0), origins=origins))]

    def _looks(self, execution: Position, checkpoint: Checkpoint) -> Literal["must", "may"]:
        """Whether one that was never met is looked for: behind a head that was read, unless that is its parent."""
        if execution.seen == 0 or execution.wrote_it:
            return "may"
        return "may" if self.log[execution.run][execution.seen - 1].name == checkpoint.parent else "must"

    def _origins(self, checkpoint: Checkpoint, *runs: StreamId) -> list[At]:
        """The events of its parent that a fork may begin from."""
        if checkpoint.parent is None:
            return []
        found = [self.newest(run, checkpoint.parent) for run in runs]
        found += [self.anywhere(checkpoint.parent, workflow) for workflow in (checkpoint.workflow, None)]
        return list(dict.fromkeys(at for at in found if at is not None))

    def committed(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        """The rest of the save."""
        execution = self.readers[who].executions[plan.execution]
        there = self.newest(execution.run, checkpoint.name)
        if not execution.seen or not self.holds(there, checkpoint):
            return self._appended(who, checkpoint, plan, cut)
        assert there is not None
        if plan.known:
            return [(self.copy(), "saved")]
        repeated = [(self.copy(), "saved"), (self._met(who, checkpoint, plan, there, moves=False), "saved")]
        repeated.append((self._met(who, checkpoint, plan, there), "saved"))
        return repeated if plan.looks == "must" else repeated + self._appended(who, checkpoint, plan, cut)

    def _appended(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        if cut == "before":
            return [(self.copy(), "cut")]
        reader = self.readers[who]
        execution = reader.executions[plan.execution]
        run, seen = execution.run, execution.seen
        since = [(run, seq) for seq in range(seen + 1, self.head(run) + 1)]
        again = next(
            (at for at in reversed(since) if self.entry(at).name == checkpoint.name and at not in self.gone), None
        )
        if self.holds(again, checkpoint):
            assert again is not None
            return [(self._met(who, checkpoint, plan, again), "saved")]
        if again is None and any(self._is_foreign(at, execution) for at in since):
            if reader.raises:
                return [(self.copy(), "conflict")]
            return self._forked(who, checkpoint, plan, cut)
        origins = plan.origins if not since else (None,)
        return [self._written(who, checkpoint, plan, run, origin, cut) for origin in origins]

    def _is_foreign(self, at: At, execution: Position) -> bool:
        """Whether another writer wrote it; what is pruned is not there to be judged."""
        return at not in self.gone and self.entry(at).kind == "checkpoint" and at not in execution.unanswered

    def _forked(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        reader = self.readers[who]
        run = reader.executions[plan.execution].run
        for mark in (checkpoint.name[:8], checkpoint.name):
            fork = StreamId(run.workflow_name, f"{run.run_id}~{mark}")
            there = self.newest(fork, checkpoint.name)
            if self.holds(there, checkpoint):
                assert there is not None
                return [(self._met(who, checkpoint, plan, there), "saved")]
            if not self.head(fork):
                known = [at for (_, name), at in reader.met.items() if name == checkpoint.parent]
                homes = (run, reader.home) if reader.home else (run,)
                origins = list(dict.fromkeys([*known, *self._origins(checkpoint, *homes)]))
                return [
                    self._written(who, checkpoint, plan, fork, origin, cut)
                    for origin in origins or [(home, 0) for home in dict.fromkeys(homes)]
                ]
        return [(self.copy(), "conflict")]

    def _written(
        self, who: str, checkpoint: Checkpoint, plan: Plan, run: StreamId, origin: At | None, cut: Cut
    ) -> tuple[World, Outcome]:
        world = self.copy(who)
        at = world.append(run, Entry("checkpoint", checkpoint.name, checkpoint.content, origin))
        if cut is None:
            return world._met(who, checkpoint, plan, at), "saved"
        execution = world.readers[who].executions[plan.execution]
        execution.unanswered |= {at}
        return world, "cut"

    def _met(self, who: str, checkpoint: Checkpoint, plan: Plan, at: At, *, moves: bool = True) -> World:
        """The reader has the answer: its checkpoint lies at `at`."""
        world = self.copy(who)
        reader = world.readers[who]
        execution = reader.executions[plan.execution]
        if moves:
            execution.run, execution.seen, execution.wrote_it = at[0], at[1], True
        if reader.home is None:
            reader.goes_on((checkpoint.workflow, checkpoint.name), (plan.execution,), at, loaded=False)
        else:
            reader.met[at[0], checkpoint.name] = at
        return world

    # Comparing

    def known(self) -> str:
        """Everything that a later step may depend on, the same text for worlds that cannot be told apart."""
        ranked = sorted(self.stamps, key=self.stamps.__getitem__)
        return repr((sorted(self.log.items()), sorted(self.gone), ranked, sorted(self.readers.items())))

    def tidy(self) -> None:
        """Drop executions that nobody can go on with, and number the others alike in worlds that are alike."""
        for reader in self.readers.values():
            reader.met = dict(sorted(reader.met.items(), key=repr))
            if reader.home is not None:
                continue
            reader.followers = dict(sorted(reader.followers.items()))
            reader.loaded = dict(sorted(reader.loaded.items()))
            numbers = {
                number: at
                for at, number in enumerate(dict.fromkeys(n for each in reader.followers.values() for n in each))
            }
            reader.executions = {numbers[number]: reader.executions[number] for number in numbers}
            reader.followers = {key: tuple(numbers[n] for n in each) for key, each in reader.followers.items()}

    # Other changes

    def deleted(self, who: str, at: At | None) -> World:
        """A reader deleted the checkpoint at `at`."""
        if at is None:
            return self
        world = self.copy(who)
        written = world.append(at[0], Entry("tombstone", self.entry(at).name))
        for execution in world.readers[who].executions.values():
            if (execution.run, execution.seen) == (at[0], written[1] - 1):
                execution.seen, execution.wrote_it = written[1], True
        return world


class Saves(NamedTuple):
    """Saves at once, and what was seen of them."""

    saves: tuple[tuple[str, Checkpoint], ...]
    outcomes: tuple[Outcome, ...]
    holds: Callable[[World], bool]
    """Whether the store holds what a world has in its log."""
    cut: Cut = None


def side_by_side(world: World, seen: Saves) -> Iterator[World]:
    """The worlds that saves at once may have led to: each looks, then appends, and those of one handle take turns."""
    yield from _schedules(world, seen, (None,) * len(seen.saves), frozenset())


def _schedules(world: World, seen: Saves, plans: tuple[Plan | None, ...], done: frozenset[int]) -> Iterator[World]:
    if len(done) == len(plans):
        yield world
    for index, (who, checkpoint) in enumerate(seen.saves):
        plan = plans[index]
        if index in done:
            continue
        if plan is not None:
            for after, outcome in world.committed(who, checkpoint, plan, seen.cut):
                if outcome == seen.outcomes[index] and seen.holds(after):
                    yield from _schedules(after, seen, plans, done | {index})
        elif not world.readers[who].home or not any(
            plans[at] and at not in done for at, (other, _) in enumerate(seen.saves) if other == who
        ):
            for after, found in world.planned(who, checkpoint):
                yield from _schedules(after, seen, (*plans[:index], found, *plans[index + 1 :]), done)
