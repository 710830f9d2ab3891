"""The engine as the shared suites want it."""

from __future__ import annotations

from eventckpt import EventStore

from ..engines import Engine
from .data import Data
from .event_store import MemoryEventStore


class MemoryEngine(Engine):
    """One memory, which any number of store objects share."""

    def __init__(self) -> None:
        super().__init__()
        self.data = Data()

    def settle(self) -> None:
        """A memory has no replicas."""

    def _open(self) -> EventStore:
        return MemoryEventStore(self.data)
