"""Commands that carry runs from store to store in files and pipes: export, import.

Files are written off the event loop and read to their end, and what was done is reported, whatever ends the command.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final

import typer

from ..audit import CheckpointAudit, Exported, Imported
from ..audit.export_file import new_file, write_lines
from ..errors import CheckpointStoreError
from ..events import StreamId
from .line_reader import lines_of
from .options import RunNames, chosen_runs
from .output import Output
from .session import FOUND_WRONG, STORE, USAGE, Failure, Session, Workflow, command

__all__ = ["commands", "export", "import_"]

commands: Final = typer.Typer()


@command(commands, "export")
async def export(
    session: Session,
    runs: RunNames = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file instead of the output.")] = None,
    workflow: Workflow = None,
) -> int:
    """Write runs as JSON lines, byte for byte, for import into any store."""
    if bool(runs) == everything:
        raise Failure(USAGE, "Export what? Give runs, or --all.")
    audit = await session.audit()
    return await _export_to(session.out, audit, await chosen_runs(audit, runs, workflow), output)


@command(commands, "import")
async def import_(
    session: Session,
    file: Annotated[str, typer.Argument(help="What export wrote, or - for the input.")],
) -> int:
    """Keep the events of an export. Again changes nothing; of a damaged file, what is whole is kept."""
    return await _import_from_file(session.out, await session.audit(create=True), file)


class _Told:
    """What the exporter told of the runs."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self.events = self.damaged = 0

    def __call__(self, run: Exported) -> None:
        self.events += run.events
        if run.problem:
            self.damaged += 1
            self._out.complaint(run.problem)


async def _export_to(out: Output, audit: CheckpointAudit, streams: list[StreamId] | None, path: Path | None) -> int:
    """Export runs to a new file, or to the output; the exit code."""
    told = _Told(out)
    async with aclosing(audit.export(streams, told=told)) as lines:
        if path is None:
            async for line in lines:
                out.bytes_lines([line])
        else:
            with out.progress("events written") as done:
                await _write(path, lines, lambda: done(told.events))
            out.record("exported", {"file": str(path), "events": told.events, "damaged": told.damaged})
            out.line(f"{told.events:,} events written to {path}")
    return FOUND_WRONG if told.damaged else 0


async def _import_from_file(out: Output, audit: CheckpointAudit, name: str) -> int:
    """Import what the file with this name, or the input, holds; the exit code. What was done is reported, whatever
    ends it."""
    latest: list[Imported] = []

    def so_far(imported: Imported) -> None:
        latest[:] = [imported]
        done(imported.events)

    try:
        with out.progress("events read") as done:
            async with aclosing(lines_of(name)) as lines:
                imported = await audit.import_lines(lines, so_far=so_far)
    except OSError as error:
        _stopped(out, latest)
        raise Failure(STORE, f"{name} cannot be read: {error}") from error
    except (CheckpointStoreError, asyncio.CancelledError):
        _stopped(out, latest)
        raise
    _report(out, imported, _verdict(imported))
    return 0 if imported.whole else FOUND_WRONG


async def _write(path: Path, lines: AsyncGenerator[bytes, None], written: Callable[[], None]) -> None:
    try:
        file = await new_file(path)
    except OSError as error:
        raise Failure(STORE, f"{path} cannot be made ({error}). An export never replaces a file.") from error
    try:
        with file:
            await write_lines(file, lines, written=written)
    except OSError as error:
        raise Failure(
            STORE, f"{path} cannot be written to its end ({error}). What is there is no whole export."
        ) from error


def _stopped(out: Output, latest: list[Imported]) -> None:
    for imported in latest:
        _report(out, imported, "The import STOPPED before the end: importing again goes on.")


def _verdict(imported: Imported) -> str:
    if imported.problems and not imported.events:
        return "NOTHING of it was read."
    if not imported.complete:
        return "The export ENDS EARLY: its last line is missing."
    return "The export was whole." if imported.whole else "NOT all of it is as it was exported, or could be kept."


def _report(out: Output, imported: Imported, verdict: str) -> None:
    out.record("imported", imported._asdict())
    for note in imported.notes:
        out.line(note, style="yellow")
    for problem in imported.problems:
        out.line(problem, style="red")
    if (more := imported.problem_count - len(imported.problems)) > 0:
        out.line(f"… and {more:,} more like these.", style="red")
    removed = f" {imported.removed:,} are on record as removed, and stay so." if imported.removed else ""
    out.line(
        f"{imported.events:,} events of {imported.runs:,} runs read, {imported.added:,} of them new.{removed} {verdict}"
    )
