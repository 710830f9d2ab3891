"""Whether a log is what its writers wrote: every digest, every link between them, no gap that nobody recorded.

Nothing is decoded unless asked for. A removal is recorded by an event of the same run, with the digests on both sides
of each stretch that is gone, so that the chain closes over it: what is missing without such a record is missing. Of
whole runs the removals of their workflow tell as well, and are held against what each run's own record says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple, TypeAlias

from ..chain import flaw_of, is_newer, is_whole
from ..codec.tree import Tree
from ..errors import CheckpointDecodeError, CheckpointNotFoundError, CheckpointTypeNotAllowedError
from ..events import MAX_SEQ, CheckpointEvent, Pruned, StreamId
from ..removals import Removals
from ..stores import AuditStore
from ..stores.walks import in_pages
from .kinds import RUNS, LogKind, misplaced
from .links import Bases, Chain
from .removed import RecordedRemovals, Removed, flaws_of_removal

__all__ = ["Problem", "Verdict", "identity_flaw", "verify_run", "verify_runs"]

Why: TypeAlias = Literal[
    "changed",
    "missing",
    "reordered",
    "undecodable",
    "stray",
    "base",
    "fork",
    "payload",
    "projection",
    "newer",
    "removal",
]
"""changed: the event is not the one that was written. missing: there is a gap. reordered: the event is whole, and
follows another one than it says. base: what a delta needs is not there. fork: a fork does not follow the event that it
says it came from. stray: an event lies in a run that it does not belong to, or a turn of a session among runs, or the
other way round. payload: the payload is another one than the header describes. projection: the run has no "latest"
document, or one that says another thing than the log did when it was written. newer: a later version of eventckpt wrote
the event, and this one cannot judge it. removal: a removal of runs tells of one what the run's own log does not,
or none tells of a run that is gone."""

Decode: TypeAlias = Callable[[CheckpointEvent], Awaitable[Mapping[str, Tree]]]


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
    not_gone_yet: int = 0
    """How many of the events that are there are recorded as removed: a prune was cut off, and the next one goes on with
    it. No problem: they count no more."""
    removed: Removed | None = None
    """Who removed the run as a whole, the last time that somebody did. It may have been begun again since."""
    notes: tuple[str, ...] = ()
    """Of what tells of removals: which runs have another history in this store. Nothing is wrong with it."""

    @property
    def ok(self) -> bool:
        return not self.problems


async def verify_run(
    store: AuditStore, stream: StreamId, decode: Decode | None = None, *, kind: LogKind = RUNS
) -> Verdict:
    """Check one run from its first event to its head, also what is recorded as removed and still there.

    Args:
        store: the engine.
        stream: the run.
        decode: called with each whole event that holds something, for that; what it cannot decode is a problem, and so
            is a state of which the header says something else.
        kind: what the log is of.
    """
    async with aclosing(_verified(store, [stream], decode, kind, RecordedRemovals(store))) as verdicts:
        return await anext(verdicts)


async def verify_runs(
    store: AuditStore, streams: AsyncIterable[StreamId], decode: Decode | None = None, *, kind: LogKind = RUNS
) -> AsyncGenerator[Verdict, None]:
    """`verify_run` for each of these runs, in their order: read a page of runs at a time."""
    recorded = RecordedRemovals(store)
    async with aclosing(in_pages(streams)) as pages:
        async for page in pages:
            async with aclosing(_verified(store, page, decode, kind, recorded)) as verdicts:
                async for verdict in verdicts:
                    yield verdict


async def _verified(
    store: AuditStore,
    streams: Sequence[StreamId],
    decode: Decode | None,
    kind: LogKind,
    recorded: RecordedRemovals,
) -> AsyncGenerator[Verdict, None]:
    run: _Run | None = None
    async with aclosing(store.events_of_runs(streams)) as stretches:
        async for stretch in stretches:
            run = run or _Run(store, stretch.stream, kind)
            for event in stretch.events:
                run.take(event)
                if event.seq in run.bad:
                    continue
                if event.removal is not None:
                    await run.check_removal(event)
                elif decode is not None and event.type != "tombstone":
                    await run.decode(event, decode)
            if stretch.ends:
                await run.close()
                verdict = run.verdict()
                if run.closing is not None:
                    verdict = _of_removed(verdict, await recorded.of(run.closing, verdict.not_gone_yet))
                yield verdict
                run = None


def _of_removed(verdict: Verdict, removed: Removed) -> Verdict:
    """The same of a run that was removed as a whole: whatever is gone, something among the removals tells of."""
    verdict = verdict._replace(removed=removed)
    if removed.told_at or removed.left:  # of one that was cut off nothing tells yet, and nothing has gone
        return verdict
    untold = Problem(verdict.stream, removed.seq, "removal", _UNTOLD)
    return verdict._replace(problems=tuple(sorted([*verdict.problems, untold], key=lambda problem: problem.seq)))


class _Run:
    """A walk along one run.

    Kept of it is what its records may ask for, and they come last: of each event the digest, of each stretch of seqs
    without a gap what its first event follows, and of events that are wrong by themselves that they are.
    """

    def __init__(self, store: AuditStore, stream: StreamId, kind: LogKind) -> None:
        self._store = store
        self._stream = stream
        self._kind = kind
        self._chain = Chain()
        self._events = 0
        self._first: CheckpointEvent | None = None
        self._bases = Bases()
        self._needs: list[tuple[int, tuple[int, ...]]] = []
        """Deltas whose bases were not met before them, and those, as seqs."""
        self._records: dict[Pruned, int] = {}
        """What was recorded as removed, and the seq of the first record of it."""
        self._removed = Removals()
        self._last_newer = 0
        """The seq of the last event of a later schema, which may hold a record that cannot be read here."""
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self.bad: set[int] = set()
        self.closing: CheckpointEvent | None = None
        """The newest record that closes the run."""

    def take(self, event: CheckpointEvent) -> None:
        """Look at the next event by itself and beside the one before, and note what the whole walk needs of it."""
        before = self._chain.head
        self._events += 1
        self._look_at(event)
        if event.seq <= before.seq:
            self._report(event.seq, "reordered", f"it stands behind seq {before.seq}")
            return
        self._chain.add(event)
        if event.seq != before.seq + 1 or before.seq == 0 or event.previous_digest == before.digest:
            return
        if not {event.seq, before.seq} & self.bad:
            self._report(event.seq, "reordered", f"it does not follow the event at seq {before.seq}")

    def _look_at(self, event: CheckpointEvent) -> None:
        if event.run_id != self._stream.run_id or event.workflow_name != self._stream.workflow_name:
            self._report(event.seq, "stray", f"it says that it belongs to run {event.run_id!r}")
        elif is_newer(event):
            self._report(event.seq, "newer", flaw_of(event))
            self._last_newer = event.seq
        elif not is_whole(event):
            self._report(event.seq, "changed", _damage(event))
        elif wrong := misplaced(event, self._kind):
            self._report(event.seq, "stray", f"it {wrong}")
        else:
            self._first = self._first or event
            self._removed.add(event)
            for removed in event.pruned:
                self._records.setdefault(removed, event.seq)
            if event.closes:
                self._close(event)
            payload = event.payload
            if payload is None:
                return
            if payload.stored_size != len(payload.data):
                said = f"its header says that {payload.stored_size:,} bytes are stored, and they are"
                self._report(event.seq, "payload", f"{said} {len(payload.data):,}")
            if not self._bases.serve(event.seq, payload.bases):
                self._needs.append((event.seq, payload.bases))
            self._bases.add(event.seq, payload.bases)

    def _close(self, event: CheckpointEvent) -> None:
        self.closing = event
        if not Removals([event]).covers(1, event.seq - 1):
            self._report(event.seq, "removal", "it closes the run, and does not record all before it as removed")

    async def check_removal(self, event: CheckpointEvent) -> None:
        """Hold what an event among the removals tells against the runs that it names."""
        for flaw in await flaws_of_removal(self._store, event):
            if flaw.why == "elsewhere":
                self._notes.append(f"seq {event.seq}: {flaw.detail}")
            else:
                self._report(event.seq, flaw.why, flaw.detail)

    async def decode(self, event: CheckpointEvent, decode: Decode) -> None:
        try:
            flaw = identity_flaw(event, await decode(event))
        except CheckpointNotFoundError:
            return  # removed since it was read, which is on record
        except (CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
            self._report(event.seq, "undecodable", str(error))
        else:
            if flaw:
                self._report(event.seq, "payload", flaw)

    async def close(self) -> None:
        """Look at what only the whole walk tells: the gaps, and what the records say."""
        if not self._chain.head.seq:
            if not self._events:
                self._report(0, "missing", "the run is listed, and none of its events is there")
            return
        if self._records or any(self._chain.gaps()):
            await self._explain_gaps()
            for first, last in self._chain.gaps():
                self._check_gap(first, last)
            self._check_records()
        await self._check_beginning()
        for seq, bases in self._needs:
            if (
                not self._bases.serve(seq, bases)
                and not self._removed.covers(seq)
                and not any(map(self._is_reported, bases))
            ):
                self._report(seq, "base", f"it is a delta against {_BASE_OF[len(bases)].format(*bases)} of this run")

    def _is_reported(self, seq: int) -> bool:
        return seq in self.bad and self._chain.digest_at(seq) is not None

    async def _explain_gaps(self) -> None:
        """Ask for the newest record where the walk has not met one that explains a gap, or what a delta lacks: a
        removal that was recorded after the walk's last page."""
        if all(self._removed.covers(*gap) for gap in self._chain.gaps()):
            return
        located = await self._store.find("", stream=self._stream)
        if located is None or not located.event.pruned or not is_whole(located.event):
            return
        self._removed.add(located.event)
        for removed in located.event.pruned:
            self._records.setdefault(removed, located.event.seq)

    def verdict(self) -> Verdict:
        head = self._chain.head
        there = sum(self._removed.covers(seq) for seq in self._chain.seqs()) if self._removed else 0
        return Verdict(
            stream=self._stream,
            events=self._events,
            pruned=self._removed.count(head.seq) - there if self._removed else 0,
            head_seq=head.seq,
            head_digest=head.digest,
            problems=tuple(sorted(self._problems, key=lambda problem: problem.seq)),
            not_gone_yet=there,
            notes=tuple(self._notes),
        )

    def _check_gap(self, first: int, last: int) -> None:
        if self._removed.covers(first, last):
            return
        problem = f"{_named(first, last)} gone, and no removal of them was recorded"
        if self._last_newer > last:
            record = f"unless the event at seq {self._last_newer} has the record, which this version cannot judge"
            self._report(first, "newer", f"{problem}, {record}")
        else:
            self._report(first, "missing", problem)

    def _check_records(self) -> None:
        """At both ends of every stretch that is on record, all say the same: the records, and the events that are there
        on either side, inside of the stretch too."""
        ends: dict[int, dict[str, int]] = {}
        for removed, record in self._records.items():
            if removed.first > removed.last or removed.last >= record:
                self._report(record, "reordered", f"it records a removal of seqs {removed.first} to {removed.last}")
                continue
            ends.setdefault(removed.first - 1, {}).setdefault(removed.previous_digest, record)
            ends.setdefault(removed.last, {}).setdefault(removed.digest, record)
        for seq in sorted(ends):
            self._check_end(seq, ends[seq])

    def _check_end(self, seq: int, said: dict[str, int]) -> None:
        """Whether the event at a seq is the one of which records say the digest, and the one behind follows it."""
        records = f"the record at seq {min(said.values())}"
        own, followed = self._chain.digest_at(seq), self._chain.followed_by(seq + 1)
        before, after = (own is not None and seq not in self.bad), (followed is not None and seq + 1 not in self.bad)
        if len(said) > 1:
            several = " and ".join(str(record) for record in sorted(said.values()))
            self._report(min(said.values()), "reordered", f"the records at seqs {several} disagree on seq {seq}")
        elif before and own not in said:
            if self._removed.covers(seq):
                self._report(seq, "reordered", f"it is not the event that {records} tells of")
            else:
                gone = _named(*self._chain.gap_around(seq + 1))
                self._report(
                    seq + 1, "missing", f"{gone} gone, and the first of them did not follow the event at seq {seq}"
                )
        elif after and followed not in said and seq > 0:
            if self._removed.covers(seq + 1):
                self._report(seq + 1, "reordered", f"it does not follow what {records} tells of")
            else:
                gone = _named(*self._chain.gap_around(seq))
                self._report(
                    seq, "missing", f"{gone} gone, and the event at seq {seq + 1} did not follow the last of them"
                )
        elif after and followed not in said:
            self._report(1, "reordered", f"it does not begin the run that {records} tells of")

    async def _check_beginning(self) -> None:
        event = self._first
        if event is None or event.seq != 1:  # the first event is reported already, or removed
            return
        origin = event.forked_from
        if origin is None or origin.seq == 0:
            if event.previous_digest:
                self._report(1, "reordered", "it follows another event, though it begins the run")
            return
        stream = StreamId(origin.workflow_name, origin.run_id)
        found = [header async for header in self._store.headers(stream, gt=origin.seq - 1, lte=origin.seq)]
        if not found and not 0 < origin.seq <= MAX_SEQ:
            self._report(1, "fork", f"it says that it follows seq {origin.seq}, which no event has")
        if not found:
            return  # pruned, or in another store: that run's own verdict tells
        if found[0].digest != event.previous_digest:
            self._report(1, "fork", f"it does not follow seq {origin.seq} of run {origin.run_id!r}, as it says")

    def _report(self, seq: int, why: Why, detail: str) -> None:
        self.bad.add(seq)
        self._problems.append(Problem(self._stream, seq, why, detail))


def identity_flaw(event: CheckpointEvent, tree: Mapping[str, Tree]) -> str:
    """What the header of an event says of its checkpoint that the state in it does not; empty: they agree."""
    if event.type != "checkpoint":
        return _roles_flaw(event, tree) if event.type == "turn" else ""
    stored = {
        "checkpoint_id": event.checkpoint_id,
        "workflow_name": event.workflow_name,
        "previous_checkpoint_id": event.previous_checkpoint_id,
        "timestamp": event.timestamp,
        "iteration_count": event.iteration_count,
        "graph_signature_hash": event.graph_signature_hash,
    }
    wrong = [name for name, said in stored.items() if tree.get(name) != said]
    return f"the header and the state disagree on {', '.join(wrong)}" if wrong else ""


def _roles_flaw(event: CheckpointEvent, tree: Mapping[str, Tree]) -> str:
    messages = tree.get("messages")
    if event.turn is None or not isinstance(messages, list):
        return "the header or the payload is that of no turn"
    roles = Counter(str(message.get("role")) if isinstance(message, dict) else "" for message in messages)
    return "" if roles == event.turn.roles else "the header and the messages disagree on their roles"


_UNTOLD: Final = (
    "the run was removed, and nothing among the removals of its workflow tells of it: what told of it was cut, or the "
    "run came by itself, by an import; delete it again to have it told"
)
_BASE_OF: Final = {
    1: "seq {}, which is no whole snapshot",
    2: "seq {}, which is no whole delta against a whole snapshot at seq {}",
}


def _named(first: int, last: int) -> str:
    return f"seq {first} is" if first == last else f"seqs {first} to {last} are"


def _damage(event: CheckpointEvent) -> str:
    if event.payload is None and not event.timestamp and not event.recorded_at:
        return "its header is damaged, or is that of another event"
    return "its digest is not that of what it holds"
