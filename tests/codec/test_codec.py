"""The codec keeps values as they are, types and bytes: which come back, and what is written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import (
    WorkflowCheckpoint,
    WorkflowEvent,
    WorkflowMessage,
)

from eventckpt import (
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointTypeNotAllowedError,
)
from eventckpt.codec.root import opened
from tests import checkpoint_types as app
from tests import refused_types as refused
from tests.fidelity import assert_same, checkpoint, loaded

from .values import CODEC, PLACES, VALUES, customer, error_with_attributes


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(name: str, place: str) -> None:
    raw = CODEC.encode(checkpoint(PLACES[place](VALUES[name]())))
    again = CODEC.decode(raw)
    assert_same(PLACES[place](VALUES[name]()), again.state["value"])
    assert CODEC.encode(again) == raw


def test_every_field_of_a_checkpoint_comes_back() -> None:
    event = WorkflowEvent.request_info("r-1", "asker", app.Point(1), str)
    original = WorkflowCheckpoint(
        workflow_name="orders",
        graph_signature_hash="abc",
        checkpoint_id="c-2",
        previous_checkpoint_id="c-1",
        timestamp="2026-01-01T00:00:00+00:00",
        messages={"a": [WorkflowMessage(app.Point(1), "b")]},
        state={"_executor_state": {"a": {"n": 1}}},
        pending_request_info_events={"r-1": event},
        iteration_count=3,
        metadata={"superstep": 3},
        version="1.1",
    )
    again = CODEC.decode(CODEC.encode(original))
    assert type(again) is WorkflowCheckpoint
    assert_same(original.to_dict(), again.to_dict())


def test_encoding_leaves_the_checkpoint_alone() -> None:
    value = {name: make() for name, make in VALUES.items()}
    CODEC.encode(checkpoint([value, value]))
    assert_same({name: make() for name, make in VALUES.items()}, value)


def test_native_values_are_native_messagepack() -> None:
    """Anyone can read what is native with any MessagePack library."""
    value = {"a": [None, True, 1, -1.5, "text", b"bytes", {}]}
    root = msgspec.msgpack.decode(CODEC.encode(checkpoint(value)))
    assert root["$"] == "checkpoint"
    assert root["s"]["state"] == {"value": value}
    assert set(root["s"]) == {*WorkflowCheckpoint.__dataclass_fields__}


def test_a_private_attribute_of_a_pydantic_model_survives() -> None:
    assert loaded(CODEC, customer()).visits == 2


def test_what_a_pydantic_model_was_given_is_still_told_from_defaults() -> None:
    again = loaded(CODEC, customer())
    assert again.model_fields_set == {"name", "address", "notes"}
    assert loaded(CODEC, app.Customer(name="a", address=again.address)).model_fields_set == {"name", "address"}


def test_a_private_slot_survives() -> None:
    assert loaded(CODEC, app.Slots(1, 2)).hidden == "yes"


def test_state_left_out_is_made_anew() -> None:
    again = loaded(CODEC, app.Connection("db"))
    assert again.lock.acquire(blocking=False)


def test_a_bounded_deque_stays_bounded() -> None:
    again = loaded(CODEC, deque([1, 2], maxlen=2))
    again.append(3)
    assert list(again) == [2, 3]


def test_a_defaultdict_still_makes_defaults() -> None:
    assert loaded(CODEC, defaultdict(app.Items))["new"] == app.Items()


def test_the_notes_of_an_exception_survive_and_its_traceback_does_not() -> None:
    try:
        raise error_with_attributes()
    except app.AppError as error:
        again = loaded(CODEC, error)
    assert (again.args, again.__notes__, again.details) == (("no", 1), ["a note"], {"at": [1]})
    assert again.__traceback__ is None


def test_an_object_that_reduces_to_another_type_comes_back_as_that() -> None:
    again = loaded(CODEC, app.Holder(app.Celsius(0.0)))
    assert again.value == app.Kelvin(273.15)


def test_an_object_that_reduces_to_another_type_is_refused_at_a_plain_position() -> None:
    """`FileCheckpointStorage` checks the type of what it reads there, and only there."""
    with pytest.raises(CheckpointDecodeError, match=r"checkpoint_types:Celsius' comes back as .*:Kelvin'"):
        loaded(CODEC, app.Celsius(0.0))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (refused.UnlistedName("text"), "text"),
        (refused.UnlistedNumber(5), 5),
        (refused.UnlistedNumber(2**70), 2**70),
        (refused.UnlistedRatio(0.5), 0.5),
        (refused.UnlistedLevel.LOW, 1),
        (refused.UnlistedKind.A, "a"),
    ],
)
def test_a_subclass_of_a_native_that_nobody_allowed_becomes_plain_where_json_would_do(
    value: Any, expected: Any
) -> None:
    again = loaded(CODEC, {"at": [value], "key": {value: 1}})
    assert_same({"at": [expected], "key": {expected: 1}}, again)
    with pytest.raises(CheckpointTypeNotAllowedError):
        loaded(CODEC, app.Holder(value))


# Stable bytes


def _everything() -> dict[str, Any]:
    return {name: make() for name, make in VALUES.items()}


@pytest.mark.slow
def test_equal_checkpoints_have_equal_bytes_in_every_process() -> None:
    """Sets and hashes of text differ from process to process; bytes must not."""
    program = (
        "import hashlib; from tests.codec import test_codec as t; "
        "print(hashlib.sha256(t.CODEC.encode(t.checkpoint(t._everything()))).hexdigest())"
    )
    digests = {hashlib.sha256(CODEC.encode(checkpoint(_everything()))).hexdigest()}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_a_loaded_checkpoint_has_the_bytes_it_was_loaded_from() -> None:
    raw = CODEC.encode(checkpoint(_everything()))
    assert CODEC.encode(CODEC.decode(raw)) == raw


def test_two_codecs_write_the_same_bytes() -> None:
    other = CheckpointCodec(reversed(app.ALLOWED))
    assert other.encode(checkpoint(_everything())) == CODEC.encode(checkpoint(_everything()))


def test_the_order_in_which_a_set_was_filled_does_not_show() -> None:
    elements = [*range(40), *map(str, range(40)), None, 2.5, (1, "a"), (1, 2), b"x", app.FrozenPoint(1), app.Colour.RED]
    for kind in (set, frozenset, app.Tags, app.FrozenTags):
        assert CODEC.encode(checkpoint(kind(elements))) == CODEC.encode(checkpoint(kind(reversed(elements))))


def test_elements_of_a_set_that_refer_outside_it_have_a_fixed_order() -> None:
    outside = [app.Version([n]) for n in range(30)]
    elements = [app.FrozenPoint(outside[n * 7 % 30], app.Pair(outside[n], n % 5)) for n in range(30)]
    one = CODEC.encode(checkpoint({"outside": outside, "elements": set(elements)}))
    elements.reverse()
    assert CODEC.encode(checkpoint({"outside": outside, "elements": set(elements)})) == one
    assert CODEC.encode(CODEC.decode(one)) == one


def test_objects_in_a_set_keep_what_they_share() -> None:
    shared = [1]
    nodes = {app.Node(str(n)) for n in range(20)}
    for node in nodes:
        node.children.append(shared)
    again = loaded(CODEC, {"before": shared, "nodes": nodes})
    assert len(again["nodes"]) == 20
    assert all(node.children[0] is again["before"] for node in again["nodes"])


def test_objects_in_a_set_that_share_inside_themselves_have_a_fixed_order() -> None:
    def encoded(order: range) -> bytes:
        outside: list[Any] = []
        nodes = {n: app.Node(f"{n % 4}") for n in order}
        for n, node in nodes.items():
            inside = [n % 5]
            node.children += [[[n]] * (n % 3), inside, outside, inside]  # type: ignore[list-item]
        return CODEC.encode(checkpoint([outside, set(nodes.values())]))

    assert encoded(range(40)) == encoded(range(39, -1, -1))


@pytest.mark.parametrize("wrap", [lambda inner: inner, app.FrozenPoint, app.Pair], ids=["alone", "objects", "tuples"])
def test_sets_inside_sets_cost_no_more_than_they_hold(wrap: Callable[[Any], Any]) -> None:
    """Each level must be walked a few times at most: were it twice for each level above, this would never end."""
    nested: frozenset[Any] = frozenset({1, "a"})
    for n in range(60):
        nested = frozenset({wrap(nested), n, str(n)})
    assert loaded(CODEC, nested) == nested


# What is written

_LEAF = {
    "$": "tests.checkpoint_types:Node",
    "s": {
        "name": "b",
        "parent": {"$": "tests.checkpoint_types:Tree", "c": ["a", {"$": "ref", "i": 1}], "i": 2},
        "children": [],
    },
}
_FORMS: dict[str, tuple[Any, Any]] = {
    "int": (2**64, {"$": "int", "b": b"\x01" + bytes(8)}),
    "negative_int": (-(2**63) - 1, {"$": "int", "b": b"\xff\x7f" + b"\xff" * 7}),
    "str": ("\ud800", {"$": "str", "b": b"\xed\xa0\x80"}),
    "bytearray": (bytearray(b"x"), {"$": "bytearray", "b": b"x"}),
    "tuple": ((1, (2,)), {"$": "tuple", "l": [1, {"$": "tuple", "l": [2]}]}),
    "set": ({2, 1}, {"$": "set", "l": [1, 2]}),
    "frozenset": (frozenset("ba"), {"$": "frozenset", "l": ["a", "b"]}),
    "dict": ({1: "a", "b": 2}, {"$": "dict", "d": [[1, "a"], ["b", 2]]}),
    "dollar": ({"$": 1}, {"$": "dict", "d": [["$", 1]]}),
    "type": (app.Point, {"$": "type", "n": "tests.checkpoint_types:Point"}),
    "none_type": (type(None), {"$": "builtins:type", "c": [None]}),
    "enum": (app.Colour.GREEN, {"$": "tests.checkpoint_types:Colour", "c": ["green"]}),
    "enum_by_name": (app.ByName.LOCAL, {"$": "enum", "t": "tests.checkpoint_types:ByName", "n": "LOCAL"}),
    "instance": (app.Point(1, "a"), {"$": "tests.checkpoint_types:Point", "s": {"x": 1, "y": "a"}}),
    "empty_instance": (object(), {"$": "builtins:object"}),
    "nested_class": (app.Outer.Inner(1), {"$": "tests.checkpoint_types:Outer.Inner", "s": {"value": 1}}),
    "slots": (
        app.SlottedPoint(1, 2),
        {"$": "tests.checkpoint_types:SlottedPoint", "s": {"$": "tuple", "l": [None, {"x": 1, "y": 2}]}},
    ),
    "frozen_slots": (app.FrozenSlottedPoint(1, 2), {"$": "tests.checkpoint_types:FrozenSlottedPoint", "s": [1, 2]}),
    "new": (app.Pair(1, 2), {"$": "tests.checkpoint_types:Pair", "a": [1, 2]}),
    "new_with_keywords": (
        app.KeywordOnly(region="w"),
        {
            "$": "tests.checkpoint_types:KeywordOnly",
            "k": {"region": "w", "size": 1},
            "s": {"made_with": {"$": "tuple", "l": ["w", 1]}},
        },
    ),
    "call": (Decimal("1.10"), {"$": "decimal:Decimal", "c": ["1.10"]}),
    "items": (deque([1], 2), {"$": "collections:deque", "c": [{"$": "tuple", "l": []}, 2], "l": [1]}),
    "pairs": (OrderedDict(a=1), {"$": "collections:OrderedDict", "c": [], "d": [["a", 1]]}),
    "old_protocol": (
        app.OldProtocol("a"),
        {"$": "tests.checkpoint_types:OldProtocol", "b": "builtins:object", "a": [None], "s": {"label": "a"}},
    ),
    "another_type": (
        app.Shape(4),
        {"$": "tests.checkpoint_types:Shape", "c": [4], "t": "tests.checkpoint_types:Square"},
    ),
    "shared": (
        [(shared := [1]), (both := {"a": shared}), shared, both, (point := app.Borg({})), point],
        [
            {"$": "list", "l": [1], "i": 1},
            {"$": "dict", "d": [["a", {"$": "ref", "i": 1}]], "i": 2},
            {"$": "ref", "i": 1},
            {"$": "ref", "i": 2},
            {"$": "tests.checkpoint_types:Borg", "i": 3},
            {"$": "ref", "i": 3},
        ],
    ),
    "own_argument": (
        app.Tree("a").add(app.Node("b")).parent,
        {"$": "ref", "c": ["a", {"$": "list", "l": [_LEAF], "i": 1}], "i": 2},
    ),
}
"""Values, and what stands for them in the bytes: what was stored once has to be readable for ever."""


@pytest.mark.parametrize("name", _FORMS)
def test_a_value_is_written_in_the_form_that_it_always_had(name: str) -> None:
    value, form = _FORMS[name]
    assert opened(CODEC.encode(checkpoint(value))).fields["state"]["value"] == form


@pytest.mark.parametrize("name", _FORMS)
def test_a_form_is_read_as_the_value_that_it_always_was(name: str) -> None:
    value, form = _FORMS[name]
    assert_same(value, CODEC.decode(msgspec.msgpack.encode(checkpoint(form).to_dict())).state["value"])
