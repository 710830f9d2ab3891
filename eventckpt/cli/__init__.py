"""`eventckpt …`: the audit at the command line. docs/audit.md is its manual.

Needs the `cli` extra; nothing else in eventckpt imports this package.
"""

from __future__ import annotations

try:
    from typing import Final

    import typer

    from . import check, compare, look, manage, move
except ModuleNotFoundError as _gone:  # pragma: no cover - the extra is installed wherever tests run
    raise SystemExit(f"The eventckpt command needs the cli extra ({_gone}): pip install 'eventckpt[cli]'") from _gone

__all__ = ["app", "main"]

app: Final = typer.Typer(
    name="eventckpt",
    help="Ask a store of checkpoints: which runs there are, what happened in them, whether the record is whole.",
    epilog=(
        "Exit codes: 0 all is well; 1 something was found wrong, or left out; 2 the command line is wrong; "
        "3 no such run or checkpoint, or several; 4 the store cannot be read or written; "
        "5 a state cannot be read."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _module in (look, compare, check, move, manage):
    _module.register(app)


def main() -> None:
    """The console script."""
    app()
