"""A timeline: which columns there are, what each stands for, and what is marked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventckpt import CheckpointEvent, StreamId
from eventckpt.chain import sealed
from eventckpt.events import (
    NO_SUMMARY,
    SCHEMA,
    Annotation,
    ForkPoint,
    Migration,
    PendingRequest,
    Pruned,
    Summary,
)
from eventckpt.testing.events import make_event
from eventckpt.web.picture import picture_of
from eventckpt.web.timeline import LANES, MARKS, Timeline

RUN = StreamId("orders", "order-1")
QUESTION = PendingRequest(request_id="q1", source_executor_id="clerk", request_type="app:Question")


def an_event(
    seq: int, *, summary: Summary = NO_SUMMARY, previous: str | None = None, **fields: object
) -> CheckpointEvent:
    made = make_event(RUN, seq, checkpoint_id=f"c{seq}", data=b"x" * seq)
    fields = {"summary": summary, "previous_checkpoint_id": previous or (f"c{seq - 1}" if seq > 1 else None), **fields}
    return sealed(msgspec.structs.replace(made, **fields))


def a_tombstone(seq: int, **fields: object) -> CheckpointEvent:
    made = make_event(RUN, seq, type="tombstone")
    return msgspec.structs.replace(made, **{"checkpoint_id": "", "summary": Summary(), **fields})


def timeline_of(*events: CheckpointEvent, most: int = 100) -> Timeline:
    timeline = Timeline(most)
    for event in events:
        timeline.add(event)
    timeline.mark_gaps()
    return timeline


STRETCH = Pruned(first=1, last=1, previous_digest="", digest="")
ORIGIN = ForkPoint(workflow_name="orders", run_id="other", seq=3, checkpoint_id="c")
EACH_MARK: dict[str, list[CheckpointEvent]] = {
    "missing": [an_event(2)],
    "gone": [an_event(2), a_tombstone(3, pruned=(STRETCH,))],
    "damaged": [
        CheckpointEvent.unreadable(
            kind="checkpoint", workflow_name="w", run_id="r", seq=1, checkpoint_id="c", digest=""
        )
    ],
    "newer": [an_event(1, schema=SCHEMA + 1)],
    "failure": [a_tombstone(1, annotation=Annotation(outcome="failed"))],
    "cancelled": [a_tombstone(1, annotation=Annotation(outcome="cancelled"))],
    "done": [a_tombstone(1, annotation=Annotation(outcome="done"))],
    "question": [an_event(1, summary=Summary(pending_requests=(QUESTION,)))],
    "answer": [an_event(1, summary=Summary(answered_requests=("q1",)))],
    "fork": [an_event(1, forked_from=ORIGIN)],
    "branch": [an_event(1), an_event(2), an_event(3, previous="c1")],
    "migration": [an_event(1, migration=Migration(name="m", graph_before=""))],
    "hold": [a_tombstone(1, annotation=Annotation(hold=True))],
    "release": [a_tombstone(1, annotation=Annotation(hold=True)), a_tombstone(2, annotation=Annotation())],
    "tags": [a_tombstone(1, annotation=Annotation(tags={"a": "b"}))],
    "claim": [a_tombstone(1, claim=1)],
    "deletion": [a_tombstone(1, checkpoint_id="c1")],
    "removal": [an_event(1), a_tombstone(2, pruned=(STRETCH,))],
    "closing": [an_event(1), a_tombstone(2, pruned=(STRETCH,), closes=True)],
}


@pytest.mark.parametrize("mark", MARKS)
def test_each_mark_stands_where_it_happened_and_is_said(mark: str) -> None:
    timeline = timeline_of(*EACH_MARK[mark])
    assert [column.marks[mark] for column in timeline.columns].count(1) == 1
    picture = picture_of(timeline, lambda _: None)
    [bar] = [bar for bar in picture.bars if bar.column.marks[mark]]
    assert f"1 {MARKS[mark].one}" in bar.text
    assert mark in [name for _, name, _ in bar.signs]
    assert [name for name, *_, count in picture.legend if count] == [name for name, *_ in picture.legend]


def test_a_question_is_marked_where_it_was_asked_and_its_executor_waits_until_it_is_answered() -> None:
    waits = Summary(pending_requests=(QUESTION,), messages={"other": 1})
    answered = Summary(answered_requests=("q1",))
    timeline = timeline_of(
        an_event(1, summary=waits),
        an_event(2, summary=waits),
        an_event(3, summary=answered),
        an_event(4, summary=answered),
    )
    assert [column.marks["question"] for column in timeline.columns] == [1, 0, 0, 0]
    assert [column.marks["answer"] for column in timeline.columns] == [0, 0, 1, 0]
    asks, sends = timeline.lanes.index("clerk"), timeline.lanes.index("other")
    assert [asks in column.asks for column in timeline.columns] == [True, True, False, False]
    assert [sends in column.sends for column in timeline.columns] == [True, True, False, False]


def test_a_column_tells_when_it_was_who_did_what_and_why_the_run_ended() -> None:
    times = [f"2026-05-01T10:00:{second}+00:00" for second in ("00", "00.250", "59.250")]
    busy = Summary(messages={f"executor {n}": 1 for n in range(5)}, pending_requests=(QUESTION,))
    timeline = timeline_of(
        an_event(1, summary=busy, recorded_at=times[0]),
        an_event(2, recorded_at=times[1]),
        a_tombstone(3, annotation=Annotation(outcome="failed", reason="in clerk: no\x1b money"), recorded_at=times[2]),
    )
    first, second, third = (bar.text for bar in picture_of(timeline, lambda _: None).bars)
    assert "executor 2 sent messages, 2 more sent messages, clerk waits for an answer" in first
    assert "after the" not in first
    assert "0.25 s after the first event, 0.25 s after the one before" in second
    assert "59.25 s after the first event, 59 s after the one before" in third
    assert "because: in clerk: no\\x1b money" in third


@pytest.mark.parametrize("name", ["a", "clerk", "W" * 24, "W" * 80])
def test_there_is_room_for_the_names_of_the_lanes(name: str) -> None:
    picture = picture_of(timeline_of(an_event(1, summary=Summary(messages={name: 1}))), lambda _: None)
    [(_, shown)] = picture.lanes
    assert 7 * len(shown) < picture.left - 6 <= picture.bars[0].x


@given(st.integers(0, 300), st.integers(2, 40))
def test_columns_are_bounded_and_stand_for_each_event_once(events: int, most: int) -> None:
    timeline = timeline_of(*(an_event(seq) for seq in range(1, events + 1)), most=most)
    columns = timeline.columns
    assert len(columns) <= most
    assert [seq for column in columns for seq in range(column.first, column.last + 1)] == list(range(1, events + 1))
    assert [column.events for column in columns[:-1]] == [timeline.each] * (len(columns) - 1 if columns else 0)
    assert sum(column.stored for column in columns) == sum(range(1, events + 1))
    assert sum(column.raw for column in columns) == 3 * sum(range(1, events + 1))


def test_very_many_executors_have_one_lane_for_the_rest() -> None:
    timeline = timeline_of(*(an_event(seq, summary=Summary(messages={f"e{seq}": 1})) for seq in range(1, 60)))
    assert timeline.lanes == [*(f"e{seq}" for seq in range(1, LANES + 1)), "others"]
    assert len(picture_of(timeline, lambda _: None).lanes) == LANES + 1


@given(st.sets(st.integers(1, 2**63 - 1), min_size=1, max_size=60))
def test_a_picture_of_any_seqs_is_small(seqs: set[int]) -> None:
    timeline = timeline_of(*map(a_tombstone, sorted(seqs)), most=10)
    picture = picture_of(timeline, lambda _: None)
    assert (len(picture.bars) <= 10, picture.width < 1_200, picture.height < 500) == (True, True, True)
    assert sum(column.marks["missing"] for column in timeline.columns) == len([*timeline.gaps()])
