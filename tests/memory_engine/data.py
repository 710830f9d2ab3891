"""What the stores of one memory share. Nothing awaits between a look and a change, so each change is one step."""

from __future__ import annotations

import itertools
from collections import defaultdict
from functools import cached_property
from typing import Any

from eventckpt import CheckpointEvent, CheckpointStoreError, RunInfo, StreamId


class Data:
    """Events by run and seq, and in the order of their commits; documents of projections, and others."""

    def __init__(self) -> None:
        self.log: dict[int, CheckpointEvent] = {}
        """By position, in the order of commits."""
        self.runs: defaultdict[StreamId, dict[int, int]] = defaultdict(dict)
        """By run and seq, the position of an event."""
        self.positions = itertools.count(1)
        self.last_position = 0
        self.projections: defaultdict[str, dict[StreamId, RunInfo]] = defaultdict(dict)
        self.active = "latest"
        self.claim: str | None = None
        self.documents: dict[str, dict[str, Any]] = {}
        self.writes = itertools.count(1)

    @cached_property
    def sessions(self) -> Data:
        """The other log."""
        return Data()

    def add(self, event: CheckpointEvent) -> None:
        self.last_position = next(self.positions)
        self.log[self.last_position] = event
        self.runs[event.stream][event.seq] = self.last_position

    def remove(self, stream: StreamId, seq: int) -> bool:
        position = self.runs[stream].pop(seq, None)
        return position is not None and self.log.pop(position, None) is not None

    def get(self, stream: StreamId, seq: int) -> CheckpointEvent | None:
        return self.log.get(self.runs.get(stream, {}).get(seq, 0))

    def of(self, stream: StreamId) -> list[CheckpointEvent]:
        """A run's events in order of seq."""
        return [self.log[position] for _, position in sorted(self.runs.get(stream, {}).items())]

    def head(self, stream: StreamId) -> CheckpointEvent | None:
        run = self.runs.get(stream)
        return self.log[run[max(run)]] if run else None


class Door:
    """Of one store object: whether it is still open."""

    def __init__(self, data: Data) -> None:
        self._data: Data = data
        self.is_closed = False

    @property
    def data(self) -> Data:
        if self.is_closed:
            raise CheckpointStoreError("The store was closed; make a new one to go on.")
        return self._data
