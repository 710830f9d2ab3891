"""Shared references and cycles: what is one object is one object after a load."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests import checkpoint_types as app
from tests.fidelity import assert_same, checkpoint, loaded

from .values import CODEC

# Shared references and cycles


def test_an_object_held_twice_is_one_object_after_a_load() -> None:
    point = app.Point(1)
    again = loaded(CODEC, {"a": point, "b": [point], "c": app.Holder(point), "d": (point,)})
    assert again["a"] is again["b"][0] is again["c"].value is again["d"][0]


@pytest.mark.parametrize(
    "shared", [[1], [[1]], [], {"a": 1}, {"a": [1]}, {}, {1: 2}, {"$": 1}, {1}, bytearray(b"x"), deque([1])], ids=repr
)
def test_a_container_at_two_places_is_one_container_after_a_load(shared: Any) -> None:
    again = loaded(CODEC, {"plain": [shared, shared], "held": app.Point(shared, (shared,))})
    first, second = again["plain"]
    assert_same(shared, first)
    assert first is second is again["held"].x is again["held"].y[0]


@pytest.mark.parametrize("order", [("held", "plain"), ("plain", "held")])
def test_sharing_survives_whichever_place_comes_first(order: tuple[str, str]) -> None:
    shared = {"log": []}
    places = {"held": app.Holder(shared), "plain": shared}
    again = loaded(CODEC, {name: places[name] for name in order})
    assert again["held"].value is again["plain"]


def test_equal_containers_that_are_not_shared_stay_apart() -> None:
    again = loaded(CODEC, [[], [], {}, {}, app.Point(1), app.Point(1)])
    assert len({id(item) for item in again}) == 6


def test_parents_and_children_hold_each_other_again() -> None:
    root = app.Node("root")
    root.add(app.Node("a"))
    root.add(app.Node("b"))
    again = loaded(CODEC, root)
    assert [child.name for child in again.children] == ["a", "b"]
    assert all(child.parent is again for child in again.children)


@pytest.mark.parametrize("first", ["root", "leaf"])
def test_children_that_are_arguments_of_their_parent_hold_it_again(first: str) -> None:
    root = app.Tree("root")
    leaf = root.add(app.Node("leaf"))
    value = {"root": root, "leaf": leaf} if first == "root" else {"leaf": leaf, "root": root}
    again = loaded(CODEC, value)
    assert again["root"].children == [again["leaf"]]
    assert again["leaf"].parent is again["root"]


def test_an_exception_that_holds_itself_survives() -> None:
    error = app.AppError([])
    error.args[0].append(error)
    again = loaded(CODEC, error)
    assert again.args[0][0] is again


def test_a_named_tuple_that_holds_itself_survives() -> None:
    pair = app.Pair([])
    pair.left.append(pair)
    again = loaded(CODEC, pair)
    assert again.left[0] is again


def test_a_registered_reducer_may_lead_back_to_its_object() -> None:
    matrix = app.Matrix([])
    matrix.rows.append(matrix)
    again = loaded(CODEC, [matrix, matrix])
    assert again[0].rows[0] is again[0] is again[1]


@pytest.mark.parametrize("kind", [set, frozenset, app.Tags, app.FrozenTags])
def test_an_object_in_a_set_that_it_holds_survives(kind: Callable[[Any], Any]) -> None:
    node = app.Node("a")
    node.friends = kind([node])
    for again in (loaded(CODEC, node), *loaded(CODEC, node.friends)):
        assert type(again) is app.Node
        assert set(again.friends) == {again}
        assert type(again.friends) is kind


def test_an_object_may_hold_the_plain_container_that_holds_it() -> None:
    plain: list[Any] = []
    plain.append(app.Holder(plain))
    table: dict[str, Any] = {}
    table["self"] = (table,)
    again = loaded(CODEC, {"plain": plain, "table": table})
    assert again["plain"][0].value is again["plain"]
    assert again["table"]["self"][0] is again["table"]


@pytest.mark.parametrize("make", [list, app.Items, deque])
def test_a_list_inside_an_object_may_hold_itself(make: Callable[[], Any]) -> None:
    loop = make()
    loop.append(loop)
    again = loaded(CODEC, app.Holder(loop)).value
    assert again[0] is again
    assert type(again) is make


def test_a_dict_inside_an_object_may_hold_itself() -> None:
    loop: dict[Any, Any] = {1: "one"}
    loop[2] = loop
    again = loaded(CODEC, app.Holder(loop)).value
    assert again[2] is again


def test_objects_that_share_their_attributes_can_be_stored_with_them() -> None:
    attributes = {"a": 1}
    one, two = app.Borg(attributes), app.Borg(attributes)
    again = loaded(CODEC, [attributes, one, attributes, two, {"vars": attributes}])
    assert again[0] == vars(again[1]) == vars(again[3]) == {"a": 1}
    assert again[0] is again[2] is again[4]["vars"]


def test_immutable_values_are_written_out_each_time() -> None:
    """So that equal checkpoints have equal bytes, however their values came to be the same object."""
    for make in (
        lambda: uuid.UUID(int=5),
        lambda: Decimal("5.5"),
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        lambda: timedelta(5),
        lambda: complex(1, 2),
        lambda: range(1, 5),
        lambda: ("a", (1, 2)),
        lambda: frozenset({"a", "b"}),
        lambda: "text" * 2,
    ):
        value = make()
        assert CODEC.encode(checkpoint([value, value])) == CODEC.encode(checkpoint([make(), make()]))


def test_temporary_values_of_the_copy_protocol_are_not_mistaken_for_one_another() -> None:
    """A list made anew for each reduction must not be taken for an older one that had the same address."""
    numbers = range(500)
    again = loaded(CODEC, [app.Interval([(n,), (n + 1,)]) for n in numbers] + [app.Connection(str(n)) for n in numbers])
    assert [(item.low, item.high) for item in again[:500]] == [(n, n + 1) for n in numbers]
    assert [item.host for item in again[500:]] == [str(n) for n in numbers]
