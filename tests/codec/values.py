"""Values of every kind that a checkpoint may hold, each made anew, and codecs for them."""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from agent_framework import (
    AgentResponse,
    AgentSession,
    ChatResponse,
    Content,
    Message,
    WorkflowCheckpointException,
    WorkflowEvent,
    WorkflowMessage,
    WorkflowRunState,
)
from agent_framework.exceptions import AgentException

from eventckpt import (
    CheckpointCodec,
)
from tests import checkpoint_types as app
from tests import refused_types  # noqa: F401 - lists classes of its own, whatever was imported first

CODEC = CheckpointCodec(app.ALLOWED, storage_name="SqliteCheckpointStorage")
BARE = CheckpointCodec()


def customer() -> app.Customer:
    address = app.Address(street="Nørregade", zip_code=1165)
    return app.Customer(name="Ada", address=address, notes={1: "new", -2: "old"}).visit().visit()


def _queue() -> app.Queue:
    queue = app.Queue()
    for job in (1, [2]):
        queue.append(job)
    queue[0] = "zero"
    queue["one"] = 1
    return queue


def error_with_attributes() -> app.AppError:
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
    "pydantic_models": customer,
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
    "exceptions": lambda: [error_with_attributes(), app.DetailedError("no", code=7)],
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
