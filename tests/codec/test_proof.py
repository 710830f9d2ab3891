"""That what is saved loads again is shown of what is new in it, and says the same as loading all of it would."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
from agent_framework import Content, Message, WorkflowCheckpoint
from hypothesis import given
from hypothesis import strategies as st

from eventckpt import CheckpointCodec, CheckpointDecodeError, Upcaster
from eventckpt.codec import proof
from eventckpt.codec.checkpoint_codec import Root
from eventckpt.codec.encoder import Encoder
from eventckpt.codec.shapes import Shapes
from tests import checkpoint_types as app
from tests.fidelity import checkpoint

from .values import VALUES


class Counted:
    """Counts how often it was loaded."""

    loads = 0
    refused: frozenset[int] = frozenset()

    def __init__(self, number: int, held: Any = None) -> None:
        self.number = number
        self.held = held

    def __setstate__(self, state: dict[str, Any]) -> None:
        Counted.loads += 1
        if state["number"] in Counted.refused:
            raise ValueError("it has had enough")
        self.__dict__.update(state)


COUNTED = f"{__name__}:Counted"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    Counted.loads, Counted.refused = 0, frozenset()
    yield
    Counted.refused = frozenset()


def _codec() -> CheckpointCodec:
    return CheckpointCodec([*app.ALLOWED, COUNTED])


def _loads(codec: CheckpointCodec, value: Any) -> int:
    """How many it takes to prove a checkpoint that holds a copy of `value`, as the framework hands one on."""
    copied = checkpoint(deepcopy(value))
    Counted.loads = 0
    codec.prove(codec.encode_in_pieces(copied))
    return Counted.loads


def test_what_an_earlier_save_has_loaded_is_not_loaded_again() -> None:
    codec, many = _codec(), [Counted(number) for number in range(10)]
    assert _loads(codec, many) == 10
    assert _loads(codec, many) == 0
    assert _loads(codec, [*many, Counted(10)]) == 1
    assert _loads(codec, {"elsewhere": [[many[3]]], "and": [{"deep": many[4]}]}) == 2, "they lie deeper now"
    assert _loads(codec, [many[3], many[4], Counted(11, held=[1])]) == 1


@pytest.mark.parametrize(
    "around", [lambda held: held, lambda held: (held,), lambda held: {1: held}, lambda held: {"$": held}], ids=str
)
def test_a_form_of_any_kind_is_loaded_as_a_whole_when_something_in_it_is_new(around: Callable[[Any], Any]) -> None:
    codec = _codec()
    first, second = (around([Counted(number), Counted(number + 1)]) for number in (0, 10))
    assert _loads(codec, [first]) == 2
    assert _loads(codec, [first, second]) == 2
    assert _loads(codec, [second, first]) == 0


def test_a_value_that_stands_in_its_own_object_twice_is_as_good_as_any() -> None:
    codec, held = _codec(), Counted(1)
    twice = Counted(2, held=[held, held])
    assert _loads(codec, [twice]) == 2
    assert _loads(codec, [twice, Counted(3)]) == 1


def test_what_refers_to_each_other_is_loaded_together_and_the_rest_is_not() -> None:
    codec, shared = _codec(), Counted(0)
    others = [Counted(number) for number in range(1, 5)]
    linked = [Counted(5, held=shared), Counted(6, held=shared)]
    assert _loads(codec, [*others, *linked]) == 7
    assert _loads(codec, [*others, *linked]) == 0
    assert _loads(codec, [*others, Counted(7), *linked]) == 1
    assert _loads(codec, [*others, *linked, Counted(8, held=shared)]) == 4


def test_where_a_plain_list_is_shared_the_whole_is_loaded() -> None:
    codec, plain = _codec(), [1, [2]]
    value = {"once": plain, "again": plain, "held": Counted(1)}
    assert [_loads(codec, value), _loads(codec, value)] == [1, 1]


def test_a_class_that_takes_the_place_of_another_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = _codec()
    assert _loads(codec, [Counted(1)]) == 1

    class Other(Counted):
        def __setstate__(self, state: dict[str, Any]) -> None:
            raise ValueError("not I")

    Other.__qualname__ = "Counted"
    monkeypatch.setattr(sys.modules[__name__], "Counted", Other)
    encoded = codec.encode_in_pieces(checkpoint([Other(1)]))
    with pytest.raises(CheckpointDecodeError, match="not I"):
        codec.prove(encoded)


def test_what_an_upcaster_changes_at_the_load_is_loaded_with_it() -> None:
    codec = CheckpointCodec([COUNTED], upcasters=[Upcaster(COUNTED, fn=lambda state: {"number": 1, "held": None})])
    assert [_loads(codec, [Counted(1)]), _loads(codec, [Counted(1)])] == [1, 1]


def test_what_is_not_loadable_is_named_with_the_way_to_it_though_its_neighbours_are_known() -> None:
    codec, many = _codec(), [Counted(1), Counted(2)]
    assert _loads(codec, many) == 2
    Counted.refused = frozenset({3})
    with pytest.raises(CheckpointDecodeError, match=r"had enough.*checkpoint\.state\.value\[2\]"):
        codec.decode(codec.encode(checkpoint([app.Point(1), app.Point(2), Counted(3)])))
    with pytest.raises(CheckpointDecodeError, match=r"had enough.*checkpoint\.state\.value\[2\]"):
        codec.prove(codec.encode_in_pieces(checkpoint([*many, Counted(3)])))


def _collides() -> set[Any]:
    """Keys of one hash, which are compared each with each."""
    alike = [2.0 ** (61 * number) for number in range(16)]
    assert len(set(map(hash, alike))) == 1
    return set(product(alike, alike))


def test_pieces_that_load_one_by_one_are_refused_where_they_take_too_much_together() -> None:
    codec = _codec()
    several = [Counted(number, held=_collides()) for number in range(40)]
    for each in several:
        assert _loads(codec, [each]) == 1
    with pytest.raises(CheckpointDecodeError, match="far more memory or time"):
        codec.decode(codec.encode(checkpoint(several)))
    with pytest.raises(CheckpointDecodeError, match="far more memory or time"):
        _loads(codec, several)


def test_numbers_that_make_others_dearer_are_loaded_with_the_others() -> None:
    codec = _codec()
    value = [Counted(1 << 70), Counted(2)]
    assert [_loads(codec, value), _loads(codec, value)] == [4, 4], "each by itself, and then all"


class Tagged:
    """Its state is no dict, which takes more where objects refer to each other."""

    def __init__(self, tags: set[int]) -> None:
        self.tags = tags

    def __getstate__(self) -> set[int]:
        return self.tags

    def __setstate__(self, state: set[int]) -> None:
        self.tags = state


TAGGED = f"{__name__}:Tagged"


@pytest.mark.parametrize("known", [False, True], ids=["at once", "known from a save before"])
def test_what_takes_more_beside_references_is_counted_so_whatever_was_loaded_before(known: bool) -> None:
    codec = CheckpointCodec([*app.ALLOWED, TAGGED])
    many: list[Any] = [Tagged(set(range(number % 7, number % 7 + 120))) for number in range(5_000)]
    if known:
        codec.prove(codec.encode_in_pieces(checkpoint(many)))
    held = app.Point(1)
    encoded = codec.encode_in_pieces(checkpoint([held, held, *many]))
    with pytest.raises(CheckpointDecodeError, match="far more memory or time"):
        codec.decode(encoded.raw)
    with pytest.raises(CheckpointDecodeError, match="far more memory or time"):
        codec.prove(encoded)


def test_tables_of_which_the_clock_tells_what_they_take_are_loaded_each_time() -> None:
    codec = _codec()
    table = Counted(1, held=dict.fromkeys(range(0, 10_000, 7)))
    assert [_loads(codec, [table, Counted(2)]), _loads(codec, [table, Counted(2)])] == [2, 1]


class Made:
    """Is built by another class, so that only what is expected of it names it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Builder, (1,)


class Builder:
    def __new__(cls, number: int) -> Any:
        return Made()


def test_an_upcaster_of_a_class_that_is_built_by_another_counts_too() -> None:
    keys = [f"{__name__}:Made", f"{__name__}:Builder"]
    value = checkpoint([Made()])
    CheckpointCodec(keys).prove(CheckpointCodec(keys).encode_in_pieces(value))
    later: list[Upcaster] = []
    codec = CheckpointCodec(keys)
    codec.prove(codec.encode_in_pieces(value))
    later.append(Upcaster(keys[0], to=keys[1]))
    codec._upcasters = CheckpointCodec(keys, upcasters=later)._upcasters
    encoded = codec.encode_in_pieces(value)
    assert _outcome(lambda: codec.prove(encoded)) == _outcome(lambda: codec.decode(encoded.raw)) is not None


def test_what_was_long_not_used_is_loaded_again_and_what_was_used_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_MOST", 10)
    codec = _codec()
    assert _loads(codec, [Counted(0), Counted(1)]) == 2
    for start in range(10, 100, 5):
        assert _loads(codec, [Counted(0), *(Counted(number) for number in range(start, start + 5))]) == 5
    assert _loads(codec, [Counted(0), Counted(1)]) == 1


def test_a_conversation_costs_the_messages_that_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, made = _codec(), [0]
    restore = Content.__setstate__

    def count(self: Content, state: Any) -> None:
        made[0] += 1
        restore(self, state)

    monkeypatch.setattr(Content, "__setstate__", count)
    messages = [Message("user", [f"number {number}"]) for number in range(50)]
    codec.prove(codec.encode_in_pieces(checkpoint({"cache": messages[:49]})))
    before = made[0]
    codec.prove(codec.encode_in_pieces(checkpoint(deepcopy({"cache": messages}))))
    assert made[0] - before == (1 if before else 0)


def _outcome(work: Callable[[], object]) -> str | None:
    try:
        work()
    except CheckpointDecodeError as error:
        return str(error)
    return None


@st.composite
def _checkpoints(draw: st.DrawFn) -> list[WorkflowCheckpoint]:
    """Some that hold the same values, here and there, now and then as one object, in plain lists and in objects."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    makers = rng.sample(list(VALUES.values()), 4)
    made = [make() for make in makers]

    def value(depth: int) -> Any:
        chosen = rng.choice(made) if rng.random() < 0.5 else rng.choice(makers)()
        around = rng.randrange(6) if depth < 3 else 0
        inner: list[Callable[[], Any]] = [
            lambda: chosen,
            lambda: [value(depth + 1), value(depth + 1)],
            lambda: {"a": value(depth + 1), "b": 1},
            lambda: (value(depth + 1), chosen),
            lambda: app.Point(value(depth + 1), chosen),
            lambda: {1: value(depth + 1)},
        ]
        return inner[around]()

    return [checkpoint([value(0) for _ in range(rng.randrange(1, 4))]) for _ in range(3)]


@given(_checkpoints())
def test_the_proof_says_what_loading_all_of_it_would(checkpoints: list[WorkflowCheckpoint]) -> None:
    warm = _codec()
    for each in checkpoints:
        encoded = warm.encode_in_pieces(each)
        cold = _codec()
        whole = _outcome(lambda encoded=encoded: _codec().decode(encoded.raw))
        assert _outcome(lambda encoded=encoded: warm.prove(encoded)) == whole
        assert _outcome(lambda cold=cold, each=each: cold.prove(cold.encode_in_pieces(each))) == whole


@given(_checkpoints())
def test_in_pieces_it_is_the_same_bytes_as_in_one(checkpoints: list[WorkflowCheckpoint]) -> None:
    codec = _codec()
    for each in checkpoints:
        encoder = Encoder(codec._gate, set(), careful=True)
        node, shapes = encoder.tree(each.to_dict()), Shapes(codec._stored)
        recorded = {key: shape.node for key, cls in encoder.classes.items() if (shape := shapes.of(cls))}
        assert codec.encode(each) == Root(node, recorded).packed()
