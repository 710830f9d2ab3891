"""Archives of what retention removes: exports that were written, read back and found whole before anything goes.

An archive is made under a name that ends in `.part` and gets its own name once it is known to be whole. So whatever has
the name of an archive is one, and what is left of one that was cut off is in nobody's way.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from ..events import CheckpointEvent, StreamId
from ..stores import AuditStore
from ..text import described, safe
from ..threads import in_thread
from .archive import VERSION, Beginning, Exported, RunTotals, Totals, export_lines, flaw_of, read_line
from .export_file import new_file, write_lines
from .kinds import LogKind

__all__ = ["Archive", "ArchiveError", "archive_runs", "refusal_of_directory"]

_LABEL: Final = 60  # characters of a file's name that say what is in it


class ArchiveError(Exception):
    """No archive was made. The message says why, as the rest of a sentence about runs."""


class Archive(NamedTuple):
    """A file that has runs, whole."""

    name: str
    sha256: str
    """Of the file, hexadecimal."""
    heads: dict[StreamId, str]
    """The digest of the last event of each run in it."""
    damaged: dict[StreamId, str]
    """Runs of which not all is in it as it was written, and what is wrong with them."""

    @property
    def is_kept(self) -> bool:
        """Whether there is a file: none is kept in which every run is damaged."""
        return bool(self.name)


def refusal_of_directory(directory: Path) -> str:
    """Why no archive can be written to a directory, as the rest of a sentence about runs, as far as a look at it tells;
    empty: it seems that one can."""
    try:
        is_there, is_directory = directory.exists(), directory.is_dir()
    except OSError as error:
        return _failed(directory, error)
    if not is_directory:
        return f"could not be archived: {safe(directory)} {'is no directory' if is_there else 'is not there: make it'}"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"could not be archived: nothing may be written to {safe(directory)}"
    return ""


async def archive_runs(
    store: AuditStore, streams: Iterable[StreamId], directory: Path, *, label: str, kind: LogKind
) -> Archive:
    """Write an archive of runs and read it back.

    Args:
        store: the engine.
        streams: the runs.
        directory: where to; it exists.
        label: what the file's name begins with; any text.
        kind: what the store keeps.

    Raises:
        ArchiveError: it cannot be written, or does not read back as what was written. There is no archive.
        CheckpointStoreError: the store failed. There is no archive.
    """
    path = directory / f"{_fit(label)}-{uuid4().hex}.jsonl"
    part = path.with_name(f"{path.name}.part")
    try:
        damaged = await _write(store, streams, part, kind)
        archive = await in_thread(_read_back, part, kind)
        damaged = {**damaged, **archive.damaged}
        if is_kept := not archive.heads.keys() <= damaged.keys():
            await in_thread(_name, part, path)
    except OSError as error:
        raise ArchiveError(_failed(directory, error)) from error
    finally:
        with suppress(OSError):  # under its own name by now, or never made, or stays as what it is
            part.unlink()
    return archive._replace(name=path.name if is_kept else "", damaged=damaged)


def _failed(directory: Path, error: OSError) -> str:
    return f"could not be archived in {safe(directory)}: {safe(error.strerror or error)}"


async def _write(store: AuditStore, streams: Iterable[StreamId], part: Path, kind: LogKind) -> dict[StreamId, str]:
    """Write the file to its disk; what is wrong with the runs in it."""
    damaged: dict[StreamId, str] = {}

    def told(run: Exported) -> None:
        if run.problem:
            damaged[run.stream] = run.problem

    async def each() -> AsyncGenerator[StreamId, None]:
        for stream in streams:
            yield stream

    with await new_file(part) as file:
        async with aclosing(export_lines(store, each(), told=told, kind=kind)) as lines:
            await write_lines(file, lines)
        await in_thread(os.fsync, file.fileno())
    return damaged


def _name(part: Path, path: Path) -> None:
    """Give the file its own name, which no other file can have."""
    part.rename(path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read_back(part: Path, kind: LogKind) -> Archive:
    """What is in the file.

    Raises:
        OSError: it cannot be read.
        ArchiveError: it is no whole export.
    """
    reading = _Reading(kind)
    hashed = sha256()
    with part.open("rb") as file:
        for line in file:
            hashed.update(line)
            reading.take(line)
    if not reading.complete:
        raise _otherwise("its end is missing")
    return Archive("", hashed.hexdigest(), reading.heads, reading.damaged)


class _Reading:
    """The lines of an export that was written a moment ago, which has nothing that it should not have."""

    def __init__(self, kind: LogKind) -> None:
        self._kind = kind
        self._begun = False
        self._events = self._all_events = 0
        self._last: CheckpointEvent | None = None
        self.complete = False
        self.heads: dict[StreamId, str] = {}
        self.damaged: dict[StreamId, str] = {}

    def take(self, line: bytes) -> None:
        found = read_line(line)
        if self.complete or self._begun == isinstance(found, Beginning):
            raise _otherwise("its lines are not in their order")
        match found:
            case Beginning():
                self._begun = (found.version, found.holds) == (VERSION, self._kind.name)
            case CheckpointEvent():
                self._take_event(found)
            case RunTotals():
                self._take_run_totals(found)
            case Totals():
                self.complete = (found.runs, found.events) == (len(self.heads), self._all_events)
            case None:
                raise _otherwise("a line is no event")

    def _take_event(self, event: CheckpointEvent) -> None:
        if flaw := flaw_of(event, self._kind):
            self.damaged.setdefault(event.stream, f"seq {event.seq} {flaw}")
        self._last = event
        self._events += 1

    def _take_run_totals(self, totals: RunTotals) -> None:
        last = self._last
        if last is None or (totals.events, totals.seq, totals.digest) != (self._events, last.seq, last.digest):
            raise _otherwise(f"not all of run {described(totals.run_id)} is there")
        self.heads[totals.stream] = totals.digest
        self._all_events += self._events
        self._last, self._events = None, 0


def _otherwise(why: str) -> ArchiveError:
    return ArchiveError(f"could not be archived: the file does not read back as what was written ({why})")


def _fit(label: str) -> str:
    """Text as a part of a file's name that every system takes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", label)[:_LABEL].strip("-") or "runs"
