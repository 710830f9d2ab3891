"""That what is saved loads again, shown by loading what is new in it.

A checkpoint holds what the one before held, and a little more. That a piece of it loads depends on its bytes, on how
deep it lies, on the classes that it names, and on how much of what a load may do the others leave to it. So once it has
been loaded, only that is remembered: the hash of its bytes, the depth, and what it took.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

from .decoder import Decoder
from .messagepack import unpack

__all__ = ["Encoded", "Piece", "Proven"]

_MOST: Final = 50_000
"""Pieces that are remembered, and as many more that were used before those: about 20 MB at most."""


class Piece:
    """A part of a checkpoint that can be loaded by itself: a form that lies in plain lists and maps only."""

    __slots__ = ("depth", "first", "last", "node", "packed")

    depth: int
    """How many containers it lies in."""
    first: int
    last: int
    """Which values are in it, counted in the order of the walk: from `first` to before `last`."""
    node: Any
    packed: bytes
    """The node as MessagePack, once the checkpoint is packed."""

    def __init__(self, depth: int) -> None:
        self.depth = depth


class Encoded(NamedTuple):
    """A checkpoint as bytes, and what its proof needs."""

    raw: bytes
    classes: dict[str, type[Any]]
    """Those that it holds, by their keys."""
    shapes: dict[str, Any]
    """As its root has them."""
    pieces: list[Piece] | None
    """All in it that a load could refuse; None: it can only be loaded as a whole."""


class _Took(NamedTuple):
    """How a piece was loaded."""

    depth: int
    work: int
    """Steps beyond reading its bytes."""


class Proven:
    """What has been loaded, of the classes that there are: a set of classes or another needs another one of these."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Any]] = {}
        self._used: dict[bytes, _Took] = {}
        self._before: dict[bytes, _Took] = {}
        self._alike: dict[_Took, _Took] = {}
        """One of each: hardly any two pieces differ in what they took."""

    def is_of(self, classes: dict[str, type[Any]]) -> bool:
        """Whether what is known holds for these classes too: none has taken another's place."""
        return all(self._classes.setdefault(key, cls) is cls for key, cls in classes.items())

    def covers(self, pieces: list[Piece], decoder: Decoder) -> bool:
        """Whether all of these load together; those that are new are loaded.

        Args:
            pieces: in their order, of one checkpoint.
            decoder: one for that checkpoint, unused.

        Raises:
            Exception: a piece does not load by itself, or they take too much together.
        """
        new: list[tuple[bytes, _Took]] = []
        decoder.may_refer = (
            True  # that some refer to each other makes all dearer: as remembered, none depends on others
        )
        for piece in pieces:
            digest = hashlib.sha256(piece.packed).digest()
            took = self._known(digest)
            if took is not None and took.depth >= piece.depth:
                decoder.work.spend(took.work)
            else:
                left, keys = decoder.work.left, decoder.work.keys
                decoder.value(unpack(piece.packed), piece.depth)
                if decoder.work.keys == keys:  # else what it takes is measured by the clock, of all such together
                    new.append((digest, _Took(piece.depth, left - decoder.work.left)))
        if not decoder.is_apart:
            return False
        for digest, took in new:
            self._note(digest, took)
        return True

    def _known(self, digest: bytes) -> _Took | None:
        took = self._used.get(digest)
        if took is None:
            took = self._before.get(digest)
            if took is not None:
                self._note(digest, took)
        return took

    def _note(self, digest: bytes, took: _Took) -> None:
        if len(self._used) >= _MOST:
            self._before, self._used, self._alike = self._used, {}, {}
        self._used[digest] = self._alike.setdefault(took, took)
