"""Whatever `FileCheckpointStorage` of the framework saves we save, and whatever it refuses we refuse.

Its decision is that of `save`. Ours is that of a save, too: the codec encodes, and decodes what it encoded. The
differences that are left are deliberate, and `DIFFERENCES` is the one list of them.
"""

from __future__ import annotations

import collections
import concurrent.futures
import copyreg
import fractions
import functools
import http
import io
import ipaddress
import itertools
import logging
import operator
import pathlib
import random
import re
import signal
import sqlite3
import sys
import threading
import types
import typing
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import agent_framework
import pytest
from agent_framework import FileCheckpointStorage, Message, WorkflowCheckpointException

from eventckpt import CheckpointCodec
from eventckpt.codec import MAX_DEPTH
from tests import checkpoint_types as app
from tests import refused_types as refused
from tests.codec.values import VALUES
from tests.fidelity import assert_same, checkpoint

LIBRARY_TYPES = [
    "_thread:RLock",
    "_thread:lock",
    "builtins:ExceptionGroup",
    "builtins:ValueError",
    "builtins:ellipsis",
    "builtins:function",
    "builtins:generator",
    "builtins:memoryview",
    "collections:UserDict",
    "fractions:Fraction",
    "functools:partial",
    "http:HTTPStatus",
    "ipaddress:IPv4Address",
    "logging:Logger",
    "pathlib:PurePosixPath",
    "random:Random",
    "re:Pattern",
    "re:RegexFlag",
    "signal:Signals",
    "sqlite3:Connection",
    "types:GenericAlias",
    "types:SimpleNamespace",
    "zoneinfo:ZoneInfo",
]
"""Types of the standard library that some application may have allowed."""

ALLOWED = [*app.ALLOWED, *LIBRARY_TYPES]
CODEC = CheckpointCodec(ALLOWED)


def reduced(*parts: Any) -> Callable[[], Any]:
    return lambda: refused.Reduces(parts)


def _with(change: Callable[[Any], object], value: Any) -> Any:
    change(value)
    return value


def _closed_connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.close()
    return connection


def _cyclic_under_a_reserved_key() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["__type__"] = loop
    return loop


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = (value,)
    return value


def _hash_that_needs_the_state() -> Any:
    """An object is put into a dict before it has the attributes that its hash is made of."""
    node = app.Node("x")
    point = app.FrozenPoint(node)
    node.children.append({point: 1})
    return point


@typing.no_type_check
def _generator() -> Iterator[int]:
    yield 1


OTHERS: dict[str, Callable[[], Any]] = {
    # types that nobody allowed, at any position
    "an_unlisted_dataclass": refused.Unlisted,
    "an_unlisted_model": refused.UnlistedModel,
    "an_unlisted_enum": lambda: refused.UnlistedColour.RED,
    "an_unlisted_exception": lambda: refused.UnlistedError("no"),
    "an_unlisted_named_tuple": refused.UnlistedPair,
    "an_unlisted_list": lambda: refused.UnlistedItems([1]),
    "an_unlisted_dict": lambda: refused.UnlistedTable({1: 2}),
    "an_unlisted_nested_class": app.Outer.Unlisted,
    "an_unlisted_generic_model": lambda: app.Box(content=1),
    "an_unlisted_str": lambda: refused.UnlistedName("x"),
    "an_unlisted_int": lambda: refused.UnlistedNumber(1),
    "an_unlisted_float": lambda: refused.UnlistedRatio(1.0),
    "an_unlisted_int_enum": lambda: refused.UnlistedLevel.LOW,
    "an_unlisted_str_enum": lambda: refused.UnlistedKind.A,
    "an_unlisted_str_as_a_key": lambda: {refused.UnlistedName("x"): 1},
    "an_unlisted_key": lambda: {refused.UnlistedKey(1): 1},
    "a_function_as_a_key": lambda: {refused.make_one: 1},
    "an_unlisted_type": lambda: refused.Unlisted,
    "an_unlisted_default": lambda: collections.defaultdict(refused.Unlisted),
    "a_local_class": refused.local_class,
    "an_instance_of_a_local_class": lambda: refused.local_class()(),
    "a_replaced_class": lambda: refused.FirstReplaced(),
    "its_replacement": lambda: refused.Replaced(),
    # the standard library, not allowed
    "a_path": lambda: pathlib.PurePosixPath("/x"),
    "a_windows_path": lambda: pathlib.PureWindowsPath("x"),
    "a_fraction": lambda: fractions.Fraction(1, 3),
    "a_key_error": lambda: KeyError("x"),
    "a_value_error": lambda: ValueError("x"),
    "an_exception_group": lambda: ExceptionGroup("m", [ValueError("x")]),
    "a_zoned_datetime": lambda: datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "a_zone": lambda: zoneinfo.ZoneInfo("UTC"),
    "a_namespace": lambda: types.SimpleNamespace(a=1),
    "a_partial_of_a_type": lambda: functools.partial(int, base=2),
    "a_partial_of_a_function": lambda: functools.partial(refused.make_one),
    "a_user_dict": lambda: collections.UserDict({1: 2}),
    "a_random": lambda: random.Random(1),
    "a_logger": lambda: logging.getLogger("x"),
    "an_address": lambda: ipaddress.ip_address("127.0.0.1"),
    "an_http_status": lambda: http.HTTPStatus.OK,
    "an_exported_enum": lambda: signal.SIGINT,
    "a_regex": lambda: re.compile("x"),
    "a_regex_flag": lambda: re.IGNORECASE,
    "a_generic_alias": lambda: list[int],
    "a_union": lambda: int | str,
    "an_optional": lambda: typing.Optional[int],  # noqa: UP045 - another object than `int | None`
    "a_type_variable": lambda: app.T,
    # what is no data
    "a_function": lambda: refused.make_one,
    "a_lambda": lambda: lambda: 0,
    "a_builtin_function": lambda: len,
    "a_bound_method": lambda: app.Node("x").add,
    "a_bound_builtin": lambda: [].append,
    "a_class_method": lambda: app.Address.model_validate,
    "an_enum_class_method": lambda: app.Colour.__call__,
    "a_module": lambda: sys,
    "a_lock": threading.Lock,
    "a_reentrant_lock": threading.RLock,
    "an_event": threading.Event,
    "a_thread": threading.Thread,
    "a_generator": _generator,
    "an_iterator": lambda: iter([1]),
    "a_zip": lambda: zip([1], strict=True),
    "a_count": itertools.count,
    "a_stream": lambda: io.BytesIO(b"x"),
    "a_connection": _closed_connection,
    "a_memory_view": lambda: memoryview(b"x"),
    "a_mapping_proxy": lambda: types.MappingProxyType({}),
    "dict_keys": lambda: {}.keys(),
    "a_weak_reference": lambda: weakref.ref(app.Point),
    "an_item_getter": lambda: operator.itemgetter(1),
    "a_property": property,
    "code": lambda: refused.make_one.__code__,
    "a_frame": sys._getframe,
    "a_future": concurrent.futures.Future,
    "an_ellipsis": lambda: ...,
    "not_implemented": lambda: NotImplemented,
    "types_that_are_not_allowed": lambda: [Exception, types.FunctionType, typing.Any],
    "the_type_of_ellipsis": lambda: type(...),
    "the_type_of_none": lambda: type(None),
    "an_object_with_a_lock": refused.HasLock,
    # the copy protocol
    "another_type": lambda: app.Celsius(1.0),
    "a_type_of_which_a_subclass_comes_back": lambda: app.Shape(4),
    "a_native": lambda: app.ToNative(int, 5),
    "a_native_list": lambda: app.ToNative(list, range(5)),
    "a_native_from_a_decimal": lambda: app.ToNative(int, Decimal(3)),
    "a_native_of_some_size": lambda: app.ToNative(bytes, 3),
    "an_unlisted_type_to_call": reduced(refused.Unlisted, ()),
    "a_type_of_the_library_to_call": lambda: app.ToNative(io.StringIO, "x"),
    "a_function_to_call": refused.ReducesToFunction,
    "eval_to_call": reduced(eval, ("1",)),
    "an_exception_with_other_arguments": lambda: app.UnreplayableError("no", 1),
    "a_state_that_cannot_be_read": refused.CannotBeRead,
    "a_state_that_cannot_be_set": refused.CannotBeRebuilt,
    "a_state_setter": refused.StateSetter,
    "a_global_name": lambda: refused.SINGLETON,
    "an_endless_reduction": app.Endless,
    "no_tuple": lambda: refused.Reduces(None),
    "an_empty_tuple": reduced(),
    "no_arguments": reduced(app.Point),
    "arguments_in_a_list": reduced(app.Point, [1]),
    "nothing_callable": reduced(5, ()),
    "seven_parts": reduced(app.Point, (1,), None, None, None, None, None),
    "six_parts": reduced(app.Point, (1,), None, None, None, None),
    "items_in_a_list": reduced(app.Items, (), None, [1]),
    "items_for_a_class_without_append": lambda: refused.Reduces((app.Point, (1,), None, iter([1]))),
    "dict_items_that_are_no_pairs": lambda: refused.Reduces((app.Table, (), None, None, iter([5]))),
    "dict_items": lambda: refused.Reduces((app.Table, (), None, None, iter([(1, 2)]))),
    "a_false_state": reduced(app.Point, (1,), 0),
    "a_state_of_pairs": reduced(app.Point, (1,), [("x", 5)]),
    "a_state_of_slots": reduced(app.Point, (1,), (None, {"x": 5})),
    "a_state_of_half_slots": reduced(app.Point, (1,), ({"x": 5}, None)),
    "a_state_with_int_keys": reduced(app.Point, (1,), {1: 2}),
    "a_state_for_slots_without_a_dict": reduced(app.SlottedPoint, (1,), {"x": 2}),
    "an_attribute": reduced(getattr, (app.Point, "x")),
    "no_attribute": reduced(getattr, (app.Colour, "PINK")),
    "a_member_of_an_enum": reduced(getattr, (app.Colour, "RED")),
    "the_wrong_class_for_new": reduced(copyreg.__newobj__, app.Point),
    "the_reconstructor": reduced(copyreg._reconstructor, (app.Point, object, None)),
    "a_long_range": reduced(app.Point, (range(10**12),)),
    # sharing and cycles
    "a_list_that_holds_itself": lambda: _with(lambda loop: loop.append(loop), []),
    "a_dict_that_holds_itself": lambda: _with(lambda loop: loop.update(a=loop), {}),
    "an_int_dict_that_holds_itself": lambda: _with(lambda loop: loop.update({1: loop}), {}),
    "a_list_in_a_tuple_that_it_holds": lambda: _with(lambda loop: loop.append((loop,)), []),
    "a_list_in_an_object_that_it_holds": lambda: _with(lambda loop: loop.append(app.Holder(loop)), []),
    "a_cyclic_list_met_in_an_object_first": lambda: _with(
        lambda v: v[1].append(v[1]), (lambda x: [app.Holder(x), x])([])
    ),
    "a_cyclic_list_met_in_an_object_last": lambda: _with(
        lambda v: v[0].append(v[0]), (lambda x: [x, app.Holder(x)])([])
    ),
    "a_deque_that_holds_itself": lambda: _with(lambda loop: loop.append(loop), collections.deque()),
    "a_table_that_holds_itself": lambda: _with(lambda loop: loop.update(a=loop), app.Table()),
    "an_object_that_is_a_key_of_what_it_holds": lambda: _with(
        lambda node: node.children.append({node: 1}), app.Node("x")
    ),
    "a_hash_that_needs_the_state": _hash_that_needs_the_state,
    # the framework
    "a_framework_storage": lambda: FileCheckpointStorage(Path("unused").absolute().parent),
    "a_framework_message_with_a_lock": lambda: Message("user", ["x"], additional_properties={"lock": threading.Lock()}),
    "a_framework_function": lambda: agent_framework.handler,
    "a_framework_nested_class": lambda: agent_framework.WorkflowAgent.RequestInfoFunctionArgs("r", None),
}


class Difference(NamedTuple):
    accepted_by: Literal["us", "File"]
    places: str
    """Names of `PLACES` where it holds; where else the two agree."""
    why: str


_KEYS = "File turns the key into its str() without a word; a load would give another dict."
_JSON = "File fails to write it as JSON text. Nothing is wrong with the value."
_FUNCTION = "File's loader cannot call the function that rebuilds it; here it is a kind of its own."
_TRUST = "Data could fill memory, make classes, or change what the whole process shares."
_NOT_AN_INSTANCE = "An object that comes back as a class, or as None: only a reducer of its own could do that."
_KEPT_TYPE = (
    "We keep the type of an allowed str, int or float where File drops it, so it has to be one that can come back."
)
_INSTANCE = "File's loader asks the half-made instance for __setstate__; Python looks special methods up in the class."
_RESERVED = "File stores a dict with its own marker keys, or with keys that JSON would merge, as it does objects."

DIFFERENCES: dict[str, Difference] = {
    # (a) keys of a type that is not allowed
    "an_unlisted_key": Difference("File", "plain listed", _KEYS),
    "a_function_as_a_key": Difference("File", "plain listed", _KEYS),
    # (b) depth
    "nesting_beyond_the_limit": Difference("File", "plain listed held in_a_tuple", f"MAX_DEPTH is {MAX_DEPTH}."),
    # what File cannot write
    "lone_surrogates": Difference("us", "plain listed", _JSON),
    "lone_surrogates_in_a_subclass": Difference("us", "plain listed", _JSON),
    "an_int_of_ten_thousand_digits": Difference("us", "plain listed", _JSON),
    # what only hostile data or a reducer written by hand asks for
    "a_class_to_make": Difference("File", "held in_a_tuple", _TRUST),
    "a_class_to_make_with_a_metaclass": Difference("File", "held in_a_tuple", _TRUST),
    "a_list_of_a_long_range": Difference("File", "held in_a_tuple", _TRUST),
    "a_huge_int_from_a_decimal": Difference("File", "held in_a_tuple", _TRUST),
    "a_constructor_of_another_class": Difference("File", "held in_a_tuple", _TRUST),
    "a_state_for_an_enum_member": Difference("File", "held in_a_tuple", _TRUST),
    "a_nested_class_by_getattr": Difference("File", "held in_a_tuple", _NOT_AN_INSTANCE),
    "none_by_its_type": Difference("File", "held in_a_tuple", _NOT_AN_INSTANCE),
    "a_native_list": Difference("File", "held in_a_tuple", _TRUST),
    "a_native_from_a_decimal": Difference("File", "held in_a_tuple", _TRUST),
    "a_native_of_some_size": Difference("File", "held in_a_tuple", _TRUST),
    # what the standard library rebuilds by a function
    "a_zoned_datetime": Difference("us", "plain listed held in_a_tuple", _FUNCTION),
    "a_zone": Difference("us", "plain listed held in_a_tuple", _FUNCTION),
    "a_union": Difference("us", "plain listed held in_a_tuple", _FUNCTION),
    "an_optional": Difference("us", "plain listed held in_a_tuple", _FUNCTION),
    "an_ellipsis": Difference("us", "plain listed held in_a_tuple", _FUNCTION),
    # positions
    "an_allowed_str_that_cannot_come_back": Difference("File", "plain listed", _KEPT_TYPE),
    "an_unlisted_str_beside_a_reserved_key": Difference("us", "plain listed", _RESERVED),
    "an_unlisted_str_beside_keys_json_would_merge": Difference("us", "plain listed", _RESERVED),
    "a_cycle_under_a_reserved_key": Difference("File", "plain listed", _RESERVED),
    # look-up
    "delegating_objects": Difference("us", "plain listed held in_a_tuple", _INSTANCE),
}

DIFFERENT: dict[str, Callable[[], Any]] = {
    "nesting_beyond_the_limit": lambda: _nested(MAX_DEPTH),
    "a_class_to_make": reduced(type, ("X", (), {})),
    "a_class_to_make_with_a_metaclass": reduced(app.Meta, ("X", (), {})),
    "a_list_of_a_long_range": reduced(list, (range(2_000_000),)),
    "a_huge_int_from_a_decimal": reduced(int, (Decimal("1e5000"),)),
    "a_constructor_of_another_class": reduced(copyreg._reconstructor, (app.Point, app.Point, None)),
    "a_state_for_an_enum_member": reduced(app.Colour, (1,), {"mark": 1}),
    "a_nested_class_by_getattr": reduced(getattr, (app.Outer, "Inner")),
    "none_by_its_type": reduced(type(None), ()),
    "an_allowed_str_that_cannot_come_back": lambda: refused.StrictName("a", "b"),
    "an_unlisted_str_beside_a_reserved_key": lambda: {"__pickled__": 1, "x": refused.UnlistedName("x")},
    "an_unlisted_str_beside_keys_json_would_merge": lambda: {1: refused.UnlistedName("x"), "1": 2},
    "a_cycle_under_a_reserved_key": _cyclic_under_a_reserved_key,
}

CASES = VALUES | OTHERS | DIFFERENT

PLACES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda value: value,
    "listed": lambda value: [value],
    "held": app.Holder,
    "in_a_tuple": lambda value: (value,),
}


async def _file_accepts(value: Any, path: Path, allowed: list[str]) -> bool:
    try:
        await FileCheckpointStorage(path, allowed_checkpoint_types=allowed).save(checkpoint(value))
    except Exception:
        return False
    return True


def _we_accept(value: Any, codec: CheckpointCodec) -> bool:
    try:
        codec.decode(codec.encode(checkpoint(value)))
    except WorkflowCheckpointException:
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CASES)
async def test_we_decide_as_the_file_storage_does(name: str, place: str, tmp_path: Path) -> None:
    theirs = await _file_accepts(PLACES[place](CASES[name]()), tmp_path, ALLOWED)
    ours = _we_accept(PLACES[place](CASES[name]()), CODEC)
    difference = DIFFERENCES.get(name)
    if difference is None or place not in difference.places.split():
        assert ours == theirs
    else:
        assert (ours, theirs) == (difference.accepted_by == "us", difference.accepted_by == "File")


@pytest.mark.parametrize("name", [name for name in VALUES if name != "delegating_objects"])
async def test_inside_an_object_we_load_what_the_file_storage_loads(name: str, tmp_path: Path) -> None:
    theirs = FileCheckpointStorage(tmp_path, allowed_checkpoint_types=ALLOWED)
    await theirs.save(checkpoint(app.Holder(VALUES[name]())))
    ours = CODEC.decode(CODEC.encode(checkpoint(app.Holder(VALUES[name]()))))
    assert_same((await theirs.load("c-1")).state, ours.state)


@pytest.mark.parametrize("name", VALUES)
async def test_without_an_allow_list_we_decide_as_the_file_storage_does(name: str, tmp_path: Path) -> None:
    """The built-in set and the framework's own types are the same for both."""
    for place in (app.Holder, lambda value: (value,)):
        theirs = await _file_accepts(place(VALUES[name]()), tmp_path, [])
        assert _we_accept(place(VALUES[name]()), CheckpointCodec()) == theirs


def test_each_difference_is_of_a_case() -> None:
    assert set(DIFFERENCES) <= set(CASES)
    assert set(DIFFERENT) <= set(DIFFERENCES)


async def test_a_type_registered_after_construction_is_allowed_by_both(tmp_path: Path) -> None:
    class_made_now = type("MadeNow", (), {"__module__": app.__name__, "__qualname__": "MadeNow"})
    app.MadeNow = class_made_now
    codec, storage = CheckpointCodec(), FileCheckpointStorage(tmp_path)
    registered = agent_framework._workflows._checkpoint_encoding._REGISTERED_CHECKPOINT_TYPE_KEYS
    try:
        assert not _we_accept(class_made_now(), codec)
        assert not await _file_accepts(class_made_now(), tmp_path, [])
        agent_framework.register_checkpoint_type(class_made_now)
        assert _we_accept(class_made_now(), codec)
        await storage.save(checkpoint(class_made_now()))
    finally:
        registered.discard(f"{app.__name__}:MadeNow")
        del app.MadeNow
