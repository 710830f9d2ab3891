"""A third engine, which keeps everything in memory: what implements every port gets all the rest unchanged."""

from .data import Data
from .engine import MemoryEngine
from .event_store import MemoryEventStore

__all__ = ["Data", "MemoryEngine", "MemoryEventStore"]
