"""Arguments and options that several commands have, and what is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ..audit import CheckpointAudit
from ..codec import Upcaster
from ..events import StreamId
from ..location import load_named
from ..text import safe
from . import completion
from .session import USAGE, Failure

__all__ = [
    "Actor",
    "App",
    "CheckpointName",
    "EachRunName",
    "Full",
    "MaybeRunName",
    "RunName",
    "RunNames",
    "Upcast",
    "Yes",
    "chosen_runs",
    "upcasters_in",
]

_RUN: Final[Any] = typer.Argument(help="A run's id, or the beginning of one.", autocompletion=completion.runs)
_RUNS: Final[Any] = typer.Argument(help="Runs, by id or the beginning of one.", autocompletion=completion.runs)
RunName = Annotated[str, _RUN]
MaybeRunName = Annotated[str | None, _RUN]
RunNames = Annotated[list[str] | None, _RUNS]
EachRunName = Annotated[list[str], _RUNS]
CheckpointName = Annotated[
    str,
    typer.Argument(help="A checkpoint's id, the beginning of one, or RUN@SEQ.", autocompletion=completion.checkpoints),
]
Full = Annotated[bool, typer.Option("--full", help="Do not shorten anything.")]
Actor = Annotated[str | None, typer.Option(help="Who does this, kept on what is written.")]
App = Annotated[str, typer.Option("--app", help="What builds the workflow: module:callable, without arguments.")]
Upcast = Annotated[
    list[str] | None,
    typer.Option(
        "--upcast",
        help="Show states as these upcasters make them: module:name of an Upcaster, of several, or of a function that "
        "gives them. Repeat it.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def upcasters_in(names: list[str] | None) -> list[Upcaster]:
    """The upcasters that an application has under these names.

    Raises:
        LocationError: see `load_named`.
        Failure: what is there is none, or the function that gives them fails.
    """
    found: list[Any] = []
    for name in names or ():
        given: Any = load_named(name)
        try:
            given = given() if callable(given) else given
            found += [given] if isinstance(given, Upcaster) else given
        except (Exception, SystemExit) as error:
            raise Failure(
                USAGE, f"--upcast: {name} gives no upcasters: {type(error).__name__}: {safe(error)}"
            ) from error
    if other := next((each for each in found if not isinstance(each, Upcaster)), None):
        raise Failure(USAGE, f"--upcast takes upcasters, and one of those given is a {type(other).__name__}.")
    return found


async def chosen_runs(audit: CheckpointAudit, runs: list[str] | None, workflow: str | None) -> list[StreamId] | None:
    """The runs that were named, or all of a workflow; None: every run of the store.

    Raises:
        RunNotFoundError, AmbiguousNameError: a name is that of no run, or of several.
    """
    if runs:
        return [await audit.run(name, workflow_name=workflow) for name in runs]
    if workflow is not None:
        return [stream async for stream in audit.store.streams(workflow_name=workflow)]
    return None
