"""The fold from a run's events to what the run amounts to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventckpt.chain import sealed
from eventckpt.events import CheckpointEvent, Payload, PendingRequest, RunInfo, Summary
from eventckpt.runs import advance, fold

QUESTION = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")


def event(seq: int, checkpoint_id: str, *, deletes: bool = False, summary: Summary | None = None) -> CheckpointEvent:
    """The header of an event of the run `r`."""
    payload = Payload(encoding="x", raw_size=10 * seq, raw_sha256="", stored_size=seq)
    return sealed(
        CheckpointEvent(
            type="tombstone" if deletes else "checkpoint",
            workflow_name="w",
            run_id="r",
            seq=seq,
            checkpoint_id=checkpoint_id,
            timestamp=f"t{seq}",
            recorded_at=f"r{seq}",
            summary=summary or Summary(),
            payload=None if deletes else payload,
            iteration_count=seq,
        )
    )


def folded(*events: CheckpointEvent) -> RunInfo:
    info = fold(events)
    assert info is not None
    return info


def test_no_events_are_no_run() -> None:
    assert fold([]) is None


def test_a_run_points_at_its_last_live_checkpoint() -> None:
    info = folded(event(1, "a"), event(2, "b"), event(3, "b", deletes=True))
    assert (info.checkpoint_id, info.checkpoint_seq, info.timestamp, info.raw_size) == ("a", 1, "t1", 10)
    assert (info.seq, info.checkpoints, info.tombstones, info.stored_size) == (3, 2, 1, 3)
    assert (info.started_at, info.recorded_at) == ("r1", "r3")


def test_a_superseded_checkpoint_counts_where_it_was_superseded() -> None:
    info = folded(event(1, "a"), event(2, "b"), event(3, "a"), event(4, "b", deletes=True))
    assert (info.checkpoint_id, info.checkpoint_seq) == ("a", 3)


def test_a_run_without_live_checkpoints_points_nowhere() -> None:
    info = folded(event(1, "a"), event(2, "a", deletes=True))
    assert (info.checkpoint_id, info.status, info.seq) == (None, "idle", 2)


@pytest.mark.parametrize(
    ("summary", "status"),
    [
        (Summary(), "idle"),
        (Summary(messages={"a": 0}), "idle"),
        (Summary(messages={"a": 2}), "running"),
        (Summary(messages={"a": 1}, pending_requests=(QUESTION,)), "running"),
        (Summary(pending_requests=(QUESTION,)), "waiting"),
    ],
)
def test_the_status_tells_whether_a_run_can_go_on(summary: Summary, status: str) -> None:
    assert folded(event(1, "a", summary=summary)).status == status


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12))
def test_advancing_event_by_event_gives_what_folding_all_of_them_gives(steps: list[tuple[str, bool]]) -> None:
    events = [event(seq, name, deletes=deletes) for seq, (name, deletes) in enumerate(steps, 1)]
    info: RunInfo | None = None
    for index, each in enumerate(events):
        info = advance(info, each) or fold(events[: index + 1])
    assert info == fold(events)


def test_an_event_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="does not follow seq 1"):
        advance(fold([event(1, "a")]), event(3, "b"))
