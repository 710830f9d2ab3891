"""The `eventckpt` command: the commands of all modules in one application, or what to install for it."""

from __future__ import annotations

from typing import Annotated, Final

from ..exit_codes import MEANINGS, without_extra

try:
    import typer

    from ..command_line import Command, Commands, says_version
    from . import (
        annotate,
        answer,
        archive,
        backup,
        check,
        compare,
        delete,
        import_storage,
        inbox,
        info,
        inspect,
        manage,
        migrate,
        preflight,
        retain,
        schema,
        sessions,
        space,
    )
    from .examples import EXAMPLES
except ModuleNotFoundError as _gone:
    raise without_extra("eventckpt", "cli", ("rich", "typer"), _gone) from _gone

__all__ = ["app", "main"]

app: Final = typer.Typer(
    name="eventckpt",
    cls=Commands,
    help="Ask a store of checkpoints: which runs there are, what happened in them, whether the record is whole.",
    epilog=MEANINGS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_ASK: Final = (inspect, info, inbox, sessions, compare, check, preflight, schema)
_ACT: Final = (answer, annotate, manage, delete, migrate, retain, archive, import_storage, backup, space)
for _module in (*_ASK, *_ACT):
    for _command in _module.commands.registered_commands:
        _command.cls = Command
        _command.epilog = f"For example: eventckpt {EXAMPLES[_command.name or '']}"
    app.registered_commands += _module.commands.registered_commands  # `add_typer` without a name is of typer 0.15


@app.callback()
def _before_a_command(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool,
        typer.Option("--version", callback=says_version("eventckpt"), is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    """What may stand before a command."""


def main() -> None:
    """The console script."""
    app()
