"""Documents of projections in memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Collection

import msgspec

from eventckpt import RunInfo, StreamId
from eventckpt.stores import Claim, RunStore, gives_way, is_listed
from eventckpt.stores.names import check_projection
from eventckpt.stores.run_documents import LeftOut, counting

from .data import Door


class MemoryRunStore(RunStore):
    """Pages and counts, and what says `idle`, are those of the port."""

    def __init__(self, door: Door, name: str | None) -> None:
        self._door = door
        self._name = name
        self._left_out = LeftOut()

    @property
    def _documents(self) -> dict[StreamId, RunInfo]:
        return self._door.data.projections[self._name or self._door.data.active]

    def _get(self, stream: StreamId) -> RunInfo | None:
        """What is stored may be damaged: the suite puts what no projection would."""
        stored = self._documents.get(stream)
        if stored is None:
            return None
        info = counting(lambda: msgspec.convert(msgspec.to_builtins(stored), RunInfo), stream.__eq__)
        if info is None:
            self._left_out.say(self._name or "", f"{stream.workflow_name}|{stream.run_id}")
        return info

    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        return {stream: info for stream in streams if (info := self._get(stream)) is not None}

    async def put(self, *infos: RunInfo) -> int:
        written = 0
        for info in infos:
            stored = self._get(info.stream)
            if stored is None or gives_way(stored, info):
                self._documents[info.stream] = info
                written += 1
        return written

    async def newest(self, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        positions = self._door.data.runs
        found = [
            info
            async for info in self.all(workflow_name)
            if info.stream not in without and info.checkpoint_seq in positions.get(info.stream, {})
        ]
        return max(found, key=lambda info: positions[info.stream][info.checkpoint_seq], default=None)

    async def all(self, workflow_name: str | None = None, *, emptied: bool = False) -> AsyncGenerator[RunInfo, None]:
        for stream in list(self._documents):
            info = self._get(stream) if workflow_name in (None, stream.workflow_name) else None
            if info is not None and is_listed(info, emptied=emptied):
                yield info

    async def clear(self) -> None:
        self._documents.clear()

    async def active(self, *, certain: bool = False) -> str:
        return self._door.data.active

    async def claim(self) -> Claim:
        data = self._door.data
        data.claim = uuid.uuid4().hex
        return Claim(data.active, data.claim)

    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        data, name = self._door.data, check_projection(name)
        if claim is not None and data.claim != claim.token:
            return False
        data.active, data.claim = name, None
        return True

    async def is_empty(self) -> bool:
        return not self._documents
