"""Copies of events, put as they are: what was removed stays removed, and a gap that they have is closed to appends."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial

from ...errors import StreamConflict
from ...events import CheckpointEvent, StreamId
from ...removals import NOTHING, Removals
from ...threads import off_the_loop
from .. import gaps_behind
from .container import Container
from .items import (
    EVENTS_ONLY,
    HEADER,
    KIND,
    as_text,
    gap_of,
    header_of,
    is_event,
    is_marker,
    item_id,
    items_of,
    partition_key_of,
)
from .lookups import head_known, head_of, last_event, seq_in
from .query import together

__all__ = ["put", "put_over"]


async def put(container: Container, stream: StreamId, events: Sequence[CheckpointEvent]) -> int:
    """See `AuditStore.put`. One event after the other, each an operation: what came before a conflict is kept."""
    if not events:
        return 0
    async with container.in_use():
        removals = await _removals_before(container, stream, min(event.seq for event in events))
    added = 0
    for event in events:
        async with container.in_use():
            added += await _is_put(container, event, removals)
    return added


async def put_over(container: Container, stream: StreamId, events: Sequence[CheckpointEvent], *, after: int) -> int:
    """See `AuditStore.put_over`. A marker at the first seq of each gap closes it: who goes on from the event before
    meets it. It is put before what lies behind the gap; if the process dies in between, such a writer forks, until
    the copies are put again."""
    gaps = {high + 1: low for low, high in gaps_behind(after, events)}
    key = partition_key_of(stream)
    added = 0
    for block in _blocks(events, gaps):
        if (low := gaps.get(block[0].seq)) is not None:
            await _close(container, stream, key, low, block[0].seq)
        added += await put(container, stream, block)
    return added


async def _is_put(container: Container, event: CheckpointEvent, removals: Removals) -> bool:
    """Create the item of a copy, unless it is there or was removed; whether it was created."""
    body, parts = await off_the_loop(len(event.payload.data) if event.payload else 0, items_of, event)
    if removals.covers(event.seq):
        taken = await container.read(body["id"], body["stream"])
        if taken is None and removals.tells(event) is False:
            head = await head_of(container, body["stream"])
            raise StreamConflict(event.stream, event.seq, header_of(head) if head else None)
    else:
        await together(*(partial(container.upsert, part) for part in parts))
        taken = await container.create(body)
        if taken is None:
            return True
    if taken is not None:
        digest = header_of(taken).digest
        if is_marker(taken) and taken.get("gap") is True and not removals.covers(event.seq):
            return await container.replace(as_text(body), str(taken["_etag"])) is not None
        if digest != event.digest and (digest or is_event(taken)):
            raise StreamConflict(event.stream, event.seq, await head_known(container, taken))
    return False


async def _close(container: Container, stream: StreamId, key: str, low: int, before: int) -> None:
    """Close the gap between two seqs to appends.

    Raises:
        StreamConflict: there is an event in it.
    """
    async with container.in_use():
        await container.create_only(gap_of(key, low + 1))  # before the look: nobody comes after it
        found = await container.query(
            f"SELECT TOP 1 c.id, c.stream, {KIND} FROM c"
            f" WHERE c.id > @low AND c.id < @before AND {EVENTS_ONLY} ORDER BY c.id ASC",
            {"@low": item_id(low), "@before": item_id(before)},
            key,
        ).rows()
        if found:
            head = await head_of(container, key)
            raise StreamConflict(stream, seq_in(found[0]), header_of(head) if head else None)


async def _removals_before(container: Container, stream: StreamId, seq: int) -> Removals:
    """What the newest record of a run says was removed; nothing where no seq from `seq` on can be among it."""
    key = partition_key_of(stream)
    if seq_in(await head_of(container, key)) <= seq:
        return NOTHING
    record = await last_event(container, HEADER, "c.checkpoint_id = '' AND IS_DEFINED(c.pruned) AND ", {}, key)
    return NOTHING if record is None else Removals([header_of(record)])


def _blocks(
    events: Sequence[CheckpointEvent], gaps: Mapping[int, int]
) -> Generator[Sequence[CheckpointEvent], None, None]:
    """The events in pieces, each of which begins with one that has a gap before it, but perhaps for the first."""
    starts = [0, *(at for at, event in enumerate(events) if at and event.seq in gaps)]
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        if start < end:
            yield events[start:end]
