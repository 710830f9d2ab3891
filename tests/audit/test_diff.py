"""A diff is empty only where there is no difference: sharing, order, zones and keys of like text included."""

from __future__ import annotations

import copy
import enum
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from agent_framework import Content, Message, WorkflowCheckpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointCodec
from eventckpt.audit.diff import Difference, differences
from eventckpt.codec.tree import Tree, same
from eventckpt.codec.tree_reader import read_tree, read_trees


class Colour(enum.Enum):
    RED = "red"


class Wine(enum.Enum):
    RED = "red"


@dataclass
class Box:
    content: Any = None


@dataclass
class Secret:
    content: Any = None


NAMES = [f"{__name__}:{name}" for name in ("Colour", "Wine", "Box", "Secret")]
codec = CheckpointCodec(NAMES)
WHEN = "2026-05-31T00:00:00+00:00"


def raw_of(state: dict[str, Any]) -> bytes:
    return codec.encode(WorkflowCheckpoint("w", "g", checkpoint_id="one", timestamp=WHEN, state=state))


def shows(key: str) -> bool:
    return key != NAMES[3]


def found(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    return list(differences(*read_trees(raw_of(one), raw_of(other), shows)))


def paths(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [difference.path for difference in found(one, other)]


def trees(one: dict[str, Any], other: dict[str, Any]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    return read_tree(raw_of(one), shows), read_tree(raw_of(other), shows)


def test_another_of_two_messages_that_are_there_is_a_difference() -> None:
    asked = [Message("user", [Content.from_text(text)]) for text in ("yes", "no")]
    assert paths({"asked": asked, "answered": asked[0]}, {"asked": asked, "answered": asked[1]}) == ["state.answered"]


def test_another_of_two_lists_that_are_there_is_a_difference() -> None:
    a, b = ["a"], ["b"]
    assert paths({"a": a, "b": b, "z": a}, {"a": a, "b": b, "z": b}) == ["state.z"]
    assert paths({"a": a, "b": b, "z": [[a], 1]}, {"a": a, "b": b, "z": [[b], 1]}) == ["state.z[0][0]"]
    assert paths({"a": a, "b": b, "z": Box(a)}, {"a": a, "b": b, "z": Box(b)}) == ["state.z.content"]


def test_another_reference_behind_what_is_the_same_is_a_difference() -> None:
    a, b = ["a"], ["b"]
    one = {"both": [Box(a), Box(b)], "x": {"deep": [a, b]}}
    other = {"both": [Box(a), Box(b)], "x": {"deep": [b, a]}}
    assert paths(one, other) == ["state.x.deep[0]", "state.x.deep[1]"]


def test_another_reference_in_what_is_not_shown_is_a_difference() -> None:
    a, b = ["a"], ["b"]
    one, other = {"a": a, "b": b, "z": Secret(a)}, {"a": a, "b": b, "z": Secret(b)}
    assert paths(one, other) == ["state.z"]
    assert not same(*trees(one, other))


def test_what_is_not_shown_is_the_same_whatever_the_numbers_of_its_references() -> None:
    def state(first: list[Any]) -> dict[str, Any]:
        inner, outer = ["inner"], ["outer"]
        return {"first": [first, first], "outer": outer, "z": Secret([inner, inner, outer])}

    more: list[Any] = ["one more"]
    one, other = state(["a"]), state([more, more])
    assert {path.removeprefix("state.").split("[")[0] for path in paths(one, other)} == {"first"}


def test_references_into_two_parts_of_what_is_not_shown_are_told_apart() -> None:
    a, b = ["a"], ["b"]
    assert paths({"h": Secret([a, b]), "y": [a], "z": [b]}, {"h": Secret([a, b]), "y": [b], "z": [a]}) == [
        "state.y[0]",
        "state.z[0]",
    ]


def test_a_plain_map_in_what_is_not_shown_is_not_taken_for_a_label() -> None:
    a = ["a"]
    assert (
        found({"x": [Secret({"i": 1}), Secret({"i": 1}), a, a]}, {"x": [Secret({"i": 1}), Secret({"i": 1}), a, a]})
        == []
    )


ONE_HOUR, TWO_HOURS = (timedelta(hours=hours) for hours in (1, 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (timezone(ONE_HOUR, "X"), timezone(TWO_HOURS, "X")),
        (timezone(ONE_HOUR), timezone(ONE_HOUR, "X")),
        (datetime(2026, 1, 1, tzinfo=timezone(ONE_HOUR, "X")), datetime(2026, 1, 1, tzinfo=timezone(ONE_HOUR, "Y"))),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, fold=1)),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        (OrderedDict([(1, 1), (2, 2)]), OrderedDict([(2, 2), (1, 1)])),
        ({ZoneInfo("UTC"): 1}, {UTC: 1}),
        ({Colour.RED: 1}, {Wine.RED: 1}),
        ({Colour.RED}, {Wine.RED}),
        ({1: 1}, {True: 1}),
        ({("k" * 100, 1): 1}, {("k" * 100, 2): 1}),
    ],
    ids=str,
)
def test_unequal_values_are_a_difference(one: object, other: object) -> None:
    assert paths({"x": one}, {"x": other}) != []
    assert not same(*trees({"x": one}, {"x": other}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1: 1, 2: 2}, {2: 2, 1: 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {2, 1, 3}),
        (Counter("ab"), Counter("ba")),
    ],
    ids=str,
)
def test_an_order_that_is_no_part_of_a_value_is_no_difference(one: object, other: object) -> None:
    assert paths({"x": one}, {"x": other}) == []
    assert same(*trees({"x": one}, {"x": other}))


def test_the_texts_of_two_long_keys_differ_in_128_bits() -> None:
    [removed, added] = found({"x": {("k" * 100, 1): 1}}, {"x": {("k" * 100, 2): 1}})
    assert removed.path[:40] == added.path[:40]
    assert len(removed.path.rpartition("…")[2].rstrip("]")) == len(added.path.rpartition("…")[2].rstrip("]")) == 32


# Any values, with sharing

LEAVES = st.sampled_from([None, True, 1, 1.0, "a", "b", b"a", Colour.RED, Wine.RED, UTC, timezone(ONE_HOUR, "X")])
KEYS = st.sampled_from(["a", "b", 1, (1, "a"), Colour.RED, Wine.RED])
SHAPES = ("list", "map", "dict", "ordered", "tuple", "box", "secret")


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """A few containers, each of leaves and of any of those before it."""
    made: list[Any] = []
    for _ in range(draw(st.integers(1, 5))):
        parts = [draw(st.sampled_from(made) if made and draw(st.booleans()) else LEAVES) for _ in range(2)]
        match draw(st.sampled_from(SHAPES)):
            case "list":
                made.append(parts)
            case "map":
                made.append(dict(zip("ab", parts, strict=True)))
            case "dict":
                made.append(dict(sorted(((draw(KEYS), part) for part in parts), key=repr)))
            case "ordered":
                made.append(OrderedDict((draw(KEYS), part) for part in parts))
            case "tuple":
                made.append(tuple(parts))
            case "box":
                made.append(Box(parts))
            case _:
                made.append(Secret(parts))
    return {name: draw(st.sampled_from(made)) for name in "xyz"}


@settings(max_examples=300, deadline=None)
@given(states(), states(), st.sampled_from("xyz"), st.sampled_from("xyz"))
def test_a_diff_is_empty_exactly_where_the_trees_are_the_same(
    one: dict[str, Any], other: dict[str, Any], name: str, from_name: str
) -> None:
    for changed in (other, one | {name: one[from_name]}, copy.deepcopy(one)):
        assert (found(one, changed) == []) == same(*trees(one, changed))
    moved = one | {name: one[from_name]}
    if moved[name] is not one[name] and found(one, moved) == []:
        assert means(raw_of(one)) == means(raw_of(moved))


def means(raw: bytes) -> Any:
    return msgspec.msgpack.decode(raw)
