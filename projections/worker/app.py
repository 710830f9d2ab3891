"""`eventckpt-projector`: the worker that keeps the "latest" projection up to date, and the tools around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer
from agent_framework.exceptions import SettingNotFoundError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventckpt import EventStore, SqliteEventStore
from eventckpt.errors import CheckpointStoreError, StoreReadOnlyError
from eventckpt.stores.change_feed import Start
from eventckpt.text import is_connection_string, safe

from ..engines import Engine, open_engine
from ..latest import compare as compare_with_log
from ..options import ProcessorOptions
from ..processor import ChangeFeedProcessor
from ..projector import Projector
from .http import serving
from .logs import log_as_json
from .metrics import health, registry

__all__ = ["app"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_DEFAULTS: Final = ProcessorOptions(worker="defaults")

app: typer.Typer = typer.Typer(
    help="Keeps the latest-state projection of a checkpoint store up to date. Run as many workers as you like.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[
    str,
    typer.Option(
        envvar="EVENTCKPT_STORE",
        help="A SQLite file, or the endpoint of a Cosmos DB account (database, container and key: AZURE_COSMOS_…).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@app.command()
def run(
    store: Store,
    host: Annotated[str, typer.Option(help="Where to serve /healthz and /metrics.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free port.")] = 9464,
    max_poll_age: Annotated[float, typer.Option(help="Seconds after which a range that was not read is stuck.")] = 60.0,
    poll_interval: Annotated[float, typer.Option(help="Seconds.")] = _DEFAULTS.poll_interval,
    acquire_interval: Annotated[float, typer.Option(help="Seconds.")] = _DEFAULTS.acquire_interval,
    renew_interval: Annotated[float, typer.Option(help="Seconds.")] = _DEFAULTS.renew_interval,
    expiry: Annotated[float, typer.Option(help="Seconds; the same for all workers.")] = _DEFAULTS.expiry,
    fence_margin: Annotated[float, typer.Option(help="Seconds.")] = _DEFAULTS.fence_margin,
    page_size: Annotated[int, typer.Option(help="Events read at once.")] = _DEFAULTS.page_size,
    on_error: Annotated[str, typer.Option(help="stop or park.")] = _DEFAULTS.on_error,
    max_attempts: Annotated[int, typer.Option(help="Before that.")] = _DEFAULTS.max_attempts,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Work until SIGTERM or SIGINT; then release all leases and exit with 0. 2: the store fails for good."""
    log_as_json(log_level.upper())
    options = _checked(
        poll_interval=poll_interval,
        acquire_interval=acquire_interval,
        renew_interval=renew_interval,
        expiry=expiry,
        fence_margin=fence_margin,
        page_size=page_size,
        on_error=on_error,
        max_attempts=max_attempts,
    )
    _complete(_run(store, options, host, port, max_poll_age))


@app.command()
def status(store: Store, as_json: Json = False) -> None:
    """Ranges, their owners, positions, lag, attempts, what is parked, and why the projection is not to be believed."""
    _complete(_status(store, as_json))


@app.command()
def rebuild(store: Store) -> None:
    """Build the projection anew beside the one in use, then put it in use. Workers may go on meanwhile. Exit with
    2, and change nothing, while another rebuild is at work."""
    _complete(_rebuild(store))


@app.command()
def compare(store: Store, as_json: Json = False) -> None:
    """Compare the projection with the log, run by run; exit with 1 if they differ."""
    if _complete(_compare(store, as_json)):
        raise typer.Exit(1)


@app.command()
def unpark(store: Store) -> None:
    """Apply what was parked once more, and let ranges that were stopped go on; exit with 1 if something stays."""
    if _complete(_unpark(store)):
        raise typer.Exit(1)


@app.command()
def reset(
    store: Store, start: Annotated[str, typer.Option(help="beginning or now.")] = "beginning"
) -> None:  # fmt: skip
    """Forget all positions, so that reading begins anew. Stop the workers before."""
    _complete(_reset(store, _checked(start=start).start))


async def _run(store: str, options: ProcessorOptions, host: str, port: int, max_poll_age: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _engine(store, create=True) as engine:
        projector = Projector(engine, options)
        metrics = registry(projector)

        def healthz() -> tuple[int, str, bytes]:
            well, said = health(projector, max_poll_age)
            return (200 if well else 503), "application/json", json.dumps(said).encode()

        pages = {"/healthz": healthz, "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(metrics))}
        async with serving(pages, host, port) as served:
            _said(f"serving http://{host}:{served}/healthz and /metrics")
            await projector.run(stop)


async def _status(store: str, as_json: bool) -> None:
    async with _processor(store) as (name, processor):
        ranges = await processor.status()
        doubted = await processor.doubted()
        parked = await processor.parked()
    rows = [
        {
            "range": lag.lease.range.token,
            "owner": lag.lease.owner,
            "position": lag.lease.continuation,
            "lag": lag.lag,
            "written": lag.lease.timestamp,
            "attempts": lag.lease.attempts,
            "state": "stopped" if lag.lease.stopped else "held" if lag.lease.owner else "free",
            "error": lag.lease.error or lag.refused,
        }
        for lag in ranges
    ]
    aside = [
        {
            "workflow": each.event.workflow_name,
            "run": each.event.run_id,
            "seq": each.event.seq,
            "attempts": each.attempts,
            "error": each.error,
        }
        for each in parked
    ]
    if as_json:
        typer.echo(json.dumps({"projection": name, "doubted": doubted, "ranges": rows, "parked": aside}))
        return
    _print(f"Projection {name}", rows)
    if doubted is not None:
        _said(f"{name} is not to be believed: {doubted}; a worker rebuilds it, and so does `rebuild`")
    if aside:
        _print("Parked", aside)


async def _rebuild(store: str) -> None:
    async with _engine(store) as engine:
        console = Console(stderr=True)
        with console.status("rebuilding") as shown:

            def progress(handled: int, left: int) -> None:
                shown.update(f"rebuilding: {handled} events applied, {left} known to be left")

            name = await Projector(engine, ProcessorOptions(poll_interval=1.0)).rebuild(progress)
    _said(f"{name} is in use")


async def _compare(store: str, as_json: bool) -> int:
    async with _engine(store) as engine:
        differences = [each async for each in compare_with_log(engine.store, engine.feed, engine.store.run_store())]
    rows = [
        {"workflow": each.stream.workflow_name, "run": each.stream.run_id, "what": each.what} for each in differences
    ]
    if as_json:
        typer.echo(json.dumps(rows))
    elif rows:
        _print("Log and projection differ", rows)
    else:
        _said("log and projection agree")
    return len(rows)


async def _unpark(store: str) -> int:
    async with _processor(store, certain=True) as (_, processor):
        taken = await processor.unpark()
        left = len(await processor.parked())
    _said(f"applied {taken}, still parked {left}")
    return left


async def _reset(store: str, start: Start) -> None:
    async with _processor(store, certain=True) as (name, processor):
        try:
            await processor.reset(start)
        except RuntimeError as error:
            typer.echo(safe(error), err=True)
            raise typer.Exit(1) from error
    _said(f"{name} begins anew from {start}")


@asynccontextmanager
async def _processor(store: str, *, certain: bool = False) -> AsyncGenerator[tuple[str, ChangeFeedProcessor], None]:
    """The processor of the projection in use, not started; `certain` for who changes something."""
    async with _engine(store) as engine:
        name = await engine.store.run_store().active(certain=certain)
        yield name, Projector(engine, ProcessorOptions()).processor_of(name)


@asynccontextmanager
async def _engine(store: str, *, create: bool = False) -> AsyncGenerator[Engine, None]:
    """The engine of a store; `create` for who is there before the first event."""
    async with _opened(store, create=create) as opened:
        yield open_engine(opened)


@asynccontextmanager
async def _opened(store: str, *, create: bool) -> AsyncGenerator[EventStore, None]:
    if is_connection_string(store):
        raise typer.BadParameter(
            "--store (or EVENTCKPT_STORE) is a connection string, or a URL with a password, and is not shown. Give the "
            "endpoint alone, and the key in AZURE_COSMOS_KEY."
        )
    if not store.startswith(("http://", "https://")):
        if not create and not os.path.isfile(store):  # noqa: ASYNC240, PTH113 - nothing else runs yet
            raise StoreReadOnlyError(f"There is no store at {store}. Check the path, or EVENTCKPT_STORE.")
        async with _made(SqliteEventStore, store) as opened:
            yield opened
        return
    from eventckpt import CosmosEventStore

    if os.environ.get("AZURE_COSMOS_KEY"):
        async with _made(CosmosEventStore, endpoint=store) as opened:
            yield opened
        return
    from azure.identity.aio import DefaultAzureCredential

    async with (
        DefaultAzureCredential() as credential,
        _made(CosmosEventStore, endpoint=store, credential=credential) as opened,
    ):
        yield opened


def _made(store: Callable[_P, EventStore], *args: _P.args, **kwargs: _P.kwargs) -> EventStore:
    try:
        return store(*args, **kwargs)
    except (TypeError, ValueError, SettingNotFoundError) as error:
        raise typer.BadParameter(safe(error)) from error


def _checked(**options: Any) -> ProcessorOptions:
    try:
        return ProcessorOptions(**options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _complete(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; an engine's error is told in one line."""
    try:
        return asyncio.run(work)
    except CheckpointStoreError as error:
        typer.echo(safe(error), err=True)
        raise typer.Exit(2) from error


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=Text(safe(title)), title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else safe(value)) for value in row.values()))
    Console().print(table)


def _said(text: str) -> None:
    typer.echo(safe(text), err=True)
