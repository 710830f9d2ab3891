"""The hash chain: each event's digest covers everything in it and the digest of the event before.

Whoever changes, removes or reorders a stored event breaks every digest after it. The digest is taken over the
header's fields sorted by name, without those that have their default value, so that a field added by a later
version leaves the digests of older events as they are.
"""

from __future__ import annotations

import hashlib

import msgspec

from .events import NO_SUMMARY, SCHEMA, CheckpointEvent

__all__ = ["digest_of", "flaw_of", "is_newer", "is_whole", "sealed"]

_canonical = msgspec.msgpack.Encoder(order="sorted")


def digest_of(event: CheckpointEvent, data_digest: bytes | None = None) -> str:
    """The digest that `event`, given whole, must carry.

    `sha256(MessagePack([previous_digest, header, sha256(stored payload)]))`, hexadecimal. The header is every
    field of the event but `digest` and the payload's `data` and `parts`: in how many items an engine keeps the
    data is not part of what happened, and an export to another engine keeps its digests.

    Args:
        event: whole.
        data_digest: the SHA-256 of the payload's data, where it was taken already.
    """
    if data_digest is None:
        data_digest = hashlib.sha256(event.payload.data if event.payload else b"").digest()
    payload = msgspec.structs.replace(event.payload, data=b"", parts=()) if event.payload else None
    # msgspec knows a default by its identity; an equal summary must give the same digest.
    summary = NO_SUMMARY if event.summary == NO_SUMMARY else event.summary
    header = msgspec.structs.replace(event, digest="", summary=summary, payload=payload)
    return hashlib.sha256(_canonical.encode([event.previous_digest, header, data_digest])).hexdigest()


def sealed(event: CheckpointEvent, data_digest: bytes | None = None) -> CheckpointEvent:
    """`event` with its digest filled in; see `digest_of`."""
    return msgspec.structs.replace(event, digest=digest_of(event, data_digest))


def is_newer(event: CheckpointEvent) -> bool:
    """Whether a later version wrote `event`: this one knows not all that its digest covers, and cannot judge it."""
    return event.schema > SCHEMA


def is_whole(event: CheckpointEvent) -> bool:
    """Whether `event`, given whole, carries the digest of what it holds. An int beyond the format's 64 bits, which only
    JSON can bring, has none."""
    try:
        return digest_of(event) == event.digest
    except OverflowError:
        return False


def flaw_of(event: CheckpointEvent) -> str:
    """What is wrong with `event`, given whole, by itself, as the rest of a sentence; empty where it is as written.

    An event of a later schema comes first: this version does not know all of its fields, so its digest tells nothing.
    """
    if is_newer(event):
        return (
            f"it was written by a newer version of eventckpt (its schema is {event.schema}, this one knows up to "
            f"{SCHEMA}): upgrade eventckpt to read it"
        )
    if event.payload is None and event.type != "tombstone":
        return "its header is damaged"
    if not is_whole(event):
        return "it was changed after it was written: its digest does not match"
    return ""
