"""The command that says what the lines of JSON are that the others print: schema."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from .session import USAGE, Failure, Session, command

__all__ = ["commands", "schema"]

commands: Final = typer.Typer()


@command(commands, "schema", of_runs="the lines of commands are the same with it.", view=False)
async def schema(
    session: Session,
    names: Annotated[list[str] | None, typer.Argument(help="Commands; without any, all of them.")] = None,
) -> None:
    """Print what commands print with --json, as a JSON Schema."""
    from . import lines  # it makes very many types, which no other command needs

    known = sorted(lines.LINES)
    if unknown := sorted(set(names or ()) - set(known)):
        raise Failure(USAGE, f"No command is called {unknown[0]!r}: {', '.join(known)}.")
    text = json.dumps(lines.schema(names or known), indent=2)
    session.out.bytes_lines(map(str.encode, text.splitlines()))
