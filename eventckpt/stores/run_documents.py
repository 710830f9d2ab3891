"""What a document of the "latest" projection is worth: which ones count, where one differs from the log, and what one
of 0.1.0 left open.

Anyone who can write to a store can change what is in it, and the log can make every document anew: so one that does not
count is as if there were none, and is written over. And one that counts may lag, or lie: `difference` is the one rule
by which everything that compares documents with the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

import msgspec

from ..chain import is_newer
from ..events import MAX_SEQ, CheckpointEvent, RunInfo, StreamId
from ..log import logger_of
from ..lru import Lru
from ..removals import Removals
from ..runs import LiveBackwards, agree, fold, pointing
from ..text import described, safe
from .event_store import EventStore
from .names import can_be_projection

__all__ = ["FIRST_PROJECTION", "Disagreement", "LeftOut", "counting", "difference", "in_use", "told"]

logger: Final = logger_of("eventckpt")

FIRST_PROJECTION: Final = "latest"
"""The one in use until another one is activated."""

_MEMORY: Final = 10_000  # documents of which it was said that they are left out


def counting(decode: Callable[[], RunInfo], belongs: Callable[[StreamId], bool]) -> RunInfo | None:
    """The document that `decode` reads; None where it does not count: it is not whole, or of another run than its key.

    Args:
        decode: raises what its decoder does of bytes or fields that are no document.
        belongs: whether the key, under which it is kept, is that of this run.
    """
    try:
        info = decode()
    except (msgspec.DecodeError, RecursionError, TypeError, UnicodeError):
        return None
    return info if 1 <= info.seq <= MAX_SEQ and belongs(info.stream) else None


def in_use(name: object, pointer: str) -> str:
    """The projection in use by what a pointer says, which anybody may have written; the first one, where it is no name.

    Args:
        name: what it says.
        pointer: which one it is, for people.
    """
    if can_be_projection(name):
        return name
    logger.warning(
        "The pointer %s names no projection, but %s; %r is in use until one is activated.",
        pointer,
        described(name),
        FIRST_PROJECTION,
    )
    return FIRST_PROJECTION


class LeftOut:
    """Says of each document that does not count, once, that it is left out."""

    def __init__(self) -> None:
        self._said: Lru[tuple[str, str], bool] = Lru(_MEMORY)

    def say(self, projection: str, key: str) -> None:
        """Of the document that a projection keeps under the key of a run."""
        if not self._said.get((projection, key)):
            self._said.put((projection, key), True)
            logger.warning("The document %r of the run with key %s is damaged and left out.", projection, safe(key))


class Disagreement(NamedTuple):
    """What a document says otherwise than the log."""

    kind: Literal["missing", "unknown", "ahead", "newer", "behind", "late", "wrong"]
    """missing: the run has no document. unknown: the log has no such run. ahead: the document has read further than the
    log goes, whose newest events are gone. newer: a newer version wrote events that it counts, and this one cannot
    judge it. behind: it has not read as far as the log goes, and says nothing wrong up to there. late: the log has more
    of the events up to where it has read than it knows of. wrong: it differs from the log up to where it has read."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def difference(headers: Sequence[CheckpointEvent], document: RunInfo | None) -> Disagreement | None:
    """Where a run's document says something else than the log; None where they agree.

    The document is compared, field by field, with what the log amounted to when it had come as far as the document has
    read. A removal that was recorded later may have taken events that the document counted. Then its counts cannot be
    made again, and only what it says of its head and of its checkpoint is compared, where these are still there.

    Args:
        headers: all that the log has of the run, in order of seq, read after the document.
        document: that of the run; None if there is none.
    """
    if document is None:
        return Disagreement("missing", "") if headers else None
    if not headers:
        return Disagreement("unknown", "the log has no such run")
    seq, head = document.seq, headers[-1].seq
    if seq > head:
        return Disagreement("ahead", f"the projection is at seq {seq}, the log at {head}")
    known = [header for header in headers if header.seq <= seq]
    if any(map(is_newer, known)):
        why = "a newer version of eventckpt wrote events of this run, and this one cannot judge them"
        return Disagreement("newer", why)
    if not known and not Removals(headers).covers(seq):
        return Disagreement("wrong", "seq")
    then = None if _may_have_gone(headers, known, seq) else fold(known)
    wrong = _wrong(document, then or _still_told(known, document))
    if wrong and then is not None and _came_late(known, document, then):
        return Disagreement(
            "late", f"of the {seq} seqs up to {seq} it knows {document.seqs_known}, the log {then.seqs_known}"
        )
    if wrong:
        return Disagreement("wrong", ", ".join(wrong))
    return Disagreement("behind", f"the projection is at seq {seq}, the log at {head}") if seq < head else None


def _may_have_gone(headers: Sequence[CheckpointEvent], known: Sequence[CheckpointEvent], seq: int) -> bool:
    """Whether events up to `seq` are recorded as removed by what came later, or may be: a newer version wrote it."""
    later = headers[len(known) :]
    return any(map(is_newer, later)) or Removals(headers).count(seq) > Removals(known).count(seq)


def _came_late(known: Sequence[CheckpointEvent], document: RunInfo, then: RunInfo) -> bool:
    """Whether a document only lacks events that the log lacked, too, when it was written."""
    is_short = then.seq == document.seq and document.seqs_known < then.seqs_known
    return is_short and not _wrong(document, _still_told(known, document))


def _still_told(known: Sequence[CheckpointEvent], document: RunInfo) -> RunInfo:
    """A document with what its head and its checkpoint say, as far as the log has them."""
    by_seq = {header.seq: header for header in known}
    expected, head, latest = document, by_seq.get(document.seq), by_seq.get(document.checkpoint_seq)
    if head is not None:
        expected = msgspec.structs.replace(expected, digest=head.digest, actor=head.actor, recorded_at=head.recorded_at)
    if document.checkpoint_id is None:
        return pointing(expected, None)
    if latest is not None:
        return pointing(expected, latest if latest.type != "tombstone" else None)
    return expected if 0 < document.checkpoint_seq <= document.seq else pointing(expected, None)


def _wrong(document: RunInfo, expected: RunInfo) -> list[str]:
    """The fields of a document that are other ones; what 0.1.0 called `idle` is right for done and open."""
    if agree(document.status, expected.status):
        expected = msgspec.structs.replace(expected, status=document.status)
    if document == expected:
        return []
    return [name for name in RunInfo.__struct_fields__ if getattr(document, name) != getattr(expected, name)]


async def told(store: EventStore, info: RunInfo) -> RunInfo | None:
    """A document of 0.1.0 that says `idle`, with the status that the log has for it, as of the document's own seq.

    Only the newest live header is read, and what that says is told; unless a removal was recorded behind it, which
    0.1.0 did not heed: then the document is folded anew. None where the log does not have the event that the document
    ends with, or not any more, or where only a newer version understands what is read.
    """
    behind = info.seq - 1 if info.checkpoint_id is None else 0
    alive = LiveBackwards()
    is_its_own = False
    async with aclosing(store.headers(info.stream, gt=behind, lte=info.seq, desc=True)) as headers:
        async for header in headers:
            is_its_own = is_its_own or (header.seq, header.digest) == (info.seq, info.digest)
            if not is_its_own or is_newer(header):
                return None
            if header.pruned or header.annotation is not None:
                return await _folded_anew(store, info)
            if alive.is_live(header):
                return pointing(info, header)
    return pointing(info, None) if is_its_own else None


async def _folded_anew(store: EventStore, info: RunInfo) -> RunInfo | None:
    async with aclosing(store.headers(info.stream, lte=info.seq)) as listing:
        headers = [header async for header in listing]
    anew = None if any(map(is_newer, headers)) else fold(headers)
    return anew if anew is not None and (anew.seq, anew.digest) == (info.seq, info.digest) else None
