"""Arguments and options that several commands have, and what is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Annotated, Any, Final

import typer

from ..audit import CheckpointAudit
from ..audit.preflight import built_workflow
from ..codec import Upcaster
from ..events import RunStatus, StreamId
from ..location import load_app, load_named
from ..text import described, safe
from . import completion
from .session import STORE, USAGE, Failure

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
    "built",
    "chosen_runs",
    "statuses_in",
    "tags_in",
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


def statuses_in(words: str, known: Collection[RunStatus]) -> tuple[RunStatus, ...]:
    """Those of the statuses that are named, with commas between them.

    Raises:
        Failure: a word is none of them.
    """
    named: dict[str, RunStatus] = {status: status for status in known}
    found: list[RunStatus] = []
    for word in words.split(","):
        if (status := named.get(word.strip())) is None:
            raise Failure(USAGE, f"--status is {', '.join(known)}, or several of them with commas, not {word!r}.")
        found.append(status)
    return tuple(found)


def tags_in(given: list[str] | None) -> dict[str, str]:
    """Tags, each as name=value; the first = ends the name.

    Raises:
        Failure: one has no name, or no value, or a name is given twice.
    """
    tags: dict[str, str] = {}
    for text in given or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise Failure(USAGE, f"--tag takes name=value, not {described(text)}.")
        if name in tags:
            raise Failure(USAGE, f"--tag gives {described(name)} twice: a run has one value of it.")
        tags[name] = value
    return tags


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


async def built(app: str) -> Any:
    """The workflow that the application's function gives.

    Raises:
        LocationError: see `load_app`.
        Failure: the code fails, or gives something else.
    """
    build = load_app(app)
    try:
        made = build()
        given = await made if inspect.isawaitable(made) else made
    except (Exception, SystemExit) as error:  # one that exits with 0 would pass for a run of this command
        raise Failure(STORE, f"{app} builds no workflow: {type(error).__name__}: {safe(error)}") from error
    try:
        return built_workflow(given)
    except TypeError as error:
        raise Failure(STORE, f"{app} gives no workflow: {safe(error)}") from error


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
