"""What the command lines of all programs have alike: how they say their help and their version, also where nobody takes
it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .exit_codes import saying
from .version import said

__all__ = ["Allow", "Command", "Commands", "Store", "says_version"]

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="EVENTCKPT_STORE",
        help="A SQLite file or a Cosmos DB endpoint (else AZURE_COSMOS_ENDPOINT); AZURE_COSMOS_… tell the rest.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Show what is in values of this type, module:qualname; '*' for all types. Repeat it."),
]


class Command(TyperCommand):
    """A command. Reading its words may print its help, and nothing but that can fail of it as a file does."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with saying():
            return super().make_context(*args, **kwargs)


class Commands(TyperGroup):
    """The commands of a program. Reading the words before them may print its help and its version."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with saying():
            return super().make_context(*args, **kwargs)


def says_version(program: str) -> Callable[[bool], None]:
    """What the option `--version` of a program calls."""

    def say(is_asked: bool) -> None:
        if is_asked:
            typer.echo(said(program))
            raise typer.Exit

    return say
