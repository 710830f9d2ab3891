"""The codec keeps values as they are: types, sharing and bytes. What it cannot keep it refuses, and says where."""

from __future__ import annotations

import copyreg
import enum
import hashlib
import importlib
import os
import subprocess
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import (
    AgentResponse,
    AgentSession,
    ChatResponse,
    Content,
    Message,
    WorkflowCheckpoint,
    WorkflowCheckpointException,
    WorkflowEvent,
    WorkflowMessage,
    WorkflowRunState,
)
from agent_framework.exceptions import AgentException

from eventckpt import (
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
)
from eventckpt.codec import MAX_DEPTH
from eventckpt.codec.tree import read_tree
from tests import checkpoint_types as app
from tests.fidelity import assert_same, checkpoint, loaded

CODEC = CheckpointCodec(app.ALLOWED, storage_name="SqliteCheckpointStorage")
BARE = CheckpointCodec()


def _customer() -> app.Customer:
    address = app.Address(street="Nørregade", zip_code=1165)
    return app.Customer(name="Ada", address=address, notes={1: "new", -2: "old"}).visit().visit()


def _queue() -> app.Queue:
    queue = app.Queue()
    for job in (1, [2]):
        queue.append(job)
    queue[0] = "zero"
    queue["one"] = 1
    return queue


def _error_with_attributes() -> app.AppError:
    error = app.AppError("no", 1)
    error.add_note("a note")
    error.details = {"at": [1]}
    return error


def _session() -> AgentSession:
    session = AgentSession(session_id="s-1", service_session_id="resp_1")
    session.state["history"] = [Message("user", ["hello"])]
    return session


def _messages() -> list[Message]:
    return [
        Message("user", ["hello", Content.from_data(b"\x89PNG\x00\xff", "image/png")], message_id="m-1"),
        Message(
            "assistant",
            [
                Content.from_text_reasoning(text="hm"),
                Content.from_function_call("call-1", "weather", arguments={"city": "Köln", "days": 3}),
                Content.from_function_call("call-2", "weather", arguments='{"city": "Bonn"}'),
            ],
            author_name="agent",
        ),
        Message("tool", [Content.from_function_result("call-1", result={"celsius": [21.5, None]})]),
        Message("tool", [Content.from_function_result("call-2", exception="ValueError: no such city")]),
        Message("assistant", [Content.from_error(message="sorry", error_code="500")]),
        Message("assistant", [Content.from_uri("https://example.com/a.png", media_type="image/png")]),
        Message("assistant", [Content.from_usage({"input_token_count": 3, "output_token_count": 4})]),
        Message("assistant", [Content.from_hosted_file("file-1")], additional_properties={"k": {"n": 1}}),
    ]


VALUES: dict[str, Callable[[], Any]] = {
    # natives
    "none": lambda: None,
    "booleans": lambda: [True, False],
    "ints_of_64_bits": lambda: [0, -1, 2**63 - 1, -(2**63), 2**64 - 1],
    "ints_beyond_64_bits": lambda: [2**64, -(2**63) - 1, 10**40, -(10**40), 255 << 64, 1 << 71, -(1 << 71)],
    "an_int_of_ten_thousand_digits": lambda: 10**10_000,
    "floats": lambda: [0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan")],
    "texts": lambda: ["", "plain", "Köln 東京 🙂", "nul \x00 inside", "\U0010ffff"],
    "lone_surrogates": lambda: ["\ud800", "a\udfffb", {"\udc80": "\ud800"}, [["\ud83d"]]],
    "bytes": lambda: [b"", b"\x00\xff", bytes(range(256))],
    "bytearrays": lambda: [bytearray(), bytearray(b"\x00\xff")],
    "nested_lists_and_dicts": lambda: {"a": [{"b": []}, [], {}], "": {"": {"": None}}},
    "int_keys": lambda: {1: "one", -2: "two", 2**70: "big"},
    "keys_that_json_would_merge": lambda: {1: "int", "1": "str", None: "none", "None": "text"},
    "keys_of_many_types": lambda: {True: 1, 2.5: 2, None: 3, (1, "a"): 4, b"x": 5, frozenset({1}): 6, "s": 7},
    "application_keys": lambda: {app.FrozenPoint(1, 2): "point", app.Colour.RED: "red", app.Pair(1, 2): "pair"},
    "types_as_keys": lambda: {int: 1, app.Point: 2},
    "a_dollar_key": lambda: {"$": "tuple", "l": [1, {"$": 1}]},
    "a_dict_like_a_form": lambda: {"$": "builtins:int", "c": ["5"]},
    "dicts_in_their_order": lambda: [{"b": 1, "a": 2}, {"a": 2, "b": 1}],
    "tuples": lambda: [(), (1,), (1, (2, [3])), ((),)],
    "sets": lambda: [set(), {1, 2, 3}, {"b", "a"}, {1, "a", None, 2.5, (1, 2), b"x", frozenset({"q"})}],
    "frozensets": lambda: [frozenset(), frozenset({frozenset({frozenset()}), frozenset({1, "a"})})],
    "sets_of_objects": lambda: {app.FrozenPoint(n % 7, str(n)) for n in range(20)},
    "complex_numbers": lambda: [1j, complex(-0.0, float("inf"))],
    "ranges": lambda: [range(5), range(10, 0, -3), range(10**15)],
    "slices": lambda: [slice(1), slice(None, 2, [3])],
    # the standard library
    "datetimes": lambda: [
        datetime(2026, 1, 2, 3, 4, 5, 678901),
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, fold=1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime.min,
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=23, minutes=59), "far west")),
    ],
    "dates": lambda: [date(2026, 2, 28), date.min, date.max],
    "times": lambda: [time(23, 59, 59, 999999), time(1, fold=1, tzinfo=UTC)],
    "timedeltas": lambda: [timedelta(), timedelta(-1, 5, 7), timedelta.max],
    "timezones": lambda: [UTC, timezone(timedelta(seconds=1)), timezone(timedelta(hours=1), "CET")],
    "decimals": lambda: [
        Decimal("1.10"),
        Decimal("-0"),
        Decimal("NaN"),
        Decimal("sNaN1"),
        Decimal("-Infinity"),
        Decimal("1E+999999"),
    ],
    "uuids": lambda: [uuid.UUID(int=0), uuid.UUID("12345678-1234-5678-1234-567812345678")],
    "deques": lambda: [deque(), deque([1, [2]]), deque([1, 2], maxlen=2), deque(maxlen=0)],
    "counters": lambda: [Counter(), Counter("abca"), Counter({1: -1, (2, 3): 2**65})],
    "defaultdicts": lambda: [defaultdict(list, {1: [2]}), defaultdict(None, {"a": 1}), defaultdict(app.Tags)],
    "ordered_dicts": lambda: [OrderedDict(), OrderedDict([("b", 1), ("a", [2]), (3, 4)])],
    "plain_objects": object,
    # applications
    "dataclasses": lambda: app.Point([1], {"k": 2}),
    "frozen_dataclasses": lambda: app.FrozenPoint([1], {"k": 2}),
    "slotted_dataclasses": lambda: app.SlottedPoint([1], {"k": 2}),
    "frozen_slotted_dataclasses": lambda: app.FrozenSlottedPoint([1], {"k": 2}),
    "inherited_dataclasses": lambda: app.Place(1, y=2, name="here", tags=["a"]),
    "dataclasses_in_dataclasses": lambda: app.Point(app.FrozenPoint(app.SlottedPoint(1)), [app.Place(1)]),
    "pydantic_models": _customer,
    "pydantic_models_with_extra_fields": lambda: app.OpenModel(known=1, other=[2]),
    "generic_pydantic_models": lambda: app.IntBox(content=5),
    "unvalidated_pydantic_models": lambda: app.Address.model_construct(street=5),
    "enum_members": lambda: list(app.Colour),
    "enum_members_by_name": lambda: [app.ByName.LOCAL, (app.ByName.REMOTE,)],
    "int_enum_members": lambda: [app.Level.LOW, app.Level.HIGH],
    "str_enum_members": lambda: [app.Kind.A, app.Kind.B],
    "flags": lambda: [app.Access.READ, app.Access.READ | app.Access.WRITE, app.Access(0)],
    "int_flags": lambda: [app.Mode.FAST, app.Mode.FAST | app.Mode.SAFE, app.Mode(0), app.Mode(12)],
    "named_tuples": lambda: [app.Pair(1), app.Pair([1], app.Pair(2)), app.LegacyPair("a", {"b": 1})],
    "a_named_tuple_of_a_long_range": lambda: app.Pair(range(10**12)),
    "list_subclasses": lambda: app.owned(app.Items([1, [2]])),
    "dict_subclasses": lambda: app.owned(app.Table({1: [2], "a": None})),
    "set_subclasses": lambda: app.owned(app.Tags({"a", "b", 3, None})),
    "frozenset_subclasses": lambda: app.owned(app.FrozenTags({"a", "b", 3})),
    "str_subclasses": lambda: app.owned(app.Name("a")),
    "lone_surrogates_in_a_subclass": lambda: app.owned(app.Name("\ud800")),
    "int_subclasses": lambda: [app.owned(app.Number(3)), app.Number(2**70)],
    "float_subclasses": lambda: app.owned(app.Ratio(-0.0)),
    "tuple_subclasses": lambda: app.owned(app.Version((1, [2]))),
    "bytes_subclasses": lambda: app.owned(app.Blob(b"\x00")),
    "bytearray_subclasses": lambda: app.owned(app.Buffer(b"\x00\xff")),
    "deque_subclasses": lambda: app.owned(app.Recent([1, 2], 2)),
    "counter_subclasses": lambda: app.Tally("aab"),
    "defaultdict_subclasses": lambda: app.Groups(list, {1: [2]}),
    "ordered_dict_subclasses": lambda: app.owned(app.Steps([("b", 1), ("a", 2)])),
    "decimal_subclasses": lambda: app.Price("9.99"),
    "slots": lambda: app.Slots(1, [2]),
    "slots_and_dict": lambda: app.SlotsAndDict(1, [2], {"k": 3}),
    "slots_left_empty": lambda: app.Slots.__new__(app.Slots),
    "slots_with_state_methods": lambda: app.Attrs(1, [2]),
    "state_methods_that_leave_something_out": lambda: app.Connection("localhost"),
    "states_of_any_shape": lambda: [
        app.StateOfAnyShape(state) for state in (None, 0, "", [], {}, {1: 2}, (1, 2), ({"a": 1}, {"b": 2}), [[1]])
    ],
    "attributes_that_are_no_text": lambda: app.Borg({1: "int", "\ud800": "surrogate"}),
    "a_state_with_a_dollar": lambda: app.Borg({"$": "tuple", "l": [1]}),
    "delegating_objects": lambda: app.Delegating([1]),
    "reducing_to_a_call": lambda: app.Money(Decimal("1.10"), "EUR"),
    "reducing_to_a_factory": lambda: [app.Shape(3), app.Shape(4)],
    "new_with_keywords": lambda: app.KeywordOnly(region="west", size=3),
    "new_with_arguments": lambda: [app.Tagged("a"), app.Temperature(21.5, "C")],
    "registered_reducers": lambda: app.Matrix([[1, 2], [3, 4]]),
    "old_protocols": lambda: [app.OldProtocol("a"), app.OldList([1, [2]])],
    "list_and_dict_items_of_any_class": _queue,
    "nested_classes": lambda: [app.Outer.Inner(1), app.Outer.Inner([app.Outer.Inner.Mood.GOOD])],
    "exceptions": lambda: [_error_with_attributes(), app.DetailedError("no", code=7)],
    "types": lambda: [int, type(None), object, type, datetime, app.Point, app.Outer.Inner, app.Colour, app.MadeByMeta],
    "instances_of_a_metaclass": app.MadeByMeta,
    "trees": lambda: app.Node("root").add(app.Node("branch")).add(app.Node("leaf")),
    "trees_that_hold_themselves_as_arguments": lambda: app.Tree("root").add(app.Node("leaf")).parent,
    # the framework
    "messages": _messages,
    "agent_responses": lambda: AgentResponse(messages=_messages(), response_id="r", value={"a": 1}),
    "chat_responses": lambda: ChatResponse(messages=_messages(), response_id="r", finish_reason="stop"),
    "sessions": _session,
    "workflow_messages": lambda: WorkflowMessage(_messages(), "a", "b", trace_contexts=[{"traceparent": "00"}]),
    "request_info_events": lambda: WorkflowEvent.request_info("r-1", "asker", app.Point(1), bool),
    "responses_to_requests": lambda: WorkflowMessage(
        True, "asker", original_request_info_event=WorkflowEvent.request_info("r-1", "asker", app.Outer.Inner(1), bool)
    ),
    "framework_enums": lambda: list(WorkflowRunState),
    "framework_exceptions": lambda: [WorkflowCheckpointException("no"), AgentException("no")],
    "framework_types": lambda: [Message, Content, WorkflowMessage],
}

PLACES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda value: value,
    "in_a_list": lambda value: [value],
    "in_a_tuple": lambda value: (value,),
    "in_an_object": app.Holder,
    "twice": lambda value: {"a": value, "b": value},
    "with_a_huge_int": lambda value: [value, 1 << 64],
}
"""Where a value may stand: the codec treats plain positions, objects and trees with large natives differently."""


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
    fields = msgspec.msgpack.decode(CODEC.encode(checkpoint(value)))
    assert fields["state"] == {"value": value}
    assert set(fields) == {*WorkflowCheckpoint.__dataclass_fields__}


def test_a_private_attribute_of_a_pydantic_model_survives() -> None:
    assert loaded(CODEC, _customer()).visits == 2


def test_what_a_pydantic_model_was_given_is_still_told_from_defaults() -> None:
    again = loaded(CODEC, _customer())
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
        raise _error_with_attributes()
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
        (app.UnlistedName("text"), "text"),
        (app.UnlistedNumber(5), 5),
        (app.UnlistedNumber(2**70), 2**70),
        (app.UnlistedRatio(0.5), 0.5),
        (app.UnlistedLevel.LOW, 1),
        (app.UnlistedKind.A, "a"),
    ],
)
def test_a_subclass_of_a_native_that_nobody_allowed_becomes_plain_where_json_would_do(
    value: Any, expected: Any
) -> None:
    again = loaded(CODEC, {"at": [value], "key": {value: 1}})
    assert_same({"at": [expected], "key": {expected: 1}}, again)
    with pytest.raises(CheckpointTypeNotAllowedError):
        loaded(CODEC, app.Holder(value))


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


# Stable bytes


def _everything() -> dict[str, Any]:
    return {name: make() for name, make in VALUES.items()}


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
    assert msgspec.msgpack.decode(CODEC.encode(checkpoint(value)))["state"]["value"] == form


@pytest.mark.parametrize("name", _FORMS)
def test_a_form_is_read_as_the_value_that_it_always_was(name: str) -> None:
    value, form = _FORMS[name]
    assert_same(value, CODEC.decode(msgspec.msgpack.encode(checkpoint(form).to_dict())).state["value"])


# Depth

_NESTINGS: dict[str, Callable[[Any], Any]] = {
    "lists": lambda inner: [inner],
    "dicts": lambda inner: {"a": inner},
    "dicts_with_int_keys": lambda inner: {1: inner},
    "tuples": lambda inner: (inner,),
    "frozensets": lambda inner: frozenset({inner}),
    "objects": app.Point,
    "slotted_objects": lambda inner: app.FrozenSlottedPoint(inner),
    "named_tuples": app.Pair,
    "deques": lambda inner: deque([inner]),
    "ordered_dicts": lambda inner: OrderedDict(a=inner),
    "calls": lambda inner: app.Money(inner, "EUR"),
    "keywords": lambda inner: app.KeywordOnly(region=inner),
    "framework_messages": lambda inner: WorkflowMessage(inner, "a"),
}
_LEVELS_EACH = {"slotted_objects": 2}  # the list that is its state counts, too
_ABOVE = 2  # the checkpoint's fields and its state


@pytest.mark.parametrize("kind", _NESTINGS)
@pytest.mark.parametrize(
    "around", [lambda value: value, lambda value: [(shared := [1]), shared, value]], ids=["", "shared"]
)
def test_any_nesting_up_to_the_limit_can_be_saved_loaded_and_looked_at(kind: str, around: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range((MAX_DEPTH - 2 * _ABOVE) // _LEVELS_EACH.get(kind, 1)):
        value = _NESTINGS[kind](value)
    raw = CODEC.encode(checkpoint(around(value)))
    assert CODEC.encode(CODEC.decode(raw)) == raw
    assert "state" in read_tree(raw, lambda key: True)


@pytest.mark.parametrize("kind", _NESTINGS)
def test_nesting_beyond_the_limit_is_refused_at_save(kind: str) -> None:
    value: Any = (1,)
    for _ in range(MAX_DEPTH):
        value = _NESTINGS[kind](value)
    with pytest.raises(CheckpointEncodeError, match=f"more than {MAX_DEPTH}"):
        CODEC.encode(checkpoint(value))


def test_exactly_the_limit_is_what_fits() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = (value,)
        return value

    fits = MAX_DEPTH - _ABOVE
    assert loaded(CODEC, nested(fits)) == nested(fits)
    with pytest.raises(CheckpointEncodeError, match="nests more than"):
        CODEC.encode(checkpoint(nested(fits + 1)))


def test_a_call_without_stack_left_is_an_error_of_ours() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 2 * _ABOVE):
        value = app.Pair(value)
    raw = CODEC.encode(checkpoint(value))

    def deep(frames: int, call: Callable[[], Any]) -> Any:
        return deep(frames - 1, call) if frames else call()

    room = sys.getrecursionlimit() // 2
    with pytest.raises(CheckpointEncodeError, match="stack"):
        deep(room, lambda: CODEC.encode(checkpoint(value)))
    with pytest.raises(CheckpointDecodeError, match="stack"):
        deep(room, lambda: CODEC.decode(raw))


# Refusals


def test_a_refusal_names_the_key_the_storage_and_the_place() -> None:
    state = {"orders": [{"items": {7: app.Holder([1, app.Unlisted()])}}]}
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        CODEC.encode(checkpoint(state))
    message = str(caught.value)
    assert caught.value.type_key == "tests.checkpoint_types:Unlisted"
    assert "SqliteCheckpointStorage(…, allowed_checkpoint_types=['tests.checkpoint_types:Unlisted'])" in message
    assert "register_checkpoint_type" in message
    assert "checkpoint['state']['value']['orders'][0]['items'][int key 0].value[1]" in message


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": app.Unlisted()}}, "['a']['b']"),
        ([0, app.Unlisted()], "[1]"),
        ((0, (app.Unlisted(),)), "[1][0]"),
        ({"a": 1, 5: app.Unlisted()}, "[int key 1]"),
        ({app.UnlistedKey(): 1}, "[UnlistedKey key 0]"),
        (app.Point(1, [app.Unlisted()]), ".y[0]"),
        (app.Pair(1, app.Unlisted()), "[1]"),
        ({app.UnlistedKey()}, "{…}"),
        (deque([0, app.Unlisted()]), "[1]"),
        (OrderedDict(a=app.Unlisted()), "[str key 0]"),
        (app.Outer.Inner(app.Unlisted()), ".value"),
        (app.KeywordOnly(region=app.Unlisted()), ".region"),
        (app.Items([app.Unlisted()]), "[0]"),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_a_refusal_says_where(value: Any, path: str) -> None:
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        CODEC.encode(checkpoint(value))
    assert "".join(caught.value.path) == f"checkpoint['state']['value']{path}"
    assert str(caught.value).endswith(f"(at checkpoint['state']['value']{path})")


def test_a_place_is_found_in_messages_and_pending_requests_too() -> None:
    in_messages = checkpoint(1, messages={"a": [WorkflowMessage(app.Unlisted(), "b")]})
    with pytest.raises(CheckpointTypeNotAllowedError, match=r"at checkpoint\['messages'\]\['a'\]\[0\]\.data"):
        CODEC.encode(in_messages)
    event = WorkflowEvent.request_info("r", "asker", app.Unlisted(), bool)
    with pytest.raises(CheckpointTypeNotAllowedError, match=r"\['pending_request_info_events'\]\['r'\]\.data"):
        CODEC.encode(checkpoint(1, pending_request_info_events={"r": event}))


@pytest.mark.parametrize(
    "value",
    [
        app.Unlisted(),
        [app.Unlisted],
        app.Outer.Unlisted(),
        app.UnlistedColour.RED,
        app.UnlistedModel(),
        app.UnlistedError("no"),
        app.UnlistedPair(),
        app.UnlistedItems(),
        app.UnlistedTable(),
        app.Holder(app.UnlistedName("x")),
        ValueError("no"),
        {app.UnlistedKey(): 1},
        {app.UnlistedKey()},
        defaultdict(app.Unlisted),
        Path("here"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused_at_load_is_refused_at_save_with_the_same_words(value: Any) -> None:
    with pytest.raises(CheckpointTypeNotAllowedError) as at_save:
        CODEC.encode(checkpoint(value))
    trusting = CheckpointCodec([*app.ALLOWED, at_save.value.type_key])
    with pytest.raises(CheckpointTypeNotAllowedError) as at_load:
        CODEC.decode(trusting.encode(checkpoint(value)))
    assert at_load.value.type_key == at_save.value.type_key
    assert at_load.value.message == at_save.value.message


def test_the_key_in_a_refusal_is_the_one_to_add() -> None:
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        BARE.encode(checkpoint(app.Outer.Inner(5)))
    assert loaded(CheckpointCodec([caught.value.type_key]), app.Outer.Inner(5)) == app.Outer.Inner(5)


def _cyclic_list() -> list[Any]:
    loop: list[Any] = [1]
    loop.append({"deeper": loop})
    return loop


def _cyclic_dict() -> dict[Any, Any]:
    loop: dict[Any, Any] = {1: "one"}
    loop["again"] = [loop]
    return loop


@pytest.mark.parametrize(
    ("make", "path"), [(_cyclic_list, "[1]['deeper']"), (_cyclic_dict, "[str key 1][0]")], ids=["list", "dict"]
)
def test_a_plain_container_that_holds_itself_is_refused(make: Callable[[], Any], path: str) -> None:
    with pytest.raises(CheckpointEncodeError, match="holds itself") as caught:
        CODEC.encode(checkpoint(make()))
    assert "".join(caught.value.path) == f"checkpoint['state']['value']{path}"


@pytest.mark.parametrize("order", [("held", "plain"), ("plain", "held")])
def test_a_cyclic_plain_container_is_refused_whatever_came_first(order: tuple[str, str]) -> None:
    loop = _cyclic_list()
    places = {"held": app.Holder(loop), "plain": loop}
    with pytest.raises(CheckpointEncodeError, match="holds itself") as caught:
        CODEC.encode(checkpoint({name: places[name] for name in order}))
    assert "".join(caught.value.path) == "checkpoint['state']['value']['plain'][1]['deeper']"


def test_a_function_is_refused_with_its_place() -> None:
    with pytest.raises(CheckpointEncodeError, match=r"function.*\(at checkpoint\['state'\]\['value'\]\.value\)"):
        CODEC.encode(checkpoint(app.Holder(len)))


def test_a_reducer_that_calls_a_function_is_refused() -> None:
    with pytest.raises(CheckpointEncodeError, match=r"make_one.*is not a type.*__reduce__"):
        CODEC.encode(checkpoint(app.ReducesToFunction()))


def test_a_state_that_cannot_be_read_is_refused_with_the_reason() -> None:
    with pytest.raises(CheckpointEncodeError, match=r"CannotBeRead' cannot be taken apart.*RuntimeError: not now"):
        CODEC.encode(checkpoint(app.CannotBeRead()))
    with pytest.raises(CheckpointEncodeError, match=r"lock.*at checkpoint\['state'\]\['value'\]\.lock"):
        CODEC.encode(checkpoint(app.HasLock()))


def test_a_class_that_cannot_be_rebuilt_fails_with_the_reason() -> None:
    with pytest.raises(CheckpointDecodeError, match="CannotBeRebuilt' cannot be rebuilt: RuntimeError: state of"):
        loaded(CODEC, app.CannotBeRebuilt())
    with pytest.raises(CheckpointDecodeError, match="UnreplayableError' cannot be rebuilt: TypeError"):
        loaded(CODEC, app.UnreplayableError("no", 1))


def test_an_object_whose_only_argument_is_itself_is_refused() -> None:
    with pytest.raises(CheckpointEncodeError, match="nests more than"):
        CODEC.encode(checkpoint(app.Endless()))


@pytest.mark.parametrize(
    "reduced",
    [
        None,
        5,
        "NAME",
        (),
        (app.Point,),
        (app.Point, [1]),
        (app.Point, None),
        (5, ()),
        (len, ()),
        (getattr, ()),
        (getattr, (app.Point, "x")),
        (getattr, (app.Colour, "PINK")),
        (getattr, (app.Colour, [])),
        (app.Items, (), None, 5),
        (app.Items, (), None, [1]),
        (app.Table, (), None, None, iter([5])),
        (app.Table, (), None, None, iter([(1, 2, 3)])),
        (app.Items, (), None, (1 / 0 for _ in "a")),
        (app.Items, (), None, ("\ud800".encode() for _ in "a")),
        (app.Point, (1,), None, None, None, setattr),
        (app.Point, (1,), None, None, None, None, None),
    ],
    ids=lambda reduced: repr(reduced).partition(" at 0x")[0],
)
def test_a_reducer_that_breaks_the_copy_protocol_is_refused(reduced: Any) -> None:
    with pytest.raises(CheckpointEncodeError, match=r"checkpoint_types:Reduces'.*at checkpoint"):
        CODEC.encode(checkpoint(app.Holder(app.Reduces(reduced))))


def test_a_class_in_c_that_hides_its_content_is_refused_even_when_allowed() -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    codec = CheckpointCodec(["sqlite3:Connection"])
    with pytest.raises(CheckpointEncodeError, match="sqlite3:Connection' cannot be taken apart"):
        codec.encode(checkpoint(connection))
    connection.close()


def test_local_classes_and_replaced_classes_are_refused() -> None:
    with pytest.raises(CheckpointTypeNotAllowedError, match="defined inside a function"):
        CODEC.encode(checkpoint(app.local_class()()))
    with pytest.raises(CheckpointTypeNotAllowedError, match="is not the class that this name leads to"):
        CODEC.encode(checkpoint(app.FirstReplaced()))


def test_a_container_that_changes_meanwhile_is_an_error_of_ours() -> None:
    state: dict[str, Any] = {}

    class Growing(enum.Enum):  # a class that nobody allowed, met while its dict is walked
        ONE = 1

        def __reduce_ex__(self, protocol: Any) -> Any:
            state[str(len(state))] = 1
            return list, ()

    state["first"] = Growing.ONE
    with pytest.raises(CheckpointEncodeError, match="dictionary changed size"):
        CODEC.encode(checkpoint(state))


# Classes that move on


def test_a_reducer_registered_later_is_used() -> None:
    assert loaded(CODEC, app.Node("a")).name == "a"
    copyreg.pickle(app.Node, lambda node: (app.Node, (f"{node.name}, by its reducer",)))  # type: ignore[arg-type]
    try:
        assert loaded(CODEC, app.Node("a")).name == "a, by its reducer"
    finally:
        del copyreg.dispatch_table[app.Node]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Writes the source of one module and imports it, again where it was imported before."""
    name = f"app_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    return write


def test_a_reloaded_class_is_stored_and_loaded_as_the_new_one(module: Callable[[str], Any]) -> None:
    """As in a notebook, where a cell with a class runs again while the storage lives on."""
    first = module("class State:\n    pass\n")
    codec = CheckpointCodec([f"{first.__name__}:State"])
    old = first.State()
    assert type(loaded(codec, old)) is type(old)
    second = module("class State:\n    version = 2\n")
    assert loaded(codec, second.State()).version == 2
    with pytest.raises(CheckpointTypeNotAllowedError, match="Was its module reloaded"):
        codec.encode(checkpoint(old))


def test_a_class_that_is_gone_is_a_clear_error_at_load(module: Callable[[str], Any]) -> None:
    first = module("class State:\n    pass\n")
    codec = CheckpointCodec([f"{first.__name__}:State"])
    raw = codec.encode(checkpoint(first.State()))
    del module("").State
    with pytest.raises(CheckpointDecodeError, match=r"State' is allowed, but cannot be imported.*alias"):
        codec.decode(raw)


def test_a_renamed_class_loads_through_its_old_name(module: Callable[[str], Any]) -> None:
    first = module("class Old:\n    pass\n")
    codec = CheckpointCodec([f"{first.__name__}:Old"])
    value = first.Old()
    value.x = 1
    raw = codec.encode(checkpoint(value))
    second = module("class New:\n    pass\nOld = New\n")
    again = CheckpointCodec([f"{first.__name__}:Old"]).decode(raw).state["value"]
    assert type(again) is second.New
    assert again.x == 1
