"""Damage that shows in the headers of a run, for who removes it: what is damaged is left as it is.

It is what `verify` finds without reading what events hold: links between events that are not those they were written
with, seqs that are gone or there twice, and records that do not fit what is around them. That an event with a payload
is another one than was written, only its payload tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..chain import is_newer, is_whole
from ..events import MAX_SEQ, CheckpointEvent
from ..moments import moment_of
from ..removals import Removals

__all__ = ["broken_in", "damage_in"]


def damage_in(headers: Sequence[CheckpointEvent]) -> str:
    """Why nothing may be removed from a run, or from a session, whoever asks for it; empty: it may.

    Args:
        headers: all of the run, in order of seq; at least one.
    """
    if headers[-1].seq >= MAX_SEQ:
        return "no event can follow its last one; see verify"
    if any(is_newer(header) for header in headers):
        return "a newer version of eventckpt wrote in it, and knows what its events need: do it with that"
    if any(moment_of(header.recorded_at) is None for header in headers):
        return "a header is damaged; see verify"
    return ""


def broken_in(headers: Sequence[CheckpointEvent]) -> str:
    """Why a run, or a session, does not go of which `damage_in` tells nothing; empty: it may.

    Args:
        headers: all of the run, in order of seq; at least one.
    """
    wrong = next(_broken(headers), "")
    return f"it is damaged: {wrong}; see verify" if wrong else ""


def _broken(headers: Sequence[CheckpointEvent]) -> Iterator[str]:
    """What is wrong with each event beside the one before it."""
    removals = Removals(header for header in headers if header.pruned)
    if (first := headers[0]).seq > 1 and not removals.covers(1, first.seq - 1):
        yield f"what was before seq {first.seq} is gone, and no removal of it was recorded"
    if first.seq == 1 and first.previous_digest and (first.forked_from is None or first.forked_from.seq == 0):
        yield "seq 1 follows another event, though it begins the run"
    for header in headers:
        if header.payload is None and not is_whole(header):
            yield f"seq {header.seq} is not the event that was written"
    for before, header in pairwise(headers):
        if header.stream != before.stream or header.seq <= before.seq:
            yield f"seq {header.seq} stands behind seq {before.seq}"
        elif header.seq == before.seq + 1:
            if header.previous_digest != before.digest:
                yield f"seq {header.seq} does not follow the event at seq {before.seq}"
        elif not removals.covers(before.seq + 1, header.seq - 1):
            yield f"what was between seqs {before.seq} and {header.seq} is gone, and no removal of it was recorded"
        elif not _closes_over(removals, before, header):
            yield f"what was removed between seqs {before.seq} and {header.seq} does not fit what is there"


def _closes_over(removals: Removals, before: CheckpointEvent, after: CheckpointEvent) -> bool:
    """Whether the chain goes on from one side of what was removed to the other, as its records have it."""
    begins, ends = removals.from_first.get(before.seq + 1), removals.to_last.get(after.seq - 1)
    return (begins is None or begins.previous_digest == before.digest) and (
        ends is None or ends.digest == after.previous_digest
    )
