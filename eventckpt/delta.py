"""How raw checkpoint bytes become a stored payload, and back.

Every payload is a snapshot: its data stands alone. The fields of `Payload` already tell a snapshot from a delta
(`base_seq`), so that an event written today stays readable once deltas exist.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Final

from .errors import CheckpointDecodeError
from .events import Payload

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["SNAPSHOT", "restore", "snapshot"]

SNAPSHOT: Final = "msgpack+zstd"
"""`Payload.encoding` of data that is zstd over the raw MessagePack bytes."""


def snapshot(raw: bytes) -> Payload:
    """The payload that holds `raw` and needs nothing else."""
    data = zstd.compress(raw)
    return Payload(
        encoding=SNAPSHOT,
        raw_size=len(raw),
        raw_sha256=hashlib.sha256(raw).hexdigest(),
        stored_size=len(data),
        data=data,
    )


def restore(payload: Payload, *, max_size: int) -> bytes:
    """The raw bytes that `payload` holds.

    Decompression stops at the size that the payload declares, and never exceeds `max_size` bytes: data from the
    store may be hostile.

    Raises:
        CheckpointDecodeError: the payload is not what its header says, or of an encoding of a later version.
    """
    if payload.encoding != SNAPSHOT or payload.base_seq is not None or payload.parts:
        raise CheckpointDecodeError(
            f"its payload is encoded as {payload.encoding[:80]!r}, which this version of eventckpt does not read"
        )
    if payload.raw_size > max_size:
        raise CheckpointDecodeError(f"its payload declares {payload.raw_size:,} bytes; the limit is {max_size:,}")
    decompressor = zstd.ZstdDecompressor()
    try:
        raw = decompressor.decompress(payload.data, max_length=payload.raw_size + 1)
    except zstd.ZstdError as error:
        raise CheckpointDecodeError(f"its payload is damaged: {error}") from error
    if len(raw) != payload.raw_size or hashlib.sha256(raw).hexdigest() != payload.raw_sha256:
        raise CheckpointDecodeError("its payload is not the one that its header describes")
    return raw
