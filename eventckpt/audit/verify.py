"""Whether a log is what its writers wrote: every digest, every link between them, no gap that nobody recorded.

Nothing is decoded unless asked for. A removal by `prune` is recorded by an event of the same run, with the digests
on both sides of each stretch that is gone, so that the chain closes over it: what is missing without such a record
is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Literal, NamedTuple, TypeAlias

from ..chain import flaw_of, is_newer, is_whole
from ..errors import CheckpointDecodeError, CheckpointTypeNotAllowedError
from ..events import MAX_SEQ, CheckpointEvent, StreamId
from ..removals import Removals
from ..stores import AuditStore

__all__ = ["Problem", "Verdict", "verify_run"]

Why: TypeAlias = Literal[
    "changed", "missing", "reordered", "undecodable", "stray", "base", "fork", "projection", "newer"
]
"""changed: the event is not the one that was written. missing: there is a gap. reordered: the event is whole, and
follows another one than it says. base: the snapshot that a delta needs is not there. fork: a fork does not follow
the event that it says it came from. stray: an event lies in a run that it does not belong to. projection: the run
has no "latest" document, or one that says another thing than the log did when it was written. newer: a later version of
eventckpt wrote the event, and this one cannot judge it."""

Decode: TypeAlias = Callable[[CheckpointEvent], Awaitable[object]]


class Problem(NamedTuple):
    """One thing that is wrong with a run."""

    stream: StreamId
    seq: int
    """The position of the first event that it concerns."""
    why: Why
    detail: str


class Verdict(NamedTuple):
    """What `verify` found of one run."""

    stream: StreamId
    events: int
    """How many are there."""
    pruned: int
    """How many were removed, by the run's own record."""
    head_seq: int
    head_digest: str
    """Keep it elsewhere, to notice later that the newest events are gone."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


async def verify_run(store: AuditStore, stream: StreamId, decode: Decode | None = None) -> Verdict:
    """Check one run from its first event to its head.

    Args:
        store: the engine.
        stream: the run.
        decode: called with each whole checkpoint event; what it cannot decode is a problem.
    """
    run = _Run(store, stream)
    async with aclosing(store.events(stream)) as events:
        async for event in events:
            run.take(event)
            if decode is not None and event.type == "checkpoint" and event.seq not in run.bad:
                await run.decode(event, decode)
    await run.close()
    return run.verdict()


class _Link(NamedTuple):
    """An event that is there: its place in the chain."""

    seq: int
    previous_digest: str
    digest: str


class _Run:
    """A walk along one run."""

    def __init__(self, store: AuditStore, stream: StreamId) -> None:
        self._store = store
        self._stream = stream
        self._links: list[_Link] = []
        self._first: CheckpointEvent | None = None
        self._snapshots: set[int] = set()
        self._needs: list[tuple[int, int]] = []
        """Deltas and the bases they need, as seqs."""
        self._removed = Removals()
        self._last_newer = 0
        """The seq of the last event of a later schema, which may hold a record that cannot be read here."""
        self._problems: list[Problem] = []
        self.bad: set[int] = set()

    def take(self, event: CheckpointEvent) -> None:
        """Look at the next event by itself, and note what the whole walk needs of it."""
        self._links.append(_Link(event.seq, event.previous_digest, event.digest))
        if event.stream != self._stream:
            self._report(event.seq, "stray", f"it says that it belongs to run {event.run_id!r}")
        elif is_newer(event):
            self._report(event.seq, "newer", flaw_of(event))
            self._last_newer = event.seq
        elif not is_whole(event):
            self._report(event.seq, "changed", _damage(event))
        else:
            self._first = self._first or event
            self._removed.add(event)
            payload = event.payload
            if payload is not None and payload.base_seq is None:
                self._snapshots.add(event.seq)
            elif payload is not None and payload.base_seq is not None:
                self._needs.append((event.seq, payload.base_seq))

    async def decode(self, event: CheckpointEvent, decode: Decode) -> None:
        try:
            await decode(event)
        except (CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
            self._report(event.seq, "undecodable", str(error))

    async def close(self) -> None:
        """Look at the links between the events."""
        if not self._links:
            self._report(0, "missing", "the run is listed, and none of its events is there")
            return
        previous = _Link(0, "", "")
        for link in self._links:
            await self._check_link(previous, link)
            previous = link
        reported = self.bad & {link.seq for link in self._links}
        for seq, base in self._needs:
            if base not in self._snapshots | reported:
                self._report(seq, "base", f"it is a delta against seq {base}, which is no whole snapshot of this run")

    def verdict(self) -> Verdict:
        head = self._links[-1] if self._links else _Link(0, "", "")
        return Verdict(
            stream=self._stream,
            events=len(self._links),
            pruned=self._removed.count(head.seq) - sum(self._removed.covers(link.seq) for link in self._links),
            head_seq=head.seq,
            head_digest=head.digest,
            problems=tuple(sorted(self._problems, key=lambda problem: problem.seq)),
        )

    async def _check_link(self, previous: _Link, link: _Link) -> None:
        if link.seq == previous.seq + 1:
            if previous.seq == 0:
                await self._check_beginning(link)
            elif link.previous_digest != previous.digest and not {link.seq, previous.seq} & self.bad:
                self._report(link.seq, "reordered", f"it does not follow the event at seq {previous.seq}")
            return
        if link.seq <= previous.seq:
            self._report(link.seq, "reordered", f"it stands behind seq {previous.seq}")
            return
        problem = self._gap(previous, link)
        if problem and self._last_newer >= link.seq:
            record = f"unless the event at seq {self._last_newer} has the record, which this version cannot judge"
            self._report(previous.seq + 1, "newer", f"{problem}, {record}")
        elif problem:
            self._report(previous.seq + 1, "missing", problem)

    def _gap(self, previous: _Link, link: _Link) -> str:
        """What is wrong with the gap between two events; empty where it was recorded, and the chain closes over it."""
        first, last = previous.seq + 1, link.seq - 1
        name = f"seq {first} is" if first == last else f"seqs {first} to {last} are"
        if not self._removed.covers(first, last):
            return f"{name} gone, and no removal of them was recorded"
        before, after = self._removed.from_first.get(first), self._removed.to_last.get(last)
        if before and previous.seq and previous.seq not in self.bad and before.previous_digest != previous.digest:
            return f"{name} gone, and the first of them did not follow the event at seq {previous.seq}"
        if after and link.seq not in self.bad and after.digest != link.previous_digest:
            return f"{name} gone, and the event at seq {link.seq} did not follow the last of them"
        return ""

    async def _check_beginning(self, link: _Link) -> None:
        event = self._first
        if event is None or event.seq != 1:  # the first event is reported already
            return
        origin = event.forked_from
        if origin is None or origin.seq == 0:
            if link.previous_digest:
                self._report(1, "reordered", "it follows another event, though it begins the run")
            return
        stream = StreamId(origin.workflow_name, origin.run_id)
        found = [header async for header in self._store.headers(stream, gt=origin.seq - 1, lte=origin.seq)]
        if not found and not 0 < origin.seq <= MAX_SEQ:
            self._report(1, "fork", f"it says that it follows seq {origin.seq}, which no event has")
        if not found:
            return  # pruned, or in another store: that run's own verdict tells
        if found[0].digest != link.previous_digest:
            self._report(1, "fork", f"it does not follow seq {origin.seq} of run {origin.run_id!r}, as it says")

    def _report(self, seq: int, why: Why, detail: str) -> None:
        self.bad.add(seq)
        self._problems.append(Problem(self._stream, seq, why, detail))


def _damage(event: CheckpointEvent) -> str:
    if event.payload is None and not event.timestamp and not event.recorded_at:
        return "its header is damaged, or is that of another event"
    return "its digest is not that of what it holds"
