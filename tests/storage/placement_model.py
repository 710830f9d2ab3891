"""Where a save goes, as docs/semantics.md says it, without a store: the model that
tests/storage/test_placement_machine.py compares the storages with.

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
    read_to: int = 0
    """Up to here others may have written; what lies between this seq and the head, it wrote itself."""
    has_read: bool = False
    """Whether its run was read at all; a run that was read may have had no event."""
    sent: frozenset[At] = frozenset()
    """Its appends whose answer it never got."""
    began: At | None = None
    """The first event of a fork, of which it never heard."""

    @property
    def run(self) -> StreamId:
        """The one that it writes."""
        return self.runs[-1]

    def known(self) -> object:
        """What it knows, the same for executions that know the same."""
        return self.runs, self.seen, self.read_to, self.has_read, self.sent, self.began

    def reads(self, seq: int) -> None:
        """It sees its run up to `seq`, whoever wrote that."""
        self.seen, self.read_to, self.has_read = seq, seq, True

    def writes(self, seq: int) -> None:
        """The event at `seq` is its own; where it was refused before, it has read what came in between."""
        if seq - 1 > self.seen:
            self.read_to = seq - 1
        self.seen, self.has_read = seq, True

    def diverts(self, at: At) -> None:
        """It goes on in a fork, behind the event at `at`."""
        self.runs, self.seen, self.read_to, self.has_read = (*self.runs, at[0]), at[1], 0, True
        self.began = None


class Lineage(NamedTuple):
    """The executions of an unbound storage that go on from a checkpoint."""

    current: int
    """The one that saved it, or the last that has gone on from it since."""
    waiting: tuple[int, ...] = ()
    """Those that have loaded it since, and have not gone on yet."""

    @property
    def newest(self) -> int:
        return self.waiting[-1] if self.waiting else self.current

    def without(self, execution: int) -> tuple[int, ...]:
        """Those that wait, but for one."""
        return tuple(each for each in self.waiting if each != execution)


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
    lineages: dict[tuple[str, str], Lineage] = field(default_factory=dict)
    """Unbound: who goes on from a checkpoint, by workflow and name."""
    elsewhere: dict[str, At] = field(default_factory=dict)
    """Of a handle: where it found the checkpoints of other runs that it has loaded."""

    def copy(self) -> Reader:
        return replace(
            self,
            executions={key: replace(each) for key, each in self.executions.items()},
            lineages=dict(self.lineages),
            elsewhere=dict(self.elsewhere),
        )

    def known(self) -> object:
        """What it knows, the same for readers that know the same."""
        executions = frozenset((number, each.known()) for number, each in self.executions.items())
        return executions, frozenset(self.lineages.items()), frozenset(self.elsewhere.items())

    @property
    def forked_to(self) -> str | None:
        run = self.executions[0].run
        return None if run == self.home else run.run_id

    def begin(self, run: StreamId, seen: int) -> int:
        """A new execution."""
        number = max(self.executions, default=-1) + 1
        self.executions[number] = Position((run,), seen, read_to=seen, has_read=seen > 0)
        return number

    def goes_on(self, key: tuple[str, str], lineage: Lineage) -> None:
        """These executions go on from a checkpoint."""
        if self.forgetful:
            self.lineages = {}
        self.lineages[key] = lineage


class Note(NamedTuple):
    """A checkpoint that a process met."""

    at: At
    head: int
    """The head of its run then."""


class Plan(NamedTuple):
    """A save between its look at the store and its append."""

    execution: int
    parent: At | None = None
    """The event of the checkpoint before it, as it was found."""
    known: StreamId | None = None
    """Where its process has met the checkpoint: the run that it writes, or one that it forked from."""
    looks: frozenset[bool] = frozenset({False})
    """Whether it looks for a checkpoint that its process has not met; of a memory that forgets, both may be so."""
    has_retried: bool = False
    """Whether its first append was refused, and it goes on behind an older version of its checkpoint."""


@dataclass
class World:
    """The log as it must be, and what its readers know."""

    log: dict[StreamId, tuple[Entry, ...]] = field(default_factory=dict)
    gone: frozenset[At] = frozenset()
    """Events that were pruned, or went with their run."""
    closed: frozenset[At] = frozenset()
    """The records of the removal of a whole run."""
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

    def is_closed(self, stream: StreamId) -> bool:
        """Whether a run was removed as a whole, and nobody has begun it again."""
        return (stream, self.head(stream)) in self.closed

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
        if reader.home is None:
            world._begins_after(who, at)
            return world
        world.reads_home(who)
        reader.elsewhere.pop(self.entry(at).name, None)
        if at[0] != reader.home:
            reader.elsewhere[self.entry(at).name] = at
        return world

    def _begins_after(self, who: str, at: At) -> None:
        """An execution of an unbound storage begins, which goes on from the checkpoint at `at`."""
        reader, key = self.readers[who], (at[0].workflow_name, self.entry(at).name)
        new, lineage = reader.begin(at[0], self.head(at[0])), reader.lineages.get(key)
        reader.goes_on(key, Lineage(lineage.current, (*lineage.waiting, new)) if lineage else Lineage(new, (new,)))

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
        own.runs, own.began = (reader.home,), None
        own.reads(self.head(reader.home))

    # Saves

    def planned(self, who: str, checkpoint: Checkpoint) -> list[tuple[World, Plan]]:
        """A save looks where its checkpoint goes. With a memory that forgets, it may know less than it did."""
        reader = self.readers[who]
        if not reader.forgetful:
            return [self._planned(who, checkpoint)]
        plans: list[tuple[World, Plan]] = []
        met = {key[2] for key in self.notes if key[0] == reader.process} & {checkpoint.name, checkpoint.parent}
        for names in ((), *((name,) for name in met), *((tuple(met),) if len(met) > 1 else ())):
            for lineages in ({}, reader.lineages) if reader.lineages else ({},):
                forgetting = self.copy(who)
                forgetting.readers[who].lineages = lineages
                forgetting.notes = {
                    key: each for key, each in self.notes.items() if key[0] != reader.process or key[2] not in names
                }
                world, plan = forgetting._planned(who, checkpoint)
                world.notes = {**self.notes, **world.notes}  # it may come across them again
                plans.append((world, plan))
        return list({(world.known(), plan): (world, plan) for world, plan in plans}.values())

    def _planned(self, who: str, checkpoint: Checkpoint) -> tuple[World, Plan]:
        world = self.copy(who)
        number, elsewhere = (0, None) if world.readers[who].home else world._execution(who, checkpoint)
        return world, world._placed(who, checkpoint, number, elsewhere)

    def _execution(self, who: str, checkpoint: Checkpoint) -> tuple[int, At | None]:
        """The execution of an unbound storage that a checkpoint belongs to; and the event of its parent, where that is
        one of another workflow."""
        reader = self.readers[who]
        key, parent = (checkpoint.workflow, checkpoint.name), (checkpoint.workflow, checkpoint.parent or "")
        if (holding := reader.lineages.get(key)) is not None:
            return holding.newest, None
        if checkpoint.parent is None:
            return reader.begin(StreamId(*key), 0), None
        if (lineage := reader.lineages.get(parent)) is not None:
            number = lineage.newest
            if number in lineage.waiting:
                reader.goes_on(parent, Lineage(number, lineage.without(number)))
            return number, None
        found = self._found(who, checkpoint)
        if found is None or found[0].workflow_name != checkpoint.workflow:
            return reader.begin(StreamId(*key), 0), found
        number = reader.begin(found[0], self.head(found[0]))
        reader.goes_on(parent, Lineage(number))
        return number, None

    def _found(self, who: str, checkpoint: Checkpoint, *runs: StreamId) -> At | None:
        """The parent is looked for, first in `runs`. To look for it is to meet it."""
        name = checkpoint.parent or ""
        at = next((at for run in runs if (at := self.newest(run, name))), None)
        at = at or self.anywhere(name, checkpoint.workflow) or self.anywhere(name)
        if at is not None:
            self.note(who, at)
        return at

    def _placed(self, who: str, checkpoint: Checkpoint, number: int, elsewhere: At | None) -> Plan:
        """Where the next event of an execution goes."""
        reader = self.readers[who]
        execution = reader.executions[number]
        runs = execution.runs[::-1]
        own, parent = self.noted(who, runs, checkpoint.name), elsewhere
        if parent is None and checkpoint.parent is not None and (reader.home or execution.has_read):
            met = self.noted(who, runs, checkpoint.parent)
            parent = met.at if met is not None else reader.elsewhere.get(checkpoint.parent)
            parent = parent or self._found(who, checkpoint, *runs)
        if not execution.has_read:
            in_run = self.noted(who, (execution.run,), checkpoint.parent) if parent else None
            for met in (own, in_run if in_run and in_run.at == parent else None):
                if met is not None and met.head > execution.seen:
                    execution.reads(met.head)
        if own is not None and execution.seen:
            return Plan(number, parent, known=own.at[0])
        return Plan(number, parent, looks=self._looks(who, execution, parent))

    def _looks(self, who: str, execution: Position, parent: At | None) -> frozenset[bool]:
        """Whether a checkpoint that was never met is looked for: where it may lie before the end of what was read."""
        ends = {execution.read_to, execution.seen} if self.readers[who].forgetful else {execution.read_to}
        return frozenset(end > 0 and not (parent and parent[0] == execution.run and parent[1] >= end) for end in ends)

    def committed(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        """The rest of the save."""
        execution = self.readers[who].executions[plan.execution]
        there = self.newest(plan.known or execution.run, checkpoint.name)
        if not self.holds(there, checkpoint):
            return self._appended(who, checkpoint, plan, cut)
        assert there is not None
        done: list[tuple[World, Outcome]] = []
        if plan.known or True in plan.looks:
            world = self.copy(who)
            found = world.readers[who].executions[plan.execution]
            if there == (found.run, found.seen + 1):
                found.reads(there[1])
            world._answered(who, checkpoint, plan, there, self.head(there[0]))
            done.append((world, "saved"))
        if not plan.known and False in plan.looks:
            done += self._appended(who, checkpoint, plan, cut)
        return done

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
        was_removed = self._was_removed(execution)
        if self.holds(again, checkpoint) and not was_removed:
            assert again is not None
            world = self.copy(who)
            world.readers[who].executions[plan.execution].reads(again[1])
            world._answered(who, checkpoint, plan, again, again[1])
            return [(world, "saved")]
        if was_removed or self._diverges(again, since, reader.process, execution):
            there = None if was_removed else self.newest(run, checkpoint.name)
            if self.holds(there, checkpoint):
                assert there is not None
                world = self.copy(who)
                world._answered(who, checkpoint, plan, there, there[1])
                return [(world, "saved")]
            if reader.raises:
                return [(self.copy(), "conflict")]
            return self._forked(who, checkpoint, plan, cut)
        is_fork = not since and not seen and not plan.has_retried and plan.parent and plan.parent[0] != run
        return [self._written(who, checkpoint, plan, run, plan.parent if is_fork else None, cut)]

    def retried(self, who: str, checkpoint: Checkpoint, plan: Plan) -> World | None:
        """An older version of the checkpoint itself refused its append: before the next, others may come first."""
        execution = self.readers[who].executions[plan.execution]
        run, process = execution.run, self.readers[who].process
        there = self.newest(run, checkpoint.name)
        if (
            self._was_removed(execution)
            or plan.has_retried
            or there is None
            or there[1] <= execution.seen
            or self.holds(there, checkpoint)
        ):
            return None
        if self._diverges(
            there, [(run, seq) for seq in range(execution.seen + 1, self.head(run) + 1)], process, execution
        ):
            return None
        world = self.copy(who)
        world.readers[who].executions[plan.execution].reads(self.head(execution.run))
        return world

    def _was_removed(self, execution: Position) -> bool:
        """Whether a run of which something was seen was removed as a whole since, whatever lies there now."""
        seen = execution.seen
        return seen > 0 and any(
            (execution.run, seq) in self.closed for seq in range(seen + 1, self.head(execution.run) + 1)
        )

    def _diverges(self, again: At | None, since: list[At], process: int, execution: Position) -> bool:
        """Whether others have gone on with the run: `again` is the newest event of the checkpoint that is saved. What
        others have of it is superseded, wherever it lies; one of its own excuses nobody else's."""
        if again is not None and self.entry(again).kind == "checkpoint" and self._is_foreign(again, process, execution):
            return False
        deleted = self.entry(again).name if again is not None and self.entry(again).kind == "tombstone" else None
        return any(self._is_foreign(at, process, execution) and self.entry(at).name != deleted for at in since)

    def _is_foreign(self, at: At, process: int, execution: Position) -> bool:
        """Whether another writer wrote it; what is pruned is not there to be judged."""
        if at in self.gone or self.entry(at).kind == "tombstone":
            return False
        return at not in execution.sent and (process, at) not in self.unanswered

    def _forked(self, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut) -> list[tuple[World, Outcome]]:
        execution = self.readers[who].executions[plan.execution]
        run, began = execution.run, execution.began
        if began is not None and began not in self.gone:
            return self._goes_on_in(began, who, checkpoint, plan, cut)
        for mark in (checkpoint.name[:8], checkpoint.name):
            fork = StreamId(run.workflow_name, f"{run.run_id}~{mark}")
            there = self.newest(fork, checkpoint.name)
            if self.holds(there, checkpoint):
                assert there is not None
                world = self.copy(who)
                world.readers[who].executions[plan.execution].diverts(there)
                world._answered(who, checkpoint, plan, there, there[1])
                return [(world, "saved")]
            if not self.head(fork):
                return [self._written(who, checkpoint, plan, fork, plan.parent or (run, 0), cut)]
        return [(self.copy(), "conflict")]

    def _goes_on_in(
        self, began: At, who: str, checkpoint: Checkpoint, plan: Plan, cut: Cut
    ) -> list[tuple[World, Outcome]]:
        """A save before this one began a fork, and never heard of it."""
        world = self.copy(who)
        execution = world.readers[who].executions[plan.execution]
        execution.diverts(began)
        if world.holds(began, checkpoint):
            world._answered(who, checkpoint, plan, began, began[1])
            return [(world, "saved")]
        looks = world._looks(who, execution, plan.parent)
        return world.committed(who, checkpoint, Plan(plan.execution, plan.parent, looks=looks), cut)

    def _written(
        self, who: str, checkpoint: Checkpoint, plan: Plan, run: StreamId, origin: At | None, cut: Cut
    ) -> tuple[World, Outcome]:
        world = self.copy(who)
        at = world.append(run, Entry("checkpoint", checkpoint.name, checkpoint.content, origin))
        reader = world.readers[who]
        execution = reader.executions[plan.execution]
        if cut is None:
            if run == execution.run:
                execution.writes(at[1])
            else:
                execution.diverts(at)
            world._answered(who, checkpoint, plan, at, at[1])
            return world, "saved"
        if run == execution.run:
            world.unanswered |= {(reader.process, at)}
            execution.sent |= {at}
            if at[1] - 1 > execution.seen:  # it was refused before, by what is no other writer's work
                execution.reads(at[1] - 1)
        else:
            execution.began = at
        return world, "cut"

    def _answered(self, who: str, checkpoint: Checkpoint, plan: Plan, at: At, head: int) -> None:
        """The reader has the answer: its checkpoint lies at `at`, and `head` was the head of that run."""
        reader = self.readers[who]
        self.note(who, at, head)
        self.unanswered -= {(reader.process, at)}
        if reader.home is None:
            key = (checkpoint.workflow, checkpoint.name)
            lineage = reader.lineages.get(key)
            reader.goes_on(key, Lineage(plan.execution, lineage.without(plan.execution) if lineage else ()))

    # Comparing

    def known(self) -> object:
        """Everything that a later step may depend on, the same for worlds that cannot be told apart."""
        readers = frozenset((who, reader.known()) for who, reader in self.readers.items())
        return frozenset(self.log.items()), self.closed, readers, frozenset(self.notes.items()), self.unanswered

    def tidy(self) -> None:
        """Drop executions that nobody can go on with, and number the others alike in worlds that are alike."""
        for reader in self.readers.values():
            if reader.home is not None:
                continue
            reader.lineages = dict(sorted(reader.lineages.items()))  # the numbers are given in this order
            held = dict.fromkeys(n for each in reader.lineages.values() for n in (each.current, *each.waiting))
            numbers = {number: at for at, number in enumerate(held)}
            reader.executions = {numbers[number]: reader.executions[number] for number in numbers}
            reader.lineages = {
                key: Lineage(numbers[each.current], tuple(numbers[n] for n in each.waiting))
                for key, each in reader.lineages.items()
            }

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
        reader = world.readers[who]
        lineage = reader.lineages.get((at[0].workflow_name, name))
        for number in (0,) if reader.home else (lineage.current, *lineage.waiting) if lineage else ():
            execution = reader.executions[number]
            if (execution.run, execution.seen) == (at[0], written[1] - 1):
                execution.seen = written[1]
        return world

    def removed(self, run: StreamId) -> World:
        """A run was removed as a whole by somebody else."""
        world = self.copy()
        at = world.append(run, Entry("tombstone", ""))
        world.closed |= {at}
        world.gone |= {(run, seq) for seq in range(1, at[1])}
        return world

    def annotated(self, who: str | None, run: StreamId) -> World:
        """Something was said about a run: by a handle that writes it, or by somebody else."""
        world = self.copy(who)
        written = world.append(run, Entry("tombstone", ""))
        if who is not None:
            execution = world.readers[who].executions[0]
            if (execution.run, execution.seen) == (run, written[1] - 1):
                execution.seen = written[1]
        return world


class Saves(NamedTuple):
    """Saves at once, and what was seen of them."""

    saves: tuple[tuple[str, Checkpoint], ...]
    outcomes: tuple[Outcome, ...]
    holds: Callable[[World], bool]
    """Whether the store holds what a world has in its log."""
    cut: Cut = None


class _Moment(NamedTuple):
    """Somewhere in the midst of saves at once."""

    world: World
    plans: tuple[Plan | None, ...]
    """Of each save, once it has looked."""
    done: frozenset[int] = frozenset()

    def known(self) -> object:
        return self.world.known(), tuple(self.world.stamps), self.plans, self.done


def side_by_side(world: World, seen: Saves) -> Iterator[World]:
    """The worlds that saves at once may have led to: each looks, then appends, and those of one handle take turns."""
    first = _Moment(world, (None,) * len(seen.saves))
    waiting, met = [first], {first.known()}
    while waiting:
        moment = waiting.pop()
        if len(moment.done) == len(moment.plans):
            yield moment.world
        for following in _next(moment, seen):
            if (known := following.known()) not in met:
                met.add(known)
                waiting.append(following)


def _next(moment: _Moment, seen: Saves) -> Iterator[_Moment]:
    """What may happen next: one of the saves looks, or appends."""
    world, plans, done = moment
    for index, (who, checkpoint) in enumerate(seen.saves):
        plan = plans[index]
        if index in done:
            continue
        if plan is not None:
            again = world.retried(who, checkpoint, plan) if len(plans) > 1 else None
            if again is not None:
                retrying = plan._replace(has_retried=True)
                yield _Moment(again, (*plans[:index], retrying, *plans[index + 1 :]), done)
            for after, outcome in world.committed(who, checkpoint, plan, seen.cut):
                if outcome == seen.outcomes[index] and seen.holds(after):
                    yield _Moment(after, plans, done | {index})
        elif not world.readers[who].home or not any(
            plans[at] and at not in done for at, (other, _) in enumerate(seen.saves) if other == who
        ):
            for after, found in world.planned(who, checkpoint):
                yield _Moment(after, (*plans[:index], found, *plans[index + 1 :]), done)
