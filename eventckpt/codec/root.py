"""The root of the raw bytes: the fields of a checkpoint, and beside them the shapes of the classes that it holds.

A root since 0.2 is a form of its own, which 0.1 refuses as one of a newer version; 0.1.0 itself wrote the fields alone.
Who decodes, shows or edits a checkpoint opens its root here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .fields import malformed
from .messagepack import pack, unpack

__all__ = ["Root", "opened"]


class Root(NamedTuple):
    """What the raw bytes of a checkpoint say, undecoded."""

    fields: dict[str, Any]
    """Those of `WorkflowCheckpoint`, as stored forms."""
    shapes: dict[str, Any] | None
    """The shape of each class that had one when the checkpoint was saved (`eventckpt.codec.shapes`), by its key; None:
    0.1.0 wrote them, and recorded none."""

    def packed(self, pack: Callable[[Any], bytes] = pack) -> bytes:
        """The raw bytes."""
        if self.shapes is None:
            return pack(self.fields)
        return pack({f.FORM: f.CHECKPOINT, f.STATE: self.fields, f.SHAPES: self.shapes})


def opened(raw: bytes) -> Root:
    """What raw bytes say.

    Raises:
        CheckpointDecodeError: they are no checkpoint, or no MessagePack.
    """
    node = unpack(raw)
    if type(node) is not dict:
        raise CheckpointDecodeError("Stored bytes are MessagePack, but not a checkpoint.")
    root = cast("dict[str, Any]", node)
    if root.get(f.FORM) != f.CHECKPOINT:
        return Root(root, None)
    fields, shapes = root.get(f.STATE), root.get(f.SHAPES)
    if type(fields) is not dict or type(shapes) is not dict or len(root) != 3:
        raise malformed(root)
    return Root(cast("dict[str, Any]", fields), cast("dict[str, Any]", shapes))
