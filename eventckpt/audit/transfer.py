"""Logs as JSON lines, out of a store and into another, byte for byte: every digest stays what it was.

An export is a line for each event, run by run, between a first line that says what this is and a last one that says
how much it was. An event carries its own proof, so whatever part of an export is whole can be imported, and
importing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec

from ..chain import is_newer, is_whole
from ..errors import StreamConflict
from ..events import MAX_SEQ, CheckpointEvent, StreamId, check_run_id
from ..stores import AuditStore
from ..text import described

__all__ = ["Imported", "export_lines", "import_lines"]

_FORMAT: Final = "eventckpt-export"
_VERSION: Final = 1
_BATCH: Final = 64  # events of one run that are put at once
_BATCH_BYTES: Final = 8 * 1024 * 1024

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(CheckpointEvent)
_any = msgspec.json.Decoder()
_CHANGED: Final = "was changed: its digest does not match"
_packer = msgspec.msgpack.Encoder()


class Imported(NamedTuple):
    """What became of an import."""

    events: int
    """Whole events in the file."""
    added: int
    """Of those, how many were not in the store yet."""
    runs: int
    complete: bool
    """Whether the file has its last line."""
    problems: tuple[str, ...]
    """Lines and runs that were left out, and why."""


async def export_lines(store: AuditStore, streams: AsyncIterable[StreamId]) -> AsyncGenerator[bytes, None]:
    """The lines of an export of these runs, without their ends."""
    yield _encoder.encode({"format": _FORMAT, "version": _VERSION})
    events = runs = 0
    async for stream in streams:
        runs += 1
        async with aclosing(store.events(stream)) as log:
            async for event in log:
                events += 1
                yield _encoder.encode(_portable(event))
    yield _encoder.encode({"end": True, "runs": runs, "events": events})


async def import_lines(store: AuditStore, lines: Iterable[bytes]) -> Imported:
    """Keep the events of an export. Stops nowhere: what is damaged or in conflict is left out and reported."""
    run = _Import(store)
    for number, line in enumerate(lines, 1):
        await run.take(number, line)
    await run.flush()
    if not run.started:
        run.problems.append("This is no export of eventckpt: its first line does not say so.")
    return Imported(run.events, run.added, len(run.runs), run.complete, tuple(run.problems))


class _Import:
    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._batch: list[CheckpointEvent] = []
        self._size = 0
        self._refused: set[StreamId] = set()
        self.started = False
        self.complete = False
        self.events = self.added = 0
        self.runs: set[StreamId] = set()
        self.problems: list[str] = []

    async def take(self, number: int, line: bytes) -> None:
        if not self.started:
            self.started = _is_beginning(line)
            return
        if not line.strip():
            return
        try:
            event = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.complete = self._is_end(number, line)
            return
        flaw = _flaw_of(event)
        if flaw:
            run = described(event.run_id)
            self.problems.append(f"line {number}: seq {event.seq} of run {run} {flaw}. It was left out.")
            return
        if self._batch and (
            event.stream != self._batch[0].stream or len(self._batch) == _BATCH or self._size > _BATCH_BYTES
        ):
            await self.flush()
        self._batch.append(event)
        self._size += len(line)
        self.events += 1

    async def flush(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        if not batch or batch[0].stream in self._refused:
            return
        stream = batch[0].stream
        self.runs.add(stream)
        try:
            await self._check_links(batch)
            self.added += await self._store.put(stream, batch)
        except StreamConflict as conflict:
            self._refused.add(stream)
            self.problems.append(
                f"run {stream.run_id!r} of workflow {stream.workflow_name!r}: the store has another event at "
                f"seq {conflict.seq}. The two logs have diverged; import into another store, and compare."
            )

    async def _check_links(self, batch: list[CheckpointEvent]) -> None:
        """The neighbours of a batch that the store has already must be the ones of this log."""
        first, last = batch[0], batch[-1]
        around = self._store.headers(first.stream, gt=first.seq - 2, lte=last.seq + 1)
        async for header in around:
            before = header.seq == first.seq - 1 and header.digest != first.previous_digest
            after = header.seq == last.seq + 1 and header.previous_digest != last.digest
            if before or after:
                raise StreamConflict(first.stream, header.seq, header)

    def _is_end(self, number: int, line: bytes) -> bool:
        try:
            found: Any = _any.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = None
        if isinstance(found, dict) and "end" in found:
            return True
        self.problems.append(f"line {number} is not a whole event; it was left out.")
        return False


def _flaw_of(event: CheckpointEvent) -> str:
    """Why no store can keep an event as it is; empty where it can."""
    if is_newer(event):
        return "was written by a newer version of eventckpt; import it with that version"
    if not 1 <= event.seq <= MAX_SEQ:
        return "has a seq that no event has"
    try:
        check_run_id(event.run_id)
        _packer.encode(event.header())
    except OverflowError:
        return _CHANGED
    except UnicodeEncodeError:
        return "holds text that is no Unicode"
    except ValueError:
        return "has a run id that no run has"
    return "" if is_whole(event) else _CHANGED


def _is_beginning(line: bytes) -> bool:
    try:
        found: Any = _any.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == _FORMAT and found.get("version") == _VERSION  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON


def _portable(event: CheckpointEvent) -> CheckpointEvent:
    """The event without what only its engine knows: in which items its data lies."""
    if event.payload is None or not event.payload.parts:
        return event
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, parts=()))
