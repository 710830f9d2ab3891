"""What every command shares: the options `--store` and `--json`, the opened store, exit codes for what goes wrong."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar, get_type_hints

import typer
from agent_framework import WorkflowCheckpointException

from ..audit import CheckpointAudit, Latest
from ..errors import (
    AmbiguousNameError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    RunNotFoundError,
)
from ..stores import AuditStore
from ..stores.sqlite import SqliteEventStore
from ..text import is_connection_string
from .output import Output

__all__ = [
    "FOUND_WRONG",
    "STORE",
    "USAGE",
    "Allow",
    "Failure",
    "Session",
    "Workflow",
    "command",
    "made",
    "moment",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

FOUND_WRONG: Final = 1
USAGE: Final = 2
NO_SUCH_NAME: Final = 3
STORE: Final = 4
STATE: Final = 5

_ENDPOINTS: Final = ("http://", "https://")

Workflow = Annotated[str | None, typer.Option("--workflow", "-w", help="Only runs of this workflow.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Show what is in values of this type, module:qualname; '*' for all types. Repeat it."),
]
_Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="EVENTCKPT_STORE",
        help="A SQLite file or a Cosmos DB endpoint; AZURE_COSMOS_… settings tell the rest.",
    ),
]
_AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, each with its kind.")]


class Failure(Exception):  # noqa: N818 - a way out with an exit code
    """Ends a command with an exit code and a line that says why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Session:
    """One invocation of a command: where it prints, and the store it asks."""

    def __init__(self, location: str | None, out: Output, resources: AsyncExitStack) -> None:
        self._location = location
        self._resources = resources
        self.out = out

    async def audit(
        self,
        *,
        allow: list[str] | None = None,
        actor: str | None = None,
        create: bool = False,
        latest: Latest = "log",
    ) -> CheckpointAudit:
        """The audit over the store; with `create`, the store may be a new one."""
        store = await self._open(create=create)
        try:
            return CheckpointAudit(store, allowed_checkpoint_types=allow or (), actor=actor, latest=latest)
        except (TypeError, ValueError) as error:
            option = "--allow: " if "allowed_checkpoint_types" in str(error) else ""
            raise Failure(USAGE, f"{option}{error}") from error

    @property
    def location(self) -> str:
        return self._location or os.environ.get("AZURE_COSMOS_ENDPOINT") or ""

    def sqlite_file(self, otherwise: str) -> Path:
        """The file of the store, whether it is there or not.

        Raises:
            Failure: the store is no file, which `otherwise` tells what to do about, or none was given.
        """
        location = self._checked_location()
        if location.startswith(_ENDPOINTS):
            raise Failure(USAGE, otherwise)
        return Path(location)

    def _checked_location(self) -> str:
        location = self.location
        if not location:
            raise Failure(USAGE, "Which store? Give --store PATH or ENDPOINT, or set EVENTCKPT_STORE.")
        if is_connection_string(location):
            raise Failure(
                USAGE,
                "--store (or EVENTCKPT_STORE, AZURE_COSMOS_ENDPOINT) is a connection string, or a URL with a password, "
                "and is not shown. Give the endpoint alone, and the key in AZURE_COSMOS_KEY.",
            )
        return location

    async def _open(self, *, create: bool) -> AuditStore:
        location = self._checked_location()
        if location.startswith(_ENDPOINTS):
            return await self._cosmos(location)
        if not create and not os.path.isfile(location):  # noqa: ASYNC240, PTH113 - nothing else runs yet
            raise Failure(STORE, f"There is no store at {location}. Check the path, or EVENTCKPT_STORE.")
        return await self._resources.enter_async_context(made(lambda: SqliteEventStore(location)))

    async def _cosmos(self, endpoint: str) -> AuditStore:
        try:
            from ..stores.cosmos import CosmosEventStore
        except ModuleNotFoundError as error:
            raise Failure(
                STORE, f"Cosmos DB needs the cosmos extra ({error}): pip install 'eventckpt[cosmos]'"
            ) from error
        credential: Any = None
        if not os.environ.get("AZURE_COSMOS_KEY"):
            from azure.identity.aio import DefaultAzureCredential

            credential = await self._resources.enter_async_context(DefaultAzureCredential())
        store = made(lambda: CosmosEventStore(endpoint=endpoint, credential=credential))
        return await self._resources.enter_async_context(store)


def made(make: Callable[[], _T]) -> _T:
    """What is made from settings. One of the wrong form is the caller's to mend, and no fault of the program.

    Raises:
        Failure: a setting is of the wrong form; says which.
    """
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise Failure(USAGE, str(error)) from error


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, _P], Awaitable[int | None]]], Callable[..., None]]:
    """Make an async function of a session a command, with the options that all commands have. What it returns is
    the exit code."""

    def decorate(work: Callable[Concatenate[Session, _P], Awaitable[int | None]]) -> Callable[..., None]:
        hints = get_type_hints(work, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(work).parameters.values())[1:]
        ]
        shared = [
            inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Store),
            inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_AsJson),
        ]

        @functools.wraps(work)
        def run(*args: Any, store: str | None, as_json: bool, **options: Any) -> None:
            code = _run(functools.partial(work, *args, **options), store, Output(as_json=as_json))
            if code:
                raise typer.Exit(code)

        del run.__wrapped__  # pyright: ignore[reportAttributeAccessIssue] - the signature is the one made here
        signature = inspect.Signature([*own, *shared])
        run.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] - what typer reads
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        app.command(name)(run)
        return run

    return decorate


def _run(work: Callable[[Session], Awaitable[int | None]], location: str | None, out: Output) -> int:
    async def inside() -> int | None:
        async with AsyncExitStack() as resources:
            return await work(Session(location, out, resources))

    try:
        return asyncio.run(inside()) or 0
    except Failure as failure:
        return _failed(out, failure.code, str(failure))
    except AmbiguousNameError as error:
        return _failed(out, NO_SUCH_NAME, str(error), candidates=error.candidates)
    except (RunNotFoundError, CheckpointNotFoundError) as error:
        return _failed(out, NO_SUCH_NAME, str(error))
    except (CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
        return _failed(out, STATE, str(error))
    except CheckpointStoreError as error:
        return _failed(out, STORE, str(error))
    except WorkflowCheckpointException as error:
        return _failed(out, FOUND_WRONG, str(error))
    except BrokenPipeError:  # the reader of the pipe has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - so that exiting does not flush into it
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if type(error).__module__.startswith("agent_framework"):  # a setting that is missing
            return _failed(out, USAGE, str(error))
        raise


def _failed(out: Output, code: int, message: str, **fields: Any) -> int:
    out.error(code, message, fields)
    return code


def moment(text: str | None, option: str) -> datetime | None:
    """A time as people write it: ISO 8601, in UTC where it does not say.

    Raises:
        Failure: it is none.
    """
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(
            USAGE, f"{option} takes a time such as 2026-05-31 or 2026-05-31T14:00+02:00, not {text!r}."
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
