"""The `eventckpt` command: the commands of all modules in one application, or what to install for it."""

from __future__ import annotations

from typing import Final

try:
    import typer

    from ..exit_codes import MEANINGS
    from . import archive, backup, check, compare, import_storage, inspect, manage
except ModuleNotFoundError as _gone:  # pragma: no cover - the extra is installed wherever tests run
    raise SystemExit(f"The eventckpt command needs the cli extra ({_gone}): pip install '.[cli]'") from _gone

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
for _module in (inspect, compare, check, manage, archive, import_storage, backup):
    app.registered_commands += _module.commands.registered_commands  # `add_typer` without a name is of typer 0.15


def main() -> None:
    """The console script."""
    app()
