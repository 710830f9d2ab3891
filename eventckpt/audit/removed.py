"""What became of a run that was removed as a whole: its own closing record says when and by whom, and its workflow's
removals say why, and where what was removed lies. Each is held against the other.

`eventckpt.storage.removing` has the steps in which a removal goes.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Final, Literal, NamedTuple

from ..events import REMOVALS, CheckpointEvent, RemovedRun, StreamId
from ..removals import Removals
from ..storage.removing import closing_of, removed_run
from ..stores import AuditStore, EventStore, head_of
from ..stores.walks import removals_of
from ..text import described, safe

__all__ = [
    "Flaw",
    "RecordedRemovals",
    "Removed",
    "by_whom",
    "closed_over",
    "flaws_of_removal",
]

_AT_ONCE: Final = 64  # runs whose closing records are read together


class Removed(NamedTuple):
    """That a run, or a session, was removed as a whole."""

    stream: StreamId
    seq: int
    """Of the record that closed it. Whoever uses the id again goes on behind it."""
    actor: str | None
    """Who removed it."""
    recorded_at: str
    """When, ISO 8601."""
    told_at: int = 0
    """The seq of the event among the workflow's removals that tells of this record; 0: none does. The removal was cut
    off, what told of it is gone, or the run came by itself, by an import."""
    reason: str | None = None
    archive: str | None = None
    """The name of the file that has what was removed."""
    archive_sha256: str | None = None
    left: int = 0
    """How many of the events that were removed are still there: it was cut off, and deleting the run again finishes
    it."""


class Flaw(NamedTuple):
    """Something that a removal tells and that the log of a run does not."""

    why: Literal["missing", "removal", "elsewhere"]
    """elsewhere: the run has another history in this store, where that came by an import that could not take the run.
    Nothing here is damaged: whatever closed this run must be told of by itself."""
    detail: str


async def closed_over(store: EventStore, event: CheckpointEvent) -> CheckpointEvent | None:
    """The record that closed the run of an event, where it was removed with its run; None: it was not, though a prune
    may have recorded it."""
    if event.closes or not (await removals_of(store, event.stream)).covers(event.seq):
        return None
    async with aclosing(store.headers(event.stream, gt=event.seq)) as later:
        return closing_of([header async for header in later])


def by_whom(closing: CheckpointEvent) -> str:
    """Who removed a run, and when, for an error or a note."""
    return f"{f' by {described(closing.actor)}' if closing.actor else ''} ({safe(closing.recorded_at)})"


class _Telling(NamedTuple):
    seq: int
    reason: str | None
    archive: str | None
    archive_sha256: str | None


class RecordedRemovals:
    """What the streams of removals of a store tell, each read once; and read on where a run is told of nowhere yet.

    Args:
        store: of runs, or of sessions.
    """

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._read_to: dict[str, int] = {}
        self._told: dict[str, dict[RemovedRun, _Telling]] = {}
        """By workflow."""

    async def of(self, closing: CheckpointEvent, left: int) -> Removed:
        """What is known of a removal, by the record that closed the run, and how many events are left."""
        removed = Removed(closing.stream, closing.seq, closing.actor, closing.recorded_at, left=left)
        told = self._told.setdefault(closing.workflow_name, {})
        run = removed_run(closing)
        if run not in told:
            await self._read_on(closing.workflow_name, told)
        if (telling := told.get(run)) is None:
            return removed
        return removed._replace(
            told_at=telling.seq,
            reason=telling.reason,
            archive=telling.archive,
            archive_sha256=telling.archive_sha256,
        )

    async def _read_on(self, workflow_name: str, told: dict[RemovedRun, _Telling]) -> None:
        stream, seq = StreamId(workflow_name, REMOVALS), self._read_to.get(workflow_name, 0)
        async with aclosing(self._store.headers(stream, gt=seq)) as headers:
            async for header in headers:
                self._read_to[workflow_name] = header.seq
                if (removal := header.removal) is not None:
                    telling = _Telling(header.seq, removal.reason, removal.archive, removal.archive_sha256)
                    told.update(dict.fromkeys(removal.runs, telling))


async def flaws_of_removal(store: AuditStore, event: CheckpointEvent) -> list[Flaw]:
    """What is not so of what an event among the removals tells: each run that it names has a closing record of that seq
    and digest, or a later record that covers it."""
    runs = event.removal.runs if event.removal is not None else ()
    flaws: list[Flaw] = []
    for at in range(0, len(runs), _AT_ONCE):
        some = runs[at : at + _AT_ONCE]
        streams = [StreamId(event.workflow_name, run.run_id) for run in some]
        places = [(stream, run.seq) for stream, run in zip(streams, some, strict=True)]
        found = {(each.stream, each.seq): each for each in await store.read_each(places)}
        for (stream, seq), run in zip(places, some, strict=True):
            closing = found.get((stream, seq))
            flaw = await _gone(store, stream, run) if closing is None else _other(run, closing)
            flaws += [flaw] if flaw is not None else []
    return flaws


def _other(run: RemovedRun, closing: CheckpointEvent) -> Flaw | None:
    """What is wrong with the event at the seq of a closing record; None: it is that."""
    if closing.digest == run.digest and closing.closes:
        return None
    says = f"it tells that run {run.run_id!r} was closed at seq {run.seq}, and the event there"
    if closing.is_removal and not closing.closes:
        return Flaw("removal", f"{says} closes no run")
    return Flaw("elsewhere", f"{says} is another one: the run has another history in this store")


async def _gone(store: AuditStore, stream: StreamId, run: RemovedRun) -> Flaw | None:
    """What is wrong with a closing record that is not there; None: a later record covers it."""
    located = await store.find("", stream=stream)
    removals = Removals([located.event] if located is not None else [])
    if removals.covers(run.seq):
        last = removals.to_last.get(run.seq)
        if last is None or last.digest == run.digest:
            return None
        says = f"it tells that run {run.run_id!r} was closed at seq {run.seq}, and a later record that another event"
        return Flaw("elsewhere", f"{says} was there: the run has another history in this store")
    what = "nothing of it is there, not even its closing record"
    if await head_of(store, stream) is not None:
        what = "its closing record is not there: import the run again, or delete it here"
    return Flaw("missing", f"it tells that run {run.run_id!r} was removed up to seq {run.seq}, and {what}")
