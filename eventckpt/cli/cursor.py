"""How a listing is gone on with on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Output

__all__ = ["After", "say_more"]

After = Annotated[str | None, typer.Option("--after", help="Go on where a listing ended: the token that it gave.")]


def say_more(out: Output, token: str) -> None:
    """The last line of a listing that does not end here: how to go on."""
    out.record("more", {"after": token})
    out.note(f"There are more: --after {token}, or --limit 0 for all.")
