"""What documents of 0.1.0 do not tell: whether a run that they call `idle` has ended. Their runs are folded anew, once.

This goes on beside the processing, which never waits for it: a few runs at a time, again after any error, and ending
with the worker. Any number of workers may do it at once: a document is written over only where it still says `idle` of
the very same events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from eventckpt import EventStore, RunInfo
from eventckpt.chain import is_newer
from eventckpt.log import logger_of
from eventckpt.runs import fold
from eventckpt.stores import RunStore
from eventckpt.text import safe

from .clock import Clock
from .waiting import cancelled

__all__ = ["telling"]

logger = logger_of("eventckpt.projections")

_AT_ONCE: Final = 4
"""Runs that are read side by side; the processing shares the connections."""
_PAUSE: Final = 5.0
"""Seconds before the next attempt after an error; twice as long each time, up to:"""
_LONGEST_PAUSE: Final = 300.0


@asynccontextmanager
async def telling(store: EventStore, runs: RunStore, clock: Clock) -> AsyncGenerator[None, None]:
    """Folds anew, in the background of the body, each run of which `runs` says `idle`."""
    task = asyncio.ensure_future(_until_told(store, runs, clock))
    try:
        yield
    finally:
        await cancelled(task)


async def _until_told(store: EventStore, runs: RunStore, clock: Clock) -> None:
    pause = _PAUSE
    while True:
        try:
            await _tell(store, runs)
        except Exception as error:  # noqa: BLE001 - the worker goes on without, and this is tried again
            logger.warning("Documents that say 'idle' are left for another attempt in %g s: %s", pause, safe(error))
        else:
            return
        await clock.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _tell(store: EventStore, runs: RunStore) -> None:
    """Once through all documents that say `idle`; the first error is raised when all others had their turn.

    What the log cannot tell either stays: of events that it does not have, or that only a newer version understands.
    """
    found = written = 0
    failures: list[Exception] = []
    async with aclosing(_batches(runs)) as batches:
        async for batch in batches:
            found += len(batch)
            folded = await asyncio.gather(*(_anew(store, info) for info in batch), return_exceptions=True)
            failures += [each for each in folded if isinstance(each, Exception)]
            told = [each for each in folded if isinstance(each, RunInfo)]
            written += await runs.put(*told) if told else 0
    if found:
        logger.info("%d of %d documents that said 'idle' were folded anew", written, found)
    else:
        await runs.note_none_idle()
    if failures:
        raise failures[0]


async def _batches(runs: RunStore) -> AsyncGenerator[list[RunInfo], None]:
    batch: list[RunInfo] = []
    async with aclosing(runs.idle()) as infos:
        async for info in infos:
            batch.append(info)
            if len(batch) == _AT_ONCE:
                yield batch
                batch = []
    if batch:
        yield batch


async def _anew(store: EventStore, info: RunInfo) -> RunInfo | None:
    """The run as the log had it when its document was written; None where it does not say. Of other events than the
    document's, it is not put in its place."""
    async with aclosing(store.headers(info.stream, lte=info.seq)) as headers:
        known = [header async for header in headers]
    return None if any(map(is_newer, known)) else fold(known)
