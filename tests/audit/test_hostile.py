"""Looking at hostile bytes costs what the bytes do, or they are refused; what a run claims is only numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointDecodeError, CheckpointEvent, StreamId
from eventckpt.audit.diff import differences
from eventckpt.audit.prune import plan_for
from eventckpt.audit.verify import Verdict, verify_run
from eventckpt.chain import SCHEMA, is_newer, is_whole, sealed
from eventckpt.codec.tree import MAX_PATH, Ref, extended, parts_of, same
from eventckpt.codec.tree_reader import read_tree, read_trees, types_in
from eventckpt.events import PendingRequest, Pruned, Summary
from eventckpt.rendering.trees import leaf_text, plain_tree, tree_lines
from eventckpt.stores import AuditStore, FoundEvent
from eventckpt.stores.conformance import make_event

from .hostile import CASES, LOOKS, labels, nested, ref

pytestmark = pytest.mark.slow  # a process for each case

SIZE = 50_000
SECONDS = 0.5  # of the processor; what is read once takes a tenth on a busy machine
MEGABYTES = 40


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, dict[str, Any]]]:
    measured = subprocess.run(
        [sys.executable, "-m", "tests.audit.hostile"],
        env={**os.environ, "HOSTILE_SIZE": str(SIZE)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in measured.stdout.splitlines():
        row = json.loads(line)
        found.setdefault(row["case"], {})[row["look"]] = row
    return found


@pytest.mark.parametrize("case", CASES)
def test_each_look_at_hostile_bytes_takes_little_time_and_memory(
    costs: dict[str, dict[str, dict[str, Any]]], case: str
) -> None:
    assert costs[case].keys() == LOOKS.keys()
    for look, row in costs[case].items():
        assert row["s"] <= SECONDS, (look, row)
        assert row["mb"] <= MEGABYTES, (look, row)


# Any bytes

NAMES = (
    *("int", "str", "bytearray", "tuple", "list", "dict", "set", "frozenset", "type", "enum", "ref", "array", "zone"),
    *("typing", "ellipsis", "generic", "union", "a:b", "hidden:x", "datetime:datetime", "datetime:date"),
    *("datetime:timedelta", "datetime:timezone", "uuid:UUID", "builtins:range", "builtins:slice", "builtins:complex"),
    *("builtins:type", "decimal:Decimal", "fractions:Fraction", "pathlib:PurePosixPath"),
)

FORMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=11),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from("$acsldbikt"), inner, max_size=4)
        | st.builds(
            lambda name, fields: {"$": name, **fields},
            st.sampled_from(NAMES),
            st.dictionaries(
                st.sampled_from("acsldbiktn"), inner | st.integers(0, 3) | st.lists(inner, max_size=3), max_size=4
            ),
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(FORMS, FORMS)
def test_any_value_is_shown_and_compared_or_refused(one: Any, other: Any) -> None:
    raws = [msgspec.msgpack.encode({"state": value}) for value in (one, other)]
    try:
        before, after = (read_tree(raw, lambda key: not key.startswith("hidden")) for raw in raws)
        list(differences(*read_trees(raws[0], raws[1], lambda key: True)))
    except CheckpointDecodeError:
        return
    assert same(before, before)
    assert list(differences(before, read_tree(raws[0], lambda key: not key.startswith("hidden")))) == []
    list(differences(before, after))
    for line in (*tree_lines(after), *tree_lines(after, full=True), leaf_text(after)):
        assert line.isprintable()
    json.dumps(plain_tree(after), allow_nan=False)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for look in (types_in, lambda raw: read_tree(raw, lambda key: True)):
        try:
            look(raw)
        except CheckpointDecodeError:
            continue


def test_depth_is_that_of_the_value_and_takes_no_stack() -> None:
    deep = nested(190, lambda value: {"$": "a:b", "s": {"x": value}}, 1)
    raw = msgspec.msgpack.encode({"state": deep})

    def far_down(levels: int) -> object:
        return far_down(levels - 1) if levels else read_tree(raw, lambda key: True)

    assert isinstance(far_down(500), dict)
    with pytest.raises(CheckpointDecodeError, match="deeper than 200"):
        read_tree(msgspec.msgpack.encode({"state": nested(200, lambda value: [value], [[1]])}), lambda key: True)


# Paths


def test_a_path_is_as_long_as_it_may_be_and_tells_places_apart() -> None:
    paths = {extended(extended("", f"['{'k' * 5000}']"), f"[{index}]") for index in range(100)}
    assert len(paths) == 100
    assert max(map(len, paths)) <= MAX_PATH
    assert extended(".state", ".total") == ".state.total"
    raw = msgspec.msgpack.encode({"k" * 5000: labels(3)})
    [(_, items)] = parts_of(read_tree(raw, lambda key: True)) or ()
    assert [part for part in items if isinstance(part, list) and isinstance(part[0], Ref)]  # pyright: ignore


def test_a_reference_into_an_argument_says_which() -> None:
    node = {"$": "a:b", "c": [0, {"$": "list", "l": [1], "i": 1}], "s": {"again": ref(1)}}
    tree = read_tree(msgspec.msgpack.encode({"state": node}), lambda key: True)["state"]
    assert dict(parts_of(tree) or ())[".again"] == Ref("state(1)")


# Runs


class Log:
    """As much of a store as `verify` asks for."""

    def __init__(self, events: list[CheckpointEvent]) -> None:
        self._events = events

    async def events(self, stream: StreamId, **between: int) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._events:
            yield event

    async def headers(self, stream: StreamId, **between: int) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._events:
            yield event.header()

    async def find(self, checkpoint_id: str, *, stream: StreamId) -> FoundEvent | None:
        found = [event for event in self._events if event.checkpoint_id == checkpoint_id]
        return FoundEvent(found[-1], self._events[-1].header()) if found else None

    events_of_runs = AuditStore.events_of_runs
    headers_of_runs = AuditStore.headers_of_runs


RUN = StreamId("workflow", "run")


def tombstone(seq: int, *pruned: tuple[int, int], previous: CheckpointEvent | None = None) -> CheckpointEvent:
    removed = tuple(Pruned(first=first, last=last, previous_digest="", digest="") for first, last in pruned)
    event = make_event(RUN, seq, previous=previous, type="tombstone", checkpoint_id="")
    return sealed(msgspec.structs.replace(event, pruned=removed))


async def verdict_of(*events: CheckpointEvent) -> Verdict:
    started = time.process_time()
    verdict = await verify_run(Log(list(events)), RUN)  # pyright: ignore[reportArgumentType] - see Log
    assert time.process_time() - started < 1.5
    return verdict


@pytest.mark.parametrize(
    ("seq", "pruned", "gone", "ok"),
    [
        (10**18, [(1, 10**18 - 1)], 10**18 - 1, True),
        (10**18, [(-(10**18), 10**18)], 10**18 - 1, False),  # itself among them
        (10**18, [(1, 5), (6, 10**18 - 1)], 10**18 - 1, True),
        (10**18, [(1, 7), (3, 10**18 - 1), (4, 5)], 10**18 - 1, True),
        (2, [(10**17, 10**18)], 0, False),
        (2, [(9, 1)], 0, False),
        (30_001, [(seq, seq) for seq in range(1, 30_001)], 30_000, True),
    ],
    ids=str,
)
async def test_what_a_record_claims_is_counted_by_its_ends(
    seq: int, pruned: list[tuple[int, int]], gone: int, ok: bool
) -> None:
    verdict = await verdict_of(tombstone(seq, *pruned))
    assert verdict.pruned == gone
    assert verdict.ok is ok


async def test_many_gaps_and_many_records_are_matched_in_one_pass() -> None:
    record = [(seq, seq) for seq in range(2, 8000, 2)]
    events = [tombstone(seq) for seq in range(1, 8000, 2)]
    verdict = await verdict_of(*events, tombstone(8000, *record))
    assert verdict.pruned == len(record)
    assert not any("no removal" in problem.detail for problem in verdict.problems)


async def test_a_gap_that_was_recorded_in_part_is_missing() -> None:
    verdict = await verdict_of(tombstone(10, (1, 4), (6, 9)))
    assert [problem.why for problem in verdict.problems] == ["missing"]


async def test_an_event_of_a_later_schema_is_newer_not_changed() -> None:
    event = msgspec.structs.replace(make_event(RUN, 1), schema=SCHEMA + 1)
    assert is_newer(event)
    [problem] = (await verdict_of(event)).problems
    assert problem.why == "newer"
    assert "written by a newer version of eventckpt" in problem.detail


@pytest.mark.parametrize("field", ["seq", "iteration_count", "schema"])
def test_an_int_beyond_the_formats_is_changed_not_a_crash(field: str) -> None:
    assert not is_whole(msgspec.structs.replace(make_event(RUN, 1), **{field: 10**30}))


ODD: dict[str, Callable[[CheckpointEvent], CheckpointEvent]] = {
    "a huge summary": lambda event: msgspec.structs.replace(
        event,
        summary=Summary(
            messages={"x" * 500_000: 2**63},
            pending_requests=tuple(
                PendingRequest(request_id="\x1b", source_executor_id="", request_type="") for _ in range(20_000)
            ),
        ),
    ),
    "times that are none": lambda event: msgspec.structs.replace(event, recorded_at="yesterday", timestamp="\0"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_odd_headers_are_verified_and_never_pruned_by_guess(odd: str) -> None:
    event = sealed(ODD[odd](make_event(RUN, 1)))
    assert (await verdict_of(event)).ok
    plan = plan_for([event.header()], keep=0, force=True)
    assert bool(plan.refused) == (odd == "times that are none")
