"""Stored bytes may come from anyone. Decoding them gives data or an error of ours: never another exception, never
code that runs, a module that is imported, or memory and time out of all proportion to the bytes.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import FileCheckpointStorage, WorkflowCheckpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventckpt import CheckpointCodec, CheckpointDecodeError, CheckpointTypeNotAllowedError
from tests import checkpoint_types as app
from tests.codec.values import VALUES
from tests.fidelity import checkpoint

CODEC = CheckpointCodec(app.ALLOWED)
OURS = (CheckpointDecodeError, CheckpointTypeNotAllowedError)

APP = "tests.checkpoint_types"
FILE_STORAGE = "agent_framework._workflows._checkpoint:FileCheckpointStorage"

pack = msgspec.msgpack.encode


def raw_with(node: Any) -> bytes:
    """The bytes of a checkpoint that holds this form."""
    return pack(checkpoint(node).to_dict())


def decoded(node: Any) -> Any:
    return CODEC.decode(raw_with(node)).state["value"]


def test_these_forms_are_what_the_codec_reads() -> None:
    """The control: were `raw_with` wrong, all refusals below would mean nothing."""
    assert decoded({"$": f"{APP}:Point", "s": {"x": {"$": "tuple", "l": [1]}, "y": 2}}) == app.Point((1,), 2)
    assert decoded({"$": f"{APP}:Money", "c": [{"$": "decimal:Decimal", "c": ["1"]}, "EUR"]}).currency == "EUR"
    assert decoded([{"$": "set", "l": [1], "i": 1}, {"$": "ref", "i": 1}]) == [{1}, {1}]


# Bytes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x00",
        b"not messagepack at all",
        b"\x80\x04N.",  # a pickle
        b"\xff" * 100,
        b"\x90",
        b"\xa1",
        b"\xa1\xff",
        b"\xc0",
        pack("text"),
        pack(b"bytes"),
        pack([]),
        pack({}),
        pack({"workflow_name": "w"}),
        pack({"workflow_name": "w", "graph_signature_hash": "h", "other": 1}),
        pack({"$": "tuple", "l": []}),
        pack({"$": "dict", "d": [[1, 2]]}),
        pack({"$": f"{APP}:Point"}),
        pack({"$": "type", "n": "builtins:int"}),
    ],
    ids=lambda raw: raw[:20].hex() or "nothing",
)
def test_bytes_that_are_no_checkpoint_are_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw)


def test_every_truncation_is_refused() -> None:
    raw = CODEC.encode(checkpoint([app.Point(1), {1: (2, "text")}, b"bytes", {"a", "b"}]))
    for size in range(len(raw)):
        with pytest.raises(CheckpointDecodeError):
            CODEC.decode(raw[:size])


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(CheckpointDecodeError, match="trailing"):
        CODEC.decode(raw_with(1) + b"\x00")


@pytest.mark.parametrize(
    "node",
    [
        msgspec.msgpack.Ext(5, b"x"),
        msgspec.msgpack.Ext(-128, b""),
        datetime(2026, 1, 1, tzinfo=UTC),
        {1: 2},
        {None: 1},
        {b"key": 1},
        {1.5: 1},
        {True: 1},
        {"a": {"b": {2: 1}}},
        [{"a": datetime(2026, 1, 1, tzinfo=UTC)}],
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", [lambda node: node, lambda node: {"$": f"{APP}:Point", "s": {"x": node}}])
def test_messagepack_that_the_codec_never_writes_is_refused(node: Any, place: Callable[[Any], Any]) -> None:
    with pytest.raises(CheckpointDecodeError):
        decoded(place(node))


@pytest.mark.parametrize(
    "key", [b"\x91\x01", b"\x81\x01\x02", b"\xd6\xff\x00\x00\x00\x00"], ids=["array", "map", "time"]
)
def test_containers_as_map_keys_are_refused(key: bytes) -> None:
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw_with("KEY").replace(b"\xa3KEY", b"\x81" + key + b"\x01"))


# Forms


@pytest.mark.parametrize(
    "node",
    [
        {"$": None},
        {"$": 1},
        {"$": []},
        {"$": {}},
        {"$": True},
        {"$": b"tuple"},
        {"$": ""},
        {"$": "unheard of"},
        {"$": "Tuple", "l": []},
        {"$": "int"},
        {"$": "int", "b": 5},
        {"$": "int", "b": "5"},
        {"$": "str"},
        {"$": "str", "b": "text"},
        {"$": "str", "b": b"\xff"},
        {"$": "bytearray", "b": 10**9},
        {"$": "bytearray", "b": [1]},
        {"$": "tuple"},
        {"$": "tuple", "l": None},
        {"$": "tuple", "l": {"a": 1}},
        {"$": "tuple", "l": "text"},
        {"$": "list"},
        {"$": "list", "l": 5, "i": 1},
        {"$": "set", "l": [[1]]},
        {"$": "set", "l": [{}]},
        {"$": "set", "l": 5},
        {"$": "set", "l": [{"$": f"{APP}:FrozenPoint"}]},
        {"$": "dict", "d": [[{"$": f"{APP}:FrozenPoint"}, 1]]},
        {"$": "frozenset", "l": [{"$": "set", "l": []}]},
        {"$": "dict"},
        {"$": "dict", "d": {}},
        {"$": "dict", "d": [1]},
        {"$": "dict", "d": [[1]]},
        {"$": "dict", "d": [[1, 2, 3]]},
        {"$": "dict", "d": ["ab"]},
        {"$": "dict", "d": [[[], 1]]},
        {"$": "type"},
        {"$": "type", "n": 5},
        {"$": "type", "n": ["builtins:int"]},
        {"$": "enum"},
        {"$": "enum", "t": f"{APP}:Colour"},
        {"$": "enum", "t": f"{APP}:Colour", "n": "PINK"},
        {"$": "enum", "t": f"{APP}:Colour", "n": ["RED"]},
        {"$": "enum", "t": f"{APP}:Colour", "n": "__class__"},
        {"$": "enum", "t": f"{APP}:Point", "n": "x"},
        {"$": "enum", "t": 5, "n": "RED"},
        {"$": "ref"},
        {"$": "ref", "i": 1},
        {"$": "ref", "i": None},
        {"$": "ref", "i": "1"},
        {"$": "ref", "i": [1]},
        {"$": "ref", "i": 1, "a": [{"$": "unheard of"}]},
        {"$": f"{APP}:Point", "s": 5},
        {"$": f"{APP}:Point", "s": [["x", 1]]},
        {"$": f"{APP}:Point", "s": {"$": "tuple", "l": [1, 2]}},
        {"$": f"{APP}:Point", "s": {"$": "tuple", "l": [1, 2, 3]}},
        {"$": f"{APP}:Point", "s": {1: 2}},
        {"$": f"{APP}:Point", "a": 5},
        {"$": f"{APP}:Point", "a": {"x": 1}},
        {"$": f"{APP}:Point", "c": "text"},
        {"$": f"{APP}:Point", "c": [1, 2, 3]},
        {"$": f"{APP}:Point", "k": [1]},
        {"$": f"{APP}:KeywordOnly", "k": {"$": "dict", "d": [[1, 2]]}},
        {"$": f"{APP}:Point", "b": 5, "a": [None]},
        {"$": f"{APP}:Point", "b": "builtins:list", "a": [[]]},
        {"$": f"{APP}:Point", "b": "builtins:object", "a": []},
        {"$": f"{APP}:Point", "l": [1]},
        {"$": f"{APP}:Point", "l": 1},
        {"$": f"{APP}:Point", "d": [["x", 1]]},
        {"$": f"{APP}:Point", "unknown": 1},
        {"$": f"{APP}:Point", "t": f"{APP}:Place"},
        {"$": f"{APP}:Point", "t": 5},
        {"$": f"{APP}:Items", "l": {}},
        {"$": f"{APP}:Table", "d": [[[], 1]]},
        {"$": f"{APP}:Colour", "c": [77]},
        {"$": f"{APP}:Colour"},
        {"$": "builtins:int", "c": ["x"]},
        {"$": "builtins:int", "c": ["9" * 10_000]},
        {"$": "datetime:datetime", "c": [b"short"]},
        {"$": "datetime:timedelta", "c": [10**12]},
        {"$": "decimal:Decimal", "c": ["x"]},
        {"$": "uuid:UUID", "c": ["x"]},
        {"$": "builtins:range", "c": ["a"]},
    ],
    ids=repr,
)
def test_malformed_forms_are_refused(node: Any) -> None:
    for place in (
        node,
        [node],
        {"a": {"b": node}},
        {"$": "tuple", "l": [node]},
        {"$": f"{APP}:Point", "s": {"x": node}},
    ):
        with pytest.raises(CheckpointDecodeError):
            decoded(place)


@pytest.mark.parametrize(
    "nodes",
    [
        [{"$": "ref", "i": 1}, {"$": "set", "l": [], "i": 1}],
        [{"$": "set", "l": [], "i": 1}, {"$": "set", "l": [], "i": 1}],
        [{"$": "list", "l": [], "i": 1}, {"$": f"{APP}:Outer", "i": 1}],
        [{"$": "set", "l": [], "i": 1}, {"$": "ref", "i": 2}],
        [{"$": "set", "l": [], "i": "1"}, {"$": "ref", "i": "1"}],
        [{"$": "set", "l": [], "i": 1.0}, {"$": "ref", "i": 1}],
        [{"$": "tuple", "l": [], "i": 1}, {"$": "ref", "i": 1}],
        [{"$": "tuple", "l": [{"$": "ref", "i": 1}], "i": 1}],
        [{"$": f"{APP}:Money", "c": [{"$": "ref", "i": 1}, "EUR"], "i": 1}],
    ],
    ids=["before", "twice", "twice_an_object", "missing", "text", "float", "immutable", "in_itself", "own_argument"],
)
def test_labels_that_lead_nowhere_or_to_two_places_are_refused(nodes: list[Any]) -> None:
    with pytest.raises(CheckpointDecodeError):
        decoded(nodes)


def test_an_unknown_kind_is_told_from_damage() -> None:
    with pytest.raises(CheckpointDecodeError, match=r"kind 'matrix'.*newer version"):
        decoded({"$": "matrix"})


def test_a_long_name_is_not_repeated_at_length() -> None:
    for node in ({"$": "x" * 10_000}, {"$": "tuple" + "x" * 10_000}, {"$": f"{APP}:Point", "x" * 10_000: 1}):
        with pytest.raises(CheckpointDecodeError) as caught:
            decoded(node)
        assert len(str(caught.value)) < 500


# Types


FORBIDDEN = [
    "os:system",
    "posix:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:exec",
    "builtins:getattr",
    "__builtin__:getattr",
    "builtins:setattr",
    "builtins:__import__",
    "builtins:open",
    "builtins:Exception",
    "builtins:map",
    "builtins:memoryview",
    "builtins:property",
    "builtins:super",
    "builtins:NoneType",
    "builtins:object.__subclasses__",
    "builtins:type.__call__",
    "copyreg:_reconstructor",
    "copyreg:__newobj__",
    "functools:partial",
    "operator:attrgetter",
    "importlib:import_module",
    "pathlib:Path",
    "types:FunctionType",
    "types:CodeType",
    "collections:namedtuple",
    "collections:abc",
    "datetime:sys",
    "uuid:os",
    "uuid:os.system",
    "decimal:Context",
    "tests.refused_types:Unlisted",
    "tests.refused_types:make_one",
    "tests.refused_types:SINGLETON",
    "tests.refused_types:threading",
    f"{APP}:Outer.Unlisted",
    f"{APP}:Point.__class__",
    f"{APP}:Point.__init__",
    f"{APP}:Connection.__init__.__globals__",
    "agent_framework:Message",
    "agent_framework.nowhere:handler",
    "agent_framework._types:Message.from_dict",
    "agent_framework._types:Message.__init__",
    "agent_framework._types:Message.__class__",
    "agent_framework._types:json",
    "agent_framework._workflows._checkpoint:os",
    "agent_framework._workflows._checkpoint:os.system",
    "agent_framework._workflows._checkpoint:Path",
    "agent_framework._workflows._checkpoint_encoding:_RestrictedUnpickler",
    "agent_framework._workflows._checkpoint_encoding:_base64_to_unpickle",
    "agent_framework._workflows._checkpoint_encoding:decode_checkpoint_value",
    "agent_framework._workflows._checkpoint_encoding:pickle",
    "agent_framework._workflows._checkpoint_encoding:EnumMeta",
    "agent_framework.:x",
    "agent_framework..:x",
    "agent_framework._types:",
    "agent_framework_evil:Type",
    "agent_frameworkx.a:Type",
    "openai:OpenAI",
    "openai.types:os",
    "openai.typesx:T",
    "openai.types.\x00:T",
    ":",
    "::",
    "a:",
    ":b",
    " : ",
    "builtins:",
    ":int",
    "builtins: int",
    "builtins:int:",
    "builtins:int.",
    "BUILTINS:INT",
    ".builtins:int",
    "x" * 10_000 + ":" + "y" * 10_000,
]
assert len(set(FORBIDDEN)) == len(FORBIDDEN)


@pytest.mark.parametrize("key", FORBIDDEN, ids=lambda key: ascii(key)[1:60])
def test_names_that_nobody_allowed_are_refused_in_every_role(key: str) -> None:
    before = set(sys.modules)
    for node in (
        {"$": key},
        {"$": key, "c": []},
        {"$": key, "c": ["echo"]},
        {"$": key, "a": ["echo"]},
        {"$": key, "s": {"a": 1}},
        {"$": key, "b": "builtins:object", "a": [None]},
        {"$": f"{APP}:Point", "b": key, "a": [None]},
        {"$": "type", "n": key},
        {"$": "enum", "t": key, "n": "x"},
    ):
        with pytest.raises(OURS):
            decoded(node)
    assert {name for name in set(sys.modules) - before if not name.startswith(("agent_framework", "openai"))} == set()


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported, and must not be."""
    (tmp_path / "eventckpt_trap.py").write_text("class Trap:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "eventckpt_trap"
    sys.modules.pop("eventckpt_trap", None)


@pytest.mark.parametrize(
    "node",
    [
        {"$": "TRAP:Trap"},
        {"$": "TRAP:Trap", "c": []},
        {"$": "TRAP:Trap.Inner", "s": {}},
        {"$": "type", "n": "TRAP:Trap"},
        {"$": "enum", "t": "TRAP:Trap", "n": "X"},
        {"$": f"{APP}:Point", "b": "TRAP:Trap", "a": [None]},
        {"$": f"{APP}:Point", "t": "TRAP:Trap"},
    ],
    ids=repr,
)
def test_a_module_of_a_type_that_is_not_allowed_is_never_imported(node: dict[str, Any], trap: str) -> None:
    node = {key: item.replace("TRAP", trap) if isinstance(item, str) else item for key, item in node.items()}
    with pytest.raises(OURS):
        decoded(node)
    assert trap not in sys.modules
    allowing = CheckpointCodec([f"{trap}:Trap"])
    allowing.decode(raw_with({"$": f"{trap}:Trap"}))
    assert trap in sys.modules, "the trap would not have caught anything"


def test_an_allowed_module_that_fails_to_import_is_an_error_of_ours(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "eventckpt_broken.py").write_text("raise OSError('no disk')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    codec = CheckpointCodec(["eventckpt_broken:State", "eventckpt_nowhere:State"])
    with pytest.raises(CheckpointDecodeError, match="OSError: no disk"):
        codec.decode(raw_with({"$": "eventckpt_broken:State"}))
    with pytest.raises(CheckpointDecodeError, match="ModuleNotFoundError"):
        codec.decode(raw_with({"$": "eventckpt_nowhere:State"}))


@pytest.mark.parametrize("fields", [{"c": ["DIR"]}, {"b": FILE_STORAGE, "a": ["DIR"]}], ids=["called", "as_its_base"])
def test_constructors_of_framework_classes_do_not_run(fields: dict[str, Any], tmp_path: Path) -> None:
    """`FileCheckpointStorage(path)` makes a folder: allowed as a type, but nobody asked for its constructor."""
    folder = tmp_path / "made"
    node = msgspec.json.decode(msgspec.json.encode({"$": FILE_STORAGE, **fields}).replace(b"DIR", str(folder).encode()))
    with pytest.raises(CheckpointDecodeError):
        decoded(node)
    assert not folder.exists()
    FileCheckpointStorage(folder)
    assert folder.exists(), "the constructor would not have shown"


def test_a_framework_class_that_says_itself_how_it_is_rebuilt_may_be_called() -> None:
    again = decoded({"$": "agent_framework.exceptions:AgentException", "c": ["no"]})
    assert again.args == ("no",)


@pytest.mark.parametrize(
    "node",
    [
        {"$": "builtins:type", "c": ["X", {"$": "tuple", "l": []}, {}]},
        {"$": "builtins:type", "c": ["X", {"$": "tuple", "l": [{"$": "type", "n": "builtins:object"}]}, {"a": 1}]},
        {"$": "builtins:type", "a": ["X", {"$": "tuple", "l": []}, {}]},
        {"$": "builtins:type", "c": [5]},
        {"$": "builtins:type", "c": []},
        {"$": "builtins:type", "c": [None, None]},
        {"$": "builtins:type"},
        {"$": "builtins:type", "s": {}},
        {"$": "builtins:type", "b": "builtins:object", "a": [None]},
        {"$": "builtins:type", "c": [None], "s": {"x": 1}},
        {"$": "builtins:type", "c": [None], "l": [1]},
        {"$": f"{APP}:Meta", "c": ["X", {"$": "tuple", "l": []}, {}]},
        {"$": f"{APP}:Meta", "a": ["X", {"$": "tuple", "l": []}, {}]},
        {"$": f"{APP}:Meta", "s": {}},
    ],
    ids=repr,
)
def test_no_form_makes_or_changes_a_class(node: Any) -> None:
    with pytest.raises(CheckpointDecodeError):
        decoded(node)


@pytest.mark.parametrize("name", ["__class__", "__dict__"])
def test_a_state_cannot_turn_an_object_into_another(name: str) -> None:
    other = {"$": "type", "n": f"{APP}:Place"}
    with pytest.raises(CheckpointDecodeError, match=f"sets {name}"):
        decoded({"$": f"{APP}:Point", "s": {"$": "tuple", "l": [None, {name: other}]}})
    again = decoded({"$": f"{APP}:Point", "s": {name: other, "x": 1}})
    assert type(again) is app.Point


@pytest.mark.parametrize("member", [{"c": [1]}, {"c": [1], "t": f"{APP}:Colour"}])
@pytest.mark.parametrize("state", [{"_value_": 2}, {"$": "tuple", "l": [None, {"_value_": 2}]}], ids=["dict", "slots"])
def test_a_state_cannot_change_an_enum_member(member: dict[str, Any], state: Any) -> None:
    with pytest.raises(CheckpointDecodeError, match="the whole process shares"):
        decoded({"$": f"{APP}:Colour", **member, "s": state})
    assert app.Colour.RED.value == 1


# Memory and time


BOMBS = {
    "a_list_of_four_billion": b"\xdd\xff\xff\xff\xff",
    "lists_in_lists": b"\xdd\x00\xff\xff\xff" * 150,
    "a_map_of_four_billion": b"\xdf\xff\xff\xff\xff",
    "maps_in_maps": b"\xdf\x00\xff\xff\xff\xa1k" * 150,
    "a_text_of_four_gigabytes": b"\xdb\xff\xff\xff\xff",
    "bytes_of_four_gigabytes": b"\xc6\xff\xff\xff\xff",
    "an_extension_of_four_gigabytes": b"\xc9\xff\xff\xff\xff\x05",
    "a_list_made_of_a_range": {"$": "builtins:list", "c": [{"$": "builtins:range", "c": [10**12]}]},
    "a_tuple_made_of_a_range": {"$": "builtins:tuple", "c": [{"$": "builtins:range", "c": [10**12]}]},
    "a_set_made_of_a_range": {"$": "builtins:set", "c": [{"$": "builtins:range", "c": [10**12]}]},
    "a_deque_made_of_a_range": {"$": "collections:deque", "c": [{"$": "builtins:range", "c": [10**12]}, 1]},
    "a_counter_made_of_a_range": {"$": "collections:Counter", "c": [{"$": "builtins:range", "c": [10**12]}]},
    "a_list_subclass_made_of_a_range": {"$": f"{APP}:Items", "c": [{"$": "builtins:range", "c": [10**12]}]},
    "a_tuple_subclass_made_of_a_range": {"$": f"{APP}:Version", "a": [{"$": "builtins:range", "c": [10**12]}]},
    "an_old_list_made_of_a_range": {
        "$": f"{APP}:OldList",
        "b": "builtins:list",
        "a": [{"$": "builtins:range", "c": [10**12]}],
    },
    "a_range_without_a_length": {"$": "builtins:list", "c": [{"$": "builtins:range", "c": [2**64 - 1]}]},
    "many_ranges": [{"$": "builtins:list", "c": [{"$": "builtins:range", "c": [10**6]}]}] * 1000,
    "bytes_made_of_a_size": {"$": "builtins:bytes", "c": [10**11]},
    "new_bytes_made_of_a_size": {"$": "builtins:bytes", "a": [10**11]},
    "a_bytearray_made_of_a_size": {"$": "builtins:bytearray", "c": [10**11]},
    "a_bytes_subclass_made_of_a_size": {"$": f"{APP}:Blob", "a": [10**11]},
    "many_sizes": [{"$": "builtins:bytes", "c": [10**6]}] * 1000,
    "an_int_of_a_decimal": {"$": "builtins:int", "c": [{"$": "decimal:Decimal", "c": ["1e999999999"]}]},
    "a_new_int_of_a_decimal": {"$": f"{APP}:Number", "a": [{"$": "decimal:Decimal", "c": ["1e999999999"]}]},
    "a_decimal_of_an_int": {"$": "decimal:Decimal", "c": [{"$": "int", "b": b"\x01" * 10**6}]},
    "a_list_that_doubles_by_slices": {
        "$": "builtins:list",
        "i": 1,
        "l": [1, 2],
        "d": [[{"$": "builtins:slice", "c": [0, 0, None]}, {"$": "ref", "i": 1}]] * 60,
    },
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_few_bytes_cannot_fill_memory(name: str) -> None:
    bomb = BOMBS[name]
    raw = bomb if isinstance(bomb, bytes) else raw_with(bomb)
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointDecodeError):
            CODEC.decode(raw)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: b"\x91" + inner,
        lambda inner: b"\x81\xa1a" + inner,
        lambda inner: b"\x82\xa1$\xa5tuple\xa1l\x91" + inner,
        lambda inner: b"\x82\xa1$\xa4dict\xa1d\x91\x92\x01" + inner,
        lambda inner: b"\x82\xa1$\xbctests.checkpoint_types:Point\xa1s\x81\xa1x" + inner,
        lambda inner: b"\x82\xa1$\xbbtests.checkpoint_types:Pair\xa1a\x91" + inner,
    ],
    ids=["lists", "maps", "tuples", "dicts", "states", "arguments"],
)
@pytest.mark.parametrize("levels", [201, 1_000, 20_000])
def test_deep_nesting_is_refused(nest: Callable[[bytes], bytes], levels: int) -> None:
    once = nest(b"")
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw_with("HERE").replace(b"\xa4HERE", once * levels + b"\x01"))


# Fuzzing


_SEEDS = [CODEC.encode(checkpoint(make())) for make in VALUES.values()]
_FUZZ = settings(deadline=5_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _decode_or_refuse(raw: bytes) -> None:
    try:
        again = CODEC.decode(raw)
    except OURS:
        return
    assert type(again) is WorkflowCheckpoint


@settings(_FUZZ, max_examples=500)
@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    _decode_or_refuse(raw)


@settings(_FUZZ, max_examples=500)
@given(st.binary(max_size=60))
def test_any_value_inside_a_checkpoint_decodes_or_is_refused(raw: bytes) -> None:
    _decode_or_refuse(raw_with("HERE").replace(b"\xa4HERE", raw))


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from(_SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(raw) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "move"])):
            case "flip":
                raw[at : at + 1] = bytes([(raw[at] if raw else 0) ^ 1 << draw(st.integers(0, 7))])
            case "set":
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del raw[at : at + draw(st.integers(1, 20))]
            case "insert":
                raw[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "move":
                start = draw(st.integers(0, max(len(raw) - 1, 0)))
                raw[at:at] = raw[start : start + draw(st.integers(1, 60))]
    return bytes(raw)


@settings(_FUZZ, max_examples=2_000)
@given(_damaged())
def test_damaged_bytes_decode_or_are_refused(raw: bytes) -> None:
    _decode_or_refuse(raw)


_KEYS = st.sampled_from(
    [
        *app.ALLOWED,
        "builtins:object",
        "builtins:int",
        "builtins:str",
        "builtins:bytes",
        "builtins:list",
        "builtins:dict",
        "builtins:type",
        "builtins:range",
        "builtins:slice",
        "collections:deque",
        "collections:Counter",
        "collections:OrderedDict",
        "collections:defaultdict",
        "datetime:datetime",
        "datetime:timezone",
        "decimal:Decimal",
        "uuid:UUID",
        "agent_framework._types:Message",
        "agent_framework._types:Content",
        "agent_framework._workflows._runner_context:WorkflowMessage",
        "agent_framework._workflows._events:WorkflowEvent",
        "agent_framework._sessions:AgentSession",
        *FORBIDDEN[:10],
    ]
)
_NATIVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 3),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["x", "y", "value", "__class__", "__dict__", "_value_", "RED", "1e99999", "EUR", "type"]),
    st.binary(max_size=12),
)


def _forms(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    maps = st.dictionaries(st.one_of(st.text(max_size=3), st.sampled_from(["x", "type", "_value_"])), inner, max_size=3)
    fields: dict[str, st.SearchStrategy[Any]] = {
        "a": lists,
        "c": lists,
        "k": maps,
        "b": st.one_of(_KEYS, st.binary(max_size=9), inner),
        "s": st.one_of(maps, inner),
        "l": st.one_of(lists, inner),
        "d": st.one_of(st.lists(st.lists(inner, min_size=2, max_size=2), max_size=3), inner),
        "i": st.one_of(st.integers(0, 2), inner),
        "t": st.one_of(_KEYS, inner),
        "n": st.one_of(_KEYS, st.sampled_from(["RED", "LOCAL", "x"]), inner),
    }
    kinds = st.sampled_from(
        ["int", "str", "bytearray", "tuple", "list", "dict", "set", "frozenset", "type", "enum", "ref", "?"]
    )
    forms = st.fixed_dictionaries({"$": st.one_of(_KEYS, _KEYS, kinds)}, optional=fields)
    likely = st.one_of(
        st.fixed_dictionaries({"$": _KEYS, "s": maps}),
        st.fixed_dictionaries({"$": _KEYS, "c": lists}, optional={"i": st.integers(0, 2)}),
        st.fixed_dictionaries({"$": st.just("ref"), "i": st.integers(0, 2)}),
    )
    return st.one_of(forms, likely, lists, maps)


@settings(_FUZZ, max_examples=2_000)
@given(st.recursive(_NATIVES, _forms, max_leaves=12))
@pytest.mark.filterwarnings("ignore")
def test_forms_of_every_shape_decode_or_are_refused(node: Any) -> None:
    _decode_or_refuse(raw_with(node))
