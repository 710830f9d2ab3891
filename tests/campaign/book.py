"""What was sent to a store, what was acknowledged, and what somebody may have taken away again.

Everything is an entry, a plain dict: in this process it is taken at once, other processes write theirs as lines of a
journal, each before what it announces, or after what it acknowledges. So a process that is killed leaves no
acknowledgement that nobody gave, and no event that nobody announced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from eventckpt import CheckpointEvent

__all__ = ["EXECUTION", "Book", "Entry", "Journal", "Run", "Saved", "Sent", "Take", "acknowledgement", "announcement"]

Entry: TypeAlias = dict[str, Any]
Take: TypeAlias = Callable[[Entry], None]
Run: TypeAlias = tuple[str, str]

EXECUTION: ContextVar[str] = ContextVar("execution", default="")
"""Of what an append is part: one going-on of a workflow, between two reads."""


@dataclass(frozen=True)
class Sent:
    """An event that was given to a store to append."""

    run: Run
    seq: int
    type: str
    checkpoint_id: str
    version: int
    """Of the checkpoint: how often it was made anew. Lies in its `iteration_count`."""
    parent: str | None
    digest: str
    previous_digest: str
    forked: bool
    execution: str
    storage: str
    removes: tuple[tuple[int, int], ...] = ()
    """Of a record: the stretches of seqs that it says are gone."""


@dataclass(frozen=True)
class Saved:
    """A save that returned."""

    workflow: str
    checkpoint_id: str
    version: int
    storage: str


@dataclass
class Execution:
    """What an execution began from: the checkpoint that `get_latest` gave it."""

    run: Run
    checkpoint_id: str


def announcement(event: CheckpointEvent, storage: str) -> Entry:
    """That an event is sent."""
    return {
        "what": "sends",
        "run": [event.workflow_name, event.run_id],
        "seq": event.seq,
        "type": event.type,
        "checkpoint_id": event.checkpoint_id,
        "version": event.iteration_count,
        "parent": event.previous_checkpoint_id,
        "digest": event.digest,
        "previous_digest": event.previous_digest,
        "forked": event.forked_from is not None,
        "execution": EXECUTION.get(),
        "storage": storage,
        "removes": [[removed.first, removed.last] for removed in event.pruned],
    }


def acknowledgement(workflow: str, checkpoint_id: str, version: int, storage: str) -> Entry:
    """That a save returned."""
    return {
        "what": "saved",
        "workflow": workflow,
        "checkpoint_id": checkpoint_id,
        "version": version,
        "storage": storage,
    }


class Journal:
    """The entries of one process, a line each; what is written is there for others, also after a kill."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def take(self, entry: Entry) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


@dataclass
class Book:
    """All entries so far, and what follows from them."""

    sent: dict[str, Sent] = field(default_factory=dict)
    """By digest."""
    answered: list[str] = field(default_factory=list)
    """Digests of events of which a store said that they are committed, in the order of that."""
    saved: list[Saved] = field(default_factory=list)
    executions: dict[str, Execution] = field(default_factory=dict)
    may_be_gone: set[tuple[str, str]] = field(default_factory=set)
    """Workflow and checkpoint id of what somebody has begun to delete or remove."""
    said: list[str] = field(default_factory=list)
    """What was found wrong while everything ran."""
    refused_rebuilds: list[str] = field(default_factory=list)
    """Why a rebuild that was alone was refused."""
    rolled_back: list[tuple[int, int, int, int]] = field(default_factory=list)
    """For each restore, the stretches of `answered` and of `saved` that may be gone by it."""
    _answered: frozenset[str] = frozenset()
    _versions: dict[tuple[str, str, int], list[str]] = field(default_factory=dict)
    _acknowledged: dict[Run, dict[str, tuple[int, str]]] = field(default_factory=dict)
    _journals: dict[Path, int] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Take in one entry."""
        what = entry.pop("what")
        if what == "sends":
            sent = Sent(**(entry | {"run": tuple(entry["run"]), "removes": tuple(map(tuple, entry["removes"]))}))
            if sent.digest not in self.sent:
                self.sent[sent.digest] = sent
                self._versions.setdefault((sent.run[0], sent.checkpoint_id, sent.version), []).append(sent.digest)
        elif what == "answered":
            self.answered.append(entry["digest"])
        elif what == "saved":
            saved = Saved(**entry)
            self.saved.append(saved)
            self._place(saved)
        elif what == "reads":
            self.executions[entry["execution"]] = Execution(tuple(entry["run"]), entry["checkpoint_id"])
        elif what == "wrong":
            self.said.append(entry["said"])
        else:
            raise AssertionError(f"no entry is called {what!r}")

    def wrong(self, said: str) -> None:
        """Note something that must not be, to be told at the end with everything else."""
        self.said.append(said)

    def reads(self, journal: Path) -> None:
        """Another process writes this file."""
        self._journals[journal] = 0

    def absorb(self) -> None:
        """Take in what other processes have written so far. The last line may be cut: it is taken when it is whole."""
        for journal, at in self._journals.items():
            if not journal.exists():
                continue
            with journal.open("rb") as file:
                file.seek(at)
                written = file.read()
            whole = written[: written.rfind(b"\n") + 1]
            self._journals[journal] = at + len(whole)
            for line in whole.splitlines():
                self.take(json.loads(line))

    # What follows

    def answered_digests(self) -> frozenset[str]:
        """Of all events of which a store said that they are committed."""
        if len(self._answered) != len(self.answered):
            self._answered = frozenset(self.answered)
        return self._answered

    def versions(self, workflow: str, checkpoint_id: str, version: int) -> list[Sent]:
        """The events that were sent with this version of a checkpoint."""
        return [self.sent[digest] for digest in self._versions.get((workflow, checkpoint_id, version), ())]

    def must_be_live(self, run: Run, storage: str | None = None) -> dict[str, int]:
        """By id, the seq of what was acknowledged in a run and that nobody has begun to take away.

        Args:
            run: the run.
            storage: only what this one has written: all that a reader is sure to see where replicas lag.
        """
        return {
            name: seq
            for name, (seq, by) in self._acknowledged.get(run, {}).items()
            if (run[0], name) not in self.may_be_gone and storage in (None, by)
        }

    def runs(self) -> list[Run]:
        """Every run in which something was acknowledged."""
        return list(self._acknowledged)

    def goes(self, workflow: str, checkpoint_ids: Iterable[str]) -> None:
        """Somebody begins to take these checkpoints away."""
        self.may_be_gone.update((workflow, each) for each in checkpoint_ids)

    def mark(self) -> tuple[int, int]:
        """How much is acknowledged by now."""
        self.absorb()
        return len(self.answered), len(self.saved)

    def restored(self, since: tuple[int, int]) -> None:
        """The store is again as it was at some moment after that mark."""
        answered, saved = self.mark()
        self.rolled_back.append((since[0], answered, since[1], saved))
        self._acknowledged.clear()
        for place, each in enumerate(self.saved):
            if not self.may_be_rolled_back(saved=place):
                self._place(each)

    def may_be_rolled_back(self, *, answered: int = -1, saved: int = -1) -> bool:
        """Whether an acknowledgement, by its place, may be newer than the backup that was restored."""
        return any(first <= answered < last or begin <= saved < end for first, last, begin, end in self.rolled_back)

    def _place(self, saved: Saved) -> None:
        """Where a save that returned has its event, if that is known."""
        sent = self.versions(saved.workflow, saved.checkpoint_id, saved.version)
        runs = {each.run for each in sent}
        if len(runs) == 1:
            newest = max(sent, key=lambda each: each.seq)
            self._acknowledged.setdefault(newest.run, {})[saved.checkpoint_id] = newest.seq, saved.storage
