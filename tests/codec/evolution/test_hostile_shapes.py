"""What stored shapes say is data: whatever they claim, a decode runs nothing, imports nothing and ends soon."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError, Upcaster
from eventckpt.allowlist import type_key
from eventckpt.codec.drift import MAX_TOLD, Drift
from eventckpt.codec.root import Root, opened
from eventckpt.codec.tree import read_tree
from eventckpt.records import ADMITTED
from tests import checkpoint_types as app
from tests.fidelity import checkpoint
from tests.framework_classes import framework_classes
from tests.hostile import PREY, PROOF, raw_with, watched

SECONDS: Final = 10
"""Of the processor: so that what never ends is noticed on any machine."""
CODEC: Final = CheckpointCodec(app.ALLOWED)
WARNED: Final = CheckpointCodec(app.ALLOWED, on_drift="warn")

NOT_ALLOWED: Final = "antigravity:fly"
"""What a process has not imported, and an import of would show."""

SHAPES: Final[dict[str, Any]] = {
    "nothing": None,
    "a number": 1,
    "a text": "dataclass",
    "a list": [["k", "dataclass"]],
    "an empty map": {},
    "a kind alone": {"k": "dataclass"},
    "fields alone": {"f": ["x"]},
    "a kind that is no text": {"k": ["dataclass"], "f": []},
    "a kind that is none": {"k": "executor", "f": ["x"]},
    "a very long kind": {"k": "k" * 100_000, "f": ["x"]},
    "fields that are no list": {"k": "dataclass", "f": "xyz"},
    "fields that are a map": {"k": "dataclass", "f": {"x": 1}},
    "a field that is no text": {"k": "dataclass", "f": [1]},
    "a field that is a form": {"k": "dataclass", "f": [{"$": "type", "n": NOT_ALLOWED}]},
    "a shape that is a form": {"$": NOT_ALLOWED, "k": "dataclass", "f": []},
    "a shape that refers to another": {"$": "ref", "i": 1},
    "fields and members": {"k": "dataclass", "f": [], "m": []},
    "members that are no list": {"k": "enum", "m": {"A": 1}},
    "members that are no pairs": {"k": "enum", "m": [["A"], "B"]},
    "members whose names are no texts": {"k": "enum", "m": [[1, 1]]},
    "private names that are no list": {"k": "pydantic", "f": [], "p": 1},
    "no field at all": {"k": "dataclass", "f": []},
    "a field twice": {"k": "dataclass", "f": ["x", "x"]},
    "names that mean something to Python": {"k": "dataclass", "f": ["__class__", "__dict__", "__setstate__"]},
    "those of a model": {"k": "pydantic", "f": ["__dict__"], "p": ["__class__", "__init__"], "e": True},
    "those of a tuple": {"k": "namedtuple", "f": ["__class__", "__new__"]},
    "those of a struct": {"k": "struct", "f": ["__init__"]},
    "those of a class of attrs": {"k": "attrs", "f": ["__class__"]},
    "those of an enum": {"k": "enum", "m": [["__class__", 1], ["_missing_", 2], ["__members__", "low"]]},
    "a member of a class that is not allowed": {"k": "enum", "m": [["A", {"$": NOT_ALLOWED, "s": {}}]]},
    "a member that is a class that is not allowed": {"k": "enum", "m": [["A", {"$": "type", "n": NOT_ALLOWED}]]},
    "a member that would run code": {"k": "enum", "m": [["A", PREY]]},
    "a member that refers to nothing": {"k": "enum", "m": [["A", {"$": "ref", "i": 1}]]},
    "a flag of members that are no bits": {"k": "flag", "m": [["A", -1], ["B", "x"], ["C", 1 << 62], ["D", None]]},
    "an enum of huge numbers": {"k": "enum", "m": [["A", {"$": "int", "b": b"\x7f" * 10_000}]]},
}
"""What may stand where a shape is to be."""

_DEEP: Any = []
for _ in range(150):
    _DEEP = [_DEEP]
SHAPES["members that nest deeply"] = {"k": "enum", "m": [["A", _DEEP]]}


def _each_claim(key: str) -> Iterator[dict[str, Any]]:
    for shape in SHAPES.values():
        yield {key: shape}


def _decoded(raw: bytes) -> None:
    for codec in (CODEC, WARNED):
        try:
            codec.decode(raw)
        except CheckpointDecodeError:
            continue


def test_whatever_a_shape_claims_of_the_applications_classes_nothing_runs() -> None:
    raws: list[bytes] = []
    for key in app.ALLOWED:
        for state in ({}, {"x": 1, "__class__": 1}, [1, 2], {"__dict__": {"x": 1}}):
            fields = opened(raw_with({"$": key, "s": state})).fields
            raws += [Root(fields, claim).packed() for claim in _each_claim(key)]
        fields = opened(raw_with({"$": key, "c": [1]})).fields
        raws += [Root(fields, claim).packed() for claim in _each_claim(key)]
    _decoded(raws[0])
    with watched() as seen:
        for raw in raws:
            _decoded(raw)
    assert seen == []
    assert "antigravity" not in sys.modules


def test_nor_of_the_classes_of_the_framework() -> None:
    keys = sorted(ADMITTED & framework_classes().keys())
    for key in keys:
        importlib.import_module(key.partition(":")[0])
    raws = [
        Root(opened(raw_with({"$": key, **state})).fields, claim).packed()
        for key in keys
        for state in ({"s": {}}, {"c": [1]}, {"s": {"__dict__": {}}})
        for claim in _each_claim(key)
    ]
    with watched() as seen:
        for raw in raws:
            _decoded(raw)
    assert seen == []
    assert PROOF not in os.environ


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_of_a_class_that_is_not_allowed_imports_nothing(name: str) -> None:
    fields = opened(CODEC.encode(checkpoint(1))).fields
    with watched() as seen:
        _decoded(Root(fields, {NOT_ALLOWED: SHAPES[name], "": 1, ":": [], "x" * 10_000: {}}).packed())
    assert seen == []
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("table", [None, 1, "x", [], [["a", {}]], {"$": "ref", "i": 1}])
def test_a_table_that_is_none_is_refused_or_says_nothing(table: Any) -> None:
    fields = opened(CODEC.encode(checkpoint(1))).fields
    _decoded(msgspec.msgpack.encode({"$": "checkpoint", "s": fields, "h": table}))


@pytest.mark.parametrize(
    "shape",
    [
        {"k": "dataclass", "f": ["x", "x"], "o": True},
        {"k": "pydantic", "f": ["x"], "p": ["_y", "_y"]},
        {"k": "enum", "m": [["GREEN", 1], ["GREEN", 2]]},
        {"k": "enum", "m": [[1, 2]]},
    ],
)
def test_a_record_that_names_something_twice_is_damaged_for_who_loads_and_for_who_looks(shape: dict[str, Any]) -> None:
    key = type_key(app.Point)
    raw = Root(opened(raw_with({"$": key, "s": {"x": 1, "y": 2}})).fields, {key: shape}).packed()
    for read in (CODEC.decode, lambda raw: read_tree(raw, lambda name: True)):
        with pytest.raises(CheckpointDecodeError, match=r"recorded shape of '.*Point' is malformed"):
            read(raw)


MANY: Final = 10_000
POINT, RUN_STATE, MODE = (
    f"{app.__name__}:Point",
    "agent_framework._workflows._events:WorkflowRunState",
    f"{app.__name__}:Mode",
)


def _tuple(number: int) -> Any:
    return {"$": "tuple", "l": [number]}


COSTLY: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "many fields that are gone, of many values": (
        [{"$": POINT, "s": {"x": 1}}] * MANY,
        {POINT: {"k": "dataclass", "f": [f"f{n}" for n in range(MANY)]}},
    ),
    "many members of an enum, for many values": (
        [{"$": RUN_STATE, "c": [_tuple(MANY)]}] * MANY,
        {RUN_STATE: {"k": "enum", "m": [*([f"m{n}", _tuple(n)] for n in range(MANY)), ["IDLE", _tuple(MANY)]]}},
    ),
    "many names of one flag, for many values": (
        [{"$": MODE, "c": [3]}] * MANY,
        {MODE: {"k": "flag", "m": [["FAST", 1], *([f"m{n}", 1 << n % 60 + 2] for n in range(MANY)), ["SAFE", 2]]}},
    ),
    "many members of an enum, for many that were stored by name": (
        [{"$": "enum", "t": RUN_STATE, "n": f"m{n}"} for n in range(MANY)],
        {RUN_STATE: {"k": "enum", "m": [[f"m{n}", n] for n in range(MANY)]}},
    ),
}
"""A value and the shapes beside it, made for a decode to take long."""


@pytest.mark.parametrize("name", COSTLY)
def test_a_decode_ends_soon_whatever_the_shapes_hold(name: str) -> None:
    value, shapes = COSTLY[name]
    raw = Root(opened(raw_with(value)).fields, shapes).packed()
    started = time.process_time()
    _decoded(raw)
    assert time.process_time() - started <= SECONDS


ENUM, MODEL = f"{app.__name__}:Colour", f"{app.__name__}:OpenModel"
_SET: Final = {"$": "set", "l": list(range(60_000)), "i": 1}
_HUGE: Final = {"$": "builtins:range", "c": [0, 10**12, 1]}
_CALLED: Final = {"$": "agent_framework._types:Message", "s": {"keys": {"$": "type", "n": "builtins:list"}}}
"""What `dict` would ask for its keys, by calling what is stored."""


def _model(**state: Any) -> Any:
    return {"$": MODEL, "s": {"__dict__": {"known": 1}, "__pydantic_fields_set__": {"$": "set", "l": []}} | state}


def _equal_models() -> Any:
    """A frozen model that is hashed by its field, and compared by 2^38 lists besides."""
    lists: Any = {"$": "list", "l": [1], "i": 1}
    for label in range(2, 40):
        lists = {"$": "list", "l": [lists, {"$": "ref", "i": label - 1}], "i": label}
    return _model(__pydantic_extra__={"z": lists}, __pydantic_private__=None)


def _of_one_hash(number: int) -> Any:
    return {"$": "tuple", "l": [-1 - (number >> bit & 1) for bit in range(17)]}


REFUSED: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "members of one hash": (
        {"$": ENUM, "c": [1]},
        {ENUM: {"k": "enum", "m": [[f"m{n}", _of_one_hash(n)] for n in range(8_000)]}},
    ),
    "values of the hash of all members": (
        [{"$": ENUM, "c": [_of_one_hash(n)]} for n in range(4_000)],
        {ENUM: {"k": "enum", "m": [["RED", 1], *([f"m{n}", _of_one_hash(n)] for n in range(4_000))]}},
    ),
    "a value that never ends to be compared with a member": (
        {"$": ENUM, "c": [_equal_models()]},
        {ENUM: {"k": "enum", "m": [["RED", _equal_models()]]}},
    ),
    "two members that never end to be compared": (
        {"$": ENUM, "c": [1]},
        {ENUM: {"k": "enum", "m": [["RED", _equal_models()], ["GREEN", _equal_models()]]}},
    ),
    "the names of given fields are numbers without end": (
        _model(__pydantic_fields_set__=_HUGE),
        {MODEL: {"k": "pydantic", "f": ["known", "gone"], "e": True}},
    ),
    "the names of given fields, copied for many models": (
        [_SET, *([_model(__pydantic_fields_set__={"$": "ref", "i": 1})] * 5_000)],
        {MODEL: {"k": "pydantic", "f": ["known", "gone"], "e": True}},
    ),
    "a state that is asked for its keys": (
        {"$": POINT, "s": _CALLED},
        {POINT: {"k": "dataclass", "f": ["x", "y", "gone"]}},
    ),
    "a part of a state that is": (
        {"$": POINT, "s": {"$": "tuple", "l": [_CALLED, {"x": 1}]}},
        {POINT: {"k": "dataclass", "f": ["x", "y", "gone"]}},
    ),
    "the values of a model that are": (
        _model(__pydantic_extra__=_CALLED),
        {MODEL: {"k": "pydantic", "f": ["known", "gone"], "e": True}},
    ),
}
"""What would take a decode far more than its bytes, or have it call what is stored."""


@pytest.mark.parametrize("codec", [CODEC, WARNED])
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_cost_far_more_than_its_bytes_is_refused_before_it_does(name: str, codec: CheckpointCodec) -> None:
    value, shapes = REFUSED[name]
    raw = Root(opened(raw_with(value)).fields, shapes).packed()
    assert len(raw) <= 1_000_000
    started = time.process_time()
    with pytest.raises(CheckpointDecodeError, match=r"far more memory or time|the event is damaged"):
        codec.decode(raw)
    assert time.process_time() - started <= SECONDS


def test_a_value_has_no_more_drifts_told_of_than_a_log_can_take() -> None:
    names = [f"f{number}" for number in range(MANY)]
    value = {"$": POINT, "s": {"x": 1} | dict.fromkeys(names, 1)}
    raw = Root(opened(raw_with(value)).fields, {POINT: {"k": "dataclass", "f": ["x", "y", *names]}}).packed()
    told: list[Drift] = []
    loaded = WARNED.decode(raw, told=told.append).state["value"]
    assert vars(loaded) == {"x": 1}
    assert len(told) == MAX_TOLD + 1
    assert told[-1][:3] == (POINT, "removed", "")
    assert told[-1].text.endswith("More of this class is like that, and is not named.")


@pytest.mark.parametrize("name", COSTLY)
def test_nor_does_an_upcaster_make_it_last(name: str) -> None:
    value, shapes = COSTLY[name]
    raw = Root(opened(raw_with(value)).fields, shapes).packed()
    codec = CheckpointCodec(app.ALLOWED, upcasters=[Upcaster(key, POINT, dict) for key in (RUN_STATE, MODE)])
    started = time.process_time()
    with suppress(CheckpointDecodeError):
        codec.decode(raw)
    assert time.process_time() - started <= SECONDS
