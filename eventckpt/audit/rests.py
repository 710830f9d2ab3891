"""What of a session branches and forks rest on: they hold their own turns alone, and not those that they went off from.

A run that forks copies a checkpoint; a conversation does not. So a prune keeps of each stream what others read of it.
"""

from __future__ import annotations

from contextlib import aclosing

from ..events import CheckpointEvent, StreamId
from ..stores import AuditStore

__all__ = ["Rests", "turn_of"]


class Rests:
    """Up to which seq others rest on a stream, by the first events of the streams of its source, which are read once.

    Args:
        store: of sessions.
    """

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._resting: dict[str, dict[StreamId, dict[StreamId, int]]] = {}
        """By source and stream, who rests on it, and up to which seq."""

    async def up_to(self, stream: StreamId) -> int:
        """The last seq of a stream that another one rests on; 0: none does."""
        return max((await self._on(stream)).values(), default=0)

    async def upon(self, stream: StreamId) -> set[StreamId]:
        """The streams that rest on a stream."""
        return set(await self._on(stream))

    async def _on(self, stream: StreamId) -> dict[StreamId, int]:
        source = stream.workflow_name
        if source not in self._resting:
            self._resting[source] = await self._of_source(source)
        return self._resting[source].get(stream, {})

    async def _of_source(self, source: str) -> dict[StreamId, dict[StreamId, int]]:
        found: dict[StreamId, dict[StreamId, int]] = {}
        async with aclosing(self._store.run_ids(source)) as run_ids:
            async for run_id in run_ids:
                async with aclosing(self._store.headers(StreamId(source, run_id), lte=1)) as firsts:
                    first = await anext(firsts, None)
                if first is not None and (origin := first.forked_from) is not None:
                    stream = StreamId(origin.workflow_name, origin.run_id)
                    found.setdefault(stream, {})[first.stream] = origin.seq
        return found


def turn_of(event: CheckpointEvent) -> str:
    """What the events of one turn have in common, where it was saved after each call of the model: its first id."""
    return event.turn.continues or event.checkpoint_id if event.turn is not None else event.checkpoint_id
