"""A mapping of bounded size, for what is remembered only to save a look: forgetting costs that look."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Lru"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Lru(Generic[_K, _V]):
    """A mapping that keeps the `size` entries used last."""

    def __init__(self, size: int) -> None:
        self.has_dropped: bool = False
        """Whether anything was ever forgotten for want of room."""
        self._size = size
        self._entries: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: _K, value: _V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
            self.has_dropped = True

    def pop(self, key: _K) -> _V | None:
        return self._entries.pop(key, None)
