"""How raw checkpoint bytes become a stored payload, and back: whole as a snapshot, or as a delta against one.

A checkpoint is the whole state, and most of it is what the checkpoint before held. A delta is zstd's frame over the
raw bytes with the raw bytes of a snapshot of the same run as its prefix, so it costs what changed since that
snapshot. Deltas are always against a snapshot, never against each other: a load needs two events at most.
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

__all__ = ["DELTA", "SNAPSHOT", "Base", "encode", "restore"]

SNAPSHOT: Final = "msgpack+zstd"
"""`Payload.encoding` of data that is zstd over the raw MessagePack bytes."""
DELTA: Final = "msgpack+zstd-prefix"
"""`Payload.encoding` of data that is zstd over the raw bytes, with the raw bytes of a snapshot as prefix."""

_NEAR: Final = 256 * 1024  # bytes
_MIN_WINDOW_LOG: Final = 10  # the smallest that zstd accepts
_MIN_PREFIX: Final = 8  # bytes; likewise
_LEVEL: Final = 2  # of a delta: as small as by the default of 3, in three quarters of the time
_compressor = zstd.ZstdCompressor()
"""Shared: a whole frame is written by one call, which the compressor's own lock keeps apart from other threads'."""


class Base(NamedTuple):
    """A snapshot that deltas can be written against."""

    seq: int
    raw: bytes
    stored_size: int


def encode(raw: bytes, base: Base | None = None, *, since_base: int = 0) -> Payload:
    """The payload that holds `raw`: a delta against `base` where that pays, else a snapshot.

    The rule has no knob: once the deltas written against a snapshot would add up to its own stored size, the next
    event is a snapshot. What is stored is then at most twice what it would be with the best choice of snapshots.

    Args:
        raw: the encoded checkpoint.
        base: the snapshot that the run's last event rests on; None: write a snapshot.
        since_base: stored bytes of the deltas already written against `base` (`Payload.since_base`).
    """
    if base is not None and len(base.raw) >= _MIN_PREFIX:
        data = zstd.compress(raw, options=_parameters(base.raw, raw), zstd_dict=_prefix(base.raw))
        if since_base + len(data) < base.stored_size:
            return _payload(raw, DELTA, data, base_seq=base.seq, since_base=since_base + len(data))
    return _payload(raw, SNAPSHOT, _compressor.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME))


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


def _payload(raw: bytes, encoding: str, data: bytes, *, base_seq: int | None = None, since_base: int = 0) -> Payload:
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
