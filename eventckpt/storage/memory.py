"""What is remembered of a store, and by whom, so that a save needs no read.

Two things are kept apart. Where the event of a checkpoint lies never changes: a storage and all its handles share it,
as a cache. How far a run was read, and where the next save goes, is known to one execution only: a handle that
`for_run` gave serves one, and an unbound storage keeps one for each lineage. So it makes no difference whether two
handles are in one process or in two. Forgetting costs a read, never a fork.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from ..errors import CheckpointConflictError, CheckpointStoreError, RunClaimedError
from ..events import CheckpointEvent, ForkPoint, Payload, StreamId
from ..lru import Lru
from .attempts import Attempts

if TYPE_CHECKING:
    from .claims import RunClaim

__all__ = [
    "EMPTY",
    "Bound",
    "Execution",
    "Executions",
    "Head",
    "Memory",
    "Tip",
    "Turns",
]

_OTHERS: Final = 10  # other workflows of a bound run that are read when a checkpoint is loaded
_WORKFLOWS: Final = 1_000  # of one bound run: as a rule it is one
_LOADED: Final = 1_000  # checkpoints that were loaded through a handle
_IN_DOUBT: Final = 1_000  # appends of which nobody knows what became of them
_NEWCOMERS: Final = 10  # executions that have loaded one checkpoint and have not gone on
_QUESTIONS: Final = 100  # of one checkpoint
_HERE: Final = 10  # executions that a task goes on with


class Head(NamedTuple):
    """The last event of a stream, as someone saw it. Seq 0: the stream was empty."""

    seq: int
    digest: str
    claim: int = 0
    """The epoch of the claim that was in force when it was written; 0: none was."""

    @classmethod
    def of(cls, event: CheckpointEvent) -> Head:
        return cls(event.seq, event.digest, event.claim or 0)


EMPTY: Final = Head(0, "")


class Turns:
    """What is done by turns, in the order in which it was asked for. A storage may be used in one event loop after the
    other."""

    def __init__(self) -> None:
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """Held by whose turn it is."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]


class Tip(NamedTuple):
    """The event of a checkpoint: where a lineage ends, until the next save."""

    stream: StreamId
    seq: int
    checkpoint_id: str
    digest: str
    payload: Payload | None
    """Without data."""
    head: Head
    """The head of the stream when this event, and the bases that it needs, were known to be there."""
    asked: tuple[tuple[str, str], ...] = ()
    """The questions that it waits for, by their ids, and since when; of very many the first. One whose answer is on its
    way is over: asked again, it is another one."""

    @classmethod
    def of(cls, event: CheckpointEvent, head: Head | None = None) -> Tip:
        """The checkpoint of `event`, met when `head` was the head of its stream, or the event itself."""
        payload, head = event.header().payload, head or Head.of(event)
        asked = tuple(
            (request.request_id, request.asked_at or event.recorded_at)
            for request in event.summary.pending_requests[:_QUESTIONS]
            if request.request_id not in event.summary.answered_requests
        )
        return cls(event.stream, event.seq, event.checkpoint_id, event.digest, payload, head, asked)

    @property
    def point(self) -> ForkPoint:
        """Where a fork from here begins."""
        return ForkPoint(
            workflow_name=self.stream.workflow_name,
            run_id=self.stream.run_id,
            seq=self.seq,
            checkpoint_id=self.checkpoint_id,
        )


class Execution:
    """One going-on of a workflow, from one start or one resume: what it has seen of its run, and where its saves go.

    Its saves take turns, so that steps which run side by side never conflict with each other.
    """

    def __init__(self, home: StreamId, head: Head | None = None) -> None:
        self.streams: list[StreamId] = [home]
        """The run that it is meant for, and each fork that a conflict has led it to since."""
        self.head: Head | None = head
        """The last event seen where its saves go; None: nothing was seen of that."""
        self.read_to: int = head.seq if head else 0
        """Up to here others may have written; what lies between this seq and the head, it wrote itself."""
        self.must_look: bool = False
        """Whether the run was read, or may have been, without its head being known: the next save looks."""
        self._turns = Turns()
        self.outage: CheckpointStoreError | None = None
        """What the last turn was told that found the store out of reach."""
        self.version: int = 0
        """Counts what it learnt, so that a read which took its time does not undo what a save has found since."""
        self.began: CheckpointEvent | None = None
        """The first event of a fork, sent without an answer."""
        self._sent: Lru[str, bool] = Lru(_IN_DOUBT)
        self.attempts: Attempts = Attempts()

    @property
    def stream(self) -> StreamId:
        """The run that its saves go to."""
        return self.streams[-1]

    @property
    def is_diverted(self) -> bool:
        return len(self.streams) > 1

    @property
    def turn(self) -> asyncio.Lock:
        """Held by the save whose turn it is."""
        return self._turns.lock

    def saw(self, head: Head, *, since: int) -> None:
        """Its run was read when `version` was `since`, and ended with `head`. A conflict before that is over."""
        if self.version != since and not self.is_diverted and self.head is not None and self.head.seq > head.seq:
            return  # a save has gone further meanwhile
        self._learn(head, read_to=head.seq, streams=self.streams[:1])
        self.must_look = False
        self.began = None

    def sends(self, event: CheckpointEvent) -> None:
        """Note an append before it is sent: whoever is told of it meanwhile, it is this execution's own."""
        self._sent.put(event.digest, True)

    def has_sent(self, event: CheckpointEvent) -> bool:
        """Whether `event` is an append of its own of which it never heard."""
        return self._sent.get(event.digest) is not None

    def was_read(self) -> None:
        """Its run was read, and where it ended is not known yet."""
        if self.is_diverted:
            self._learn(None, read_to=0, streams=self.streams[:1])
        self.must_look = True
        self.began = None

    def caught_up(self, stream: StreamId, head: Head) -> None:
        """The run was found further on, by nobody's work that its saves would be in conflict with."""
        if stream == self.stream and (self.head is None or head.seq > self.head.seq):
            self._learn(head, read_to=head.seq, streams=self.streams)

    def wrote(self, event: CheckpointEvent) -> None:
        """`event` is in the log, and its own."""
        self._sent.pop(event.digest)
        if event.stream == self.stream and (self.head is None or event.seq > self.head.seq):
            self._learn(Head.of(event), read_to=self.read_to, streams=self.streams)

    def deleted(self, tombstone: CheckpointEvent) -> None:
        """Whom it serves has written a tombstone: it counts as seen where it is right behind what was."""
        follows = tombstone.seq - 1, tombstone.previous_digest
        if tombstone.stream == self.stream and self.head is not None and self.head[:2] == follows:
            self._learn(Head.of(tombstone), read_to=self.read_to, streams=self.streams)

    def diverted_to(self, event: CheckpointEvent) -> None:
        """It goes on in a fork, which begins with `event`."""
        self._learn(Head.of(event), read_to=0, streams=[*self.streams, event.stream])
        self.began = None

    def _learn(self, head: Head | None, *, read_to: int, streams: list[StreamId]) -> None:
        self.head, self.read_to, self.streams = head, read_to, streams
        self.version += 1


def _under_way(execution: Execution | None) -> Execution | None:
    """An execution that was forgotten, if one of its saves is not over."""
    return execution if execution is not None and execution.turn.locked() else None


class _Here(NamedTuple):
    """An execution that a task goes on with through an unbound storage."""

    memory: object
    key: tuple[str, str]
    """Workflow and id of the checkpoint that it was last met at."""
    execution: Execution


_here: ContextVar[tuple[_Here, ...]] = ContextVar("eventckpt_here", default=())
"""Those of this task, the last one first; the tasks that it starts inherit them."""


class Bound:
    """What one handle knows of its run: an execution for each workflow whose checkpoints go through it.

    Args:
        run_id: the run.
        confined: whether the handle finds nothing outside of its run.
        looks: whether its first save looks where the run stands, as if that had been read.
        actor: who writes through it, in place of the storage's actor.
    """

    def __init__(self, run_id: str, *, confined: bool = False, looks: bool = False, actor: str | None = None) -> None:
        self.run_id = run_id
        self.confined = confined
        self.actor = actor
        self.claim: RunClaim | None = None
        """The claim that is held through the handle."""
        self._has_lost_claim = False
        self.refused: Exception | None = None
        """Why the last save, or claim, was not made through the handle, which has not read since; None: it was."""
        self.answers: dict[str, None] = {}
        """Ids of the requests that the next event answers."""
        self._executions: Lru[str, Execution] = Lru(_WORKFLOWS)
        self._in_use: WeakValueDictionary[str, Execution] = WeakValueDictionary()
        self._loaded: Lru[str, Tip] = Lru(_LOADED)
        self._loads = looks
        self._last: Execution | None = None

    @property
    def workflow_name(self) -> str | None:
        """That of what went through the handle last."""
        return self._last.stream.workflow_name if self._last is not None else None

    @property
    def forked_to(self) -> str | None:
        """The fork that saves through the handle go to; None: they go to the run itself."""
        return self._last.stream.run_id if self._last is not None and self._last.is_diverted else None

    def execution(self, workflow_name: str) -> Execution:
        execution = self._executions.get(workflow_name) or _under_way(self._in_use.get(workflow_name))
        if execution is None:
            execution = Execution(StreamId(workflow_name, self.run_id))
            execution.must_look = self._loads or self._executions.has_dropped
        self._executions.put(workflow_name, execution)
        self._in_use[workflow_name] = execution
        return execution

    def claimed(self, claim: RunClaim, event: CheckpointEvent) -> None:
        """`event` took a claim for the handle. That is no read: what came before it and was not seen, is not seen."""
        self.claim, self._has_lost_claim, self.refused = claim, False, None
        self.execution(event.workflow_name).deleted(event)

    def let_go(self, claim: RunClaim, *, is_lost: bool) -> None:
        """A claim has ended; another one may have been taken through the handle since."""
        if self.claim is claim:
            self.claim, self._has_lost_claim = None, is_lost

    def lost(self, claim: RunClaim) -> None:
        """A claim is known to be lost."""
        if self.claim in (None, claim):
            self._has_lost_claim = True

    @property
    def is_others(self) -> bool:
        """Whether the handle knows that others have gone on with the run, and has neither read nor claimed it since: a
        claim was lost through it, or the last save or claim was refused for another's sake."""
        has_lost_claim = self._has_lost_claim or (self.claim is not None and self.claim.is_lost)
        return has_lost_claim or isinstance(self.refused, (CheckpointConflictError, RunClaimedError))

    def epoch(self, stream: StreamId) -> int:
        """That of the claim on a run that is held through the handle; 0: none is."""
        return self.claim.epoch if self.claim is not None and self.claim.stream == stream else 0

    def versions(self) -> dict[str, int]:
        """Of each execution, how much it has learnt; see `saw`."""
        return {name: execution.version for name, execution in self._in_use.items()}

    def goes_on(self, execution: Execution) -> None:
        """A save or a read went through the handle."""
        self._last = execution

    def was_read(self, execution: Execution) -> None:
        """Its run was read through the handle."""
        self._has_lost_claim, self.refused = False, None
        self.goes_on(execution)

    def others(self, workflow_name: str, known_as: str | None) -> list[Execution]:
        """The executions of its run in other workflows than this one: a load reads theirs as well."""
        if known_as is not None and known_as != workflow_name:
            self.execution(known_as)
        found = [execution for name, execution in self._in_use.items() if name != workflow_name]
        for execution in found[_OTHERS:]:
            execution.was_read()
        return found[:_OTHERS]

    def loaded(self, tip: Tip) -> None:
        """A checkpoint was loaded through the handle. A run that begins may be a fork of the one that it lies in; and a
        workflow that comes up only now counts as read, too."""
        self._loads = True
        self._loaded.put(tip.checkpoint_id, tip)

    def elsewhere(self, checkpoint_id: str, home: StreamId) -> Tip | None:
        """Where a checkpoint was that was loaded through the handle from another run than `home`: another workflow's of
        the same name is another one, too."""
        tip = self._loaded.get(checkpoint_id)
        return tip if tip is not None and tip.stream != home else None


class Executions(NamedTuple):
    """Who goes on from a checkpoint that was saved or loaded through an unbound storage."""

    current: Execution
    """The one that saved the checkpoint or, once others have loaded it, the last of them to go on from there."""
    newcomers: tuple[Execution, ...] = ()
    """Those that have loaded it since, and have not gone on yet."""

    @property
    def newest(self) -> Execution:
        return self.newcomers[-1] if self.newcomers else self.current

    def __contains__(self, execution: object) -> bool:
        return execution is self.current or execution in self.newcomers


class Memory:
    """What a storage and its handles remember together, and who goes on from which checkpoint of the unbound one."""

    def __init__(self, size: int = 10_000) -> None:
        self._tips: Lru[tuple[StreamId, str], Tip] = Lru(size)
        self._executions_at: Lru[tuple[str, str], Executions] = Lru(size)
        self._in_use: WeakValueDictionary[tuple[str, str], Execution] = WeakValueDictionary()
        self._in_doubt: Lru[str, bool] = Lru(_IN_DOUBT)
        self._token = object()

    @property
    def has_forgotten(self) -> bool:
        """Whether a checkpoint that is not known may be one that was."""
        return self._tips.has_dropped

    def tip(self, stream: StreamId, checkpoint_id: str) -> Tip | None:
        return self._tips.get((stream, checkpoint_id))

    def note(self, tip: Tip) -> None:
        self._tips.put((tip.stream, tip.checkpoint_id), tip)

    def forget(self, event: CheckpointEvent) -> None:
        """The checkpoint of `event` was deleted there."""
        self._tips.pop((event.stream, event.checkpoint_id))

    # Appends without an answer. Nobody was told of them, so that whoever meets one goes behind it.

    def sends(self, event: CheckpointEvent) -> None:
        """Note an append before it is sent: where no answer comes, it may be there all the same."""
        self._in_doubt.put(event.digest, True)

    def has_answer(self, event: CheckpointEvent) -> None:
        """It was refused; or it is there, and somebody was told so."""
        self._in_doubt.pop(event.digest)

    def is_in_doubt(self, event: CheckpointEvent) -> bool:
        return self._in_doubt.get(event.digest) is not None

    # Of an unbound storage

    def executions(self, workflow_name: str, checkpoint_id: str) -> Executions | None:
        return self._executions_at.get((workflow_name, checkpoint_id))

    def next_after(self, workflow_name: str, checkpoint_id: str) -> Execution | None:
        """The execution that the next checkpoint which follows this one belongs to: the one that this task goes on with
        or, where no task tells, the last that waits."""
        key = (workflow_name, checkpoint_id)
        there, mine = self._executions_at.get(key), self._mine(key)
        if there is None:
            return mine or _under_way(self._in_use.get(key))
        chosen = mine or there.newest
        if chosen in there.newcomers:
            self._set(key, Executions(chosen, tuple(each for each in there.newcomers if each is not chosen)))
        return chosen

    def holding(self, workflow_name: str, checkpoint_id: str) -> Execution | None:
        """The execution that a checkpoint which is saved again belongs to."""
        key = (workflow_name, checkpoint_id)
        there = self._executions_at.get(key)
        return self._mine(key) or (there.newest if there is not None else None)

    def saved(self, workflow_name: str, checkpoint_id: str, execution: Execution) -> None:
        key = (workflow_name, checkpoint_id)
        there = self._executions_at.get(key)
        newcomers = tuple(each for each in there.newcomers if each is not execution) if there is not None else ()
        self._set(key, Executions(execution, newcomers))
        self._is_here(key, execution)

    def loaded(self, event: CheckpointEvent, head: Head) -> None:
        """An execution begins: it goes on from the checkpoint in `event`."""
        key = (event.workflow_name, event.checkpoint_id)
        new, there = Execution(event.stream, head), self._executions_at.get(key)
        newcomers = (*(there.newcomers if there else ()), new)[-_NEWCOMERS:]
        self._set(key, Executions(there.current if there else new, newcomers))
        self._is_here(key, new)

    def looked_at(self, event: CheckpointEvent, head: Head) -> None:
        """The checkpoint in `event` is the latest; its run ended with `head`."""
        mine = self._mine((event.workflow_name, event.checkpoint_id))
        if mine is not None and mine.stream == event.stream:
            mine.caught_up(event.stream, head)
        else:
            self.loaded(event, head)

    def on_run(self, stream: StreamId) -> Execution | None:
        """The execution that this task goes on with in a run."""
        for here in _here.get():
            if here.memory is self._token and here.execution.stream == stream:
                return here.execution
        return None

    def _mine(self, key: tuple[str, str]) -> Execution | None:
        there = self._executions_at.get(key)
        for here in _here.get():
            if here.memory is self._token and (here.key == key or (there is not None and here.execution in there)):
                return here.execution
        return self.on_run(there.current.stream) if there is not None else None

    def _is_here(self, key: tuple[str, str], execution: Execution) -> None:
        others = (each for each in _here.get() if each.execution is not execution)
        _here.set((_Here(self._token, key, execution), *others)[:_HERE])

    def _set(self, key: tuple[str, str], there: Executions) -> None:
        self._executions_at.put(key, there)
        self._in_use[key] = there.current
