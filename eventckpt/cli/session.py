"""What every command shares: the options `--store` and `--json`, the opened store, exit codes for what goes wrong."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from ..audit import CheckpointAudit
from ..audit.listed_from import Where
from ..codec import OnDrift, Upcaster
from ..command_line import Allow, Store
from ..exit_codes import FOUND_WRONG, STORE, USAGE, Failure, ending
from ..location import locate, open_store
from ..stores import AuditStore
from . import completion
from .output import VIEWS, Output, Screen

__all__ = [
    "FOUND_WRONG",
    "STORE",
    "USAGE",
    "Allow",
    "Failure",
    "Session",
    "Workflow",
    "command",
]

_P = ParamSpec("_P")

Workflow = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        "-w",
        help="Only runs of this workflow; with --turns, sessions of this source.",
        autocompletion=completion.workflows,
    ),
]
_Turns = Annotated[
    bool, typer.Option("--turns", help="Sessions and their turns, which lie in the same store, in place of runs.")
]
_NoTurns = Annotated[bool, typer.Option("--turns", hidden=True)]
_AS_JSON = "One JSON object a line, each with its kind."
_View = Annotated[
    str, typer.Option("--output", "-o", help="table; wide: nothing is left out for want of room; json: as --json.")
]
_Utc = Annotated[bool, typer.Option("--utc", help="Times in UTC, in place of how long ago they were.")]


class Session:
    """One invocation of a command: where it prints, and the store it asks."""

    def __init__(self, location: str | None, out: Output, resources: AsyncExitStack, *, turns: bool = False) -> None:
        self._location = location
        self._resources = resources
        self.out = out
        self.turns = turns
        """Whether the command is about sessions and their turns."""

    def not_of_turns(self, **options: object) -> None:
        """Refuse options that only runs have.

        Args:
            options: what was given of them, by their names.

        Raises:
            Failure: one was given, and the command is about turns.
        """
        given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
        if self.turns and given:
            raise Failure(USAGE, f"{', '.join(given)}: only runs have that, and --turns asks about sessions.")

    async def audit(
        self,
        *,
        allow: list[str] | None = None,
        actor: str | None = None,
        writes: bool = False,
        create: bool = False,
        latest: Where = "log",
        on_drift: OnDrift = "error",
        upcasters: Sequence[Upcaster] = (),
    ) -> CheckpointAudit:
        """The audit over the store, for looking: nothing is made or changed. With `writes`, for changing a store that
        is there; with `create`, it may be a new one."""
        looks = not (writes or create)
        if not looks:
            self.out.goes_on = True
        store = await self._opened(read_only=looks, must_exist=not create)
        try:
            audit = CheckpointAudit(
                store,
                allowed_checkpoint_types=allow or (),
                actor=actor,
                latest=latest,
                on_drift=on_drift,
                upcasters=upcasters,
                turns=self.turns,
            )
        except (TypeError, ValueError) as error:
            option = "--allow: " if "allowed_checkpoint_types" in str(error) else "--upcast: " if upcasters else ""
            raise Failure(USAGE, f"{option}{error}") from error
        await audit.listed_from.look()
        return audit

    async def look_for_runs(self) -> None:
        """See to it that there is a store, whatever it lacks.

        Raises:
            CheckpointStoreError: there is none, or it does not serve.
        """
        store = await self._opened(read_only=True, must_exist=True)
        await store.checkpoint_ids("", limit=1)

    async def _opened(self, *, read_only: bool, must_exist: bool) -> AuditStore:
        opened = open_store(self._location, read_only=read_only, must_exist=must_exist, priority="Low")
        return await self._resources.enter_async_context(opened)

    def sqlite_file(self, otherwise: str) -> Path:
        """The file of the store, whether it is there or not.

        Raises:
            Failure: the store is no file, which `otherwise` tells what to do about.
            LocationError: no store was given, or what was given is none.
        """
        place = self.place()
        if not isinstance(place, Path):
            raise Failure(USAGE, otherwise)
        return place

    def place(self) -> object:
        """Where the store is: the path of a SQLite file, or something else.

        Raises:
            LocationError: no store was given, or what was given is none.
        """
        return locate(self._location)


def command(
    app: typer.Typer, name: str, *, of_runs: str = "", as_json: str = "--json", view: bool = True
) -> Callable[[Callable[Concatenate[Session, _P], Awaitable[int | None]]], Callable[..., None]]:
    """Make an async function of a session a command, with the options that all commands have. What it returns is
    the exit code.

    Args:
        app: where to.
        name: what it is called.
        of_runs: why it has no --turns, as a sentence; empty: it has.
        as_json: the option that asks for JSON, where `--json` is given some.
        view: whether it has `-o` for how it prints; not where that is its own.
    """
    json_option = Annotated[bool, typer.Option(as_json, help=_AS_JSON)]

    def decorate(work: Callable[Concatenate[Session, _P], Awaitable[int | None]]) -> Callable[..., None]:
        hints = get_type_hints(work, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(work).parameters.values())[1:]
        ]
        shared = [
            _option("store", None, Store),
            _option("turns", False, _NoTurns if of_runs else _Turns),
            _option("as_json", False, json_option),
            *([_option("output", "table", _View)] if view else []),
            _option("utc", False, _Utc),
        ]

        @functools.wraps(work)
        def run(
            context: typer.Context, *args: Any, store: str | None, turns: bool, as_json: bool, utc: bool, **options: Any
        ) -> None:
            wanted: str = options.pop("output") if view else "table"
            out = Output("json" if as_json else VIEWS.get(wanted, "table"), utc=utc, screen=_screen_of(context))
            refusal = f"--turns: {of_runs}" if turns and of_runs else ""
            if wanted not in VIEWS:
                refusal = f"--output is {', '.join(VIEWS)}, not {wanted!r}."
            code = _run(functools.partial(work, *args, **options), store, out, turns=turns, refusal=refusal)
            if code:
                raise typer.Exit(code)

        del run.__wrapped__  # pyright: ignore[reportAttributeAccessIssue] - the signature is the one made here
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        signature = inspect.Signature([context, *own, *shared])
        run.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] - what typer reads
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        app.command(name)(run)
        return run

    return decorate


def _option(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _screen_of(context: typer.Context) -> Screen | None:
    return context.obj if isinstance(context.obj, Screen) else None


def _run(
    work: Callable[[Session], Awaitable[int | None]], location: str | None, out: Output, *, turns: bool, refusal: str
) -> int:
    async def inside() -> int | None:
        if refusal:
            raise Failure(USAGE, refusal)
        async with AsyncExitStack() as resources:
            code = await work(Session(location, out, resources, turns=turns))
            out.flush()
            return code

    def tell(code: int, error: BaseException) -> None:
        out.error(code, error)

    with ending(tell):
        return asyncio.run(inside()) or 0
