"""The read path: which event a question is about, and the checkpoint in it.

A checkpoint is live while the newest event of its id, in its stream, is not a tombstone. Everything up to the
payload is decided on headers alone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Final

from agent_framework import WorkflowCheckpoint

from .. import delta
from ..chain import digest_of
from ..codec import MAX_RAW_SIZE, CheckpointCodec
from ..errors import CheckpointDecodeError, CheckpointNotFoundError, CheckpointTypeNotAllowedError
from ..events import CheckpointEvent, StreamId
from ..stores import EventStore, Located
from . import telemetry
from .lineage import Head, Memory

__all__ = ["Reader"]

logger = logging.getLogger("eventckpt")

_AT_ONCE: Final = 16  # whole events that a listing holds in memory


class Reader:
    """Answers `load`, `get_latest` and the listings from an event store."""

    def __init__(self, store: EventStore, codec: CheckpointCodec, memory: Memory) -> None:
        self._store = store
        self._codec = codec
        self._memory = memory

    async def load(self, checkpoint_id: str, stream: StreamId | None) -> WorkflowCheckpoint:
        """The newest content of a live checkpoint, looked for in `stream` first."""
        located = await self.locate(checkpoint_id, stream)
        if located is None:
            raise CheckpointNotFoundError(f"No checkpoint found with ID {checkpoint_id}")
        checkpoint = self._decoded(located.event)
        self._memory.saw(located.event, Head.of(located.head))
        return checkpoint

    async def locate(self, checkpoint_id: str, stream: StreamId | None) -> Located | None:
        """Where a live checkpoint lies; None if there is none."""
        if stream is None and (tip := self._memory.tip(checkpoint_id)):
            stream = tip.stream
        located = await self._store.find(checkpoint_id, stream=stream) if stream else None
        located = located or await self._store.find(checkpoint_id)
        return located if located and located.event.type == "checkpoint" else None

    async def latest(self, workflow_name: str, run_id: str | None) -> WorkflowCheckpoint | None:
        """The live checkpoint committed last. An undecodable one raises: it never gives way to an older one."""
        dead: set[tuple[StreamId, str]] = set()
        heads: dict[StreamId, Head] = {}
        async with aclosing(self._headers(workflow_name, run_id, desc=True)) as headers:
            async for header in headers:
                head = heads.setdefault(header.stream, Head.of(header))
                key = (header.stream, header.checkpoint_id)
                if header.type == "checkpoint" and key not in dead:
                    for event in await self._store.read(header.stream, header.seq):
                        checkpoint = self._decoded(event)
                        self._memory.saw(event, head)
                        return checkpoint
                dead.add(key)
        return None

    async def live(self, workflow_name: str, run_id: str | None) -> list[CheckpointEvent]:
        """The headers of the live checkpoints, in the order in which they were committed."""
        newest: dict[tuple[StreamId, str], CheckpointEvent] = {}
        async for header in self._headers(workflow_name, run_id, desc=False):
            key = (header.stream, header.checkpoint_id)
            newest.pop(key, None)
            if header.type == "checkpoint":
                newest[key] = header
        return list(newest.values())

    async def checkpoints(self, headers: list[CheckpointEvent]) -> AsyncIterator[WorkflowCheckpoint]:
        """The checkpoints behind `headers`; those that cannot be decoded are left out, with a warning."""
        for start in range(0, len(headers), _AT_ONCE):
            for event in await self._all_whole(headers[start : start + _AT_ONCE]):
                try:
                    yield self._decoded(event)
                except (CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
                    logger.warning("A listing leaves out a checkpoint: %s", error)

    def _headers(self, workflow_name: str, run_id: str | None, *, desc: bool) -> AsyncGenerator[CheckpointEvent, None]:
        if run_id is None:
            return self._store.workflow_headers(workflow_name, desc=desc)
        return self._store.headers(StreamId(workflow_name, run_id), desc=desc)

    async def _all_whole(self, headers: Iterable[CheckpointEvent]) -> list[CheckpointEvent]:
        """`headers` with their data, in the same order; events pruned in the meantime are left out."""
        seqs: dict[StreamId, list[int]] = {}
        for header in headers:
            seqs.setdefault(header.stream, []).append(header.seq)
        whole = {
            (stream, event.seq): event for stream in seqs for event in await self._store.read(stream, *seqs[stream])
        }
        return [whole[key] for header in headers if (key := (header.stream, header.seq)) in whole]

    def _decoded(self, event: CheckpointEvent) -> WorkflowCheckpoint:
        """The checkpoint in `event`, or an error that names the event."""
        where = (
            f"Checkpoint {event.checkpoint_id} (seq {event.seq} of run {event.run_id!r}, "
            f"workflow {event.workflow_name!r}) cannot be loaded: "
        )
        try:
            checkpoint = self._decode(event)
        except CheckpointTypeNotAllowedError as error:
            telemetry.loads.add(1, {"outcome": "failed"})
            raise CheckpointTypeNotAllowedError(f"{where}{error}", type_key=error.type_key) from error
        except CheckpointDecodeError as error:
            telemetry.loads.add(1, {"outcome": "failed"})
            raise CheckpointDecodeError(f"{where}{error}") from error
        telemetry.loads.add(1, {"outcome": "loaded"})
        return checkpoint

    def _decode(self, event: CheckpointEvent) -> WorkflowCheckpoint:
        if event.payload is None:
            raise CheckpointDecodeError("its header is damaged")
        if digest_of(event) != event.digest:
            raise CheckpointDecodeError("it was changed after it was written: its digest does not match")
        checkpoint = self._codec.decode(delta.restore(event.payload, max_size=MAX_RAW_SIZE))
        if (checkpoint.checkpoint_id, checkpoint.workflow_name) != (event.checkpoint_id, event.workflow_name):
            raise CheckpointDecodeError(f"its payload holds another checkpoint, {checkpoint.checkpoint_id!r}")
        return checkpoint
