"""What stays of a removed event: a marker under its id, so that its seq is never free again.

An append is one create, which compares with what lies under its own id and with nothing else. A writer whose view of
the run is older than a removal would find an id without an item free, and what it saved there would lie behind the
record of the removal, or between the events of another lineage. So nothing is deleted: the marker takes the event's
place, under the condition that nobody wrote the item since it was looked at. Whoever does the same at the same time
finds the condition broken, and the marker there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from ...removals import Removals
from .container import Container
from .items import KIND, Item, is_event, is_marker, item_id, marker_of, seq_of
from .query import together

__all__ = ["put_in_place", "unmarked"]

_IDS: Final = 500  # ids in one query; the service bounds its text
_RANGES: Final = 50  # stretches in one query, likewise
_SORTED: Final = 10**12 - 1  # up to there ids sort as their seqs do
_MOST: Final = 1_000
"""Seqs that `unmarked` gives at once: a record may claim any number of them."""


async def put_in_place(container: Container, key: str, seqs: Sequence[int]) -> int:
    """Put markers in the place of these events of a partition, and where a removal left nothing; how many events were
    there. Their parts are left to `remove_orphaned_parts`.

    Args:
        container: in use.
        key: the partition key of the run.
        seqs: all of them below the run's head.
    """
    removed = 0
    for start in range(0, len(seqs), _IDS):
        some = seqs[start : start + _IDS]
        marks = {f"@id{index}": item_id(seq) for index, seq in enumerate(some)}
        rows = await container.query(
            f"SELECT c.id, c.stream, {KIND}, c._etag, LEFT(c.digest, 65) AS digest"
            f" FROM c WHERE c.id IN ({', '.join(marks)})",
            marks,
            key,
        ).rows()
        by_seq = {seq_of(row.get("id")): row for row in rows}
        steps = [
            partial(_mark, container, key, seq, row)
            for seq in some
            if (row := by_seq.get(seq)) is None or not is_marker(row)
        ]
        removed += sum(await together(*steps))
    return removed


async def _mark(container: Container, key: str, seq: int, row: Item | None) -> bool:
    """Put a marker where `row` was found, or nothing was; whether an event was there."""
    if row is not None and is_event(row):
        marker = marker_of(key, seq, row.get("digest"))
        if await container.replace(marker, str(row["_etag"])) is not None:
            return True
    # Nothing is there, or somebody else has removed it meanwhile: 0.1.0 would leave nothing.
    await container.create_only(marker_of(key, seq))
    return False


async def unmarked(container: Container, key: str, removals: Removals, head_seq: int) -> list[int]:
    """See `AuditStore.unmarked`. Looks at the ids in the stretches alone, which are those of markers for the most part.

    Args:
        container: in use.
        key: the partition key of the run.
        removals: what its records say.
        head_seq: seqs from there on are not looked at.
    """
    found: list[int] = []
    stretches = removals.stretches(min(head_seq - 1, _SORTED))
    for start in range(0, len(stretches), _RANGES):
        some = stretches[start : start + _RANGES]
        there = await _seqs_in(container, key, some)
        for first, last in some:
            seq = first
            while seq <= last and len(found) < _MOST:
                if seq not in there:
                    found.append(seq)
                seq += 1
        if len(found) == _MOST:
            break
    return found


async def _seqs_in(container: Container, key: str, stretches: Sequence[tuple[int, int]]) -> set[int]:
    """The seqs in these stretches under which something lies."""
    values: dict[str, object] = {}
    bounds: list[str] = []
    for index, (first, last) in enumerate(stretches):
        values |= {f"@first{index}": item_id(first), f"@last{index}": item_id(last)}
        bounds.append(f"(c.id >= @first{index} AND c.id <= @last{index})")
    rows = await container.query(f"SELECT c.id FROM c WHERE {' OR '.join(bounds)}", values, key).rows()
    return {seq for row in rows if (seq := seq_of(row.get("id"))) is not None}
