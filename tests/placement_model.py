"""Where a save goes, as docs/semantics.md says it, without a store: the model that tests/test_placement_machine.py
compares the storages with.

A `World` is the log as it must be and what each writer knows. Where the rules leave a choice, or where nobody can see
from outside what happened (a memory that forgot, saves side by side), a step gives several worlds; what the store then
holds says which of them are left, and there must be one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

    runs: tuple[StreamId, ...]
    """The run that it is meant for, and each fork that a conflict led it to since."""
    seen: int = 0
    has_read: bool = False
    """Whether its run was read at all; a run that was read may have had no event."""
    wrote_it: bool = False
    """Whether that head is its own event."""
    sent: frozenset[At] = frozenset()
    """Its appends whose answer it never got."""
    began: At | None = None
    """The first event of a fork, of which it never heard."""

    @property
    def run(self) -> StreamId:
        """The one that it writes."""
        return self.runs[-1]


@dataclass
class Reader:
    """What saves and loads: a handle on a run, or, without a `home`, a storage that is used directly."""

    process: int
    raises: bool
    """on_conflict="raise"."""
    forgetful: bool
    home: StreamId | None = None
    executions: dict[int, Position] = field(default_factory=dict)
    """Of a handle one, number 0."""
    followers: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """Unbound: the executions that go on from a checkpoint, the next first."""
    loaded: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether they loaded it, and no save has followed yet."""

    def copy(self) -> Reader:
        return replace(
            self,
            executions={key: replace(each) for key, each in self.executions.items()},
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
        self.executions[number] = Position((run,), seen, has_read=seen > 0)
        return number

    def goes_on(self, key: tuple[str, str], executions: tuple[int, ...], *, loaded: bool) -> None:
        """These executions go on from a checkpoint."""
        if self.forgetful:
            self.followers, self.loaded = {}, {}
        self.followers[key], self.loaded[key] = executions, loaded


class Note(NamedTuple):
    """A checkpoint that a process met."""

    at: At
    head: int
    """The head of its run then."""


class Plan(NamedTuple):
    """A save between its look at the store and its append."""

    execution: int
    known: StreamId | None = None
    """Where its process has met the checkpoint: the run that it writes, or one that it forked from."""
    looks: Literal["must", "may"] = "may"
    """Whether it finds a checkpoint that another process saved long ago."""
    has_retried: bool = False
    """Whether its first append was refused, and it goes on behind an older version of its checkpoint."""
    origins: tuple[At | None, ...] = (None,)
    """Of a run that begins: what it may have forked from."""
    parent: At | None = None
    """The event of the checkpoint before it, as it was found."""


@dataclass
class World:
    """The log as it must be, and what its readers know."""

    log: dict[StreamId, tuple[Entry, ...]] = field(default_factory=dict)
    gone: frozenset[At] = frozenset()
    """Events that were pruned."""
    stamps: dict[At, tuple[str, ...]] = field(default_factory=dict)
    """What orders events over all runs."""
    readers: dict[str, Reader] = field(default_factory=dict)
    unanswered: frozenset[tuple[int, At]] = frozenset()
    """Appends of each process whose answer it never got."""
    notes: dict[tuple[int, StreamId, str], Note] = field(default_factory=dict)
    """What a process met, by run."""

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

    def note(self, who: str, at: At, head: int | None = None) -> None:
        """The process of `who` has met the checkpoint at `at`, when `head` was the head of its run; else now."""
        key = (self.readers[who].process, at[0], self.entry(at).name)
        self.notes = {**self.notes, key: Note(at, self.head(at[0]) if head is None else head)}

    def noted(self, who: str, runs: Iterable[StreamId], name: str | None) -> Note | None:
        """What the process of `who` knows of a checkpoint in the first of these runs where it met it."""
        keys = ((self.readers[who].process, run, name or "") for run in runs)
        return next((self.notes[key] for key in keys if key in self.notes), None)

    # Reads

    def locate(self, who: str, name: str) -> At | None:
        """The live checkpoint that `load` and `delete` mean."""
        home = self.readers[who].home
        here = self.newest(home, name) if home else None
        if here is not None:
            return here if self.entry(here).kind == "checkpoint" else None
        return self.anywhere(name, live=True)

    def loaded(self, who: str, at: At | None) -> World:
        """A reader asked for a checkpoint by its id, and got the one at `at`."""
        if at is None:
            return self
        world = self.copy(who)
        reader = world.readers[who]
        world.note(who, at)
        world.unanswered -= {(reader.process, at)}
        if reader.home is not None:
            world.reads_home(who)
            return world
        world._begins_after(who, at)
        return world

    def _begins_after(self, who: str, at: At) -> None:
        """An execution of an unbound storage begins, which goes on from the checkpoint at `at`."""
        reader, key = self.readers[who], (at[0].workflow_name, self.entry(at).name)
        others = reader.followers[key] if reader.loaded.get(key) else ()
        reader.goes_on(key, (*others, reader.begin(at[0], self.head(at[0]))), loaded=True)

    def got_latest(self, who: str, at: At | None) -> World:
        """A reader asked for the newest checkpoint, and got the one at `at`."""
        world = self.copy(who)
        reader = world.readers[who]
        if reader.home is not None:
            world.reads_home(who)
        elif at is not None:
            world._begins_after(who, at)
        if at is not None:
            world.note(who, at)
            world.unanswered -= {(reader.process, at)}
        return world

    def reads_home(self, who: str) -> None:
        reader = self.readers[who]
        assert reader.home is not None
        own = reader.executions[0]
        own.runs, own.seen, own.wrote_it, own.has_read = (reader.home,), self.head(reader.home), False, True
        own.began = None

    # Saves

    def planned(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        """A save looks where its checkpoint goes. With a memory that forgets, it may know less than it did."""
        plans = self._planned(who, checkpoint)
        reader = self.readers[who]
        if reader.forgetful:
            for names in ({checkpoint.name}, {checkpoint.parent}, {checkpoint.name, checkpoint.parent}):
                forgetting = self.copy(who)
                less = forgetting.readers[who]
                less.followers = {key: each for key, each in reader.followers.items() if key[1] not in names}
                forgetting.notes = {key: at for key, at in self.notes.items() if key[2] not in names}
                plans += forgetting._planned(who, checkpoint)
            for world, _ in plans:
                world.notes = self.notes  # it may come across them again
        return list({(repr(world.readers[who]), plan): (world, plan) for world, plan in plans}.values())

    def _planned(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        if self.readers[who].home is not None:
            return self._placed(self.copy(who), who, checkpoint, 0)
        return [
            plan
            for world, number in self._executions(who, checkpoint)
            for plan in self._placed(world, who, checkpoint, number)
        ]

    def _placed(self, world: World, who: str, checkpoint: Checkpoint, number: int) -> list[tuple[World, Plan]]:
        """Where the next event of an execution goes."""
        reader = world.readers[who]
        execution = reader.executions[number]
        runs = execution.runs[::-1]
        own = world.noted(who, runs, checkpoint.name)
        parent = world.noted(who, runs, checkpoint.parent)
        if parent is None and checkpoint.parent is not None and (reader.home or execution.has_read):
            found = [at for run in runs if (at := world.newest(run, checkpoint.parent))]
            found = found or world.origins(who, checkpoint)[:1]
            for at in found[:1]:  # to look for it is to meet it
                world.note(who, at)
                parent = world.noted(who, runs, checkpoint.parent)
        if not execution.has_read:
            for met in (parent, own):
                if met is not None and met.at[0] == execution.run:
                    execution.seen, execution.has_read = max(execution.seen, met.head), True
        plan = Plan(number, parent=parent.at if parent is not None else None)
        if own is not None and execution.seen:
            return [(world, plan._replace(known=own.at[0]))]
        if execution.seen or checkpoint.parent is None:
            return [(world, plan._replace(looks=world._looks(execution, checkpoint)))]
        if parent is not None and parent.at[0] == execution.run:
            return [(world, plan)]
        origins: list[At | None] = [*world.origins(who, checkpoint)]
        if all(at in self.gone for at in origins):  # what was pruned since is not found by who did not meet it
            origins.append(None)
        return [(world, plan._replace(origins=tuple(origins)))]

    def _executions(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, int]]:
        """The execution of an unbound storage that a checkpoint belongs to."""
        world = self.copy(who)
        reader = world.readers[who]
        key, parent = (checkpoint.workflow, checkpoint.name), (checkpoint.workflow, checkpoint.parent or "")
        if key in reader.followers:
            return [(world, number) for number in sorted(set(reader.followers[key]))]
        if parent in reader.followers:
            *others, number = reader.followers[parent]
            if others:
                reader.followers[parent] = tuple(others)
            else:
                reader.loaded[parent] = False
            return [(world, number)]
        found = world.anywhere(parent[1], checkpoint.workflow)
        if checkpoint.parent is None or found is None:
            elsewhere = world.anywhere(parent[1]) if checkpoint.parent is not None else None
            if elsewhere is not None:  # of another workflow: to look for it is to meet it
                world.note(who, elsewhere)
            return [(world, reader.begin(StreamId(*key), 0))]
        world.note(who, found)
        number = reader.begin(found[0], self.head(found[0]))
        reader.goes_on(parent, (number,), loaded=False)
        return [(world, number)]

    def _looks(self, execution: Position, checkpoint: Checkpoint) -> Literal["must", "may"]:
        """Whether one that was never met is looked for: behind a head that was read, unless that is its parent."""
        if execution.seen == 0 or execution.wrote_it:
            return "may"
        return "may" if self.log[execution.run][execution.seen - 1].name == checkpoint.parent else "must"

    def origins(self, who: str, checkpoint: Checkpoint, *runs: StreamId) -> list[At]:
        """The events of its parent that a fork may begin from."""
        name, process = checkpoint.parent, self.readers[who].process
        if name is None:
            return []
        found = [note.at for (noting, _, met), note in self.notes.items() if (noting, met) == (process, name)]
        found += [at for run in runs if (at := self.newest(run, name))]
        found += [at for workflow in (checkpoint.workflow, None) if (at := self.anywhere(name, workflow))]
        return list(dict.fromkeys(found))

    def committed(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        """The rest of the save."""
        execution = self.readers[who].executions[plan.execution]
        there = self.newest(plan.known or execution.run, checkpoint.name)
        if not self.holds(there, checkpoint) or not (execution.seen or plan.known):
            return self._appended(who, checkpoint, plan, cut)
        assert there is not None
        if plan.known:
            return [(self._met(who, checkpoint, plan, there, moves=False), "saved")]
        repeated: list[tuple[World, Outcome]] = [(self._met(who, checkpoint, plan, there, moves=False), "saved")]
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
        if again is None or self.entry(again).kind == "tombstone":
            excused = checkpoint.name if again else None
            if any(self._is_foreign(at, reader.process, execution) and self.entry(at).name != excused for at in since):
                there = self.newest(run, checkpoint.name)
                if self.holds(there, checkpoint):
                    assert there is not None
                    return [(self._met(who, checkpoint, plan, there, moves=False), "saved")]
                if reader.raises:
                    return [(self.copy(), "conflict")]
                return self._forked(who, checkpoint, plan, cut)
        origins = plan.origins if not since else (None,)
        return [self._written(who, checkpoint, plan, run, origin, cut) for origin in origins]

    def retried(self, who: str, checkpoint: Checkpoint, plan: Plan) -> World | None:
        """An older version of the checkpoint itself refused its append: before the next, others may come first."""
        execution = self.readers[who].executions[plan.execution]
        there = self.newest(execution.run, checkpoint.name)
        if plan.has_retried or there is None or there[1] <= execution.seen or self.holds(there, checkpoint):
            return None
        world = self.copy(who)
        world.readers[who].executions[plan.execution].seen = self.head(execution.run)
        return world

    def _is_foreign(self, at: At, process: int, execution: Position) -> bool:
        """Whether another writer wrote it; what is pruned is not there to be judged."""
        if at in self.gone or self.entry(at).kind == "tombstone":
            return False
        return at not in execution.sent and (process, at) not in self.unanswered

    def _forked(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        reader = self.readers[who]
        run, began = reader.executions[plan.execution].run, reader.executions[plan.execution].began
        if began is not None:
            world = self.copy(who)
            execution = world.readers[who].executions[plan.execution]
            execution.runs, execution.seen, execution.wrote_it = (*execution.runs, began[0]), began[1], True
            execution.began, execution.has_read = None, True
            if self.holds(began, checkpoint):
                return [(world._met(who, checkpoint, plan, began), "saved")]
            return world.committed(who, checkpoint, Plan(plan.execution), cut)
        for mark in (checkpoint.name[:8], checkpoint.name):
            fork = StreamId(run.workflow_name, f"{run.run_id}~{mark}")
            there = self.newest(fork, checkpoint.name)
            if self.holds(there, checkpoint):
                assert there is not None
                return [(self._met(who, checkpoint, plan, there), "saved")]
            if not self.head(fork):
                runs = reader.executions[plan.execution].runs
                origins = self.origins(who, checkpoint, *runs) or [(run, 0)]
                if plan.parent is not None:
                    origins = list(dict.fromkeys((plan.parent, *origins)))
                if all(at in self.gone for at in origins):  # what was pruned since is not found by who did not meet it
                    origins.append((run, 0))
                return [self._written(who, checkpoint, plan, fork, origin, cut) for origin in origins]
        return [(self.copy(), "conflict")]

    def _written(
        self, who: str, checkpoint: Checkpoint, plan: Plan, run: StreamId, origin: At | None, cut: Cut
    ) -> tuple[World, Outcome]:
        world = self.copy(who)
        at = world.append(run, Entry("checkpoint", checkpoint.name, checkpoint.content, origin))
        if cut is None:
            return world._met(who, checkpoint, plan, at), "saved"
        reader = world.readers[who]
        execution = reader.executions[plan.execution]
        if run == execution.run:
            world.unanswered |= {(reader.process, at)}
            execution.sent |= {at}
            if at[1] - 1 > execution.seen:  # it was refused before, by a version of the checkpoint itself
                execution.seen, execution.wrote_it, execution.has_read = at[1] - 1, False, True
        else:
            execution.began = at
        return world, "cut"

    def _met(self, who: str, checkpoint: Checkpoint, plan: Plan, at: At, *, moves: bool = True) -> World:
        """The reader has the answer: its checkpoint lies at `at`."""
        world = self.copy(who)
        reader = world.readers[who]
        execution = reader.executions[plan.execution]
        if moves:
            if at[0] != execution.run:
                execution.runs = (*execution.runs, at[0])
            execution.seen, execution.wrote_it, execution.has_read = at[1], True, True
            execution.sent = frozenset()
        elif at[0] == execution.run and at[1] == execution.seen + 1:
            execution.seen, execution.wrote_it, execution.has_read = at[1], False, True
        world.note(who, at, at[1] if moves else None)
        world.unanswered -= {(reader.process, at)}
        if reader.home is None:
            key = (checkpoint.workflow, checkpoint.name)
            others = tuple(each for each in reader.followers.get(key, ()) if each != plan.execution)
            waiting = others if reader.loaded.get(key) else ()
            reader.goes_on(key, waiting or (plan.execution,), loaded=bool(waiting))
        return world

    # Comparing

    def known(self) -> str:
        """Everything that a later step may depend on, the same text for worlds that cannot be told apart."""
        things = (self.log.items(), self.readers.items(), self.notes.items(), self.unanswered)
        return repr([sorted(each) for each in things])

    def tidy(self) -> None:
        """Drop executions that nobody can go on with, and number the others alike in worlds that are alike."""
        for reader in self.readers.values():
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
        name = self.entry(at).name
        written = world.append(at[0], Entry("tombstone", name))
        world.notes = {
            key: each for key, each in world.notes.items() if key != (self.readers[who].process, at[0], name)
        }
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
            again = world.retried(who, checkpoint, plan) if len(plans) > 1 else None
            if again is not None:
                retrying = plan._replace(has_retried=True, origins=(None,))
                yield from _schedules(again, seen, (*plans[:index], retrying, *plans[index + 1 :]), done)
            for after, outcome in world.committed(who, checkpoint, plan, seen.cut):
                if outcome == seen.outcomes[index] and seen.holds(after):
                    yield from _schedules(after, seen, plans, done | {index})
        elif not world.readers[who].home or not any(
            plans[at] and at not in done for at, (other, _) in enumerate(seen.saves) if other == who
        ):
            for after, found in world.planned(who, checkpoint):
                yield from _schedules(after, seen, (*plans[:index], found, *plans[index + 1 :]), done)
