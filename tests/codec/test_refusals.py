"""What the codec cannot keep it refuses, and says where; how deep values may be; classes that move on."""

from __future__ import annotations

import copyreg
import enum
import importlib
import sys
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    WorkflowEvent,
    WorkflowMessage,
)

from eventckpt import (
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
)
from eventckpt.codec import MAX_DEPTH
from eventckpt.codec.tree import read_tree
from tests import checkpoint_types as app
from tests import refused_types as refused
from tests.fidelity import checkpoint, loaded

from .values import BARE, CODEC

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
    state = {"orders": [{"items": {7: app.Holder([1, refused.Unlisted()])}}]}
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        CODEC.encode(checkpoint(state))
    message = str(caught.value)
    assert caught.value.type_key == "tests.refused_types:Unlisted"
    assert "SqliteCheckpointStorage(…, allowed_checkpoint_types=['tests.refused_types:Unlisted'])" in message
    assert "register_checkpoint_type" in message
    assert "checkpoint['state']['value']['orders'][0]['items'][int key 0].value[1]" in message


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": refused.Unlisted()}}, "['a']['b']"),
        ([0, refused.Unlisted()], "[1]"),
        ((0, (refused.Unlisted(),)), "[1][0]"),
        ({"a": 1, 5: refused.Unlisted()}, "[int key 1]"),
        ({refused.UnlistedKey(): 1}, "[UnlistedKey key 0]"),
        (app.Point(1, [refused.Unlisted()]), ".y[0]"),
        (app.Pair(1, refused.Unlisted()), "[1]"),
        ({refused.UnlistedKey()}, "{…}"),
        (deque([0, refused.Unlisted()]), "[1]"),
        (OrderedDict(a=refused.Unlisted()), "[str key 0]"),
        (app.Outer.Inner(refused.Unlisted()), ".value"),
        (app.KeywordOnly(region=refused.Unlisted()), ".region"),
        (app.Items([refused.Unlisted()]), "[0]"),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_a_refusal_says_where(value: Any, path: str) -> None:
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        CODEC.encode(checkpoint(value))
    assert "".join(caught.value.path) == f"checkpoint['state']['value']{path}"
    assert str(caught.value).endswith(f"(at checkpoint['state']['value']{path})")


def test_a_place_is_found_in_messages_and_pending_requests_too() -> None:
    in_messages = checkpoint(1, messages={"a": [WorkflowMessage(refused.Unlisted(), "b")]})
    with pytest.raises(CheckpointTypeNotAllowedError, match=r"at checkpoint\['messages'\]\['a'\]\[0\]\.data"):
        CODEC.encode(in_messages)
    event = WorkflowEvent.request_info("r", "asker", refused.Unlisted(), bool)
    with pytest.raises(CheckpointTypeNotAllowedError, match=r"\['pending_request_info_events'\]\['r'\]\.data"):
        CODEC.encode(checkpoint(1, pending_request_info_events={"r": event}))


@pytest.mark.parametrize(
    "value",
    [
        refused.Unlisted(),
        [refused.Unlisted],
        app.Outer.Unlisted(),
        refused.UnlistedColour.RED,
        refused.UnlistedModel(),
        refused.UnlistedError("no"),
        refused.UnlistedPair(),
        refused.UnlistedItems(),
        refused.UnlistedTable(),
        app.Holder(refused.UnlistedName("x")),
        ValueError("no"),
        {refused.UnlistedKey(): 1},
        {refused.UnlistedKey()},
        defaultdict(refused.Unlisted),
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
        CODEC.encode(checkpoint(refused.ReducesToFunction()))


def test_a_state_that_cannot_be_read_is_refused_with_the_reason() -> None:
    with pytest.raises(CheckpointEncodeError, match=r"CannotBeRead' cannot be taken apart.*RuntimeError: not now"):
        CODEC.encode(checkpoint(refused.CannotBeRead()))
    with pytest.raises(CheckpointEncodeError, match=r"lock.*at checkpoint\['state'\]\['value'\]\.lock"):
        CODEC.encode(checkpoint(refused.HasLock()))


def test_a_class_that_cannot_be_rebuilt_fails_with_the_reason() -> None:
    with pytest.raises(CheckpointDecodeError, match="CannotBeRebuilt' cannot be rebuilt: RuntimeError: state of"):
        loaded(CODEC, refused.CannotBeRebuilt())
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
    with pytest.raises(CheckpointEncodeError, match=r"refused_types:Reduces'.*at checkpoint"):
        CODEC.encode(checkpoint(app.Holder(refused.Reduces(reduced))))


def test_a_class_in_c_that_hides_its_content_is_refused_even_when_allowed() -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    codec = CheckpointCodec(["sqlite3:Connection"])
    with pytest.raises(CheckpointEncodeError, match="sqlite3:Connection' cannot be taken apart"):
        codec.encode(checkpoint(connection))
    connection.close()


def test_local_classes_and_replaced_classes_are_refused() -> None:
    with pytest.raises(CheckpointTypeNotAllowedError, match="defined inside a function"):
        CODEC.encode(checkpoint(refused.local_class()()))
    with pytest.raises(CheckpointTypeNotAllowedError, match="is not the class that this name leads to"):
        CODEC.encode(checkpoint(refused.FirstReplaced()))


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
