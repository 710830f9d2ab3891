"""A mapping of bounded size, for what is remembered only to save a look: forgetting costs that look."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Lru"]

_K = TypeVar("_K")
_V = TypeVar("_V")


def _one(_: Any) -> int:
    return 1


class Lru(Generic[_K, _V]):
    """A mapping that keeps the entries used last, as long as they add up to `size` at most.

    Args:
        size: how many entries or, with `weigh`, what they may weigh together.
        weigh: what an entry counts for. What is too heavy by itself is not kept.
    """

    def __init__(self, size: int, weigh: Callable[[_V], int] = _one) -> None:
        self.has_dropped: bool = False
        """Whether anything was ever forgotten for want of room."""
        self._size = size
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def peek(self, key: _K) -> _V | None:
        """What `get` gives, without using it."""
        return self._entries.get(key)

    def put(self, key: _K, value: _V, *, is_guest: bool = False) -> None:
        """Keep `value`, in place of what goes first.

        Args:
            key, value: the entry.
            is_guest: it goes first itself, unless it is asked for until then or was no guest before. Where more entries
                are used in turn than there is room for, guests take each other's place, and the others stay.
        """
        stays = key in self._entries and next(iter(self._entries)) != key
        self.pop(key)
        weight = self._weigh(value)
        if weight > self._size:
            self.has_dropped = True
            return
        while self._weight + weight > self._size:
            self._weight -= self._weigh(self._entries.popitem(last=False)[1])
            self.has_dropped = True
        self._entries[key] = value
        self._weight += weight
        if is_guest and not stays:
            self._entries.move_to_end(key, last=False)

    def __iter__(self) -> Iterator[_K]:
        """The keys as they are now, that of what goes first in front."""
        return iter(list(self._entries))

    def pop(self, key: _K) -> _V | None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._weight -= self._weigh(value)
        return value
