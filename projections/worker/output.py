"""What the commands print, and how they end: stored text is spelled out, never obeyed; each end has its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventckpt.exit_codes import FOUND_WRONG, INTERRUPTED, USAGE, exit_code
from eventckpt.text import safe, safe_json

from ..leases import LeaseLostError
from ..lock import RebuildLostError, RebuildRunningError

__all__ = ["FOUND_WRONG", "USAGE", "Failure", "complete", "print_json", "print_table", "say", "well_formed"]

_T = TypeVar("_T")

_PROGRAM: Final = "eventckpt-projector"


class Failure(Exception):  # noqa: N818 - a way out with an exit code
    """Ends a command with an exit code and a sentence that says why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def complete(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; what goes wrong is told in one sentence, with its exit code."""
    try:
        return asyncio.run(work)
    except Failure as failure:
        code, error = failure.code, failure
    except (RebuildRunningError, RebuildLostError, LeaseLostError) as others:
        code, error = FOUND_WRONG, others
    except BrokenPipeError:  # the reader of the pipe has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - so that exiting does not flush into it
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as failed:
        known = exit_code(failed)
        if known is None:
            raise
        code, error = known, failed
    say(f"{_PROGRAM}: {' '.join(str(error).split())}")
    raise typer.Exit(code) from error


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
    typer.echo(safe_json(json.dumps(value)))


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table whose cells are text as it stands, never markup."""
    table = Table(title=Text(safe(title)), title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else safe(value)) for value in row.values()))
    Console(markup=False, highlight=False, emoji=False).print(table)
