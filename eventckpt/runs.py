"""What of a run counts, which of its checkpoints are live, and what it amounts to: the one definition for reading, for
the projection and its comparison, and for listings.

Works on headers; nothing is decoded. What a prune has recorded as removed counts no more, whether it is gone already or
not: so log and projection say the same of a run while its events are going, and afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from .event_keys import EventKey, EventKeys
from .events import Annotation, CheckpointEvent, RunInfo, RunStatus, StreamId, Summary
from .removals import Removals

__all__ = [
    "ENDED",
    "AllLive",
    "Folding",
    "LiveBackwards",
    "advance",
    "agree",
    "carried",
    "counted",
    "fold",
    "live",
    "pointing",
    "status",
]

_Event = TypeVar("_Event", CheckpointEvent, EventKey)

ENDED: Final[tuple[RunStatus, ...]] = ("done", "failed", "cancelled")
"""How a run stands that has ended, unless somebody goes on with it."""

_IDLE: Final[frozenset[RunStatus]] = frozenset({"idle", "done", "open"})


def status(of: CheckpointEvent | Summary) -> RunStatus:
    """How a run stands whose live checkpoint has this header.

    Only of a graph workflow do checkpoints tell that it ended: each lists its executors. A functional workflow saves
    the same after its last step as after any other, and lists none.
    """
    summary = of.summary if isinstance(of, CheckpointEvent) else of
    if any(summary.messages.values()):
        return "running"
    if summary.pending_requests:
        return "waiting"
    return "done" if summary.executor_ids else "open"


def agree(one: RunStatus, other: RunStatus) -> bool:
    """Whether one run can be both: 0.1.0 said `idle` of one that is done or open."""
    return one == other or ("idle" in (one, other) and {one, other} <= _IDLE)


def counted(headers: Sequence[_Event]) -> Sequence[_Event]:
    """Those of a run's events that count: all but what a record among them says was removed."""
    return _left(headers, Removals(headers))


def _left(headers: Sequence[_Event], removals: Removals) -> Sequence[_Event]:
    return [header for header in headers if not removals.covers(header.seq)] if removals else headers


def live(headers: Iterable[_Event]) -> dict[str, _Event]:
    """By id, the newest event of each live checkpoint, in the order of their commits.

    Args:
        headers: those of a run's events that count, in order of seq.
    """
    found: dict[str, _Event] = {}
    for header in headers:
        _note(found, header)
    return found


class AllLive:
    """Whether all events of some runs are live checkpoints, asked of very many at a time: as where nothing was ever
    superseded, deleted or removed, and no run has a checkpoint of another."""

    def __init__(self) -> None:
        self._met: set[str] = set()
        self._events: Counter[str] = Counter()
        self._sum = 0

    def takes(self, keys: EventKeys) -> bool:
        """Whether it may still be so with the next events."""
        known = len(self._met)
        self._met.update(keys.checkpoint_ids)
        self._events.update(keys.run_ids)
        self._sum += sum(keys.seqs)
        are_new = len(self._met) == known + len(keys.seqs)
        return are_new and min(keys.seqs) > 0 and "tombstone" not in keys.types and not any(keys.records)

    @property
    def is_whole(self) -> bool:
        """Whether none is missing. Of each run there are so many different seqs: they add up to the least that they can
        just where they are 1, 2, 3, …"""
        return self._sum == sum(count * (count + 1) // 2 for count in self._events.values())


class LiveBackwards:
    """The same, newest first and over any number of runs: for a walk that ends as soon as enough is found."""

    def __init__(self) -> None:
        self._met: set[tuple[StreamId, str]] = set()

    def is_live(self, header: CheckpointEvent) -> bool:
        """Whether this is the newest event of a live checkpoint.

        Args:
            header: the next of the walk, one that counts. Within a run the walk goes from the highest seq down.
        """
        key = (header.stream, header.checkpoint_id)
        is_newest = key not in self._met
        self._met.add(key)
        return is_newest and header.type != "tombstone"


def fold(headers: Sequence[CheckpointEvent]) -> RunInfo | None:
    """What a run amounts to after `headers`, all of its events in order of seq; None without events."""
    return _folded(headers, Removals(headers)) if headers else None


class Folding:
    """A fold that goes on: what a run amounts to after each of its events."""

    def __init__(self) -> None:
        self._headers: list[CheckpointEvent] = []
        self._removals = Removals()
        self._live: dict[str, CheckpointEvent] = {}
        self._info: RunInfo | None = None

    def add(self, header: CheckpointEvent) -> RunInfo:
        """What the run amounts to after this event, as `fold` says it of all events up to it."""
        self._headers.append(header)
        if header.pruned and (self._info is None or _removes(header, self._info)):
            self._removals.add(header)
            self._headers = list(_left(self._headers, self._removals))
            self._live = live(self._headers)
            self._info = _folded(self._headers, self._removals)
        else:
            _note(self._live, header)
            self._info = pointing(_added(self._info, [header]), next(reversed(self._live.values()), None))
        return self._info


def _folded(headers: Sequence[CheckpointEvent], removals: Removals) -> RunInfo:
    left = _left(headers, removals)  # never nothing: a record is not older than itself
    info = pointing(_added(None, left), next(reversed(live(left).values()), None))
    return msgspec.structs.replace(info, removed=removals.count(info.seq))


def _note(found: dict[str, _Event], header: _Event) -> None:
    found.pop(header.checkpoint_id, None)
    if header.type != "tombstone":
        found[header.checkpoint_id] = header
    elif isinstance(header, CheckpointEvent) and header.cleared is not None:
        found.clear()


def advance(info: RunInfo | None, *headers: CheckpointEvent) -> RunInfo | None:
    """`info` after the next events of its run, at least one, or of a run that begins.

    None where `info` does not tell enough, and only the log knows: the latest checkpoint was deleted, and which was the
    latest before it; a removal was recorded, and what is left; `info` says `idle`, and what that stands for. Fold the
    log again then.

    Raises:
        ValueError: an event is not the one right after `info`, or after the event before.
    """
    seq, stream = (info.seq, info.stream) if info else (0, headers[0].stream)
    latest: CheckpointEvent | None = None
    latest_id, deleted, cleared = info.checkpoint_id if info else None, False, False
    for header in headers:
        if header.seq != seq + 1 or header.stream != stream:
            raise ValueError(f"seq {header.seq} of {header.stream} does not follow seq {seq} of {stream}")
        seq = header.seq
        if header.type != "tombstone":
            latest, latest_id, deleted, cleared = header, header.checkpoint_id, False, False
        elif header.cleared is not None:
            latest, latest_id, deleted, cleared = None, None, False, True
        elif header.checkpoint_id == latest_id:
            deleted = True
    added = _added(info, headers)
    is_told = latest is not None or cleared or added.status != "idle"
    if deleted or not is_told or any(_removes(header, added) for header in headers):
        return None
    return pointing(added, latest) if latest or cleared else _stood(added)


def _removes(header: CheckpointEvent, info: RunInfo) -> bool:
    """Whether an event records a removal that a document may not know of: records only grow, so that as many seqs are
    the same ones."""
    return bool(header.pruned) and (header.is_removal or Removals([header]).count(info.seq) != info.removed)


def _added(info: RunInfo | None, headers: Sequence[CheckpointEvent]) -> RunInfo:
    """`info` with everything that adds up over the events, or that the head alone tells."""
    first, head = headers[0], headers[-1]
    before = info or RunInfo(
        workflow_name=first.workflow_name,
        run_id=first.run_id,
        seq=0,
        digest="",
        status="open",
        started_at=first.recorded_at,
        forked_from=first.forked_from,
        session=first.turn.session if first.turn else None,
    )
    checkpoints = sum(header.type != "tombstone" for header in headers)
    before = _annotated(before, headers)
    return msgspec.structs.replace(
        before,
        seq=head.seq,
        digest=head.digest,
        checkpoints=before.checkpoints + checkpoints,
        tombstones=before.tombstones + len(headers) - checkpoints,
        stored_size=before.stored_size + sum(header.payload.stored_size for header in headers if header.payload),
        actor=head.actor,
        recorded_at=head.recorded_at,
    )


def _annotated(info: RunInfo, headers: Sequence[CheckpointEvent]) -> RunInfo:
    """`info` with what was said of the run: an outcome up to its next checkpoint, tags and hold until they change."""
    outcome, reason, tags, hold = info.outcome, info.reason, info.tags, info.hold
    for header in headers:
        said = header.annotation
        if header.type != "tombstone":
            outcome = reason = None
        elif said is not None:
            tags, hold = said.tags, said.hold
            if said.outcome is not None or header.is_removal:  # whoever records a removal has seen all that was said
                outcome, reason = said.outcome, said.reason
    if (outcome, reason, tags, hold) == (info.outcome, info.reason, info.tags, info.hold):
        return info
    return msgspec.structs.replace(info, outcome=outcome, reason=reason, tags=tags, hold=hold)


def carried(info: RunInfo | None) -> Annotation | None:
    """What an event that says something else repeats of what was said about its run; None: nothing is in force."""
    if info is None or (info.outcome is None and not info.tags and not info.hold):
        return None
    return Annotation(outcome=info.outcome, reason=info.reason, tags=info.tags, hold=info.hold, carried=True)


def _stood(info: RunInfo) -> RunInfo:
    """`info` with the status that an outcome gives it, where there is one."""
    return info if info.outcome in (None, info.status) else msgspec.structs.replace(info, status=info.outcome)


def pointing(info: RunInfo, latest: CheckpointEvent | None) -> RunInfo:
    """`info` with `latest` as its live checkpoint. Without one, only an outcome says that the run ended."""
    if latest is None:
        return msgspec.structs.replace(
            info,
            checkpoint_id=None,
            checkpoint_seq=0,
            base_seq=None,
            iteration_count=0,
            timestamp="",
            status=info.outcome or "open",
            messages={},
            pending_requests=(),
            raw_size=0,
            traceparent=None,
        )
    return msgspec.structs.replace(
        info,
        checkpoint_id=latest.checkpoint_id,
        checkpoint_seq=latest.seq,
        base_seq=next(iter(latest.payload.bases), None) if latest.payload else None,
        iteration_count=latest.iteration_count,
        timestamp=latest.timestamp,
        status=info.outcome or status(latest),
        messages=latest.summary.messages,
        pending_requests=latest.summary.pending_requests,
        raw_size=latest.payload.raw_size if latest.payload else 0,
        traceparent=latest.traceparent,
    )
