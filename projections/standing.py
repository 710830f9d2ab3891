"""How the projector of a store stands, as commands and pages tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eventckpt.errors import StoreNotFoundError
from eventckpt.rendering.standing import Standing
from eventckpt.stores.run_documents import FIRST_PROJECTION

from .engines import Engine
from .leases import Parked
from .options import ProcessorOptions
from .processor import RangeStatus
from .projector import Projector

__all__ = ["ASKED", "standing_of"]

ASKED: Final = 1_000
"""Ranges of which the feed is asked how far they lie behind: several times as many as a container has partitions."""


async def standing_of(engine: Engine, *, ask_at_most: int | None = None) -> Standing:
    """How the projection in use stands; nothing is changed.

    Args:
        engine: the store.
        ask_at_most: ranges of which the feed is asked how far they lie behind, the first ones; None: `ASKED`.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    try:
        name = await engine.store.run_store().active()
    except StoreNotFoundError:  # nobody has made a place for it yet; or there is no such store, which this says
        await engine.feed.identity()
        return Standing(FIRST_PROJECTION, None, [], [])
    processor = Projector(engine, ProcessorOptions()).processor_of(name)
    ranges = await processor.status(ask_at_most=ASKED if ask_at_most is None else ask_at_most)
    doubted = await processor.doubted()
    return Standing(name, doubted, list(map(_range, ranges)), list(map(_parked, await processor.parked())))


def _range(status: RangeStatus) -> Mapping[str, Any]:
    lease = status.lease
    return {
        "range": lease.range.token,
        "owner": lease.owner,
        "position": lease.continuation,
        "lag": status.lag,
        "written": lease.timestamp,
        "attempts": lease.attempts,
        "state": lease.state,
        "error": lease.error or status.refused,
    }


def _parked(parked: Parked) -> Mapping[str, Any]:
    event = parked.event
    return {
        "workflow": event.workflow_name,
        "run": event.run_id,
        "seq": event.seq,
        "attempts": parked.attempts,
        "error": parked.error,
    }
