"""The tools around a worker: they look at the projection in use, repair it, and let go on what was stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from rich.console import Console

from eventckpt.stores.change_feed import Start

from .. import standing
from ..compare import compare as differences_from_log
from ..options import ProcessorOptions
from ..processor import ChangeFeedProcessor
from ..projector import Projector
from .opening import engine_of
from .output import FOUND_WRONG, Failure, print_json, print_table, say

__all__ = ["compare", "rebuild", "reset", "status", "unpark"]


async def status(store: str | None, *, turns: bool, as_json: bool) -> None:
    """Print how each range stands, what is parked, and whether the projection is to be believed."""
    async with engine_of(store, turns=turns, read_only=True) as engine:
        name, doubted, rows, aside = await standing.standing_of(engine)
    if as_json:
        print_json({"projection": name, "doubted": doubted, "ranges": rows, "parked": aside})
        return
    print_table(f"Projection {name}", rows[: standing.ASKED])
    if len(rows) > standing.ASKED:
        say(
            f"{name} has {len(rows):,} ranges, which no feed comes to. The first {standing.ASKED:,} are shown; of the "
            "others the feed was not asked how far they lie behind, and --json has them. No worker wrote so many leases"
        )
    if doubted is not None:
        say(f"{name} is not to be believed: {doubted}; a worker rebuilds it, and so does `rebuild`")
    if aside:
        print_table("Parked", aside)


async def rebuild(store: str | None, *, turns: bool) -> None:
    """Fill a new projection beside the one in use, then put it in use."""
    async with engine_of(store, turns=turns) as engine:
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        with console.status("rebuilding") as shown:

            def progress(handled: int, left: int) -> None:
                shown.update(f"rebuilding: {handled} events applied, {left} known to be left")

            name = await Projector(engine, ProcessorOptions(poll_interval=1.0)).rebuild(progress)
    say(f"{name} is in use")


async def compare(store: str | None, *, turns: bool, as_json: bool) -> int:
    """Print where log and projection differ; how many runs do."""
    async with engine_of(store, turns=turns, read_only=True) as engine:
        differences = [each async for each in differences_from_log(engine.store, engine.feed, engine.store.run_store())]
    rows = [
        {"workflow": each.stream.workflow_name, "run": each.stream.run_id, "what": each.what} for each in differences
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("Log and projection differ", rows)
    else:
        say("log and projection agree")
    return len(rows)


async def unpark(store: str | None, *, turns: bool) -> int:
    """Apply what was parked once more; how many events stay parked."""
    async with _processor(store, turns=turns) as (_, processor):
        taken = await processor.unpark()
        left = len(await processor.parked())
    say(f"applied {taken}, still parked {left}")
    return left


async def reset(store: str | None, start: Start, *, turns: bool) -> None:
    """Forget all positions of the projection in use."""
    async with _processor(store, turns=turns) as (name, processor):
        try:
            await processor.reset(start)
        except RuntimeError as error:
            raise Failure(FOUND_WRONG, str(error)) from error
    say(f"{name} begins anew from {start}")


@asynccontextmanager
async def _processor(store: str | None, *, turns: bool) -> AsyncGenerator[tuple[str, ChangeFeedProcessor], None]:
    """The processor of the projection in use, not started, for who changes something."""
    async with engine_of(store, turns=turns) as engine:
        name = await engine.store.run_store().active(certain=True)
        yield name, Projector(engine, ProcessorOptions()).processor_of(name)
