"""Where a store is, and how it is opened: what a user gives, a path, an endpoint or the environment, becomes a store.

Every program goes through here, so that a name that opens a store in one opens the same store in all, a typo makes no
new one, and a secret that was given in place of a name is never shown. What names an application's own code, as
`module:callable`, is found here too.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Final, cast

from agent_framework.exceptions import SettingNotFoundError

from .errors import StoreNotFoundError, StoreReadOnlyError, StoreUnavailableError
from .stores import AuditStore
from .stores.sqlite import SqliteEventStore
from .stores.sqlite.guarded import refuse_what_is_no_file
from .text import described, is_connection_string, may_hold_a_key, safe
from .threads import in_thread

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from .stores.cosmos import Priority
    from .stores.cosmos.other_container import OtherContainer

__all__ = [
    "ENVIRONMENT",
    "ApplicationError",
    "LocationError",
    "load_app",
    "load_named",
    "locate",
    "open_other_container",
    "open_store",
]

_STORE: Final = "EVENTCKPT_STORE"
_ENDPOINT: Final = "AZURE_COSMOS_ENDPOINT"
_DATABASE: Final = "AZURE_COSMOS_DATABASE_NAME"
_CONTAINER: Final = "AZURE_COSMOS_CONTAINER_NAME"
_KEY: Final = "AZURE_COSMOS_KEY"
_PRIORITY: Final = "AZURE_COSMOS_PRIORITY"
_BUCKET: Final = "AZURE_COSMOS_THROUGHPUT_BUCKET"

ENVIRONMENT: Final = (_STORE, _ENDPOINT, _DATABASE, _CONTAINER, _KEY, _PRIORITY, _BUCKET)
"""The environment variables that say where a store is, and how it is asked, for every program."""

_SCHEMES: Final = ("http://", "https://")
_APP: Final = "An application's code is named as module:callable, such as my_app.workflows:build"


class LocationError(ValueError):
    """What was given names no store, or no code, that could be opened. Trying again is of no use: the message says what
    to give instead."""


class ApplicationError(LocationError):
    """An application's code is not where it was said to be, or cannot be imported."""


def locate(where: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] = os.environ) -> Path | str:
    """Where a store is, whether there is one or not: the path of a SQLite file, or the endpoint of a Cosmos DB account.

    Args:
        where: the one or the other; None: the first that is set of `EVENTCKPT_STORE`, which takes both, and
            `AZURE_COSMOS_ENDPOINT`.
        environ: the environment.

    Raises:
        TypeError: `where` is neither text nor a path.
        LocationError: nothing was given, or neither a path nor an endpoint. A connection string, a key, or a URL with a
            password is refused without being shown.
    """
    for_both = where if where is not None else environ.get(_STORE) or None
    given = environ.get(_ENDPOINT) or None if for_both is None else _text_of(for_both)
    if given is None:
        raise LocationError(f"Which store? Give --store PATH or ENDPOINT, or set {_STORE}.")
    if not given.strip():
        raise LocationError("The store's name (--store) is blank. Give a PATH or an ENDPOINT.")
    if is_connection_string(given) or (may_hold_a_key(given) and not _is_there(given)):
        raise LocationError(
            f"--store (or {_STORE}, {_ENDPOINT}) is a connection string, a key, or a URL with a password or a query, "
            f"and is not shown. Give the endpoint alone, and the key in {_KEY}."
        )
    if given.lower().startswith(_SCHEMES):
        return given
    if for_both is None or "://" in given:
        name = _ENDPOINT if for_both is None else f"--store (or {_STORE})"
        raise LocationError(
            f"{name} is {described(given)}. A store is a SQLite file, given by its path, or an account of Cosmos DB, "
            "given by its endpoint, such as https://my-account.documents.azure.com:443/."
        )
    return Path(given)


def _text_of(where: object) -> str:
    text: object = os.fspath(cast("os.PathLike[str]", where)) if isinstance(where, os.PathLike) else where
    if not isinstance(text, str):
        raise TypeError(f"A store is named by a path or an endpoint, which is text, not by {described(text)}.")
    return text


@asynccontextmanager
async def open_store(
    where: str | os.PathLike[str] | None = None,
    *,
    read_only: bool = False,
    must_exist: bool = False,
    patience: float = 30.0,
    priority: Priority | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AsyncGenerator[AuditStore, None]:
    """The store at a place, open until the block ends, and with it whatever was opened for it.

    Args:
        where: see `locate`. For an endpoint, `AZURE_COSMOS_DATABASE_NAME` and `AZURE_COSMOS_CONTAINER_NAME` say which
            container; with `AZURE_COSMOS_KEY` the key is used, without it `DefaultAzureCredential`.
        read_only: for who looks: nothing is made, brought up to date or written, and what would write is refused.
        must_exist: for who changes what is there: no file, database or container is made in place of a missing one,
            that of sessions among them.
        patience: seconds that an operation waits for other processes' writes to a file (`busy_timeout` of
            `SqliteEventStore`), or for the service (`timeout` of `CosmosEventStore`), before it is an error.
        priority: of the requests to an account, where `AZURE_COSMOS_PRIORITY` says no other: "Low" for programs that
            may wait while workflows save. `AZURE_COSMOS_THROUGHPUT_BUCKET` says which bucket they draw on.
        environ: the environment. Only `DefaultAzureCredential` looks at the process's own.

    Raises:
        LocationError: see `locate`; or a setting is missing or of the wrong form, or the `cosmos` extra is not
            installed.
        StoreNotFoundError: there is no such file, and it was to be there already. Of a container that is missing, the
            first operation tells, for nothing is asked of the service before: with `read_only` by this error, with
            `must_exist` by `StoreMissingError`, which says how it is made.
        StoreReadOnlyError: it cannot be told whether there is such a file.
    """
    place = locate(where, environ=environ)
    if isinstance(place, str):
        how = {"read_only": read_only, "must_exist": must_exist, "timeout": patience}
        async with _credential(environ) as credential, _cosmos(place, credential, environ, priority, how) as store:
            yield store
        return
    with _settings_named():
        made = SqliteEventStore(place, busy_timeout=patience, read_only=read_only)
    if read_only or must_exist:
        await in_thread(_refuse_missing, place)
    else:
        with suppress(StoreUnavailableError):  # it may pass by itself, and whoever opens the store is told
            await in_thread(refuse_what_is_no_file, made.path)
    async with made:
        yield made


@asynccontextmanager
async def open_other_container(
    container_name: str,
    *,
    endpoint: str | None = None,
    database_name: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AsyncGenerator[OtherContainer, None]:
    """A container of Cosmos DB that is no store of ours, to be read; open until the block ends.

    Args:
        container_name: its name.
        endpoint, database_name: of the account and the database; None: as the environment says.
        environ: the environment; `AZURE_COSMOS_KEY` as in `open_store`.

    Raises:
        LocationError: a setting is missing or of the wrong form, or the `cosmos` extra is not installed.
        CheckpointStoreError: the account cannot be reached.
    """
    given = {_ENDPOINT: endpoint or environ.get(_ENDPOINT), _DATABASE: database_name or environ.get(_DATABASE)}
    if missing := [name for name, value in given.items() if not value]:
        raise LocationError(f"Which database? Give --endpoint and --database, or set {' and '.join(missing)}.")
    try:
        from .stores.cosmos.other_container import open_other_container as opened_there
    except ModuleNotFoundError as error:
        raise _no_extra(error) from error
    settings: dict[str, Any] = {
        "endpoint": given[_ENDPOINT],
        "database_name": given[_DATABASE],
        **_share(environ, "Low"),
    }
    async with _credential(environ) as credential, AsyncExitStack() as resources:
        opened = opened_there(**settings, container_name=container_name, credential=credential)
        with _settings_named():
            container = await resources.enter_async_context(opened)
        yield container


def load_app(name: str) -> Callable[..., Any]:
    """What an application's code has under a name: a function, a class, or whatever else can be called.

    The current folder is put first among those that modules are looked for in, unless it is among them, as
    `python -m` does, and it stays there: a command that is installed elsewhere would not find what stands beside it.
    Nothing else of `sys.path` changes. Importing a module runs it: only the user's own words name one, and never
    anything that was stored.

    Args:
        name: `module:callable`; the part behind the colon may have dots.

    Raises:
        LocationError: `name` is not of that form.
        ApplicationError: there is no such module, it cannot be imported, it has no such attribute, or that cannot be
            called.
    """
    found = load_named(name)
    if not callable(found):
        raise ApplicationError(f"{name} is a {type(found).__name__}, and cannot be called. {_APP}.")
    return found


def load_named(name: str) -> object:
    """What an application's code has under a name, also what cannot be called; otherwise as `load_app`."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what a caller without types gives
        raise LocationError(f"{_APP}, not {described(name)}.")
    module_name, colon, path = name.partition(":")
    steps = path.split(".")
    if not colon or not all(step.isidentifier() for step in (*module_name.split("."), *steps)):
        raise LocationError(f"{_APP}, not {described(name)}.")
    found: Any = _imported(module_name)
    for step in steps:
        try:
            found = getattr(found, step)
        except AttributeError:
            raise ApplicationError(f"{module_name} has no {path}. {_APP}.") from None
        except Exception as error:
            raise ApplicationError(f"{module_name} does not give its {path}: {_said(error)}") from error
    return found


def _imported(name: str) -> object:
    here = os.getcwd()  # noqa: PTH109 - as sys.path has it
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise ApplicationError(
                f"There is no module {missing}. It is looked for in the current folder, then where Python finds "
                "modules; PYTHONPATH names more folders."
            ) from None
        raise ApplicationError(f"{name} cannot be imported: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {safe(error)}"


@asynccontextmanager
async def _credential(environ: Mapping[str, str]) -> AsyncGenerator[str | AsyncTokenCredential, None]:
    """Who this is on Cosmos DB: the key in `AZURE_COSMOS_KEY`, or else an identity, closed when the block ends."""
    if key := environ.get(_KEY):
        yield key
        return
    try:
        from azure.identity.aio import DefaultAzureCredential
    except ModuleNotFoundError as error:
        raise _no_extra(error) from error
    async with DefaultAzureCredential() as identity:
        yield identity


@asynccontextmanager
async def _cosmos(
    endpoint: str,
    credential: str | AsyncTokenCredential,
    environ: Mapping[str, str],
    priority: Priority | None,
    how: Mapping[str, Any],
) -> AsyncGenerator[AuditStore, None]:
    try:
        from .stores.cosmos import CosmosEventStore
    except ModuleNotFoundError as error:
        raise _no_extra(error) from error
    database, container = environ.get(_DATABASE), environ.get(_CONTAINER)
    if missing := [name for name, value in ((_DATABASE, database), (_CONTAINER, container)) if not value]:
        raise LocationError(f"Which container of the account? Set {' and '.join(missing)}.")
    settings: dict[str, Any] = {
        "endpoint": endpoint,
        "database_name": database,
        "container_name": container,
        "credential": credential,
        **_share(environ, priority),
        **how,
    }
    with _settings_named():
        made = CosmosEventStore(**settings)
    async with made as store:
        yield store


def _share(environ: Mapping[str, str], priority: Priority | None) -> dict[str, Any]:
    """How the requests share what an account serves, with those of others."""
    from .stores.cosmos.connection import share

    with _settings_named():
        return share(environ.get(_PRIORITY) or priority, environ.get(_BUCKET))


@contextmanager
def _settings_named() -> Generator[None, None, None]:
    """A setting that is missing or of the wrong form is the user's to mend, and no fault of the program."""
    try:
        yield
    except (TypeError, ValueError, SettingNotFoundError) as error:
        raise LocationError(safe(error)) from error


def _no_extra(error: ModuleNotFoundError) -> LocationError:
    return LocationError(f"Cosmos DB needs the cosmos extra ({safe(error)}): in a checkout, pip install '.[cosmos]'")


def _refuse_missing(path: Path) -> None:
    """Raise unless there is a file with something in it: else opening a store begins one, and makes its folder."""
    try:
        state = path.stat()
        is_file, is_empty = S_ISREG(state.st_mode), state.st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        is_file = is_empty = False
    except OSError as error:
        raise StoreReadOnlyError(f"The store {safe(path)} cannot be looked at: {error}") from error
    if not is_file:
        raise StoreNotFoundError(f"There is no store at {safe(path)}. Check the path, or {_STORE}.")
    if is_empty:
        raise StoreNotFoundError(f"There is no store in {safe(path)}: the file is empty. Check the path, or {_STORE}.")


def _is_there(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - what is no path at all is not there
