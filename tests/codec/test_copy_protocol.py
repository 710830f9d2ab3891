"""What a form may call is what the reductions of the running Python give for a type of the interpreter: no argument
fewer, or data could not be stored; no argument more, or bytes could choose what a constructor asks of it.
"""

from __future__ import annotations

import copy
import copyreg
import typing
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from agent_framework import AgentResponse, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointCodec, CheckpointDecodeError
from eventckpt.allowlist import INTERPRETER, type_key
from eventckpt.codec.copy_protocol import REDUCTIONS, WRITTEN_AS_KINDS, reduction_of, root_of
from tests import checkpoint_types as app
from tests.fidelity import assert_same, checkpoint, loaded

CODEC = CheckpointCodec(app.ALLOWED)
pack = msgspec.msgpack.encode

_KEYS = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.tuples(st.integers(), st.text(max_size=2)))
_OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds))
_ZONES = st.one_of(
    st.none(),
    _OFFSETS.map(timezone),
    st.tuples(_OFFSETS, st.text(max_size=3)).map(lambda pair: timezone(*pair)),
    st.sampled_from(["Europe/Berlin", "Asia/Tokyo", "UTC"]).map(ZoneInfo),
)
_FACTORIES = st.sampled_from([None, int, list, app.Point, list[int], app.Factory(3)])
_INTS = st.integers(-(2**70), 2**70)

STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    object: st.builds(object),
    int: _INTS,
    float: st.floats(),
    str: st.text(),
    bytes: st.binary(),
    tuple: st.lists(_KEYS).map(tuple),
    complex: st.complex_numbers(),
    list: st.lists(_KEYS),
    dict: st.dictionaries(_KEYS, _KEYS),
    bytearray: st.binary().map(bytearray),
    set: st.sets(_KEYS),
    frozenset: st.frozensets(_KEYS),
    range: st.builds(range, _INTS, _INTS, _INTS.filter(bool)),
    slice: st.builds(slice, st.one_of(_KEYS, st.lists(st.integers())), _KEYS, _KEYS),
    type: st.just(type(None)),
    date: st.dates(),
    time: st.builds(
        lambda value, fold, zone: value.replace(fold=fold, tzinfo=zone), st.times(), st.integers(0, 1), _ZONES
    ),
    datetime: st.builds(
        lambda value, fold, zone: value.replace(fold=fold, tzinfo=zone), st.datetimes(), st.integers(0, 1), _ZONES
    ),
    timedelta: st.timedeltas(),
    timezone: _ZONES.filter(lambda zone: type(zone) is timezone),
    uuid.UUID: st.one_of(st.uuids(), st.just(uuid.uuid1())),
    Decimal: st.decimals(allow_nan=True),
    OrderedDict: st.dictionaries(_KEYS, _KEYS).map(OrderedDict),
    defaultdict: st.builds(defaultdict, _FACTORIES, st.dictionaries(_KEYS, _KEYS)),
    deque: st.builds(deque, st.lists(_KEYS), st.one_of(st.none(), st.integers(0, 9))),
    Counter: st.lists(_KEYS).map(Counter),
}
"""Values of each type that the table names."""

SUBCLASSES: dict[type[Any], type[Any]] = {
    root_of(cls): cls
    for cls in (
        app.Items,
        app.Table,
        app.Tags,
        app.FrozenTags,
        app.Name,
        app.Number,
        app.Ratio,
        app.Version,
        app.Blob,
        app.Buffer,
        app.Recent,
        app.Tally,
        app.Groups,
        app.Steps,
        app.Price,
    )
}
"""A subclass of each type that can have one and that workflows have been seen to store, and its type."""


def _reduced(value: Any) -> tuple[bool, list[Any], Any]:
    """Whether a type is called, with which arguments, and the state that follows."""
    reducer = copyreg.dispatch_table.get(type(value))
    build, args, *rest = reducer(value) if reducer else value.__reduce_ex__(4)
    state = rest[0] if rest else None
    if build is copyreg.__newobj__:
        return False, list(args[1:]), state
    assert build is type(value) or value is type(None)
    return True, list(args), state


def test_the_table_has_every_type_that_is_admitted_and_no_other() -> None:
    functions = {"array:array", "zoneinfo:ZoneInfo"}  # rebuilt by a function: kinds of their own
    no_subclass_or_object = {"builtins:bool"}
    assert {type_key(cls) for cls in REDUCTIONS} == INTERPRETER - functions - no_subclass_or_object
    assert set(STRATEGIES) == set(REDUCTIONS)


@pytest.mark.parametrize("cls", STRATEGIES, ids=type_key)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_reduction_of_a_type_of_the_interpreter_is_in_the_table(cls: type[Any], data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[cls])
    if cls is datetime or cls is time:
        assert type(value) is cls
    called, args, _ = _reduced(value) if cls is not type else (True, [None], None)  # which pickle itself knows
    if cls is type:
        assert REDUCTIONS[type].fits(called, args)
    elif cls not in WRITTEN_AS_KINDS:
        assert reduction_of(type(value)) is REDUCTIONS[cls]
        assert REDUCTIONS[cls].fits(called, args)
    assert_same(loaded(CODEC, value), value)


@pytest.mark.parametrize("cls", SUBCLASSES, ids=type_key)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_reduction_of_a_subclass_is_in_the_table(cls: type[Any], data: st.DataObject) -> None:
    base = data.draw(STRATEGIES[cls])
    made = SUBCLASSES[cls](base.default_factory, base) if cls is defaultdict else SUBCLASSES[cls](base)
    called, args, _ = _reduced(made)
    reduction = reduction_of(type(made))
    assert reduction is REDUCTIONS[cls]
    assert reduction.fits(called, args)
    assert_same(loaded(CODEC, made), made)


class Whatever:
    """Stands for anything that the bytes could put together."""


def _arguments() -> Iterator[list[Any]]:
    """Lists of arguments that no reduction brings to any type: objects, wrong counts, subclasses of what is asked."""
    for value in (
        Whatever(),
        app.Items([1]),
        app.Table({1: 2}),
        app.Name("x"),
        app.Number(1),
        app.Point(1),
        app.Tags({1}),
    ):
        for count in range(1, 4):
            yield [value] * count
            yield [1] * (count - 1) + [value]
    yield [1, 2, 3, 4]
    yield [[], {}, ()]


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("cls", [cls for cls in REDUCTIONS if cls is not slice], ids=type_key)
def test_arguments_that_no_reduction_brings_fit_no_type(cls: type[Any], called: bool) -> None:
    """A slice alone takes anything: it only keeps what it is given."""
    assert not any(REDUCTIONS[cls].fits(called, args) for args in _arguments())


@pytest.mark.parametrize("key", sorted(INTERPRETER))
@pytest.mark.parametrize("field", ["a", "c"])
def test_a_form_with_such_arguments_is_refused(key: str, field: str) -> None:
    point = f"{app.__name__}:Point"
    for args in (
        [{"$": point, "s": {"x": 1}}],
        [{"$": f"{app.__name__}:Items", "l": [1]}],
        [1, 2, 3, 4],
        [[1], {"a": 1}],
    ):
        raw = pack(checkpoint({"$": key, field: args}).to_dict())
        with pytest.raises(CheckpointDecodeError):
            CODEC.decode(raw)


def test_a_slice_keeps_what_it_is_given_and_asks_it_nothing() -> None:
    assert_same(loaded(CODEC, slice(app.Point(1), [2], None)), slice(app.Point(1), [2], None))


KINDS: dict[str, Callable[[], Any]] = {
    "a_zone": lambda: ZoneInfo("Asia/Tokyo"),
    "a_zoned_datetime": lambda: datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "an_array_of_floats": lambda: array("d", [1.5, 2.5]),
    "an_array_of_ints": lambda: array("q", [-1, 2**62]),
    "an_empty_array": lambda: array("B"),
    "an_ellipsis": lambda: ...,
    "an_ellipsis_in_a_list": lambda: [..., (...,)],
}


@pytest.mark.parametrize("place", [lambda v: v, lambda v: [v], lambda v: (v,), app.Holder], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_that_a_function_rebuilds_are_kinds_of_their_own(name: str, place: Callable[[Any], Any]) -> None:
    value = place(KINDS[name]())
    assert_same(loaded(CheckpointCodec([f"{app.__name__}:Holder"]), value), value)


def test_an_array_in_two_places_is_one_array() -> None:
    shared = array("i", [1])
    first, second = loaded(CODEC, [shared, shared])
    assert first is second


def test_a_copied_value_has_the_bytes_of_the_first() -> None:
    for make in KINDS.values():
        assert CODEC.encode(checkpoint(make())) == CODEC.encode(checkpoint(copy.deepcopy(make())))


class Generic(typing.Generic[typing.TypeVar("T")]):
    """A generic class of an application."""


EXPRESSIONS: list[Any] = [
    list[str],
    list[app.Point],
    dict[str, int],
    str | None,
    int | app.Point | None,
    list[int] | None,
    tuple[int, ...],
    tuple[()],
    type[app.Point],
    dict[str, list[app.Point] | None],
    set[frozenset[int]],
    typing.Any,
    typing.Never,
    typing.Literal["yes", "no"],
    typing.Literal[1, True, None, b"x", app.Colour.RED],
    typing.Optional[int],  # noqa: UP045
    typing.Union[int, str],  # noqa: UP007
    typing.List,  # noqa: UP006
    typing.List[int],  # noqa: UP006
    typing.Dict[str, typing.Any],  # noqa: UP006
    typing.Tuple[int, ...],  # noqa: UP006
    typing.Type[app.Point],  # noqa: UP006
    deque[int],
    defaultdict[str, list[int]],
    Generic[int],
    list[None],
    dict[str, None],
    tuple[int, None],
    list[typing.Literal["a"] | None],
]


@pytest.mark.parametrize("place", [lambda v: v, lambda v: [v, v], lambda v: (v,), lambda v: {v: 1}], ids=str)
@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_a_type_expression_comes_back_equal_and_of_its_kind(expression: Any, place: Callable[[Any], Any]) -> None:
    codec = CheckpointCodec([*app.ALLOWED, f"{__name__}:Generic"])
    again = loaded(codec, place(expression))
    assert again == place(expression)
    assert type(loaded(codec, expression)) is type(expression)
    assert codec.encode(checkpoint(place(expression))) == codec.encode(checkpoint(again))


def test_the_type_that_an_instance_of_a_generic_class_was_made_by_comes_back() -> None:
    codec = CheckpointCodec([*app.ALLOWED, f"{__name__}:Generic"])
    made = Generic[int]()
    assert loaded(codec, made).__orig_class__ == Generic[int]
    response = loaded(codec, AgentResponse[app.Address](messages=[Message("user", ["x"])]))
    assert response.__orig_class__ == AgentResponse[app.Address]
    assert response.text == "x"


@pytest.mark.parametrize("make", [app.SlottedPoint, app.Point, app.Slots])
def test_slots_make_a_value_no_deeper(make: Callable[..., Any]) -> None:
    value: Any = 1
    for _ in range(190):
        value = make(value, None)
    again = loaded(CODEC, value)
    depth = 0
    while again != 1:
        again, depth = getattr(again, "x", None) or again.left, depth + 1
    assert depth == 190
