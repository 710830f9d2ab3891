"""The way in for an export: its lines judged one by one, and what is whole kept, byte for byte.

An event carries its own proof, so whatever part of an export is whole can be imported, and importing it again changes
nothing. What the file says of itself is compared: the totals of each run and of all, and that each event follows the
one before. `eventckpt.audit.archive` has the lines, `eventckpt.audit.import_run` what becomes of one run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence

from ..events import CheckpointEvent
from ..stores import AuditStore
from ..text import described
from ..threads import in_thread, off_the_loop
from .archive import MAX_LINE, SMALL, TOO_LONG, VERSION, Beginning, Line, RunTotals, Totals, flaw_of, read_line
from .import_report import Imported, Report, named
from .import_run import RunImport
from .kinds import RUNS, TURNS, LogKind
from .shared_ids import SharedIds

__all__ = ["import_archive"]

_AT_ONCE = 1000  # lines that are read off the event loop together
_TOLD_EVERY = 64  # lines
_BYTES_AT_ONCE = 1024 * 1024


async def import_archive(
    store: AuditStore,
    lines: Iterable[bytes] | AsyncIterable[bytes],
    *,
    so_far: Callable[[Imported], None] | None = None,
    kind: LogKind = RUNS,
) -> Imported:
    """Keep the events of an export. Stops at no line: what is damaged or in conflict is left out and reported.

    Args:
        store: where to.
        lines: those of the file, with or without their ends. What is no sequence is read in a thread.
        so_far: called with what was done, at the end too, whatever ends the import.
        kind: what the store keeps. Of an export that holds the other, nothing is read.

    Raises:
        CheckpointStoreError: the store failed. What `so_far` was told of is kept; importing again goes on.
    """
    work = _Import(store, kind)
    number = 0
    try:
        async for line in lines if isinstance(lines, AsyncIterable) else _each(lines):
            number += 1
            if not await work.take(number, line):
                break
            if so_far is not None and number % _TOLD_EVERY == 0:
                so_far(work.report.imported())
        await work.end()
    finally:
        work.close()
        if so_far is not None:
            so_far(work.report.imported())
    return work.report.imported()


class _Import:
    """The lines of a file, one after the other."""

    def __init__(self, store: AuditStore, kind: LogKind) -> None:
        self._store = store
        self._kind = kind
        self.report = Report()
        self._shared = SharedIds(store, self.report)
        self._run: RunImport | None = None
        self._version = 0
        """That of the file; 0: its first line does not say."""
        self._known = False
        """Whether any line was one of an export."""
        self._hint = ""
        self._number = 0

    async def take(self, number: int, line: bytes) -> bool:
        """One line. Whether to go on: a file of a later version is not read at all."""
        self._number = number
        if line is TOO_LONG or len(line) > MAX_LINE:
            self.report.problem(f"line {number} is longer than any event; it was left out.")
            return True
        if not line or line.isspace():
            return True
        kind = self._kind
        found, flaw = _judged(line, kind) if len(line) < SMALL else await off_the_loop(len(line), _judged, line, kind)
        if (
            self._run is not None
            and not flaw
            and isinstance(found, CheckpointEvent)
            and not self.report.complete
            and self._run.takes_at_once(found)
        ):
            return True
        if number == 1:
            return self._begin(line, found) and (
                isinstance(found, Beginning) or await self._take(number, line, found, flaw)
            )
        return await self._take(number, line, found, flaw)

    async def end(self) -> None:
        """The file has no more lines."""
        await self._end_run(self._number, None)
        await self._shared.look()
        if not self._known:
            self.report.only(f"This is no export of eventckpt: its first line does not say so{self._hint}.")

    def close(self) -> None:
        if self._run is not None:
            self._run.close()

    def _begin(self, line: bytes, found: Line | None) -> bool:
        if not isinstance(found, Beginning):
            self._hint = "; it is compressed, unpack it first" if line.startswith(b"\x1f\x8b") else ""
            self.report.problem("line 1 is not the first line of an export.")
            return True
        self._known = True
        self._version = found.version
        refusal = _refusal(found, self._kind)
        if refusal:
            self.report.problem(refusal)
        return not refusal

    async def _take(self, number: int, line: bytes, found: Line | None, flaw: str) -> bool:
        if found is None:
            self.report.problem(f"line {number} is not a whole event; it was left out.")
            return True
        self._known = True
        if self.report.complete:
            self.report.problem(f"line {number} stands behind the last line of the export.")
        if isinstance(found, CheckpointEvent):
            await self._take_event(number, line, found, flaw)
        elif isinstance(found, RunTotals):
            await self._take_run_totals(number, found)
        elif isinstance(found, Totals):
            await self._take_totals(number, found)
        else:
            self.report.problem(f"line {number} is the first line of an export, and stands inside of one.")
        return True

    async def _take_event(self, number: int, line: bytes, event: CheckpointEvent, flaw: str) -> None:
        if flaw:
            self.report.problem(
                f"line {number}: seq {described(event.seq)} of run {described(event.run_id)} {flaw}. It was left out "
                f"(workflow {described(event.workflow_name)})."
            )
            return
        if self._run is None or self._run.stream != event.stream:
            await self._end_run(number, None)
            self.report.runs += 1
            self._run = RunImport(self._store, event.stream, self.report, self._shared)
            await self._run.begin()
        await self._run.take(number, line, event)

    async def _take_run_totals(self, number: int, totals: RunTotals) -> None:
        if self._run is None or self._run.stream != totals.stream:
            await self._end_run(number, None)
            self.report.problem(
                f"line {number}: {named(totals.stream)} had {totals.events} events when it was exported, up to seq "
                f"{totals.seq}, and none of them is before this line."
            )
            return
        await self._end_run(number, totals)

    async def _take_totals(self, number: int, totals: Totals) -> None:
        await self._end_run(number, None)
        self.report.complete = True
        if (totals.runs, totals.events) != (self.report.runs, self.report.events):
            self.report.problem(
                f"line {number}: {totals.events} events of {totals.runs} runs were exported, and the file has "
                f"{self.report.events} whole ones, of {self.report.runs} runs."
            )

    async def _end_run(self, number: int, totals: RunTotals | None) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        try:
            await run.end(number, totals)
        finally:
            run.close()
        if totals is None and self._version != 1:
            self.report.problem(
                f"line {number}: the totals of {named(run.stream)} should be before it. Newer events of the run may be "
                "missing."
            )


def _refusal(beginning: Beginning, kind: LogKind) -> str:
    """Why nothing of an export is read, by its first line; empty: it is."""
    if not 1 <= beginning.version <= VERSION:
        return (
            f"The export is of version {described(beginning.version)}, and this eventckpt reads up to {VERSION}: "
            "import it with the version that wrote it."
        )
    if beginning.holds == kind.name:
        return ""
    if beginning.holds not in (RUNS.name, TURNS.name):
        return (
            f"The export holds {described(beginning.holds)}, of which this eventckpt knows nothing: import it with the "
            "version that wrote it."
        )
    how = "with --turns, among the sessions" if kind is RUNS else "without --turns, among the runs"
    return f"The export holds {beginning.holds}, and {kind.name} were to be imported: import it {how}."


def _judged(line: bytes, kind: LogKind) -> tuple[Line | None, str]:
    """What a line is and, of an event, why no store can keep it."""
    found = read_line(line)
    return found, flaw_of(found, kind) if isinstance(found, CheckpointEvent) else ""


async def _each(lines: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    if isinstance(lines, Sequence):
        for line in lines:
            yield line
        return
    each = iter(lines)
    while some := await in_thread(_some, each):
        for line in some:
            yield line


def _some(lines: Iterator[bytes]) -> list[bytes]:
    """The next lines, not many and not large."""
    some: list[bytes] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line)
        if len(some) == _AT_ONCE or size > _BYTES_AT_ONCE:
            break
    return some
