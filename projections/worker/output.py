"""What the commands print, and how they end: stored text is spelled out, never obeyed; each end has its exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventckpt.exit_codes import FOUND_WRONG, USAGE, Failure, ending, printing
from eventckpt.text import cell, safe, safe_json

from ..leases import LeaseLostError
from ..rebuild_lock import RebuildLostError, RebuildRunningError

__all__ = ["FOUND_WRONG", "USAGE", "Failure", "complete", "print_json", "print_table", "say", "well_formed"]

_T = TypeVar("_T")

_PROGRAM: Final = "eventckpt-projector"


def complete(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; what goes wrong is told in one sentence, with its exit code."""
    with ending(lambda _, error: say(f"{_PROGRAM}: {' '.join(str(error).split())}")):
        try:
            return asyncio.run(work)
        except (RebuildRunningError, RebuildLostError, LeaseLostError) as others:
            raise Failure(FOUND_WRONG, str(others)) from others


def well_formed(make: Callable[[], _T]) -> _T:
    """What is made from options and settings. One of the wrong form is the caller's to mend.

    Raises:
        Failure: one is of the wrong form; says which.
    """
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise Failure(USAGE, str(error)) from error


def say(text: str) -> None:
    """A line for the person at the terminal, kept out of what is piped on."""
    typer.echo(safe(text), err=True)


def print_json(value: object) -> None:
    """One JSON document on one line."""
    with printing():
        typer.echo(safe_json(json.dumps(value)))


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table whose cells are text as it stands, never markup; the ends of long ones are left out."""
    table = Table(title=Text(safe(title)), title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else cell(value)) for value in row.values()))
    console = Console(markup=False, highlight=False, emoji=False)
    with printing(), console.capture() as captured:  # else it writes by itself: a pipe that is closed would end us
        console.print(table)
    with printing():
        typer.echo(captured.get(), nl=False)
