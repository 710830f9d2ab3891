"""A checkpoint taken apart into pieces: each value that is no plain JSON, packed by itself.

What a checkpoint has besides is lists, maps and texts, of which nothing can be refused at a load. So that a checkpoint
loads is shown piece by piece, and what an earlier save has shown need not be shown again (`eventckpt.codec.proof`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import msgspec

from ..allowlist import TypeGate
from . import forms as f
from .encoder import Encoder, Handler
from .labels import with_labels
from .messagepack import pack
from .proof import Piece

__all__ = ["PieceEncoder", "pack_pieces"]


def _packed(piece: Piece) -> msgspec.Raw:
    piece.packed = pack(piece.node)
    return msgspec.Raw(piece.packed)


pack_pieces: Final = msgspec.msgpack.Encoder(enc_hook=cast("Callable[[Any], Any]", _packed)).encode
"""`pack`, of a tree in which pieces stand."""


class PieceEncoder(Encoder):
    """Encodes one checkpoint in pieces; what they are packed to together is what `Encoder` gives.

    Args: those of `Encoder`.
    """

    def __init__(self, gate: TypeGate, ordinary: set[type[Any]], *, careful: bool) -> None:
        super().__init__(gate, ordinary, careful=careful)
        self._pieces: list[Piece] = []
        self._within: Piece | None = None
        self._links: list[tuple[Piece | None, int]] = []
        """From which piece, and to the value of which id."""

    def tree(self, value: Any) -> Any:
        node = super().tree(value)
        if self._shared:
            for piece in self._pieces:
                piece.node = with_labels(piece.node, self._shared)
        return node

    def pieces(self) -> list[Piece] | None:
        """Once they are packed, the pieces that can be loaded by themselves, and those that references link together as
        one; None: a reference leads out of or into what lies in no piece."""
        linked = self._linked()
        if not linked:
            return None if linked is None else self._pieces
        together = Piece(max(piece.depth for piece in linked) - 1)
        together.packed = pack([msgspec.Raw(piece.packed) for piece in self._pieces if piece in linked])
        return [*(piece for piece in self._pieces if piece not in linked), together]

    def _linked(self) -> set[Piece] | None:
        """The pieces that a reference leads out of or into; None: one leads out of or into what lies in no piece."""
        if not self._links:
            return set()
        places = {key: place for place, key in enumerate(self._nodes)}
        firsts = [piece.first for piece in self._pieces]
        found: set[Piece] = set()
        for source, target in self._links:
            before = bisect_right(firsts, places[target])
            home = self._pieces[before - 1] if before and places[target] < self._pieces[before - 1].last else None
            if source is None or home is None:
                return None
            if source is not home:
                found |= {source, home}
        return found

    def _again(self, value: object, node: Any, native: bool) -> dict[str, Any]:
        if not self._comparing:
            self._links.append((self._within, id(value)))
        return super()._again(value, node, native)

    def _keyed(self, value: dict[Any, Any], depth: int, native: bool) -> Any:
        return super()._keyed(value, depth, native) if self._within else self._piece(value, depth, native)

    def _piece(self, value: Any, depth: int, native: bool) -> Any:
        cls = f.type_of(value)
        handler = Encoder._keyed if cls is dict else Encoder._HANDLERS.get(cls, Encoder._object)
        self._within = piece = Piece(depth)
        piece.first = len(self._nodes)
        self._handlers = Encoder._HANDLERS  # what is in a piece is in no other
        node = handler(self, value, depth, native)
        self._handlers = self._HANDLERS
        self._within = None
        if type(node) is not dict:  # an instance of a subclass of str, say, that is stored as a plain one
            return node
        piece.node, piece.last = node, len(self._nodes)
        self._pieces.append(piece)
        return piece

    _HANDLERS: ClassVar[dict[type[Any], Handler]] = {
        **dict.fromkeys(Encoder._HANDLERS, _piece),
        list: Encoder._HANDLERS[list],
        dict: Encoder._HANDLERS[dict],
    }
