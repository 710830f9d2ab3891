"""What a document says that 0.1.0 wrote: it called `idle` what ended, and what may not have ended.

Until the projector has folded such a run anew, whoever reads its document asks the log. Nothing is written.
"""

from __future__ import annotations

from contextlib import aclosing

from ..events import CheckpointEvent, RunInfo, StreamId
from ..runs import pointing
from ..stores import EventStore

__all__ = ["told"]


async def told(store: EventStore, info: RunInfo) -> RunInfo:
    """`info`, as the newest live header of its run has it."""
    # Nothing before the checkpoint that the document names can be the newest live one while that is live.
    latest = await _newest_live(store, info.stream, behind=max(0, info.checkpoint_seq - 1))
    if latest is None and info.checkpoint_seq > 1:
        latest = await _newest_live(store, info.stream, behind=0)
    return pointing(info, latest)


async def _newest_live(store: EventStore, stream: StreamId, *, behind: int) -> CheckpointEvent | None:
    dead: set[str] = set()
    async with aclosing(store.headers(stream, gt=behind, desc=True)) as headers:
        async for header in headers:
            if header.type == "checkpoint" and header.checkpoint_id not in dead:
                return header
            dead.add(header.checkpoint_id)
    return None
