"""What holds for every value that can be stored, whatever its shape."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from agent_framework import Content, FileCheckpointStorage, Message, WorkflowMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointCodec, CheckpointEncodeError
from tests import checkpoint_types as app
from tests.fidelity import assert_same, checkpoint, loaded

CODEC = CheckpointCodec(app.ALLOWED)

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of the strategies below

_QUICK = settings(deadline=5_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

texts = st.text(st.characters(exclude_categories=()), max_size=6)
"""Any code points, lone surrogates too."""

zones = st.one_of(
    st.none(), st.just(UTC), st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)
natives = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    texts,
    st.sampled_from(["$", "a", "s", "ref", "tuple", "builtins:int"]),
    st.binary(max_size=6),
)
immutables = st.one_of(
    natives,
    st.complex_numbers(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),  # which have no hash
    st.uuids(),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 2**70), st.integers(1, 9)),
    st.sampled_from([*app.Colour, *app.ByName, *app.Level, *app.Kind, app.Access(3), app.Outer.Inner.Mood.GOOD]),
    st.sampled_from([int, type(None), app.Point, app.Outer.Inner, Message]),
    st.builds(app.Ratio, st.floats()),
    st.builds(app.Number, st.integers()),
    st.builds(app.Name, texts),
    st.builds(app.Temperature, st.floats(), texts),
)


def _hashables(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(app.FrozenPoint, inner, inner),
        st.builds(app.FrozenSlottedPoint, inner, inner),
        st.builds(app.Pair, inner, inner),
        st.builds(app.Version, st.lists(inner, max_size=2)),
        st.builds(app.FrozenTags, st.lists(inner, max_size=3)),
    )


hashables = st.recursive(immutables, _hashables, max_leaves=4)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    pairs = st.lists(st.tuples(hashables, inner), max_size=3)
    elements = st.lists(hashables, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        st.dictionaries(texts, inner, max_size=3),
        pairs.map(dict),
        elements.map(set),
        elements.map(frozenset),
        st.binary(max_size=4).map(bytearray),
        st.builds(deque, lists, st.one_of(st.none(), st.integers(3, 5))),
        pairs.map(OrderedDict),
        st.builds(defaultdict, st.sampled_from([None, list, app.Items]), pairs),
        lists.map(app.Items),
        pairs.map(app.Table),
        elements.map(app.Tags),
        st.builds(slice, inner, inner, inner),
        st.builds(app.Point, inner, inner),
        st.builds(app.Place, inner, inner, texts),
        st.builds(app.SlottedPoint, inner, inner),
        st.builds(app.Slots, inner, inner),
        st.builds(app.SlotsAndDict, inner, inner, inner),
        st.builds(app.Attrs, inner, inner),
        st.builds(app.Pair, inner, inner),
        st.builds(app.Outer.Inner, inner),
        st.builds(app.StateOfAnyShape, inner.filter(lambda state: state is not None)),
        st.builds(app.Matrix, inner),
        st.builds(app.OldProtocol, inner),
        st.builds(lambda args: app.AppError(*args), lists),
        st.builds(WorkflowMessage, inner, texts),
        st.builds(
            lambda text, more: Message("user", [Content.from_text(text)], additional_properties={"x": more}),
            texts,
            inner,
        ),
    )


values = st.recursive(st.one_of(immutables, hashables), _containers, max_leaves=12)


@settings(_QUICK, max_examples=400)
@given(values)
def test_every_value_comes_back_the_same_and_with_the_same_bytes(value: Any) -> None:
    raw = CODEC.encode(checkpoint(value))
    again = CODEC.decode(raw)
    assert_same(value, again.state["value"])
    assert CODEC.encode(again) == raw


@settings(_QUICK, max_examples=200)
@given(values)
def test_a_copy_has_the_same_bytes(value: Any) -> None:
    assert CODEC.encode(checkpoint(copy.deepcopy(value))) == CODEC.encode(checkpoint(value))


@settings(_QUICK, max_examples=200)
@given(st.lists(hashables, max_size=12), st.randoms(use_true_random=False))
def test_sets_have_one_order(elements: list[Any], shuffling: random.Random) -> None:
    shuffled = list(dict.fromkeys(elements))  # the first of equal elements is what a set keeps
    raw = CODEC.encode(checkpoint([set(shuffled), frozenset(shuffled), app.Tags(shuffled)]))
    shuffling.shuffle(shuffled)
    assert CODEC.encode(checkpoint([set(shuffled), frozenset(shuffled), app.Tags(shuffled)])) == raw


@settings(_QUICK, max_examples=100)
@given(values)
async def test_inside_an_object_every_value_comes_back_as_from_the_file_storage(value: Any) -> None:
    with TemporaryDirectory() as folder:
        theirs = FileCheckpointStorage(Path(folder), allowed_checkpoint_types=app.ALLOWED)
        await theirs.save(checkpoint(app.Holder(value)))
        assert_same((await theirs.load("c-1")).state["value"], loaded(CODEC, app.Holder(value)))


# Object graphs: who holds whom is what has to survive


class _Graph:
    """Some objects and containers that hold each other at random."""

    KINDS = ("node", "tree", "list", "dict", "table", "items", "deque", "pair", "matrix", "slots")

    def __init__(self, kinds: list[str], edges: list[tuple[int, int]]) -> None:
        self.members = [self._make(kind, str(index)) for index, kind in enumerate(kinds)]
        for start, end in edges:
            self._hold(self.members[start % len(kinds)], self.members[end % len(kinds)])

    def _make(self, kind: str, name: str) -> Any:
        match kind:
            case "node":
                return app.Node(name)
            case "tree":
                return app.Tree(name)
            case "list":
                return [name]
            case "dict":
                return {"name": name}
            case "table":
                return app.Table(name=name)
            case "items":
                return app.Items([name])
            case "deque":
                return deque([name])
            case "pair":
                return app.Pair([name])
            case "matrix":
                return app.Matrix([])
            case _:
                return app.Slots(name, [])

    def _hold(self, holder: Any, held: Any) -> None:
        match holder:
            case app.Node():
                holder.children.append(held)
            case dict():
                holder[str(len(holder))] = held
            case app.Pair():
                holder.left.append(held)
            case app.Matrix():
                holder.rows.append(held)
            case app.Slots():
                holder.right.append(held)
            case _:
                holder.append(held)


@st.composite
def graphs(draw: st.DrawFn) -> list[Any]:
    kinds = draw(st.lists(st.sampled_from(_Graph.KINDS), min_size=1, max_size=7))
    edges = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14))
    return _Graph(kinds, edges).members


@settings(_QUICK, max_examples=400)
@given(graphs())
def test_who_holds_whom_survives(members: list[Any]) -> None:
    raw = CODEC.encode(checkpoint(app.Holder(members)))
    again = CODEC.decode(raw)
    assert_same(members, again.state["value"].value)
    assert CODEC.encode(again) == raw


@settings(_QUICK, max_examples=100)
@given(graphs())
async def test_who_holds_whom_is_as_from_the_file_storage(members: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        theirs = FileCheckpointStorage(Path(folder), allowed_checkpoint_types=app.ALLOWED)
        await theirs.save(checkpoint(app.Holder(members)))
        assert_same((await theirs.load("c-1")).state["value"], loaded(CODEC, app.Holder(members)))


@settings(_QUICK, max_examples=200)
@given(graphs(), st.randoms(use_true_random=False))
def test_whether_a_plain_cycle_is_refused_does_not_depend_on_the_order(
    members: list[Any], order: random.Random
) -> None:
    def accepted(value: Any) -> bool:
        try:
            return bool(CODEC.encode(checkpoint(value)))
        except CheckpointEncodeError as error:
            assert "holds itself" in str(error)  # noqa: PT017 - the other outcome is no error
            return False

    first = accepted(members)
    order.shuffle(members)
    assert accepted(members) == first
