"""The commands of `eventckpt-projector` and their options; what each does is in the modules beside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from eventckpt.audit import RetentionPolicy
from eventckpt.command_line import Command, Commands, Store, says_version
from eventckpt.exit_codes import FOUND_WRONG, MEANINGS
from eventckpt.moments import span_of
from eventckpt.text import described

from ..options import ProcessorOptions
from . import commands
from .health import check_terms
from .http import DEFAULT_PORT
from .logs import log_as_json
from .output import complete, well_formed
from .serve import ServeOptions, serve

__all__ = ["app"]

_DEFAULTS: Final = ProcessorOptions(worker="defaults")

app: typer.Typer = typer.Typer(
    cls=Commands,
    help="Keeps the latest-state projection of a checkpoint store up to date. Run as many workers as you like.",
    epilog=MEANINGS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _before_a_command(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=says_version("eventckpt-projector"), is_eager=True, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


Turns = Annotated[
    bool, typer.Option("--turns", help="The projection of the sessions in the store, in place of that of the runs.")
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


Host = Annotated[str, typer.Option(help="Where to serve /livez, /healthz and /metrics.")]
Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help=f"0: any free port. Without: {DEFAULT_PORT}, or any free one where that is taken."
    ),
]
MaxPollAge = Annotated[
    float,
    typer.Option(help="Seconds for which the store may not answer, or a range go unread: then /healthz is 503."),
]
MaxStall = Annotated[
    float, typer.Option(help="Seconds for which a loop may try nothing, or a batch last: then /livez is 503.")
]
StoreTimeout = Annotated[
    float,
    typer.Option(help="Seconds that an operation waits for a locked file, or for the service, before it has failed."),
]
ScalerName = Annotated[str | None, typer.Option(help="Keep copies of the leases under this processor name, for KEDA.")]
Seconds = Annotated[float, typer.Option(help="Seconds.")]
RetentionFile = Annotated[
    Path | None,
    typer.Option("--retention", help="A retention policy to carry out beside: try it with `eventckpt retain` first."),
]
RetentionEvery = Annotated[
    str, typer.Option(help="From the end of one pass of it to the next, over all workers, such as 12h or 1d.")
]


@app.command()
def run(
    store: Store = None,
    turns: Turns = False,
    host: Host = "127.0.0.1",
    port: Port = None,
    max_poll_age: MaxPollAge = 60.0,
    max_stall: MaxStall = 300.0,
    store_timeout: StoreTimeout = 30.0,
    scaler_name: ScalerName = None,
    retention: RetentionFile = None,
    retention_every: RetentionEvery = "1d",
    poll_interval: Seconds = _DEFAULTS.poll_interval,
    acquire_interval: Seconds = _DEFAULTS.acquire_interval,
    renew_interval: Seconds = _DEFAULTS.renew_interval,
    expiry: Annotated[float, typer.Option(help="Seconds; the same for all workers.")] = _DEFAULTS.expiry,
    fence_margin: Seconds = _DEFAULTS.fence_margin,
    page_size: Annotated[int, typer.Option(max=10_000, help="Events read at once.")] = _DEFAULTS.page_size,
    on_error: Annotated[str, typer.Option(help="stop or park.")] = _DEFAULTS.on_error,
    max_attempts: Annotated[int, typer.Option(help="Before that.")] = _DEFAULTS.max_attempts,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Work until SIGTERM or SIGINT; then release all leases and exit with 0. A store that is down is waited for."""
    options: dict[str, Any] = {
        "poll_interval": poll_interval,
        "acquire_interval": acquire_interval,
        "renew_interval": renew_interval,
        "expiry": expiry,
        "fence_margin": fence_margin,
        "page_size": page_size,
        "on_error": on_error,
        "max_attempts": max_attempts,
    }
    shown: dict[str, Any] = {
        "host": host,
        "port": port,
        "max_poll_age": max_poll_age,
        "max_stall": max_stall,
        "scaler_name": scaler_name,
        "store_timeout": store_timeout,
        "turns": turns,
    }

    async def work() -> None:
        well_formed(lambda: log_as_json(log_level))
        shown["retention_every"] = well_formed(lambda: _seconds("--retention-every", retention_every))
        shown["retention"] = retention and well_formed(partial(RetentionPolicy.load, retention))
        processing, about = well_formed(lambda: (ProcessorOptions(**options), ServeOptions(**shown)))
        well_formed(lambda: check_terms(about.max_poll_age, processing))
        await serve(store, processing, about)

    complete(work())


def _seconds(name: str, text: str) -> float:
    span = span_of(text)
    if not span:
        raise ValueError(f"{name} takes a span of time such as 12h or 1d, not {described(text)}.")
    return span.total_seconds()


@app.command()
def status(store: Store = None, turns: Turns = False, as_json: Json = False) -> None:
    """Ranges, their owners, positions, lag, attempts, what is parked, and why the projection is not to be believed."""
    complete(commands.status(store, turns=turns, as_json=as_json))


@app.command()
def rebuild(store: Store = None, turns: Turns = False) -> None:
    """Build the projection anew beside the one in use, then put it in use. Workers may go on meanwhile. Exit with
    1, and change nothing, while another rebuild is at work."""
    complete(commands.rebuild(store, turns=turns))


@app.command()
def compare(store: Store = None, turns: Turns = False, as_json: Json = False) -> None:
    """Compare the projection with the log, run by run; exit with 1 if they differ."""
    if complete(commands.compare(store, turns=turns, as_json=as_json)):
        raise typer.Exit(FOUND_WRONG)


@app.command()
def unpark(store: Store = None, turns: Turns = False) -> None:
    """Apply what was parked once more, and let ranges that were stopped go on; exit with 1 if something stays."""
    if complete(commands.unpark(store, turns=turns)):
        raise typer.Exit(FOUND_WRONG)


@app.command()
def reset(
    store: Store = None,
    turns: Turns = False,
    start: Annotated[str, typer.Option(help="beginning or now.")] = "beginning",
) -> None:
    """Forget all positions, so that reading begins anew. Stop the workers before."""

    async def work() -> None:
        options = well_formed(lambda: ProcessorOptions(start=cast(Any, start)))
        await commands.reset(store, options.start, turns=turns)

    complete(work())


for _each in app.registered_commands:
    _each.cls = Command
