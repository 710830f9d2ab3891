"""What documents of 0.1.0 do not tell: whether a run that they call `idle` has ended. The log tells, and it is kept.

This goes on beside the processing, which never waits for it: a few runs at a time, again after any error, and ending
with the worker. Any number of workers may do it at once: a document is written over only where it still says `idle` of
the very same events. A worker of 0.1.0 that runs beside for a while writes such documents again: so it is looked again
after a while, until a later look finds nothing to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from eventckpt import EventStore, RunInfo
from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores import RunStore
from eventckpt.stores.run_documents import told
from eventckpt.stores.walks import in_pages

from .retry import Retry
from .tasks import Loop, cancelled

__all__ = ["status_backfill"]

logger: Final = logger_of("eventckpt.projections")

_AT_ONCE: Final = 4
"""Runs that are read side by side; the processing shares the connections."""
_RETRY: Final = Retry(backoff=5.0, max_backoff=300.0)
_AGAIN: Final = 3600.0
"""Seconds until it is looked again: longer than it takes to replace the last worker of 0.1.0."""


@asynccontextmanager
async def status_backfill(store: EventStore, runs: RunStore, clock: Clock) -> AsyncGenerator[None, None]:
    """Tells, in the background of the body, how each run stands of which `runs` says `idle`."""
    task = asyncio.ensure_future(_until_told(store, runs, clock))
    try:
        yield
    finally:
        await cancelled(task)


async def _until_told(store: EventStore, runs: RunStore, clock: Clock) -> None:
    has_looked = False

    async def look() -> bool | None:
        """Whether a later look found nothing to do."""
        nonlocal has_looked
        written, is_later, has_looked = await _tell(store, runs), has_looked, True
        return True if is_later and not written else None

    try:
        await Loop("the look at documents that say 'idle'", _RETRY, clock).run(look, every=_AGAIN)
    except CheckpointStoreError as error:
        logger.warning("Documents that say 'idle' are left: %s", error)  # the processing ends with what lasts


async def _tell(store: EventStore, runs: RunStore) -> int:
    """Once through all documents that say `idle`; how many were written. The first error is raised when all others had
    their turn.

    What the log cannot tell either stays: of events that it does not have, or that only a newer version understands.
    """
    found = written = 0
    failures: list[Exception] = []
    async with aclosing(runs.idle()) as idle, aclosing(in_pages(idle, _AT_ONCE)) as batches:
        async for batch in batches:
            found += len(batch)
            answers = await asyncio.gather(*(told(store, info) for info in batch), return_exceptions=True)
            failures += [each for each in answers if isinstance(each, Exception)]
            infos = [each for each in answers if isinstance(each, RunInfo)]
            written += await runs.put(*infos) if infos else 0
    if found:
        logger.info("%d of %d documents that said 'idle' tell now how their runs stand", written, found)
    if failures:
        raise failures[0]
    return written
