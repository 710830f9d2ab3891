"""What the records of a run say was removed from it."""

from __future__ import annotations

import msgspec

from eventckpt import CheckpointEvent, StreamId
from eventckpt.chain import sealed
from eventckpt.events import Pruned
from eventckpt.removals import Removals
from eventckpt.stores.conformance import make_event

STREAM = StreamId("workflow", "run")


def chain(count: int) -> list[CheckpointEvent]:
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        events.append(make_event(STREAM, seq, previous=events[-1] if events else None))
    return events


def record(seq: int, *stretches: tuple[int, int], of: list[CheckpointEvent] | None = None) -> CheckpointEvent:
    """A record at `seq`, of these stretches of the events `of`."""
    pruned = tuple(
        Pruned(
            first=first,
            last=last,
            previous_digest=of[first - 1].previous_digest if of else "",
            digest=of[last - 1].digest if of else "",
        )
        for first, last in stretches
    )
    made = make_event(STREAM, seq, type="tombstone")
    return sealed(msgspec.structs.replace(made, checkpoint_id="", pruned=pruned))


def test_stretches_are_in_order_and_neighbours_are_one() -> None:
    removals = Removals([record(20, (7, 8), (1, 3)), record(21, (4, 5), (8, 11))])
    assert removals.stretches(30) == [(1, 5), (7, 11)]
    assert removals.stretches(8) == [(1, 5), (7, 8)]
    assert removals.stretches(6) == [(1, 5)]
    assert removals.stretches(0) == Removals().stretches(30) == []


def test_whatever_a_record_claims_there_is_nothing_before_the_first_seq_or_after_the_head() -> None:
    removals = Removals([record(2**62, (-(2**62), 2**62))])
    assert removals.stretches(5) == [(1, 5)]
    assert removals.count(5) == 5


def test_whether_an_event_is_the_one_that_was_removed_is_told_at_the_ends_of_a_stretch() -> None:
    events = chain(6)
    removals = Removals([record(7, (2, 4), of=events)])
    other = [make_event(STREAM, seq, data=b"other") for seq in range(1, 7)]
    assert [removals.tells(event) for event in events] == [None, None, None, True, None, None]
    assert [removals.tells(event) for event in other] == [None, False, None, False, None, None]
