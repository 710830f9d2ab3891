"""How runs are removed as a whole, for good.

Three steps, and after each of them a process may die: the store then tells the truth, and doing it again finishes it.

1. Each run is closed: a record at its head says that all of it is removed. It is appended behind what was looked at, so
   that of a removal and a save one finds that the other was faster. From then on nothing of the run counts, and whoever
   remembers the run meets a conflict.
2. The removals are recorded: one event for all of them, in the stream of the workflow's removals, with the digests of
   the records that close them. So it can be told of an older view of the store what became of a run in it.
3. The events go, all but the record. It stays, so that no seq is ever free again.

A run is closed where its head is such a record. What comes behind one is another life of the run, which is judged by
itself; what a removal that was cut off has left of the one before is finished first.

Sessions are runs here: those of one `source_id` are those of one workflow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Final, Literal, NamedTuple, TypeAlias

from .. import settings
from ..clock import SYSTEM_CLOCK
from ..errors import (
    AmbiguousNameError,
    CheckpointStoreError,
    RunClaimedError,
    RunNotRemovedError,
    StreamConflict,
)
from ..events import (
    MAX_REASON,
    REMOVALS,
    Annotation,
    CheckpointEvent,
    Pruned,
    Removal,
    RunInfo,
    StreamId,
)
from ..removals import Removals
from ..runs import ENDED, fold
from ..side_by_side import side_by_side
from ..stores import AuditStore, EventStore
from ..stores.walks import headers_of, in_pages, runs_of
from ..text import described
from .claiming import Claims, Holder, claimed
from .compose import removal_after, removed_run
from .damage import broken_in, damage_in
from .telling import tell

__all__ = [
    "Refusal",
    "RunRemoval",
    "Seen",
    "ToRemove",
    "closing_of",
    "each_of",
    "not_removed",
    "parted",
    "refusal_of",
    "remove_run",
    "remove_runs",
    "run_called",
    "seen_in",
]

_NOTHING: Final = Annotation(carried=True)
_TRIES: Final = 100  # of closing one run that is written to meanwhile

Why: TypeAlias = Literal["held", "claimed", "unfinished", "damaged", "moved"]


class Seen(NamedTuple):
    """What of a run is to go, as it was when somebody looked."""

    head: CheckpointEvent
    seqs: tuple[int, ...]
    stored_size: int
    """Bytes of payload."""
    whole: Pruned
    """All of it as one stretch, with what an earlier record says of its beginning."""
    says: bool
    """Whether an event says something about the run."""


class ToRemove(NamedTuple):
    """A run that is to be removed."""

    stream: StreamId
    digest: str = ""
    """Of its head, when whoever removes it looked: a run that has another head by then is left alone. Empty: as long as
    it has ended, it is removed whatever came meanwhile."""
    seen: Seen | None = None
    """By whoever found with `refusal_of` and the claims that it may go, and gives its `digest`: it is not looked at
    again."""
    only_left: bool = False
    """Whether only what an earlier removal has left is to go, whoever began the run again since."""


class Refusal(NamedTuple):
    """Why a run is left alone."""

    kind: Why
    """held: it is on hold; claimed: a holder who lives has the claim on it; unfinished: it has not ended; damaged: it
    cannot be read whole by this version; moved: it was written to since it was looked at."""
    why: str
    """For a line that begins with the run, as those of a prune."""
    holder: Holder | None = None
    """Of one that is claimed."""

    @property
    def sentence(self) -> str:
        """Why, as a sentence without its full stop."""
        return self.why if self.kind == "damaged" else f"it {self.why}"


class RunRemoval(NamedTuple):
    """What became of a run that was to be removed."""

    stream: StreamId
    state: Literal["removed", "refused", "missing", "removed before"]
    events: int = 0
    """How many were removed now."""
    stored_size: int = 0
    """Bytes of payload that this freed."""
    refusal: Refusal | None = None
    record: CheckpointEvent | None = None
    """What closes it, where it was removed, now or before."""


class _Look(NamedTuple):
    """A run as it was found."""

    stream: StreamId
    record: CheckpointEvent | None = None
    """What closes it: to be appended, or there already; None: there is nothing to close."""
    is_closed: bool = False
    seqs: tuple[int, ...] = ()
    """Of the events that go."""
    stored_size: int = 0
    refusal: Refusal | None = None
    left: _Look | None = None
    """Of a run that was begun again: what an earlier removal has left, which goes first, and whatever becomes of the
    rest."""


async def remove_runs(
    store: AuditStore,
    runs: AsyncIterable[ToRemove],
    *,
    actor: str | None,
    reason: str | None = None,
    archive: str | None = None,
    archive_sha256: str | None = None,
    force: bool = False,
    claims: Claims | None = None,
    epoch: int = 0,
) -> AsyncGenerator[RunRemoval, None]:
    """Remove runs; what became of each, in their order, a batch of up to 256 runs at a time. Go through all of it: what
    is not asked for is not removed.

    A run on hold, one that is claimed by a holder who lives, one that is damaged or that a later version wrote in, and
    one that has not ended is left alone. What an earlier removal did not come to remove is removed in any case.

    Args:
        store: the engine; of sessions, what `sessions` gives.
        runs: which. Those of one workflow next to each other are a batch; of each of these one event tells.
        actor: who removes them.
        reason: why, 1 to 1,000 characters.
        archive: the name of the file that has what is removed. It must have been written and read back.
        archive_sha256: of that file, hexadecimal.
        force: also remove what has not ended.
        claims: what has seen the claims of others; see `Claims`. None: nothing has, so that every claim whose document
            is there counts as its holder's.
        epoch: that of the claim on the run that whoever removes it holds; 0: none.

    Raises:
        TypeError, ValueError: an argument is not of this form.
        CheckpointStoreError: the engine failed. Nothing is removed that is not recorded; do it again.
    """
    if reason is not None:
        settings.text("reason", reason, longest=MAX_REASON)
    of_all = Removal(runs=(), reason=reason, archive=archive, archive_sha256=archive_sha256)
    removing = _Removing(store, actor, of_all, force, claims or Claims(store, SYSTEM_CLOCK), epoch)
    async with aclosing(in_pages(runs)) as pages:
        async for page in pages:
            for _, batch in groupby(page, key=lambda each: each.stream.workflow_name):
                for removal in await removing.remove(list(batch)):
                    yield removal


async def remove_run(
    store: EventStore,
    stream: StreamId,
    *,
    actor: str | None,
    force: bool,
    claims: Claims | None = None,
    epoch: int = 0,
) -> RunRemoval:
    """Remove one run; what became of it.

    Args:
        store: the engine.
        stream: the run.
        actor, force, claims, epoch: as for `remove_runs`.

    Raises:
        RunNotRemovedError, RunClaimedError: it was left alone.
        CheckpointStoreError: the engine failed, or cannot remove events.
    """
    each = each_of([stream])
    runs = remove_runs(_removable(store), each, actor=actor, force=force, claims=claims, epoch=epoch)
    [removal] = [each async for each in runs]
    if (error := not_removed(removal)) is not None:
        raise error
    return removal


async def run_called(store: EventStore, run_id: str) -> StreamId | None:
    """The only run with this id, of whichever workflow; None: there is none. Where there are several, those do not
    count that were removed, or that a prune has emptied.

    Raises:
        AmbiguousNameError: several workflows have one.
        CheckpointStoreError: the engine failed, or cannot remove events.
    """
    async with aclosing(_removable(store).streams(prefix=run_id)) as streams:
        found = sorted([stream async for stream in streams if stream.run_id == run_id])
    if len(found) > 1:
        infos = [fold(await headers_of(store, stream)) for stream in found]
        found = [info.stream for info in infos if info is not None and not info.is_emptied]
    if len(found) > 1:
        workflows = [stream.workflow_name for stream in found]
        raise AmbiguousNameError(
            f"Run {run_id!r} is one of {len(found)} workflows, such as {described(workflows[0])} and "
            f"{described(workflows[1])}: give workflow_name. Nothing was removed.",
            candidates=workflows,
        )
    return found[0] if found else None


def _removable(store: EventStore) -> AuditStore:
    if isinstance(store, AuditStore):
        return store
    why = "cannot remove events, so that no run can be removed from it: it is no AuditStore."
    raise CheckpointStoreError(f"{type(store).__name__} {why}")


async def each_of(streams: Iterable[StreamId]) -> AsyncGenerator[ToRemove, None]:
    """These runs, for `remove_runs`."""
    for stream in streams:
        yield ToRemove(stream)


def not_removed(removal: RunRemoval) -> RunNotRemovedError | RunClaimedError | None:
    """The error of a run that was left alone; None: it was not."""
    stream, refusal = removal.stream, removal.refusal
    if refusal is None:
        return None
    if refusal.kind == "claimed":
        return claimed(stream, refusal.holder)
    return RunNotRemovedError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was not removed: {refusal.sentence}.",
        stream=stream,
        kind=refusal.kind,
    )


def closing_of(headers: Sequence[CheckpointEvent]) -> CheckpointEvent | None:
    """The newest record that closes a run, of all its headers in order of seq; None: it never was removed as a whole.
    The run is closed where that is its head: otherwise it was begun again since."""
    return next((header for header in reversed(headers) if header.closes), None)


def parted(headers: Sequence[CheckpointEvent]) -> tuple[list[CheckpointEvent], list[CheckpointEvent]]:
    """What an earlier removal of a run has left of it, by the newest record that closes it; and the rest: that record,
    and what came behind it where the run was begun again.

    Args:
        headers: all of the run, in order of seq.
    """
    closing = closing_of(headers)
    removals = Removals([closing] if closing is not None else [])
    left = [header for header in headers if removals.covers(header.seq)]
    return left, [header for header in headers if not removals.covers(header.seq)]


def refusal_of(headers: Sequence[CheckpointEvent], *, force: bool, info: RunInfo | None = None) -> Refusal | None:
    """Why a run is to be left alone as it stands, whoever has the claim on it; None: it is not.

    Args:
        headers: all of the run, in order of seq; at least one.
        force: whether it is to be removed also where it has not ended, or is damaged so that this can be recorded.
        info: what the run amounts to, by whoever has folded these.
    """
    if damage := damage_in(headers):
        return Refusal("damaged", damage)
    if not force and (damage := broken_in(headers)):
        return Refusal("damaged", f"{damage}; force removes it all the same")
    info = info or fold(headers)
    if info is None or info.is_emptied:
        return None
    if info.hold:
        return Refusal("held", "is on hold, which nothing overrides: annotate it with hold=False first")
    if force or info.status in ENDED:
        return None
    if info.pending_requests:
        return Refusal("unfinished", f"waits for {len(info.pending_requests)} answers; force removes it all the same")
    nothing_says = ", and nothing says that it ended" if info.status == "open" else ""
    return Refusal("unfinished", f"is {info.status}{nothing_says}; force removes it all the same")


class _Removing:
    """Removes runs of one store.

    Args:
        store, actor, force, claims, epoch: see `remove_runs`.
        of_all: what its events say beside the runs.
    """

    def __init__(
        self, store: AuditStore, actor: str | None, of_all: Removal, force: bool, claims: Claims, epoch: int
    ) -> None:
        self._store = store
        self._actor = actor
        self._of_all = of_all
        self._force = force
        self._claims = claims
        self._epoch = epoch

    async def remove(self, batch: Sequence[ToRemove]) -> list[RunRemoval]:
        """Remove runs of one workflow: what is left of earlier lives goes, then all are closed, and go."""
        wanted = {each.stream: each for each in batch}
        looks = {each.stream: self._closing(each.seen) for each in batch if each.seen is not None}
        unseen = [stream for stream in wanted if stream not in looks]
        async with aclosing(self._all_of(unseen)) as found:
            async for stream, headers in found:
                looks[stream] = await self._looked(wanted[stream], headers)
        left = {look.stream: look.left for look in looks.values() if look.left is not None}
        finished = await self._gone(left.values())
        closed = await side_by_side(
            lambda look: self._closed(wanted[look.stream], look), [looks[stream] for stream in wanted]
        )
        going = [look for look in closed if look.record is not None and look.seqs]
        untold = await self._untold([look for look in closed if look.is_closed and not look.seqs])
        removed = await self._gone([*going, *untold])
        outcomes = [_outcome(look, removed[look.stream]) for look in closed]
        sizes = Counter({stream: look.stored_size for stream, look in left.items()})
        return [
            each._replace(events=each.events + finished[name], stored_size=each.stored_size + sizes[name])
            for name, each in zip(wanted, outcomes, strict=True)
        ]

    async def _gone(self, closed: Collection[_Look]) -> Counter[StreamId]:
        """How many events of each of these runs were removed: it is recorded, and then they go."""
        if not closed:
            return Counter()
        await self._record(closed)
        counts = await side_by_side(lambda look: self._store.remove(look.stream, look.seqs), list(closed))
        await self._store.remove_orphaned_parts()
        return Counter(dict(zip((look.stream for look in closed), counts, strict=True)))

    async def _all_of(self, wanted: Iterable[StreamId]) -> AsyncGenerator[tuple[StreamId, list[CheckpointEvent]], None]:
        async def streams() -> AsyncGenerator[StreamId, None]:
            for stream in wanted:
                yield stream

        async with aclosing(streams()) as each, aclosing(runs_of(self._store, each)) as found:
            async for run in found:
                yield run

    async def _looked(self, wanted: ToRemove, headers: list[CheckpointEvent]) -> _Look:
        stream = wanted.stream
        if not headers:
            return _Look(stream)
        going, rest = parted(headers)
        left = _Look(stream, closing_of(headers), True, tuple(header.seq for header in going), _size(going))
        if wanted.only_left or headers[-1].closes:
            return left
        look = await self._judged(wanted, rest)
        return look._replace(left=left) if going else look

    async def _judged(self, wanted: ToRemove, headers: Sequence[CheckpointEvent]) -> _Look:
        """A run that is not closed, by what counts of it."""
        stream, head = wanted.stream, headers[-1]
        if wanted.digest not in ("", head.digest):
            return _Look(stream, refusal=_moved(head))
        refusal = refusal_of(headers, force=self._force)
        is_free = head.claim in (None, self._epoch)
        if refusal is None and not is_free and (holder := await self._claims.holder(stream)) is not None:
            refusal = Refusal("claimed", f"is {holder.named()}", holder)
        if refusal is not None:
            return _Look(stream, refusal=refusal)
        return self._closing(seen_in(headers))

    def _closing(self, seen: Seen) -> _Look:
        stays = _NOTHING if seen.says else None  # of a session nothing is said
        record = removal_after(seen.head, (seen.whole,), self._actor, stays=stays, closes=True)
        return _Look(seen.head.stream, record, seqs=seen.seqs, stored_size=seen.stored_size)

    async def _closed(self, wanted: ToRemove, look: _Look) -> _Look:
        """The run once it is closed: the first step. Who finds that it was written to meanwhile looks again."""
        for _ in range(_TRIES):
            if look.record is None or look.is_closed:
                return look
            try:
                await self._store.append(look.record)
            except StreamConflict:
                look = await self._looked(wanted, await headers_of(self._store, look.stream))
            else:
                return look
        return _Look(look.stream, refusal=Refusal("moved", f"was written to {_TRIES} times meanwhile; do it again"))

    async def _untold(self, gone: Sequence[_Look]) -> list[_Look]:
        """Of runs that were removed before, those of which nothing tells; see `eventckpt.audit.verify`."""
        untold = {removed_run(look.record): look for look in gone if look.record is not None}
        if not untold:
            return []
        removals = self._store.headers(StreamId(gone[0].stream.workflow_name, REMOVALS), desc=True)
        async with aclosing(removals):
            async for header in removals:
                for run in header.removal.runs if header.removal is not None else ():
                    untold.pop(run, None)
                if not untold:
                    break
        return list(untold.values())

    async def _record(self, closed: Iterable[_Look]) -> None:
        """Append the event that tells of the removal: the second step."""
        records = [look.record for look in closed if look.record is not None]
        name = records[0].workflow_name
        removal = Removal(
            runs=tuple(map(removed_run, records)),
            reason=self._of_all.reason,
            archive=self._of_all.archive,
            archive_sha256=self._of_all.archive_sha256,
        )
        await tell(self._store, name, removal, self._actor)


def _outcome(look: _Look, events: int) -> RunRemoval:
    if look.refusal is not None:
        return RunRemoval(look.stream, "refused", refusal=look.refusal)
    if look.record is None:
        return RunRemoval(look.stream, "missing")
    if not look.seqs:
        return RunRemoval(look.stream, "removed before", record=look.record)
    return RunRemoval(look.stream, "removed", events, look.stored_size, record=look.record)


def _moved(head: CheckpointEvent) -> Refusal:
    return Refusal("moved", f"was written to since it was looked at, and ends with seq {head.seq} now; do it again")


def seen_in(headers: Sequence[CheckpointEvent]) -> Seen:
    """All of a run, to go.

    Args:
        headers: all of it, in order of seq; at least one.
    """
    gaps = [gap for header in headers for gap in header.pruned]
    first = min([headers[0].seq, *[gap.first for gap in gaps]])
    before = next((gap.previous_digest for gap in gaps if gap.first == first), headers[0].previous_digest)
    whole = Pruned(first=first, last=headers[-1].seq, previous_digest=before, digest=headers[-1].digest)
    says = any(header.annotation for header in headers)
    return Seen(headers[-1], tuple(header.seq for header in headers), _size(headers), whole, says)


def _size(headers: Iterable[CheckpointEvent]) -> int:
    return sum(header.payload.stored_size for header in headers if header.payload)
