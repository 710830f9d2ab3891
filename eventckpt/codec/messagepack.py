"""Natives to bytes and back: MessagePack, read as what may be hostile.

Written by msgspec, read by ormsgpack. A map may only have keys that are text, and ormsgpack refuses others while it
parses. msgspec makes tuples of arrays that stand as keys, and tuples can be made that all have one hash.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
import ormsgpack

from ..errors import CheckpointDecodeError

__all__ = ["pack", "unpack"]

pack: Final = msgspec.msgpack.Encoder().encode

_END: Final = b"\xc4\x10" + secrets.token_bytes(16)
"""What must follow the bytes of a checkpoint: nothing that they hold can be equal to it."""


def unpack(raw: bytes) -> Any:
    """The tree of natives that raw bytes hold.

    Raises:
        CheckpointDecodeError: they are not MessagePack, or more than that.
    """
    try:
        tree, end = ormsgpack.unpackb(b"\x92" + raw + _END)
    except ValueError as error:
        raise CheckpointDecodeError(f"Stored bytes are not MessagePack: {error}.") from error
    if end != _END[2:]:
        raise CheckpointDecodeError("Stored bytes are not MessagePack alone: there are trailing bytes.")
    return tree
