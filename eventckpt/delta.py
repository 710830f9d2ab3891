"""How raw checkpoint bytes become a stored payload, and back: whole as a snapshot, or as a delta.

A checkpoint is the whole state, and most of it is what the checkpoint before held. A delta is zstd's frame over the
raw bytes with the raw bytes of another event of the same run as its prefix, its base, so it costs what changed since
that one. A base is a snapshot, or a delta against a snapshot: a load needs three events at most.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Final, NamedTuple

from .errors import CheckpointDecodeError
from .events import Payload

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["DELTA", "MAX_BASES", "SNAPSHOT", "Base", "against", "encode", "restore"]

SNAPSHOT: Final = "msgpack+zstd"
"""`Payload.encoding` of data that is zstd over the raw MessagePack bytes."""
DELTA: Final = "msgpack+zstd-prefix"
"""`Payload.encoding` of data that is zstd over the raw bytes, with the raw bytes of its base as prefix."""

MAX_BASES: Final = 2
"""Events that a delta may need: a load reads these and its own."""

_NEAR: Final = 256 * 1024  # bytes
_MIN_WINDOW_LOG: Final = 10  # the smallest that zstd accepts
_MIN_PREFIX: Final = 8  # bytes; likewise
_FRAME: Final = 64  # bytes, around what is compressed
_LEVEL: Final = 2  # of a delta: as small as by the default of 3, in three quarters of the time
_compressor = zstd.ZstdCompressor()
"""Shared: a whole frame is written by one call, which the compressor's own lock keeps apart from other threads'."""


class Base(NamedTuple):
    """What deltas can be written against: a snapshot, or a delta against one."""

    seq: int
    raw: bytes
    stored_size: int
    since_base: int = 0
    """Of a delta: `Payload.since_base`."""
    below: int | None = None
    """Of a delta: the seq of its snapshot."""

    @property
    def seqs(self) -> tuple[int, ...]:
        """What a delta against it needs: see `Payload.bases`."""
        return (self.seq,) if self.below is None else (self.seq, self.below)


def encode(raw: bytes, base: Base | None = None, *, since_base: int = 0) -> Payload:
    """The payload that holds `raw`: a delta against `base` where that pays, else a snapshot.

    Args:
        raw: the encoded checkpoint.
        base: what it may be a delta against; None: write a snapshot.
        since_base: stored bytes of the deltas already written against `base` (`Payload.since_base`).
    """
    payload = against(raw, base, since_base=since_base) if base is not None else None
    return payload or _payload(raw, SNAPSHOT, _compressor.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME))


def against(raw: bytes, base: Base, *, since_base: int) -> Payload | None:
    """The payload that holds `raw` as a delta against `base`; None where that does not pay.

    The rule has no knob: it pays until the deltas written against a base add up to the base's own stored size. Then
    what was saved by them is what a new base costs.

    Args:
        raw: the encoded checkpoint.
        base: the event that it is to rest on.
        since_base: stored bytes of the deltas already written against `base` (`Payload.since_base`).
    """
    if len(base.raw) < _MIN_PREFIX:
        return None
    data = zstd.compress(raw, options=_parameters(base.raw, raw), zstd_dict=_prefix(base.raw))
    # No frame is much larger than its raw bytes, whatever a header says.
    if not 0 <= since_base <= since_base + len(data) < min(base.stored_size, 2 * len(base.raw) + _FRAME):
        return None
    base_seq = base.seq if base.below is None else (base.seq, base.below)
    return _payload(raw, DELTA, data, base_seq=base_seq, since_base=since_base + len(data))


def restore(payload: Payload, *, base: bytes | None = None, max_size: int) -> bytes:
    """The raw bytes that `payload` holds.

    Decompression stops at the size that the payload declares, and never exceeds `max_size` bytes: data from the
    store may be hostile.

    Args:
        payload: whole, with its data.
        base: for a delta, the raw bytes of its base.

    Raises:
        CheckpointDecodeError: the payload is not what its header says, or of an encoding of a later version.
    """
    if payload.encoding not in (SNAPSHOT, DELTA) or (payload.encoding == DELTA) != (base is not None):
        raise CheckpointDecodeError(
            f"its payload is encoded as {payload.encoding[:80]!r}, which this version of eventckpt does not read"
        )
    if base is not None and len(base) < _MIN_PREFIX:
        raise CheckpointDecodeError("its base is too short to be one")
    if not 0 <= payload.raw_size <= max_size:
        raise CheckpointDecodeError(f"its payload declares {payload.raw_size:,} bytes; the limit is {max_size:,}")
    if base is None:
        decompressor = zstd.ZstdDecompressor()
    else:
        limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _window_log(len(base) + payload.raw_size)}
        decompressor = zstd.ZstdDecompressor(zstd_dict=_prefix(base), options=limit)
    try:
        raw = decompressor.decompress(payload.data, max_length=payload.raw_size + 1)
    except zstd.ZstdError as error:
        raise CheckpointDecodeError(f"its payload is damaged: {error}") from error
    if len(raw) != payload.raw_size or hashlib.sha256(raw).hexdigest() != payload.raw_sha256:
        raise CheckpointDecodeError("its payload is not the one that its header describes")
    return raw


def _payload(
    raw: bytes, encoding: str, data: bytes, *, base_seq: int | tuple[int, int] | None = None, since_base: int = 0
) -> Payload:
    return Payload(
        encoding=encoding,
        base_seq=base_seq,
        since_base=since_base,
        raw_size=len(raw),
        raw_sha256=hashlib.sha256(raw).hexdigest(),
        stored_size=len(data),
        data=data,
    )


def _parameters(base: bytes, raw: bytes) -> dict[int, int]:
    """A window that covers both, and long-distance matching where zstd's ordinary tables would not reach that far."""
    size = len(base) + len(raw)
    return {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.enable_long_distance_matching: int(size > _NEAR),
        zstd.CompressionParameter.window_log: _window_log(size),
    }


def _prefix(base: bytes) -> tuple[zstd.ZstdDict, int]:
    return zstd.ZstdDict(base, is_raw=True).as_prefix


def _window_log(size: int) -> int:
    """The smallest window that covers `size` bytes, as a power of two."""
    return max(_MIN_WINDOW_LOG, size.bit_length())
