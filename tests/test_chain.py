"""The digests of events: what they cover, and what they must not depend on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventckpt import CheckpointEvent
from eventckpt.chain import digest_of, sealed
from eventckpt.events import (
    Annotation,
    ForkPoint,
    Migration,
    Payload,
    PendingRequest,
    Pruned,
    Removal,
    RemovedRun,
    Summary,
    Turn,
)

OLDEST = CheckpointEvent(
    type="checkpoint",
    workflow_name="orders",
    run_id="order-42",
    seq=2,
    checkpoint_id="c2",
    previous_checkpoint_id="c1",
    timestamp="2026-01-01T00:00:00+00:00",
    iteration_count=3,
    graph_signature_hash="graph",
    checkpoint_version="1.0",
    summary=Summary(
        executor_ids=("a", "b"),
        messages={"a": 1, "b": 2},
        pending_requests=(PendingRequest(request_id="q1", source_executor_id="a", request_type="app:Question"),),
        answered_requests=("q0",),
        state_keys=("count", "größe"),
        more_state_keys=4,
    ),
    payload=Payload(
        encoding="zstd+delta",
        base_seq=1,
        raw_size=100,
        raw_sha256="00ff",
        stored_size=5,
        data=b"state",
        since_base=5,
        parts=("part",),
    ),
    actor="someone",
    recorded_at="2026-01-01T00:00:01+00:00",
    forked_from=ForkPoint(workflow_name="orders", run_id="order-41", seq=7, checkpoint_id="c0"),
    previous_digest="ab" * 32,
    schema=2,
)
"""An event in which every field of the first version has another value than its default."""

EVENT = msgspec.structs.replace(
    OLDEST,
    summary=msgspec.structs.replace(
        OLDEST.summary,
        pending_requests=(
            PendingRequest(
                request_id="q1",
                source_executor_id="a",
                request_type="app:Question",
                asked_at="2026-01-01T00:00:01+00:00",
                response_type="builtins:bool",
                prompt="May it?",
            ),
        ),
    ),
    pruned=(Pruned(first=3, last=5, previous_digest="cd", digest="ef"),),
    migration=Migration(name="app:v2", graph_before="graph before"),
    turn=Turn(roles={"user": 1, "assistant": 2}, continues="t1", session="s1"),
    cleared={"s1~0123456789ab": 3, "s1": 4},
    annotation=Annotation(outcome="failed", reason="why", tags={"customer": "c-17"}, hold=True, carried=True),
    claim=7,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    closes=True,
    removal=Removal(
        runs=(RemovedRun(run_id="r9", seq=8, digest="fe"),),
        reason="done for 30 days",
        archive="a.jsonl",
        archive_sha256="dc",
    ),
)
"""The same, with the fields that were added since."""

OTHER: dict[type, Any] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    str: lambda value: value + "x",
    bytes: lambda value: value + b"x",
    tuple: lambda value: value[:-1],
    dict: lambda value: dict(list(value.items())[:-1]),
}


def changed(value: Any) -> Any:
    """Every variant of `value` that differs in one place, with the name of the place."""
    if not isinstance(value, msgspec.Struct):
        yield "", OTHER[type(value)](value)
        if type(value) is tuple:
            for name, item in changed(value[0]):
                yield f"[0]{name}", (item, *value[1:])
        if type(value) is dict:
            key = next(iter(value))
            yield f"[{key}]", {**value, key: OTHER[type(value[key])](value[key])}
        return
    for field in msgspec.structs.fields(value):
        for name, other in changed(getattr(value, field.name)):
            yield f".{field.name}{name}", msgspec.structs.replace(value, **{field.name: other})
        if field.default is not msgspec.NODEFAULT:
            yield f".{field.name}=default", msgspec.structs.replace(value, **{field.name: field.default})


LEFT_OUT = (".digest", ".payload.parts")
CHANGES = {name: event for name, event in changed(EVENT) if not name.startswith(LEFT_OUT)}


def test_the_changes_below_reach_every_field_of_every_part() -> None:
    def names(kind: Any, prefix: str) -> set[str]:
        return {f"{prefix}.{field.name}" for field in msgspec.structs.fields(kind)}

    parts = {
        *names(CheckpointEvent, ""),
        *names(Summary, ".summary"),
        *names(PendingRequest, ".summary.pending_requests[0]"),
        *names(Payload, ".payload"),
        *names(ForkPoint, ".forked_from"),
        *names(Pruned, ".pruned[0]"),
        *names(Migration, ".migration"),
    }
    untouched = {part for part in parts if not any(name.startswith(part) for name in CHANGES)}
    assert untouched == set(LEFT_OUT)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_any_field_changes_the_digest(name: str) -> None:
    assert CHANGES[name] != EVENT
    assert digest_of(CHANGES[name]) != digest_of(EVENT)


def test_no_two_of_these_changes_give_the_same_digest() -> None:
    distinct = {msgspec.json.encode(event, order="sorted") for event in CHANGES.values()}
    assert len({digest_of(event) for event in CHANGES.values()}) == len(distinct)


def test_where_an_engine_keeps_the_data_does_not_change_the_digest() -> None:
    moved = msgspec.structs.replace(EVENT, payload=msgspec.structs.replace(EVENT.payload, parts=("one", "two")))
    assert moved != EVENT
    assert digest_of(moved) == digest_of(EVENT)


def test_text_cannot_move_from_one_field_into_the_next() -> None:
    one = msgspec.structs.replace(EVENT, workflow_name="ab", run_id="c")
    other = msgspec.structs.replace(EVENT, workflow_name="a", run_id="bc")
    assert digest_of(one) != digest_of(other)


def test_a_missing_payload_is_not_an_empty_one() -> None:
    empty = Payload(encoding="", raw_size=0, raw_sha256="", stored_size=0)
    without = msgspec.structs.replace(EVENT, payload=None)
    assert digest_of(without) != digest_of(msgspec.structs.replace(EVENT, payload=empty))


def test_the_digest_of_an_event_is_pinned() -> None:
    # Stored chains depend on these values: whoever changes the canonical form breaks every file there is.
    assert digest_of(OLDEST) == "368b02bc934b5663d73fa63940f3cafa1e35fe3880c31f4e8b5917af7d4d0234"
    first = CheckpointEvent(
        type="tombstone", workflow_name="w", run_id="r", seq=1, checkpoint_id="c", timestamp="t", recorded_at="now"
    )
    assert digest_of(first) == "af7232798ef515d7f308b9ba7a3f5f4840e9aa0ec725300c4d66eeb5961a1446"


def test_a_field_that_a_later_version_adds_leaves_the_digests_of_older_events_as_they_are() -> None:
    class Later(CheckpointEvent, frozen=True, kw_only=True, omit_defaults=True):
        added: str | None = None
        more: tuple[str, ...] = ()

    def later(**added: Any) -> CheckpointEvent:
        return Later(**{name: getattr(EVENT, name) for name in EVENT.__struct_fields__}, **added)

    assert digest_of(later()) == digest_of(EVENT)
    assert digest_of(later(added="")) != digest_of(EVENT)


def test_equal_events_have_equal_digests_however_they_were_made() -> None:
    bare = CheckpointEvent(
        type="checkpoint", workflow_name="w", run_id="r", seq=1, checkpoint_id="c", timestamp="t", recorded_at="t"
    )
    for event in (EVENT, bare):
        spelled_out = CheckpointEvent(**{name: rebuilt(getattr(event, name)) for name in event.__struct_fields__})
        as_json = msgspec.json.decode(msgspec.json.encode(event), type=CheckpointEvent)
        as_msgpack = msgspec.msgpack.decode(msgspec.msgpack.encode(spelled_out), type=CheckpointEvent)
        for other in (spelled_out, as_json, as_msgpack):
            assert other == event
            assert digest_of(other) == digest_of(event)


def rebuilt(value: Any) -> Any:
    """An equal value that shares no object with `value`."""
    if isinstance(value, msgspec.Struct):
        return type(value)(**{name: rebuilt(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, tuple):
        return tuple([rebuilt(item) for item in value])
    if isinstance(value, dict):
        return {key: rebuilt(item) for key, item in value.items()}
    return value


def test_the_order_of_a_mapping_does_not_matter() -> None:
    messages = dict(reversed(EVENT.summary.messages.items()))
    other = msgspec.structs.replace(EVENT, summary=msgspec.structs.replace(EVENT.summary, messages=messages))
    assert digest_of(other) == digest_of(EVENT)


def test_sealing_fills_in_the_digest_and_nothing_else() -> None:
    event = sealed(EVENT)
    assert event.digest == digest_of(EVENT)
    assert msgspec.structs.replace(event, digest="") == EVENT


def test_a_sealed_event_keeps_its_digest_when_it_is_sealed_again() -> None:
    event = sealed(EVENT)
    assert digest_of(event) == event.digest
    assert sealed(event) == event


def test_sealing_replaces_a_digest_that_is_not_the_events_own() -> None:
    assert sealed(msgspec.structs.replace(EVENT, digest="forged")) == sealed(EVENT)
    moved = msgspec.structs.replace(sealed(EVENT), seq=3)
    assert digest_of(moved) != moved.digest
    assert sealed(moved).digest == digest_of(moved)


def test_a_header_alone_does_not_pass_for_the_whole_event() -> None:
    event = sealed(EVENT)
    assert digest_of(event.header()) != event.digest
