"""Reading a checkpoint's bytes as a tree: everything the codec writes can be shown, and nothing is made alive."""

from __future__ import annotations

import enum
import sys
import uuid
from array import array
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint
from hypothesis import given
from hypothesis import strategies as st

from eventckpt import CheckpointCodec, CheckpointDecodeError
from eventckpt.audit.diff import differences
from eventckpt.codec.tree import Form, Opaque, Ref, Tree, Value, children, parts_at, read_tree, read_trees, types_in


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Box:
    content: Any = None
    others: list[Any] = field(default_factory=list)


NAMES = [f"{__name__}:Box", f"{__name__}:Colour"]
codec = CheckpointCodec(NAMES)


def raw_of(value: object) -> bytes:
    return codec.encode(WorkflowCheckpoint("w", "g", state={"value": value}))


def tree_of(value: object, *, admit: bool = True) -> Tree:
    state = read_tree(raw_of(value), lambda key: admit or key not in NAMES)["state"]
    assert isinstance(state, dict)
    return state["value"]


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 2**64, 1.5, "text", b"bytes", [1, [2]], {"a": {"b": 1}}, "\ud800"]
)
def test_plain_values_are_themselves(value: object) -> None:
    assert tree_of(value) == value


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        ((1, "a"), Form("tuple", (("[0]", 1), ("[1]", "a")))),
        ({1: "a", "b": 2}, Form("dict", (("[1]", "a"), ("['b']", 2)))),
        ({"$": 1}, {"$": 1}),
        ({3, 1}, Form("set", (("{1}", 1), ("{3}", 3)))),
        (frozenset({"a"}), Form("frozenset", (("{'a'}", "a"),))),
        (bytearray(b"ab"), Form("bytearray", ((".bytes", b"ab"),))),
        (Decimal("4.50"), Value("decimal:Decimal", "4.50")),
        (uuid.UUID(int=5), Value("uuid:UUID", "00000000-0000-0000-0000-000000000005")),
        (datetime(2026, 5, 31, 14, 0, tzinfo=UTC), Value("datetime:datetime", "2026-05-31 14:00:00+00:00")),
        (int, Value("type", "builtins:int")),
        (Box(1, [2]), Form(NAMES[0], ((".content", 1), (".others", [2])))),
        (Counter("aab"), Form("collections:Counter", (("(0)", {"a": 2, "b": 1}),))),
        (1 << 9000, Value("int", hex(1 << 9000))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_forms_or_text(value: object, tree: Tree) -> None:
    assert tree_of(value) == tree


@pytest.mark.parametrize("value", [OrderedDict(a=1), deque([1, 2], maxlen=3), Colour.RED, range(3), 1j])
def test_whatever_the_codec_stores_can_be_shown(value: object) -> None:
    tree = tree_of(value)
    assert isinstance(tree, (Form, Value))
    assert tree.name == f"{type(value).__module__}:{type(value).__qualname__}"


def test_a_type_that_is_not_admitted_is_named_and_measured() -> None:
    tree = tree_of(Box("secret"), admit=False)
    assert isinstance(tree, Opaque)
    assert (tree.name, tree.size) == (
        NAMES[0],
        len(msgspec.msgpack.encode({"$": NAMES[0], "s": {"content": "secret", "others": []}})),
    )
    assert tree_of(Colour.RED, admit=False) != Value(NAMES[1], "RED")


def test_nothing_is_imported_to_read_a_tree() -> None:
    raw = raw_of(Box(1)).replace(
        NAMES[0].encode(), ("no_such_module_" + "x" * 99)[: len(NAMES[0]) - 4].encode() + b":Box"
    )
    before = set(sys.modules)
    tree = read_tree(raw, lambda key: True)["state"]
    assert isinstance(tree, dict)
    assert isinstance(tree["value"], Form)
    assert set(sys.modules) == before


def test_what_is_shared_or_cyclic_refers_to_the_path_where_it_stands() -> None:
    shared = ["s"]
    box = Box(shared)
    box.others = [box, shared]
    tree = tree_of(box)
    assert tree == Form(NAMES[0], ((".content", ["s"]), (".others", [Ref("state.value"), Ref("state.value.content")])))


def test_a_reference_into_what_is_not_shown_leads_to_where_that_stands() -> None:
    shared = ["s"]
    assert isinstance(tree_of([Box(shared), Box(shared)], admit=False), list)
    state = {"hidden": Box(shared), "seen": (shared,)}
    tree = read_tree(codec.encode(WorkflowCheckpoint("w", "g", state=state)), lambda key: key not in NAMES)["state"]
    assert isinstance(tree, dict)
    assert tree["seen"] == Form("tuple", (("[0]", Ref("state.hidden.content")),))


def test_references_do_not_make_a_tree_larger_than_its_bytes() -> None:
    laughs: Any = ["lol"]
    for _ in range(60):
        laughs = Box(laughs, [laughs, laughs])
    count, rest = 0, [tree_of(laughs)]
    while rest:
        count += 1
        rest += [part for _, part in children(rest.pop()) or ()]
    assert count < 1000


@pytest.mark.parametrize(
    "node",
    [
        {"$": "ref", "i": 7},
        {"$": "tuple"},
        {"$": "dict", "d": [[1]]},
        {"$": "dict", "d": 5},
        {"$": "nothing-we-know"},
        {"$": 5},
        {"$": "a:b", "l": 5},
        {"$": "int", "b": "text"},
        {1: 2},
    ],
)
def test_malformed_forms_are_refused(node: object) -> None:
    with pytest.raises(CheckpointDecodeError):
        read_tree(msgspec.msgpack.encode({"state": node}), lambda key: True)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x93\x01", b"\xa1a", b"\x81\xa1a" * 100_000, b"\x91" * 100_000])
def test_bytes_that_are_no_checkpoint_are_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointDecodeError):
        read_tree(raw, lambda key: True)


def test_nesting_is_bounded() -> None:
    node: Any = 1
    for _ in range(300):
        node = {"$": "tuple", "l": [node]}
    with pytest.raises(CheckpointDecodeError, match="deeper"):
        read_tree(msgspec.msgpack.encode({"state": node}), lambda key: True)


def test_the_types_in_a_checkpoint_are_all_named() -> None:
    found = types_in(raw_of([Box(Decimal(1)), Colour.RED, {"x": (datetime(2026, 1, 1, tzinfo=UTC),)}, int]))
    assert found >= {*NAMES, "decimal:Decimal", "datetime:datetime", "builtins:int"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Box, inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_a_tree_differs_from_itself_nowhere(value: object) -> None:
    assert list(differences(tree_of(value), tree_of(value))) == []


@given(VALUES, VALUES)
def test_different_bytes_differ_somewhere_and_each_path_leads_there(one: object, other: object) -> None:
    before, after = tree_of(one), tree_of(other)
    found = list(differences(before, after))
    assert bool(found) == (repr(before) != repr(after) and raw_of(one) != raw_of(other)) or repr(before) == repr(after)
    for difference in found:
        if difference.kind != "removed" and difference.path:
            assert (
                repr(difference.after) in [repr(part) for part in parts_at(after, difference.path)]
                or "[" in difference.path
            )


@given(VALUES, VALUES, st.booleans())
def test_leaving_out_what_is_the_same_changes_no_difference(one: object, other: object, nested: bool) -> None:
    if nested:
        one, other = {"a": [one, other, one], "b": other}, {"a": [one, one], "b": other}
    raws = raw_of(one), raw_of(other)
    whole = differences(*(read_tree(raw, lambda key: True) for raw in raws))
    brief = differences(*read_trees(*raws, lambda key: True))
    assert repr(list(brief)) == repr(list(whole))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([1, 2, 3], [0, 1, 2, 3], [("added", "[0]")]),
        ([1, 2, 3], [1, 2, 3, 4, 5], [("added", "[3]"), ("added", "[4]")]),
        ([1, 2, 3], [1, 3], [("removed", "[1]")]),
        ([1, 2, 3], [1, 9, 3], [("changed", "[1]")]),
        ([], [], []),
        ({"a": 1}, {"b": 1}, [("removed", "a"), ("added", "b")]),
        ({"a b": 1}, {"a b": True}, [("changed", "['a b']")]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": 1}, {"a": [1]}, [("changed", "a")]),
        ({"a": {1, 2}}, {"a": {2, 3}}, [("removed", "a{1}"), ("added", "a{3}")]),
        ((1, 2), (1, 3), [("changed", "[1]")]),
    ],
)
def test_lists_are_compared_from_both_ends_and_the_rest_by_path(
    before: object, after: object, found: list[tuple[str, str]]
) -> None:
    differing = differences(tree_of(before), tree_of(after))
    assert [(difference.kind, difference.path) for difference in differing] == found


def shown(node: object) -> Tree:
    return read_tree(msgspec.msgpack.encode({"value": node}), lambda key: True)["value"]


MESSAGE = {"$": "type", "n": "agent_framework._types:Message"}


@pytest.mark.parametrize(
    ("node", "tree"),
    [
        ({"$": "zone", "n": "Europe/Berlin"}, Value("zone", "Europe/Berlin")),
        ({"$": "typing", "n": "Any"}, Value("typing", "Any")),
        ({"$": "ellipsis"}, Value("ellipsis", "...")),
        (
            {"$": "generic", "n": "builtins:list", "l": [MESSAGE]},
            Value("generic", "list[agent_framework._types:Message]"),
        ),
        (
            {"$": "generic", "n": "builtins:tuple", "l": [{"$": "type", "n": "builtins:int"}, {"$": "ellipsis"}]},
            Value("generic", "tuple[int, ...]"),
        ),
        (
            {"$": "union", "l": [{"$": "type", "n": "builtins:str"}, {"$": "builtins:type", "c": [None]}]},
            Value("union", "str | None"),
        ),
        ({"$": "generic", "n": "Literal", "l": ["a", 1, None]}, Value("generic", "Literal['a', 1, None]")),
        (
            {"$": "generic", "n": "a:b", "l": [{"$": "union", "l": [MESSAGE, {"$": "typing", "n": "Any"}]}]},
            Value("generic", "a:b[agent_framework._types:Message | Any]"),
        ),
        (
            {"$": "array", "n": "d", "f": 16, "b": b"\0" * 8},
            Form("array", ((".typecode", "d"), (".bytes", b"\0" * 8))),
        ),
        (
            {"$": "datetime:datetime", "c": [b"\x07\xea\x05\x1f\x0e\0\0\0\0\0", {"$": "zone", "n": "Europe/Berlin"}]},
            Value("datetime:datetime", "2026-05-31 14:00:00 Europe/Berlin"),
        ),
        ({"$": "generic", "n": "a:b", "l": [(), {"a": [1]}]}, None),
    ],
    ids=str,
)
def test_type_expressions_zones_and_arrays_are_shown(node: object, tree: Tree) -> None:
    assert shown(node) == tree if tree is not None else isinstance(shown(node), Form)


def test_an_int_wider_than_python_prints_is_shown_wherever_it_stands() -> None:
    [(_, start), (_, stop), _] = children(tree_of(range(10**5000))) or []
    assert (start, stop) == (0, Value("int", hex(10**5000)))
    assert tree_of(Decimal("1E+999999")) == Value("decimal:Decimal", "1E+999999")
    assert list(differences(tree_of([10**5000]), tree_of([10**5000]))) == []


def test_an_unknown_kind_is_told_from_damage() -> None:
    with pytest.raises(CheckpointDecodeError, match="written by a newer version, or is damaged"):
        shown({"$": "some-later-kind"})


def test_sets_of_equal_content_compare_equal_however_deep() -> None:
    one = frozenset({frozenset({(1, 2)}), "x" * 100})
    assert list(differences(tree_of(one), tree_of(frozenset({"x" * 100, frozenset({(1, 2)})})))) == []
    kinds = {difference.kind for difference in differences(tree_of(one), tree_of(frozenset({"x" * 100})))}
    assert kinds == {"removed"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (list[int], "list[int]"),
        (dict[str, list[Decimal]], "dict[str, list[decimal:Decimal]]"),
        (str | None, "str | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Any, "Any"),
        (..., "..."),
        (ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
        (datetime(2026, 5, 31, tzinfo=ZoneInfo("Europe/Berlin")), "2026-05-31 00:00:00 Europe/Berlin"),
        (datetime(2026, 5, 31, tzinfo=timezone(timedelta(hours=2))), "2026-05-31 00:00:00+02:00"),
        (datetime(2026, 5, 31), "2026-05-31 00:00:00"),
        (date(2026, 5, 31), "2026-05-31"),
        (time(14, 5), "14:05:00"),
        (timedelta(days=-1, seconds=5), "-1 day, 0:00:05"),
        (timezone.utc, "UTC"),  # noqa: UP017
        (1j, "1j"),
        (range(3), "range(0, 3)"),
        (slice(1, None), "slice(1, None, None)"),
        (type(None), "NoneType"),
    ],
    ids=repr,
)
def test_what_reads_best_as_text_is_text(value: object, text: str) -> None:
    tree = tree_of(value)
    assert isinstance(tree, Value)
    assert tree.text == text


def test_an_array_is_its_typecode_and_bytes() -> None:
    assert tree_of(array("b", [1, 2])) == Form("array", ((".typecode", "b"), (".bytes", b"\1\2")))
