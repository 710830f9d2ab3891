"""The fold from a run's events to what the run amounts to."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventckpt.chain import sealed
from eventckpt.event_keys import EventKey, EventKeys
from eventckpt.events import Annotation, CheckpointEvent, PendingRequest, Pruned, RunInfo, RunStatus, Summary
from eventckpt.removals import Removals
from eventckpt.runs import AllLive, Folding, LiveBackwards, advance, agree, counted, fold, live, pointing, status

from .run_logs import STEPS, Log, Step
from .run_logs import header as event

QUESTION = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")
ENDED = Summary(executor_ids=("a", "b"))
"""Of a graph workflow with nothing left to do."""


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


def test_a_run_without_live_checkpoints_points_nowhere_and_is_open() -> None:
    info = folded(event(1, "a", summary=ENDED), event(2, "a", deletes=True))
    assert (info.checkpoint_id, info.status, info.seq) == (None, "open", 2)


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (Summary(), "open"),
        (Summary(messages={"a": 0}), "open"),
        (Summary(executor_ids=("a",)), "done"),
        (Summary(executor_ids=("a",), messages={"a": 0}), "done"),
        (Summary(executor_ids=("a",), messages={"a": 2}), "running"),
        (Summary(executor_ids=("a",), pending_requests=(QUESTION,)), "waiting"),
        (Summary(messages={"a": 2}), "running"),
        (Summary(messages={"a": 1}, pending_requests=(QUESTION,)), "running"),
        (Summary(pending_requests=(QUESTION,)), "waiting"),
    ],
)
def test_the_status_tells_whether_a_run_can_go_on(summary: Summary, said: str) -> None:
    header = event(1, "a", summary=summary)
    assert status(header) == status(summary) == folded(header).status == said


def test_a_run_that_is_running_keeps_its_questions() -> None:
    info = folded(event(1, "a", summary=Summary(messages={"a": 1}, pending_requests=(QUESTION,))))
    assert (info.status, info.pending_requests) == ("running", (QUESTION,))


def test_what_0_1_0_called_idle_is_done_or_open() -> None:
    others = [other for other in get_args(RunStatus) if other != "idle"]
    assert [other for other in others if agree("idle", other)] == ["done", "open"]
    assert [other for other in others if agree(other, "idle")] == ["done", "open"]
    assert all(agree(one, other) == (one == other) for one in others for other in others)


def test_a_document_states_its_status_whatever_it_is() -> None:
    """0.1.0 left it out where it was `idle`, so that is what its absence says."""
    for summary in (Summary(), ENDED, Summary(messages={"a": 1}), Summary(pending_requests=(QUESTION,))):
        info = folded(event(1, "a", summary=summary))
        assert msgspec.to_builtins(info)["status"] == info.status
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=RunInfo) == info
    assert msgspec.to_builtins(folded(event(1, "a"), event(2, "a", deletes=True)))["status"] == "open"


@given(STEPS)
def test_advancing_event_by_event_gives_what_folding_all_of_them_gives(steps: list[Step]) -> None:
    log, folding = Log(), Folding()
    info: RunInfo | None = None
    for step in steps:
        each = log.add(step)
        advanced, folded = advance(info, each), fold(log.events)
        assert advanced in (None, folded)
        assert folding.add(each) == folded
        info = folded


@given(STEPS, st.data())
def test_advancing_by_several_events_gives_what_folding_all_of_them_gives(
    steps: list[Step], data: st.DataObject
) -> None:
    log = Log()
    for step in steps:
        log.add(step)
    known = data.draw(st.integers(0, len(steps) - 1))
    assert advance(fold(log.events[:known]), *log.events[known:]) in (None, fold(log.events))


@given(STEPS)
def test_the_log_is_folded_again_only_where_the_latest_checkpoint_was_deleted_or_a_removal_recorded(
    steps: list[Step],
) -> None:
    log = Log()
    info: RunInfo | None = None
    for step in steps:
        each = log.add(step)
        is_needed = each.is_removal or (info is not None and each.type == "tombstone" and is_of_the_latest(each, info))
        assert (advance(info, each) is None) == is_needed
        info = fold(log.events)


def is_of_the_latest(deletion: CheckpointEvent, info: RunInfo) -> bool:
    return deletion.checkpoint_id == info.checkpoint_id


@given(STEPS)
def test_the_newest_event_without_a_checkpoint_tells_tags_hold_and_every_removal(steps: list[Step]) -> None:
    """What a save, a claim and a prune look for, in one request; of 0.1.0's records it cannot be told."""
    log = Log()
    for step in steps:
        if step[0] == "remove":
            step = ("remove", (*step[1][:2], True))
        log.add(step)
    info = fold(log.events)
    told = next((each for each in reversed(log.events) if not each.checkpoint_id), None)
    assert info is not None
    said = told.annotation if told is not None else None
    assert (info.tags, info.hold) == ((said.tags, said.hold) if said is not None else ({}, False))
    assert Removals([told] if told is not None else []).count(info.seq) == info.removed


@given(STEPS)
def test_a_run_failed_or_was_cancelled_only_where_somebody_said_so_after_its_last_checkpoint(steps: list[Step]) -> None:
    log = Log()
    for step in steps:
        log.add(step)
    info, said = fold(log.events), None
    for each in counted(log.events):
        if each.type == "checkpoint":
            said = None
        elif each.annotation is not None and (each.annotation.outcome or each.is_removal):
            said = each.annotation.outcome  # what records a removal repeats all that is in force
    assert info is not None
    assert info.outcome == said
    assert (info.status in ("failed", "cancelled")) == (said in ("failed", "cancelled"))
    assert said is None or info.status == said


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12))
def test_what_is_live_is_the_same_from_the_first_event_on_and_from_the_last_one_back(
    steps: list[tuple[str, bool]],
) -> None:
    events = [event(seq, name, deletes=deletes) for seq, (name, deletes) in enumerate(steps, 1)]
    walk = LiveBackwards()
    backwards = [each for each in reversed(events) if walk.is_live(each)]
    assert backwards[::-1] == list(live(events).values())


def test_what_is_live_in_one_run_says_nothing_of_another() -> None:
    walk = LiveBackwards()
    deletion, elsewhere = event(2, "a", deletes=True), msgspec.structs.replace(event(1, "a"), run_id="other")
    assert [walk.is_live(each) for each in (deletion, elsewhere, event(1, "a"))] == [False, True, False]


@pytest.mark.parametrize("summary", [ENDED, Summary()])
def test_a_document_that_says_idle_is_no_ground_to_go_on_from_unless_a_checkpoint_follows(summary: Summary) -> None:
    events = [event(1, "a", summary=summary), event(2, "b", summary=summary), event(3, "a", deletes=True)]
    idle = msgspec.structs.replace(folded(*events[:2]), status="idle")
    assert advance(idle, events[2]) is None
    assert advance(idle, events[2], event(4, "c", summary=summary)) == folded(*events, event(4, "c", summary=summary))


def test_a_document_can_be_pointed_at_another_checkpoint() -> None:
    first, second = event(1, "a"), event(2, "b", summary=ENDED)
    assert pointing(msgspec.structs.replace(folded(first, second), status="idle"), second) == folded(first, second)
    assert pointing(folded(first, second), None).checkpoint_id is None


def test_an_event_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="does not follow seq 1"):
        advance(fold([event(1, "a")]), event(3, "b"))


def record(seq: int, first: int, last: int) -> CheckpointEvent:
    """An event that records a removal from the run `r`."""
    stretch = Pruned(first=first, last=last, previous_digest="", digest="")
    return sealed(msgspec.structs.replace(event(seq, "", deletes=True), pruned=(stretch,)))


def test_what_is_recorded_as_removed_counts_no_more_whether_it_is_gone_or_not() -> None:
    events = [event(1, "a"), event(2, "b"), event(3, "c"), record(4, 1, 2)]
    assert folded(*events) == folded(*events[2:])
    assert (folded(*events).checkpoints, folded(*events).started_at) == (1, "r3")
    assert (folded(*events).removed, folded(*events).seqs_known) == (2, 4)


def test_what_is_removed_is_counted_by_seqs_and_what_a_record_claims_beyond_them_is_not() -> None:
    events = [event(1, "a"), event(2, "b"), record(3, 1, 2), event(4, "c"), record(5, 1, 3), record(6, -9, 10**18)]
    assert [folded(*events[:end]).removed for end in range(1, 7)] == [0, 0, 2, 2, 3, 5]
    assert [folded(*events[:end]).seqs_known for end in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_a_run_of_which_the_log_lacks_events_knows_of_fewer_than_its_seq_says() -> None:
    info = folded(event(1, "a"), event(4, "b"))
    assert (info.seq, info.seqs_known) == (4, 2)
    assert advance(info, event(5, "c")) == folded(event(1, "a"), event(4, "b"), event(5, "c"))


def test_after_a_removal_of_everything_a_run_points_at_nothing() -> None:
    info = folded(event(1, "a"), event(2, "b"), record(3, 1, 2))
    assert (info.checkpoint_id, info.checkpoints, info.tombstones, info.status) == (None, 0, 1, "open")


def test_a_record_means_nothing_that_came_after_it() -> None:
    info = folded(event(1, "a"), record(2, 1, 9), event(3, "b"))
    assert (info.checkpoint_id, info.checkpoints) == ("b", 1)


def test_where_a_removal_is_recorded_the_log_is_to_be_folded_again() -> None:
    assert advance(folded(event(1, "a"), event(2, "b")), record(3, 1, 1)) is None


@pytest.mark.parametrize("step", [("annotate", Annotation(outcome="done")), ("claim", True)])
def test_an_event_that_repeats_a_record_is_one_where_the_record_itself_was_not_there(step: Step) -> None:
    log = Log()
    for each in (("save", ("a", Summary())), ("save", ("b", Summary())), ("remove", (0, 0, True)), step):
        log.add(each)
    first, second, removal, repeating = log.events
    assert repeating.pruned == removal.pruned
    unaware = msgspec.structs.replace(folded(first, second), seq=removal.seq, digest=removal.digest)
    assert advance(unaware, repeating) is None
    assert advance(folded(first, second, removal), repeating) == folded(*log.events)


def test_a_fold_that_goes_on_is_the_fold_of_all_events_up_to_each() -> None:
    events = [event(1, "a"), event(2, "b"), record(3, 1, 1), event(4, "c"), event(5, "c", deletes=True)]
    folding = Folding()
    assert [folding.add(each) for each in events] == [folded(*events[: end + 1]) for end in range(len(events))]


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(1, 4), st.sampled_from("abcde"), st.booleans())))
def test_all_events_are_live_only_where_no_id_repeats_and_no_seq_is_missing(
    events: list[tuple[str, int, str, bool]],
) -> None:
    events = list({(run, seq): (run, seq, name, deletes) for run, seq, name, deletes in events}.values())
    keys = [
        EventKey(run, seq, "tombstone" if deletes else "checkpoint", name, place)
        for place, (run, seq, name, deletes) in enumerate(events)
    ]
    seqs = {run: sorted(key.seq for key in keys if key.run_id == run) for run in ("one", "two")}
    wanted = (
        len({key.checkpoint_id for key in keys}) == len(keys)
        and not any(deletes for *_, deletes in events)
        and all(found == list(range(1, len(found) + 1)) for found in seqs.values())
    )
    for size in (1, 2, 5):
        all_live = AllLive()
        pages = [EventKeys.of(keys[start : start + size]) for start in range(0, len(keys), size)]
        assert (all(map(all_live.takes, pages)) and all_live.is_whole) == wanted
