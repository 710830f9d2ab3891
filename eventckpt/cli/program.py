"""The `eventckpt` command: the commands of all modules in one application, or what to install for it."""

from __future__ import annotations

from typing import Final

from ..exit_codes import MEANINGS, without_extra

try:
    import typer

    from . import (
        annotate,
        answer,
        archive,
        backup,
        check,
        compare,
        import_storage,
        inbox,
        info,
        inspect,
        manage,
        migrate,
        preflight,
        retain,
        sessions,
    )
except ModuleNotFoundError as _gone:
    raise without_extra("eventckpt", "cli", ("rich", "typer"), _gone) from _gone

__all__ = ["app", "main"]

app: Final = typer.Typer(
    name="eventckpt",
    help="Ask a store of checkpoints: which runs there are, what happened in them, whether the record is whole.",
    epilog=MEANINGS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_ASK: Final = (inspect, info, inbox, sessions, compare, check, preflight)
_ACT: Final = (answer, annotate, manage, migrate, retain, archive, import_storage, backup)
for _module in (*_ASK, *_ACT):
    app.registered_commands += _module.commands.registered_commands  # `add_typer` without a name is of typer 0.15


def main() -> None:
    """The console script."""
    app()
