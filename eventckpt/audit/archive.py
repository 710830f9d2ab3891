"""Logs as JSON lines, out of a store byte for byte: every digest stays what it was.

An export is a line for each event, run by run: behind each run's events a line with the totals of that run, before all
of them a line that names the format, and at the end one with the totals of all. Version 1, which 0.1.0 wrote, has no
totals of the runs. Whatever is in a line may be hostile: reading one gives what it is, or says that it is nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec

from ..chain import is_newer, is_whole
from ..codec import MAX_RAW_SIZE
from ..events import (
    MAX_REASON,
    MAX_REMOVED,
    MAX_RUN_ID,
    MAX_SEQ,
    MAX_TAG,
    MAX_TAGS,
    SCHEMA_OF_SESSIONS,
    Annotation,
    CheckpointEvent,
    ForkPoint,
    Payload,
    Pruned,
    Removal,
    StreamId,
    check_run_id,
)
from ..removals import Removals
from ..stores import AuditStore
from ..text import is_unicode
from ..threads import off_the_loop
from .import_report import named
from .kinds import RUNS, TURNS, LogKind, misplaced

__all__ = [
    "MAX_LINE",
    "SMALL",
    "TOO_LONG",
    "VERSION",
    "Beginning",
    "Exported",
    "Line",
    "RunTotals",
    "Totals",
    "beginning_line",
    "event_line",
    "export_lines",
    "flaw_of",
    "portable",
    "read_event",
    "read_line",
    "run_line",
    "totals_line",
]

FORMAT: Final = "eventckpt-export"
VERSION: Final = 2
MAX_LINE: Final = MAX_RAW_SIZE // 3 * 4 + 16 * 1024 * 1024
"""Bytes in a line: the largest payload in base64, and a header beside it. What is longer is no event."""
TOO_LONG: Final = b"\0(a line that is longer)"
"""What a reader gives in place of a longer line, without having held it: this object, not only these bytes."""

SMALL: Final = 64 * 1024
"""Bytes that a line or a payload may have to be gone through on the event loop."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]

_BOM: Final = b"\xef\xbb\xbf"
_RUN_END: Final = b'{"run_end":'
"""What a line of totals begins with as `run_line` makes it, so that most are read at once."""
_CHANGED: Final = "was changed: its digest does not match"


class Beginning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line."""

    format: str
    version: int
    holds: str = RUNS.name
    """`runs` or `turns`: an export has either. One that does not say is of runs."""


class RunTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line behind the events of a run."""

    run_end: bool
    workflow_name: str
    run_id: str
    events: Count
    seq: Count
    """Of the last event."""
    digest: str
    """Of the last event."""

    @property
    def stream(self) -> StreamId:
        return StreamId(self.workflow_name, self.run_id)


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line."""

    end: bool
    runs: Count
    events: Count


Line: TypeAlias = CheckpointEvent | RunTotals | Totals | Beginning

_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(CheckpointEvent)
_run_decoder = msgspec.json.Decoder(RunTotals)
_other_decoders: Final[tuple[msgspec.json.Decoder[Any], ...]] = (
    _run_decoder,
    msgspec.json.Decoder(Totals),
    msgspec.json.Decoder(Beginning),
)
_NO_LINE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What decoding bytes that are no line comes to; a `UnicodeDecodeError` is a `ValueError`."""


def beginning_line(kind: LogKind = RUNS) -> bytes:
    """The first line of an export."""
    return _encoder.encode(Beginning(format=FORMAT, version=VERSION, holds=kind.name))


def event_line(event: CheckpointEvent) -> bytes:
    """The line of an event."""
    return _encoder.encode(portable(event))


def run_line(stream: StreamId, events: int, seq: int, digest: str) -> bytes:
    """The line of totals behind a run's events.

    Args:
        stream: the run.
        events: how many of its events are in the export.
        seq: of the last of them, with:
        digest: its digest.
    """
    workflow_name, run_id = stream.workflow_name, stream.run_id
    totals = RunTotals(run_end=True, workflow_name=workflow_name, run_id=run_id, events=events, seq=seq, digest=digest)
    return _encoder.encode(totals)


def totals_line(runs: int, events: int) -> bytes:
    """The last line of an export."""
    return _encoder.encode(Totals(end=True, runs=runs, events=events))


def read_line(line: bytes) -> Line | None:
    """What a line is; None where it is none that an export has."""
    try:
        return (_run_decoder if line.startswith(_RUN_END) else _event_decoder).decode(line)
    except _NO_LINE:
        pass  # one of the others, or nothing
    line = line.removeprefix(_BOM)  # some editors put one before the first line
    for decoder in _other_decoders:
        try:
            found: Line = decoder.decode(line)
        except _NO_LINE:
            continue
        if not isinstance(found, Beginning) or found.format == FORMAT:
            return found
    return None


def read_event(line: bytes) -> CheckpointEvent:
    """The event in a line that was read before."""
    return _event_decoder.decode(line)


def portable(event: CheckpointEvent) -> CheckpointEvent:
    """The event without what only its engine knows: in which items its data lies."""
    if event.payload is None or not event.payload.parts:
        return event
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, parts=()))


def flaw_of(event: CheckpointEvent, kind: LogKind = RUNS) -> str:
    """Why no store can keep an event as it is, as the rest of a sentence; empty where it can.

    Args:
        event: whole.
        kind: what the store is to keep.
    """
    if is_newer(event):
        return "was written by a newer version of eventckpt; import it with that version"
    if not 1 <= event.seq <= MAX_SEQ:
        return "has a seq that no event has"
    try:
        if event.stream.is_run:
            check_run_id(event.run_id)
        if not is_whole(event):
            return _CHANGED
    except UnicodeEncodeError:
        return "holds text that is no Unicode"
    except ValueError:
        return "has a run id that no run has"
    return misplaced(event, kind) or _flaw_of_fields(event)


def _flaw_of_fields(event: CheckpointEvent) -> str:
    """What is wrong with an event that lies where it belongs."""
    says = event.is_removal or event.is_annotation or event.is_claim or event.cleared is not None
    says = says or event.removal is not None
    if not event.checkpoint_id and not says:
        return "is of no checkpoint, and records nothing"  # what has no id is looked for as a record
    if (event.turn is not None) != (event.type == "turn"):
        return "is a turn, and does not say so, or says so and is none"
    if (event.type in TURNS.types - RUNS.types or event.cleared is not None) and event.schema < SCHEMA_OF_SESSIONS:
        return f"is of a session, and of the schema {event.schema}, which knows none"
    if any(not 0 <= seq <= MAX_SEQ for seq in (event.cleared or {}).values()):
        return "hides a branch up to a seq that no event has"
    if said := _flaw_of_annotation(event) or _flaw_of_claim(event):
        return said
    if event.type == "tombstone":
        return "is a tombstone with a payload" if event.payload is not None else _flaw_of_tombstone(event)
    if event.payload is None:
        return f"is a {event.type} without a payload"
    if event.pruned or event.closes or (event.cleared is not None and event.forked_from is None):
        return f"is a {event.type} that records a removal"
    return _flaw_of_payload(event.payload, event.seq) or _flaw_of_fork(event)


def _flaw_of_tombstone(event: CheckpointEvent) -> str:
    if event.removal is not None:
        return _flaw_of_removal(event, event.removal)
    if event.closes and not Removals([event]).covers(1, event.seq - 1):
        return "closes its run, and does not record all that was before it as removed"
    if (event.pruned or event.cleared is not None) and event.checkpoint_id:
        return "records a removal and deletes a checkpoint, which no event does"
    if event.pruned and event.cleared is not None:
        return "records a removal and clears a session, which no event does"
    return _flaw_of_stretches(event.pruned, event.seq) or _flaw_of_fork(event)


def _flaw_of_removal(event: CheckpointEvent, removal: Removal) -> str:
    if event.checkpoint_id or event.pruned or event.annotation is not None or event.forked_from is not None:
        return "tells of runs that were removed, and of something else, which no event does"
    if not 1 <= len(removal.runs) <= MAX_REMOVED:
        return f"tells of {len(removal.runs)} runs that were removed, and one event tells of 1 to {MAX_REMOVED}"
    for run in removal.runs:
        if not 1 <= len(run.run_id) <= MAX_RUN_ID or not is_unicode(run.run_id) or not 1 <= run.seq <= MAX_SEQ:
            return "tells that a run was removed that can be none"
    if removal.reason is not None and not 1 <= len(removal.reason) <= MAX_REASON:
        return f"has a reason that has not 1 to {MAX_REASON:,} characters"
    return ""


def _flaw_of_annotation(event: CheckpointEvent) -> str:
    said: Annotation | None = event.annotation
    if said is None:
        return ""
    if event.type != "tombstone" or event.checkpoint_id:
        return "says something about its run, and is of a checkpoint, which no event does"
    if len(said.tags) > MAX_TAGS:
        return f"gives its run {len(said.tags)} tags, and a run has at most {MAX_TAGS}"
    if not all(1 <= len(text) <= MAX_TAG for tag in said.tags.items() for text in tag):
        return f"gives its run a tag that has not 1 to {MAX_TAG} characters"
    if any("=" in name for name in said.tags):
        return "gives its run a tag that has a '=' in its name"
    if said.reason is not None and (said.outcome is None or not 1 <= len(said.reason) <= MAX_REASON):
        return f"has a reason without an outcome, or one that has not 1 to {MAX_REASON:,} characters"
    return ""


def _flaw_of_claim(event: CheckpointEvent) -> str:
    if event.claim is None:
        return ""
    last = event.seq if event.type == "tombstone" and not event.checkpoint_id else event.seq - 1
    return "" if 1 <= event.claim <= last else f"is under a claim of seq {event.claim}, which was not taken before it"


def _flaw_of_payload(payload: Payload, seq: int) -> str:
    if payload.stored_size != len(payload.data):
        return f"claims {payload.stored_size} bytes of data and has {len(payload.data)}"
    if payload.raw_size < 0 or payload.since_base < 0:
        return "has a size below zero"
    for above, base in pairwise((seq, *payload.bases)):
        if not 1 <= base < above:
            return f"is a delta against seq {base}, which is no seq before its own"
    return ""


def _flaw_of_stretches(stretches: tuple[Pruned, ...], seq: int) -> str:
    last = 0
    for stretch in stretches:
        if not last < stretch.first <= stretch.last < seq:
            return (
                f"records the removal of seqs {stretch.first} to {stretch.last}, which are not before it, or in order"
            )
        last = stretch.last
    return ""


def _flaw_of_fork(event: CheckpointEvent) -> str:
    origin: ForkPoint | None = event.forked_from
    if origin is None:
        return ""
    if event.seq != 1:
        return "says that a fork begins with it, and is not the first of its run"
    if not 0 <= origin.seq <= MAX_SEQ:
        return "is a fork from a seq that no event has"
    if not origin.run_id or not is_unicode(origin.run_id) or len(origin.run_id) > 255:
        return "is a fork from a run id that no run has"
    return ""


class Exported(NamedTuple):
    """One run of an export."""

    stream: StreamId
    events: int
    problem: str
    """What is wrong with the run, by its links and digests; empty: nothing. What is there was exported."""


async def export_lines(
    store: AuditStore,
    streams: AsyncIterable[StreamId],
    *,
    told: Callable[[Exported], None] | None = None,
    kind: LogKind = RUNS,
) -> AsyncGenerator[bytes, None]:
    """The lines of an export of these runs, without their ends.

    Args:
        store: from where.
        streams: the runs.
        told: called with what became of each run, when its last line was given.
        kind: what the store keeps.
    """
    yield beginning_line(kind)
    events = runs = 0
    async for stream in streams:
        walk = _Walk(stream)
        while walk.goes_on():
            async with aclosing(store.events(stream, gt=walk.seq)) as log:
                async for event in log:
                    size = event.payload.stored_size if event.payload else 0
                    flaw = flaw_of(event, kind) if size < SMALL else await off_the_loop(size, flaw_of, event, kind)
                    walk.add(event, flaw)
                    yield event_line(event) if size < SMALL else await off_the_loop(size, event_line, event)
        if not walk.events:
            continue
        runs += 1
        events += walk.events
        yield run_line(stream, walk.events, walk.seq, walk.digest)
        if told is not None:
            told(Exported(stream, walk.events, walk.problem()))
    yield totals_line(runs, events)


class _Walk:
    """What an exporter has seen of a run, and whether it hangs together."""

    def __init__(self, stream: StreamId) -> None:
        self.stream = stream
        self._removals = Removals()
        self._gaps: list[tuple[int, int]] = []
        self._broken = ""
        self._before = -1
        self.events = self.seq = 0
        self.digest = ""

    def add(self, event: CheckpointEvent, flaw: str) -> None:
        if event.seq > self.seq + 1:
            self._gaps.append((self.seq + 1, event.seq - 1))
        elif self.seq and event.previous_digest != self.digest:
            self._broken = self._broken or f"seq {event.seq} does not follow seq {self.seq}"
        if event.payload is None and event.type != "tombstone":
            self._broken = self._broken or f"seq {event.seq} is damaged, or was written by a newer version"
        elif flaw and not is_newer(event):  # an import would leave it out, and this may be the only copy by then
            self._broken = self._broken or f"seq {event.seq} {flaw}"
        if event.pruned:
            self._removals.add(event)
        self.events += 1
        self.seq, self.digest = event.seq, event.digest

    def unexplained(self) -> tuple[int, int] | None:
        """The first gap that no record explains."""
        return next(((first, last) for first, last in self._gaps if not self._removals.covers(first, last)), None)

    def goes_on(self) -> bool:
        """Whether to read on behind what was read: at first, and as long as events come and a gap is not explained. A
        prune may remove some while they are read, and its record is behind them."""
        before, self._before = self._before, self.seq
        return before < 0 or (self.seq > before and self.unexplained() is not None)

    def problem(self) -> str:
        gap = self.unexplained()
        missing = f"seqs {gap[0]} to {gap[1]} are gone, and no removal of them was recorded" if gap else ""
        why = missing or self._broken
        return f"{named(self.stream)} is damaged: {why}. What is there was exported; see verify." if why else ""
